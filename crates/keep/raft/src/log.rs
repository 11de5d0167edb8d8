//! The log in memory.
//!
//! ```text
//!   base      first                                               last
//!    |<-------- kept entries -------------------------------------->|
//!  compacted   applied <= handed_out <= min(committed, durable)
//!                              durable <= taken <= last
//! ```
//! `taken` was given to storage, `durable` is known to be stored. Both fall when
//! the log is cut, and so does what writes under way will make durable: an old
//! write never counts for an entry that replaced what it wrote.

use std::collections::VecDeque;

use mainstay_types::{Index, Term};

use crate::{Entry, Mark, Snapshot, StartError};

/// What storage holds when a member starts.
#[derive(Clone, Debug, Default)]
pub struct LogStart {
    /// The last index that the newest snapshot covers; 0 if there is none.
    pub snapshot_index: Index,
    /// Its term.
    pub snapshot_term: Term,
    /// The entries behind it, without a gap.
    pub entries: Vec<Entry>,
}

/// A position and the term found there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntryId {
    /// First, so that comparing ids is comparing how up to date logs are
    /// (raft paper, 5.4.1).
    pub(crate) term: Term,
    pub(crate) index: Index,
}

/// A write that storage has not confirmed.
#[derive(Debug)]
struct Write {
    mark: Mark,
    /// The entries up to here are durable with it.
    last: Index,
    has_snapshot: bool,
}

#[derive(Debug)]
pub(crate) struct Log {
    base: EntryId,
    entries: VecDeque<Entry>,
    committed: Index,
    applied: Index,
    handed_out: Index,
    taken: Index,
    durable: Index,
    writes: VecDeque<Write>,
    /// A snapshot that replaced the log and was not yet given to storage.
    snapshot: Option<Snapshot>,
    /// A snapshot replaced the log and is not known to be durable.
    snapshot_pending: bool,
}

impl Log {
    /// The log as storage has it. Everything up to `applied` has been applied.
    pub(crate) fn new(start: LogStart, applied: Index, commit: Index) -> Result<Log, StartError> {
        let base = EntryId { index: start.snapshot_index, term: start.snapshot_term };
        let mut before = base;
        for entry in &start.entries {
            let id = EntryId { term: entry.term, index: entry.index };
            if id.index != before.index.next() || id.term < before.term {
                return Err(StartError::Gap { after: before.index, found: id.index });
            }
            before = id;
        }
        let last = before.index;
        // What is applied is committed, though the stored commit index may lag.
        let committed = commit.max(applied).max(base.index);
        if committed > last {
            return Err(StartError::CommitBeyondLog { commit: committed, last });
        }
        let applied = applied.max(base.index);
        Ok(Log {
            base,
            entries: VecDeque::from(start.entries),
            committed,
            applied,
            handed_out: applied,
            taken: last,
            durable: last,
            writes: VecDeque::new(),
            snapshot: None,
            snapshot_pending: false,
        })
    }

    pub(crate) fn first(&self) -> Index {
        self.base.index.next()
    }

    pub(crate) fn last(&self) -> Index {
        Index(self.base.index.0 + self.entries.len() as u64)
    }

    pub(crate) fn last_id(&self) -> EntryId {
        self.entries
            .back()
            .map_or(self.base, |entry| EntryId { term: entry.term, index: entry.index })
    }

    pub(crate) fn committed(&self) -> Index {
        self.committed
    }

    pub(crate) fn applied(&self) -> Index {
        self.applied
    }

    pub(crate) fn handed_out(&self) -> Index {
        self.handed_out
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    pub(crate) fn snapshot_pending(&self) -> bool {
        self.snapshot_pending
    }

    /// The term of the entry at `index`, if it is known: not compacted, not beyond the end.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.position(index).map(|at| self.entries[at].term)
    }

    pub(crate) fn matches(&self, id: EntryId) -> bool {
        self.term(id.index) == Some(id.term)
    }

    fn position(&self, index: Index) -> Option<usize> {
        let at = index.0.checked_sub(self.base.index.0 + 1)?;
        (at < self.entries.len() as u64).then_some(at as usize)
    }

    /// Entries from `from` on: as many as fit into `bytes_max`, but at least one if
    /// there is one. `None` if `from` is compacted.
    pub(crate) fn slice(&self, from: Index, bytes_max: u64) -> Option<Vec<Entry>> {
        if from > self.last() {
            return Some(Vec::new());
        }
        let at = self.position(from)?;
        let mut bytes = 0;
        let mut count = 0;
        for entry in self.entries.range(at..) {
            bytes += entry.encoded_len();
            if count > 0 && bytes > bytes_max {
                break;
            }
            count += 1;
        }
        Some(self.entries.range(at..at + count).cloned().collect())
    }

    /// The entries of (`after`, `to`].
    pub(crate) fn between(&self, after: Index, to: Index) -> impl Iterator<Item = &Entry> {
        let from = (after.0.max(self.base.index.0) - self.base.index.0) as usize;
        let end = (to.0.max(self.base.index.0) - self.base.index.0) as usize;
        self.entries.range(from.min(end)..end)
    }

