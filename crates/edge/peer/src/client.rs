//! Requests to other members: HTTP/1 over TCP or unix sockets, with TLS or without.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mainstay_types::limits::{PEER_ANSWER_BYTES_MAX, PEER_IDLE_CONNECTIONS_MAX};
use parking_lot::Mutex;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use mainstay_server::{ClientTls, LetIn, until_revoked};

use crate::tls;
use crate::transport::Options;
use crate::url::{Origin, Place};

/// How long a TLS handshake may take (etcd).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often certificates are looked at when nobody is dialled.
const CERTIFICATES_LOOKED_AT: Duration = Duration::from_secs(1);
/// How often the kernel probes an idle connection (etcd: 30 s).
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// What a request carries.
pub(crate) enum OutBody {
    Whole(Option<Bytes>),
    /// Pieces that another thread provides; an error cuts the request off.
    Parts(mpsc::Receiver<io::Result<Bytes>>),
}

impl OutBody {
    pub(crate) fn empty() -> OutBody {
        OutBody::Whole(None)
    }

    pub(crate) fn whole(bytes: Bytes) -> OutBody {
        OutBody::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl http_body::Body for OutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            OutBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            OutBody::Parts(parts) => {
                parts.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, OutBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            OutBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            OutBody::Parts(_) => SizeHint::default(),
        }
    }
}

/// Opens connections.
pub(crate) struct Dialer {
    tls: Option<Arc<ClientTls>>,
    /// How long connecting may take.
    timeout: Duration,
    /// How long what was written may lie.
    write_timeout: Duration,
    /// Where connections leave from, if that is not the system's to choose.
    local_addr: Option<IpAddr>,
}

/// A socket with or without TLS around it.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Dialer {
    pub(crate) fn new(tls: Option<ClientTls>, options: &Options) -> Dialer {
        let Options { dial_timeout: timeout, write_timeout, local_addr, .. } = *options;
        Dialer { tls: tls.map(Arc::new), timeout, write_timeout, local_addr }
    }

    /// Opens a connection to `origin`. It ends when it is dropped.
    ///
    /// # Errors
    /// Nobody there, or not who it should be; the text names the address.
    pub(crate) async fn connect(&self, origin: &Origin) -> io::Result<Connection> {
        let (io, let_in) = self.open(origin).await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(io)).await.map_err(io::Error::other)?;
        let task = tokio::task::spawn_local(async move {
            if let Some(Err(error)) = until_revoked(let_in.as_ref(), connection).await {
                tracing::debug!(error = %error, "connection to a peer ended");
            }
        });
        Ok(Connection { sender, task: EndOnDrop(task) })
    }

    async fn reach(&self, place: &str) -> io::Result<TcpStream> {
        match self.local_addr {
            Some(from) => connect_from(from, place).await,
            None => TcpStream::connect(place).await,
        }
    }

    /// A connection, and whether it is one that lasts only until a certificate is revoked.
    async fn open(&self, origin: &Origin) -> io::Result<(Box<dyn Io>, Option<LetIn>)> {
        let named = |error: io::Error| {
            let host = origin.host();
            io::Error::new(error.kind(), format!("dial {host}: {error}"))
        };
        let socket: Box<dyn Io> = match &origin.place {
            Place::Tcp(place) => {
                let connecting = tokio::time::timeout(self.timeout, self.reach(place));
                let socket = connecting.await.map_err(|_| named(timed_out()))?.map_err(named)?;
                settle(&socket, self.write_timeout);
                Box::new(socket)
            }
            Place::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(named)?),
        };
        if !origin.tls {
            return Ok((socket, None));
        }
        let Some(own) = &self.tls else {
            return Err(named(io::Error::other("no certificates for an https peer URL")));
        };
        let handshake = tls::handshake(own, origin, socket);
        let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await;
        let (stream, let_in) = stream.map_err(|_| named(timed_out()))?.map_err(named)?;
        Ok((Box::new(stream), let_in))
    }

    /// Has certificates that changed read again every second, also when nobody is dialled:
    /// those whose certificates are revoked are let go. Ends at once without TLS.
    pub(crate) async fn look_at_certificates(&self) {
        while let Some(tls) = self.tls.clone() {
            // Elsewhere: a list of revoked certificates may be long.
            if tokio::task::spawn_blocking(move || tls.look()).await.is_err() {
                return;
            }
            tokio::time::sleep(CERTIFICATES_LOOKED_AT).await;
        }
    }
}

/// Connects from an address of our own; one of another family than that is passed over.
async fn connect_from(from: IpAddr, place: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::other("it has no address of the family of the member's own");
    for to in tokio::net::lookup_host(place).await?.filter(|to| to.is_ipv4() == from.is_ipv4()) {
        let socket = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(from, 0))?;
        match socket.connect(to).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")
}

