//! TLS towards other members: what this one shows, and whom it trusts.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::{Reloaded, TlsError, TlsFiles, load};

/// What a member dials with. Files are read again when they change.
pub struct ClientTls {
    config: Reloaded<ClientConfig>,
    server_name: Option<String>,
}

impl ClientTls {
    /// Reads the files. Shown is the certificate of `files`; trusted are servers that
    /// its `trusted_ca_file` signed and its `allowed` lets in, or, without a
    /// `trusted_ca_file`, those that the system trusts.
    ///
    /// # Errors
    /// Which flag's file is wrong, and how.
    pub fn load(files: TlsFiles) -> Result<ClientTls, TlsError> {
        let config = Reloaded::load(files, |files| load::client_config(files, false))?;
        Ok(ClientTls { config, server_name: None })
    }

    /// The same for `--peer-auto-tls`: every server is trusted.
    ///
    /// # Errors
    /// As for [`ClientTls::load`].
    pub fn load_trusting_anyone(files: TlsFiles) -> Result<ClientTls, TlsError> {
        let config = Reloaded::load(files, |files| load::client_config(files, true))?;
        Ok(ClientTls { config, server_name: None })
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

    /// The name that the certificate of `host` must be for.
    ///
    /// # Errors
    /// No certificate can be for such a name.
    pub fn server_name(&self, host: &str) -> io::Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        ServerName::try_from(name).map_err(io::Error::other)
    }
}
