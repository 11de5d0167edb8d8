//! Everything that a member can want done.

use mainstay_raft::{Entry, HardState, Mark, Message, ProposeError, Role, Snapshot, StepError};
use mainstay_types::{Index, MemberId, Term};

/// To be carried out in the given order; nothing in it waits for another effect,
/// but what [`Effect::Persist`] carries itself.
#[derive(Debug)]
pub enum Effect {
    /// Store, in the order of the fields; then send `then_send`; then feed
    /// [`Input::Persisted`](crate::Input::Persisted). Persists are carried out in order.
    Persist {
        /// Replaces log and state; to be recorded before the entries. The state machine
        /// loads it before it applies anything further.
        snapshot: Option<Box<Snapshot>>,
        /// The entries. One whose index is stored already replaces it and all behind it.
        entries: Vec<Entry>,
        /// The hard state.
        hard_state: Option<HardState>,
        /// Whether the storage must be synced before the mark counts.
        must_sync: bool,
        /// What to report.
        mark: Mark,
        /// May leave only after this and all persists before are durable.
        then_send: Vec<Message>,
    },
    /// Send now.
    Send(Vec<Message>),
    /// Committed and durable: apply, in order.
    Apply(Vec<Entry>),
    /// Reads under `ctx`, and all asked before, may be served once `index` is applied.
    ReadReady {
        /// As in [`Input::ReadIndex`](crate::Input::ReadIndex).
        ctx: u64,
        /// What must be applied first.
        index: Index,
    },
    /// A proposal was not taken; it will never be applied.
    Refuse {
        /// As proposed.
        id: u64,
        /// Why.
        reason: RefuseReason,
    },
    /// Put the state into a snapshot, then feed [`Input::SnapshotTaken`](crate::Input::SnapshotTaken).
    TakeSnapshot {
        /// The last index applied.
        index: Index,
    },
    /// Segments of the log on disk that only hold entries up to `to` may go.
    ReleaseLog {
        /// The last index covered by a snapshot.
        to: Index,
    },
    /// Someone else leads, or nobody, or the same one in another term. Reads that wait
    /// for a round are asked for again, of whoever leads now.
    LeaderChanged {
        /// The leader, if one is known.
        leader: Option<MemberId>,
        /// The term.
        term: Term,
        /// What this member is now.
        role: Role,
    },
    /// A follower needs a snapshot: make one and feed
    /// [`Input::SnapshotReady`](crate::Input::SnapshotReady), and in any case, at the end,
    /// [`Input::SnapshotSent`](crate::Input::SnapshotSent).
    SendSnapshot {
        /// Who.
        to: MemberId,
    },
    /// A peer's message made no sense and was ignored. Worth a line in the log.
    Ignored {
        /// Who sent it.
        from: MemberId,
        /// What was wrong.
        error: StepError,
    },
}

/// Why a proposal was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefuseReason {
    /// Applying lags too far behind committing.
    #[error("too many requests: applying lags behind")]
    ApplyBacklog,
    /// No leader was found in time, or too many proposals wait for one.
    #[error("no leader")]
    NoLeader,
    /// Raft dropped it.
    #[error("raft proposal dropped: {0}")]
    Dropped(ProposeError),
}