/// Best effort: a socket that is closed already fails when it is used.
fn settle(socket: &TcpStream, write_timeout: Duration) {
    let lies = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
    let _ = sockopt::set_tcp_user_timeout(socket, lies);
    let _ = socket.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true)
        .and_then(|()| sockopt::set_tcp_keepidle(socket, TCP_KEEPALIVE))
        .and_then(|()| sockopt::set_tcp_keepintvl(socket, TCP_KEEPALIVE));
}

/// An open connection.
pub(crate) struct Connection {
    sender: SendRequest<OutBody>,
    #[expect(dead_code, reason = "ends the connection with this")]
    task: EndOnDrop,
}

struct EndOnDrop(JoinHandle<()>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Sends a request and waits for the head of its answer. The body ends with the
    /// connection.
    ///
    /// # Errors
    /// hyper's.
    pub(crate) async fn send(
        &mut self,
        request: Request<OutBody>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Sends a request as [`Connection::send`] does, and says more when there is no answer.
    async fn try_send(
        &mut self,
        request: Request<OutBody>,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.sender.ready().await.map_err(|error| Unanswered::Unsent(told(error)))?;
        self.sender.try_send_request(request).await.map_err(|error| match error.message() {
            Some(_) => Unanswered::Unsent(told(error.into_error())),
            None => Unanswered::MaybeSent(told(error.into_error())),
        })
    }
}

/// Why a request has no answer, and what is known of it.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Nothing of it was written.
    Unsent(io::Error),
    /// It may have arrived.
    MaybeSent(io::Error),
}

impl From<Unanswered> for io::Error {
    fn from(unanswered: Unanswered) -> io::Error {
        match unanswered {
            Unanswered::Unsent(error) | Unanswered::MaybeSent(error) => error,
        }
    }
}

/// Connections to one peer that wait for the next request.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<(Origin, Connection)>>);

impl Pool {
    fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.0.lock();
        idle.retain(|(_, connection)| !connection.sender.is_closed());
        let at = idle.iter().rposition(|(known, _)| known == origin)?;
        Some(idle.swap_remove(at).1)
    }

    fn put(&self, origin: Origin, connection: Connection) {
        let mut idle = self.0.lock();
        if idle.len() < PEER_IDLE_CONNECTIONS_MAX && !connection.sender.is_closed() {
            idle.push((origin, connection));
        }
    }

    /// Sends a request, and reads the answer whole. An idle connection that the peer has
    /// just closed is replaced by a new one, but what may have arrived is not sent again,
    /// unless it only asks: a proposal that arrives twice is two entries of the log.
    ///
    /// # Errors
    /// No answer.
    pub(crate) async fn ask(
        &self,
        dialer: &Dialer,
        origin: &Origin,
        request: impl Fn() -> Request<OutBody>,
    ) -> Result<Answer, Unanswered> {
        if let Some(mut idle) = self.take(origin) {
            let request = request();
            let only_asks = request.method() == Method::GET;
            match idle.try_send(request).await {
                Ok(response) => return self.finish(origin, idle, response).await,
                Err(Unanswered::Unsent(_)) => {}
                Err(Unanswered::MaybeSent(_)) if only_asks => {}
                Err(maybe_sent) => return Err(maybe_sent),
            }
        }
        let mut connection = dialer.connect(origin).await.map_err(Unanswered::Unsent)?;
        let response = connection.try_send(request()).await?;
        self.finish(origin, connection, response).await
    }

    async fn finish(
        &self,
        origin: &Origin,
        connection: Connection,
        response: Response<Incoming>,
    ) -> Result<Answer, Unanswered> {
        let answer = read(response).await.map_err(Unanswered::MaybeSent)?;
        self.put(origin.clone(), connection);
        Ok(answer)
    }
}

/// An answer that was read whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as text, without its newline.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end_matches('\n').to_owned()
    }
}

/// Reads the body of an answer, within its bound.
///
/// # Errors
/// The connection's, or the bound is reached.
pub(crate) async fn read(response: Response<Incoming>) -> io::Result<Answer> {
    use http_body_util::BodyExt as _;
    let status = response.status().as_u16();
    let limited = http_body_util::Limited::new(response.into_body(), PEER_ANSWER_BYTES_MAX);
    let body = limited.collect().await.map_err(io::Error::other)?.to_bytes();
    Ok(Answer { status, body })
}

/// hyper's error as an IO error, with its cause.
pub(crate) fn told(error: hyper::Error) -> io::Error {
    match std::error::Error::source(&error) {
        Some(cause) => io::Error::other(format!("{error}: {cause}")),
        None => io::Error::other(error),
    }
}
