//! Everything that can happen to a member.

use bytes::Bytes;
use mainstay_raft::{ConfChange, Mark, Message, Snapshot};
use mainstay_types::{Index, MemberId};

/// Something has happened. Inputs are fed in the order in which they happened.
#[derive(Debug)]
pub enum Input {
    /// A heartbeat interval has passed.
    Tick,
    /// A peer's message has arrived. For `Snap` the snapshot's bytes are durable already.
    Peer(Message),
    /// Someone wants `data` in the log.
    Propose {
        /// Given back in [`Effect::Refuse`](crate::Effect::Refuse).
        id: u64,
        /// The entry's data.
        data: Bytes,
    },
    /// Someone wants the configuration changed.
    ProposeConfChange {
        /// As in `Propose`.
        id: u64,
        /// The change.
        change: ConfChange,
    },
    /// Ask for an index at which reads are linearizable. Contexts grow, and are not
    /// reused while the member runs.
    ReadIndex(u64),
    /// Everything up to this mark is durable.
    Persisted(Mark),
    /// The state machine has applied everything up to here.
    Applied(Index),
    /// The state machine is applying a configuration change: one input per such
    /// entry, in order, before the `Applied` that covers it. A refused change comes
    /// with [`MemberId::NONE`] as its node.
    ConfChangeApplied(ConfChange),
    /// The state up to `index` is in a snapshot: everything up to there may be
    /// released from the log on disk.
    SnapshotTaken {
        /// The last index it covers.
        index: Index,
    },
    /// The answer to [`Effect::SendSnapshot`](crate::Effect::SendSnapshot).
    SnapshotReady {
        /// Who needs it.
        to: MemberId,
        /// Applied state. The message that carries it comes out as an ordinary one.
        snapshot: Snapshot,
    },
    /// A snapshot for `to` arrived, or could not be made or delivered. Comes once
    /// for every [`Effect::SendSnapshot`](crate::Effect::SendSnapshot).
    SnapshotSent {
        /// Who needed it.
        to: MemberId,
        /// Whether it arrived.
        ok: bool,
    },
    /// Proposals for a leader that never left this member: nobody else has seen them.
    Unsent(Message),
    /// A message to this member was lost, or its connection.
    Unreachable(MemberId),
    /// The host of this member says that it does not run any more.
    Gone(MemberId),
    /// Hand leadership to this member.
    TransferLeader(MemberId),
    /// Start an election now.
    Campaign,
}
