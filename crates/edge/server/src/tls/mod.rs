//! TLS: certificates from files, read again when they change.

mod allowed;
mod dial;
mod expiry;
mod load;
mod looking;
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
pub use expiry::{Ends, Expiry, What};
pub use load::TlsError;
pub(crate) use looking::Looking;
pub(crate) use reason::reason;
pub use revoked::{LetIn, until_revoked};

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
    /// `--client-crl-file`: DER, or PEM. Whose serial number is in it is not let in, and not
    /// dialled.
    pub crl_file: Option<PathBuf>,
    /// `--peer-cert-allowed-cn` and `-hostname`, `--client-cert-allowed-hostname`: whom of
    /// those that the authority signed.
    pub allowed: Allowed,
    /// Whether who calls must have a certificate that a server could have, too, as members
    /// show the same in both directions.
    pub servers_only: bool,
    /// Whether a client must be where its certificate says: peers' listeners, unless
    /// `--peer-skip-client-san-verification`.
    pub check_client_place: bool,
    /// `--tls-min-version`.
    pub min_version: TlsVersion,
    /// `--tls-max-version`.
    pub max_version: Option<TlsVersion>,
    /// `--cipher-suites`: those of TLS 1.2, by IANA's names; `None` for all there are. Those
    /// of TLS 1.3 are not to choose, as in Go.
    pub cipher_suites: Option<Vec<String>>,
    /// Who is told when what is in the files ends.
    pub expiry: Arc<Expiry>,
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
            servers_only: false,
            check_client_place: false,
            min_version: TlsVersion::Tls12,
            max_version: None,
            cipher_suites: None,
            expiry: Arc::default(),
        }
    }

    /// The flag of clients is not named like their others.
    fn crl_prefix(&self) -> &'static str {
        if self.flag_prefix.is_empty() { "client-" } else { self.flag_prefix }
    }

    /// Whose files these are, for logs and metrics.
    fn side(&self) -> &'static str {
        if self.flag_prefix.is_empty() { "client" } else { "peer" }
    }

    /// Reads the list of revoked certificates, if there is one.
    fn revoked(&self) -> Result<Option<Arc<Revoked>>, TlsError> {
        let Some(path) = &self.crl_file else { return Ok(None) };
        let revoked = Revoked::load(self.side(), path, &self.expiry);
        revoked.map(Some).map_err(|problem| TlsError::File {
            flag: format!("{}crl-file", self.crl_prefix()),
            path: path.clone(),
            problem,
        })
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
pub(crate) struct Tls {
    config: Reloaded<ServerConfig>,
    revoked: Option<Arc<Revoked>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Which flag's file is wrong, and how.
    pub(crate) fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let revoked = files.revoked()?;
        load::warn_of_open_key(&files);
        Ok(Tls { config: Reloaded::load(files, Box::new(load::server_config))?, revoked })
    }

    /// The configuration for the next handshake.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.config.current()
    }

    /// Reads again what has changed, also when nobody shakes hands.
    pub(crate) fn look(&self) {
        self.config.current();
        if let Some(revoked) = &self.revoked {
            revoked.look();
        }
        self.config.files.expiry.warn();
    }

    /// The user that a client's verified certificate names; an empty one when it names none.
    pub(crate) fn user_of(&self, shown: Option<&[CertificateDer<'static>]>) -> Option<String> {
        let cert = shown?.first().filter(|_| self.config.files.common_name_is_user)?;
        Some(allowed::common_name(cert).unwrap_or_default())
    }

    /// Lets in a client whose handshake is done: none of its certificates is revoked. Its
    /// connection is to be run by [`until_revoked`].
    ///
    /// # Errors
    /// Go's words.
    pub(crate) fn let_in(
        &self,
        shown: Option<&[CertificateDer<'static>]>,
    ) -> Result<Option<LetIn>, String> {
        let Some((revoked, shown)) = self.revoked.as_ref().zip(shown) else { return Ok(None) };
        revoked.let_in(shown).map(Some)
    }

    /// Checks of a client whose handshake is done that it is where its certificate says,
    /// if that is asked for. `remote` is its address; a unix socket has none.
    ///
    /// # Errors
    /// Go's words.
    pub(crate) async fn check_place(
        &self,
        shown: Option<&[CertificateDer<'static>]>,
        remote: &str,
    ) -> Result<(), String> {
        let Some(cert) = shown.and_then(<[_]>::first) else { return Ok(()) };
        match remote.parse::<SocketAddr>() {
            Ok(remote) if self.config.files.check_client_place => {
                san::check(cert, remote.ip()).await
            }
            _ => Ok(()),
        }
    }
}

/// How a configuration is made of files.
type Make<C> = Box<dyn Fn(&TlsFiles) -> Result<Arc<C>, TlsError> + Send + Sync>;

/// What is made of files that may change.
struct Reloaded<C> {
    files: TlsFiles,
    make: Make<C>,
    config: ArcSwap<C>,
    /// The files as they were when they were last read, well or badly.
    read: Mutex<Vec<Option<Stamp>>>,
}

impl<C> Reloaded<C> {
    fn load(files: TlsFiles, make: Make<C>) -> Result<Reloaded<C>, TlsError> {
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
                    self.files.expiry.failed(self.files.side());
                    tracing::warn!(error = %error, "kept the old certificates");
                }
            }
        }
        self.config.load_full()
    }
}
