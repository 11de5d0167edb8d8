//! How much of clients' texts a shard holds.

use std::cell::Cell;
use std::rc::Rc;

use crate::status::{Code, Status};

/// The room of a shard. Who asks for it may not have said who it is yet.
#[derive(Clone)]
pub(crate) struct Room {
    taken: Rc<Cell<usize>>,
    max: usize,
}

/// What one request has taken; given back when dropped.
pub(crate) struct Held {
    room: Room,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(max: usize) -> Room {
        Room { taken: Rc::default(), max }
    }

    pub(crate) fn hold(&self) -> Held {
        Held { room: self.clone(), bytes: 0 }
    }
}

impl Held {
    /// Holds so many bytes from now on.
    ///
    /// # Errors
    /// `ResourceExhausted` when there is no room for them.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Status> {
        let others = self.room.taken.get() - self.bytes;
        if bytes > self.bytes && others + bytes > self.room.max {
            let text = "mainstay: too many request bodies are being read, try again";
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        self.room.taken.set(others + bytes);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.taken.set(self.room.taken.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let room = Room::new(10);
        let (mut one, mut other) = (room.hold(), room.hold());
        one.set(6).expect("room");
        assert!(other.set(5).is_err());
        other.set(4).expect("room");
        one.set(2).expect("less always fits");
        drop(other);
        one.set(10).expect("room again");
        drop(one);
        assert_eq!(room.taken.get(), 0);
    }
}
