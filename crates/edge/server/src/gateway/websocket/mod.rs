//! Calls of the gateway over a websocket, for browsers: each line of JSON is a message, in
//! both directions (etcd's wsproxy).
//!
//! Whatever the upgrade's own method, the call is a POST. Its token stands in the
//! subprotocol (`Sec-WebSocket-Protocol: Bearer, TOKEN`) or in the cookie `token`. Pings of
//! the client are answered; like etcd, we send none.

mod feed;
pub(crate) mod frames;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Response, StatusCode};
use mainstay_json::{base64_decode, base64_encode};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::metadata::marked;
use super::{Begun, Gateway, call, lines, route};
use crate::grpc::{Body, Service};
use crate::http::{Asked, error};
use crate::room::Held;
use crate::status::Status;
use frames::{Op, Wrong};

/// A connection's bytes in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

type Session = Box<dyn FnOnce(Box<dyn Io>, Bytes) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Who goes on with a connection after the response that switches its protocol. Its end of
/// the connection is given to it together with what was already read.
#[derive(Clone, Default)]
pub(crate) struct Takeover(Rc<RefCell<Option<Session>>>);

impl Takeover {
    /// Who goes on, if anybody does.
    pub(crate) fn take(&self) -> Option<Session> {
        self.0.borrow_mut().take()
    }
}

/// Whether a request asks for a websocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

/// The answer to an upgrade: the session begins when it has been sent.
pub(super) fn open<S: Service>(
    gateway: &Gateway<S>,
    asked: &Asked,
    path: String,
    takeover: &Takeover,
) -> Response<Body> {
    let headers = asked.request.headers();
    let key = match handshake(asked.request.method(), headers) {
        Ok(key) => key,
        Err(code) => {
            let mut refusal = error(code, code.canonical_reason().unwrap_or_default());
            let version = HeaderValue::from_static("13");
            refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, version);
            return refusal;
        }
    };
    let subprotocol = headers.get(SEC_WEBSOCKET_PROTOCOL);
    let bearer = subprotocol.is_some_and(|value| value.as_bytes().starts_with(b"Bearer"));
    let made = route(&path, &Verb::POST).and_then(|route| {
        Ok((route, call(route, &HeaderMap::new(), metadata(headers), &asked.peer)?))
    });
    let (gateway, max) = (gateway.clone(), gateway.bounds.text);
    let session: Session = Box::new(move |io, read| {
        let held = gateway.bounds.room.hold();
        let inbox = BytesMut::from(&read[..]);
        let socket =
            Socket { io, inbox, outbox: BytesMut::new(), message: None, max, held, closed: false };
        Box::pin(async move {
            let (feed, fed) = feed::pair();
            let begun = async move {
                let (route, call) = made?;
                gateway.begin(route, call, fed, false).await
            };
            serve(socket, &feed, begun).await;
        })
    });
    *takeover.0.borrow_mut() = Some(session);
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept(&key));
    if bearer {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("Bearer"));
    }
    response
}

/// The client's key, or how its handshake is refused.
fn handshake(verb: &Verb, headers: &HeaderMap) -> Result<HeaderValue, StatusCode> {
    if verb != Verb::GET {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !has_token(headers, SEC_WEBSOCKET_VERSION, "13") {
        return Err(StatusCode::BAD_REQUEST);
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(StatusCode::BAD_REQUEST)?;
    let mut nonce = Vec::new();
    let decoded = key.to_str().ok().and_then(|key| base64_decode(key, &mut nonce));
    if decoded.is_none() || nonce.len() != NONCE_BYTES {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(key.clone())
}

const NONCE_BYTES: usize = 16;

/// What proves that the key was understood (RFC 6455, 1.3).
fn accept(key: &HeaderValue) -> HeaderValue {
    let mut hasher = Sha1::new();
    hasher.update(key.as_bytes());
    hasher.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut text = Vec::new();
    base64_encode(&hasher.finalize(), &mut text);
    HeaderValue::from_bytes(&text).expect("base64 is printable")
}

/// The token of a websocket: of its cookie, else of its subprotocol.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut told = marked();
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let cookies = text(COOKIE).unwrap_or_default().split(';');
    let cookie = cookies.filter_map(|pair| pair.trim().strip_prefix("token=")).next();
    let subprotocol = text(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.split_once("Bearer,"));
    let token = cookie.or(subprotocol.map(|(_, token)| token.trim()));
    if let Some(Ok(value)) = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))) {
        told.insert(AUTHORIZATION, value);
    }
    told
}

