//! What others may know about a member.

use mainstay_types::{Index, MemberId, Term};

use crate::raft::Raft;
use crate::{ProgressState, Role};

/// Where a member stands. Cheap to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who this is.
    pub id: MemberId,
    /// The term.
    pub term: Term,
    /// Who got the vote, [`MemberId::NONE`] if nobody.
    pub vote: MemberId,
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// What this member is.
    pub role: Role,
    /// Committed, as far as known here.
    pub commit: Index,
    /// Applied, as far as told.
    pub applied: Index,
    /// The first entry in memory.
    pub first: Index,
    /// The end of the log.
    pub last: Index,
    /// The end of what is known to be durable here.
    pub durable: Index,
    /// Who shall lead next, if the leader is handing over.
    pub transferee: Option<MemberId>,
    /// Whether this member replicates without voting.
    pub is_learner: bool,
}

/// What a leader knows about a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: MemberId,
    /// Known to be durable there.
    pub matched: Index,
    /// To be sent next.
    pub next: Index,
    /// How it is sent to.
    pub state: ProgressState,
    /// The index of the snapshot under way, or 0.
    pub pending_snapshot: Index,
    /// Whether nothing is sent until it answers.
    pub paused: bool,
    /// Whether it was heard of lately.
    pub recent_active: bool,
    /// Appends on their way.
    pub inflight: usize,
    /// Whether it replicates without voting.
    pub is_learner: bool,
}

impl Raft {
    /// Where this member stands.
    pub fn status(&self) -> Status {
        let known = |id| (id != MemberId::NONE).then_some(id);
        let own = self.members.progress.get(&self.config.id);
        Status {
            id: self.config.id,
            term: self.term,
            vote: self.vote,
            leader: known(self.leader),
            role: self.role,
            commit: self.log.committed(),
            applied: self.log.applied(),
            first: self.log.first(),
            last: self.log.last(),
            durable: self.log.durable(),
            transferee: known(self.transferee),
            is_learner: own.is_some_and(|progress| progress.is_learner),
        }
    }

    /// The leader, if one is known.
    pub fn leader(&self) -> Option<MemberId> {
        (self.leader != MemberId::NONE).then_some(self.leader)
    }

    /// The commit index, as far as known here.
    pub fn commit_index(&self) -> Index {
        self.log.committed()
    }

    /// What this member is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What a leader knows about everyone, itself included; empty on others.
    pub fn peers(&self) -> Vec<PeerStatus> {
        if self.role != Role::Leader {
            return Vec::new();
        }
        let status = |(id, progress): (&MemberId, &crate::progress::Progress)| PeerStatus {
            id: *id,
            matched: progress.matched,
            next: progress.next,
            state: progress.state,
            pending_snapshot: progress.pending_snapshot,
            paused: progress.is_paused(),
            recent_active: progress.recent_active,
            inflight: progress.inflights.len(),
            is_learner: progress.is_learner,
        };
        self.members.progress.iter().map(status).collect()
    }

    /// Whether this member leads and is about to hand that over: it takes no proposals.
    pub fn is_handing_over(&self) -> bool {
        self.role == Role::Leader && self.transferee != MemberId::NONE
    }

    /// Whether this member is a quorum by itself.
    pub fn is_only_voter(&self) -> bool {
        self.members.conf.is_only_voter(self.config.id)
    }

    /// Whether an entry of the leader's own term is committed: from then on the
    /// commit index, and so reads, are up to date.
    pub fn has_committed_in_term(&self) -> bool {
        self.log.term(self.log.committed()) == Some(self.term)
    }

    /// The election timeout drawn for this time, in ticks.
    pub fn election_patience(&self) -> u32 {
        self.patience
    }

    /// The term of the entry at `index`, if it is in memory or just below.
    pub fn entry_term(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }
}
