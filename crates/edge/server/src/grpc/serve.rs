//! One request, from its headers to its trailers.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method as Verb, Request, Response, StatusCode};

use mainstay_types::limits::RESPONSE_BYTES_MAX;

use super::body::{Body, Outlet, Streaming};
use super::frame::{Frame, PREFIX_BYTES, prefix};
use super::messages::Messages;
use super::{Service, percent, timeout};
use crate::call::{Call, Peer};
use crate::method::{Kind, Method, route};
use crate::metrics::grpc::{GrpcCells, Tally};
use crate::room::Room;
use crate::status::{Code, Status};
use crate::stream::RequestMessages as _;

/// What a request may not exceed.
#[derive(Clone)]
pub(crate) struct Limits {
    /// Bytes of one request message.
    pub(crate) message_bytes: usize,
    /// Where those that are not complete are held.
    pub(crate) room: Room,
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Whether a content type is gRPC's: `application/grpc`, bare or with a subtype or
/// parameters.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let value = value.as_bytes();
    if value == GRPC.as_bytes() {
        return true;
    }
    let lower = value.to_ascii_lowercase();
    match lower.strip_prefix(GRPC.as_bytes()) {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// Answers one request.
pub(crate) async fn serve<S, B>(
    service: &S,
    limits: &Limits,
    cells: &Rc<GrpcCells>,
    peer: &Rc<Peer>,
    request: Request<B>,
) -> Response<Body>
where
    S: Service,
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    let (parts, body) = request.into_parts();
    let (method, timeout) = match admit(&parts) {
        Ok(admitted) => admitted,
        Err((http, status)) => return refused(http, &status),
    };
    let call = Call {
        method,
        metadata: parts.headers,
        peer: Rc::clone(peer),
        timeout,
        keep: Cell::default(),
    };
    let mut messages = Messages::new(body, limits.message_bytes, limits.room.hold());
    if method.kind == Kind::BidiStream {
        // Boxed, and so is a server stream: unary calls should be small to move.
        return Box::pin(stream(service.clone(), call, messages, cells)).await;
    }
    match within(timeout, messages.next()).await {
        Err(status) | Ok(Some(Err(status))) => refused(StatusCode::OK, &status),
        Ok(None) => refused(StatusCode::OK, &Status::internal("unexpected EOF")),
        Ok(Some(Ok(message))) if method.kind == Kind::ServerStream => {
            let mut tally = Tally::start(cells, method);
            tally.received(message.len());
            let streaming = streaming(service.clone(), call, Only(Some(message)), tally);
            Box::pin(begin(streaming)).await
        }
        Ok(Some(Ok(message))) => answer(service, &call, message, cells).await,
    }
}

/// Which call it is, or the HTTP status and gRPC status that refuse it (the order
/// and the texts are grpc-go's).
fn admit(
    parts: &http::request::Parts,
) -> Result<(&'static Method, Option<Duration>), (StatusCode, Status)> {
    let headers = &parts.headers;
    if !is_grpc(headers) {
        let given = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let given = String::from_utf8_lossy(given);
        let text = format!("invalid gRPC request content-type {given:?}");
        let status = Status::new(Code::InvalidArgument, text);
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, status));
    }
    if parts.method != Verb::POST {
        let verb = parts.method.as_str();
        let text = format!("Received a HEADERS frame with :method {verb:?} which should be POST");
        return Err((StatusCode::METHOD_NOT_ALLOWED, Status::internal(text)));
    }
    let timeout = match headers.get("grpc-timeout") {
        None => None,
        Some(value) => Some(timeout::parse(value.as_bytes()).map_err(|error| {
            let text = format!("malformed grpc-timeout: {error}");
            (StatusCode::BAD_REQUEST, Status::internal(text))
        })?),
    };
    let ok = |status| (StatusCode::OK, status);
    let method = route(parts.uri.path()).map_err(|text| ok(Status::unimplemented(text)))?;
    if let Some(encoding) = headers.get("grpc-encoding").filter(|value| *value != "identity") {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        let text = format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}");
        return Err(ok(Status::unimplemented(text)));
    }
    if timeout == Some(Duration::ZERO) {
        return Err(ok(Status::deadline_exceeded()));
    }
    Ok((method, timeout))
}

