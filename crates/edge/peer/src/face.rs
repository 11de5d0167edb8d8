//! Raft's paths on the peer listener: what other members send us, and the streams
//! on which they get what we send (http.md 3.2, 3.3).

pub(crate) mod db;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use mainstay_server::{RaftAnswer, RaftBody, RaftFace};
use mainstay_types::SPOKEN_VERSION;
use mainstay_types::limits::PEER_MESSAGE_BYTES_MAX;

use crate::calls;
use crate::codec::{Intake, decode_message};
use crate::headers::{self, CLUSTER_ID, RAFT_TO, SERVER_FROM, SERVER_VERSION, text, value};
use crate::outgoing::{Outgoing, StreamKind};
use crate::shared::{Rejected, Shared};

/// How long a sender may be silent in the middle of a message (ours; etcd 5 s on most
/// connections).
const SILENCE: Duration = Duration::from_secs(30);

/// The member's face to other members.
#[derive(Clone)]
pub struct PeerHttp(pub(crate) Arc<Shared>);

impl RaftFace for PeerHttp {
    fn answer(&self, request: Request<Incoming>, remote: &str) -> RaftAnswer {
        let (shared, remote) = (Arc::clone(&self.0), remote.to_owned());
        Box::pin(async move { answer(&shared, request, &remote).await })
    }
}

