//! The plain nouns of raft. Their fields are those of raftpb; `wal` and `peer`
//! turn them into bytes.

use std::fmt;

use bytes::Bytes;
use mainstay_types::{Index, MemberId, Term};

/// What an entry's data means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// A request for the state machine, or empty: what a new leader appends first.
    #[default]
    Normal,
    /// An encoded [`ConfChange`].
    ConfChange,
    /// An encoded [`ConfChangeV2`]; empty data leaves a joint configuration.
    ConfChangeV2,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that appended it.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// What `data` means.
    pub kind: EntryKind,
    /// The payload, never looked into unless it changes the configuration.
    pub data: Bytes,
}

impl Entry {
    /// The length of the entry as raftpb encodes it, in bytes: what message limits count.
    pub fn encoded_len(&self) -> u64 {
        let data = self.data.len() as u64;
        // Kind is one byte behind its tag; Go writes a data field even when empty.
        2 + 1 + varint_len(self.term.0) + 1 + varint_len(self.index.0) + 1 + varint_len(data) + data
    }
}

fn varint_len(value: u64) -> u64 {
    u64::from((63 - (value | 1).leading_zeros()) / 7 + 1)
}

/// What a member must never forget (raft paper, figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term seen.
    pub term: Term,
    /// Who got this member's vote in `term`; [`MemberId::NONE`] if nobody.
    pub vote: MemberId,
    /// The highest index known to be committed. May lag on disk: a change of it
    /// alone needs no sync.
    pub commit: Index,
}

impl HardState {
    /// Whether nothing was ever stored.
    pub fn is_empty(&self) -> bool {
        *self == HardState::default()
    }
}

/// Who takes part, as snapshots carry it. Lists are ascending in what we produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// The voters of the (incoming) configuration.
    pub voters: Vec<MemberId>,
    /// Those who replicate and do not vote.
    pub learners: Vec<MemberId>,
    /// The voters of the outgoing configuration; empty unless joint.
    pub voters_outgoing: Vec<MemberId>,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: Vec<MemberId>,
    /// Whether the leader leaves the joint configuration by itself.
    pub auto_leave: bool,
}

impl ConfState {
    /// Whether both name the same members in the same roles, in whatever order.
    pub fn is_equivalent(&self, other: &ConfState) -> bool {
        fn sorted(ids: &[MemberId]) -> Vec<MemberId> {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        }
        sorted(&self.voters) == sorted(&other.voters)
            && sorted(&self.learners) == sorted(&other.learners)
            && sorted(&self.voters_outgoing) == sorted(&other.voters_outgoing)
            && sorted(&self.learners_next) == sorted(&other.learners_next)
            && self.auto_leave == other.auto_leave
    }
}

/// The state at an index, standing for all entries up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The caller's bytes; raft does not look at them.
    pub data: Bytes,
    /// The last index that it covers.
    pub index: Index,
    /// The term of the entry at `index`.
    pub term: Term,
    /// The configuration at `index`.
    pub conf_state: ConfState,
}

/// One change of one member's role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfChangeKind {
    /// Make it a voter.
    #[default]
    AddNode,
    /// Remove it.
    RemoveNode,
    /// Nothing for raft; the state machine changes the member's attributes.
    UpdateNode,
    /// Make it a learner.
    AddLearnerNode,
}

/// A change of a single member: the form that etcd proposes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChange {
    /// The proposer's request id.
    pub id: u64,
    /// What happens.
    pub kind: ConfChangeKind,
    /// To whom. [`MemberId::NONE`] makes it a no-op: how the state machine
    /// tells raft that it refused the change.
    pub node: MemberId,
    /// The caller's bytes.
    pub context: Bytes,
}

/// How a [`ConfChangeV2`] takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfChangeTransition {
    /// The simple way if at most one voter changes, else joint with automatic leave.
    #[default]
    Auto,
    /// Joint; the leader leaves it by itself.
    JointImplicit,
    /// Joint until an empty change is proposed.
    JointExplicit,
}

/// One step of a [`ConfChangeV2`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfChangeSingle {
    /// What happens.
    pub kind: ConfChangeKind,
    /// To whom.
    pub node: MemberId,
}

/// A change of any number of members. Without changes it leaves a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChangeV2 {
    /// How.
    pub transition: ConfChangeTransition,
    /// What, in this order.
    pub changes: Vec<ConfChangeSingle>,
    /// The caller's bytes.
    pub context: Bytes,
}

impl ConfChangeV2 {
    /// Whether this leaves a joint configuration. Only the context may be set then.
    pub fn leaves_joint(&self) -> bool {
        self.changes.is_empty() && self.transition == ConfChangeTransition::Auto
    }

    /// Whether this must enter a joint configuration, and if so whether the
    /// leader leaves it by itself.
    pub fn enters_joint(&self) -> Option<bool> {
        match self.transition {
            ConfChangeTransition::Auto if self.changes.len() <= 1 => None,
            ConfChangeTransition::Auto | ConfChangeTransition::JointImplicit => Some(true),
            ConfChangeTransition::JointExplicit => Some(false),
        }
    }
}

impl From<ConfChange> for ConfChangeV2 {
    fn from(change: ConfChange) -> ConfChangeV2 {
        ConfChangeV2 {
            transition: ConfChangeTransition::Auto,
            changes: vec![ConfChangeSingle { kind: change.kind, node: change.node }],
            context: change.context,
        }
    }
}

/// A member of a cluster that is being born, see [`crate::Raft::bootstrap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub id: MemberId,
    /// The context of the change that adds it (etcd: the member as JSON).
    pub context: Bytes,
}

/// How far storage has come. Marks grow with every [`crate::Output`] that has
/// something to persist; a mark that is durable means that all earlier ones are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// A read round was confirmed: reads under `ctx` and before may be served once
/// the state machine has applied `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadState {
    /// What [`crate::Raft::read_index`] was given.
    pub ctx: u64,
    /// What must be applied first.
    pub index: Index,
}

/// What a member is right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether an election could be won, without disturbing anyone.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads its term.
    Leader,
}

impl fmt::Display for Role {
    /// The names that Go's raft prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Follower => "StateFollower",
            Role::PreCandidate => "StatePreCandidate",
            Role::Candidate => "StateCandidate",
            Role::Leader => "StateLeader",
        })
    }
}
