//! Work that waits for the few threads that do it, so that nobody has to wait for somebody
//! else's flood: each origin has a lane of its own, lanes take turns, and when there is no room
//! the longest lane gives way.

use std::collections::{BTreeMap, VecDeque};

use mainstay_types::limits::{OWN_JOBS_WAITING_MAX, PASSWORDS_WAITING_MAX};
use parking_lot::{Condvar, Mutex};

use crate::origin::Origin;

/// What becomes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is its turn.
    Run,
    /// There is no room for it.
    Refused,
}

/// Told once what becomes of it; does its work then.
pub(crate) type Job = Box<dyn FnOnce(Fate) + Send>;

/// Jobs that wait.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    /// For those who have shown who they are: before all others.
    own: VecDeque<Job>,
    lanes: BTreeMap<Origin, VecDeque<Job>>,
    /// Whose turn it is; each lane that is not empty once.
    turns: VecDeque<Origin>,
    waiting: usize,
    closed: bool,
}

impl State {
    fn next(&mut self) -> Option<Job> {
        if let Some(job) = self.own.pop_front() {
            return Some(job);
        }
        let origin = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&origin).expect("a lane has turns while it has jobs");
        let job = lane.pop_front().expect("a lane has turns while it has jobs");
        if lane.is_empty() {
            self.lanes.remove(&origin);
        } else {
            self.turns.push_back(origin);
        }
        self.waiting -= 1;
        Some(job)
    }

    /// The newest job of the longest lane, if that is longer than `length`.
    fn longest(&mut self, length: usize) -> Option<Job> {
        let longest = self.lanes.values_mut().max_by_key(|lane| lane.len())?;
        if longest.len() <= length {
            return None;
        }
        self.waiting -= 1;
        longest.pop_back()
    }
}

impl Queue {
    /// Puts a job at the end of its lane, or tells one that there is no room.
    pub(crate) fn add(&self, from: Origin, job: Job) {
        let mut state = self.state.lock();
        let length = state.lanes.get(&from).map_or(0, VecDeque::len);
        let mut refused = None;
        if state.waiting >= PASSWORDS_WAITING_MAX {
            match state.longest(length + 1) {
                Some(other) => refused = Some(other),
                None => {
                    drop(state);
                    return job(Fate::Refused);
                }
            }
        }
        state.waiting += 1;
        let lane = state.lanes.entry(from).or_default();
        lane.push_back(job);
        if lane.len() == 1 {
            state.turns.push_back(from);
        }
        drop(state);
        self.arrived.notify_one();
        if let Some(refused) = refused {
            refused(Fate::Refused);
        }
    }

    /// Puts a job before all those of lanes.
    pub(crate) fn add_own(&self, job: Job) {
        let mut state = self.state.lock();
        if state.own.len() >= OWN_JOBS_WAITING_MAX {
            drop(state);
            return job(Fate::Refused);
        }
        state.own.push_back(job);
        drop(state);
        self.arrived.notify_one();
    }

    /// Runs jobs until the queue is closed.
    pub(crate) fn work(&self) {
        loop {
            let mut state = self.state.lock();
            let job = loop {
                match state.next() {
                    Some(job) => break job,
                    None if state.closed => return,
                    None => self.arrived.wait(&mut state),
                }
            };
            drop(state);
            job(Fate::Run);
        }
    }

    /// Ends the threads when there is no job left.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn origin(n: u8) -> Origin {
        Origin::V4([10, 0, 0, n])
    }

    type Log = Arc<Mutex<Vec<(u8, usize, Fate)>>>;

    fn add(queue: &Queue, log: &Log, from: u8, n: usize) {
        let log = Arc::clone(log);
        queue.add(origin(from), Box::new(move |fate| log.lock().push((from, n, fate))));
    }

    #[test]
    fn a_flood_waits_for_itself_only() {
        let (queue, log) = (Queue::default(), Log::default());
        for n in 0..2 * PASSWORDS_WAITING_MAX {
            add(&queue, &log, 1, n);
        }
        let refused = log.lock().len();
        assert_eq!(refused, PASSWORDS_WAITING_MAX, "what is too much of its own");
        add(&queue, &log, 2, 0);
        add(&queue, &log, 2, 1);
        assert_eq!(log.lock().len(), refused + 2, "others push it back");
        assert!(log.lock().iter().all(|(from, _, fate)| (*from, *fate) == (1, Fate::Refused)));
        log.lock().clear();
        queue.close();
        queue.work();
        let log = log.lock();
        let run: Vec<_> = log.iter().map(|(from, n, _)| (*from, *n)).take(5).collect();
        assert_eq!(run, [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2)], "they take turns");
        assert_eq!(log.len(), PASSWORDS_WAITING_MAX, "none is lost");
    }

    #[test]
    fn many_origins_share_the_room() {
        let (queue, log) = (Queue::default(), Log::default());
        for n in 0..PASSWORDS_WAITING_MAX {
            for from in 0..8 {
                add(&queue, &log, from, n);
            }
        }
        queue.close();
        queue.work();
        let log = log.lock();
        for from in 0..8 {
            let run = log.iter().filter(|one| one.0 == from && one.2 == Fate::Run).count();
            assert_eq!(run, PASSWORDS_WAITING_MAX / 8);
        }
    }

    #[test]
    fn own_jobs_come_first_and_are_bounded() {
        let (queue, log) = (Queue::default(), Log::default());
        add(&queue, &log, 1, 0);
        for n in 0..OWN_JOBS_WAITING_MAX + 1 {
            let log = Arc::clone(&log);
            queue.add_own(Box::new(move |fate| log.lock().push((0, n, fate))));
        }
        assert_eq!(*log.lock(), [(0, OWN_JOBS_WAITING_MAX, Fate::Refused)]);
        queue.close();
        queue.work();
        let log = log.lock();
        assert_eq!(log.last(), Some(&(1, 0, Fate::Run)));
    }
}
