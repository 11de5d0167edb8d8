//! `.snap` files: raft snapshots named `TERM-INDEX.snap`, sixteen digits of hex each.
//!
//! A file is snappb.Snapshot{crc, data}: a CRC-32C and an encoded raftpb.Snapshot.
//! etcd writes it in place; here it appears by rename, so that a crash leaves no
//! half of one. The temporary name starts with `tmp`, which Go removes at boot.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mainstay_env::{Disk, OpenMode};
use mainstay_proto::{Message, raftpb, snappb};
use mainstay_raft::Snapshot;
use mainstay_types::{Index, Term};

use crate::convert;
use crate::error::{Doing, WalError};
use crate::record::SnapshotMark;

/// The name of a `.snap` file, ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapName {
    /// The term of the entry at `index`.
    pub term: Term,
    /// The last index that it covers.
    pub index: Index,
}

impl SnapName {
    fn parse(name: &str) -> Option<SnapName> {
        let (term, index) = name.strip_suffix(".snap")?.split_once('-')?;
        let number = |text: &str| {
            let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
        };
        Some(SnapName { term: Term(number(term)?), index: Index(number(index)?) })
    }
}

impl std::fmt::Display for SnapName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}.snap", self.term.0, self.index.0)
    }
}

/// A `.snap` file that could not be read, and was put aside.
#[derive(Debug)]
pub struct Broken {
    /// Its new name, ending in `.broken`.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: WalError,
}

/// Saves a snapshot. When it returns, the file is on the disk; it counts once
/// [`crate::Wal::save_snapshot`] has noted it in the log. Returns its path.
///
/// # Errors
/// When the snapshot is empty, or the disk fails.
pub fn save(disk: &dyn Disk, dir: &Path, snapshot: &Snapshot) -> Result<PathBuf, WalError> {
    if snapshot.index.0 == 0 {
        return Err(WalError::Invalid("an empty snapshot".into()));
    }
    let data = convert::snapshot_to_pb(snapshot).encode_to_vec();
    let crc = crc32c::crc32c(&data);
    let file = snappb::Snapshot { crc: Some(crc), data: Some(data.into()) };
    let name = SnapName { term: snapshot.term, index: snapshot.index };
    write(disk, dir, &name.to_string(), &file.encode_to_vec())
}

/// Puts a file into a directory: whole, or not at all.
fn write(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, WalError> {
    let temporary = dir.join(format!("tmp.{name}"));
    if disk.metadata(&temporary).doing("look at", &temporary)?.is_some() {
        disk.remove_file(&temporary).doing("remove", &temporary)?;
    }
    let file = disk.open(&temporary, OpenMode::CreateNew).doing("create", &temporary)?;
    let written = file.write_at(0, bytes).doing("write", &temporary);
    let written = written.and_then(|()| file.sync().doing("sync", &temporary));
    if let Err(error) = written {
        // Best effort: what stays is replaced next time.
        let _ = disk.remove_file(&temporary);
        return Err(error);
    }
    let path = dir.join(name);
    disk.rename(&temporary, &path).doing("rename", &temporary)?;
    disk.sync_dir(dir).doing("sync", dir)?;
    Ok(path)
}

/// The `.snap` files of a directory, oldest first. Other names are passed over.
///
/// # Errors
/// When the disk fails.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<SnapName>, WalError> {
    let names = disk.list(dir).doing("list", dir)?;
    let mut snaps: Vec<SnapName> = names.iter().filter_map(|name| SnapName::parse(name)).collect();
    snaps.sort_unstable();
    Ok(snaps)
}

