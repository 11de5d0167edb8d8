//! Streaming calls, as a handler sees them.
//!
//! A handler is one future that reads [`RequestMessages`] and writes a
//! [`ResponseSink`]; it ends with `Ok(())` or a status. When the client resets
//! the call or its connection ends, the future is dropped: whatever must be
//! undone is undone by a `Drop`. Handlers run on their connection's thread and
//! need not be `Send`.
//!
//! The handler is driven by its own response: while the client's flow control
//! window is closed it is not polled, so a slow reader holds at most what the
//! sink's bound allows.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::status::Status;

/// The messages of a call, in order.
pub trait RequestMessages: 'static {
    /// The next message; `None` once the client has closed its side (the call
    /// itself lives on). An error ends the call: hand it back.
    ///
    /// Nothing is lost when the caller stops polling half-way.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;

    /// [`RequestMessages::poll_next`] as a future; cancelling it loses nothing,
    /// so it may stand in a `select!`.
    fn next(&mut self) -> impl Future<Output = Option<Result<Bytes, Status>>> {
        poll_fn(|cx| self.poll_next(cx))
    }
}

/// Where a call's responses go.
pub trait ResponseSink: 'static {
    /// Sends one message that lies in two parts, such as a head of one's own and
    /// events shared by many watchers; neither is copied here. Ready at once while
    /// less than [`SINK_BYTES_MAX`](mainstay_types::limits::SINK_BYTES_MAX) waits.
    ///
    /// Cancelling the future before it is ready sends nothing.
    fn send_parts(&mut self, head: Bytes, tail: Bytes) -> impl Future<Output = ()>;

    /// Sends one message.
    fn send(&mut self, message: Bytes) -> impl Future<Output = ()> {
        self.send_parts(message, Bytes::new())
    }
}
