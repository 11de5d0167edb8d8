//! Who may ask over HTTP: the host allow list and CORS.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::{Asked, error};
use crate::grpc::Body;

/// `--host-whitelist` and `--cors`.
#[derive(Clone, Debug)]
pub struct Access {
    /// Hosts that a plain request may name; none, or `*`, is all.
    pub hosts: Vec<String>,
    /// Origins that browsers may come from; `*` is all.
    pub origins: Vec<String>,
}

impl Default for Access {
    /// etcd's: everyone.
    fn default() -> Access {
        Access { hosts: vec!["*".into()], origins: vec!["*".into()] }
    }
}

impl Access {
    /// Refuses a plain request under a host name that is not ours, against DNS
    /// rebinding (CVE-2018-5702). TLS has checked the name already.
    pub(super) fn refuse(&self, asked: &Asked) -> Option<Response<Body>> {
        if asked.peer.tls || is_open(&self.hosts) {
            return None;
        }
        let host = host_of(asked);
        if self.hosts.iter().any(|allowed| allowed == host) {
            return None;
        }
        tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
        let text = format!(
            "\nThe Host header of this request names {host:?}, which this member does not answer to.\n\n\
             Either use TLS, which checks the name by itself,\n\
             or list the name: etcd --host-whitelist {host:?}\n\n\
             Without this check a web page could reach the member through a name of its own\n\
             (DNS rebinding, CVE-2018-5702).\n"
        );
        Some(error(StatusCode::MISDIRECTED_REQUEST, &text))
    }

    /// Adds the CORS headers.
    pub(super) fn allow_origin(&self, asked: &Asked, headers: &mut HeaderMap) {
        let origin = asked.request.headers().get(ORIGIN);
        let allowed = if self.origins.iter().any(|origin| origin == "*") {
            HeaderValue::from_static("*")
        } else {
            match origin {
                Some(origin) if self.origins.iter().any(|known| origin == known) => origin.clone(),
                _ => return,
            }
        };
        for (name, value) in [
            ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE"),
            ("access-control-allow-headers", "accept, content-type, authorization"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.insert(HeaderName::from_static("access-control-allow-origin"), allowed);
    }
}

fn is_open(hosts: &[String]) -> bool {
    hosts.is_empty() || hosts.iter().any(|host| host == "*")
}

/// The host that the request names, without its port.
fn host_of(asked: &Asked) -> &str {
    let uri = asked.request.uri().authority().map(|authority| authority.as_str());
    let header = asked.request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = uri.or(header).unwrap_or_default();
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}
