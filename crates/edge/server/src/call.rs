//! One call: its row of the table, its metadata, who makes it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;

use crate::answers::Keep;
use crate::errors;
use crate::method::Method;
use crate::net::ender::Ender;
use crate::status::Status;

/// Who is at the other end of a connection.
#[derive(Debug, Default)]
pub struct Peer {
    /// The remote address as it is logged; empty on a unix socket.
    pub address: String,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The common name of the client's certificate, where `--client-cert-auth` makes it a
    /// user's name.
    pub common_name: Option<String>,
    /// What ends the connection.
    pub(crate) ender: Ender,
}

/// A call being served.
pub struct Call {
    /// Its row.
    pub method: &'static Method,
    /// Its metadata: the request's headers.
    pub metadata: HeaderMap,
    /// Who makes it.
    pub peer: Rc<Peer>,
    /// How long the client will wait, from when the call arrived.
    pub timeout: Option<Duration>,
    /// The room of its answer, until that has left.
    pub(crate) keep: Cell<Option<Keep>>,
}

impl Call {
    /// Whether the call wants an error rather than an answer without a leader
    /// (`hasleader: true`).
    pub fn requires_leader(&self) -> bool {
        self.metadata.get("hasleader").is_some_and(|value| value == "true")
    }

    /// The auth token: `token`, else `authorization`, without a leading `Bearer `. One that
    /// is no text is an empty one, which nobody has.
    pub fn token(&self) -> Option<&str> {
        let value = self.metadata.get("token").or_else(|| self.metadata.get("authorization"))?;
        let text = value.to_str().unwrap_or_default();
        Some(text.strip_prefix("Bearer ").unwrap_or(text))
    }

    /// The name in the certificate of the connection that the call came over. What came over
    /// the JSON gateway has none: the certificate may be that of a proxy (CVE-2018-16886).
    pub fn common_name(&self) -> Option<&str> {
        if self.metadata.contains_key("grpcgateway-accept") {
            return None;
        }
        self.peer.common_name.as_deref()
    }

    /// The client's API version (`client-api-version`), `unknown` when it says none.
    ///
    /// # Errors
    /// `etcdserver: invalid client api version` when it is not UTF-8.
    pub fn client_api_version(&self) -> Result<&str, Status> {
        let Some(value) = self.metadata.get("client-api-version") else { return Ok("unknown") };
        std::str::from_utf8(value.as_bytes())
            .map_err(|_| errors::INVALID_CLIENT_API_VERSION.status())
    }
}
