//! From PEM files to rustls.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    version,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::allowed::{AllowedClients, AllowedServers};
use super::expiry::{Term, What};
use super::revoked::Revoked;
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
    /// There is no such cipher suite here.
    #[error("--cipher-suites: {0} is not among the suites that are spoken")]
    NoCipherSuite(String),
}

/// The suites of TLS 1.2 that there are, by IANA's names.
fn suites() -> impl Iterator<Item = (&'static str, SupportedCipherSuite)> {
    let all = aws_lc_rs::ALL_CIPHER_SUITES.iter();
    let old = all.filter(|suite| matches!(suite, SupportedCipherSuite::Tls12(_)));
    old.filter_map(|suite| suite.suite().as_str().map(|name| (name, *suite)))
}

/// Cryptography, with the cipher suites that are asked for.
fn provider(files: &TlsFiles) -> Result<Arc<CryptoProvider>, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    let Some(wanted) = &files.cipher_suites else { return Ok(Arc::new(provider)) };
    provider.cipher_suites.retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
    for name in wanted {
        let found = suites().find(|(known, _)| known == name);
        let (_, suite) = found.ok_or_else(|| TlsError::NoCipherSuite(name.clone()))?;
        provider.cipher_suites.push(suite);
    }
    Ok(Arc::new(provider))
}

/// Says so when others may read the key.
pub(super) fn warn_of_open_key(files: &TlsFiles) {
    // One that cannot be looked at cannot be read either, which is said elsewhere.
    let Ok(found) = std::fs::metadata(&files.key_file) else { return };
    if found.mode() & 0o077 != 0 {
        tracing::warn!(
            path = %files.key_file.display(),
            mode = %format!("{:o}", found.mode() & 0o777),
            "private key may be read by others than its owner"
        );
    }
}

/// Tells when what was read ends.
fn tell(files: &TlsFiles, certs: &[CertificateDer<'_>], trusted: &[CertificateDer<'_>]) {
    let (side, expiry) = (files.side(), &files.expiry);
    let term = Term::of(certs, What::Certificate);
    expiry.tell(side, What::Certificate, &files.cert_file, term);
    if let Some(path) = &files.trusted_ca_file {
        expiry.tell(side, What::Authority, path, Term::of(trusted, What::Authority));
    }
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
    let provider = provider(files)?;
    let shown = certs.clone();
    let mut trusted = Vec::new();
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
            trusted = certificates(path, &flag)?;
            let roots = authorities(&trusted, path, &flag)?;
            let inner = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            let (allowed, servers_only) = (files.allowed.clone(), files.servers_only);
            builder.with_client_cert_verifier(if allowed.is_everyone() && !servers_only {
                inner
            } else {
                Arc::new(AllowedClients { allowed, servers_only, inner })
            })
        }
    };
    let mut config = builder.with_single_cert(certs, key).map_err(pair_error)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Every connection shows its certificate: what was revoked or has ended since another
    // one does not get in by that other's session. Go's clients keep none.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    tell(files, &shown, &trusted);
    Ok(Arc::new(config))
}

/// Reads everything and builds the configuration for connections to other members;
/// with `anyone`, every certificate of theirs will do.
pub(super) fn client_config(
    files: &TlsFiles,
    anyone: bool,
    revoked: Option<Arc<Revoked>>,
) -> Result<Arc<ClientConfig>, TlsError> {
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
    let provider = provider(files)?;
    let shown = certs.clone();
    let mut trusted = Vec::new();
    let (path, roots) = match &files.trusted_ca_file {
        Some(path) => {
            let flag = flag("trusted-ca-file");
            trusted = certificates(path, &flag)?;
            (path.as_path(), authorities(&trusted, path, &flag)?)
        }
        // Nobody to verify against, and nothing to verify.
        None if anyone => {
            let path = files.cert_file.as_path();
            (path, authorities(&certs, path, &flag("cert-file"))?)
        }
        None => system_authorities(&flag("trusted-ca-file"))?,
    };
    let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .build()
        .map_err(|error| TlsError::File {
            flag: flag("trusted-ca-file"),
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
    let verifier = AllowedServers { allowed: files.allowed.clone(), anyone, revoked, inner };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(files)?)
        .map_err(pair_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(certs, key)
        .map_err(pair_error)?;
    config.resumption = Resumption::disabled();
    tell(files, &shown, &trusted);
    Ok(Arc::new(config))
}

/// The certificates of a file, as those that are trusted.
fn authorities(
    certs: &[CertificateDer<'static>],
    path: &Path,
    flag: &str,
) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in certs {
        roots.add(cert.clone()).map_err(|error| TlsError::File {
            flag: flag.to_owned(),
            path: path.to_owned(),
            problem: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// Where systems keep those that they trust (Go looks in the same places).
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What the system trusts. Certificates there that cannot be read are left out.
fn system_authorities(flag: &str) -> Result<(&'static Path, RootCertStore), TlsError> {
    let mut places = SYSTEM_AUTHORITIES.iter().map(Path::new);
    let path = places.find(|path| path.exists()).unwrap_or(Path::new(SYSTEM_AUTHORITIES[0]));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(path, flag)?);
    Ok((path, roots))
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
