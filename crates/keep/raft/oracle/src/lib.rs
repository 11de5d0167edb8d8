//! The published `raft` crate in our words: messages and entries translated both ways,
//! and a core of theirs that is driven as ours is.
//!
//! Where its rules are others than etcd's (and ours), as of 0.7.0:
//! - **An answer that says what is known already** ends there; in etcd (and here) it ends
//!   a probe (`heartbeat_resp_recovers_from_probing`).
//! - **A full window** is widened by one message per heartbeat answer; here an answer lets
//!   one append through, empty if the window is full, as in etcd since 3.6.
//! - **The commit index** travels in answers and in votes, and is taken from there; etcd's
//!   messages do not carry it, so it is left out in translation.
//! - **Snapshots** are taken from storage at once, and a follower has caught up when it
//!   acknowledges the snapshot's index; here the caller hands the snapshot in later, and
//!   any acknowledgment from which our log goes on will do.
//! - **Reads before the first commit of a term** are dropped; here they wait for it.
//! - **Rounds of reads** are named by the first read's context; here by a number.
//! - **`ForgetLeader`** does not exist, nor do the messages to local storage.
//! - **Configuration changes** have other numbers for learners and no update of a node.
//! - **Nonsense from a peer** may panic there; here it is an error.

mod theirs;

use bytes::Bytes;
use mainstay_raft::{ConfState, Entry, EntryKind, Message, MessageKind, Snapshot};
use mainstay_types::{Index, MemberId, Term};
use raft::eraftpb;

pub use theirs::{Seen, Theirs};

/// An entry in our words.
pub fn entry_of(entry: &eraftpb::Entry) -> Entry {
    Entry {
        term: Term(entry.term),
        index: Index(entry.index),
        kind: match entry.entry_type {
            0 => EntryKind::Normal,
            1 => EntryKind::ConfChange,
            _ => EntryKind::ConfChangeV2,
        },
        data: Bytes::copy_from_slice(&entry.data),
    }
}

/// An entry in their words.
pub fn entry_to(entry: &Entry) -> eraftpb::Entry {
    eraftpb::Entry {
        entry_type: match entry.kind {
            EntryKind::Normal => 0,
            EntryKind::ConfChange => 1,
            EntryKind::ConfChangeV2 => 2,
        },
        term: entry.term.0,
        index: entry.index.0,
        data: entry.data.to_vec().into(),
        ..Default::default()
    }
}

fn conf_of(conf: &eraftpb::ConfState) -> ConfState {
    let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect();
    ConfState {
        voters: ids(&conf.voters),
        learners: ids(&conf.learners),
        voters_outgoing: ids(&conf.voters_outgoing),
        learners_next: ids(&conf.learners_next),
        auto_leave: conf.auto_leave,
    }
}

/// A configuration in their words.
pub fn conf_to(conf: &ConfState) -> eraftpb::ConfState {
    let ids = |ids: &[MemberId]| ids.iter().map(|id| id.0).collect();
    eraftpb::ConfState {
        voters: ids(&conf.voters),
        learners: ids(&conf.learners),
        voters_outgoing: ids(&conf.voters_outgoing),
        learners_next: ids(&conf.learners_next),
        auto_leave: conf.auto_leave,
    }
}

/// A snapshot in our words.
pub fn snapshot_of(snapshot: &eraftpb::Snapshot) -> Snapshot {
    let meta = snapshot.get_metadata();
    Snapshot {
        data: Bytes::copy_from_slice(&snapshot.data),
        index: Index(meta.index),
        term: Term(meta.term),
        conf_state: conf_of(meta.get_conf_state()),
    }
}

/// A snapshot in their words.
pub fn snapshot_to(snapshot: &Snapshot) -> eraftpb::Snapshot {
    let metadata = eraftpb::SnapshotMetadata {
        conf_state: Some(conf_to(&snapshot.conf_state)),
        index: snapshot.index.0,
        term: snapshot.term.0,
    };
    eraftpb::Snapshot { data: snapshot.data.to_vec().into(), metadata: Some(metadata) }
}

/// A message in our words. The numbers of the kinds are the same.
pub fn message_of(message: &eraftpb::Message) -> Message {
    let kind = MessageKind::from_number(message.msg_type).expect("a kind that we know");
    // They tell their commit index everywhere; etcd only where a leader does.
    let leads = matches!(kind, MessageKind::App | MessageKind::Heartbeat | MessageKind::Snap);
    let snapshot =
        (kind == MessageKind::Snap).then(|| Box::new(snapshot_of(message.get_snapshot())));
    Message {
        kind,
        to: MemberId(message.to),
        from: MemberId(message.from),
        term: Term(message.term),
        log_term: Term(message.log_term),
        index: Index(message.index),
        entries: message.entries.iter().map(entry_of).collect(),
        commit: Index(if leads { message.commit } else { 0 }),
        snapshot,
        reject: message.reject,
        reject_hint: Index(message.reject_hint),
        context: Bytes::copy_from_slice(&message.context),
    }
}

/// A message in their words.
pub fn message_to(message: &Message) -> eraftpb::Message {
    eraftpb::Message {
        msg_type: message.kind.number(),
        to: message.to.0,
        from: message.from.0,
        term: message.term.0,
        log_term: message.log_term.0,
        index: message.index.0,
        entries: message.entries.iter().map(entry_to).collect::<Vec<_>>().into(),
        commit: message.commit.0,
        snapshot: message.snapshot.as_deref().map(snapshot_to),
        reject: message.reject,
        reject_hint: message.reject_hint.0,
        context: message.context.to_vec().into(),
        ..Default::default()
    }
}
