//! The power goes at every step: the log always opens, nothing acknowledged is
//! missing, and no hard state goes back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mainstay_env::{Dice, Disk};
use mainstay_env_sim::{SimDice, SimDisk, Unsynced};
use mainstay_raft::{Entry, HardState};
use mainstay_types::Index;

use super::support::{create, data, dir, entry, mark, open, shared, small_segments, state};
use crate::{SnapshotMark, Wal, WalError, WalOptions, exists, valid_snapshots};

const OPTIONS: WalOptions = WalOptions { segment_bytes: 4096, sync: true };

/// What crashes left, counted over all tests: a run that tears nothing proves nothing.
static TORN: AtomicU64 = AtomicU64::new(0);
static TORN_BEFORE_VALID: AtomicU64 = AtomicU64::new(0);

/// What the log promised, and what it was asked to do just now.
#[derive(Clone, Default)]
struct Promise {
    /// Whether creation returned.
    created: bool,
    /// All entries, from index 1; those before the snapshots included.
    entries: Vec<Entry>,
    /// As of the last save that was synced.
    written: HardState,
    /// As of the last save.
    newest: HardState,
    marks: Vec<SnapshotMark>,
    saving: Vec<Entry>,
    saving_mark: Option<SnapshotMark>,
}

impl Promise {
    /// Fails when what a crash left is not what was promised.
    fn check(&self, disk: &SimDisk, again: u64) {
        if !exists(disk, dir()).unwrap() {
            assert!(!self.created, "the log is gone");
            return;
        }
        let marks = valid_snapshots(disk, dir()).unwrap_or_else(|error| panic!("{error}"));
        let newest = marks.last().expect("at least where the log starts").clone();
        if let Some(promised) = self.marks.last() {
            let saving = self.saving_mark.as_ref();
            assert!(&newest == promised || Some(&newest) == saving, "{newest:?} of {promised:?}");
        }
        if again > 0 && self.power_goes_while_opening(disk, &newest, again) {
            return;
        }
        let (mut wal, replay) =
            open(disk, &newest, OPTIONS).unwrap_or_else(|error| panic!("{error}"));
        if let Some(torn) = &replay.torn_tail {
            TORN.fetch_add(1, Ordering::Relaxed);
            TORN_BEFORE_VALID.fetch_add(u64::from(torn.following > 0), Ordering::Relaxed);
        }
        self.check_state(replay.hard_state);
        self.check_entries(newest.index, &replay.entries);
        // It can be written to, and what is written comes back.
        let next = replay.entries.last().map_or(newest.index, |entry| entry.index).next();
        let after = entry(1000, next.0, vec![1; 100]);
        wal.save(Some(&state(1000, 1, 0)), std::slice::from_ref(&after), true).unwrap();
        drop(wal);
        let later = disk.crash_with(Unsynced::Lost, 0);
        let (_, replay) = open(&later, &newest, OPTIONS).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(replay.torn_tail, None);
        assert_eq!(replay.entries.last(), Some(&after));
    }

