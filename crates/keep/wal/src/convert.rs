//! Raft's plain types as protobuf and back.
//!
//! Here and in `peer` are the only places where the two meet. Every scalar is
//! written, because Go before 3.7 does so and its readers expect it.

use mainstay_proto::raftpb;
use mainstay_raft::{ConfState, Entry, EntryKind, HardState, Message, MessageKind, Snapshot};
use mainstay_types::{Index, MemberId, Term};

/// An entry or message is of a kind that we do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{of} kind {number} is not known; a newer version wrote it")]
pub struct UnknownKind {
    /// Of what: `entry` or `message`.
    pub of: &'static str,
    /// The kind's number.
    pub number: i32,
}

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
        kind: entry_kind(number as u64).ok_or(UnknownKind { of: "entry", number })?,
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

/// A message for a peer. Data is shared, not copied.
pub fn message_to_pb(message: &Message) -> raftpb::Message {
    raftpb::Message {
        r#type: Some(message.kind.number()),
        to: Some(message.to.0),
        from: Some(message.from.0),
        term: Some(message.term.0),
        log_term: Some(message.log_term.0),
        index: Some(message.index.0),
        entries: message.entries.iter().map(entry_to_pb).collect(),
        commit: Some(message.commit.0),
        snapshot: message.snapshot.as_deref().map(snapshot_to_pb),
        reject: Some(message.reject),
        reject_hint: Some(message.reject_hint.0),
        context: (!message.context.is_empty()).then(|| message.context.clone()),
        // Only between the threads of a Go member.
        vote: None,
        responses: Vec::new(),
    }
}

/// A message from a peer. Go before 3.7 sends an empty snapshot with every message;
/// it counts as none.
///
/// # Errors
/// When its kind, or that of an entry, is unknown.
pub fn message_from_pb(message: raftpb::Message) -> Result<Message, UnknownKind> {
    let number = message.r#type.unwrap_or_default();
    let entries: Result<Vec<Entry>, UnknownKind> =
        message.entries.into_iter().map(entry_from_pb).collect();
    let snapshot = message.snapshot.map(snapshot_from_pb);
    Ok(Message {
        kind: MessageKind::from_number(number).ok_or(UnknownKind { of: "message", number })?,
        to: MemberId(message.to.unwrap_or_default()),
        from: MemberId(message.from.unwrap_or_default()),
        term: Term(message.term.unwrap_or_default()),
        log_term: Term(message.log_term.unwrap_or_default()),
        index: Index(message.index.unwrap_or_default()),
        entries: entries?,
        commit: Index(message.commit.unwrap_or_default()),
        snapshot: snapshot.filter(|snapshot| snapshot.index.0 > 0).map(Box::new),
        reject: message.reject.unwrap_or_default(),
        reject_hint: Index(message.reject_hint.unwrap_or_default()),
        context: message.context.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use mainstay_proto::Message as _;

    use super::*;

    #[test]
    fn messages_come_back() {
        for kind in MessageKind::ALL {
            let entry = Entry {
                term: Term(3),
                index: Index(9),
                kind: EntryKind::ConfChange,
                data: "data".into(),
            };
            let conf_state = ConfState { learners: vec![MemberId(7)], ..ConfState::default() };
            let snapshot =
                Snapshot { data: "s".into(), index: Index(8), term: Term(2), conf_state };
            let message = Message {
                kind,
                to: MemberId(u64::MAX),
                from: MemberId(2),
                term: Term(3),
                log_term: Term(2),
                index: Index(8),
                entries: vec![entry, Entry::default()],
                commit: Index(5),
                snapshot: Some(Box::new(snapshot)),
                reject: true,
                reject_hint: Index(4),
                context: "context".into(),
            };
            assert_eq!(message_from_pb(message_to_pb(&message)), Ok(message));
        }
        let unknown = raftpb::Message { r#type: Some(99), ..raftpb::Message::default() };
        assert_eq!(message_from_pb(unknown), Err(UnknownKind { of: "message", number: 99 }));
    }

    #[test]
    fn an_empty_message_has_gos_bytes() {
        // What Go 3.5 sends, but for the empty snapshot that it puts before the last two.
        let bytes = message_to_pb(&Message::default()).encode_to_vec();
        let wanted = [8, 0, 16, 0, 24, 0, 32, 0, 40, 0, 48, 0, 64, 0, 80, 0, 88, 0];
        assert_eq!(bytes, wanted);
        let theirs = [&wanted[..14], &[74, 10, 18, 8, 10, 2, 40, 0, 16, 0, 24, 0], &wanted[14..]];
        let theirs = raftpb::Message::decode(&theirs.concat()[..]).expect("a message");
        assert_eq!(message_from_pb(theirs), Ok(Message::default()));
    }
}
