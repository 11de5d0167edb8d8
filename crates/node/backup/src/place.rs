//! Where a restored directory is built, and how it gets its name.
//!
//! | data directory | it is built in | and gets its name by |
//! | --- | --- | --- |
//! | not there | `DATA-DIR.restore.tmp/data` | renaming that to `DATA-DIR` |
//! | there, and empty (a mount point) | `DATA-DIR/restore.tmp/data` | renaming `member` in it |
//!
//! A log folder elsewhere is built in `WAL-DIR.restore.tmp/wal` and gets its name first: a member
//! whose db is missing does not start, while one whose log is missing would found a new cluster
//! with old rows. A note in the building folder, synced before that, says that the log is this
//! restore's; so a run that finds a log without a data directory knows whether it may remove it,
//! and does so only while nothing was added to it. The note is locked while a restore runs.

use std::path::{Path, PathBuf};

use mainstay_env::{Disk, File, LockKind, OpenMode};
use mainstay_wal::Metadata;

use crate::error::{BackupError, Doing};
use crate::log;

/// What the name of a folder that is being built ends with.
pub const SUFFIX: &str = ".restore.tmp";
/// The folder that is being built inside of an empty data directory.
pub const INSIDE: &str = "restore.tmp";

/// The file in the building folder that says whose it is.
const NOTE: &str = "note";
/// The future data directory.
const DATA: &str = "data";

/// A place to build in, ours alone until it is dropped.
pub(crate) struct Place<'a> {
    disk: &'a dyn Disk,
    data_dir: PathBuf,
    /// The data directory is there, and empty.
    is_inside: bool,
    staging: PathBuf,
    /// Below the data directory.
    wal: PathBuf,
    elsewhere: Option<Elsewhere>,
    /// The log outside has got its name.
    has_log_named: bool,
    note: Box<dyn File>,
}

/// A log outside of the data directory.
struct Elsewhere {
    wal_dir: PathBuf,
    /// The folder that it is built in.
    staging: PathBuf,
}

impl Elsewhere {
    fn building(&self) -> PathBuf {
        self.staging.join("wal")
    }
}

