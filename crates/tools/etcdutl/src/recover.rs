//! `recover`: the majority of a cluster is lost. Which of the survivors' logs is the longest
//! that can be proved, what may be missing from it, and a cluster of one made of it.
//!
//! The log to go on with is the one that raft would elect: of the newest term, and of those
//! the longest. What was committed in an older term is in it, and what was committed in its
//! own is in the longest. What only other survivors have was never committed.
//!
//! Everything in that log is kept, also what it does not know to be committed: the lost
//! members may have been the ones that knew. (etcd's `--force-new-cluster` drops that.)
//! Behind it stand changes that remove every other member, committed.

mod build;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mainstay_print::args::Line;
use mainstay_print::table::table;
use mainstay_raft::{ConfChangeKind, ConfChangeV2, ConfState, Entry, HardState};
use mainstay_types::{ClusterId, MemberId};
use mainstay_wal::{SnapshotMark, snap};

use crate::place::{DataDir, lock_db, lock_wal, open_db, plain};
use crate::repair::describe;
use crate::run::Form;
use crate::{Failure, Run, hashkv};

/// What a survivor's directory says.
struct Survivor {
    root: PathBuf,
    member: MemberId,
    cluster: ClusterId,
    state: HardState,
    mark: SnapshotMark,
    entries: Vec<Entry>,
    /// The configuration at `mark` or at what the db has applied, whichever is newer.
    conf_state: ConfState,
    /// Up to which index it is the one.
    conf_index: u64,
    applied: u64,
    revision: i64,
}

impl Survivor {
    /// Term and index of the newest entry.
    fn last(&self) -> (u64, u64) {
        let last = self.entries.last().map(|entry| (entry.term.0, entry.index.0));
        last.unwrap_or((self.mark.term.0, self.mark.index.0))
    }

    fn committed(&self) -> u64 {
        self.state.commit.0.max(self.applied)
    }

    /// Voters and learners once all of its log is applied.
    fn members(&self) -> Result<(BTreeSet<MemberId>, BTreeSet<MemberId>), Failure> {
        let state = &self.conf_state;
        let mut voters: BTreeSet<MemberId> =
            state.voters.iter().chain(&state.voters_outgoing).copied().collect();
        let mut learners: BTreeSet<MemberId> = state.learners.iter().copied().collect();
        for entry in self.entries.iter().filter(|entry| entry.index.0 > self.conf_index) {
            let change = ConfChangeV2::of_entry(entry)
                .map_err(|_| plain(format!("log entry {} is no change of members", entry.index)))?;
            for single in change.into_iter().flat_map(|change| change.changes) {
                match single.kind {
                    ConfChangeKind::AddNode => {
                        learners.remove(&single.node);
                        voters.insert(single.node);
                    }
                    ConfChangeKind::AddLearnerNode => drop(learners.insert(single.node)),
                    ConfChangeKind::RemoveNode => {
                        voters.remove(&single.node);
                        learners.remove(&single.node);
                    }
                    ConfChangeKind::UpdateNode => {}
                }
            }
        }
        Ok((voters, learners))
    }
}

/// Compares the directories and, with `--apply`, makes a new one.
pub(crate) fn run(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    if line.args.is_empty() {
        return Err(Failure::bad_args("recover needs the data directories of the survivors"));
    }
    let to = line.text("to");
    if line.is("apply") && to.is_empty() {
        return Err(Failure::bad_args("--apply needs --to, the directory to make"));
    }
    let mut locks = Vec::new();
    let mut survivors = Vec::new();
    for root in &line.args {
        let dir = DataDir::at(Path::new(root), "");
        locks.push(lock_db(run, line, &dir.db)?);
        locks.extend(lock_wal(run, &dir.wal)?);
        survivors.push(read(run, Path::new(root), &dir)?);
    }
    check(&survivors)?;
    show(run, &survivors);
    let best = survivors.iter().max_by_key(|survivor| survivor.last());
    let best = best.ok_or_else(|| Failure::bad_args("no directory"))?;
    let (voters, learners) = best.members()?;
    if !voters.contains(&best.member) {
        return Err(plain(format!(
            "{}: the longest log is that of member {}, which has no vote; leave it out",
            best.root.display(),
            best.member
        )));
    }
    report(run, best, &survivors, &voters);
    if !line.is("apply") {
        return Err(Failure::error("nothing was changed (--to DIR --apply makes the new cluster)"));
    }
    let others: Vec<MemberId> =
        voters.union(&learners).copied().filter(|id| *id != best.member).collect();
    let newest = survivors.iter().map(|s| s.state.term.0.max(s.last().0)).max().unwrap_or(0);
    build::cluster_of_one(run, best, &others, newest + 1, Path::new(to))?;
    run.say(&format!(
        "made: {to}. Start etcd with --data-dir {to} and the name it had, and add members to it. \
         Never start a member on one of the old directories again"
    ));
    Ok(())
}

