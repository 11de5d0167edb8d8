//! A power cut at every step leaves the last acknowledged commit or the one in
//! flight, whole; a failing disk stops the writer; a full one does not.

use std::sync::{Arc, Mutex};

use mainstay_bolt::{Bolt, Error, Goal};
use mainstay_env_sim::{FailingCall, SimDisk, Unsynced};

use crate::support::{Generator, PATH, State, open, options, read_all};

/// What a file found after a cut may hold.
#[derive(Default)]
pub(crate) struct Allowed {
    /// `None` before the file was made.
    pub(crate) acknowledged: Option<State>,
    pub(crate) in_flight: Option<State>,
    pub(crate) cuts: u64,
}

impl Allowed {
    pub(crate) fn judge(&mut self, after: &SimDisk, what: &str) {
        self.cuts += 1;
        if self.acknowledged.is_none() && after.contents(PATH).is_none() {
            return;
        }
        let bolt = Bolt::open(after, PATH.as_ref(), options(1024))
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        let found = read_all(&bolt.reader());
        let acknowledged = self.acknowledged.as_ref() == Some(&found);
        let in_flight = self.in_flight.as_ref() == Some(&found);
        let empty = self.acknowledged.is_none() && found.is_empty();
        assert!(acknowledged || in_flight || empty, "{what}: neither before nor after the commit");
        assert_eq!(bolt.check().unwrap(), [], "{what}");
    }
}

/// Cuts the power before and, with torn writes, in the middle of every step of a trace.
fn trace(seed: u64, commits: usize) -> u64 {
    let disk = SimDisk::new(seed);
    let allowed = Arc::new(Mutex::new(Allowed::default()));
    let judge = allowed.clone();
    let mut step_seed = seed;
    disk.observe(move |disk, step| {
        step_seed += 1;
        let way = Unsynced::ALL[(step_seed % 4) as usize];
        let what =
            format!("seed {seed}, cut before step {} ({:?}), {way:?}", step.number, step.kind);
        judge.lock().unwrap().judge(&disk.crash_with(way, step_seed), &what);
        let what = what + ", second throw";
        judge.lock().unwrap().judge(&disk.crash_with(Unsynced::Scattered, !step_seed), &what);
    });
    let mut bolt = open(&disk, 1024);
    let mut generator = Generator::new(seed);
    let mut state = State::new();
    allowed.lock().unwrap().acknowledged = Some(state.clone());
    for _ in 0..commits {
        let batch = generator.batch(&mut state);
        allowed.lock().unwrap().in_flight = Some(state.clone());
        bolt.commit(batch).unwrap();
        allowed.lock().unwrap().acknowledged = Some(state.clone());
        if generator.dice.one_in(8) {
            drop(bolt);
            bolt = open(&disk, 1024);
        }
    }
    allowed.lock().unwrap().cuts
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_acknowledged() {
    let cuts: u64 = (0..4).map(|seed| trace(seed, 30)).sum();
    assert!(cuts > 1000, "{cuts} cuts");
}

#[test]
fn a_failed_write_or_sync_stops_the_writer() {
    for (call, nth) in [
        (FailingCall::Sync, 1),
        (FailingCall::Sync, 2),
        (FailingCall::Write, 1),
        (FailingCall::Write, 2),
    ] {
        let disk = SimDisk::new(1);
        let mut bolt = open(&disk, 4096);
        let mut generator = Generator::new(3);
        let mut state = State::new();
        for _ in 0..5 {
            bolt.commit(generator.batch(&mut state)).unwrap();
        }
        let before = state.clone();
        disk.fail(call, nth);
        let batch = generator.batch(&mut state);
        let error = bolt.commit(batch).unwrap_err();
        assert!(matches!(error, Error::Disk { .. }), "{error}");
        assert_eq!(read_all(&bolt.reader()), before, "readers go on");
        let error = bolt.commit(generator.batch(&mut state.clone())).unwrap_err();
        assert!(matches!(error, Error::Stopped { .. }), "{error}");
    }
}

#[test]
fn a_full_disk_changes_nothing_and_may_be_tried_again() {
    let disk = SimDisk::new(1);
    let mut bolt = open(&disk, 4096);
    let mut generator = Generator::new(4);
    let mut state = State::new();
    let mut refused = 0;
    for _ in 0..150 {
        let len = disk.contents(PATH).unwrap().len() as u64;
        disk.set_capacity(Some(len));
        let before = state.clone();
        let batch = generator.batch(&mut state);
        if generator.dice.one_in(6) {
            bolt.shrink(Goal { bytes: bolt.reader().in_use(), pack: generator.dice.one_in(2) });
        }
        match bolt.commit_moving(batch.clone(), 16 << 10) {
            Ok(_) => {}
            Err(Error::Full { .. }) => {
                refused += 1;
                assert_eq!(read_all(&bolt.reader()), before);
                assert_eq!(bolt.check().unwrap(), []);
                disk.set_capacity(None);
                bolt.commit(batch).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(read_all(&bolt.reader()), state);
    }
    assert!(refused > 2, "{refused} commits did not fit");
    assert_eq!(bolt.check().unwrap(), []);
}
