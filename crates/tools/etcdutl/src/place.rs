//! Where things lie in a data directory, and the locks that keep a server and a tool apart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_backend::bolt::{Reader, SumsAt};
use mainstay_env::{Clock as _, File, LockKind, OpenMode};
use mainstay_print::args::Line;
use mainstay_print::json::Object;
use mainstay_print::quote::quote;
use mainstay_wal::{SnapshotMark, valid_snapshots};

use crate::{Failure, Run};

/// How often a lock that somebody holds is asked for again (bbolt, `flockRetryTimeout`).
const LOCK_RETRY: Duration = Duration::from_millis(50);
/// After this long the user is told what is being waited for.
const LOCK_SAY_AFTER: Duration = Duration::from_secs(1);

/// A data directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    /// The folder of the log.
    pub(crate) wal: PathBuf,
    /// The folder of snapshots and db.
    pub(crate) snap: PathBuf,
    /// The db file.
    pub(crate) db: PathBuf,
}

impl DataDir {
    /// The one that `--data-dir` names; the log may lie elsewhere.
    pub(crate) fn of(line: &Line) -> DataDir {
        DataDir::at(Path::new(line.text("data-dir")), line.text("wal-dir"))
    }

    /// With the log in `wal` when that is not empty.
    pub(crate) fn at(root: &Path, wal: &str) -> DataDir {
        let member = root.join("member");
        let wal = if wal.is_empty() { member.join("wal") } else { PathBuf::from(wal) };
        let snap = member.join("snap");
        DataDir { wal, db: snap.join("db"), snap }
    }

    /// The newest snapshot that counts; the beginning of the log when there is none.
    pub(crate) fn newest_mark(&self, run: &Run<'_>) -> Result<SnapshotMark, Failure> {
        let marks = valid_snapshots(&*run.disk, &self.wal).map_err(plain)?;
        Ok(marks.into_iter().max_by_key(|mark| mark.index).unwrap_or_default())
    }
}

/// An error of another room as our own.
pub(crate) fn plain(error: impl std::fmt::Display) -> Failure {
    Failure::error(error.to_string())
}

/// An error about one path, in Go's form: the call, the path, the reason.
pub(crate) fn about(call: &str, path: &Path, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::error(format!("{call} {}: {why}", path.display()))
}

/// Fails when there is no file at `path`.
pub(crate) fn must_exist(run: &Run<'_>, path: &Path) -> Result<(), Failure> {
    match run.disk.metadata(path) {
        Ok(Some(found)) if !found.is_dir => Ok(()),
        Ok(Some(_)) => Err(Failure::error(format!("{}: is a directory", path.display()))),
        Ok(None) => Err(about("stat", path, &io::ErrorKind::NotFound.into())),
        Err(error) => Err(about("stat", path, &error)),
    }
}

/// Opens a db file and takes the lock that bbolt takes, waiting for it as long as
/// `--timeout` says. The file stays locked until what this returns is dropped.
pub(crate) fn lock_db(
    run: &mut Run<'_>,
    line: &Line,
    path: &Path,
) -> Result<Box<dyn File>, Failure> {
    must_exist(run, path)?;
    let file = run.disk.open(path, OpenMode::Read).map_err(|e| about("open", path, &e))?;
    let patience = line.duration("timeout");
    let began = run.clock.now();
    let mut said = false;
    loop {
        if file.try_lock(LockKind::Flock).map_err(|e| about("flock", path, &e))? {
            return Ok(file);
        }
        let waited = run.clock.now().saturating_sub(began);
        if patience > Duration::ZERO && waited >= patience {
            return Err(in_use(path));
        }
        if !said && waited >= LOCK_SAY_AFTER {
            said = true;
            let fields = Object::default().text("path", &path.display().to_string());
            run.info("waiting for the lock of the db file, which another process holds", fields);
        }
        std::thread::sleep(LOCK_RETRY.min(patience.max(LOCK_RETRY)));
    }
}

