//! Bytes that have arrived and not been read.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes, BytesMut};

/// A queue of chunks, read as if it were one. What lies in one chunk is sliced;
/// what spans several is copied, once, and so are small chunks behind others: a
/// message that arrives byte by byte takes no more memory than one that does not.
#[derive(Debug, Default)]
pub struct Intake {
    chunks: VecDeque<Bytes>,
    /// Small chunks, joined; after all of `chunks`.
    tail: BytesMut,
    length: usize,
}

/// A chunk below this is joined with others.
const SMALL_BYTES: usize = 4 << 10;
/// Joined chunks of this size are one large chunk.
const JOINED_BYTES: usize = 64 << 10;

impl Intake {
    /// Adds what has arrived.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        let small = chunk.len() < SMALL_BYTES && self.length > 0;
        self.length += chunk.len();
        if small {
            self.tail.extend_from_slice(&chunk);
            if self.tail.len() >= JOINED_BYTES {
                self.close_tail();
            }
        } else {
            self.close_tail();
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes the next byte, if there is one.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    /// Takes the next eight bytes as a number, the highest first, if there are as many.
    pub fn number(&mut self) -> Option<u64> {
        Some(self.take(8)?.get_u64())
    }

    /// Takes the next `count` bytes, if there are as many.
    pub fn take(&mut self, count: usize) -> Option<Bytes> {
        if self.length < count {
            return None;
        }
        self.close_tail();
        self.length -= count;
        let Some(first) = self.chunks.front_mut() else { return Some(Bytes::new()) };
        if first.len() > count {
            return Some(first.split_to(count));
        }
        if first.len() == count {
            return self.chunks.pop_front();
        }
        let mut joined = BytesMut::with_capacity(count);
        while joined.len() < count {
            let first = self.chunks.front_mut().expect("`length` counts what the chunks hold");
            let wanted = first.len().min(count - joined.len());
            joined.extend_from_slice(&first.split_to(wanted));
            if first.is_empty() {
                self.chunks.pop_front();
            }
        }
        Some(joined.freeze())
    }

    /// Takes everything, chunk by chunk.
    pub fn drain(&mut self) -> impl Iterator<Item = Bytes> {
        self.close_tail();
        self.length = 0;
        self.chunks.drain(..)
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
    }
}
