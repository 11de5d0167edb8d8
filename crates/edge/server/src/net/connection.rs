//! One connection, from its first byte to its last.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mainstay_types::limits::{HEADER_BYTES_MAX, STREAMS_PER_CONNECTION_MAX};
use tokio::io::{AsyncRead, AsyncWrite};

use super::authority::Forgiving;
use super::door::{Accepted, Greeted, HEADER_TIMEOUT};
use super::gather::Gather;
use super::listener::Face;
use super::lobby::Ticket;
use super::metered::Metered;
use super::rewound::Opening;
use super::shard::{Seat, Stop};
use crate::call::Peer;
use crate::gateway::Takeover;
use crate::grpc::{self, Body};
use crate::http::{self as face, Asked};
use crate::member::Member;
use crate::raft_face::is_raft;
use crate::tls::until_revoked;

/// How long the last bytes to a client may take to leave.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a connection until it ends.
pub(crate) async fn serve<M: Member>(seat: Rc<Seat<M>>, accepted: Accepted) {
    let Accepted { mut io, opening, remote, face, common_name, let_in, permit, ticket } = accepted;
    if io.settle().is_err() {
        return;
    }
    let tls = matches!(io, Greeted::Tls(_));
    let peer = Rc::new(Peer { address: remote, tls, common_name, ender: ticket.ender().clone() });
    let ticket = Rc::new(ticket);
    let open = Cell::new(0);
    let route = Rc::new(Route { seat, face, peer, ticket: Rc::clone(&ticket), open });
    let speaking = async {
        match io {
            Greeted::Plain(io) => speak(route, opening, io).await,
            Greeted::Tls(io) => speak(route, opening, *io).await,
        }
    };
    ticket.ender().unless_ended(until_revoked(let_in.as_ref(), speaking)).await;
    drop(permit);
}

async fn speak<M, IO>(route: Rc<Route<M>>, opening: Opening, io: IO)
where
    M: Member,
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    // An error here ends one connection that had begun to talk: the client's
    // business, seen in its own log.
    let outcome = match opening {
        Opening::Http2 => speak_http2(route, io).await,
        Opening::Http1 | Opening::Tls => speak_http1(route, io).await,
        Opening::Nothing => Ok(()),
    };
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "connection ended");
    }
}

async fn speak_http2<M, IO>(route: Rc<Route<M>>, io: IO) -> hyper::Result<()>
where
    M: Member,
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let stop = route.seat.stop.clone();
    let builder = http2_builder(&route.seat);
    let metered = Metered::http2(io, Rc::clone(&route.ticket));
    // Boxed: hyper and tokio move a call's future four times before it first runs.
    let service = service_fn(move |request| Box::pin(http2_request(Rc::clone(&route), request)));
    let gather = Gather::new(Forgiving::new(metered));
    let io = TokioIo::new(gather.clone());
    let connection = builder.serve_connection(io, service);
    drive(pin!(connection), &gather, &stop).await
}

/// Speaks HTTP/1, and whatever a request has switched the connection to after that.
async fn speak_http1<M, IO>(route: Rc<Route<M>>, io: IO) -> hyper::Result<()>
where
    M: Member,
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let stop = route.seat.stop.clone();
    let takeover = Takeover::default();
    let slot = takeover.clone();
    let metered = Metered::http1(io, Rc::clone(&route.ticket));
    let service = service_fn(move |request| {
        Box::pin(http1_request(Rc::clone(&route), Some(slot.clone()), request))
    });
    let mut gather = Gather::new(metered);
    let io = TokioIo::new(gather.clone());
    let mut connection = http1_builder().serve_connection(io, service);
    drive(Pin::new(&mut connection), &gather, &stop).await?;
    match takeover.take() {
        None => {
            let shutdown = poll_fn(|cx| Pin::new(&mut gather).poll_shutdown(cx));
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, shutdown).await;
        }
        Some(session) => {
            let hyper::server::conn::http1::Parts { io, read_buf, .. } = connection.into_parts();
            drop(gather);
            if let Some(mut io) = io.into_inner().into_inner() {
                // Who takes over counts what it holds.
                io.count_no_more();
                session(Box::new(io), read_buf).await;
            }
        }
    }
    Ok(())
}

/// What a connection's requests have in common.
struct Route<M> {
    seat: Rc<Seat<M>>,
    face: Face,
    peer: Rc<Peer>,
    ticket: Rc<Ticket>,
    /// Requests without an answer yet.
    open: Cell<usize>,
}

impl<M: Member> Route<M> {
    /// Whether an answer of success to a request with these headers shows that the client
    /// may do something here: what needs no credentials, while they are asked for, shows
    /// nothing.
    fn is_telling(&self, path: &str, headers: &HeaderMap) -> bool {
        let member = &self.seat.http.member;
        !member.auth_enabled()
            || headers.contains_key("token")
            || headers.contains_key(AUTHORIZATION)
            || self.peer.common_name.is_some()
            || path.ends_with("/Authenticate")
            || path.ends_with("/authenticate")
    }

