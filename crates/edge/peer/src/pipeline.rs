//! Messages that no stream takes: each a POST of its own, a few at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use mainstay_raft::{Message, MessageKind};
use tokio::sync::{Mutex, mpsc};

use crate::client::{Answer, OutBody, Unanswered};
use crate::codec::{encode_message, message_len};
use crate::headers::{INCOMPATIBLE, OTHER_CLUSTER};
use crate::incoming::REMOVED;
use crate::peer::Peer;
use crate::shared::Shared;

/// How long a peer may take for one message (ours; etcd waits for ever, and a peer
/// that hangs holds all four).
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// One of the tasks that POST what waits, for as long as it lives.
pub(crate) async fn run(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    waiting: Arc<Mutex<mpsc::Receiver<Message>>>,
) {
    loop {
        // The others wait for the lock meanwhile.
        let Some(message) = waiting.lock().await.recv().await else { return };
        let posting = tokio::time::timeout(POST_TIMEOUT, post(&shared, &peer, &message));
        let late = io::Error::new(io::ErrorKind::TimedOut, "no answer");
        let result = posting.await.unwrap_or(Err(Unanswered::MaybeSent(late)));
        let is_snapshot = message.kind == MessageKind::Snap;
        match result {
            Ok(()) => peer.status.activate(),
            Err(unanswered) => {
                if matches!(unanswered, Unanswered::Unsent(_)) {
                    shared.unsent([message]);
                }
                let error = io::Error::from(unanswered);
                peer.status.deactivate("write", "pipeline", &error.to_string());
                peer.stats.sent_failures.inc();
                shared.unreachable(peer.id);
                if is_snapshot {
                    shared.local().snapshot_sent(peer.id, false);
                }
                continue;
            }
        }
        if is_snapshot {
            shared.local().snapshot_sent(peer.id, true);
        }
    }
}

async fn post(shared: &Shared, peer: &Peer, message: &Message) -> Result<(), Unanswered> {
    let Some(origin) = peer.picker.pick() else {
        return Err(Unanswered::Unsent(io::Error::other("it has no URL")));
    };
    let mut encoded = BytesMut::with_capacity(message_len(message));
    encode_message(message, &mut encoded);
    let encoded = encoded.freeze();
    let request = || {
        let body = OutBody::whole(encoded.clone());
        let mut request = Peer::request(shared, &origin, Method::POST, "/raft", body);
        let kind = HeaderValue::from_static("application/protobuf");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        request
    };
    let result = match peer.pool.ask(&shared.dialer, &origin, request).await {
        Ok(answer) => judge(shared, peer, &answer).map_err(Unanswered::MaybeSent),
        Err(error) => Err(error),
    };
    match &result {
        Ok(()) => peer.stats.sent_bytes.add(encoded.len() as u64),
        Err(_) => peer.picker.unreachable(&origin),
    }
    result
}

/// What a member says to a message for another ([`Rejected::Mismatch`]).
///
/// [`Rejected::Mismatch`]: crate::shared::Rejected::Mismatch
const MISMATCH: &str = "mismatch member";

/// Understands the answer to a POST (http.md 3.6).
pub(crate) fn judge(shared: &Shared, peer: &Peer, answer: &Answer) -> io::Result<()> {
    let text = answer.text();
    let (me, remote) = (shared.me(), peer.id);
    Err(io::Error::other(match (answer.status, text.as_str()) {
        (204, _) => return Ok(()),
        // It is another member than we think: it has the address of one that left, and
        // we will be told. Go's members take this for their own removal, and stop.
        (403, text) if text.contains(MISMATCH) => text.to_owned(),
        (403, _) => {
            shared.local().removed_for_good();
            REMOVED.to_owned()
        }
        (412, INCOMPATIBLE) => {
            tracing::warn!("remote-peer-id" = %remote, "request sent was ignored by peer");
            text
        }
        (412, OTHER_CLUSTER) => {
            tracing::warn!(
                "remote-peer-id" = %remote,
                "local-member-cluster-id" = %me.0,
                "request sent was ignored due to cluster ID mismatch"
            );
            text
        }
        (412, _) => format!("unhandled error {text:?} when precondition failed"),
        (status, _) => format!("unexpected http status {status} ({text})"),
    }))
}
