//! What messages take that have not arrived whole, of all peers together.
//!
//! A message may be large, and whoever has a certificate may begin one on every connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mainstay_types::limits::PEER_UNFINISHED_BYTES_MAX;

/// All of it; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unfinished(Arc<AtomicUsize>);

/// The part of one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Part {
    all: Unfinished,
    bytes: usize,
}

/// There is no room for more.
#[derive(Debug)]
pub(crate) struct TooMuch;

impl Unfinished {
    /// The part of one more connection: nothing so far.
    pub(crate) fn part(&self) -> Part {
        Part { all: self.clone(), bytes: 0 }
    }
}

impl Part {
    /// So many bytes wait on this connection.
    ///
    /// # Errors
    /// All that wait together are too many; the connection is to be closed.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), TooMuch> {
        let all = &self.all.0;
        if bytes <= self.bytes {
            all.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        } else {
            let more = bytes - self.bytes;
            let before = all.fetch_add(more, Ordering::Relaxed);
            if before + more > PEER_UNFINISHED_BYTES_MAX {
                all.fetch_sub(more, Ordering::Relaxed);
                return Err(TooMuch);
            }
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_have_one_bound() {
        let all = Unfinished::default();
        let (mut one, mut other) = (all.part(), all.part());
        one.set(PEER_UNFINISHED_BYTES_MAX - 10).expect("room");
        other.set(11).expect_err("no room");
        other.set(10).expect("room");
        one.set(0).expect("less");
        other.set(500).expect("room again");
        drop((one, other));
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }
}
