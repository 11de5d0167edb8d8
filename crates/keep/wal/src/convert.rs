//! Raft's plain types as protobuf and back.
//!
//! Here and in `peer` are the only places where the two meet. Every scalar is
//! written, because Go before 3.7 does so and its readers expect it.

use mainstay_proto::raftpb;
use mainstay_raft::{ConfState, Entry, EntryKind, HardState, Snapshot};
use mainstay_types::{Index, MemberId, Term};

/// The message names a kind that we do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry kind {0} is not known; a newer version wrote it")]
pub struct UnknownKind(pub i32);

/// An entry for a peer or the disk. The data is shared, not copied.
pub fn entry_to_pb(entry: &Entry) -> raftpb::Entry {
    raftpb::Entry {
        term: Some(entry.term.0),
        index: Some(entry.index.0),
        r#type: Some(entry_kind_number(entry.kind) as i32),
        data: (!entry.data.is_empty()).then(|| entry.data.clone()),
    }
}

/// An entry from a peer or the disk.
///
/// # Errors
/// When its kind is unknown.
pub fn entry_from_pb(entry: raftpb::Entry) -> Result<Entry, UnknownKind> {
    let number = entry.r#type.unwrap_or_default();
    Ok(Entry {
        term: Term(entry.term.unwrap_or_default()),
        index: Index(entry.index.unwrap_or_default()),
        kind: entry_kind(number as u64).ok_or(UnknownKind(number))?,
        data: entry.data.unwrap_or_default(),
    })
}

/// The number of a kind of entry (raftpb.EntryType).
pub(crate) fn entry_kind_number(kind: EntryKind) -> u64 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    }
}

/// The kind of entry with a number.
pub(crate) fn entry_kind(number: u64) -> Option<EntryKind> {
    match number {
        0 => Some(EntryKind::Normal),
        1 => Some(EntryKind::ConfChange),
        2 => Some(EntryKind::ConfChangeV2),
        _ => None,
    }
}

/// A hard state for the disk.
pub fn hard_state_to_pb(state: &HardState) -> raftpb::HardState {
    raftpb::HardState {
        term: Some(state.term.0),
        vote: Some(state.vote.0),
        commit: Some(state.commit.0),
    }
}

/// A hard state from the disk.
pub fn hard_state_from_pb(state: &raftpb::HardState) -> HardState {
    HardState {
        term: Term(state.term.unwrap_or_default()),
        vote: MemberId(state.vote.unwrap_or_default()),
        commit: Index(state.commit.unwrap_or_default()),
    }
}

/// A configuration for a peer or the disk.
pub fn conf_state_to_pb(state: &ConfState) -> raftpb::ConfState {
    let numbers = |ids: &[MemberId]| ids.iter().map(|id| id.0).collect();
    raftpb::ConfState {
        voters: numbers(&state.voters),
        learners: numbers(&state.learners),
        voters_outgoing: numbers(&state.voters_outgoing),
        learners_next: numbers(&state.learners_next),
        auto_leave: Some(state.auto_leave),
    }
}

/// A configuration from a peer or the disk.
pub fn conf_state_from_pb(state: raftpb::ConfState) -> ConfState {
    let members = |ids: Vec<u64>| ids.into_iter().map(MemberId).collect();
    ConfState {
        voters: members(state.voters),
        learners: members(state.learners),
        voters_outgoing: members(state.voters_outgoing),
        learners_next: members(state.learners_next),
        auto_leave: state.auto_leave.unwrap_or_default(),
    }
}

/// A snapshot for a peer or the disk. The data is shared, not copied.
pub fn snapshot_to_pb(snapshot: &Snapshot) -> raftpb::Snapshot {
    raftpb::Snapshot {
        data: (!snapshot.data.is_empty()).then(|| snapshot.data.clone()),
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(conf_state_to_pb(&snapshot.conf_state)),
            index: Some(snapshot.index.0),
            term: Some(snapshot.term.0),
        }),
    }
}

/// A snapshot from a peer or the disk.
pub fn snapshot_from_pb(snapshot: raftpb::Snapshot) -> Snapshot {
    let metadata = snapshot.metadata.unwrap_or_default();
    Snapshot {
        data: snapshot.data.unwrap_or_default(),
        index: Index(metadata.index.unwrap_or_default()),
        term: Term(metadata.term.unwrap_or_default()),
        conf_state: conf_state_from_pb(metadata.conf_state.unwrap_or_default()),
    }
}
