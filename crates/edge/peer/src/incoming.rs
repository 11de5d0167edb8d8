//! A stream of messages from a peer: dialled, read, dialled again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mainstay_raft::Message;
use mainstay_types::limits::PEER_MESSAGE_BYTES_MAX;
use tokio::time::Instant;

use crate::client::{Connection, OutBody, read, told};
use crate::codec::{AppDecoder, Arrival, Intake, Malformed, PlainDecoder};
use crate::headers::{
    CLUSTER_ID, INCOMPATIBLE, OTHER_CLUSTER, RAFT_TO, SERVER_VERSION, text, value,
};
use crate::outgoing::StreamKind;
use crate::peer::Peer;
use crate::shared::{Rejected, Shared};
use crate::status::Way;
use crate::unfinished::Part;

/// Between two attempts to open a stream (etcd, `DialRetryFrequency`).
const REDIAL: Duration = Duration::from_millis(100);
/// A stream that lasted so long was no mistake of ours: when it ends it is dialled again
/// at once, for the first time.
const SETTLED: Duration = Duration::from_secs(1);

/// Keeps one stream from `peer` open, for as long as the task lives.
pub(crate) async fn run(shared: Arc<Shared>, peer: Arc<Peer>, kind: StreamKind) {
    let (local, remote) = (shared.me().1, peer.id);
    // Refusals in a row since the last stream was lost.
    let mut refused: Option<usize> = None;
    loop {
        match dial(&shared, &peer, kind).await {
            Err(error) => {
                peer.status.deactivate("dial", kind.name(), &error.to_string());
                let is_refusal = error.kind() == io::ErrorKind::ConnectionRefused;
                // A process that is just ending may still accept, and answer nothing.
                refused = refused.map(|count| if is_refusal { count + 1 } else { 0 });
                // Each of its URLs, by hosts that answer; told once.
                let all = peer.picker.count().max(1);
                if refused.is_some_and(|count| count >= all) && !peer.status.is_linked() {
                    refused = None;
                    tracing::warn!("remote-peer-id" = %remote, "the process of the remote peer is gone");
                    shared.local().gone(peer.id);
                }
            }
            Ok((connection, body)) => {
                peer.status.activate();
                let up = Up::new(&peer);
                tracing::info!(
                    "stream-reader-type" = kind.name(),
                    "local-member-id" = %local,
                    "remote-peer-id" = %remote,
                    "established TCP streaming connection with remote peer"
                );
                let since = Instant::now();
                let end = Reader::new(&shared, &peer, kind).run(body).await;
                drop((up, connection));
                lost(&shared, &peer, kind, end);
                refused = Some(0);
                if since.elapsed() >= SETTLED {
                    // Whether somebody is still there is worth knowing at once.
                    continue;
                }
            }
        }
        tokio::time::sleep(REDIAL).await;
    }
}

/// Counts a stream as up, until it is dropped: a task may be aborted at any point.
struct Up<'a>(&'a Peer);

impl<'a> Up<'a> {
    fn new(peer: &'a Peer) -> Up<'a> {
        peer.status.up(Way::In);
        Up(peer)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.status.down(Way::In);
    }
}

/// How a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    /// The peer has ended it.
    #[error("EOF")]
    Eof,
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer sent something else than its protocol.
    #[error("{0}")]
    Malformed(#[from] Malformed),
}

fn lost(shared: &Shared, peer: &Peer, kind: StreamKind, end: End) {
    if shared.is_stopping() {
        return;
    }
    tracing::warn!(
        "stream-reader-type" = kind.name(),
        "local-member-id" = %shared.me().1,
        "remote-peer-id" = %peer.id,
        error = %end,
        "lost TCP streaming connection with remote peer"
    );
    if !matches!(end, End::Eof) {
        peer.status.deactivate("read", kind.name(), &end.to_string());
    }
}

/// Asks the peer for a stream.
async fn dial(
    shared: &Shared,
    peer: &Peer,
    kind: StreamKind,
) -> io::Result<(Connection, Incoming)> {
    let Some(origin) = peer.picker.pick() else {
        return Err(io::Error::other("it has no URL"));
    };
    let path = format!("{}/{}", kind.path(), shared.me().1);
    let mut request = Peer::request(shared, &origin, Method::GET, &path, OutBody::empty());
    request.headers_mut().insert(RAFT_TO, value(peer.id));
    let asked = async {
        let mut connection = shared.dialer.connect(&origin).await?;
        let answering = tokio::time::timeout(shared.options.read_timeout, connection.send(request));
        let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer");
        let response = answering.await.map_err(silent)?.map_err(told)?;
        accept(shared, peer, response).await.map(|body| (connection, body))
    };
    let asked = asked.await;
    if asked.is_err() {
        peer.picker.unreachable(&origin);
    }
    asked
}

/// Understands the answer to a request for a stream (http.md 3.6).
async fn accept(
    shared: &Shared,
    peer: &Peer,
    response: Response<Incoming>,
) -> io::Result<Incoming> {
    let status = response.status().as_u16();
    if status == 200 {
        if let Ok(version) = text(response.headers(), &SERVER_VERSION).parse() {
            peer.runs(shared, version).map_err(io::Error::other)?;
        }
        return Ok(response.into_body());
    }
    let (me, remote) = (shared.me(), peer.id);
    let their_cluster = text(response.headers(), &CLUSTER_ID).to_owned();
    let reading = tokio::time::timeout(shared.options.read_timeout, read(response)).await;
    let body = reading.ok().and_then(Result::ok).map(|answer| answer.text()).unwrap_or_default();
    Err(io::Error::other(match (status, body.as_str()) {
        (410, _) => {
            shared.local().removed_for_good();
            REMOVED.to_owned()
        }
        (404, _) => format!("peer {remote} failed to find local node {}", me.1),
        (412, INCOMPATIBLE) => {
            tracing::warn!(
                "local-member-id" = %me.1,
                "remote-peer-id" = %remote,
                error = INCOMPATIBLE,
                "request sent was ignored by remote peer due to server version incompatibility"
            );
            body
        }
        (412, OTHER_CLUSTER) => {
            tracing::warn!(
                "remote-peer-id" = %remote,
                "remote-peer-cluster-id" = their_cluster,
                "local-member-id" = %me.1,
                "local-member-cluster-id" = %me.0,
                error = OTHER_CLUSTER,
                "request sent was ignored by remote peer due to cluster ID mismatch"
            );
            body
        }
        (412, _) => format!("unhandled error {body:?} when precondition failed"),
        (status, _) => format!("unhandled http status {status}"),
    }))
}

/// etcd's words when somebody learns that it is no member any more.
pub(crate) const REMOVED: &str = "the member has been permanently removed from the cluster";

enum Decoder {
    App(AppDecoder),
    Plain(PlainDecoder),
}

impl Decoder {
    /// Bytes of a message that has begun, beyond what was not looked at yet.
    fn waiting(&self) -> usize {
        match self {
            Decoder::App(decoder) => decoder.waiting(),
            Decoder::Plain(_) => 0,
        }
    }
}

/// Reads one stream to its end.
struct Reader<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    decoder: Decoder,
    intake: Intake,
    unfinished: Part,
}

