//! TLS for calls to other members and to discovery services.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_config::{TlsFiles, TlsVersion};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::Error;

/// Where the authorities that a system trusts are kept; the first that exists counts (as in Go).
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file of the authorities that this machine trusts.
pub(crate) fn system_bundle() -> Option<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let usual = || SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
    named.map(PathBuf::from).or_else(usual)
}

/// How this member calls others: with its client certificate, or the one that it shows to callers;
/// believing the authorities of `--peer-trusted-ca-file`, or the machine's.
///
/// # Errors
/// When a file cannot be used.
pub(crate) fn towards_peers(
    files: &TlsFiles,
    min: TlsVersion,
    max: Option<TlsVersion>,
) -> Result<Arc<ClientConfig>, Error> {
    let roots = match &files.trusted_ca {
        Some(path) => strict(path)?,
        None => system(),
    };
    let versions: Vec<&'static SupportedProtocolVersion> =
        [(TlsVersion::V12, &rustls::version::TLS12), (TlsVersion::V13, &rustls::version::TLS13)]
            .into_iter()
            .filter(|(version, _)| *version >= min && max.is_none_or(|max| *version <= max))
            .map(|(_, supported)| supported)
            .collect();
    let builder = ClientConfig::builder_with_protocol_versions(&versions);
    let builder = if files.auto {
        // Nobody vouches for certificates that members have made themselves.
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone))
    } else {
        builder.with_root_certificates(roots)
    };
    let own = files.client_cert.as_ref().zip(files.client_key.as_ref());
    let config = match own.or_else(|| files.cert.as_ref().zip(files.key.as_ref())) {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
            let chain: Vec<CertificateDer<'static>> = chain.map_err(|e| wrong(cert, &e))?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
            builder.with_client_auth_cert(chain, private).map_err(|e| wrong(cert, &e))?
        }
    };
    Ok(Arc::new(config))
}

/// Takes any certificate, as etcd between members with `--peer-auto-tls`. Who shows it must
/// have its key all the same.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// For services of others: the machine's authorities, no certificate of ours.
pub(crate) fn towards_strangers() -> Arc<ClientConfig> {
    Arc::new(ClientConfig::builder().with_root_certificates(system()).with_no_client_auth())
}

/// All authorities of a file that was named.
fn strict(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(path, &e))? {
        roots.add(certificate.map_err(|e| wrong(path, &e))?).map_err(|e| wrong(path, &e))?;
    }
    Ok(roots)
}

/// The authorities of the machine that can be read: a bundle may hold odd ones.
fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = system_bundle().and_then(|path| CertificateDer::pem_file_iter(path).ok());
    for certificate in found.into_iter().flatten().flatten() {
        let _ = roots.add(certificate);
    }
    roots
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Tls(format!("{}: {why}", path.display()))
}
