//! `verify`: log, snapshots and db, each for itself and one against the other.

use mainstay_backend::bolt::Reader;
use mainstay_backend::{Bucket, meta};
use mainstay_print::args::Line;
use mainstay_print::json::Object;
use mainstay_raft::HardState;
use mainstay_types::Index;
use mainstay_wal::{SnapshotMark, snap};

use crate::place::{DataDir, lock_db, no_arguments, open_own_db, plain};
use crate::{Failure, Run};

/// Checks a data directory that no server has open.
pub(crate) fn run(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    no_arguments(line)?;
    let dir = DataDir::of(line);
    let at = || Object::default().text("data-dir", line.text("data-dir"));
    if run.disk.metadata(&dir.db).map_err(plain)?.is_none() {
        run.info("verification skipped due to non exist db file", Object::default());
        return Ok(());
    }
    let _lock = lock_db(run, line, &dir.db)?;
    run.info("verification of persisted state", at());
    match check(run, &dir) {
        Ok(()) => {
            run.info("verification of persisted state successful", at());
            Ok(())
        }
        Err(failure) => {
            run.error(
                "verification of persisted state failed",
                at().text("error", &failure.message),
            );
            Err(failure)
        }
    }
}

fn check(run: &mut Run<'_>, dir: &DataDir) -> Result<(), Failure> {
    let reader = open_own_db(run, &dir.db)?;
    let problems = reader.check().map_err(plain)?;
    if let Some(first) = problems.first() {
        return Err(Failure::error(format!(
            "{}: {} pages are damaged, the first is page {}: {}",
            dir.db.display(),
            problems.len(),
            first.page,
            first.what
        )));
    }
    let mark = dir.newest_mark(run)?;
    let replay = mainstay_wal::read(&*run.disk, &dir.wal, &mark).map_err(plain)?;
    if let Some(torn) = &replay.torn_tail {
        let fields = Object::default()
            .text("path", &torn.file.display().to_string())
            .number("offset", i128::from(torn.offset));
        run.warn("the log ends in a save that a crash cut short; a start cuts it off", fields);
    }
    for name in snap::list(&*run.disk, &dir.snap).map_err(plain)? {
        snap::load(&*run.disk, &dir.snap, name).map_err(plain)?;
    }
    let last = replay.entries.last().map_or(mark.index, |entry| entry.index);
    against_log(run, &reader, &replay.hard_state, &mark, last)
}

/// The db must not be ahead of the log, nor behind the snapshot that the log starts from.
fn against_log(
    run: &mut Run<'_>,
    reader: &Reader,
    state: &HardState,
    mark: &SnapshotMark,
    last: Index,
) -> Result<(), Failure> {
    let (index, term) = applied(reader)?;
    let (commit, newest) = (state.commit.max(mark.index).0, state.term.0.max(mark.term.0));
    // The log learns of a commit with the next record that it has to sync, so the db may be
    // ahead of what it says is committed (disk.md 6.2), but not of its entries.
    if index > last.0 {
        return Err(Failure::error(format!(
            "backend.ConsistentIndex ({index}) must be <= the last index of the log ({last}); \
             WAL.HardState.commit is {commit}"
        )));
    }
    if term > newest {
        return Err(Failure::error(format!(
            "backend.Term ({term}) must be <= WAL.HardState.term, ({newest})"
        )));
    }
    if Index(index) < mark.index {
        return Err(Failure::error(format!(
            "backend.ConsistentIndex ({index}) must be >= last snapshot index ({})",
            mark.index
        )));
    }
    let fields = Object::default()
        .number("backend-consistent-index", index)
        .number("hardstate-commit", commit);
    run.info("verification: consistentIndex OK", fields);
    Ok(())
}

/// Index and term up to which a db has applied the log; 0 when it does not say.
pub(crate) fn applied(reader: &Reader) -> Result<(u64, u64), Failure> {
    let number = |key: &[u8]| -> Result<u64, Failure> {
        let value = reader.get(Bucket::Meta.name(), key).map_err(plain)?;
        let Some(value) = value else { return Ok(0) };
        let bytes = value.as_ref().try_into();
        let bytes = bytes.map_err(|_| {
            plain(format!(
                "row {} of bucket meta has {} bytes, not 8",
                key.escape_ascii(),
                value.len()
            ))
        })?;
        Ok(u64::from_be_bytes(bytes))
    };
    Ok((number(meta::CONSISTENT_INDEX)?, number(meta::TERM)?))
}