    /// Cuts the power during the repair, too.
    fn power_goes_while_opening(&self, disk: &SimDisk, from: &SnapshotMark, step: u64) -> bool {
        let during = disk.copy();
        during.cut_at(step);
        match open(&during, from, OPTIONS) {
            Ok(_) => false,
            Err(WalError::Disk { .. }) => {
                self.check(&during.crash(), 0);
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn check_state(&self, found: HardState) {
        let (written, newest) = (self.written, self.newest);
        let votes = [(written.term, written.vote), (newest.term, newest.vote)];
        assert!(votes.contains(&(found.term, found.vote)), "{found:?}, {written:?} to {newest:?}");
        assert!(written.commit <= found.commit && found.commit <= newest.commit);
    }

    /// What is there are the promised entries, changed by the first few of those
    /// that were being saved.
    fn check_entries(&self, from: Index, found: &[Entry]) {
        let mut wanted = self.entries.clone();
        for saved in 0..=self.saving.len() {
            if wanted[(from.0 as usize).min(wanted.len())..] == *found {
                return;
            }
            if let Some(entry) = self.saving.get(saved) {
                wanted.truncate(entry.index.0 as usize - 1);
                wanted.push(entry.clone());
            }
        }
        let last = |entries: &[Entry]| entries.last().map(|entry| (entry.term, entry.index));
        let (is, was) = (last(found), last(&self.entries));
        panic!("{} entries to {is:?}, promised to {was:?}, from {from}", found.len());
    }
}

/// Runs a trace and crashes copies of the disk before every step.
struct Run {
    disk: SimDisk,
    dice: SimDice,
    promise: Arc<Mutex<Promise>>,
    term: u64,
    /// Steps before which copies of the disk were crashed.
    crashes: Arc<AtomicU64>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let disk = SimDisk::new(seed);
        mainstay_env::Disk::create_dir_all(&disk, "/data/member".as_ref()).unwrap();
        for above in ["/data", "/"] {
            mainstay_env::Disk::sync_dir(&disk, above.as_ref()).unwrap();
        }
        let promise = Arc::new(Mutex::new(Promise::default()));
        let crashes = Arc::default();
        let mut run = Run { disk, dice: SimDice::new(seed), promise, term: 1, crashes };
        run.watch();
        run
    }

    fn watch(&mut self) {
        let promise = Arc::clone(&self.promise);
        let crashes = Arc::clone(&self.crashes);
        let mut judge = self.dice.fork();
        self.disk.observe(move |disk, step| {
            crashes.fetch_add(1, Ordering::Relaxed);
            let promise = promise.lock().unwrap().clone();
            for _ in 0..2 {
                let again = if judge.one_in(3) { 1 + judge.below(6) } else { 0 };
                let crashed = disk.crash();
                let check = std::panic::AssertUnwindSafe(|| promise.check(&crashed, again));
                if std::panic::catch_unwind(check).is_err() {
                    panic!("after a crash before step {step:?}");
                }
            }
        });
    }

    fn trace(&mut self, operations: u64) {
        let mut wal = create(&self.disk, OPTIONS);
        self.with(|promise| {
            promise.created = true;
            promise.marks = vec![SnapshotMark::default()];
        });
        for _ in 0..operations {
            if self.dice.one_in(20) {
                self.disk.cut_at(self.disk.steps() + 1 + self.dice.below(12));
            }
            let done = match self.dice.below(20) {
                0..12 => self.save(&mut wal),
                12..15 => self.commit(&mut wal),
                15 => self.vote(&mut wal),
                16 => self.snapshot(&mut wal),
                17 => wal.purge(2).map(|_| ()),
                18 => wal.prepare_next(),
                _ => match self.restart(wal) {
                    Ok(opened) => {
                        wal = opened;
                        Ok(())
                    }
                    Err(_) => {
                        wal = self.recover();
                        Ok(())
                    }
                },
            };
            match done {
                Err(_) if self.disk.is_cut() => {
                    drop(wal);
                    wal = self.recover();
                }
                done => done.unwrap(),
            }
        }
    }

    /// Goes on after the program died, with or without the machine.
    fn recover(&mut self) -> Wal {
        assert!(self.disk.is_cut());
        if self.dice.one_in(2) {
            self.disk.revive();
        } else {
            self.disk = self.disk.crash();
            self.watch();
        }
        let promise = self.with(|promise| promise.clone());
        promise.check(&self.disk.copy(), 0);
        let marks = valid_snapshots(&self.disk, dir()).unwrap();
        let from = marks.last().unwrap();
        let (wal, replay) = Wal::open_with(shared(&self.disk), dir(), from, OPTIONS).unwrap();
        self.with(|promise| {
            if promise.saving_mark.take().as_ref() == Some(from) {
                promise.marks.push(from.clone());
            }
            promise.saving.clear();
            promise.entries.truncate(from.index.0 as usize);
            promise.entries.extend(replay.entries);
            (promise.written, promise.newest) = (replay.hard_state, replay.hard_state);
        });
        wal
    }

    fn with<T>(&self, change: impl FnOnce(&mut Promise) -> T) -> T {
        change(&mut self.promise.lock().unwrap())
    }

    /// New entries, now and then in place of some that are not committed.
    fn save(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        let before = self.with(|promise| promise.clone());
        let mut last = before.entries.len() as u64;
        let committed = before.newest.commit.0;
        if self.dice.one_in(10) && last > committed {
            self.term += 1;
            last = committed + self.dice.below(last - committed);
        }
        let largest = [50, 300, 9000][self.dice.below(3) as usize];
        let count = 1 + self.dice.below(6);
        let entries: Vec<Entry> = (last + 1..=last + count)
            .map(|index| entry(self.term, index, data(&mut self.dice, largest)))
            .collect();
        let now = HardState { term: mainstay_types::Term(self.term), ..before.newest };
        let told = (now != before.newest || self.dice.one_in(2)).then_some(&now);
        self.with(|promise| {
            promise.newest = now;
            promise.saving = entries.clone();
        });
        wal.save(told, &entries, true)?;
        self.saved();
        Ok(())
    }

    /// The save returned: what it did is promised now.
    fn saved(&self) {
        self.with(|promise| {
            promise.written = promise.newest;
            for entry in std::mem::take(&mut promise.saving) {
                promise.entries.truncate(entry.index.0 as usize - 1);
                promise.entries.push(entry);
            }
        });
    }

    fn commit(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        let before = self.with(|promise| promise.clone());
        let room = before.entries.len() as u64 - before.newest.commit.0;
        let commit = Index(before.newest.commit.0 + self.dice.below(room + 1));
        let now = HardState { commit, ..before.newest };
        self.with(|promise| promise.newest = now);
        wal.save(Some(&now), &[], false)
    }

    fn vote(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        self.term += 1;
        let now = self.with(|promise| {
            let commit = promise.newest.commit.0;
            promise.newest = state(self.term, 1 + self.term % 3, commit);
            promise.newest
        });
        wal.save(Some(&now), &[], false)?;
        self.saved();
        Ok(())
    }

    fn snapshot(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        let before = self.with(|promise| promise.clone());
        let newest = before.marks.last().unwrap().index;
        if before.newest.commit <= newest {
            return Ok(());
        }
        let index = newest.0 + 1 + self.dice.below(before.newest.commit.0 - newest.0);
        let mark = mark(before.entries[index as usize - 1].term.0, index);
        self.with(|promise| promise.saving_mark = Some(mark.clone()));
        wal.save_snapshot(&mark)?;
        self.with(|promise| promise.saving_mark = None);
        self.saved();
        self.with(|promise| promise.marks.push(mark.clone()));
        wal.release_to(mark.index)
    }

    fn restart(&mut self, wal: Wal) -> Result<Wal, WalError> {
        wal.close()?;
        self.saved();
        let before = self.with(|promise| promise.clone());
        let from = before.marks.last().unwrap();
        let (wal, replay) = Wal::open_with(shared(&self.disk), dir(), from, OPTIONS)?;
        assert_eq!(replay.hard_state, before.newest);
        assert_eq!(replay.entries, before.entries[from.index.0 as usize..]);
        assert_eq!((replay.torn_tail, replay.mended), (None, 0));
        Ok(wal)
    }
}

#[test]
fn a_thousand_operations_survive_a_cut_at_every_step() {
    let mut run = Run::new(11);
    run.trace(1000);
    let crashes = run.crashes.load(Ordering::Relaxed);
    assert!(crashes > 2000, "{crashes}");
    for (counter, least) in [(&TORN, 100), (&TORN_BEFORE_VALID, 10)] {
        let count = counter.load(Ordering::Relaxed);
        assert!(count >= least, "{count} of {least}");
    }
}

#[test]
fn short_traces_of_many_seeds_survive_a_cut_at_every_step() {
    for seed in 100..160 {
        Run::new(seed).trace(40);
    }
}

#[test]
fn a_log_is_created_whole_or_not_at_all() {
    for step in 1.. {
        let disk = SimDisk::new(step);
        disk.cut_at(step);
        let made = Wal::create_with(shared(&disk), dir(), super::support::METADATA, OPTIONS);
        for seed in 0..40 {
            let after = disk.crash_with(Unsynced::ALL[seed as usize % 4], seed);
            match exists(&after, dir()).unwrap() {
                true => drop(open(&after, &SnapshotMark::default(), OPTIONS).unwrap()),
                false => drop(create(&after, small_segments(4096))),
            }
        }
        if made.is_ok() {
            break;
        }
    }
}

/// Several saves wait for room and are written by the next: a crash during that leaves a torn
/// tail, never what looks like damage, and nothing is missing that was there before.
#[test]
fn saves_that_waited_for_room_tear_like_others() {
    let disk = SimDisk::new(4);
    let mut wal = create(&disk, small_segments(1 << 20));
    ["/", "/data"].iter().for_each(|dir| disk.sync_dir(dir.as_ref()).unwrap());
    let mut dice = SimDice::new(5);
    let mut save = |wal: &mut Wal, index: u64| {
        let entries = [entry(1, index, data(&mut dice, 700))];
        wal.save(Some(&state(1, 1, index - 1)), &entries, true)
    };
    disk.set_capacity(Some(1 << 20));
    let mut saved = 0;
    while save(&mut wal, saved + 1).is_ok() {
        saved += 1;
    }
    for waiting in 2..6 {
        assert!(save(&mut wal, saved + waiting).unwrap_err().is_full());
    }
    wal.save_snapshot(&mark(1, saved)).unwrap_err();
    disk.set_capacity(None);
    let left = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&left);
    disk.observe(move |disk, step| {
        let ways = [Unsynced::Kept, Unsynced::Lost, Unsynced::Ordered].map(|way| (way, 1));
        let scattered = (0..60).map(|seed| (Unsynced::Scattered, seed));
        for (way, seed) in ways.into_iter().chain(scattered) {
            let what = format!("step {}, {way:?}, seed {seed}", step.number);
            found.lock().unwrap().push((what, disk.crash_with(way, seed)));
        }
    });
    save(&mut wal, saved + 6).unwrap();
    let mut torn = 0;
    for (what, disk) in std::mem::take(&mut *left.lock().unwrap()) {
        let (_, replay) = open(&disk, &SnapshotMark::default(), OPTIONS)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        torn += u64::from(replay.torn_tail.is_some());
        assert!(replay.entries.len() as u64 >= saved, "{what}");
    }
    assert!(torn > 50, "{torn} torn");
}