/// Takes the locks of all segments of a log, so that no member opens it meanwhile.
pub(crate) fn lock_wal(run: &Run<'_>, wal: &Path) -> Result<Vec<Box<dyn File>>, Failure> {
    let mut locks = Vec::new();
    let names = run.disk.list(wal).map_err(|e| about("open", wal, &e))?;
    for name in names.iter().filter(|name| name.ends_with(".wal")) {
        let path = wal.join(name);
        let file =
            run.disk.open(&path, OpenMode::ReadWrite).map_err(|e| about("open", &path, &e))?;
        let locked = file.try_lock(LockKind::OpenFileDescription);
        if !locked.map_err(|e| about("lock", &path, &e))? {
            return Err(in_use(&path));
        }
        locks.push(file);
    }
    Ok(locks)
}

fn in_use(path: &Path) -> Failure {
    Failure::error(format!(
        "timeout: {} is locked by another process, perhaps a running etcd; stop it first",
        path.display()
    ))
}

/// A reader of a db file, which the caller has locked when it may be in use.
pub(crate) fn open_db(run: &Run<'_>, path: &Path) -> Result<Reader, Failure> {
    Reader::open(&*run.disk, path).map_err(plain)
}

/// As [`open_db`], for a db that may lie in a member's folder: its pages are then compared with the
/// checksums that the member keeps of them, when they are those of this file.
pub(crate) fn open_own_db(run: &Run<'_>, path: &Path) -> Result<Reader, Failure> {
    let sums = sums_of(path);
    match SumsAt::found(Arc::clone(&run.disk), &sums) {
        Some(at) => {
            let (reader, _) = Reader::open_summed(&*run.disk, path, &at).map_err(plain)?;
            Ok(reader)
        }
        None => open_db(run, path),
    }
}

fn sums_of(db: &Path) -> PathBuf {
    folder_of(folder_of(db)).join("mainstay").join("pages")
}

/// Another file is about to take the name of a member's db: the checksums of its pages go first, as
/// rewritten files count their transactions anew and may look alike.
pub(crate) fn forget_sums(run: &Run<'_>, db: &Path) -> Result<(), Failure> {
    let sums = sums_of(db);
    if run.disk.metadata(&sums).map_err(|e| about("stat", &sums, &e))?.is_none() {
        return Ok(());
    }
    run.disk.remove_file(&sums).map_err(|e| about("remove", &sums, &e))?;
    let folder = folder_of(&sums);
    run.disk.sync_dir(folder).map_err(|e| about("sync", folder, &e))
}

/// The one argument of a command.
pub(crate) fn one_argument(line: &Line) -> Result<&str, Failure> {
    match line.args.as_slice() {
        [one] => Ok(one),
        more => Err(arguments(1, more.len())),
    }
}

/// Cobra's words about the number of arguments.
pub(crate) fn arguments(wanted: usize, given: usize) -> Failure {
    Failure::error(format!("accepts {wanted} arg(s), received {given}"))
}

/// Refuses arguments of a command that takes none.
pub(crate) fn no_arguments(line: &Line) -> Result<(), Failure> {
    match line.args.first() {
        None => Ok(()),
        Some(first) => {
            let name = line.command.name;
            let first = quote(first.as_bytes());
            Err(Failure::error(format!("unknown command {first} for \"etcdutl {name}\"")))
        }
    }
}

/// The folder that a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives a file the owner that another has: what root mends must stay etcd's own. A file
/// system without owners, or a user who may not, is no failure of what was done.
pub(crate) fn keep_owner(of: &Path, to: &Path) {
    use std::os::unix::fs::{MetadataExt as _, chown};
    if let (Ok(wanted), Ok(is)) = (std::fs::metadata(of), std::fs::metadata(to))
        && (wanted.uid(), wanted.gid()) != (is.uid(), is.gid())
    {
        let _ = chown(to, Some(wanted.uid()), Some(wanted.gid()));
    }
}
