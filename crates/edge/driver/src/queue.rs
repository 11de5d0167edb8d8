//! A bounded queue between two threads that sleeps at once.
//!
//! A channel that spins and yields before it sleeps makes sense when an answer is
//! a microsecond away. Here it is a disk away: with crossbeam's channels a lone put
//! cost fifteen `sched_yield`s and a third of its CPU time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Why an item was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The bound is reached.
    Full,
    /// The receiver is gone.
    Closed,
}

/// Why there is no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// None came in time.
    Timeout,
    /// All senders are gone and the queue is empty.
    Closed,
}

struct Inner<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
    emptied: Condvar,
    bound: usize,
    senders: AtomicUsize,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    /// Receivers asleep, so that a wake-up that nobody needs costs nothing.
    asleep: usize,
    blocked: usize,
}

/// The sending end.
pub(crate) struct Sender<T>(Arc<Inner<T>>);

/// The receiving end; clones share it.
pub(crate) struct Receiver<T>(Arc<Inner<T>>);

/// A queue of at most `bound` items.
pub(crate) fn bounded<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    assert!(bound > 0, "a queue without room blocks for ever");
    let state = State { items: VecDeque::new(), closed: false, asleep: 0, blocked: 0 };
    let inner = Arc::new(Inner {
        state: Mutex::new(state),
        filled: Condvar::new(),
        emptied: Condvar::new(),
        bound,
        senders: AtomicUsize::new(1),
    });
    (Sender(Arc::clone(&inner)), Receiver(inner))
}

impl<T> Sender<T> {
    /// Queues an item, or says why not.
    pub(crate) fn try_send(&self, item: T) -> Result<(), Refused> {
        self.try_send_quietly(item)?;
        self.announce();
        Ok(())
    }

    /// As [`Sender::try_send`], but a receiver that sleeps goes on sleeping until
    /// [`Sender::announce`].
    pub(crate) fn try_send_quietly(&self, item: T) -> Result<(), Refused> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.items.len() >= self.0.bound {
            return Err(Refused::Full);
        }
        state.items.push_back(item);
        Ok(())
    }

    /// Wakes a receiver that sleeps although there is something for it.
    pub(crate) fn announce(&self) {
        let state = self.0.state.lock();
        let wake = state.asleep > 0 && !state.items.is_empty();
        drop(state);
        if wake {
            self.0.filled.notify_one();
        }
    }

    /// Queues an item, waiting for room; refused only when the receiver is gone.
    pub(crate) fn send(&self, item: T) -> Result<(), Refused> {
        let mut state = self.0.state.lock();
        while !state.closed && state.items.len() >= self.0.bound {
            state.blocked += 1;
            self.0.emptied.wait(&mut state);
            state.blocked -= 1;
        }
        if state.closed {
            return Err(Refused::Closed);
        }
        self.put(state, item);
        Ok(())
    }

    fn put(&self, mut state: parking_lot::MutexGuard<'_, State<T>>, item: T) {
        state.items.push_back(item);
        let wake = state.asleep > 0;
        drop(state);
        if wake {
            self.0.filled.notify_one();
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Under the lock, so that nobody falls asleep between the look and the call.
            let _state = self.0.state.lock();
            self.0.filled.notify_all();
        }
    }
}

impl<T> Receiver<T> {
    /// The next item, waiting for it.
    pub(crate) fn recv(&self) -> Result<T, Nothing> {
        self.take(|inner, state| {
            inner.filled.wait(state);
            true
        })
    }

    /// The next item, waiting for at most `patience`.
    pub(crate) fn recv_timeout(&self, patience: Duration) -> Result<T, Nothing> {
        let mut woken = true;
        self.take(|inner, state| {
            let again = std::mem::replace(&mut woken, false);
            again && !inner.filled.wait_for(state, patience).timed_out()
        })
    }

    /// Returns once there is an item, which stays there, or after `patience`.
    pub(crate) fn wait(&self, patience: Duration) {
        let mut state = self.0.state.lock();
        if state.items.is_empty() {
            state.asleep += 1;
            // Whether in time or not, the caller looks at everything.
            let _ = self.0.filled.wait_for(&mut state, patience);
            state.asleep -= 1;
        }
    }

    /// The next item, if there is one.
    pub(crate) fn try_recv(&self) -> Option<T> {
        let mut state = self.0.state.lock();
        let item = state.items.pop_front();
        self.make_room(&state);
        item
    }

    /// `wait` sleeps once and answers whether to look again, but for one last time.
    fn take(
        &self,
        mut wait: impl FnMut(&Inner<T>, &mut parking_lot::MutexGuard<'_, State<T>>) -> bool,
    ) -> Result<T, Nothing> {
        let mut state = self.0.state.lock();
        let mut patient = true;
        loop {
            if let Some(item) = state.items.pop_front() {
                self.make_room(&state);
                return Ok(item);
            }
            if self.0.senders.load(Ordering::Acquire) == 0 {
                return Err(Nothing::Closed);
            }
            if !patient {
                return Err(Nothing::Timeout);
            }
            state.asleep += 1;
            patient = wait(&self.0, &mut state);
            state.asleep -= 1;
        }
    }

    fn make_room(&self, state: &State<T>) {
        if state.blocked > 0 {
            self.0.emptied.notify_one();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        Receiver(Arc::clone(&self.0))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // Other receivers may go on; who shares one closes with the last.
        let ends = self.0.senders.load(Ordering::Acquire) + 1;
        if Arc::strong_count(&self.0) <= ends {
            let mut state = self.0.state.lock();
            state.closed = true;
            let left = std::mem::take(&mut state.items);
            self.0.emptied.notify_all();
            drop(state);
            drop(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_the_bound_holds() {
        let (sender, receiver) = bounded(2);
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Ok(()));
        assert_eq!(sender.try_send(3), Err(Refused::Full));
        assert_eq!(
            (receiver.recv(), receiver.try_recv(), receiver.try_recv()),
            (Ok(1), Some(2), None)
        );
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Err(Nothing::Timeout));
    }

    #[test]
    fn either_end_learns_that_the_other_is_gone() {
        let (sender, receiver) = bounded(1);
        sender.send(1).expect("room");
        drop(sender);
        assert_eq!((receiver.recv(), receiver.recv()), (Ok(1), Err(Nothing::Closed)));
        let (sender, receiver) = bounded(1);
        drop(receiver);
        assert_eq!(
            (sender.send(1), sender.try_send(1)),
            (Err(Refused::Closed), Err(Refused::Closed))
        );
    }

    #[test]
    fn many_senders_and_a_full_queue_lose_nothing() {
        let (sender, receiver) = bounded(3);
        let threads: Vec<_> = (0..4)
            .map(|t| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    (0..1000).for_each(|n| sender.send(t * 1000 + n).expect("open"))
                })
            })
            .collect();
        drop(sender);
        let mut all: Vec<i32> = std::iter::from_fn(|| receiver.recv().ok()).collect();
        threads.into_iter().for_each(|t| t.join().expect("sent"));
        all.sort_unstable();
        assert_eq!(all, (0..4000).collect::<Vec<_>>());
    }

    #[test]
    fn a_sleeping_receiver_wakes_when_the_last_sender_goes() {
        let (sender, receiver) = bounded::<u8>(1);
        let waits = std::thread::spawn(move || receiver.recv());
        drop(sender);
        assert_eq!(waits.join().expect("no panic"), Err(Nothing::Closed));
    }
}
