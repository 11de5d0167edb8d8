//! Messages on their way to one stream of one peer.
//!
//! The consensus thread puts them in, the stream's connection (on a shard of the
//! server) takes all that wait at once. Whoever puts the first one in wakes the
//! connection; those after it cost a push.

use std::collections::VecDeque;
use std::task::Waker;

use mainstay_raft::Message;
use mainstay_types::limits::PEER_STREAM_QUEUE_MAX;
use parking_lot::Mutex;

/// The queue of a stream.
#[derive(Debug, Default)]
pub(crate) struct Lane(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Message>,
    /// The stream that is attached; each has its own number.
    stream: Option<u64>,
    attached_before: u64,
    /// Of the connection, while it waits for messages.
    waker: Option<Waker>,
    /// No stream begins any more, and the one that is attached ends once it has what waits.
    closed: bool,
}

/// What became of a message.
pub(crate) enum Pushed {
    /// It waits; whoever is in this must be woken.
    Queued(Option<Waker>),
    /// Too many wait.
    Full,
    /// There is no stream: here it is again.
    Detached(Message),
}

/// What a stream finds in its lane.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Messages were put into the stream's own queue.
    Messages,
    /// Nothing yet; the stream is woken when there is.
    Nothing,
    /// The stream shall end.
    End,
}

impl Lane {
    /// Adds a message.
    pub(crate) fn push(&self, message: Message) -> Pushed {
        let mut state = self.0.lock();
        if state.stream.is_none() || state.closed {
            return Pushed::Detached(message);
        }
        if state.waiting.len() >= PEER_STREAM_QUEUE_MAX {
            return Pushed::Full;
        }
        state.waiting.push_back(message);
        Pushed::Queued(state.waker.take())
    }

    /// Whether a stream is attached.
    pub(crate) fn is_attached(&self) -> bool {
        self.0.lock().stream.is_some()
    }

    /// Attaches a stream, in place of one that was. `None` when the peer is gone.
    pub(crate) fn attach(&self) -> Option<Attached> {
        let mut state = self.0.lock();
        if state.closed {
            return None;
        }
        let (replaced, lost) = (state.stream.is_some(), std::mem::take(&mut state.waiting));
        state.attached_before += 1;
        state.stream = Some(state.attached_before);
        let attached = Attached { stream: state.attached_before, replaced, lost };
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Some(attached)
    }

    /// Moves what waits to `into`, which is empty.
    pub(crate) fn take(&self, stream: u64, into: &mut VecDeque<Message>, waker: &Waker) -> Found {
        let mut state = self.0.lock();
        if state.stream != Some(stream) {
            return Found::End;
        }
        if state.waiting.is_empty() && state.closed {
            state.stream = None;
            return Found::End;
        }
        if state.waiting.is_empty() {
            match &mut state.waker {
                Some(kept) => kept.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
            return Found::Nothing;
        }
        std::mem::swap(&mut state.waiting, into);
        Found::Messages
    }

    /// A stream has ended. If it was the attached one and the lane is open, these messages
    /// did not leave by it.
    pub(crate) fn detach(&self, stream: u64) -> Option<VecDeque<Message>> {
        let mut state = self.0.lock();
        if state.stream != Some(stream) {
            return None;
        }
        state.stream = None;
        state.waker = None;
        let waiting = std::mem::take(&mut state.waiting);
        (!state.closed).then_some(waiting)
    }

    /// Ends the stream, if there is one; another may begin. What waits is lost.
    pub(crate) fn cut(&self) -> bool {
        let mut state = self.0.lock();
        let was_there = state.stream.take().is_some();
        state.waiting.clear();
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        was_there
    }

    /// Takes no more, lets no other stream begin, and ends this one once what waits has
    /// left by it: a member that is removed shall still hear that it was.
    pub(crate) fn close(&self) {
        let mut state = self.0.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A stream that was attached.
#[derive(Debug, PartialEq)]
pub(crate) struct Attached {
    /// Its number.
    pub(crate) stream: u64,
    /// Whether another one was attached until now.
    pub(crate) replaced: bool,
    /// What did not leave by that.
    pub(crate) lost: VecDeque<Message>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn push(lane: &Lane) -> Option<Waker> {
        match lane.push(Message::default()) {
            Pushed::Queued(waker) => waker,
            Pushed::Full | Pushed::Detached(_) => panic!("there is room"),
        }
    }

    #[test]
    fn a_batch_wakes_once() {
        let lane = Lane::default();
        assert!(matches!(lane.push(Message::default()), Pushed::Detached(_)));
        let stream = lane.attach().expect("open").stream;
        let waker = Waker::from(Arc::new(Woken::default()));
        let mut taken = VecDeque::new();
        assert_eq!(lane.take(stream, &mut taken, &waker), Found::Nothing);
        assert!(push(&lane).is_some());
        assert!(push(&lane).is_none());
        assert_eq!(lane.take(stream, &mut taken, &waker), Found::Messages);
        assert_eq!(taken.len(), 2);
        taken.clear();
        assert!(push(&lane).is_none(), "the connection is awake and looks again");
        assert_eq!(lane.take(stream, &mut taken, &waker), Found::Messages);
    }

    #[test]
    fn a_full_lane_takes_no_more() {
        let lane = Lane::default();
        lane.attach();
        for _ in 0..PEER_STREAM_QUEUE_MAX {
            push(&lane);
        }
        assert!(matches!(lane.push(Message::default()), Pushed::Full));
    }

    #[test]
    fn a_new_stream_ends_the_old_one() {
        let lane = Lane::default();
        let old = lane.attach().expect("open").stream;
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut taken = VecDeque::new();
        assert_eq!(lane.take(old, &mut taken, &waker), Found::Nothing);
        push(&lane);
        let new = lane.attach().expect("open");
        assert_eq!((new.replaced, new.lost.len()), (true, 1));
        assert_eq!(lane.take(old, &mut taken, &waker), Found::End);
        assert_eq!(lane.detach(old), None, "it is not the attached one");
        assert_eq!(lane.take(new.stream, &mut taken, &waker), Found::Nothing);
        lane.close();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(lane.take(new.stream, &mut taken, &waker), Found::End);
        assert_eq!(lane.attach(), None);
    }

    /// A leader that has applied a member's removal must still tell that member that it is
    /// committed: or who asked it to be removed gets no answer.
    #[test]
    fn what_waits_leaves_before_the_end() {
        let lane = Lane::default();
        let stream = lane.attach().expect("open").stream;
        let waker = Waker::from(Arc::new(Woken::default()));
        push(&lane);
        lane.close();
        assert!(matches!(lane.push(Message::default()), Pushed::Detached(_)), "it takes no more");
        assert_eq!(lane.attach(), None);
        let mut taken = VecDeque::new();
        assert_eq!(lane.take(stream, &mut taken, &waker), Found::Messages);
        assert_eq!(taken.len(), 1);
        taken.clear();
        assert_eq!(lane.take(stream, &mut taken, &waker), Found::End);
        assert_eq!(lane.detach(stream), None, "it has ended as it should");
    }
}
