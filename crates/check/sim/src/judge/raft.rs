//! Raft's promises (paper, figure 3), checked as things happen.

use std::collections::BTreeMap;

use mainstay_backend::Batch;
use mainstay_member::Member as Mind;
use mainstay_raft::{Entry, Status};
use mainstay_types::{Index, MemberId, Term};

/// An entry that was in somebody's log.
#[derive(Debug)]
struct Logged {
    entry: Entry,
    /// The term before it, where it was known.
    before: Option<Term>,
    by: MemberId,
}

/// What is known of an index that is committed.
#[derive(Clone, Copy, Debug)]
struct Committed {
    term: Term,
    /// The term in which somebody first knew it: not before that of its commit.
    seen_in: Term,
}

/// Everything that was seen.
#[derive(Default)]
pub(crate) struct RaftJudge {
    leaders: BTreeMap<Term, MemberId>,
    logged: Vec<Vec<Logged>>,
    committed: Vec<Option<Committed>>,
    applied: Vec<Entry>,
    batches: Vec<Option<Batch>>,
    digests: BTreeMap<Index, (MemberId, u64)>,
}

fn place(index: Index) -> usize {
    (index.0 - 1) as usize
}

impl RaftJudge {
    /// Election safety: at most one leader in a term. Leader completeness: what was
    /// committed in earlier terms is in its log.
    pub(crate) fn elected(&mut self, mind: &Mind, status: &Status) {
        let before = self.leaders.insert(status.term, status.id);
        if let Some(other) = before {
            assert_eq!(other, status.id, "two leaders in term {}", status.term);
        }
        for (at, committed) in self.committed.iter().enumerate() {
            let index = Index(at as u64 + 1);
            let Some(committed) = committed.filter(|committed| committed.seen_in < status.term)
            else {
                continue;
            };
            assert!(
                index <= status.last,
                "{} leads term {} without entry {index}, which is committed; its log ends at {}",
                status.id,
                status.term,
                status.last
            );
            if index.next() < status.first {
                continue;
            }
            let term = mind.entry_term(index);
            assert!(
                term == Some(committed.term),
                "{} leads term {} with entry {index} of term {term:?}; committed is that of {}",
                status.id,
                status.term,
                committed.term
            );
        }
    }

    /// Log matching: entries with the same index and term are the same, and so are
    /// those before them.
    pub(crate) fn logged(&mut self, by: MemberId, before: Option<Term>, entries: &[Entry]) {
        let mut before = before;
        for entry in entries {
            let at = place(entry.index);
            if self.logged.len() <= at {
                self.logged.resize_with(at + 1, Vec::new);
            }
            let known = self.logged[at].iter_mut().find(|known| known.entry.term == entry.term);
            match known {
                Some(known) => {
                    let (one, other) = (known.by, by);
                    assert_eq!(known.entry, *entry, "{one} and {other} have different entries");
                    if let (Some(theirs), Some(ours)) = (known.before, before) {
                        assert_eq!(
                            theirs, ours,
                            "{one} and {other} part before entry {} of term {}",
                            entry.index, entry.term
                        );
                    }
                }
                None => self.logged[at].push(Logged { entry: entry.clone(), before, by }),
            }
            before = Some(entry.term);
        }
    }

    /// A commit index moves, up only; what is committed stays what it is.
    pub(crate) fn committed(&mut self, mind: &Mind, status: &Status, seen: Index) {
        assert!(seen <= status.commit, "the commit index of {} falls from {seen}", status.id);
        if self.committed.len() < status.commit.0 as usize {
            self.committed.resize(status.commit.0 as usize, None);
        }
        for at in seen.0 + 1..=status.commit.0 {
            let index = Index(at);
            let Some(term) = mind.entry_term(index) else { continue };
            match &mut self.committed[place(index)] {
                Some(known) => {
                    assert!(
                        known.term == term,
                        "{} commits entry {index} of term {term}; another committed that of {}",
                        status.id,
                        known.term
                    );
                    known.seen_in = known.seen_in.min(status.term);
                }
                free => *free = Some(Committed { term, seen_in: status.term }),
            }
        }
    }

    /// State machine safety: at an index everybody applies the same entry. Answers
    /// whether this is the first time.
    pub(crate) fn applying(&mut self, by: MemberId, entry: &Entry) -> bool {
        let at = place(entry.index);
        if let Some(known) = self.applied.get(at) {
            assert_eq!(known, entry, "{by} applies another entry than the others");
            return false;
        }
        assert_eq!(at, self.applied.len(), "{by} applies {} too early", entry.index);
        self.applied.push(entry.clone());
        self.batches.push(None);
        true
    }

    /// The same entry writes the same rows.
    pub(crate) fn batch(&mut self, by: MemberId, index: Index, batch: &Batch) {
        match &mut self.batches[place(index)] {
            Some(known) => assert_eq!(known, batch, "{by} writes other rows for entry {index}"),
            free => *free = Some(batch.clone()),
        }
    }

    /// Equal states at equal indexes.
    pub(crate) fn digest(&mut self, by: MemberId, index: Index, digest: u64) {
        let (first, known) = *self.digests.entry(index).or_insert((by, digest));
        assert_eq!(known, digest, "{first} and {by} differ in their state at {index}");
    }

    /// The last index that anybody has applied.
    pub(crate) fn applied_index(&self) -> Index {
        Index(self.applied.len() as u64)
    }
}
