//! What a load remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// One write and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// The member it went through.
    pub(super) member: usize,
    /// Keys and values; the first value is like no other.
    pub(super) puts: Vec<(String, String)>,
    pub(super) deletes: Option<String>,
    pub(super) sent: Duration,
    /// Revision; `None` without an answer.
    pub(super) revision: Option<i64>,
}

/// One answered linearizable read of a key.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "some of it is for the message of a failure only")]
pub(super) struct Read {
    pub(super) member: usize,
    pub(super) key: String,
    pub(super) revision: i64,
    /// Value and revision of its last change.
    pub(super) found: Option<(String, i64)>,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) member: usize,
    pub(super) sent: Duration,
    pub(super) at: Duration,
    pub(super) what: &'static str,
    pub(super) message: String,
}

/// An answer: when it was asked for, when it came, and the term in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) sent: Duration,
    pub(super) at: Duration,
    pub(super) term: u64,
}

/// Everything that happened.
#[derive(Debug)]
pub(super) struct Record {
    began: Instant,
    /// Revision before the first write.
    pub(super) from: i64,
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<Read>,
    pub(super) failures: Vec<Failure>,
    pub(super) answers: BTreeMap<usize, Vec<Answered>>,
    /// When requests through a member may fail.
    pub(super) excused: Vec<(usize, Duration, Option<Duration>)>,
    pub(super) left: BTreeSet<usize>,
    pub(super) acknowledged: usize,
    pub(super) by_member: BTreeMap<usize, usize>,
    /// No answer to a question that is asked now may be older.
    pub(super) floor: i64,
    pub(super) compacted: i64,
    /// The watcher has seen everything up to here.
    pub(super) watched: i64,
    pub(super) resumed: usize,
}

impl Record {
    pub(super) fn new(from: i64) -> Record {
        Record {
            began: Instant::now(),
            from,
            writes: Vec::new(),
            reads: Vec::new(),
            failures: Vec::new(),
            answers: BTreeMap::new(),
            excused: Vec::new(),
            left: BTreeSet::new(),
            acknowledged: 0,
            by_member: BTreeMap::new(),
            floor: from,
            compacted: from,
            watched: from,
            resumed: 0,
        }
    }

    /// Since the start.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn excuse(&mut self, n: usize) {
        if !self.is_excused(n) {
            let now = self.now();
            self.excused.push((n, now, None));
        }
    }

    pub(super) fn expect(&mut self, n: usize) {
        let now = self.now();
        for window in self.excused.iter_mut().filter(|w| w.0 == n && w.2.is_none()) {
            window.2 = Some(now);
        }
    }

    pub(super) fn is_excused(&self, n: usize) -> bool {
        self.excused.iter().any(|window| window.0 == n && window.2.is_none())
    }

    /// Whether what was sent then was under way when member `n` was told to end, or came
    /// later.
    pub(super) fn was_ending(&self, n: usize, sent: Duration) -> bool {
        self.excused.iter().any(|(member, from, to)| {
            let early = sent + super::UNDER_WAY < *from;
            *member == n && !early && to.is_none_or(|to| sent <= to)
        })
    }

    /// Notes an answer, and holds it to what was acknowledged before it was asked for.
    pub(super) fn answered(
        &mut self,
        member: usize,
        sent: Duration,
        floor: i64,
        (revision, term): (i64, u64),
    ) -> Result<(), String> {
        if revision < floor {
            return Err(format!(
                "member {} answered at revision {revision}, and {floor} was acknowledged before",
                member + 1
            ));
        }
        self.floor = self.floor.max(revision);
        let at = self.now();
        self.answers.entry(member).or_default().push(Answered { sent, at, term });
        Ok(())
    }
}