impl<'a> Reader<'a> {
    fn new(shared: &'a Shared, peer: &'a Peer, kind: StreamKind) -> Reader<'a> {
        let decoder = match kind {
            StreamKind::App => Decoder::App(AppDecoder::new(shared.me().1, peer.id)),
            StreamKind::Plain => Decoder::Plain(PlainDecoder::new(PEER_MESSAGE_BYTES_MAX)),
        };
        let unfinished = shared.unfinished.part();
        Reader { shared, peer, decoder, intake: Intake::default(), unfinished }
    }

    async fn run(mut self, mut body: Incoming) -> End {
        let patience = self.shared.options.read_timeout;
        let mut silence = std::pin::pin!(tokio::time::sleep(patience));
        let mut heard = Instant::now();
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                // Not reset by every piece: that would cost more than to look again.
                () = &mut silence => {
                    if heard.elapsed() >= patience {
                        return io::Error::new(io::ErrorKind::TimedOut, "i/o timeout").into();
                    }
                    silence.as_mut().reset(heard + patience);
                    continue;
                }
            };
            heard = Instant::now();
            if self.peer.is_shunned() {
                return io::Error::other("it is not talked to any more").into();
            }
            let chunk = match frame {
                None => return End::Eof,
                Some(Err(error)) => return told(error).into(),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            if let Err(malformed) = self.take(chunk) {
                self.peer.stats.received_failures.inc();
                return malformed.into();
            }
        }
    }

    /// Hands on every message that is whole now.
    fn take(&mut self, chunk: Bytes) -> Result<(), Malformed> {
        self.peer.stats.received_bytes.add(chunk.len() as u64);
        self.intake.push(chunk);
        let mut handed = false;
        let read = loop {
            let arrival = match &mut self.decoder {
                Decoder::App(decoder) => decoder.decode(&mut self.intake),
                Decoder::Plain(decoder) => decoder.decode(&mut self.intake),
            };
            match arrival {
                Ok(None) => break Ok(()),
                Ok(Some(Arrival::Heartbeat)) => {}
                Ok(Some(Arrival::Message(message))) if message.kind.is_local() => {
                    break Err(Malformed("a message that members only send to themselves"));
                }
                Ok(Some(Arrival::Message(message))) => {
                    self.hand_on(message);
                    handed = true;
                }
                Err(malformed) => break Err(malformed),
            }
        };
        if handed {
            self.shared.local().received();
        }
        read?;
        let waiting = self.intake.len() + self.decoder.waiting();
        self.unfinished.set(waiting).map_err(|_| Malformed("peers send too much at once"))
    }

    fn hand_on(&self, message: Message) {
        let kind = message.kind;
        match self.shared.receive(message) {
            Ok(()) => {}
            Err(Rejected::Removed | Rejected::Mismatch) => {
                self.peer.stats.received_failures.inc();
            }
            Err(Rejected::Refused(why)) => {
                self.peer.stats.received_failures.inc();
                if self.peer.may_complain() {
                    tracing::warn!(
                        "message-type" = ?kind,
                        "local-member-id" = %self.shared.me().1,
                        "remote-peer-id" = %self.peer.id,
                        "remote-peer-active" = self.peer.status.is_active(),
                        error = %why,
                        "dropped internal Raft message since receiving buffer is full \
                         (overloaded network)"
                    );
                }
            }
        }
    }
}
