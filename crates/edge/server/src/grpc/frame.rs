//! A piece of a response body.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::answers::Keep;

/// Up to three pieces that go out in one DATA frame: gRPC's prefix, a message's
/// head and its shared tail.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    prefix: [u8; PREFIX_BYTES],
    /// How much of `prefix` has gone out.
    prefix_sent: usize,
    head: Bytes,
    tail: Bytes,
    /// Given back with the last byte.
    #[expect(dead_code, reason = "dropped with the frame")]
    keep: Option<Keep>,
}

/// A flag byte and a length of four.
pub(crate) const PREFIX_BYTES: usize = 5;

impl Frame {
    /// Bytes as they are.
    pub(crate) fn plain(bytes: Bytes) -> Frame {
        Frame { prefix_sent: PREFIX_BYTES, head: bytes, ..Frame::default() }
    }

    /// An uncompressed gRPC message.
    pub(crate) fn message(head: Bytes, tail: Bytes) -> Frame {
        Frame { prefix: prefix(head.len() + tail.len()), head, tail, ..Frame::default() }
    }

    /// The same, with the room that it takes.
    pub(crate) fn keeping(self, keep: Option<Keep>) -> Frame {
        Frame { keep, ..self }
    }
}

impl Frame {
    /// Leaves gRPC's prefix out, for who sends the message in another form.
    pub(crate) fn skip_prefix(&mut self) {
        self.prefix_sent = PREFIX_BYTES;
    }
}

/// The prefix of an uncompressed message.
pub(crate) fn prefix(len: usize) -> [u8; PREFIX_BYTES] {
    let len = u32::try_from(len).expect("no longer than RESPONSE_BYTES_MAX");
    let [a, b, c, d] = len.to_be_bytes();
    [0, a, b, c, d]
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        PREFIX_BYTES - self.prefix_sent + self.head.len() + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        if self.prefix_sent < PREFIX_BYTES {
            &self.prefix[self.prefix_sent..]
        } else if !self.head.is_empty() {
            &self.head
        } else {
            &self.tail
        }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let pieces = [&self.prefix[self.prefix_sent..], &self.head, &self.tail];
        let mut filled = 0;
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            if filled == out.len() {
                break;
            }
            out[filled] = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        let prefix = count.min(PREFIX_BYTES - self.prefix_sent);
        self.prefix_sent += prefix;
        count -= prefix;
        let head = count.min(self.head.len());
        self.head.advance(head);
        self.tail.advance(count - head);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_same_in_steps_of_any_size() {
        let frame = || Frame::message(Bytes::from_static(b"head"), Bytes::from_static(b"tail!"));
        let whole = frame().copy_to_bytes(frame().remaining());
        assert_eq!(&whole[..], b"\0\0\0\0\x09headtail!");
        for step in 1..whole.len() {
            let mut frame = frame();
            let mut seen = Vec::new();
            while frame.has_remaining() {
                let piece = frame.copy_to_bytes(step.min(frame.remaining()));
                seen.extend_from_slice(&piece);
            }
            assert_eq!(seen, whole);
        }
    }
}
