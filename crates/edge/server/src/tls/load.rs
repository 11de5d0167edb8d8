//! From PEM files to rustls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{TlsFiles, TlsVersion};

/// Why a listener cannot encrypt. Names the flag and the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of the right kind.
    #[error("--{flag} {}: {problem}", path.display())]
    File {
        /// The flag that named it.
        flag: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate and the key do not belong together, or rustls refuses them.
    #[error("--{cert_flag} {} with --{key_flag} {}: {problem}", cert.display(), key.display())]
    Pair {
        /// The certificate's flag.
        cert_flag: String,
        /// The certificate.
        cert: PathBuf,
        /// The key's flag.
        key_flag: String,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Client certificates are demanded and nobody may sign them.
    #[error("--{0}client-cert-auth needs --{0}trusted-ca-file")]
    NoAuthority(&'static str),
    /// The lowest version is above the highest.
    #[error("--tls-min-version is above --tls-max-version")]
    NoVersion,
}

/// Reads everything and builds the configuration of a listener.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let flag = |name: &str| format!("{}{name}", files.flag_prefix);
    let certs = certificates(&files.cert_file, &flag("cert-file"))?;
    let key = PrivateKeyDer::from_pem_file(&files.key_file)
        .map_err(|error| file_error(&files.key_file, &flag("key-file"), &error))?;
    let pair_error = |error: rustls::Error| TlsError::Pair {
        cert_flag: flag("cert-file"),
        cert: files.cert_file.clone(),
        key_flag: flag("key-file"),
        key: files.key_file.clone(),
        problem: error.to_string(),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(files)?)
        .map_err(pair_error)?;
    let builder = match &files.trusted_ca_file {
        None if files.client_cert_auth => return Err(TlsError::NoAuthority(files.flag_prefix)),
        None => builder.with_no_client_auth(),
        Some(path) => {
            let flag = flag("trusted-ca-file");
            let wrong = |problem: String| TlsError::File {
                flag: flag.clone(),
                path: path.clone(),
                problem,
            };
            let mut roots = RootCertStore::empty();
            for cert in certificates(path, &flag)? {
                roots.add(cert).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certs, key).map_err(pair_error)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn versions(files: &TlsFiles) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let wanted = |version: TlsVersion| {
        version >= files.min_version && files.max_version.is_none_or(|max| version <= max)
    };
    let mut versions = Vec::new();
    if wanted(TlsVersion::Tls13) {
        versions.push(&version::TLS13);
    }
    if wanted(TlsVersion::Tls12) {
        versions.push(&version::TLS12);
    }
    if versions.is_empty() { Err(TlsError::NoVersion) } else { Ok(versions) }
}

fn certificates(path: &Path, flag: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error: &rustls_pki_types::pem::Error| file_error(path, flag, error);
    let certs: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))?.collect();
    let certs = certs.map_err(|error| wrong(&error))?;
    if certs.is_empty() {
        return Err(wrong(&rustls_pki_types::pem::Error::NoItemsFound));
    }
    Ok(certs)
}

fn file_error(path: &Path, flag: &str, error: &rustls_pki_types::pem::Error) -> TlsError {
    use rustls_pki_types::pem::Error;
    let problem = match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "no PEM block of the right kind in it".to_owned(),
        other => other.to_string(),
    };
    TlsError::File { flag: flag.to_owned(), path: path.to_owned(), problem }
}
