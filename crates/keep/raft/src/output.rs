//! What must happen next, in an order that is part of the data.

use mainstay_types::{Index, MemberId, Term};

use crate::raft::Raft;
use crate::{Entry, HardState, Mark, Message, ReadState, Role, Snapshot};

/// Who leads, as seen from here. Volatile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftState {
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// The term in which it leads, or which has no leader yet.
    pub term: Term,
    /// What this member is.
    pub role: Role,
}

/// Everything that raft wants done since the last output.
///
/// Storage takes, in the order of the outputs: the snapshot, the entries (an entry
/// whose index is already stored replaces it and everything behind it), the hard
/// state. When that is durable, `after_persist` may be sent and
/// [`Raft::persisted`] be called with `mark`. Everything else may happen at once.
#[derive(Debug, Default)]
pub struct Output {
    /// To store. A change of the commit index alone is not worth a write; it comes
    /// with the next entries, or at the next tick.
    pub hard_state: Option<HardState>,
    /// Whether storage must be synced before `mark` counts. Not for a commit index alone.
    pub must_sync: bool,
    /// To store, before the hard state.
    pub entries: Vec<Entry>,
    /// What to tell [`Raft::persisted`].
    pub mark: Mark,
    /// Send now.
    pub messages: Vec<Message>,
    /// Send when this output and all before it are durable.
    pub after_persist: Vec<Message>,
    /// Apply, in this order: committed, and durable here.
    pub committed: Vec<Entry>,
    /// Reads that may be served.
    pub read_states: Vec<ReadState>,
    /// Replaces log and state: to store before the entries. Its bytes are durable already.
    pub snapshot: Option<Snapshot>,
    /// Followers that need a snapshot, see [`Raft::send_snapshot`].
    pub snapshots_wanted: Vec<MemberId>,
    /// A new leader, term or role.
    pub soft_state: Option<SoftState>,
}

impl Output {
    /// Whether storage has something to do or something waits for it.
    pub fn wants_storage(&self) -> bool {
        self.hard_state.is_some()
            || !self.entries.is_empty()
            || self.snapshot.is_some()
            || !self.after_persist.is_empty()
    }
}

/// What was told last, and what waits to be told.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<Message>,
    pub(crate) after_persist: Vec<Message>,
    pub(crate) read_states: Vec<ReadState>,
    pub(crate) snapshots_wanted: Vec<MemberId>,
    pub(crate) told_hard_state: HardState,
    told_soft_state: Option<SoftState>,
    last_mark: Mark,
    /// Terms and votes under way to storage.
    votes: std::collections::VecDeque<(Mark, Term, MemberId)>,
    /// The newest term and vote known to be durable.
    pub(crate) durable_vote: (Term, MemberId),
    /// A tick has passed: a commit index alone is worth a write.
    pub(crate) commit_due: bool,
}

impl Raft {
    /// What must happen next. Everything in it is told once.
    pub fn take_output(&mut self) -> Output {
        self.send_what_is_due();
        let hard_state = self.hard_state();
        let told = self.outbox.told_hard_state;
        let vote_changed = (hard_state.term, hard_state.vote) != (told.term, told.vote);
        let (entries, snapshot) = self.log.take_unstored();
        let must_sync = vote_changed || !entries.is_empty() || snapshot.is_some();
        let commit_alone = self.outbox.commit_due && hard_state != told;
        let stores = must_sync || commit_alone;
        let committed = self.log.take_committed();
        self.forget_uncommitted(&committed);
        let mut output = Output {
            hard_state: (stores && hard_state != told).then_some(hard_state),
            must_sync,
            entries,
            messages: std::mem::take(&mut self.outbox.messages),
            after_persist: std::mem::take(&mut self.outbox.after_persist),
            committed,
            read_states: std::mem::take(&mut self.outbox.read_states),
            snapshot,
            snapshots_wanted: std::mem::take(&mut self.outbox.snapshots_wanted),
            soft_state: self.changed_soft_state(),
            mark: Mark(0),
        };
        if stores {
            self.outbox.last_mark.0 += 1;
            let mark = self.outbox.last_mark;
            self.log.wrote(mark, output.snapshot.is_some());
            self.outbox.votes.push_back((mark, hard_state.term, hard_state.vote));
            self.outbox.told_hard_state = hard_state;
            self.outbox.commit_due = false;
        } else if self.log.is_settled() {
            // Nothing is being written: nothing to wait for.
            output.messages.append(&mut output.after_persist);
        }
        output.mark = self.outbox.last_mark;
        output
    }

    /// Whether [`Raft::take_output`] has something to say.
    pub fn has_output(&self) -> bool {
        let hard_state = self.hard_state();
        let told = self.outbox.told_hard_state;
        let vote_changed = (hard_state.term, hard_state.vote) != (told.term, told.vote);
        vote_changed
            || (self.outbox.commit_due && hard_state != told)
            || self.is_sending_due()
            || self.log.has_untaken()
            || self.log.has_committed()
            || !self.outbox.messages.is_empty()
            || !self.outbox.after_persist.is_empty()
            || !self.outbox.read_states.is_empty()
            || !self.outbox.snapshots_wanted.is_empty()
            || self.outbox.told_soft_state != Some(self.soft_state())
    }

    /// Everything that outputs up to the one with `mark` gave to storage is durable.
    pub fn persisted(&mut self, mark: Mark) {
        assert!(mark <= self.outbox.last_mark, "storage is ahead of what it was given");
        self.log.persisted(mark);
        while let Some(&(written, term, vote)) = self.outbox.votes.front() {
            if written > mark {
                break;
            }
            self.outbox.durable_vote = (term, vote);
            self.outbox.votes.pop_front();
        }
        match self.role {
            Role::Leader => self.own_entries_are_durable(),
            Role::Candidate => self.own_vote_is_durable(),
            Role::Follower | Role::PreCandidate => {}
        }
    }

    /// The hard state as it is now, durable or not.
    pub fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed() }
    }

    fn changed_soft_state(&mut self) -> Option<SoftState> {
        let now = self.soft_state();
        let changed = self.outbox.told_soft_state != Some(now);
        self.outbox.told_soft_state = Some(now);
        changed.then_some(now)
    }

    /// The state machine has applied everything up to `index`.
    pub fn applied(&mut self, index: Index) {
        self.log.applied_to(index);
        self.leave_joint_when_due();
    }

    /// Forgets the entries up to `to`, all of them applied. Followers that need
    /// them will need a snapshot.
    pub fn compact(&mut self, to: Index) {
        self.log.compact(to);
    }
}
