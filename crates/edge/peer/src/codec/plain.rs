//! The stream for messages of every kind: a length of eight bytes, then the message.

use bytes::{BufMut as _, BytesMut};
use mainstay_raft::{Message, MessageKind};
use mainstay_types::MemberId;

use super::message::{decode_message, encode_message, message_len};
use super::{Arrival, Intake, Malformed};

/// Appends a message with its length.
pub fn encode_plain(message: &Message, out: &mut BytesMut) {
    let length = message_len(message);
    out.reserve(8 + length);
    out.put_u64(length as u64);
    encode_message(message, out);
}

/// Appends the heartbeat of the link: a raft heartbeat from nobody to nobody.
pub fn encode_plain_heartbeat(out: &mut BytesMut) {
    encode_plain(&Message { kind: MessageKind::Heartbeat, ..Message::default() }, out);
}

/// Reads such a stream.
#[derive(Debug)]
pub struct PlainDecoder {
    bytes_max: usize,
    /// The length of the message that arrives now.
    length: Option<usize>,
}

impl PlainDecoder {
    /// A reader of messages up to `bytes_max` bytes each.
    pub fn new(bytes_max: usize) -> PlainDecoder {
        PlainDecoder { bytes_max, length: None }
    }

    /// Takes the next message, if it has arrived whole.
    ///
    /// # Errors
    /// The stream cannot be read on.
    pub fn decode(&mut self, intake: &mut Intake) -> Result<Option<Arrival>, Malformed> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(length) = intake.number() else { return Ok(None) };
                let length = usize::try_from(length).ok().filter(|len| *len <= self.bytes_max);
                // Go's words.
                length.ok_or(Malformed("rafthttp: error limit exceeded"))?
            }
        };
        self.length = Some(length);
        let Some(bytes) = intake.take(length) else { return Ok(None) };
        self.length = None;
        let message = decode_message(bytes)?;
        let nobody = message.from == MemberId::NONE && message.to == MemberId::NONE;
        Ok(Some(match message.kind {
            MessageKind::Heartbeat if nobody => Arrival::Heartbeat,
            _ => Arrival::Message(message),
        }))
    }
}
