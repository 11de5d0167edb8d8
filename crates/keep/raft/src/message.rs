//! Messages between members.

use bytes::Bytes;
use mainstay_types::{Index, MemberId, Term};

use crate::{Entry, Snapshot};

/// The kinds of raftpb.MessageType; the discriminants are its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageKind {
    /// Local: start an election.
    #[default]
    Hup = 0,
    /// Local: send heartbeats.
    Beat = 1,
    /// Entries that a follower forwards to the leader.
    Prop = 2,
    /// Append these entries after (`index`, `log_term`).
    App = 3,
    /// The answer: all up to `index` matches and is durable; or, rejected, where to try next.
    AppResp = 4,
    /// Ask for a vote.
    Vote = 5,
    /// The answer.
    VoteResp = 6,
    /// Replace the log by a snapshot.
    Snap = 7,
    /// The leader is alive; `context` names a read round.
    Heartbeat = 8,
    /// The answer, with the same `context`.
    HeartbeatResp = 9,
    /// Local: a message to `from` was lost.
    Unreachable = 10,
    /// Local: a snapshot to `from` arrived or failed.
    SnapStatus = 11,
    /// Local: does the leader still hear a quorum?
    CheckQuorum = 12,
    /// Ask the leader to hand over to `from`.
    TransferLeader = 13,
    /// Campaign now: the leader hands over.
    TimeoutNow = 14,
    /// Ask the leader for a read index; the context is the data of the only entry.
    ReadIndex = 15,
    /// The answer.
    ReadIndexResp = 16,
    /// Would you vote for me?
    PreVote = 17,
    /// The answer.
    PreVoteResp = 18,
    /// Local to Go members.
    StorageAppend = 19,
    /// Local to Go members.
    StorageAppendResp = 20,
    /// Local to Go members.
    StorageApply = 21,
    /// Local to Go members.
    StorageApplyResp = 22,
    /// Forget who leads, so that a vote can be granted at once.
    ForgetLeader = 23,
}

impl MessageKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [MessageKind; 24] = [
        MessageKind::Hup,
        MessageKind::Beat,
        MessageKind::Prop,
        MessageKind::App,
        MessageKind::AppResp,
        MessageKind::Vote,
        MessageKind::VoteResp,
        MessageKind::Snap,
        MessageKind::Heartbeat,
        MessageKind::HeartbeatResp,
        MessageKind::Unreachable,
        MessageKind::SnapStatus,
        MessageKind::CheckQuorum,
        MessageKind::TransferLeader,
        MessageKind::TimeoutNow,
        MessageKind::ReadIndex,
        MessageKind::ReadIndexResp,
        MessageKind::PreVote,
        MessageKind::PreVoteResp,
        MessageKind::StorageAppend,
        MessageKind::StorageAppendResp,
        MessageKind::StorageApply,
        MessageKind::StorageApplyResp,
        MessageKind::ForgetLeader,
    ];

    /// The kind with this number on the wire, if there is one.
    pub fn from_number(number: i32) -> Option<MessageKind> {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at)).copied()
    }

    /// The number on the wire.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Whether a member only ever says this to itself. From a peer it is refused.
    pub fn is_local(self) -> bool {
        use MessageKind::{
            Beat, CheckQuorum, Hup, SnapStatus, StorageAppend, StorageAppendResp, StorageApply,
            StorageApplyResp, Unreachable,
        };
        matches!(
            self,
            Hup | Beat
                | Unreachable
                | SnapStatus
                | CheckQuorum
                | StorageAppend
                | StorageAppendResp
                | StorageApply
                | StorageApplyResp
        )
    }

    /// Whether this answers something; answers count only from known members.
    pub(crate) fn is_response(self) -> bool {
        use MessageKind::{AppResp, HeartbeatResp, PreVoteResp, ReadIndexResp, VoteResp};
        matches!(self, AppResp | HeartbeatResp | PreVoteResp | ReadIndexResp | VoteResp)
    }

    /// Whether this travels without a term: it may pass through several members.
    pub(crate) fn is_termless(self) -> bool {
        matches!(self, MessageKind::Prop | MessageKind::ReadIndex)
    }
}

/// A message. Which fields mean something depends on the kind; the rest is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub kind: MessageKind,
    /// For whom.
    pub to: MemberId,
    /// From whom. In `TransferLeader` the member that shall lead.
    pub from: MemberId,
    /// The sender's term; 0 in `Prop` and `ReadIndex`.
    pub term: Term,
    /// The term of the entry at `index` (or at `reject_hint`, in a rejection).
    pub log_term: Term,
    /// A position in the log.
    pub index: Index,
    /// Entries.
    pub entries: Vec<Entry>,
    /// The sender's commit index, as far as it concerns the receiver.
    pub commit: Index,
    /// In `Snap`.
    pub snapshot: Option<Box<Snapshot>>,
    /// The answer is no.
    pub reject: bool,
    /// In a rejected `AppResp`: the highest position that may still match.
    pub reject_hint: Index,
    /// Opaque, echoed in answers to heartbeats. `CampaignTransfer` in `Vote`
    /// says that the leader itself asked for the election.
    pub context: Bytes,
}

/// The context of votes in an election that the leader asked for (raft.go, `campaignTransfer`).
pub(crate) const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";
