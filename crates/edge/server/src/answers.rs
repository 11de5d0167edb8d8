//! How much of large answers is under way, on all shards together.
//!
//! An answer is made whole before it leaves, and leaves as fast as its client reads. So what
//! large answers may take is shared out before they are made: one that finds no room waits,
//! and while somebody waits, an answer whose client has had time enough is given up with its
//! connection. Small answers, which are nearly all, have nothing to do with this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_types::limits::{ANSWERS_BYTES_MAX, LARGE_ANSWER_BYTES};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::net::ender::Ender;
use crate::status::{Code, Status};

/// How long a client may take to read a large answer while others wait for room.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// How often who waits looks for those.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The room; what two shards take at the same moment may go beyond it once. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Answers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    state: Mutex<State>,
    /// Somebody has given room back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// In the order in which they were begun.
    large: BTreeMap<u64, Large>,
    next: u64,
}

#[derive(Debug)]
struct Large {
    since: Instant,
    bytes: usize,
    ender: Ender,
}

/// The room of one answer, given back when dropped: with the last of its bytes.
#[derive(Debug)]
pub(crate) struct Keep {
    answers: Answers,
    number: u64,
}

impl Default for Answers {
    fn default() -> Answers {
        Answers::new(ANSWERS_BYTES_MAX)
    }
}

impl Answers {
    fn new(max: usize) -> Answers {
        Answers(Arc::new(Inner { max, state: Mutex::default(), freed: Notify::new() }))
    }

    /// Room for an answer of about so many bytes on the connection of `ender`, within
    /// `patience`; `None` for a small one.
    ///
    /// # Errors
    /// `ResourceExhausted` when there was none.
    pub(crate) async fn room(
        &self,
        bytes: usize,
        ender: &Ender,
        patience: Duration,
    ) -> Result<Option<Keep>, Status> {
        if bytes < LARGE_ANSWER_BYTES {
            return Ok(None);
        }
        let begun = Instant::now();
        loop {
            let freed = self.0.freed.notified();
            if let Some(keep) = self.take(bytes, ender) {
                return Ok(Some(keep));
            }
            if begun.elapsed() >= patience {
                let text = "mainstay: too many large answers are under way, try again";
                return Err(Status::new(Code::ResourceExhausted, text));
            }
            // Woken or not, it looks again.
            let _ = tokio::time::timeout(LOOK_EVERY.min(patience), freed).await;
            self.end_slow();
        }
    }

    /// The room of an answer that is there already, and larger than was thought.
    pub(crate) fn take_anyway(&self, bytes: usize, ender: &Ender) -> Option<Keep> {
        (bytes >= LARGE_ANSWER_BYTES).then(|| self.put(bytes, ender))
    }

    /// One that is larger than all the room is let through alone.
    fn take(&self, bytes: usize, ender: &Ender) -> Option<Keep> {
        let taken = self.0.state.lock().taken;
        let fits = taken == 0 || taken.saturating_add(bytes) <= self.0.max;
        fits.then(|| self.put(bytes, ender))
    }

    fn put(&self, bytes: usize, ender: &Ender) -> Keep {
        let mut state = self.0.state.lock();
        let number = state.next;
        state.next += 1;
        state.taken += bytes;
        let large = Large { since: Instant::now(), bytes, ender: ender.clone() };
        state.large.insert(number, large);
        Keep { answers: self.clone(), number }
    }

    fn end_slow(&self) {
        for large in self.0.state.lock().large.values() {
            if large.since.elapsed() >= READ_WITHIN {
                large.ender.end();
            }
        }
    }
}

impl Keep {
    /// What the answer has come to.
    pub(crate) fn set(&self, bytes: usize) {
        let mut state = self.answers.0.state.lock();
        let Some(large) = state.large.get_mut(&self.number) else { return };
        let before = std::mem::replace(&mut large.bytes, bytes);
        state.taken = state.taken - before + bytes;
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        let mut state = self.answers.0.state.lock();
        if let Some(large) = state.large.remove(&self.number) {
            state.taken -= large.bytes;
        }
        drop(state);
        self.answers.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIG: usize = 10 * LARGE_ANSWER_BYTES;

    fn ended(ender: &Ender) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(ender.unless_ended(std::future::ready(()))).is_none()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_finds_no_room_waits_for_it() {
        let (answers, ender) = (Answers::new(BIG), Ender::default());
        let room = |bytes| answers.room(bytes, &ender, Duration::from_millis(50));
        assert!(room(1).await.expect("small").is_none());
        let alone = room(3 * BIG).await.expect("alone").expect("large");
        let waited = room(BIG).await;
        assert_eq!(waited.map(drop).expect_err("no room").code, Code::ResourceExhausted);
        let (next, ()) = tokio::join!(room(BIG), async {
            tokio::task::yield_now().await;
            drop(alone);
        });
        let next = next.expect("room").expect("large");
        next.set(BIG / 2);
        let other = room(BIG / 2).await.expect("room");
        drop((next, other));
        let state = answers.0.state.lock();
        assert_eq!((state.taken, state.large.len()), (0, 0));
    }

    #[test]
    fn who_reads_for_too_long_is_ended_when_others_wait() {
        let (answers, slow, quick) = (Answers::new(BIG), Ender::default(), Ender::default());
        let _one = answers.take(BIG / 2, &slow).expect("room");
        let _other = answers.take(BIG / 2, &quick).expect("room");
        let earlier = Instant::now().checked_sub(READ_WITHIN).expect("the machine runs for longer");
        answers.0.state.lock().large.get_mut(&0).expect("it is there").since = earlier;
        answers.end_slow();
        assert!(ended(&slow));
        assert!(!ended(&quick));
    }
}
