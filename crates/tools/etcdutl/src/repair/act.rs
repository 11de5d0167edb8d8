//! Doing what was planned: originals are kept, files are built beside and renamed.

use std::io;
use std::path::{Path, PathBuf};

use mainstay_env::{Clock as _, OpenMode};
use mainstay_wal::snap::{self, SnapName};
use mainstay_wal::{Wal, WalError};

use super::wal::Restart;
use super::{Plan, Step, db};
use crate::log;
use crate::place::{DataDir, about, folder_of, keep_owner, plain};
use crate::{Failure, Run};

/// What is copied at once, in bytes.
const CHUNK: usize = 1 << 20;
/// A file or folder on its way in the folder of the log; members pass over `.tmp`.
const ON_ITS_WAY: &str = "repair.tmp";
/// The db on its way; a member removes one that was left behind.
const DB_ON_ITS_WAY: &str = "db.tmp.repair";

/// Carries the steps out, in their order.
pub(super) fn apply(run: &mut Run<'_>, dir: &DataDir, plan: &Plan) -> Result<(), Failure> {
    let kept = keep_folder(run, dir)?;
    run.say(&format!("kept: the damaged originals are in {}", kept.display()));
    for step in &plan.steps {
        match step {
            Step::RebuildDb => rebuild_db(run, dir, &kept)?,
            Step::PutAside(name) => put_aside(run, dir, *name)?,
            Step::CutTail { segment, offset } => cut_tail(run, segment, *offset, &kept)?,
            Step::RestartLog(restart) => restart_log(run, dir, restart, &kept)?,
        }
    }
    Ok(())
}

/// Makes the folder that the originals are kept in. Go's etcd warns of unknown names
/// elsewhere in a data directory.
fn keep_folder(run: &Run<'_>, dir: &DataDir) -> Result<PathBuf, Failure> {
    let stamp = crate::run::rfc3339(run.clock.wall().as_secs()).replace([':', '-'], "");
    let home = folder_of(&dir.snap).join("mainstay");
    let mut kept = home.join(format!("damaged-{stamp}"));
    let mut n = 1;
    while run.disk.metadata(&kept).map_err(|e| about("stat", &kept, &e))?.is_some() {
        kept = home.join(format!("damaged-{stamp}-{n}"));
        n += 1;
    }
    run.disk.create_dir_all(&kept).map_err(|e| about("mkdir", &kept, &e))?;
    for made in [&home, &kept] {
        keep_owner(folder_of(&dir.snap), made);
        sync(run, folder_of(made))?;
    }
    Ok(kept)
}

fn sync(run: &Run<'_>, folder: &Path) -> Result<(), Failure> {
    run.disk.sync_dir(folder).map_err(|e| about("sync", folder, &e))
}

fn rename(run: &Run<'_>, from: &Path, to: &Path) -> Result<(), Failure> {
    run.disk.rename(from, to).map_err(|e| about("rename", from, &e))
}

/// Copies the first `len` bytes of a file, and syncs the copy.
pub(crate) fn copy(run: &Run<'_>, from: &Path, to: &Path, len: u64) -> Result<(), Failure> {
    if run.disk.metadata(to).map_err(|e| about("stat", to, &e))?.is_some() {
        run.disk.remove_file(to).map_err(|e| about("remove", to, &e))?;
    }
    let source = run.disk.open(from, OpenMode::Read).map_err(|e| about("open", from, &e))?;
    let target = run.disk.open(to, OpenMode::CreateNew).map_err(|e| about("create", to, &e))?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < len {
        let n = (len - at).min(CHUNK as u64) as usize;
        source.read_exact_at(at, &mut buffer[..n]).map_err(|e| about("read", from, &e))?;
        target.write_at(at, &buffer[..n]).map_err(|e| about("write", to, &e))?;
        at += n as u64;
    }
    target.sync().map_err(|e| about("sync", to, &e))?;
    keep_owner(from, to);
    sync(run, folder_of(to))
}

fn length(run: &Run<'_>, path: &Path) -> Result<u64, Failure> {
    let found = run.disk.metadata(path).map_err(|e| about("stat", path, &e))?;
    let missing = || about("stat", path, &io::ErrorKind::NotFound.into());
    Ok(found.ok_or_else(missing)?.len)
}

