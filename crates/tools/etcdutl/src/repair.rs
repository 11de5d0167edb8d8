//! `repair`: what is damaged in a data directory, what of it is sound, what would be lost;
//! and, told so, the way to a directory that a member starts on.
//!
//! Nothing is changed without `--apply`. With it the damaged originals are kept in a folder
//! of their own, each file is built beside and renamed, and the last rename is the one that
//! makes the directory whole: until then no member starts on it.
//!
//! - A **torn tail** of the log is cut off, as a start does by itself.
//! - A **damaged log** starts anew where the db has got to: the db is the state at the index
//!   that it has applied, so nothing of the log up to there is needed any more. Entries behind
//!   it are kept as far as they are sound.
//! - A **damaged `.snap`** is put aside; an older one is used when the log reaches back to it,
//!   else one is made of the db.
//! - **Damaged pages of the db** are left out of a new file that holds the rows of all others.

mod act;
mod db;
mod wal;

use std::path::PathBuf;

use mainstay_print::args::Line;
use mainstay_wal::snap::SnapName;
use mainstay_wal::{WalError, snap, valid_snapshots};

use crate::place::{DataDir, lock_db, lock_wal, no_arguments, plain};
use crate::{Failure, Run};
use wal::Restart;

pub(crate) use act::copy;
pub(crate) use db::describe;

/// What was found and what can be done.
#[derive(Default)]
struct Plan {
    /// File, offset when there is one, and what is wrong.
    damaged: Vec<(PathBuf, Option<u64>, String)>,
    lost: Vec<String>,
    warnings: Vec<String>,
    /// Why nothing can be done here, and what can be done instead.
    refused: Vec<String>,
    steps: Vec<Step>,
}

/// One thing to do.
enum Step {
    /// A segment ends at this offset.
    CutTail { segment: PathBuf, offset: u64 },
    /// A `.snap` file is renamed.
    PutAside(SnapName),
    /// The db is written anew from its sound pages.
    RebuildDb,
    /// The log starts anew behind what the db has applied.
    RestartLog(Box<Restart>),
}

impl Step {
    fn tell(&self) -> String {
        match self {
            Step::CutTail { segment, offset } => {
                format!("cut {} at offset {offset}", segment.display())
            }
            Step::PutAside(name) => format!("rename {name} to {name}.broken"),
            Step::RebuildDb => "write the db anew from its sound pages".to_owned(),
            Step::RestartLog(restart) => format!(
                "start the log anew behind index {}, which the db has applied, with {} entries",
                restart.mark.index,
                restart.entries.len()
            ),
        }
    }
}

/// Looks at a data directory and, with `--apply`, repairs it.
pub(crate) fn run(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    no_arguments(line)?;
    let dir = DataDir::of(line);
    let apply = line.is("apply");
    let disk = run.disk.clone();
    let is_there = |path: &PathBuf| disk.metadata(path).map(|found| found.is_some());
    if !is_there(&dir.snap).map_err(plain)? && !is_there(&dir.wal).map_err(plain)? {
        let root = line.text("data-dir");
        return Err(Failure::error(format!("{root}: no data directory (no member/snap, no log)")));
    }
    let _db = match is_there(&dir.db).map_err(plain)? {
        true => Some(lock_db(run, line, &dir.db)?),
        false => None,
    };
    let wals = match is_there(&dir.wal).map_err(plain)? {
        true => lock_wal(run, &dir.wal)?,
        false => Vec::new(),
    };
    let mut plan = Plan::default();
    examine(run, &dir, wals.is_empty(), &mut plan)?;
    report(run, &plan, apply);
    if plan.damaged.is_empty() && plan.refused.is_empty() {
        return Ok(());
    }
    if !plan.refused.is_empty() {
        return Err(Failure::error("this directory cannot be repaired; nothing was changed"));
    }
    if !apply {
        return Err(Failure::error("damage was found; nothing was changed (--apply repairs it)"));
    }
    act::apply(run, &dir, &plan)?;
    run.say("repaired");
    Ok(())
}

fn report(run: &mut Run<'_>, plan: &Plan, apply: bool) {
    for (file, offset, what) in &plan.damaged {
        let at = offset.map(|offset| format!(" at offset {offset}")).unwrap_or_default();
        run.say(&format!("damaged: {}{at}: {what}", file.display()));
    }
    if plan.damaged.is_empty() && plan.refused.is_empty() {
        run.say("nothing is damaged");
        return;
    }
    for what in &plan.refused {
        run.say(&format!("refused: {what}"));
    }
    if !plan.refused.is_empty() {
        return;
    }
    let word = if apply { "step" } else { "would" };
    for step in &plan.steps {
        run.say(&format!("{word}: {}", step.tell()));
    }
    match plan.lost.is_empty() {
        true => run.say("lost: nothing"),
        false => plan.lost.iter().for_each(|what| run.say(&format!("lost: {what}"))),
    }
    for what in &plan.warnings {
        run.say(&format!("warning: {what}"));
    }
}

