//! Damage that can be gone around: what is taken for sound is what was written, and what is
//! not is counted as lost.

use mainstay_env::Dice as _;
use mainstay_env_sim::{SimDice, SimDisk};
use mainstay_raft::{Entry, HardState};
use mainstay_types::Index;

use super::support::*;
use crate::salvage::Salvage;
use crate::{SnapshotMark, WalError};

/// A log of three terms, with entries that replaced others; what it holds in the end.
fn written(disk: &SimDisk, seed: u64) -> (Vec<Entry>, HardState) {
    let mut dice = SimDice::new(seed);
    let mut wal = create(disk, small_segments(6000));
    let (mut entries, mut term) = (Vec::<Entry>::new(), 1);
    let mut last = state(term, 1, 0);
    for save in 0..60 {
        if save % 20 == 10 {
            term += 1;
            let keep = entries.len().saturating_sub(dice.below(3) as usize);
            entries.truncate(keep);
        }
        let from = entries.len();
        for _ in 0..=dice.below(3) {
            let payload = data(&mut dice, 200);
            entries.push(entry(term, entries.len() as u64 + 1, payload));
        }
        // What is committed is never replaced.
        let commit = entries.len().saturating_sub(4) as u64;
        last = state(term, 1 + term % 2, commit);
        wal.save(Some(&last), &entries[from..], true).unwrap();
    }
    wal.close().unwrap();
    (entries, last)
}

/// What is said of a damaged log is true; answers whether it can be salvaged.
fn is_true(disk: &SimDisk, entries: &[Entry], last: HardState, what: &str) -> bool {
    match open(disk, &SnapshotMark::default(), small_segments(6000)) {
        Ok((_, replay)) => {
            // Harmless, or a torn end.
            let same = replay.entries == entries[..replay.entries.len()];
            assert!(same, "{what}: another log");
            return true;
        }
        Err(WalError::Corrupt { .. }) => {}
        Err(other) => panic!("{what}: {other}"),
    }
    let Ok(salvage) = Salvage::open(&shared(disk), dir()) else { return false };
    assert_eq!(salvage.hard_state(), last, "{what}");
    assert!(!salvage.damage().is_empty(), "{what}");
    let end = entries.last().expect("there are some").index;
    assert!(salvage.last() >= end, "{what}: it ends at {}, not at {end}", salvage.last());
    let lost_to = match salvage.entries().first() {
        Some(first) => first.index.0 as usize - 1,
        None => entries.len(),
    };
    assert_eq!(salvage.entries(), &entries[lost_to..], "{what}");
    assert!(salvage.least() >= Index(lost_to as u64), "{what}");
    starts_anew(disk, salvage, entries, what);
    true
}

/// Behind what another member has applied the log goes on as it was.
fn starts_anew(disk: &SimDisk, salvage: Salvage, entries: &[Entry], what: &str) {
    let at = salvage.least();
    let term = entries.get(at.0 as usize - 1).map_or(3, |entry| entry.term.0);
    let mark = mark(term, at.0);
    let kept: Vec<Entry> =
        salvage.entries().iter().filter(|entry| entry.index > at).cloned().collect();
    let last = kept.last().map_or(at, |entry| entry.index);
    let was = salvage.hard_state();
    let now = HardState { commit: was.commit.clamp(at, last), ..was };
    salvage.restart(&shared(disk), &mark, now, &kept).unwrap();
    let marks = crate::valid_snapshots(disk, dir()).unwrap();
    assert_eq!(marks.last(), Some(&mark), "{what}");
    let (wal, replay) = open(disk, &mark, small_segments(6000)).unwrap();
    assert_eq!((replay.hard_state, replay.entries), (now, kept), "{what}");
    assert_eq!(wal.metadata(), METADATA);
    let broken = disk.paths().iter().filter(|path| path.ends_with(".wal.broken")).count();
    assert!(broken > 0, "{what}: the damaged segments are kept");
}

fn segments(disk: &SimDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.ends_with(".wal")).collect()
}

