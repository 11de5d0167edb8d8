//! The HTTP endpoints beside gRPC, by listener.

mod access;
mod health;
mod peer;
mod vars;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use mainstay_types::SPOKEN_VERSION;

use crate::call::Peer;
use crate::gateway::{self, Gateway, Takeover};
use crate::grpc::{Body, Frame};
use crate::member::Member;
use crate::metrics::Registry;
use crate::net::listener::Face;
use crate::services::Services;

pub use access::Access;
pub(crate) use health::HealthCells;

/// What the endpoints answer from; one per shard, cheap to clone.
pub(crate) struct Http<M> {
    pub(crate) member: M,
    pub(crate) access: Arc<Access>,
    pub(crate) registry: Arc<Registry>,
    /// Unless it is turned off (`--enable-grpc-gateway`).
    pub(crate) gateway: Option<Gateway<Services<M>>>,
}

/// A request. Only endpoints for other members read its body.
pub(crate) struct Asked {
    pub(crate) face: Face,
    /// Who asks.
    pub(crate) peer: Rc<Peer>,
    pub(crate) request: Request<()>,
    /// Not read yet; `None` once taken.
    pub(crate) body: Option<Incoming>,
    /// Where the connection may go on as something else than HTTP.
    pub(crate) takeover: Option<Takeover>,
}

impl Asked {
    fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// The values of a query key, in order; without its `=`, a key has the value "".
    fn query<'a>(&'a self, key: &'a str) -> impl Iterator<Item = String> + 'a {
        let query = self.request.uri().query().unwrap_or_default();
        query.split('&').filter_map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name) == key).then(|| decode(value))
        })
    }
}

/// Undoes the escapes of a query.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                bytes.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Answers a request.
pub(crate) async fn answer<M: Member>(http: &Http<M>, mut asked: Asked) -> Response<Body> {
    match asked.face {
        Face::Client | Face::ClientHttp => {
            if let Some(refusal) = http.access.refuse(&asked) {
                return refusal;
            }
            if let Some(refusal) = refuse_certificate(http, &asked) {
                return refusal;
            }
            let mut response = if asked.request.method() == Method::OPTIONS {
                Response::new(Body::Empty)
            } else {
                client(http, &mut asked).await
            };
            http.access.allow_origin(&asked, response.headers_mut());
            response
        }
        Face::Metrics => metrics_and_health(http, &asked).await.unwrap_or_else(not_found),
        Face::Peer => peer::answer(http, asked).await,
        Face::ClientGrpc => not_found(),
    }
}

/// A client that believes itself known by its certificate is not told what somebody else may
/// see: the gateway knows nobody by a certificate.
fn refuse_certificate<M: Member>(http: &Http<M>, asked: &Asked) -> Option<Response<Body>> {
    asked.peer.common_name.as_ref()?;
    http.gateway.as_ref()?;
    gateway::below(asked.path())?;
    let text = "CommonName of client sending a request against gateway will be ignored and not \
                used as expected";
    http.member.auth_enabled().then(|| error(StatusCode::BAD_REQUEST, text))
}

async fn client<M: Member>(http: &Http<M>, asked: &mut Asked) -> Response<Body> {
    if let Some(gateway) = &http.gateway
        && let Some(path) = gateway::below(asked.path())
    {
        // Boxed: other endpoints would otherwise carry its room along.
        return Box::pin(gateway.answer(asked, &path)).await;
    }
    match asked.path() {
        "/version" => version(http, asked),
        "/debug/vars" => vars::answer(http, asked),
        _ => metrics_and_health(http, asked).await.unwrap_or_else(not_found),
    }
}

async fn metrics_and_health<M: Member>(http: &Http<M>, asked: &Asked) -> Option<Response<Body>> {
    if asked.path() == "/metrics" {
        let text = http.registry.text(&http.member).await;
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        return Some(with_type(kind, text));
    }
    health::answer(http, asked).await
}

/// `/version`, on client and peer listeners alike.
fn version<M: Member>(http: &Http<M>, asked: &Asked) -> Response<Body> {
    if let Some(refusal) = only_get(asked) {
        return refusal;
    }
    let shown = |version: Option<mainstay_types::Version>, none: &str| {
        version.map_or_else(|| none.to_owned(), |version| version.to_string())
    };
    let cluster = shown(http.member.cluster_version(), "not_decided");
    let storage = shown(http.member.storage_version(), "unknown");
    let body = format!(
        r#"{{"etcdserver":"{SPOKEN_VERSION}","etcdcluster":"{cluster}","storage":"{storage}"}}"#
    );
    with_type("application/json", body)
}

/// The refusal of any other method than GET.
fn only_get(asked: &Asked) -> Option<Response<Body>> {
    if asked.request.method() == Method::GET {
        return None;
    }
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    Some(response)
}

fn with_type(kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Plain(Some(Frame::plain(body.into()))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
const SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

/// What Go's `http.Error` sends: the text, a newline, and no guessing of its type.
pub(crate) fn error(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = with_type(TEXT, format!("{text}\n"));
    *response.status_mut() = status;
    response.headers_mut().insert(SNIFF, HeaderValue::from_static("nosniff"));
    response
}

fn not_found() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "404 page not found")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str) -> Asked {
        let request = Request::builder().uri(uri).body(()).expect("a request");
        Asked { face: Face::Client, peer: Rc::default(), request, body: None, takeover: None }
    }

    #[test]
    fn query_keys_repeat_and_may_be_escaped() {
        let asked = asked("/health?exclude=A&x=1&exclude=%42%2B+c&verbose&ex%63lude=%zz");
        let excluded: Vec<String> = asked.query("exclude").collect();
        assert_eq!(excluded, ["A", "B+ c", "%zz"]);
        assert_eq!(asked.query("verbose").count(), 1);
        assert_eq!(asked.query("none").count(), 0);
    }
}