fn rebuild_db(run: &mut Run<'_>, dir: &DataDir, kept: &Path) -> Result<(), Failure> {
    let next = dir.db.with_file_name(DB_ON_ITS_WAY);
    if run.disk.metadata(&next).map_err(|e| about("stat", &next, &e))?.is_some() {
        run.disk.remove_file(&next).map_err(|e| about("remove", &next, &e))?;
    }
    if let Err(failure) = db::rebuild(run, dir, &next) {
        // Best effort: a member removes what stays.
        let _ = run.disk.remove_file(&next);
        return Err(failure);
    }
    copy(run, &dir.db, &kept.join("db"), length(run, &dir.db)?)?;
    keep_owner(&dir.db, &next);
    rename(run, &next, &dir.db)?;
    sync(run, &dir.snap)
}

fn put_aside(run: &mut Run<'_>, dir: &DataDir, name: SnapName) -> Result<(), Failure> {
    let from = dir.snap.join(name.to_string());
    rename(run, &from, &dir.snap.join(format!("{name}.broken")))?;
    sync(run, &dir.snap)
}

fn cut_tail(run: &mut Run<'_>, segment: &Path, offset: u64, kept: &Path) -> Result<(), Failure> {
    let name = segment.file_name().ok_or_else(|| plain("a segment has a name"))?;
    copy(run, segment, &kept.join(name), length(run, segment)?)?;
    let next = segment.with_file_name(ON_ITS_WAY);
    copy(run, segment, &next, offset)?;
    rename(run, &next, segment)?;
    sync(run, folder_of(segment))
}

/// Puts a new log in the place of the old one. The new segments come first, with numbers
/// behind those of the old: as long as an old one is there, their checksums do not go on
/// from each other, and no member starts.
fn restart_log(
    run: &mut Run<'_>,
    dir: &DataDir,
    restart: &Restart,
    kept: &Path,
) -> Result<(), Failure> {
    let name = SnapName { term: restart.mark.term, index: restart.mark.index };
    if snap::load(&*run.disk, &dir.snap, name).is_err() {
        let made = snap::save(&*run.disk, &dir.snap, &restart.snapshot).map_err(plain)?;
        keep_owner(&dir.db, &made);
    }
    let (old, _) = log::names(run, &dir.wal)?;
    let folder = dir.wal.join(ON_ITS_WAY);
    remove_folder(run, &folder)?;
    write_log(run, &folder, restart).map_err(plain)?;
    let next = 1 + old
        .last()
        .map_or(0, |name| u64::from_str_radix(name.get(..16).unwrap_or_default(), 16).unwrap_or(0));
    let (new, _) = log::names(run, &folder)?;
    for (n, name) in new.iter().enumerate().rev() {
        let first = if n == 0 { restart.mark.index.0 } else { log::first_index(name) };
        let to = dir.wal.join(format!("{:016x}-{first:016x}.wal", next + n as u64));
        let from = folder.join(name);
        keep_owner(&dir.db, &from);
        rename(run, &from, &to)?;
    }
    remove_folder(run, &folder)?;
    sync(run, &dir.wal)?;
    let is_moved = kept.join("wal");
    run.disk.create_dir_all(&is_moved).map_err(|e| about("mkdir", &is_moved, &e))?;
    keep_owner(&dir.wal, &is_moved);
    sync(run, kept)?;
    for name in &old {
        // Not renamed: the log may lie on another disk, and of a rename from one folder to
        // another a power cut may leave only that it is gone from the first.
        let from = dir.wal.join(name);
        copy(run, &from, &is_moved.join(name), length(run, &from)?)?;
    }
    for name in &old {
        let from = dir.wal.join(name);
        run.disk.remove_file(&from).map_err(|e| about("remove", &from, &e))?;
    }
    sync(run, &dir.wal)
}

fn remove_folder(run: &Run<'_>, folder: &Path) -> Result<(), Failure> {
    match run.disk.metadata(folder).map_err(|e| about("stat", folder, &e))? {
        Some(_) => run.disk.remove_dir_all(folder).map_err(|e| about("remove", folder, &e)),
        None => Ok(()),
    }
}

fn write_log(run: &Run<'_>, folder: &Path, restart: &Restart) -> Result<(), WalError> {
    let mut wal = Wal::create(run.disk.clone(), folder, restart.metadata)?;
    wal.save_snapshot(&restart.mark)?;
    wal.save(Some(&restart.state), &restart.entries, true)?;
    wal.close()
}
