//! The JSON gateway: every call of the client API below `/v3/`, for whoever has no gRPC.
//!
//! A request's JSON becomes the bytes of a message, which go to the same services as those
//! of a gRPC call and past the same checks; the answer's bytes become JSON again. Streams
//! are lines, also over a websocket. What stands where is etcd 3.7's (grpc-gateway v2).

mod lines;
mod metadata;
mod requests;
mod routes;
mod websocket;

use std::cell::Cell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Response, StatusCode};
use mainstay_json as json;

use crate::answers::Keep;
use crate::call::{Call, Peer};
use crate::grpc::{self, Body, Frame, Only, Service};
use crate::http::Asked;
use crate::method::Kind;
use crate::metrics::grpc::{GrpcCells, Tally};
use crate::status::{Code, Status};

pub(crate) use lines::Lines;
use requests::{Bounds, Requests};
use routes::Route;
pub(crate) use routes::below;
pub(crate) use websocket::{Takeover, frames as websocket_frames};

/// The gateway of one shard.
pub(crate) struct Gateway<S> {
    services: S,
    cells: Rc<GrpcCells>,
    bounds: Bounds,
}

impl<S: Clone> Clone for Gateway<S> {
    fn clone(&self) -> Gateway<S> {
        let (services, cells) = (self.services.clone(), Rc::clone(&self.cells));
        Gateway { services, cells, bounds: self.bounds.clone() }
    }
}

/// What a call has begun to answer.
enum Begun {
    /// All of it.
    One(Vec<u8>, Option<Keep>),
    /// Line by line.
    Many(Lines),
}

impl<S: Service> Gateway<S> {
    /// A gateway to `services` for messages of up to `message` bytes, of whose texts up to
    /// `room` bytes may wait at the same time.
    pub(crate) fn new(
        services: S,
        cells: &Rc<GrpcCells>,
        message: usize,
        room: usize,
    ) -> Gateway<S> {
        let bounds = Bounds::new(message, room);
        Gateway { services, cells: Rc::clone(cells), bounds }
    }

    /// Answers a request whose path is [`below`] the gateway.
    pub(crate) async fn answer(&self, asked: &mut Asked, path: &str) -> Response<Body> {
        let headers = asked.request.headers();
        if websocket::is_wanted(headers)
            && let Some(slot) = asked.takeover.take()
        {
            return websocket::open(self, asked, path.to_owned(), &slot);
        }
        let (verb, body) = (asked.request.method(), asked.body.take());
        let admitted = route(path, verb).and_then(|route| {
            let metadata = metadata::metadata(headers);
            Ok((route, call(route, headers, metadata, &asked.peer)?))
        });
        // A request without its body does not get here.
        let ((route, call), body) = match admitted.map(|admitted| body.map(|body| (admitted, body)))
        {
            Ok(Some(admitted)) => admitted,
            Ok(None) => return refusal(&Status::internal("the body was taken")),
            Err(status) => return refusal(&status),
        };
        let mut response = match self.begin(route, call, body, true).await {
            Err(status) => refusal(&status),
            Ok(Begun::One(text, keep)) => {
                response(StatusCode::OK, Frame::plain(text.into()).keeping(keep))
            }
            Ok(Begun::Many(lines)) => stream(lines).await,
        };
        // The call's own headers, as grpc-gateway hands them on.
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(FROM_CALL, grpc);
        response
    }

    /// Makes the call with what is in `body`, of which `whole` must have come before the one
    /// message of a call is believed.
    async fn begin<B>(
        &self,
        route: Route,
        call: Call,
        body: B,
        whole: bool,
    ) -> Result<Begun, Status>
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
    {
        let (method, shapes) = (route.method, route.call);
        if method.kind == Kind::BidiStream {
            let tally = Tally::start(&self.cells, method);
            let requests = Requests::new(&self.bounds, method, shapes.request, &self.cells, body);
            let streaming = grpc::streaming(self.services.clone(), call, requests, tally);
            return Ok(Begun::Many(Lines::new(streaming, shapes.response)));
        }
        let message = requests::only(&self.bounds, shapes.request, body, whole).await?;
        let mut tally = Tally::start(&self.cells, method);
        tally.received(message.len());
        if method.kind == Kind::ServerStream {
            let only = Only(Some(message));
            let streaming = grpc::streaming(self.services.clone(), call, only, tally);
            return Ok(Begun::Many(Lines::new(streaming, shapes.response)));
        }
        let mut out = BytesMut::new();
        grpc::unary(&self.services, &call, message, &mut out, &mut tally).await?;
        let mut text = Vec::with_capacity(out.len() * 2);
        json::write(shapes.response, &out, &mut text).map_err(lines::unwritable)?;
        Ok(Begun::One(text, call.keep.take()))
    }
}

const FROM_CALL: HeaderName = HeaderName::from_static("grpc-metadata-content-type");

/// The call that a request is about. Every path is for POST only.
fn route(path: &str, verb: &Verb) -> Result<Route, Status> {
    let route = routes::find(path).ok_or_else(|| Status::new(Code::NotFound, "Not Found"))?;
    if verb == Verb::POST { Ok(route) } else { Err(Status::unimplemented("Method Not Allowed")) }
}

fn call(
    route: Route,
    headers: &HeaderMap,
    metadata: HeaderMap,
    peer: &Rc<Peer>,
) -> Result<Call, Status> {
    let timeout = metadata::patience(headers)?;
    Ok(Call {
        method: route.method,
        metadata,
        peer: Rc::clone(peer),
        timeout,
        keep: Cell::default(),
    })
}

/// The response of a stream, once it has sent something or ended.
async fn stream(mut lines: Lines) -> Response<Body> {
    let code = match lines.first().await {
        Some(Err(status)) => http_status(status.code),
        Some(Ok(())) | None => StatusCode::OK,
    };
    let mut response = Response::new(Body::Lines(Box::new(lines)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn response(code: StatusCode, text: Frame) -> Response<Body> {
    let mut response = Response::new(Body::Plain(Some(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The response of a call that failed.
fn refusal(status: &Status) -> Response<Body> {
    let mut text = Vec::new();
    lines::describe(status, &mut text);
    let mut response = response(http_status(status.code), Frame::plain(text.into()));
    if status.code == Code::Unauthenticated
        && let Ok(why) = HeaderValue::from_str(&status.message)
    {
        response.headers_mut().insert(WWW_AUTHENTICATE, why);
    }
    response
}

/// What a gRPC code is in HTTP (grpc-gateway v2).
fn http_status(code: Code) -> StatusCode {
    let number = match code {
        Code::Ok => 200,
        Code::Canceled => 499,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::ResourceExhausted => 429,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    };
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
