//! The messages in a request body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};

use super::frame::PREFIX_BYTES;
use crate::room::Held;
use crate::status::{Code, Status};
use crate::stream::RequestMessages;

/// Cuts a request body into messages. A message that lies in one DATA frame is a
/// slice of it; only one that is spread over several is copied together, as far as there is
/// room for it.
pub(crate) struct Messages<B> {
    body: B,
    max_bytes: usize,
    /// What has arrived and was not asked for yet, while it is one piece.
    piece: Bytes,
    /// The same, once more of a message was missing.
    joined: BytesMut,
    /// The room that it takes.
    held: Held,
}

impl<B> Messages<B> {
    /// Messages of up to `max_bytes`.
    pub(crate) fn new(body: B, max_bytes: usize, held: Held) -> Messages<B> {
        Messages { body, max_bytes, piece: Bytes::new(), joined: BytesMut::new(), held }
    }

    fn waiting(&self) -> &[u8] {
        if self.joined.is_empty() { &self.piece } else { &self.joined }
    }

    fn add(&mut self, data: Bytes) {
        if self.waiting().is_empty() {
            self.piece = data;
            return;
        }
        self.join();
        self.joined.extend_from_slice(&data);
    }

    /// Copies a piece that is not enough: it may hold on to more than itself.
    fn join(&mut self) {
        if self.joined.is_empty() {
            self.joined.extend_from_slice(&self.piece);
            self.piece = Bytes::new();
        }
    }

    /// More of a message has to come first.
    fn wait(&mut self) -> Result<Option<Bytes>, Status> {
        if !self.waiting().is_empty() {
            self.held.set(self.waiting().len())?;
            self.join();
        }
        Ok(None)
    }

    /// The next message if all of it is here.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let waiting = self.waiting();
        let Some((prefix, _)) = waiting.split_first_chunk::<PREFIX_BYTES>() else {
            return self.wait();
        };
        let [flag, len @ ..] = *prefix;
        match flag {
            0 => {}
            1 => {
                let text = "grpc: compressed flag set with identity or empty encoding";
                return Err(Status::internal(text));
            }
            other => {
                let text = format!("grpc: received unexpected payload format {other}");
                return Err(Status::internal(text));
            }
        }
        // A length is believed only up to the bound, and no memory is set aside for it.
        let len = u32::from_be_bytes(len) as usize;
        if len > self.max_bytes {
            let max = self.max_bytes;
            let text = format!("grpc: received message larger than max ({len} vs. {max})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if waiting.len() < PREFIX_BYTES + len {
            return self.wait();
        }
        self.held.set(0)?;
        let mut message = if self.joined.is_empty() {
            self.piece.split_to(PREFIX_BYTES + len)
        } else {
            self.joined.split_to(PREFIX_BYTES + len).freeze()
        };
        message.advance(PREFIX_BYTES);
        Ok(Some(message))
    }
}

impl<B> RequestMessages for Messages<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.take() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(status) => return Poll::Ready(Some(Err(status))),
                Ok(None) => {}
            }
            if self.body.is_end_stream() {
                return Poll::Ready(self.at_end());
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return self.held.poll_lost(cx).map(|lost| Some(Err(lost))),
            };
            match frame {
                // Trailers of a request carry nothing in gRPC.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.add(data);
                    }
                }
                // The client has reset the call or is gone.
                Some(Err(_)) => {
                    let status = Status::new(Code::Canceled, "context canceled");
                    return Poll::Ready(Some(Err(status)));
                }
                None => return Poll::Ready(self.at_end()),
            }
        }
    }
}

impl<B> Messages<B> {
    fn at_end(&self) -> Option<Result<Bytes, Status>> {
        // Half a message, as grpc-go names it.
        let cut = !self.waiting().is_empty();
        cut.then(|| Err(Status::internal("unexpected EOF")))
    }
}
