//! TLS towards other members: what this one shows, and whom it trusts.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};

use super::revoked::Revoked;
use super::{LetIn, Reloaded, TlsError, TlsFiles, load};

/// What a member dials with. Files are read again when they change.
pub struct ClientTls {
    config: Reloaded<ClientConfig>,
    revoked: Option<Arc<Revoked>>,
    server_name: Option<String>,
}

impl ClientTls {
    /// Reads the files. Shown is the certificate of `files`; trusted are servers that
    /// its `trusted_ca_file` signed and its `allowed` lets in, or, without a
    /// `trusted_ca_file`, those that the system trusts; none that its `crl_file` revokes.
    ///
    /// # Errors
    /// Which flag's file is wrong, and how.
    pub fn load(files: TlsFiles) -> Result<ClientTls, TlsError> {
        ClientTls::of(files, false)
    }

    /// The same for `--peer-auto-tls`: every server is trusted.
    ///
    /// # Errors
    /// As for [`ClientTls::load`].
    pub fn load_trusting_anyone(files: TlsFiles) -> Result<ClientTls, TlsError> {
        ClientTls::of(files, true)
    }

    fn of(files: TlsFiles, anyone: bool) -> Result<ClientTls, TlsError> {
        let revoked = files.revoked()?;
        let known = revoked.clone();
        let make = move |files: &TlsFiles| load::client_config(files, anyone, known.clone());
        let config = Reloaded::load(files, Box::new(make))?;
        Ok(ClientTls { config, revoked, server_name: None })
    }

    /// With `name` in every server's certificate, instead of the host of its URL
    /// (`--discovery-srv` wants its domain).
    #[must_use]
    pub fn for_server(self, name: impl Into<String>) -> ClientTls {
        ClientTls { server_name: Some(name.into()), ..self }
    }

    /// The configuration for the next handshake.
    pub fn current(&self) -> Arc<ClientConfig> {
        self.config.current()
    }

    /// Reads again what has changed, also when nobody is dialled. To be called every second
    /// or so.
    pub fn look(&self) {
        self.config.current();
        if let Some(revoked) = &self.revoked {
            revoked.look();
        }
    }

    /// Takes note of a connection whose handshake is done and in which the server has shown
    /// these certificates; it is to be run by [`until_revoked`](super::until_revoked).
    ///
    /// # Errors
    /// One of them has been revoked since.
    pub fn let_in(&self, shown: Option<&[CertificateDer<'static>]>) -> io::Result<Option<LetIn>> {
        let Some((revoked, shown)) = self.revoked.as_ref().zip(shown) else { return Ok(None) };
        revoked.let_in(shown).map(Some).map_err(io::Error::other)
    }

    /// The name that the certificate of `host` must be for.
    ///
    /// # Errors
    /// No certificate can be for such a name.
    pub fn server_name(&self, host: &str) -> io::Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        ServerName::try_from(name).map_err(io::Error::other)
    }
}
