//! A stream of messages to a peer: the body of the response to its request.
//!
//! Runs on the shard that the peer's connection belongs to. All messages that wait
//! leave as one piece of the body, so in one write.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use mainstay_raft::Message;
use mainstay_types::limits::PEER_STREAM_GATHER_BYTES;
use tokio::time::{Instant, Sleep};

use crate::codec::{AppEncoder, encode_plain, encode_plain_heartbeat};
use crate::lane::Found;
use crate::peer::Peer;
use crate::shared::Shared;
use crate::status::Way;

/// The two kinds of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Appends ("msgappv2").
    App,
    /// Everything else.
    Plain,
}

impl StreamKind {
    /// As etcd's logs name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            StreamKind::App => "stream MsgApp v2",
            StreamKind::Plain => "stream Message",
        }
    }

    /// The path of requests for it, but for who asks.
    pub(crate) fn path(self) -> &'static str {
        match self {
            StreamKind::App => "/raft/stream/msgapp",
            StreamKind::Plain => "/raft/stream/message",
        }
    }
}

/// How often a stream shows that it is alive (etcd, `ConnReadTimeout` / 3).
pub(crate) const LINK_HEARTBEAT: Duration = Duration::from_millis(5_000 / 3);

/// The body of a stream's response.
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    kind: StreamKind,
    /// Its number in the lane.
    stream: u64,
    encoder: AppEncoder,
    taken: VecDeque<Message>,
    encoded: BytesMut,
    heartbeat: Pin<Box<Sleep>>,
}

impl Outgoing {
    /// Attaches a stream to `peer`; `None` when the peer has just left. To be called
    /// on the thread that serves the connection.
    pub(crate) fn attach(
        shared: Arc<Shared>,
        peer: Arc<Peer>,
        kind: StreamKind,
    ) -> Option<Outgoing> {
        let attached = peer.lane(kind).attach()?;
        let (local, remote) = (shared.me().1, peer.id);
        if !attached.lost.is_empty() {
            shared.unreachable(remote);
            shared.unsent(attached.lost);
        }
        if attached.replaced {
            peer.status.down(Way::Out);
            tracing::warn!(
                "stream-writer-type" = kind.name(),
                "local-member-id" = %local,
                "remote-peer-id" = %remote,
                "closed TCP streaming connection with remote peer"
            );
        }
        peer.status.activate();
        peer.status.up(Way::Out);
        tracing::info!(
            from = %local,
            to = %remote,
            "stream-type" = kind.name(),
            "set message encoder"
        );
        tracing::info!(
            "stream-writer-type" = kind.name(),
            "local-member-id" = %local,
            "remote-peer-id" = %remote,
            "established TCP streaming connection with remote peer"
        );
        Some(Outgoing {
            shared,
            peer,
            kind,
            stream: attached.stream,
            encoder: AppEncoder::default(),
            taken: VecDeque::new(),
            encoded: BytesMut::new(),
            heartbeat: Box::pin(tokio::time::sleep(LINK_HEARTBEAT)),
        })
    }

    /// Encodes what was taken, up to a bound.
    fn encode(&mut self) {
        while self.encoded.len() < PEER_STREAM_GATHER_BYTES {
            let Some(message) = self.taken.pop_front() else { break };
            match self.kind {
                StreamKind::App => self.encoder.encode(&message, &mut self.encoded),
                StreamKind::Plain => encode_plain(&message, &mut self.encoded),
            }
        }
    }

    /// Whether it is time for a heartbeat of the link.
    fn is_heartbeat_due(&mut self, cx: &mut Context<'_>) -> bool {
        if self.heartbeat.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.heartbeat.as_mut().reset(Instant::now() + LINK_HEARTBEAT);
        // Asks the timer to wake us; it cannot be over yet.
        self.heartbeat.as_mut().poll(cx).is_pending()
    }

    fn encode_heartbeat(&mut self) {
        match self.kind {
            StreamKind::App => self.encoder.heartbeat(&mut self.encoded),
            StreamKind::Plain => encode_plain_heartbeat(&mut self.encoded),
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.taken.is_empty() {
            let lane = this.peer.lane(this.kind);
            if lane.take(this.stream, &mut this.taken, cx.waker()) == Found::End {
                return Poll::Ready(None);
            }
        }
        if this.is_heartbeat_due(cx) {
            this.encode_heartbeat();
        }
        this.encode();
        if this.encoded.is_empty() {
            return Poll::Pending;
        }
        let piece = this.encoded.split().freeze();
        this.peer.stats.sent_bytes.add(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        let (local, remote) = (self.shared.me().1, self.peer.id);
        let Some(lost) = self.peer.lane(self.kind).detach(self.stream) else {
            // Another took its place, or the peer left.
            tracing::info!(
                "stream-writer-type" = self.kind.name(),
                "remote-peer-id" = %remote,
                "stopped TCP streaming connection with remote peer"
            );
            return;
        };
        self.peer.status.down(Way::Out);
        if self.shared.is_stopping() {
            return;
        }
        tracing::warn!(
            "stream-writer-type" = self.kind.name(),
            "local-member-id" = %local,
            "remote-peer-id" = %remote,
            "lost TCP streaming connection with remote peer"
        );
        self.peer.status.deactivate("write", self.kind.name(), "connection closed");
        let unsent = std::mem::take(&mut self.taken);
        if !lost.is_empty() || !unsent.is_empty() {
            self.peer.stats.sent_failures.inc();
        }
        self.shared.unsent(unsent.into_iter().chain(lost));
        // What was written last may not have arrived either.
        self.shared.unreachable(remote);
    }
}
