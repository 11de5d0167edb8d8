//! gRPC's framing over HTTP/2 bodies, and nothing about etcd.
//!
//! Behind [`Service`] a handler sees message bytes and appends message bytes;
//! whoever carries them (hyper now) stays on this side.

mod body;
mod frame;
mod messages;
mod percent;
mod serve;
pub(crate) mod timeout;

use std::future::Future;

use bytes::{Bytes, BytesMut};

use crate::call::Call;
use crate::status::Status;
use crate::stream::{RequestMessages, ResponseSink};

pub(crate) use body::{Body, Sent, Streaming};
pub(crate) use frame::Frame;
pub(crate) use serve::{Limits, Only, is_grpc, serve, streaming, unary};

/// What is served.
pub(crate) trait Service: Clone + 'static {
    /// Answers a unary call: `request` is the message, the answer is appended to `out`.
    fn unary(
        &self,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> impl Future<Output = Result<(), Status>>;

    /// Serves a streaming call until it ends.
    fn stream<R: RequestMessages, W: ResponseSink>(
        self,
        call: Call,
        requests: R,
        responses: W,
    ) -> impl Future<Output = Result<(), Status>> + 'static;
}
