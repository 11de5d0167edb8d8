//! What happens when: a queue of events in simulated time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use mainstay_types::MemberId;

use crate::node::NodeEvent;
use crate::ops::{OpId, Reply};
use crate::plan::Time;

/// Everything that can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something for a node; for the life of that number only, or for any (0).
    Node { id: MemberId, life: u32, what: NodeEvent },
    /// A node's machine starts.
    Boot(MemberId),
    /// A paused node goes on.
    Resume(MemberId),
    /// This node is killed; the power may go too.
    Kill { id: MemberId, power: bool },
    /// Somebody asks a node that will soon go on after a pause.
    AskPaused(MemberId),
    /// A client has an answer.
    Answer { op: OpId, from: MemberId, reply: Box<Reply> },
    /// A client does something.
    Client(usize),
    /// A client waits no longer.
    Timeout(OpId),
    /// A watching client looks at its stream.
    Watcher(usize),
    /// Something breaks.
    Fault,
    /// What broke is repaired.
    Repair(crate::faults::Repair),
    /// The operator looks at the membership.
    Operator,
    /// Figure 8 goes on, or has waited long enough.
    Eight(u64),
    /// The others look whether the db of this one has rotted.
    Compare(MemberId),
}

#[derive(Debug)]
struct Scheduled {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest; of two at once the one that was planned first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The queue and the time.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    now: Time,
    numbers: u64,
    queue: BinaryHeap<Scheduled>,
}

impl Schedule {
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn after(&mut self, delay: Time, event: Event) {
        self.numbers += 1;
        let at = self.now + delay;
        self.queue.push(Scheduled { at, number: self.numbers, event });
    }

    /// The next event; time goes on to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let next = self.queue.pop()?;
        self.now = next.at;
        Some(next.event)
    }
}
