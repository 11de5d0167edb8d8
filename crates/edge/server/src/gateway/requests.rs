//! The messages in a body of JSON, bounded before they are held.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use mainstay_json::{Cut, ReadError, Values, read};
use mainstay_proto::shape::Shape;

use crate::method::Method;
use crate::metrics::grpc::GrpcCells;
use crate::room::{Held, Room};
use crate::status::{Code, Status};
use crate::stream::RequestMessages;

/// How long the next piece of a body that must be whole may take (ours; etcd has no bound).
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a body may hold.
#[derive(Clone)]
pub(crate) struct Bounds {
    /// Bytes of a message.
    pub(crate) message: usize,
    /// Bytes of its text.
    pub(crate) text: usize,
    /// What all bodies of the shard may hold.
    pub(crate) room: Room,
}

impl Bounds {
    /// For messages of up to `message` bytes. In base64 they are a third longer, and a name
    /// and quotes stand around each field; what is written with more white space, or with
    /// letters as escapes, than that leaves room for must be sent over gRPC.
    pub(crate) fn new(message: usize, room: usize) -> Bounds {
        let text = message.saturating_mul(2);
        Bounds { message, text, room: Room::new(room.max(text)) }
    }

    fn message(&self, shape: &'static Shape, text: &[u8]) -> Result<Bytes, Status> {
        match read(shape, text, self.message) {
            Ok(message) => Ok(message.into()),
            Err(ReadError::TooLong { .. }) => Err(too_long(text.len(), self.message)),
            Err(error) => Err(Status::new(Code::InvalidArgument, error.to_string())),
        }
    }
}

fn too_long(len: usize, max: usize) -> Status {
    let text = format!("grpc: received message larger than max ({len} vs. {max})");
    Status::new(Code::ResourceExhausted, text)
}

fn gone() -> Status {
    Status::new(Code::Canceled, "context canceled")
}

async fn next_piece<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Result<Option<Bytes>, Status> {
    loop {
        let next = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let frame = tokio::time::timeout(PIECE_TIMEOUT, next).await;
        match frame.map_err(|_| Status::deadline_exceeded())? {
            None => return Ok(None),
            Some(Err(_)) => return Err(gone()),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The one message of a body: its first object, or none of the fields when the body is
/// empty. The rest of the body is waited for and passed over if `whole` (as etcd does).
pub(crate) async fn only<B: Body<Data = Bytes> + Unpin>(
    bounds: &Bounds,
    shape: &'static Shape,
    mut body: B,
    whole: bool,
) -> Result<Bytes, Status> {
    // A length that is announced is refused before anything is read.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bounds.text {
        return Err(too_long(announced, bounds.text));
    }
    let (mut values, mut held) = (Values::default(), bounds.room.hold());
    let (mut object, mut total) = (None, 0);
    while whole || object.is_none() {
        let piece = tokio::select! {
            biased;
            piece = next_piece(&mut body) => piece?,
            lost = held.lost() => return Err(lost),
        };
        let Some(piece) = piece else { break };
        total += piece.len();
        if total > bounds.text {
            return Err(too_long(total, bounds.text));
        }
        if object.is_some() {
            continue;
        }
        held.set(total)?;
        values.add(&piece);
        match values.cut() {
            Cut::Object(found) => object = Some(found),
            Cut::More { .. } => {}
            Cut::Other => {
                let text = "proto: syntax error (line 1:1): unexpected token, want an object";
                return Err(Status::new(Code::InvalidArgument, text));
            }
        }
    }
    match object {
        Some(object) => bounds.message(shape, &object),
        None if values.waiting() > 0 => Err(Status::new(Code::InvalidArgument, "unexpected EOF")),
        None => Ok(Bytes::new()),
    }
}

/// The messages of a stream: one object after another.
pub(crate) struct Requests<B> {
    bounds: Bounds,
    method: &'static Method,
    shape: &'static Shape,
    cells: Rc<GrpcCells>,
    values: Values,
    held: Held,
    /// Until it has ended, or brought something that is no message: then the call goes on
    /// as if the client had closed its side, which is what etcd's gateway does.
    body: Option<B>,
}

impl<B> Requests<B> {
    pub(crate) fn new(
        bounds: &Bounds,
        method: &'static Method,
        shape: &'static Shape,
        cells: &Rc<GrpcCells>,
        body: B,
    ) -> Requests<B> {
        Requests {
            bounds: bounds.clone(),
            method,
            shape,
            cells: Rc::clone(cells),
            values: Values::default(),
            held: bounds.room.hold(),
            body: Some(body),
        }
    }

    /// The next message of those that are here.
    fn waiting(&mut self) -> Option<Result<Bytes, Status>> {
        self.body.as_ref()?;
        let object = match self.values.cut() {
            Cut::Object(object) => object,
            Cut::More { .. } => return None,
            Cut::Other => {
                self.body = None;
                return None;
            }
        };
        // Less than before: it fits.
        let _ = self.held.set(self.values.waiting());
        let message = self.bounds.message(self.shape, &object);
        if let Ok(message) = &message {
            self.cells.received(self.method, message.len());
        }
        Some(message)
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Status> {
        let total = self.values.waiting() + piece.len();
        if total > self.bounds.text {
            return Err(too_long(total, self.bounds.text));
        }
        self.held.set(total)?;
        self.values.add(piece);
        Ok(())
    }
}

impl<B: Body<Data = Bytes> + Unpin + 'static> RequestMessages for Requests<B> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.waiting() {
                Some(Err(status)) if status.code == Code::InvalidArgument => self.body = None,
                Some(message) => return Poll::Ready(Some(message)),
                None => {}
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            let frame = match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return self.held.poll_lost(cx).map(|lost| Some(Err(lost))),
            };
            match frame {
                None => self.body = None,
                Some(Err(_)) => return Poll::Ready(Some(Err(gone()))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && let Err(status) = self.take(&data)
                    {
                        return Poll::Ready(Some(Err(status)));
                    }
                }
            }
        }
    }
}
