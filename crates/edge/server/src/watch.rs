//! The Watch service: requests to the member's hub, its responses to the client.
//!
//! One future per stream. It takes requests only while the hub's outbox has room,
//! so that a client which asks and does not read stops itself.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
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
use crate::member::Doorkeeper;
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
    /// The store's current revision, for what the member does not answer itself.
    fn revision(&self) -> i64;
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
    mut doorkeeper: impl Doorkeeper,
    mut requests: impl RequestMessages,
    mut responses: impl ResponseSink,
) -> Result<(), Status> {
    let mut writer = Writer::default();
    let mut turns = Turns { asks_first: true, open: true };
    let mut watched = Watched::default();
    loop {
        match poll_fn(|cx| turns.poll(cx, &mut link, &mut doorkeeper, &mut requests)).await {
            Turn::Changed(outcome) => {
                outcome?;
                watched.look_again(&doorkeeper, &mut link);
            }
            Turn::Request(None) => turns.open = false,
            Turn::Request(Some(request)) => {
                match translate(request?, &mut doorkeeper, &mut watched)? {
                    Some(Said::Ask(ask)) => link.ask(ask),
                    Some(Said::Refused(reason)) => {
                        let refused = Response::refused(link.revision(), reason);
                        refused.messages(header(), fragment_bytes, |message| writer.add(message));
                        for (head, tail) in writer.messages.drain(..) {
                            responses.send_parts(head, tail).await;
                        }
                    }
                    None => {}
                }
            }
            Turn::Response(None) => return Err(errors::WATCH_CANCELED.status()),
            Turn::Response(Some(mut response)) => {
                if !watched.takes(&mut response) {
                    continue;
                }
                if watched.again && response.body == Body::Created {
                    watched.look_again(&doorkeeper, &mut link);
                }
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
    Changed(Result<(), Status>),
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
        doorkeeper: &mut impl Doorkeeper,
        requests: &mut impl RequestMessages,
    ) -> Poll<Turn> {
        // First: what came after a change must not be sent before it was looked at.
        if let Poll::Ready(outcome) = doorkeeper.poll_changed(cx) {
            return Poll::Ready(Turn::Changed(outcome));
        }
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

/// The ranges of a stream's watchers, to be looked at again when permissions change.
#[derive(Default)]
struct Watched {
    /// Asked for, in order; the hub answers in that order.
    asked: VecDeque<Option<Range>>,
    watchers: BTreeMap<i64, Range>,
    /// Told to stop, with the reason that its client is to be told.
    barred: BTreeMap<i64, Cow<'static, str>>,
    /// Watchers that are being created were allowed before the last change.
    again: bool,
}

struct Range {
    key: Bytes,
    end: Bytes,
}

impl Watched {
    /// Asks about every watcher, and stops those that may not go on.
    fn look_again(&mut self, doorkeeper: &impl Doorkeeper, link: &mut impl WatchLink) {
        let barred = &mut self.barred;
        self.watchers.retain(|id, range| match doorkeeper.may_see(&range.key, &range.end) {
            Ok(()) => true,
            Err(reason) => {
                barred.insert(*id, reason);
                link.ask(Ask::Cancel(*id));
                false
            }
        });
        // Those that are not there yet are asked about when they are.
        self.again = !self.asked.is_empty();
    }

    /// Notes what a response means; `false` when it is not for the client's eyes any more.
    fn takes(&mut self, response: &mut Response) -> bool {
        match &response.body {
            Body::Created => {
                if let Some(Some(range)) = self.asked.pop_front() {
                    self.watchers.insert(response.watch_id, range);
                }
            }
            Body::Refused(_) => drop(self.asked.pop_front()),
            Body::Canceled | Body::Compacted(_) | Body::Failed(_) => {
                self.watchers.remove(&response.watch_id);
                if let Some(reason) = self.barred.remove(&response.watch_id) {
                    response.body = Body::Failed(reason);
                }
            }
            Body::Events(_) | Body::Progress => {
                return !self.barred.contains_key(&response.watch_id);
            }
        }
        true
    }
}

/// What a request comes to.
enum Said {
    Ask(Ask),
    /// A watcher that may not be, and why.
    Refused(Cow<'static, str>),
}

/// Reads a request; `None` for one that says nothing (it is passed over).
fn translate(
    request: Bytes,
    doorkeeper: &mut impl Doorkeeper,
    watched: &mut Watched,
) -> Result<Option<Said>, Status> {
    let request = pb::WatchRequest::decode(request).map_err(|error| {
        Status::internal(format!("grpc: failed to unmarshal the received message: {error}"))
    })?;
    let ask = match request.request_union {
        None => return Ok(None),
        // etcd's order: a revision that never was, then the permission.
        Some(RequestUnion::CreateRequest(create)) if create.start_revision < 0 => {
            watched.asked.push_back(None);
            Ask::Create(translate_create(create))
        }
        Some(RequestUnion::CreateRequest(create)) => match doorkeeper.admit(create) {
            Err(reason) => return Ok(Some(Said::Refused(reason))),
            Ok(create) => {
                let (create, _) = create.into_parts();
                let (key, end) = (create.key.clone(), create.range_end.clone());
                let range = doorkeeper.is_watched().then_some(Range { key, end });
                watched.asked.push_back(range);
                Ask::Create(translate_create(create))
            }
        },
        Some(RequestUnion::CancelRequest(cancel)) => Ask::Cancel(cancel.watch_id),
        Some(RequestUnion::ProgressRequest(_)) => Ask::Progress,
    };
    Ok(Some(Said::Ask(ask)))
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
