//! One connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mainstay_types::limits::HEADER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite};

use super::authority::Forgiving;
use super::gather::Gather;
use super::listener::{Accepted, Face};
use super::rewound::{Opening, Rewound};
use super::shard::{Seat, Stop};
use super::socket::Socket;
use crate::call::Peer;
use crate::gateway::Takeover;
use crate::grpc::{self, Body};
use crate::http::{self as face, Asked};
use crate::member::Member;
use crate::raft_face::is_raft;
use crate::tls::{Tls, reason, until_revoked};

/// How long a TLS handshake may take (etcd 3.7.1, CVE-2026-73500).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first bytes and the headers of an HTTP/1 request may take (ours;
/// etcd 5 min).
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves a connection until it ends.
pub(crate) async fn serve<M: Member>(seat: Rc<Seat<M>>, accepted: Accepted) {
    let Accepted { socket, remote, listener, permit } = accepted;
    let listener = &Arc::clone(&seat.listeners)[listener];
    let result = match socket.settle() {
        Ok(socket) => {
            if listener.face == Face::Peer {
                socket.give_up_after(seat.peer_write_timeout);
            }
            let tls = listener.tls.clone();
            open(&seat, listener.face, listener.plain, tls, socket, remote.clone()).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        rejected(listener.face, &remote, &error);
    }
    drop(permit);
}

/// Operators' scripts look for this line.
fn rejected(face: Face, remote: &str, error: &io::Error) {
    match face {
        Face::Peer => {
            tracing::warn!("remote-addr" = remote, error = %error, "rejected connection on peer endpoint");
        }
        Face::Metrics | Face::Client | Face::ClientGrpc | Face::ClientHttp => {
            tracing::warn!("remote-addr" = remote, error = %error, "rejected connection on client endpoint");
        }
    }
}

/// Sees what the client speaks. An error is a connection that never got as far as
/// a request.
async fn open<M: Member>(
    seat: &Rc<Seat<M>>,
    face: Face,
    plain: bool,
    tls: Option<Arc<Tls>>,
    socket: Socket,
    remote: String,
) -> io::Result<()> {
    let patience = if plain { HEADER_TIMEOUT } else { HANDSHAKE_TIMEOUT };
    let looking = seat.unless_stopped(Rewound::look(socket));
    let Ok(looked) = tokio::time::timeout(patience, looking).await else { return Ok(()) };
    let Some(looked) = looked else { return Ok(()) };
    // A client that resets before it has said anything is a port probe.
    let Ok((opening, io)) = looked else { return Ok(()) };
    match (opening, tls) {
        (Opening::Nothing, _) => Ok(()),
        (Opening::Tls, Some(tls)) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
            let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(io)).await;
            let stream = accepted
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out"))?
                .map_err(|error| io::Error::new(error.kind(), reason(&error)))?;
            let place = tls.check_place(stream.get_ref().1.peer_certificates(), &remote);
            // Names are looked up for it, by a resolver that may be slow.
            let checked = tokio::time::timeout(HANDSHAKE_TIMEOUT, place).await;
            checked
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out"))?
                .map_err(io::Error::other)?;
            let shown = stream.get_ref().1.peer_certificates();
            let let_in = tls.let_in(shown).map_err(io::Error::other)?;
            let common_name = tls.user_of(shown);
            let peer = Rc::new(Peer { address: remote, tls: true, common_name });
            let looking = seat.unless_stopped(Rewound::look(stream));
            let Ok(Some(Ok((opening, io)))) = tokio::time::timeout(HEADER_TIMEOUT, looking).await
            else {
                return Ok(());
            };
            until_revoked(let_in.as_ref(), speak(seat, face, opening, io, peer)).await;
            Ok(())
        }
        (Opening::Tls, None) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS handshake on a plain listener"))
        }
        (Opening::Http1 | Opening::Http2, _) if !plain => {
            let text = "tls: first record does not look like a TLS handshake";
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
        (opening, _) => {
            let peer = Rc::new(Peer { address: remote, tls: false, common_name: None });
            speak(seat, face, opening, io, peer).await;
            Ok(())
        }
    }
}

async fn speak<M, IO>(seat: &Rc<Seat<M>>, face: Face, opening: Opening, io: IO, peer: Rc<Peer>)
where
    M: Member,
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let route = Rc::new(Route { seat: Rc::clone(seat), face, peer });
    // An error here ends one connection that had begun to talk: the client's
    // business, seen in its own log.
    let outcome = match opening {
        Opening::Http2 => {
            // Boxed: hyper and tokio move a call's future four times before it first runs.
            let service =
                service_fn(move |request| Box::pin(http2_request(Rc::clone(&route), request)));
            let gather = Gather::new(Forgiving::new(io));
            let io = TokioIo::new(gather.clone());
            let connection = http2_builder(seat).serve_connection(io, service);
            drive(pin!(connection), &gather, &seat.stop).await
        }
        Opening::Http1 | Opening::Tls => speak_http1(seat, route, io).await,
        Opening::Nothing => Ok(()),
    };
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "connection ended");
    }
}

/// Speaks HTTP/1, and whatever a request has switched the connection to after that.
async fn speak_http1<M, IO>(seat: &Seat<M>, route: Rc<Route<M>>, io: IO) -> hyper::Result<()>
where
    M: Member,
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let takeover = Takeover::default();
    let slot = takeover.clone();
    let service = service_fn(move |request| {
        Box::pin(http1_request(Rc::clone(&route), Some(slot.clone()), request))
    });
    let mut gather = Gather::new(io);
    let io = TokioIo::new(gather.clone());
    let mut connection = http1_builder().serve_connection(io, service);
    drive(Pin::new(&mut connection), &gather, &seat.stop).await?;
    match takeover.take() {
        None => {
            let shutdown = poll_fn(|cx| Pin::new(&mut gather).poll_shutdown(cx));
            let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, shutdown).await;
        }
        Some(session) => {
            let hyper::server::conn::http1::Parts { io, read_buf, .. } = connection.into_parts();
            drop(gather);
            if let Some(io) = io.into_inner().into_inner() {
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
        let limits = seat.limits;
        return Ok(grpc::serve(&seat.services, limits, &seat.cells, &route.peer, request).await);
    }
    // Boxed: every call of every client would otherwise carry its room along.
    Box::pin(http1_request(route, None, request)).await
}

async fn http1_request<M: Member>(
    route: Rc<Route<M>>,
    takeover: Option<Takeover>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if route.face == Face::Peer
        && is_raft(request.uri().path())
        && let Some(raft) = &route.seat.raft
    {
        let response = raft.answer(request, &route.peer.address).await;
        let open = route.seat.raft_answers.one_more();
        return Ok(response.map(|body| Body::Raft(body, open)));
    }
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, ());
    let (face, peer) = (route.face, Rc::clone(&route.peer));
    let asked = Asked { face, peer, request, body: Some(body), takeover };
    Ok(face::answer(&route.seat.http, asked).await)
}

fn http2_builder<M: Member>(seat: &Seat<M>) -> http2::Builder<LocalExecutor> {
    let mut builder = http2::Builder::new(LocalExecutor);
    let keepalive = seat.keepalive;
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(seat.max_concurrent_streams)
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
    let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, rest).await;
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
