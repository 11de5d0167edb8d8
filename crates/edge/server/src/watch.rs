//! The Watch service: requests to the member's hub, its responses to the client.
//!
//! One future per stream. It takes requests only while the hub's outbox has room,
//! so that a client which asks and does not read stops itself.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mainstay_failpoints::fail_delay;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb::{self as pb, watch_create_request::FilterType};
use mainstay_types::KeyRange;
use mainstay_watch::{Body, Create, Filters, Header, Response};
use pb::watch_request::RequestUnion;

use crate::errors;
use crate::status::Status;
use crate::stream::{RequestMessages, ResponseSink};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Watch a range.
    Create(Create),
    /// Stop the watcher with this id.
    Cancel(i64),
    /// Say how far all watchers are.
    Progress,
}

/// The member's end of one watch stream; dropping it closes the stream.
pub(crate) trait WatchLink {
    /// Ready while another request may be passed on.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Passes a request on.
    fn ask(&mut self, ask: Ask);
    /// The next response; `None` when the member stops.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Response>>;
    /// A response with so many events has been sent since `begun`; only counted.
    fn sent(&self, _kind: Sent, _events: usize, _begun: Instant) {}
}

/// What a response was, for the histograms of etcd's send loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Events,
    Control,
    Progress,
}

fn kind_of(response: &Response) -> Sent {
    match response.body {
        Body::Events(_) => Sent::Events,
        Body::Progress => Sent::Progress,
        Body::Created
        | Body::Refused(_)
        | Body::Canceled
        | Body::Compacted(_)
        | Body::Failed(_) => Sent::Control,
    }
}

/// Serves one stream until the client resets it or the member stops. That the
/// client closes its side ends nothing (semantics 6.17). `header` is asked for
/// each response; a watcher that accepts fragments gets them from
/// `fragment_bytes` on (`--max-request-bytes` and 512 KiB).
///
/// # Errors
/// A request that cannot be read, or `watch canceled` when the member stops.
pub(crate) async fn serve(
    mut link: impl WatchLink,
    header: impl Fn() -> Header,
    fragment_bytes: usize,
    mut requests: impl RequestMessages,
    mut responses: impl ResponseSink,
) -> Result<(), Status> {
    let mut writer = Writer::default();
    let mut turns = Turns { asks_first: true, open: true };
    loop {
        match poll_fn(|cx| turns.poll(cx, &mut link, &mut requests)).await {
            Turn::Request(None) => turns.open = false,
            Turn::Request(Some(request)) => {
                if let Some(ask) = translate(request?)? {
                    link.ask(ask);
                }
            }
            Turn::Response(None) => return Err(errors::WATCH_CANCELED.status()),
            Turn::Response(Some(response)) => {
                if let Some(delay) = fail_delay!("beforeSendWatchResponse") {
                    tokio::time::sleep(delay).await;
                }
                let begun = Instant::now();
                response.messages(header(), fragment_bytes, |message| writer.add(message));
                for (head, tail) in writer.messages.drain(..) {
                    responses.send_parts(head, tail).await;
                }
                link.sent(kind_of(&response), response.events().len(), begun);
            }
        }
    }
}

enum Turn {
    Request(Option<Result<Bytes, Status>>),
    Response(Option<Response>),
}

/// Takes requests and responses in turns, so that neither starves the other.
struct Turns {
    asks_first: bool,
    /// The client has not closed its side.
    open: bool,
}

impl Turns {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut impl WatchLink,
        requests: &mut impl RequestMessages,
    ) -> Poll<Turn> {
        self.asks_first = !self.asks_first;
        for asks in [self.asks_first, !self.asks_first] {
            let turn = if !asks {
                link.poll_next(cx).map(Turn::Response)
            } else if self.open && link.poll_ready(cx).is_ready() {
                requests.poll_next(cx).map(Turn::Request)
            } else {
                Poll::Pending
            };
            if turn.is_ready() {
                return turn;
            }
        }
        Poll::Pending
    }
}

/// Encodes messages in one growing buffer; a lone event is passed on as it is.
#[derive(Default)]
struct Writer {
    buffer: BytesMut,
    messages: Vec<(Bytes, Bytes)>,
}

impl Writer {
    fn add(&mut self, message: mainstay_watch::Message<'_>) {
        let tail = match message.events() {
            [event] => {
                message.encode_head(&mut self.buffer);
                event.clone()
            }
            _ => {
                message.encode(&mut self.buffer);
                Bytes::new()
            }
        };
        self.messages.push((self.buffer.split().freeze(), tail));
    }
}

/// Reads a request; `None` for one that says nothing (it is passed over).
fn translate(request: Bytes) -> Result<Option<Ask>, Status> {
    let request = pb::WatchRequest::decode(request).map_err(|error| {
        Status::internal(format!("grpc: failed to unmarshal the received message: {error}"))
    })?;
    Ok(request.request_union.map(|union| match union {
        RequestUnion::CreateRequest(create) => Ask::Create(translate_create(create)),
        RequestUnion::CancelRequest(cancel) => Ask::Cancel(cancel.watch_id),
        RequestUnion::ProgressRequest(_) => Ask::Progress,
    }))
}

fn translate_create(create: pb::WatchCreateRequest) -> Create {
    let filters = |filter: FilterType| create.filters.contains(&(filter as i32));
    let filters =
        Filters { no_put: filters(FilterType::Noput), no_delete: filters(FilterType::Nodelete) };
    // No key is the smallest key (semantics 6.1).
    let key = if create.key.is_empty() { Bytes::from_static(b"\0") } else { create.key };
    Create {
        range: KeyRange::from_wire(key, create.range_end),
        start_revision: create.start_revision,
        filters,
        prev_kv: create.prev_kv,
        progress_notify: create.progress_notify,
        fragment: create.fragment,
        watch_id: create.watch_id,
    }
}

#[cfg(test)]
mod tests;
