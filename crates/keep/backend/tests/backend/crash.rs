//! A power cut at every step of the disk leaves the last acknowledged commit or the
//! one under way, whole, in all buckets.

use std::sync::{Arc, Mutex};

use mainstay_backend::bolt::Goal;
use mainstay_backend::{Backend, BackendError, bolt};
use mainstay_env::Dice as _;
use mainstay_env_sim::{FailingCall, SimDisk, Unsynced};
use mainstay_types::Index;

use crate::support::{Generator, PATH, SUMS, State, read_all, try_open};

/// What may be found after a cut.
#[derive(Default)]
struct Allowed {
    /// The state of the last acknowledged commit; `None` before the first open ended.
    acknowledged: Option<(Index, State)>,
    /// The state that a commit under way makes.
    in_flight: Option<(Index, State)>,
    cuts: u64,
    /// Of which so many found the commit that was under way.
    ahead: u64,
    complaints: Vec<String>,
}

impl Allowed {
    fn judge(&mut self, after: &SimDisk, no_sync: bool, what: &str) {
        self.cuts += 1;
        if let Err(complaint) = self.try_judge(after, no_sync) {
            self.complaints.push(format!("{what}: {complaint}"));
        }
    }

    fn try_judge(&mut self, after: &SimDisk, no_sync: bool) -> Result<(), String> {
        if self.acknowledged.is_none() && after.contents(PATH).is_none() {
            return Ok(());
        }
        let backend = try_open(after, no_sync).map_err(|e| e.to_string())?;
        let index = backend.committed();
        let found = read_all(&backend).map_err(|e| e.to_string())?;
        let (acknowledged, before) = self.acknowledged.clone().unwrap_or_default();
        if index < acknowledged {
            return Err(format!("at {index:?}, behind the acknowledged {acknowledged:?}"));
        }
        let expected = match &self.in_flight {
            Some((ahead, state)) if *ahead == index => state,
            _ if index == acknowledged => &before,
            _ => return Err(format!("at {index:?}, which no commit made")),
        };
        self.ahead += u64::from(index > acknowledged);
        if found != *expected {
            return Err(format!("the rows are not those up to {index:?}"));
        }
        // What a defragmentation left is cleared away.
        if after.paths().iter().any(|path| path != PATH && path != SUMS) {
            return Err(format!("left behind: {:?}", after.paths()));
        }
        drop(backend);
        let options = bolt::Options::default();
        let bolt = bolt::Bolt::open(after, PATH.as_ref(), options).map_err(|e| e.to_string())?;
        match bolt.check().map_err(|e| e.to_string())?.as_slice() {
            [] => Ok(()),
            problems => Err(format!("{problems:?}")),
        }
    }
}

/// Runs a trace and cuts the power at every step; some commits are defragmentations, and some
/// shrink the file.
fn trace(seed: u64, operations: usize, no_sync: bool) -> Allowed {
    let disk = SimDisk::new(seed);
    let allowed = Arc::new(Mutex::new(Allowed::default()));
    let judge = allowed.clone();
    disk.observe(move |disk, step| {
        let n = step.number;
        let way = Unsynced::ALL[(n % 4) as usize];
        let what = format!("seed {seed}, cut before step {n} ({:?}), {way:?}", step.kind);
        let mut judge = judge.lock().unwrap();
        judge.judge(&disk.crash_with(way, seed ^ n), no_sync, &what);
        let what = what + ", second throw";
        judge.judge(&disk.crash_with(Unsynced::Scattered, !n), no_sync, &what);
    });
    let mut backend = try_open(&disk, no_sync).unwrap();
    allowed.lock().unwrap().acknowledged = Some(Default::default());
    let mut generator = Generator::new(seed);
    for n in 0..operations {
        match generator.dice.below(100) {
            0..=7 => write(&backend, &generator, &allowed, Backend::commit),
            8..=15 => write(&backend, &generator, &allowed, |b| b.commit_moving(16 << 10)),
            // From here on those commits move pages, and cut the file in the end.
            18 => backend.shrink(Goal { bytes: backend.size_in_use(), pack: n % 2 == 0 }).unwrap(),
            16 if n > 50 => write(&backend, &generator, &allowed, Backend::defragment),
            // What was not committed is gone: the log would bring it again.
            17 => {
                write(&backend, &generator, &allowed, Backend::commit);
                drop(backend);
                backend = try_open(&disk, no_sync).unwrap();
            }
            _ => backend.append(generator.batch()),
        }
    }
    drop(backend);
    drop(disk);
    Arc::into_inner(allowed).unwrap().into_inner().unwrap()
}

fn write<T>(
    backend: &Backend,
    generator: &Generator,
    allowed: &Mutex<Allowed>,
    by: impl FnOnce(&Backend) -> Result<T, BackendError>,
) {
    let next = (backend.applied().0, generator.state.clone());
    allowed.lock().unwrap().in_flight = Some(next.clone());
    by(backend).unwrap();
    assert_eq!(backend.committed(), next.0);
    allowed.lock().unwrap().acknowledged = Some(next);
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    let (mut cuts, mut ahead) = (0, 0);
    for seed in 0..3 {
        let judged = trace(seed, 1000, false);
        let (count, first) = (judged.complaints.len(), judged.complaints.first());
        assert_eq!(first, None, "and {count} in all");
        cuts += judged.cuts;
        ahead += judged.ahead;
    }
    assert!(cuts > 3000 && ahead > 100, "{cuts} cuts, {ahead} of them ahead");
}

/// The judge sees what it should: without syncs the same trace fails.
#[test]
fn without_syncs_the_judge_complains() {
    assert!(trace(1, 300, true).complaints.len() > 10);
}

/// After a failed commit, or when nobody knows which file has the name, nothing more
/// is acknowledged.
#[test]
fn after_a_failure_nothing_more_is_committed() {
    for (call, nth, defragment) in [
        (FailingCall::Sync, 1, false),
        (FailingCall::Write, 1, false),
        (FailingCall::SyncDir, 3, true),
    ] {
        let disk = SimDisk::new(1);
        let backend = try_open(&disk, false).unwrap();
        let mut generator = Generator::new(3);
        backend.append(generator.batch());
        backend.commit().unwrap();
        let committed = backend.committed();
        if !defragment {
            backend.append(generator.batch());
        }
        disk.fail(call, nth);
        match defragment {
            true => drop(backend.defragment().unwrap_err()),
            false => drop(backend.commit().unwrap_err()),
        }
        backend.append(generator.batch());
        assert!(backend.commit().is_err(), "{call:?}");
        assert_eq!(backend.committed(), committed, "{call:?}");
    }
}

/// A commit for which there was no room is made whole once there is.
#[test]
fn a_full_disk_delays_commits() {
    let disk = SimDisk::new(1);
    let backend = try_open(&disk, false).unwrap();
    let mut generator = Generator::new(5);
    disk.set_capacity(Some(disk.contents(PATH).unwrap().len() as u64));
    while backend.commit().is_ok() {
        (0..20).for_each(|_| backend.append(generator.batch()));
    }
    let pending = backend.pending_ops();
    assert!(pending > 20);
    backend.append(generator.batch());
    assert!(backend.commit().is_err());
    disk.set_capacity(None);
    assert!(backend.commit().unwrap().ops > pending);
    assert_eq!(read_all(&backend).unwrap(), generator.state);
    assert_eq!(backend.pending_ops(), 0);
}