/// Carries a call over a websocket until either ends.
async fn serve(
    mut socket: Socket,
    feed: &feed::Feed,
    begun: impl Future<Output = Result<Begun, Status>>,
) {
    let ended = async {
        let mut many = match socket.beside(feed, begun).await? {
            Ok(Begun::Many(lines)) => lines,
            Ok(Begun::One(text, _keep)) => return socket.send(Op::Text, &text).await,
            Err(status) => {
                let mut text = Vec::new();
                lines::describe(&status, &mut text);
                return socket.send(Op::Text, &text).await;
            }
        };
        while let Some(line) = socket.beside(feed, many.next()).await? {
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            socket.send(Op::Text, line).await?;
        }
        Ok(())
    };
    let code: u16 = match ended.await {
        Ok(()) => NORMAL,
        Err(End::Wrong(wrong)) => wrong as u16,
        // Said already, or nobody is there.
        Err(End::Closed | End::Gone) => return,
    };
    let _ = socket.send(Op::Close, &code.to_be_bytes()).await;
    // The client closes first, or we do it without it.
    let rest = async { while socket.read().await.is_ok() {} };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, rest).await;
}

/// The close code of a call that has ended.
const NORMAL: u16 = 1000;
/// How long a client may take to answer our end (ours).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a session ends before its call does.
enum End {
    /// The client closed it.
    Closed,
    /// The client is gone.
    Gone,
    /// The client does not speak the protocol.
    Wrong(Wrong),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> End {
        End::Gone
    }
}

struct Socket {
    io: Box<dyn Io>,
    inbox: BytesMut,
    /// Encoded frames on their way.
    outbox: BytesMut,
    /// The beginning of a message that comes in several frames.
    message: Option<BytesMut>,
    /// Bytes that a message may have.
    max: usize,
    held: Held,
    /// The client has closed it.
    closed: bool,
}

impl Socket {
    /// `work`, while what the client sends is passed on.
    async fn beside<T>(
        &mut self,
        feed: &feed::Feed,
        work: impl Future<Output = T>,
    ) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            let read = async {
                feed.emptied().await;
                self.read().await
            };
            let message = tokio::select! {
                biased;
                value = &mut work => return Ok(value),
                message = read => message?,
            };
            feed.write(message);
            feed.write(Bytes::from_static(b"\n"));
        }
    }

    /// The next message; cancelling this loses nothing.
    async fn read(&mut self) -> Result<Bytes, End> {
        loop {
            self.write_out().await?;
            if self.closed {
                return Err(End::Closed);
            }
            if let Some(frame) = frames::take(&mut self.inbox, self.max).map_err(End::Wrong)? {
                let message = self.take(frame).map_err(End::Wrong)?;
                self.hold()?;
                match message {
                    Some(message) => return Ok(message),
                    None => continue,
                }
            }
            let count = tokio::select! {
                biased;
                count = self.io.read_buf(&mut self.inbox) => count?,
                _ = self.held.lost() => return Err(End::Wrong(Wrong::NoRoom)),
            };
            if count == 0 {
                return Err(End::Gone);
            }
            self.hold()?;
        }
    }

    /// Counts what waits here among all that waits on this shard.
    fn hold(&mut self) -> Result<(), End> {
        let begun = self.message.as_ref().map_or(0, BytesMut::len);
        let held = self.held.set(self.inbox.len() + begun);
        held.map_err(|_| End::Wrong(Wrong::NoRoom))
    }

    fn take(&mut self, frame: frames::Frame) -> Result<Option<Bytes>, Wrong> {
        match (frame.op, &mut self.message) {
            (Op::Ping, _) => self.queue(Op::Pong, &frame.payload),
            (Op::Pong, _) => {}
            (Op::Close, _) => {
                self.queue(Op::Close, frame.payload.get(..2).unwrap_or_default());
                self.closed = true;
            }
            (Op::Text | Op::Binary, None) if frame.last => return Ok(Some(frame.payload)),
            (Op::Text | Op::Binary, None) => {
                self.message = Some(BytesMut::from(&frame.payload[..]));
            }
            (Op::Continue, Some(message)) => {
                if message.len() + frame.payload.len() > self.max {
                    return Err(Wrong::TooLong);
                }
                message.extend_from_slice(&frame.payload);
                if frame.last {
                    return Ok(self.message.take().map(BytesMut::freeze));
                }
            }
            (Op::Text | Op::Binary, Some(_)) | (Op::Continue, None) => {
                return Err(Wrong::Protocol);
            }
        }
        Ok(None)
    }

    fn queue(&mut self, op: Op, payload: &[u8]) {
        self.outbox.extend_from_slice(&frames::encode(op, payload));
    }

    /// Writes what is queued; cancelling this loses nothing.
    async fn write_out(&mut self) -> Result<(), End> {
        while !self.outbox.is_empty() {
            let written = self.io.write(&self.outbox).await?;
            if written == 0 {
                return Err(End::Gone);
            }
            self.outbox.advance(written);
        }
        self.io.flush().await?;
        Ok(())
    }

    async fn send(&mut self, op: Op, payload: &[u8]) -> Result<(), End> {
        self.queue(op, payload);
        self.write_out().await
    }
}