fn read(run: &mut Run<'_>, root: &Path, dir: &DataDir) -> Result<Survivor, Failure> {
    let damaged = |why: String| {
        plain(format!("{why}; etcdutl repair --data-dir {} says what can be done", root.display()))
    };
    let mark = dir.newest_mark(run).map_err(|failure| damaged(failure.message))?;
    let replay = mainstay_wal::read(&*run.disk, &dir.wal, &mark);
    let replay = replay.map_err(|error| damaged(error.to_string()))?;
    let reader = open_db(run, &dir.db)?;
    if let Some(problem) = reader.check().map_err(plain)?.first() {
        let (page, what) = (problem.page, &problem.what);
        return Err(damaged(format!("{}: page {page}: {what}", dir.db.display())));
    }
    let db = describe(run, dir)?;
    let hash = hashkv::of(&reader, 0)?;
    let mut survivor = Survivor {
        root: root.to_owned(),
        member: replay.metadata.member,
        cluster: replay.metadata.cluster,
        state: replay.hard_state,
        entries: replay.entries,
        conf_state: db.conf_state.unwrap_or_default(),
        conf_index: db.applied.0,
        applied: db.applied.0,
        revision: hash.revision,
        mark,
    };
    // A snapshot that a leader sent and that was not taken up yet, or a db before 3.5.
    if survivor.mark.index.0 > survivor.applied || survivor.conf_state.voters.is_empty() {
        let name = snap::SnapName { term: survivor.mark.term, index: survivor.mark.index };
        if name.index.0 > 0 {
            let snapshot = snap::load(&*run.disk, &dir.snap, name).map_err(plain)?;
            survivor.conf_state = snapshot.conf_state;
        }
        survivor.conf_index = survivor.mark.index.0;
    }
    let last = survivor.last().1;
    if survivor.applied > last {
        return Err(damaged(format!(
            "{}: the db has applied index {}, and the log ends at {last}",
            root.display(),
            survivor.applied
        )));
    }
    Ok(survivor)
}

/// The directories must be those of different members of one cluster.
fn check(survivors: &[Survivor]) -> Result<(), Failure> {
    let mut seen: Vec<&Survivor> = Vec::new();
    for survivor in survivors {
        for before in &seen {
            let (a, b) = (before.root.display(), survivor.root.display());
            if before.cluster != survivor.cluster {
                return Err(plain(format!("{a} and {b} are of different clusters")));
            }
            if before.member == survivor.member {
                return Err(plain(format!("{a} and {b} are of the same member")));
            }
        }
        seen.push(survivor);
    }
    Ok(())
}

fn show(run: &mut Run<'_>, survivors: &[Survivor]) {
    let head = [
        "DIRECTORY",
        "MEMBER",
        "TERM",
        "LAST TERM",
        "LAST INDEX",
        "COMMITTED",
        "APPLIED",
        "REVISION",
    ];
    let rows: Vec<Vec<String>> = survivors
        .iter()
        .map(|survivor| {
            let (term, index) = survivor.last();
            let mut row = vec![survivor.root.display().to_string(), survivor.member.to_string()];
            let numbers =
                [survivor.state.term.0, term, index, survivor.committed(), survivor.applied];
            row.extend(numbers.iter().map(u64::to_string));
            row.push(survivor.revision.to_string());
            row
        })
        .collect();
    match run.form {
        Form::Table => run.say(&table(&head, &rows)),
        _ => {
            run.say(&head.join(", ").to_lowercase());
            rows.iter().for_each(|row| run.say(&row.join(", ")));
        }
    }
}

fn report(run: &mut Run<'_>, best: &Survivor, survivors: &[Survivor], voters: &BTreeSet<MemberId>) {
    let (term, last) = best.last();
    let root = best.root.display();
    run.say(&format!("longest: {root}, up to index {last} of term {term}"));
    for other in survivors.iter().filter(|other| other.member != best.member) {
        let differs = other.entries.iter().find(|entry| {
            let same = best.entries.iter().find(|ours| ours.index == entry.index);
            same.map_or(entry.index.0 > last, |ours| ours.term != entry.term)
        });
        if let Some(entry) = differs {
            run.say(&format!(
                "dropped: entries {} to {} of {}, which were never committed",
                entry.index,
                other.last().1,
                other.root.display()
            ));
        }
    }
    let alive = survivors.iter().filter(|survivor| voters.contains(&survivor.member)).count();
    let (all, quorum) = (voters.len(), voters.len() / 2 + 1);
    let lost = all.saturating_sub(alive);
    let known = survivors.iter().map(Survivor::committed).max().unwrap_or(0);
    if known > last {
        run.say(&format!("missing: entries {} to {known}, which were committed", last + 1));
    }
    match lost < quorum {
        true => run.say(&format!(
            "missing: nothing else that was acknowledged: {lost} of {all} voting members are not here, \
             and {quorum} have each write"
        )),
        false => run.say(&format!(
            "missing: perhaps entries behind index {last}: {lost} of {all} voting members are not here, \
             and {quorum} of them may have had a write alone"
        )),
    }
}