    /// Adds an entry of our own at the end.
    pub(crate) fn push(&mut self, entry: Entry) {
        assert!(entry.index == self.last().next(), "entries follow one another");
        assert!(entry.term >= self.last_id().term, "terms never fall along the log");
        self.entries.push_back(entry);
    }

    /// The first of `entries` that is not in the log with the same term, as a
    /// position in `entries`.
    pub(crate) fn first_conflict(&self, entries: &[Entry]) -> Option<usize> {
        // Most appends are all new: one comparison at their start.
        entries
            .iter()
            .position(|entry| !self.matches(EntryId { term: entry.term, index: entry.index }))
    }

    /// Appends a leader's entries, cutting what they replace.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.committed, "a committed entry is never replaced");
        assert!(first.index <= self.last().next(), "entries follow one another");
        if first.index <= self.last() {
            self.cut(first.index);
        }
        self.entries.extend(entries.iter().cloned());
    }

    /// Drops `from` and everything behind it.
    fn cut(&mut self, from: Index) {
        let kept = Index(from.0 - 1);
        self.entries.truncate((kept.0 - self.base.index.0) as usize);
        self.taken = self.taken.min(kept);
        self.durable = self.durable.min(kept);
        for write in &mut self.writes {
            write.last = write.last.min(kept);
        }
    }

    /// The highest position at or below `index` whose term is at most `term`, and
    /// that term: where two logs may still meet. Term 0 when it is not known.
    pub(crate) fn meeting_point(&self, index: Index, term: Term) -> EntryId {
        if index > self.last() || index < self.base.index {
            return EntryId { index, term: Term(0) };
        }
        // Terms never fall along the log, so the point can be searched for.
        let upto = (index.0 - self.base.index.0) as usize;
        let fitting = self.entries.partition_point(|entry| entry.term <= term).min(upto);
        if fitting > 0 {
            let entry = &self.entries[fitting - 1];
            return EntryId { term: entry.term, index: entry.index };
        }
        if self.base.term <= term {
            return self.base;
        }
        // Below what is known: the next probe goes there and finds it compacted.
        EntryId { index: Index(self.base.index.0.saturating_sub(1)), term: Term(0) }
    }

    /// Raises the commit index. `false` if the log does not reach so far.
    #[must_use]
    pub(crate) fn commit_to(&mut self, index: Index) -> bool {
        if index > self.last() {
            return false;
        }
        self.committed = self.committed.max(index);
        true
    }

    /// Everything up to `index` is in the state machine.
    pub(crate) fn applied_to(&mut self, index: Index) {
        assert!(index <= self.handed_out, "applied {index} before it was handed out");
        self.applied = self.applied.max(index);
    }

    /// Committed entries that are durable here and were not handed out before.
    pub(crate) fn take_committed(&mut self) -> Vec<Entry> {
        let to = self.committed.min(self.durable);
        if self.snapshot_pending || to <= self.handed_out {
            return Vec::new();
        }
        let entries = self.between(self.handed_out, to).cloned().collect();
        self.handed_out = to;
        entries
    }

    pub(crate) fn has_committed(&self) -> bool {
        !self.snapshot_pending && self.committed.min(self.durable) > self.handed_out
    }

    pub(crate) fn has_untaken(&self) -> bool {
        self.snapshot.is_some() || self.taken < self.last()
    }

    /// Entries and snapshot that storage has not been given.
    pub(crate) fn take_unstored(&mut self) -> (Vec<Entry>, Option<Snapshot>) {
        let entries = self.between(self.taken, self.last()).cloned().collect();
        self.taken = self.last();
        (entries, self.snapshot.take())
    }

    /// Storage was given everything up to now under `mark`.
    pub(crate) fn wrote(&mut self, mark: Mark, has_snapshot: bool) {
        self.writes.push_back(Write { mark, last: self.taken, has_snapshot });
    }

    /// Whether everything given to storage is durable.
    pub(crate) fn is_settled(&self) -> bool {
        self.writes.is_empty()
    }

    /// Everything given under `mark` or before is durable.
    pub(crate) fn persisted(&mut self, mark: Mark) {
        while self.writes.front().is_some_and(|write| write.mark <= mark) {
            let Some(write) = self.writes.pop_front() else { break };
            self.durable = self.durable.max(write.last);
            let newest = self.snapshot.is_none() && !self.writes.iter().any(|w| w.has_snapshot);
            if write.has_snapshot && newest {
                self.snapshot_pending = false;
                self.applied = self.applied.max(self.handed_out);
            }
        }
    }

    /// Replaces everything by a snapshot.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        assert!(snapshot.index > self.committed, "a snapshot never takes back what is committed");
        self.base = EntryId { index: snapshot.index, term: snapshot.term };
        self.entries.clear();
        self.committed = snapshot.index;
        self.handed_out = snapshot.index;
        self.taken = snapshot.index;
        self.durable = snapshot.index;
        for write in &mut self.writes {
            write.last = Index(0);
        }
        self.snapshot_pending = true;
        self.snapshot = Some(snapshot);
    }

    /// Forgets the entries up to `to`; their last term stays known.
    pub(crate) fn compact(&mut self, to: Index) {
        assert!(to <= self.applied, "only applied entries are forgotten");
        let Some(at) = self.position(to) else { return };
        self.base = EntryId { index: to, term: self.entries[at].term };
        self.entries.drain(..=at);
    }
}
