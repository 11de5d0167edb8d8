//! TLS: certificates from files, read again when they change.

mod allowed;
mod dial;
mod load;
mod reason;
mod revoked;
mod san;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;

use revoked::Revoked;

pub use allowed::Allowed;
pub use dial::ClientTls;
pub use load::TlsError;
pub(crate) use reason::reason;

/// A TLS version, as `--tls-min-version` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `TLS1.2`.
    Tls12,
    /// `TLS1.3`.
    Tls13,
}

/// What a listener encrypts with.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Put before the flag names in errors: `""`, or `"peer-"`.
    pub flag_prefix: &'static str,
    /// `--cert-file`: PEM, the leaf first.
    pub cert_file: PathBuf,
    /// `--key-file`: PEM.
    pub key_file: PathBuf,
    /// `--trusted-ca-file`: PEM. Its presence alone makes client certificates
    /// required, as in etcd.
    pub trusted_ca_file: Option<PathBuf>,
    /// `--client-cert-auth`, or a trusted CA file, which asks for certificates too.
    pub client_cert_auth: bool,
    /// `--client-cert-auth` itself: the common name of who shows no token is a user's name.
    pub common_name_is_user: bool,
    /// `--client-crl-file`: DER. Whose serial number is in it is not let in.
    pub crl_file: Option<PathBuf>,
    /// `--peer-cert-allowed-cn` and `-hostname`: whom of those that the authority signed.
    pub allowed: Allowed,
    /// Whether a client must be where its certificate says: peers' listeners, unless
    /// `--peer-skip-client-san-verification`.
    pub check_client_place: bool,
    /// `--tls-min-version`.
    pub min_version: TlsVersion,
    /// `--tls-max-version`.
    pub max_version: Option<TlsVersion>,
}

impl TlsFiles {
    /// A certificate and its key, TLS 1.2 and up, any client.
    pub fn new(cert_file: impl Into<PathBuf>, key_file: impl Into<PathBuf>) -> TlsFiles {
        TlsFiles {
            flag_prefix: "",
            cert_file: cert_file.into(),
            key_file: key_file.into(),
            trusted_ca_file: None,
            client_cert_auth: false,
            common_name_is_user: false,
            crl_file: None,
            allowed: Allowed::default(),
            check_client_place: false,
            min_version: TlsVersion::Tls12,
            max_version: None,
        }
    }

    /// The flag of clients is not named like their others.
    fn crl_prefix(&self) -> &'static str {
        if self.flag_prefix.is_empty() { "client-" } else { self.flag_prefix }
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let required = [self.cert_file.as_path(), self.key_file.as_path()];
        required.into_iter().chain(self.trusted_ca_file.as_deref())
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.paths().map(Stamp::of).collect()
    }
}

/// What tells that a file has changed, a replaced symbolic link included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    seconds: i64,
    nanos: i64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let data = std::fs::metadata(path).ok()?;
        let (inode, bytes) = (data.ino(), data.size());
        Some(Stamp { inode, bytes, seconds: data.mtime(), nanos: data.mtime_nsec() })
    }
}

/// The TLS side of a listener.
pub(crate) struct Tls(Reloaded<ServerConfig>, Option<Revoked>);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which flag's file is wrong, and how.
    pub(crate) fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let revoked = files.crl_file.as_deref().map(|path| {
            let flag = format!("{}crl-file", files.crl_prefix());
            let path = path.to_owned();
            Revoked::load(&path).map_err(|problem| TlsError::File { flag, path, problem })
        });
        let revoked = revoked.transpose()?;
        Ok(Tls(Reloaded::load(files, load::server_config)?, revoked))
    }

    /// The configuration for the next handshake.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }

    /// The user that a client's verified certificate names; an empty one when it names none.
    pub(crate) fn user_of(&self, shown: Option<&[CertificateDer<'static>]>) -> Option<String> {
        let cert = shown?.first().filter(|_| self.0.files.common_name_is_user)?;
        Some(allowed::common_name(cert).unwrap_or_default())
    }

    /// Checks of a client whose handshake is done that its certificates are not revoked,
    /// and that it is where the first says, if that is asked for. `remote` is its address; a unix socket has
    /// none.
    ///
    /// # Errors
    /// Go's words.
    pub(crate) async fn check_place(
        &self,
        shown: Option<&[CertificateDer<'static>]>,
        remote: &str,
    ) -> Result<(), String> {
        let Some(cert) = shown.and_then(<[_]>::first) else { return Ok(()) };
        if let (Some(revoked), Some(shown)) = (&self.1, shown) {
            revoked.check(shown)?;
        }
        match remote.parse::<SocketAddr>() {
            Ok(remote) if self.0.files.check_client_place => san::check(cert, remote.ip()).await,
            _ => Ok(()),
        }
    }
}

/// What is made of files that may change.
struct Reloaded<C> {
    files: TlsFiles,
    make: fn(&TlsFiles) -> Result<Arc<C>, TlsError>,
    config: ArcSwap<C>,
    /// The files as they were when they were last read, well or badly.
    read: Mutex<Vec<Option<Stamp>>>,
}

impl<C> Reloaded<C> {
    fn load(
        files: TlsFiles,
        make: fn(&TlsFiles) -> Result<Arc<C>, TlsError>,
    ) -> Result<Reloaded<C>, TlsError> {
        let stamps = files.stamps();
        let config = make(&files)?;
        Ok(Reloaded { files, make, config: ArcSwap::new(config), read: Mutex::new(stamps) })
    }

    /// Reads the files again when they have changed, and keeps the old configuration
    /// when they cannot be used.
    fn current(&self) -> Arc<C> {
        let stamps = self.files.stamps();
        let mut read = self.read.lock();
        if *read != stamps {
            *read = stamps;
            match (self.make)(&self.files) {
                Ok(config) => {
                    tracing::info!(cert = %self.files.cert_file.display(), "certificates read again");
                    self.config.store(config);
                }
                Err(error) => {
                    tracing::warn!(error = %error, "kept the old certificates");
                }
            }
        }
        self.config.load_full()
    }
}