fn examine(run: &mut Run<'_>, dir: &DataDir, no_log: bool, plan: &mut Plan) -> Result<(), Failure> {
    if no_log {
        plan.refused.push(format!(
            "{}: there is no log, and without it nobody knows who this member is and what it voted for. \
             Remove the member from the cluster and add it again; for a cluster of one, make a new one \
             from the db: etcdutl snapshot restore {} --skip-hash-check --data-dir NEW",
            dir.wal.display(),
            dir.db.display()
        ));
        return Ok(());
    }
    let db = db::examine(run, dir, plan)?;
    let broken = snaps(run, dir, plan)?;
    log(run, dir, db.as_ref(), &broken, plan)?;
    if let Some(db) = db.filter(|db| db.voters() > 1)
        && !plan.lost.is_empty()
    {
        plan.warnings.push(format!(
            "this is one of {} voting members: what is lost here may be what the cluster counts on. \
             Rather remove this member and add it again (etcdctl member remove, member add), \
             unless the others are gone, too",
            db.voters()
        ));
    }
    Ok(())
}

/// The `.snap` files that cannot be read.
fn snaps(run: &mut Run<'_>, dir: &DataDir, plan: &mut Plan) -> Result<Vec<SnapName>, Failure> {
    let mut broken = Vec::new();
    for name in snap::list(&*run.disk, &dir.snap).map_err(plain)? {
        match snap::load(&*run.disk, &dir.snap, name) {
            Ok(_) => {}
            Err(WalError::Corrupt { file, offset, expected, found }) => {
                let what = format!("expected {expected}, found {found}");
                plan.damaged.push((file, Some(offset), what));
                plan.steps.push(Step::PutAside(name));
                broken.push(name);
            }
            Err(error) => return Err(plain(error)),
        }
    }
    Ok(broken)
}

/// The log, for itself and with the snapshots that are left.
fn log(
    run: &mut Run<'_>,
    dir: &DataDir,
    db: Option<&db::Db>,
    broken: &[SnapName],
    plan: &mut Plan,
) -> Result<(), Failure> {
    let applied = db.map_or(0, |db| db.applied.0);
    let marks = match valid_snapshots(&*run.disk, &dir.wal) {
        Ok(marks) => marks,
        Err(error) => return restart(run, dir, db, Some(error), plan),
    };
    // The newest that counts, has its file, and that the log reaches back to.
    let names = snap::list(&*run.disk, &dir.snap).map_err(plain)?;
    let has_file = |index, term| {
        let name = |name: &&SnapName| (name.index, name.term) == (index, term);
        names.iter().find(name).is_some_and(|name| !broken.contains(name))
    };
    let mut newest: Vec<_> =
        marks.iter().filter(|m| m.index.0 == 0 || has_file(m.index, m.term)).collect();
    newest.sort_by_key(|mark| std::cmp::Reverse(mark.index));
    let mut why = None;
    for mark in newest {
        match mainstay_wal::read(&*run.disk, &dir.wal, mark) {
            Ok(replay) => {
                let last = replay.entries.last().map_or(mark.index, |entry| entry.index);
                if last.0 < applied {
                    continue;
                }
                if let Some(torn) = replay.torn_tail {
                    let what = format!(
                        "a save of {} bytes that a crash cut short; nothing in it was acknowledged",
                        torn.bytes
                    );
                    plan.damaged.push((torn.file.clone(), Some(torn.offset), what));
                    plan.steps.push(Step::CutTail { segment: torn.file, offset: torn.offset });
                }
                return Ok(());
            }
            Err(error) => why = Some(error),
        }
    }
    restart(run, dir, db, why, plan)
}

/// A log that cannot be read on its own: it starts anew from the db.
fn restart(
    run: &mut Run<'_>,
    dir: &DataDir,
    db: Option<&db::Db>,
    why: Option<WalError>,
    plan: &mut Plan,
) -> Result<(), Failure> {
    match why {
        Some(WalError::Corrupt { file, offset, expected, found }) => {
            plan.damaged.push((file, Some(offset), format!("expected {expected}, found {found}")));
        }
        Some(
            error @ (WalError::Locked { .. } | WalError::Disk { .. } | WalError::Newer { .. }),
        ) => {
            return Err(plain(error));
        }
        Some(error) => plan.damaged.push((dir.wal.clone(), None, error.to_string())),
        None => {
            let what = "no snapshot that can be read belongs to it, or the db is ahead of it";
            plan.damaged.push((dir.wal.clone(), None, what.to_owned()));
        }
    }
    let Some(db) = db else {
        plan.refused.push(
            "the log is damaged, and there is no db to start it anew from: restore a backup, or \
             remove this member from the cluster and add it again"
                .to_owned(),
        );
        return Ok(());
    };
    wal::restart(run, dir, db, plan)
}

#[cfg(test)]
mod tests;