#[test]
fn a_flipped_bit_loses_one_entry_at_most() {
    let disk = SimDisk::new(1);
    let (entries, last) = written(&disk, 1);
    let (mut salvaged, mut refused) = (0, 0);
    let paths = segments(&disk);
    assert!(paths.len() > 1);
    for path in &paths {
        let len = disk.contents(path).expect("it is there").len() as u64;
        for offset in (0..len).step_by(3) {
            let damaged = disk.copy();
            damaged.flip(path, offset, (offset % 8) as u8);
            let what = format!("{path}, offset {offset}");
            match is_true(&damaged, &entries, last, &what) {
                true => salvaged += 1,
                false => refused += 1,
            }
        }
    }
    eprintln!("{salvaged} salvaged or harmless, {refused} refused");
    assert!(refused * 20 < salvaged, "{refused} refused, {salvaged} salvaged");
}

/// A snapshot is noted when the log is further, right behind the head of a segment that begins
/// later: that is no reason to miss entries once the older segments are gone.
#[test]
fn an_old_snapshot_at_the_begin_of_a_log_is_no_gap() {
    let disk = SimDisk::new(9);
    let mut wal = create(&disk, small_segments(4000));
    let mut noted = 0;
    for index in 1..=60 {
        let count = segments(&disk).len();
        let entries = [entry(1, index, vec![7; 300])];
        wal.save(Some(&state(1, 1, index - 1)), &entries, true).unwrap();
        if segments(&disk).len() > count && index > 15 {
            wal.save_snapshot(&mark(1, index - 15)).unwrap();
            noted += 1;
        }
    }
    wal.release_to(Index(60)).unwrap();
    wal.purge(2).unwrap();
    wal.close().unwrap();
    assert!(segments(&disk).len() == 2 && noted > 3);
    let path = segments(&disk).pop().unwrap();
    for offset in 400..1200 {
        let damaged = disk.copy();
        damaged.flip(&path, offset, 2);
        let salvage = Salvage::open(&shared(&damaged), dir()).unwrap();
        assert_eq!((salvage.last(), salvage.marks().len()), (Index(60), 2), "offset {offset}");
    }
}

/// A sector or a page of zeros or of rubbish, wherever it lies.
#[test]
fn a_lost_sector_is_gone_around_or_refused() {
    let mut dice = SimDice::new(3);
    let disk = SimDisk::new(2);
    let (entries, last) = written(&disk, 2);
    let mut salvaged = 0;
    for round in 0..400 {
        let damaged = disk.copy();
        let paths = segments(&damaged);
        let path = &paths[dice.below(paths.len() as u64) as usize];
        let mut bytes = damaged.contents(path).expect("it is there");
        let len = [64, 512, 4096][round % 3];
        let at = dice.below(bytes.len() as u64) as usize / len * len;
        let end = bytes.len().min(at + len);
        let zeros = dice.one_in(2);
        bytes[at..end].fill_with(|| if zeros { 0 } else { dice.roll() as u8 });
        damaged.install(path, &bytes);
        let what = format!("round {round}: {path}, {len} bytes at {at}");
        salvaged += u32::from(is_true(&damaged, &entries, last, &what));
    }
    eprintln!("{salvaged} of 400 salvaged or harmless");
    assert!(salvaged > 100, "{salvaged}");
}

/// A value that looks like a log does not lead astray.
#[test]
fn records_within_a_value_are_not_taken_for_the_log() {
    let inner = SimDisk::new(3);
    written(&inner, 4);
    let path = segments(&inner)[0].clone();
    let bait = inner.contents(&path).expect("it is there");
    let disk = SimDisk::new(4);
    let mut wal = create(&disk, small_segments(1 << 20));
    let mut entries = Vec::new();
    for index in 1..=8_u64 {
        // At every place within eight bytes.
        let mut value = vec![b'x'; index as usize];
        value.extend_from_slice(&bait);
        entries.push(entry(1, index, value));
        wal.save(Some(&state(1, 1, index)), &entries[index as usize - 1..], true).unwrap();
    }
    wal.close().unwrap();
    let last = state(1, 1, 8);
    let path = last_segment(&disk);
    let bytes = disk.contents(&path).expect("it is there");
    let starts: Vec<usize> = (0..bytes.len())
        .filter(|at| bytes[*at..].starts_with(b"xxx\x1a") || bytes[*at..].starts_with(&bait[..32]))
        .collect();
    assert!(starts.len() >= 8);
    for at in starts {
        // The frame of the record, too.
        let damaged = disk.copy();
        let mut bytes = bytes.clone();
        bytes[at.saturating_sub(48)..at].fill(0xa5);
        damaged.install(&path, &bytes);
        is_true(&damaged, &entries, last, &format!("bait at {at}"));
    }
}
