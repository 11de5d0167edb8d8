//! Response bodies.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::{Frame as HttpFrame, SizeHint};
use mainstay_types::limits::SINK_BYTES_MAX;

use super::frame::Frame;
use super::serve::trailers;
use crate::gateway::Lines;
use crate::metrics::grpc::Tally;
use crate::raft_face::{OpenAnswer, RaftBody};
use crate::status::Status;
use crate::stream::ResponseSink;

/// The body of any response that this server gives.
pub(crate) enum Body {
    /// Nothing: everything is in the headers.
    Empty,
    /// A plain HTTP body.
    Plain(Option<Frame>),
    /// One message, then trailers.
    Unary(Option<Frame>, Option<HeaderMap>),
    /// What a handler sends while it runs, then trailers.
    Stream(Box<Streaming>),
    /// The same, as lines of JSON.
    Lines(Box<Lines>),
    /// Raft's, which knows nothing of gRPC; counted while it is open.
    Raft(RaftBody, #[expect(dead_code, reason = "dropped with the body")] OpenAnswer),
}

impl http_body::Body for Body {
    type Data = Frame;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<HttpFrame<Frame>, Infallible>>> {
        let frame = match &mut *self {
            Body::Empty => None,
            Body::Plain(data) => data.take().map(HttpFrame::data),
            Body::Unary(message, trailers) => match message.take() {
                Some(message) => Some(HttpFrame::data(message)),
                None => trailers.take().map(HttpFrame::trailers),
            },
            Body::Stream(streaming) => return streaming.poll_frame(cx).map(|frame| frame.map(Ok)),
            Body::Lines(lines) => {
                let line = std::task::ready!(lines.poll_next(cx));
                line.map(|line| HttpFrame::data(Frame::plain(line.into())))
            }
            Body::Raft(body, _) => {
                let frame = std::task::ready!(body.as_mut().poll_frame(cx));
                frame.map(|Ok(frame)| frame.map_data(Frame::plain))
            }
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Plain(data) => data.is_none(),
            Body::Unary(message, trailers) => message.is_none() && trailers.is_none(),
            Body::Stream(streaming) => streaming.phase == Phase::Over,
            Body::Lines(lines) => lines.is_over(),
            Body::Raft(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Plain(Some(data)) => SizeHint::with_exact(data.remaining() as u64),
            Body::Empty | Body::Plain(None) => SizeHint::with_exact(0),
            Body::Unary(..) | Body::Stream(_) | Body::Lines(_) => SizeHint::default(),
            Body::Raft(body, _) => body.size_hint(),
        }
    }
}

type Handler = Pin<Box<dyn Future<Output = Result<(), Status>>>>;

/// A handler and what it has sent. The handler runs when its response is asked
/// for more: no task of its own, no channel, and a closed flow control window
/// stops it.
pub(crate) struct Streaming {
    handler: Handler,
    waiting: Rc<RefCell<Waiting>>,
    tally: Tally,
    phase: Phase,
}

/// What a handler sends.
pub(crate) enum Sent {
    /// A message, with gRPC's prefix.
    Message(Frame),
    /// How it has ended.
    End(Result<(), Status>),
}

#[derive(PartialEq, Eq)]
enum Phase {
    Running,
    /// The handler has ended; what it sent may still wait.
    Ended(Result<(), Status>),
    Over,
}

/// Messages sent and not yet taken by the connection.
#[derive(Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    sent: u64,
}

/// The sink of one call.
pub(crate) struct Sink(Rc<RefCell<Waiting>>);

/// A sink and the place that it fills.
pub(crate) struct Outlet(Rc<RefCell<Waiting>>);

impl Outlet {
    pub(crate) fn new() -> (Sink, Outlet) {
        let waiting = Rc::new(RefCell::new(Waiting::default()));
        (Sink(Rc::clone(&waiting)), Outlet(waiting))
    }
}

impl ResponseSink for Sink {
    async fn send_parts(&mut self, head: Bytes, tail: Bytes) {
        // The response polls the handler again once nothing waits, so no waker
        // needs to be kept.
        poll_fn(|_| {
            let full = self.0.borrow().bytes >= SINK_BYTES_MAX;
            if full { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let frame = Frame::message(head, tail);
        let mut waiting = self.0.borrow_mut();
        waiting.bytes += frame.remaining();
        waiting.sent += 1;
        waiting.frames.push_back(frame);
    }
}

impl Streaming {
    pub(crate) fn new(handler: Handler, outlet: Outlet, tally: Tally) -> Streaming {
        Streaming { handler, waiting: outlet.0, tally, phase: Phase::Running }
    }

    /// Runs the handler until it has sent something or ended. A handler that ends
    /// before it sends anything hands its status back, for a response of trailers
    /// only.
    pub(crate) async fn first(&mut self) -> Option<Result<(), Status>> {
        poll_fn(|cx| self.poll_first(cx)).await
    }

    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Status>>> {
        self.poll_handler(cx);
        if !self.waiting.borrow().frames.is_empty() {
            return Poll::Ready(None);
        }
        match &self.phase {
            Phase::Running => Poll::Pending,
            Phase::Ended(result) => Poll::Ready(Some(result.clone())),
            Phase::Over => Poll::Ready(None),
        }
    }

    fn poll_handler(&mut self, cx: &mut Context<'_>) {
        if self.phase != Phase::Running {
            return;
        }
        if let Poll::Ready(result) = self.handler.as_mut().poll(cx) {
            self.tally.end(&result);
            self.phase = Phase::Ended(result);
        }
        let sent = std::mem::take(&mut self.waiting.borrow_mut().sent);
        self.tally.sent(sent);
    }

    fn take(&mut self) -> Option<Frame> {
        let mut waiting = self.waiting.borrow_mut();
        let frame = waiting.frames.pop_front()?;
        waiting.bytes -= frame.remaining();
        self.tally.sent_bytes(frame.remaining() as u64);
        Some(frame)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<HttpFrame<Frame>>> {
        self.poll_next(cx).map(|sent| {
            sent.map(|sent| match sent {
                Sent::Message(frame) => HttpFrame::data(frame),
                Sent::End(result) => HttpFrame::trailers(trailers(&result)),
            })
        })
    }

    /// What the handler has sent next; `None` after its end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        if self.waiting.borrow().frames.is_empty() {
            self.poll_handler(cx);
        }
        if let Some(frame) = self.take() {
            return Poll::Ready(Some(Sent::Message(frame)));
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Running => {
                self.phase = Phase::Running;
                Poll::Pending
            }
            Phase::Ended(result) => Poll::Ready(Some(Sent::End(result))),
            Phase::Over => Poll::Ready(None),
        }
    }
}
