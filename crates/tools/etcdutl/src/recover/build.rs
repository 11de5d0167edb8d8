//! A cluster of one from the directory of a survivor.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mainstay_raft::{ConfChange, ConfChangeKind, Entry, EntryKind, HardState};
use mainstay_types::{Index, MemberId, Term};
use mainstay_wal::{SnapshotMark, Wal};

use super::Survivor;
use crate::place::{DataDir, about, folder_of, keep_owner, plain};
use crate::repair::copy;
use crate::{Failure, Run};

/// Copies the survivor's directory, lets the log end with the removal of all others, as
/// agreed upon in `term`, and gives it its name with one rename.
pub(super) fn cluster_of_one(
    run: &mut Run<'_>,
    best: &Survivor,
    others: &[MemberId],
    term: u64,
    to: &Path,
) -> Result<(), Failure> {
    if run.disk.metadata(to).map_err(|e| about("stat", to, &e))?.is_some() {
        return Err(plain(format!("{} is there already", to.display())));
    }
    let building = beside(to);
    if run.disk.metadata(&building).map_err(|e| about("stat", &building, &e))?.is_some() {
        run.disk.remove_dir_all(&building).map_err(|e| about("remove", &building, &e))?;
    }
    let made = build(run, best, others, term, &building);
    if let Err(failure) = made {
        // Best effort: the next run removes it.
        let _ = run.disk.remove_dir_all(&building);
        return Err(failure);
    }
    run.disk.rename(&building, to).map_err(|e| about("rename", &building, &e))?;
    let parent = folder_of(to);
    run.disk.sync_dir(parent).map_err(|e| about("sync", parent, &e))
}

fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".recover.tmp");
    to.with_file_name(name)
}

fn build(
    run: &mut Run<'_>,
    best: &Survivor,
    others: &[MemberId],
    term: u64,
    building: &Path,
) -> Result<(), Failure> {
    let (from, target) = (DataDir::at(&best.root, ""), DataDir::at(building, ""));
    for (from, to) in [(&from.wal, &target.wal), (&from.snap, &target.snap)] {
        run.disk.create_dir_all(to).map_err(|e| about("mkdir", to, &e))?;
        for made in [to, folder_of(to), building] {
            keep_owner(from, made);
        }
        for name in run.disk.list(from).map_err(|e| about("open", from, &e))? {
            let is_left =
                name.contains(".tmp") || name.ends_with(".broken") || name.starts_with("tmp");
            let (path, copied) = (from.join(&name), to.join(&name));
            let found = run.disk.metadata(&path).map_err(|e| about("stat", &path, &e))?;
            if let Some(found) = found.filter(|found| !found.is_dir && !is_left) {
                copy(run, &path, &copied, found.len)?;
            }
        }
        run.disk.sync_dir(to).map_err(|e| about("sync", to, &e))?;
    }
    for folder in [folder_of(&target.wal), building] {
        run.disk.sync_dir(folder).map_err(|e| about("sync", folder, &e))?;
    }
    let mark = SnapshotMark { conf_state: None, ..best.mark.clone() };
    let (mut wal, _) = Wal::open(run.disk.clone(), &target.wal, &mark).map_err(plain)?;
    let mut index = best.last().1;
    let mut entries = Vec::new();
    for other in others {
        index += 1;
        let change = ConfChange {
            id: 0,
            kind: ConfChangeKind::RemoveNode,
            node: *other,
            context: Bytes::new(),
        };
        entries.push(Entry {
            term: Term(term),
            index: Index(index),
            kind: EntryKind::ConfChange,
            data: change.encode(),
        });
    }
    let state = HardState { term: Term(term), vote: best.member, commit: Index(index) };
    wal.save(Some(&state), &entries, true).map_err(plain)?;
    wal.close().map_err(plain)
}
