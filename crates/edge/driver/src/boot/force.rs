//! `--force-new-cluster`: a directory of a cluster whose others are lost becomes a
//! cluster of one (etcd, `CreateConfigChangeEnts`).
//!
//! Entries that were not committed are dropped, and committed changes that remove every
//! other member are written behind the rest, in the newest term, as if they had been
//! agreed upon.

use std::collections::BTreeSet;

use bytes::Bytes;
use mainstay_membership::Member;
use mainstay_raft::{
    ConfChange, ConfChangeKind, ConfChangeV2, ConfState, Entry, EntryKind, HardState,
};
use mainstay_types::{Index, MemberId};
use mainstay_wal::Wal;

use super::BootError;

/// The log as it was read.
pub(super) struct Log<'a> {
    pub(super) wal: &'a mut Wal,
    pub(super) entries: &'a mut Vec<Entry>,
    pub(super) snapshot_index: Index,
}

/// Rewrites the end of the log; answers the hard state that it has then.
pub(super) fn new_cluster(
    log: &mut Log<'_>,
    me: MemberId,
    conf_state: &ConfState,
    state: HardState,
) -> Result<HardState, BootError> {
    let before = log.entries.len();
    log.entries.retain(|entry| entry.index <= state.commit);
    if log.entries.len() < before {
        tracing::info!(
            "number-of-discarded-wal-entries" = before - log.entries.len(),
            "commit-index-from-wal" = state.commit.0,
            "discarding uncommitted WAL entries"
        );
    }
    let last = log.entries.last().map_or(log.snapshot_index, |entry| entry.index);
    let members = members(conf_state, log.entries)?;
    let mut added = Vec::new();
    let mut append = |kind, node, context: Vec<u8>| {
        let index = Index(last.0 + 1 + added.len() as u64);
        let change = ConfChange { id: 0, kind, node, context: Bytes::from(context) };
        added.push(Entry {
            term: state.term,
            index,
            kind: EntryKind::ConfChange,
            data: change.encode(),
        });
    };
    for &other in members.iter().filter(|id| **id != me) {
        append(ConfChangeKind::RemoveNode, other, Vec::new());
    }
    if !members.contains(&me) {
        // As etcd: it would otherwise have no voter at all.
        let member = Member {
            id: me,
            peer_urls: vec!["http://localhost:2380".to_owned(), "http://localhost:7001".to_owned()],
            ..Member::default()
        };
        append(ConfChangeKind::AddNode, me, member.to_json());
    }
    let commit = Index(last.0 + added.len() as u64);
    let state = HardState { commit, ..state };
    tracing::warn!(
        "removed-members" = added.len(),
        "commit-index" = commit.0,
        "forcing restart member: the other members are forgotten"
    );
    log.wal.save(Some(&state), &added, true)?;
    log.entries.extend(added);
    Ok(state)
}

/// Who belongs to the cluster once all of `entries` are applied.
fn members(conf_state: &ConfState, entries: &[Entry]) -> Result<BTreeSet<MemberId>, BootError> {
    let lists = [&conf_state.voters, &conf_state.voters_outgoing, &conf_state.learners];
    let mut members: BTreeSet<MemberId> = lists.into_iter().flatten().copied().collect();
    for entry in entries {
        let change = ConfChangeV2::of_entry(entry).map_err(|why| {
            let index = entry.index;
            BootError::Directory(format!("log entry {index} is no change of members: {why:?}"))
        })?;
        for single in change.into_iter().flat_map(|change| change.changes) {
            match single.kind {
                ConfChangeKind::AddNode | ConfChangeKind::AddLearnerNode => {
                    members.insert(single.node);
                }
                ConfChangeKind::RemoveNode => {
                    members.remove(&single.node);
                }
                ConfChangeKind::UpdateNode => {}
            }
        }
    }
    Ok(members)
}
