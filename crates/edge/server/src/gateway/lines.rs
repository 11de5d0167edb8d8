//! A call's messages as lines of JSON.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use mainstay_json as json;
use mainstay_proto::shape::Shape;

use crate::grpc::{Frame, Sent, Streaming};
use crate::status::Status;

/// What a streaming call sends: `{"result":…}` for each message, and `{"error":…}` as the
/// last line when it fails.
pub(crate) struct Lines {
    streaming: Streaming,
    shape: &'static Shape,
    over: bool,
}

impl Lines {
    pub(crate) fn new(streaming: Streaming, shape: &'static Shape) -> Lines {
        Lines { streaming, shape, over: false }
    }

    /// Runs the call until it has sent something or ended; its result when it has ended
    /// without sending anything, which it still says in its last line.
    pub(crate) async fn first(&mut self) -> Option<Result<(), Status>> {
        self.streaming.first().await
    }

    /// The next line, with its end.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let line = match ready!(self.streaming.poll_next(cx)) {
            Some(Sent::Message(message)) => self.result(message).map_err(Some),
            Some(Sent::End(Err(status))) => Err(Some(status)),
            Some(Sent::End(Ok(()))) | None => Err(None),
        };
        self.over = line.is_err();
        Poll::Ready(line.map_or_else(|end| end.map(|status| failure(&status)), Some))
    }

    fn result(&self, mut message: Frame) -> Result<Vec<u8>, Status> {
        message.skip_prefix();
        let mut line = b"{\"result\":".to_vec();
        let message = message.copy_to_bytes(message.remaining());
        json::write(self.shape, &message, &mut line).map_err(unwritable)?;
        line.extend_from_slice(b"}\n");
        Ok(line)
    }
}

/// An answer of ours that is no message: a bug, or damage.
pub(crate) fn unwritable(error: json::Malformed) -> Status {
    Status::internal(error.to_string())
}

/// The line of a failed stream.
fn failure(status: &Status) -> Vec<u8> {
    let mut line = b"{\"error\":".to_vec();
    describe(status, &mut line);
    line.extend_from_slice(b"}\n");
    line
}

/// `google.rpc.Status` as JSON.
pub(crate) fn describe(status: &Status, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"code\":{},\"message\":", status.code as u8).as_bytes());
    json::text(&status.message, out);
    out.push(b'}');
}