impl<'a> Place<'a> {
    /// Looks whether `data_dir` and `wal_dir` can be restored to, removes what an interrupted run
    /// has left, and makes the building folder. `metadata` says whose log it will be.
    pub(crate) fn take(
        disk: &'a dyn Disk,
        data_dir: &Path,
        wal_dir: Option<&Path>,
        metadata: Metadata,
    ) -> Result<Place<'a>, BackupError> {
        let found = disk.metadata(data_dir).doing("stat", data_dir)?;
        if found.is_some_and(|found| !found.is_dir) {
            return Err(BackupError::DataDirNotEmpty(data_dir.to_owned()));
        }
        let is_inside = found.is_some();
        let wal_dir = wal_dir.map_or_else(|| data_dir.join("member").join("wal"), Path::to_owned);
        if data_dir.starts_with(&wal_dir) {
            return Err(BackupError::WalDirHolds(wal_dir));
        }
        let below = wal_dir.strip_prefix(data_dir).ok().map(Path::to_owned);
        let below = below.filter(|wal| !is_inside || wal.starts_with("member"));
        let elsewhere = match &below {
            Some(_) => None,
            None => Some(Elsewhere { staging: suffixed(&wal_dir)?, wal_dir }),
        };
        // A directory that is there may have no name to build beside: `.`, `/`.
        let outside = if is_inside { suffixed(data_dir).ok() } else { Some(suffixed(data_dir)?) };
        let inside = data_dir.join(INSIDE);
        let stagings = outside.iter().chain([&inside]);
        let left = Leftovers::look(disk, stagings, elsewhere.as_ref(), metadata)?;
        if found.is_some() {
            left.check_empty(disk, data_dir)?;
        }
        if let Some(Elsewhere { wal_dir, .. }) = &elsewhere
            && left.log.is_none()
            && disk.metadata(wal_dir).doing("stat", wal_dir)?.is_some()
        {
            return Err(BackupError::WalDirExists(wal_dir.clone()));
        }
        left.remove(disk)?;
        let staging = outside.filter(|_| !is_inside).unwrap_or(inside);
        make_dir(disk, &staging)?;
        let path = staging.join(NOTE);
        let note = disk.open(&path, OpenMode::CreateNew).doing("create", &path)?;
        if !note.try_lock(LockKind::Flock).doing("lock", &path)? {
            return Err(BackupError::Busy(staging));
        }
        let wal = below.unwrap_or_default();
        let data_dir = data_dir.to_owned();
        let has_log_named = false;
        let place =
            Place { disk, data_dir, is_inside, staging, wal, elsewhere, has_log_named, note };
        match place.begin(metadata) {
            Ok(()) => Ok(place),
            Err(error) => {
                place.give_up();
                Err(error)
            }
        }
    }

    /// Writes the note and makes the folders.
    fn begin(&self, metadata: Metadata) -> Result<(), BackupError> {
        let path = self.staging.join(NOTE);
        let wal_dir = self.elsewhere.as_ref().map(|elsewhere| elsewhere.wal_dir.as_path());
        self.note.write_at(0, note_text(metadata, wal_dir).as_bytes()).doing("write", &path)?;
        let snap = self.snap_dir();
        self.disk.create_dir_all(&snap).doing("mkdir", &snap)
    }

    fn data(&self) -> PathBuf {
        self.staging.join(DATA)
    }

    /// The folder for the db and the `.snap` file; it is there.
    pub(crate) fn snap_dir(&self) -> PathBuf {
        self.data().join("member").join("snap")
    }

    /// The folder that the log is to be made in. It is not there; the one that holds it is.
    pub(crate) fn wal_dir(&self) -> Result<PathBuf, BackupError> {
        let path = match &self.elsewhere {
            Some(elsewhere) => elsewhere.building(),
            None => self.data().join(&self.wal),
        };
        if let Some(above) = path.parent() {
            make_dir(self.disk, above)?;
        }
        Ok(path)
    }

    /// Makes everything that was built durable and gives it its name; durable, too, when this
    /// returns.
    pub(crate) fn give_name(&mut self) -> Result<(), BackupError> {
        sync_tree(self.disk, &self.data())?;
        if let Some(elsewhere) = &self.elsewhere {
            let (wal_dir, building) = (&elsewhere.wal_dir, &elsewhere.building());
            sync_tree(self.disk, building)?;
            let note = self.staging.join(NOTE);
            self.note.sync().doing("sync", &note)?;
            self.disk.sync_dir(&self.staging).doing("sync", &self.staging)?;
            sync_above(self.disk, &self.staging)?;
            self.disk.rename(building, wal_dir).doing("rename", building)?;
            self.has_log_named = true;
            sync_above(self.disk, wal_dir)?;
        }
        let (from, to) = match self.is_inside {
            true => (self.data().join("member"), self.data_dir.join("member")),
            false => (self.data(), self.data_dir.clone()),
        };
        self.disk.rename(&from, &to).doing("rename", &from)?;
        sync_above(self.disk, &to)
    }

    /// Removes the building folder: after the name was given, only the note is left in it. What
    /// cannot be removed does no harm: the next run does it.
    pub(crate) fn clear_away(self) {
        let elsewhere = self.elsewhere.iter().map(|elsewhere| &elsewhere.staging);
        for staging in elsewhere.chain([&self.staging]) {
            if self.disk.remove_dir_all(staging).is_ok() {
                // Its name need not be gone for good, either.
                let _ = sync_above(self.disk, staging);
            }
        }
    }

    /// Removes everything: the restore has failed. As well as the disk lets it; the next run
    /// removes the rest.
    pub(crate) fn give_up(self) {
        let Place { disk, staging, data_dir, elsewhere, is_inside, has_log_named, .. } = &self;
        // When the last sync failed, nobody knows whether the name was given.
        let named = if *is_inside { data_dir.join("member") } else { data_dir.clone() };
        if !matches!(disk.metadata(&named), Ok(None)) {
            return;
        }
        if let Some(Elsewhere { wal_dir, staging }) = elsewhere {
            if *has_log_named {
                let _ = disk.remove_dir_all(wal_dir);
            }
            let _ = disk.remove_dir_all(staging);
        }
        let _ = disk.remove_dir_all(staging);
    }
}

/// What an interrupted run has left behind.
struct Leftovers {
    /// Building folders.
    folders: Vec<PathBuf>,
    /// A log that got its name, and that nothing was added to.
    log: Option<PathBuf>,
}