/// Reads one `.snap` file.
///
/// # Errors
/// When it is damaged or does not belong to its name, or the disk fails.
pub fn load(disk: &dyn Disk, dir: &Path, name: SnapName) -> Result<Snapshot, WalError> {
    let path = dir.join(name.to_string());
    let file = disk.open(&path, OpenMode::Read).doing("open", &path)?;
    let mut bytes = vec![0; file.len().doing("measure", &path)? as usize];
    file.read_exact_at(0, &mut bytes).doing("read", &path)?;
    let corrupt = |expected: &str, found: String| WalError::Corrupt {
        file: path.clone(),
        offset: 0,
        expected: expected.into(),
        found,
    };
    if bytes.is_empty() {
        return Err(corrupt("a snapshot", "an empty file".into()));
    }
    let outer = snappb::Snapshot::decode(Bytes::from(bytes))
        .map_err(|error| corrupt("a snapshot with its crc", error.to_string()))?;
    // A crc of 0 is how etcd recognises a file that was never finished.
    let (Some(crc @ 1..), Some(data)) = (outer.crc, outer.data) else {
        return Err(corrupt("a crc and data", "one of them missing".into()));
    };
    let is = crc32c::crc32c(&data);
    if is != crc {
        return Err(corrupt(&format!("data with crc {crc:#010x}"), format!("crc {is:#010x}")));
    }
    let snapshot = raftpb::Snapshot::decode(data)
        .map_err(|error| corrupt("a raft snapshot", error.to_string()))?;
    let snapshot = convert::snapshot_from_pb(snapshot);
    let inside = SnapName { term: snapshot.term, index: snapshot.index };
    if inside != name {
        return Err(corrupt(&format!("the snapshot {name}"), format!("{inside}")));
    }
    Ok(snapshot)
}

/// Loads the newest readable `.snap` file that is among the marks that
/// [`crate::valid_snapshots`] gave; `None` when there is none. Damaged files
/// newer than that are renamed to `NAME.snap.broken` and reported.
///
/// # Errors
/// When the disk fails.
pub fn load_newest(
    disk: &dyn Disk,
    dir: &Path,
    marks: &[SnapshotMark],
) -> Result<(Option<Snapshot>, Vec<Broken>), WalError> {
    let mut broken = Vec::new();
    let mut newest = None;
    for name in list(disk, dir)?.into_iter().rev() {
        match load(disk, dir, name) {
            Ok(snapshot) => {
                let known =
                    |mark: &SnapshotMark| (mark.index, mark.term) == (name.index, name.term);
                if marks.iter().any(known) {
                    newest = Some(snapshot);
                    break;
                }
            }
            Err(why @ WalError::Corrupt { .. }) => {
                let path = dir.join(format!("{name}.broken"));
                let from = dir.join(name.to_string());
                disk.rename(&from, &path).doing("rename", &from)?;
                broken.push(Broken { path, why });
            }
            Err(error) => return Err(error),
        }
    }
    if !broken.is_empty() {
        disk.sync_dir(dir).doing("sync", dir)?;
    }
    Ok((newest, broken))
}

/// Removes the oldest `.snap` files until `keep` are left, at least one; returns how
/// many it removed. `recorded` is the newest that the log knows: a newer one that a crash
/// has left does not count, and neither does it go.
///
/// # Errors
/// When the disk fails.
pub fn purge(disk: &dyn Disk, dir: &Path, recorded: Index, keep: usize) -> Result<usize, WalError> {
    let mut names = list(disk, dir)?;
    names.retain(|name| name.index <= recorded);
    let excess = names.len().saturating_sub(keep.max(1));
    for name in &names[..excess] {
        let path = dir.join(name.to_string());
        disk.remove_file(&path).doing("remove", &path)?;
    }
    if excess > 0 {
        disk.sync_dir(dir).doing("sync", dir)?;
    }
    Ok(excess)
}

/// Removes received databases (`INDEX.snap.db`) older than the snapshot at `index`;
/// returns how many.
///
/// # Errors
/// When the disk fails.
pub fn purge_received(disk: &dyn Disk, dir: &Path, index: Index) -> Result<usize, WalError> {
    let mut removed = 0;
    for name in disk.list(dir).doing("list", dir)? {
        let number =
            name.strip_suffix(".snap.db").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        if number.is_some_and(|number| number < index.0) {
            let path = dir.join(name);
            disk.remove_file(&path).doing("remove", &path)?;
            removed += 1;
        }
    }
    if removed > 0 {
        disk.sync_dir(dir).doing("sync", dir)?;
    }
    Ok(removed)
}