async fn answer<S: Service>(
    service: &S,
    call: &Call,
    message: Bytes,
    cells: &Rc<GrpcCells>,
) -> Response<Body> {
    let mut tally = Tally::start(cells, call.method);
    tally.received(message.len());
    let mut out = BytesMut::with_capacity(UNARY_BYTES_GUESS);
    out.put_bytes(0, PREFIX_BYTES);
    if let Err(status) = unary(service, call, message, &mut out, &mut tally).await {
        return refused(StatusCode::OK, &status);
    }
    let len = out.len() - PREFIX_BYTES;
    if len > RESPONSE_BYTES_MAX {
        let text = format!(
            "grpc: trying to send message larger than max ({len} vs. {RESPONSE_BYTES_MAX})"
        );
        return refused(StatusCode::OK, &Status::new(Code::ResourceExhausted, text));
    }
    out[..PREFIX_BYTES].copy_from_slice(&prefix(len));
    tally.sent(1);
    tally.sent_bytes(len as u64);
    let message = Frame::plain(out.freeze()).keeping(call.keep.take());
    respond(Body::Unary(Some(message), Some(trailers(&Ok(())))))
}

/// Makes a unary call for as long as its client waits; the answer is appended to `out`.
pub(crate) async fn unary<S: Service>(
    service: &S,
    call: &Call,
    message: Bytes,
    out: &mut BytesMut,
    tally: &mut Tally,
) -> Result<(), Status> {
    let answer = within(call.timeout, service.unary(call, message, out)).await;
    let result = answer.and_then(|result| result);
    tally.end(&result);
    result
}

/// First capacity of a unary answer: a header and a small value.
const UNARY_BYTES_GUESS: usize = 256;

async fn stream<S, B>(
    service: S,
    call: Call,
    messages: Messages<B>,
    cells: &Rc<GrpcCells>,
) -> Response<Body>
where
    S: Service,
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    let tally = Tally::start(cells, call.method);
    let counted = Counted { messages, cells: Rc::clone(cells), method: call.method };
    begin(streaming(service, call, counted, tally)).await
}

/// A streaming call, which runs for as long as its client waits.
pub(crate) fn streaming<S: Service>(
    service: S,
    call: Call,
    requests: impl crate::stream::RequestMessages,
    tally: Tally,
) -> Streaming {
    let (sink, outlet) = Outlet::new();
    let timeout = call.timeout;
    let handler = async move {
        let serving = service.stream(call, requests, sink);
        within(timeout, serving).await.and_then(|result| result)
    };
    Streaming::new(Box::pin(handler), outlet, tally)
}

async fn begin(mut streaming: Streaming) -> Response<Body> {
    match streaming.first().await {
        Some(result) => respond_with_trailers(&result),
        None => respond(Body::Stream(Box::new(streaming))),
    }
}

/// The one message of a call whose client sends only one.
pub(crate) struct Only(pub(crate) Option<Bytes>);

impl crate::stream::RequestMessages for Only {
    fn poll_next(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, Status>>> {
        std::task::Poll::Ready(self.0.take().map(Ok))
    }
}

/// Messages that are counted as they are taken.
struct Counted<B> {
    messages: Messages<B>,
    cells: Rc<GrpcCells>,
    method: &'static Method,
}

impl<B> crate::stream::RequestMessages for Counted<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    fn poll_next(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, Status>>> {
        let next = self.messages.poll_next(cx);
        if let std::task::Poll::Ready(Some(Ok(message))) = &next {
            self.cells.received(self.method, message.len());
        }
        next
    }
}

/// `future`, as long as the client waits for it.
async fn within<T>(
    timeout: Option<Duration>,
    future: impl Future<Output = T>,
) -> Result<T, Status> {
    match timeout {
        None => Ok(future.await),
        Some(timeout) => {
            tokio::time::timeout(timeout, future).await.map_err(|_| Status::deadline_exceeded())
        }
    }
}

fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// A response of trailers only.
fn refused(http: StatusCode, status: &Status) -> Response<Body> {
    let mut response = respond_with_trailers(&Err(status.clone()));
    *response.status_mut() = http;
    response
}

fn respond_with_trailers(result: &Result<(), Status>) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.headers_mut() = trailers(result);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// The trailers that tell `result`.
pub(crate) fn trailers(result: &Result<(), Status>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    let code = result.as_ref().err().map_or(Code::Ok, |status| status.code);
    trailers.insert("grpc-status", HeaderValue::from_static(code.digits()));
    if let Err(status) = result {
        trailers.insert("grpc-message", percent::encode(&status.message));
    }
    trailers
}