impl Leftovers {
    fn look<'p>(
        disk: &dyn Disk,
        stagings: impl Iterator<Item = &'p PathBuf>,
        elsewhere: Option<&Elsewhere>,
        metadata: Metadata,
    ) -> Result<Leftovers, BackupError> {
        let mut left = Leftovers { folders: Vec::new(), log: None };
        for staging in stagings {
            if disk.metadata(staging).doing("stat", staging)?.is_none() {
                continue;
            }
            let noted = read_note(disk, staging)?;
            if let Some(Elsewhere { wal_dir, .. }) = elsewhere
                && noted == note_text(metadata, Some(wal_dir))
                && log::is_untouched(disk, wal_dir, metadata)?
            {
                left.log = Some(wal_dir.clone());
            }
            left.folders.push(staging.clone());
        }
        if let Some(Elsewhere { staging, .. }) = elsewhere
            && disk.metadata(staging).doing("stat", staging)?.is_some()
        {
            left.folders.push(staging.clone());
        }
        Ok(left)
    }

    /// Whether nothing but leftovers is in the data directory.
    fn check_empty(&self, disk: &dyn Disk, data_dir: &Path) -> Result<(), BackupError> {
        let not_empty = || BackupError::DataDirNotEmpty(data_dir.to_owned());
        let names = disk.list(data_dir).map_err(|_| not_empty())?;
        let ours = |name: &String| {
            let path = data_dir.join(name);
            self.folders.contains(&path) || self.log.as_ref() == Some(&path)
        };
        if names.iter().all(ours) { Ok(()) } else { Err(not_empty()) }
    }

    /// The log first: the note that tells whose it is must stay as long.
    fn remove(&self, disk: &dyn Disk) -> Result<(), BackupError> {
        for path in self.log.iter().chain(self.folders.iter().rev()) {
            disk.remove_dir_all(path).doing("remove", path)?;
            sync_above(disk, path)?;
        }
        Ok(())
    }
}

/// What the note in a building folder says; nothing when there is none.
fn read_note(disk: &dyn Disk, staging: &Path) -> Result<String, BackupError> {
    let path = staging.join(NOTE);
    if disk.metadata(&path).doing("stat", &path)?.is_none() {
        return Ok(String::new());
    }
    let note = disk.open(&path, OpenMode::ReadWrite).doing("open", &path)?;
    if !note.try_lock(LockKind::Flock).doing("lock", &path)? {
        return Err(BackupError::Busy(staging.to_owned()));
    }
    /// Longer than any path.
    const NOTE_BYTES_MAX: usize = 16 << 10;
    let mut bytes = vec![0; NOTE_BYTES_MAX];
    let len = note.read_at(0, &mut bytes).doing("read", &path)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

fn note_text(metadata: Metadata, wal_dir: Option<&Path>) -> String {
    let wal_dir = wal_dir.map(|path| format!("wal-dir {}\n", path.display())).unwrap_or_default();
    let Metadata { member, cluster } = metadata;
    format!("a restore builds here\nmember {member}\ncluster {cluster}\n{wal_dir}end\n")
}

/// The path with [`SUFFIX`] behind its name.
fn suffixed(path: &Path) -> Result<PathBuf, BackupError> {
    let Some(name) = path.file_name() else {
        // The root, or `..`: nothing can be built beside it, and it is not empty.
        return Err(BackupError::DataDirNotEmpty(path.to_owned()));
    };
    let mut name = name.to_owned();
    name.push(SUFFIX);
    Ok(path.with_file_name(name))
}

/// Makes a folder and those above it that are missing, with durable names.
fn make_dir(disk: &dyn Disk, path: &Path) -> Result<(), BackupError> {
    let mut missing = Vec::new();
    for dir in path.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
        if disk.metadata(dir).doing("stat", dir)?.is_some() {
            break;
        }
        missing.push(dir);
    }
    disk.create_dir_all(path).doing("mkdir", path)?;
    for dir in missing.iter().rev() {
        sync_above(disk, dir)?;
    }
    Ok(())
}

/// Makes the name of `path` durable, or its absence.
fn sync_above(disk: &dyn Disk, path: &Path) -> Result<(), BackupError> {
    let above = path.parent().unwrap_or(Path::new("/"));
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    disk.sync_dir(above).doing("sync", above)
}

/// Makes all names in and below a folder durable.
fn sync_tree(disk: &dyn Disk, dir: &Path) -> Result<(), BackupError> {
    for name in disk.list(dir).doing("list", dir)? {
        let path = dir.join(name);
        if disk.metadata(&path).doing("stat", &path)?.is_some_and(|found| found.is_dir) {
            sync_tree(disk, &path)?;
        }
    }
    disk.sync_dir(dir).doing("sync", dir)
}
