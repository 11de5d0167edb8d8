//! What the committed db says, for a snapshot of it.

use bytes::Bytes;
use mainstay_backend::Backend;
use mainstay_backend::bolt::Reader;
use mainstay_membership::Membership;
use mainstay_raft::{ConfState, Snapshot};

use crate::LoadError;
use crate::load::load_membership;

/// A snapshot message and the file that belongs to it, both of the same moment.
pub struct CommittedState {
    /// Index, term, configuration and the v2 store that 3.5 boots from.
    pub snapshot: Snapshot,
    /// The db, pinned.
    pub reader: Reader,
}

/// The last committed state of `backend`. Everything in it is read from the file, so that
/// index, members and rows cannot disagree (etcd-io/etcd#20426 is about two that do).
/// Nobody may commit meanwhile: it is the committing thread's to call.
///
/// # Errors
/// When the disk fails or a row cannot be read.
pub fn committed_state(backend: &Backend) -> Result<CommittedState, LoadError> {
    let reader = backend.snapshot().reader().clone();
    let meta = backend.meta()?;
    let membership = load_membership(backend)?;
    let snapshot = Snapshot {
        index: meta.applied,
        term: meta.term,
        conf_state: conf_state_of(&membership),
        data: Bytes::from(membership.to_v2_json()),
    };
    Ok(CommittedState { snapshot, reader })
}

/// The raft configuration that a membership stands for. What a start takes instead of
/// what any file says, as 3.7 does.
pub(crate) fn conf_state_of(membership: &Membership) -> ConfState {
    ConfState {
        voters: membership.voters(),
        learners: membership.learners(),
        ..ConfState::default()
    }
}