/// Answers a request from the address `remote`.
pub(crate) async fn answer<B>(
    shared: &Arc<Shared>,
    request: Request<B>,
    remote: &str,
) -> Response<RaftBody>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if shared.local.get().is_none() || shared.is_stopping() {
        return error(StatusCode::SERVICE_UNAVAILABLE, "etcdserver: server stopped");
    }
    match request.uri().path() {
        "/raft" => message(shared, request, remote).await,
        calls::ABOUT => about(shared, &request),
        db::PATH => db::offer(shared, &request, remote).await,
        "/raft/snapshot" => snapshot::receive(shared, request, remote).await,
        path if path.starts_with("/raft/stream/") => stream(shared, &request),
        _ => error(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// GET `/raft/mainstay`: what etcd has no question for.
fn about<B>(shared: &Shared, request: &Request<B>) -> Response<RaftBody> {
    if let Some(refusal) = refuse(shared, request, &Method::GET) {
        return refusal;
    }
    let mut response = plain(calls::about_json(shared.local().about()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    of_cluster(shared, response)
}

/// POST `/raft`: one message.
async fn message<B>(shared: &Arc<Shared>, request: Request<B>, remote: &str) -> Response<RaftBody>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    if let Some(refusal) = refuse(shared, &request, &Method::POST) {
        return refusal;
    }
    meet_sender(shared, &request);
    let me = shared.me().1;
    let from = text(request.headers(), &SERVER_FROM).to_owned();
    let read = read_whole(shared, request.into_body()).await;
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(problem) => {
            tracing::warn!(
                "local-member-id" = %me,
                "remote-addr" = remote,
                error = problem,
                "failed to read Raft message"
            );
            return of_cluster(
                shared,
                error(StatusCode::BAD_REQUEST, "error reading raft message"),
            );
        }
    };
    let length = bytes.len() as u64;
    let message = match decode_message(bytes) {
        Ok(message) if !message.kind.is_local() => message,
        bad => {
            let problem = bad.err().map_or("of a local kind".to_owned(), |error| error.to_string());
            tracing::warn!(
                "local-member-id" = %me,
                "remote-peer-id" = from,
                "remote-addr" = remote,
                error = problem,
                "failed to unmarshal Raft message"
            );
            let text = "error unmarshalling raft message";
            return of_cluster(shared, closing(error(StatusCode::BAD_REQUEST, text)));
        }
    };
    if let Some(peer) = shared.table.load().find(message.from) {
        peer.stats.received_bytes.add(length);
    }
    let result = shared.receive(message);
    shared.local().received();
    let response = match result {
        Ok(()) => no_content(),
        Err(why @ (Rejected::Removed | Rejected::Mismatch)) => forbidden(why),
        Err(Rejected::Refused(why)) => {
            tracing::warn!(
                "local-member-id" = %me,
                error = %why,
                "failed to process Raft message"
            );
            let text = "error processing raft message";
            closing(error(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    };
    of_cluster(shared, response)
}

/// Reads a body that holds one message.
async fn read_whole<B>(shared: &Shared, mut body: B) -> Result<Bytes, String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (mut intake, mut unfinished) = (Intake::default(), shared.unfinished.part());
    while let Some(chunk) = next_chunk(&mut body).await? {
        intake.push(chunk);
        let fits = unfinished.set(intake.len()).is_ok();
        if !fits || intake.len() > PEER_MESSAGE_BYTES_MAX {
            return Err("rafthttp: error limit exceeded".to_owned());
        }
    }
    let length = intake.len();
    Ok(intake.take(length).unwrap_or_default())
}

/// The next piece of a body; `None` at its end.
async fn next_chunk<B>(body: &mut B) -> Result<Option<Bytes>, String>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    match tokio::time::timeout(SILENCE, body.frame()).await {
        Err(_) => Err("i/o timeout".to_owned()),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
    }
}

/// GET `/raft/stream/KIND/FROM`: a body that never ends.
fn stream<B>(shared: &Arc<Shared>, request: &Request<B>) -> Response<RaftBody> {
    if let Some(refusal) = refuse(shared, request, &Method::GET) {
        return with_version(refusal);
    }
    let response = open_stream(shared, request).unwrap_or_else(|refusal| *refusal);
    with_version(of_cluster(shared, response))
}

fn open_stream<B>(
    shared: &Arc<Shared>,
    request: &Request<B>,
) -> Result<Response<RaftBody>, Box<Response<RaftBody>>> {
    let refused = |status, text: &str| Box::new(error(status, text));
    let me = shared.me().1;
    let (kind, from) = parse_stream(request.uri().path())
        .ok_or_else(|| refused(StatusCode::NOT_FOUND, "invalid path"))?;
    let Some(from) = headers::member_id(from) else {
        tracing::warn!("local-member-id" = %me, path = from, "failed to parse path into ID");
        return Err(refused(StatusCode::NOT_FOUND, "invalid from"));
    };
    if shared.local().is_removed(from) {
        tracing::warn!(
            "local-member-id" = %me,
            "remote-peer-id-from" = %from,
            "rejected stream from remote peer because it was removed"
        );
        return Err(refused(StatusCode::GONE, "removed member"));
    }
    let unknown = || {
        if let Some((_, urls)) = headers::sender(request.headers()) {
            shared.meet(from, &urls);
        }
        tracing::warn!(
            "local-member-id" = %me,
            "remote-peer-id-from" = %from,
            "cluster-id" = %shared.me().0,
            "failed to find remote peer in cluster"
        );
        refused(StatusCode::NOT_FOUND, "error sender not found")
    };
    let peer = shared.peer(from).ok_or_else(unknown)?;
    let to = text(request.headers(), &RAFT_TO);
    if to != me.to_string() {
        tracing::warn!(
            "local-member-id" = %me,
            "remote-peer-id-header" = to,
            "remote-peer-id-from" = %from,
            "cluster-id" = %shared.me().0,
            "ignored streaming request; ID mismatch"
        );
        return Err(refused(StatusCode::PRECONDITION_FAILED, "to field mismatch"));
    }
    let body = Outgoing::attach(Arc::clone(shared), peer, kind).ok_or_else(unknown)?;
    Ok(Response::new(Box::pin(body)))
}

/// The kind of stream, and the text of who asks.
fn parse_stream(path: &str) -> Option<(StreamKind, &str)> {
    [StreamKind::App, StreamKind::Plain].into_iter().find_map(|kind| {
        let from = path.strip_prefix(kind.path())?.strip_prefix('/')?;
        (!from.contains('/')).then_some((kind, from))
    })
}

/// What is checked before anything else: method, versions, cluster.
fn refuse<B>(shared: &Shared, request: &Request<B>, method: &Method) -> Option<Response<RaftBody>> {
    if request.method() != method {
        let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        response.headers_mut().insert(ALLOW, value(method));
        return Some(response);
    }
    let text = match headers::check(request.headers(), shared.me()) {
        Err(text) => text.to_owned(),
        Ok(()) => shunned(shared, request.headers())?,
    };
    Some(of_cluster(shared, error(StatusCode::PRECONDITION_FAILED, &text)))
}

/// Why the sender is not talked to, whatever it wants.
fn shunned(shared: &Shared, headers: &HeaderMap) -> Option<String> {
    let from = headers::member_id(text(headers, &SERVER_FROM))?;
    let version = text(headers, &SERVER_VERSION).parse().ok()?;
    match shared.table.load().find(from) {
        Some(peer) => peer.runs(shared, version).err(),
        None => shared.local().shuns(from, version),
    }
}

/// Takes note of a sender that is no member that we know of.
fn meet_sender<B>(shared: &Arc<Shared>, request: &Request<B>) {
    if let Some((from, urls)) = headers::sender(request.headers()) {
        shared.meet(from, &urls);
    }
}

fn of_cluster(shared: &Shared, mut response: Response<RaftBody>) -> Response<RaftBody> {
    response.headers_mut().insert(CLUSTER_ID, value(shared.me().0));
    response
}

fn with_version(mut response: Response<RaftBody>) -> Response<RaftBody> {
    response.headers_mut().insert(SERVER_VERSION, value(SPOKEN_VERSION));
    response
}

fn no_content() -> Response<RaftBody> {
    let mut response = plain(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn forbidden(why: Rejected) -> Response<RaftBody> {
    let mut response = plain(format!(r#"{{"message":"{why}"}}"#));
    *response.status_mut() = StatusCode::FORBIDDEN;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The last answer on its connection.
fn closing(mut response: Response<RaftBody>) -> Response<RaftBody> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What Go's `http.Error` sends.
fn error(status: StatusCode, text: &str) -> Response<RaftBody> {
    let mut response = plain(format!("{text}\n"));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(SNIFF, HeaderValue::from_static("nosniff"));
    response
}

const SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");

fn plain(body: impl Into<Bytes>) -> Response<RaftBody> {
    Response::new(Box::pin(Full::new(body.into())))
}
