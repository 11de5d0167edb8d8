//! The log and the `.snap` file that a restored member begins with (disk.md 8.1).

use std::path::Path;
use std::sync::Arc;

use mainstay_env::Disk;
use mainstay_membership::Membership;
use mainstay_raft::{ConfChange, ConfChangeKind, ConfState, Entry, EntryKind, HardState, Snapshot};
use mainstay_types::{Index, Term};
use mainstay_wal::{Metadata, SnapshotMark, Wal, WalOptions, snap};

use crate::error::BackupError;
use crate::founders::Founders;

/// The term of everything that a restored cluster begins with.
const TERM: Term = Term(1);

/// Makes the log in `wal_dir`, and the `.snap` file in `snap_dir`: each member added by an entry
/// of its own, all of them committed, and a snapshot of that. Durable when it returns.
pub(crate) fn write(
    disk: &Arc<dyn Disk>,
    wal_dir: &Path,
    snap_dir: &Path,
    founders: &Founders,
    options: WalOptions,
) -> Result<(), BackupError> {
    let metadata = Metadata { member: founders.me(), cluster: founders.cluster() };
    let mut wal = Wal::create_with(Arc::clone(disk), wal_dir, metadata, options)?;
    let members = founders.members();
    let entries: Vec<Entry> = members
        .iter()
        .zip(1..)
        .map(|(member, index)| {
            let change = ConfChange {
                id: 0,
                kind: ConfChangeKind::AddNode,
                node: member.id,
                context: member.to_json().into(),
            };
            let data = change.encode();
            Entry { term: TERM, index: Index(index), kind: EntryKind::ConfChange, data }
        })
        .collect();
    let commit = Index(entries.len() as u64);
    let first = members.first().expect("the member that is restored is one").id;
    wal.save(Some(&HardState { term: TERM, vote: first, commit }), &entries, true)?;
    let voters = members.iter().map(|member| member.id).collect();
    let conf_state = ConfState { voters, ..ConfState::default() };
    let data = Membership::new(members.to_vec()).to_v2_json().into();
    let snapshot = Snapshot { data, index: commit, term: TERM, conf_state: conf_state.clone() };
    snap::save(&**disk, snap_dir, &snapshot)?;
    wal.save_snapshot(&SnapshotMark { index: commit, term: TERM, conf_state: Some(conf_state) })?;
    wal.close()?;
    Ok(())
}

/// Whether the log in `wal_dir` is the one that [`write`] makes and nothing was added to.
pub(crate) fn is_untouched(
    disk: &dyn Disk,
    wal_dir: &Path,
    metadata: Metadata,
) -> Result<bool, BackupError> {
    let Ok(replay) = mainstay_wal::read(disk, wal_dir, &SnapshotMark::default()) else {
        return Ok(false);
    };
    let added = replay.entries.iter().all(|entry| entry.kind == EntryKind::ConfChange);
    let state = replay.hard_state;
    let whole = state.term == TERM && state.commit == Index(replay.entries.len() as u64);
    Ok(replay.metadata == metadata && added && whole)
}