    /// Counts a request that has begun.
    fn begin(self: &Rc<Self>, path: &str, headers: &HeaderMap) -> Begun<M> {
        self.open.set(self.open.get() + 1);
        let telling = !self.ticket.is_known() && self.is_telling(path, headers);
        Begun { route: Rc::clone(self), telling }
    }
}

/// A request without an answer yet.
struct Begun<M> {
    route: Rc<Route<M>>,
    telling: bool,
}

impl<M> Begun<M> {
    /// It is answered.
    fn answered(&self, well: bool) {
        if self.telling && well {
            self.route.ticket.become_known();
        }
    }
}

impl<M> Drop for Begun<M> {
    fn drop(&mut self) {
        let open = self.route.open.get() - 1;
        self.route.open.set(open);
        if open == 0 {
            self.route.ticket.settled();
        }
    }
}

async fn http2_request<M: Member>(
    route: Rc<Route<M>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let seat = &route.seat;
    let grpc = match route.face {
        // On a plain socket HTTP/2 is gRPC's, as behind etcd's multiplexer.
        Face::Client => !route.peer.tls || grpc::is_grpc(request.headers()),
        Face::ClientGrpc => true,
        Face::ClientHttp | Face::Metrics | Face::Peer => false,
    };
    if grpc {
        let limits = &seat.limits;
        let begun = route.begin(request.uri().path(), request.headers());
        let response = grpc::serve(&seat.services, limits, &seat.cells, &route.peer, request).await;
        // A call that is refused says so in its headers.
        begun.answered(!response.headers().contains_key("grpc-status"));
        return Ok(response);
    }
    // Boxed: every call of every client would otherwise carry its room along.
    Box::pin(http1_request(route, None, request)).await
}

async fn http1_request<M: Member>(
    route: Rc<Route<M>>,
    takeover: Option<Takeover>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let begun = route.begin(request.uri().path(), request.headers());
    let response = answer(&route, takeover, request).await;
    begun.answered(response.status().is_success());
    Ok(response)
}

async fn answer<M: Member>(
    route: &Route<M>,
    takeover: Option<Takeover>,
    request: Request<Incoming>,
) -> Response<Body> {
    if route.face == Face::Peer
        && is_raft(request.uri().path())
        && let Some(raft) = &route.seat.raft
    {
        let response = raft.answer(request, &route.peer.address).await;
        let open = route.seat.raft_answers.one_more();
        return response.map(|body| Body::Raft(body, open));
    }
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, ());
    let (face, peer) = (route.face, Rc::clone(&route.peer));
    let asked = Asked { face, peer, request, body: Some(body), takeover };
    face::answer(&route.seat.http, asked).await
}

fn http2_builder<M: Member>(seat: &Seat<M>) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    let keepalive = seat.keepalive;
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(seat.max_concurrent_streams.min(STREAMS_PER_CONNECTION_MAX))
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(keepalive.interval)
        .keep_alive_timeout(keepalive.timeout);
    builder
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
}

/// hyper's connections, of either version.
trait Connection {
    /// Runs it to its end. HTTP/1 leaves it to the caller to close the socket.
    fn poll_run(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    fn wind_down(self: Pin<&mut Self>);
}

impl<I, S, B> Connection for http1::Connection<I, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S: Unpin,
    S::Future: Unpin,
{
    fn poll_run(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.get_mut().poll_without_shutdown(cx)
    }

    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B, E> Connection for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn poll_run(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.poll(cx)
    }

    fn wind_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Polls hyper, then writes what it gathered, once.
async fn drive<C, IO>(
    mut connection: Pin<&mut C>,
    io: &Gather<IO>,
    stop: &Stop,
) -> hyper::Result<()>
where
    C: Connection,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut stopping = pin!(stop.wait());
    let mut watched = false;
    let mut winding_down = false;
    let outcome = poll_fn(|cx| {
        if !watched || (stop.is_set() && !winding_down) {
            // Polled once so that the stop wakes this task; later turns look at a flag.
            watched = true;
            if stopping.as_mut().poll(cx).is_ready() || stop.is_set() {
                winding_down = true;
                connection.as_mut().wind_down();
            }
        }
        let outcome = connection.as_mut().poll_run(cx);
        match io.poll_write_out(cx) {
            // hyper will see the same error when it next reads.
            Poll::Ready(Err(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) | Poll::Pending => outcome,
        }
    })
    .await;
    // What was gathered in the last turn.
    let rest = poll_fn(|cx| io.poll_write_out(cx));
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, rest).await;
    outcome
}

/// Runs hyper's tasks on this thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        // The task lives as long as its call; nobody waits for it. Not wrapped in an
        // async block: that would hold the future twice, and copy it once more.
        drop(tokio::task::spawn_local(future));
    }
}
