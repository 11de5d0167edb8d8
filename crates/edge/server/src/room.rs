//! How much of clients' unfinished messages a shard holds.
//!
//! Who asks for room may not have said who it is yet. When there is none left, whoever has
//! held some for longest gives it up: a message of an honest client is here within moments,
//! one of which a byte comes every few seconds is not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::status::{Code, Status};

/// Nobody gives up room sooner.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

/// The room of a shard; cheap to clone.
#[derive(Clone)]
pub(crate) struct Room(Rc<Inner>);

struct Inner {
    max: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    taken: usize,
    /// In the order in which they began to hold something.
    holders: BTreeMap<u64, Holder>,
    next: u64,
}

struct Holder {
    since: Instant,
    bytes: usize,
    waker: Option<Waker>,
}

/// What one request has taken; given back when dropped.
pub(crate) struct Held {
    room: Room,
    /// While it holds something.
    number: Option<u64>,
}

impl Room {
    /// Room for so many bytes.
    pub(crate) fn new(max: usize) -> Room {
        Room(Rc::new(Inner { max, state: RefCell::default() }))
    }

    pub(crate) fn hold(&self) -> Held {
        Held { room: self.clone(), number: None }
    }
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Holder> {
        let holder = self.holders.remove(&number)?;
        self.taken -= holder.bytes;
        Some(holder)
    }

    /// Lets others give up what they hold until `taken` is at most `most`; whether it is.
    fn make_room(&mut self, most: usize, except: Option<u64>) -> bool {
        while self.taken > most {
            let others = self.holders.iter().filter(|(number, _)| Some(**number) != except);
            let Some((&first, holder)) = others.take(1).next() else { return false };
            if holder.since.elapsed() < GIVEN_UP_AFTER {
                return false;
            }
            if let Some(waker) = self.remove(first).and_then(|holder| holder.waker) {
                waker.wake();
            }
        }
        true
    }
}

fn full() -> Status {
    let text = "mainstay: too many request bodies are being read, try again";
    Status::new(Code::ResourceExhausted, text)
}

impl Held {
    /// Holds so many bytes from now on.
    ///
    /// # Errors
    /// `ResourceExhausted` when there is no room for them, or what was held had to be given
    /// up.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Status> {
        let mut state = self.room.0.state.borrow_mut();
        let before = match self.number {
            None => 0,
            Some(number) => state.holders.get(&number).ok_or_else(full)?.bytes,
        };
        if bytes == 0 {
            self.number.take().map(|number| state.remove(number));
            return Ok(());
        }
        if bytes > before {
            let most = self.room.0.max.checked_sub(bytes - before).ok_or_else(full)?;
            if !state.make_room(most, self.number) {
                return Err(full());
            }
        }
        state.taken = state.taken - before + bytes;
        match self.number.and_then(|number| state.holders.get_mut(&number)) {
            Some(holder) => holder.bytes = bytes,
            None => {
                let number = state.next;
                state.next += 1;
                state.holders.insert(number, Holder { since: Instant::now(), bytes, waker: None });
                self.number = Some(number);
            }
        }
        Ok(())
    }

    /// Ready once what it holds has to be given up.
    pub(crate) fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(number) = self.number else { return Poll::Pending };
        match self.room.0.state.borrow_mut().holders.get_mut(&number) {
            None => Poll::Ready(full()),
            Some(holder) => {
                if !holder.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    holder.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// The same, to wait for.
    pub(crate) async fn lost(&self) -> Status {
        poll_fn(|cx| self.poll_lost(cx)).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.room.0.state.borrow_mut().remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(room: &Room) {
        for holder in room.0.state.borrow_mut().holders.values_mut() {
            let earlier = Instant::now().checked_sub(GIVEN_UP_AFTER);
            holder.since = earlier.expect("the machine runs for longer");
        }
    }

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
        assert!(one.set(11).is_err(), "more than there is");
        drop(one);
        let state = room.0.state.borrow();
        assert_eq!((state.taken, state.holders.len()), (0, 0));
    }

    #[test]
    fn who_has_held_for_longest_gives_up() {
        let room = Room::new(10);
        let (mut first, mut second, mut third) = (room.hold(), room.hold(), room.hold());
        first.set(4).expect("room");
        second.set(4).expect("room");
        assert!(third.set(5).is_err(), "nobody has held for long");
        age(&room);
        third.set(5).expect("the first gives up");
        assert!(first.set(4).is_err(), "and is told");
        second.set(5).expect("room");
        age(&room);
        second.set(6).expect("its own room is not taken from it");
        assert!(third.set(1).is_err());
        drop((first, second, third));
        assert_eq!(room.0.state.borrow().taken, 0);
    }
}
