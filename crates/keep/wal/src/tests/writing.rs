//! What is written is read, in etcd's bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mainstay_env::Disk as _;
use mainstay_env_sim::{FailingCall, SimDisk, StepKind, Unsynced};
use mainstay_raft::{Entry, EntryKind, HardState};
use mainstay_types::{Index, Term};

use super::support::{
    METADATA, create, dir, entry, last_segment, mark, open, small_segments, state,
};
use crate::{SnapshotMark, Step, Wal, WalError, WalOptions, exists, read, valid_snapshots};

const ZERO: SnapshotMark = SnapshotMark { index: Index(0), term: Term(0), conf_state: None };

#[test]
fn a_new_log_has_etcds_bytes() {
    let disk = SimDisk::new(1);
    assert!(!exists(&disk, dir()).unwrap());
    let mut wal = create(&disk, WalOptions::default());
    assert!(exists(&disk, dir()).unwrap());
    wal.save(Some(&state(2, 1, 0)), &[entry(2, 1, "hi")], true).unwrap();
    let path = last_segment(&disk);
    assert_eq!(path, "/data/member/wal/0000000000000000-0000000000000000.wal");
    let bytes = disk.contents(&path).unwrap();
    assert_eq!(bytes.len(), 64_000_000);
    // Crc 0: four bytes, four of padding.
    assert_eq!(bytes[..16], [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0]);
    // The entry: kind 0, term 2, index 1, data "hi".
    let wanted = [0x1a, 10, 8, 0, 16, 2, 24, 1, 34, 2, b'h', b'i'];
    assert!(bytes[..200].windows(wanted.len()).any(|window| window == wanted));
    // The hard state writes a zero.
    let wanted = [0x1a, 6, 8, 2, 16, 1, 24, 0];
    assert!(bytes[..200].windows(wanted.len()).any(|window| window == wanted));
}

#[test]
fn what_is_saved_is_read() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, WalOptions::default());
    let change = Entry { kind: EntryKind::ConfChange, ..entry(1, 2, "change") };
    wal.save(Some(&state(1, 7, 0)), &[entry(1, 1, ""), change.clone()], true).unwrap();
    wal.save(Some(&state(1, 7, 2)), &[entry(1, 3, "old"), entry(1, 4, "old")], true).unwrap();
    wal.save(Some(&state(2, 8, 2)), &[entry(2, 3, "new")], true).unwrap();
    wal.save(Some(&state(2, 8, 3)), &[], false).unwrap();
    assert_eq!((wal.last_index(), wal.hard_state()), (Index(3), state(2, 8, 3)));
    let replay = read(&disk, dir(), &ZERO).unwrap();
    assert_eq!(replay.metadata, METADATA);
    assert_eq!(replay.entries, [entry(1, 1, ""), change, entry(2, 3, "new")]);
    assert_eq!(replay.hard_state, state(2, 8, 2), "a commit index alone is written later");
    assert_eq!((replay.torn_tail, replay.mended), (None, 0));
    wal.close().unwrap();
    let (wal, replay) = open(&disk, &ZERO, WalOptions::default()).unwrap();
    assert_eq!(replay.hard_state, state(2, 8, 3));
    assert_eq!(wal.last_index(), Index(3));
}

#[test]
fn an_observer_hears_of_each_save() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, WalOptions::default());
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let telling = std::sync::Arc::clone(&told);
    wal.observe(Box::new(move |step| telling.lock().unwrap().push(step)));
    wal.save(Some(&state(1, 7, 0)), &[entry(1, 1, "x")], true).unwrap();
    // A commit index alone waits for the next record.
    wal.save(Some(&state(1, 7, 1)), &[], false).unwrap();
    let told = std::mem::take(&mut *told.lock().unwrap());
    let [Step::Write, Step::Sync(bytes), Step::Done] = told[..] else { panic!("{told:?}") };
    assert!(bytes > 16 && bytes.is_multiple_of(8), "whole records: {bytes}");
}

#[test]
fn one_save_is_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, WalOptions::default());
    let steps = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = std::sync::Arc::clone(&steps);
    disk.observe(move |_, step| log.lock().unwrap().push(step.kind));
    let entries: Vec<Entry> = (1..=100).map(|index| entry(1, index, "data")).collect();
    wal.save(Some(&state(1, 1, 0)), &entries, true).unwrap();
    wal.save(Some(&state(1, 1, 100)), &[], false).unwrap();
    assert_eq!(*steps.lock().unwrap(), [StepKind::Write, StepKind::Sync]);
    wal.save(Some(&state(1, 2, 100)), &[], false).unwrap();
    assert_eq!(steps.lock().unwrap().len(), 4, "a vote is synced whatever the caller says");
}

#[test]
fn segments_are_cut_released_and_purged() {
    let disk = SimDisk::new(1);
    let options = small_segments(1000);
    let mut wal = create(&disk, options);
    let mut index = 0;
    for term in 1..=20 {
        if term % 3 == 0 {
            wal.prepare_next().unwrap();
            wal.prepare_next().unwrap();
        }
        for _ in 0..5 {
            index += 1;
            wal.save(Some(&state(term, 1, index - 1)), &[entry(term, index, vec![7; 50])], true)
                .unwrap();
        }
        wal.save(Some(&state(term, 1, index)), &[], false).unwrap();
        wal.save_snapshot(&mark(term, index)).unwrap();
    }
    let names = super::super::name::segments(&disk, dir()).unwrap();
    assert!(names.len() > 5);
    let marks = valid_snapshots(&disk, dir()).unwrap();
    assert_eq!(marks.len(), 21);
    assert_eq!((marks[0].clone(), marks[20].clone()), (ZERO, mark(20, 100)));
    for term in [0, 1, 13, 20] {
        let from = if term == 0 { ZERO } else { mark(term, term * 5) };
        let replay = read(&disk, dir(), &from).unwrap();
        assert_eq!(replay.entries.len() as u64, 100 - term * 5);
        assert_eq!(replay.hard_state, state(20, 1, 100));
    }
    assert_eq!(wal.purge(2).unwrap(), 0, "all are locked");
    assert!(matches!(open(&disk, &ZERO, options), Err(WalError::Locked { .. })));
    wal.release_to(Index(50)).unwrap();
    assert!(wal.purge(2).unwrap() > 0);
    let left = super::super::name::segments(&disk, dir()).unwrap();
    assert!(left[0].first < Index(50) && left[1].first >= Index(50));
    assert_eq!(read(&disk, dir(), &mark(10, 50)).unwrap().entries.len(), 50);
    assert!(matches!(read(&disk, dir(), &ZERO), Err(WalError::Missing { .. })));
    assert_eq!(valid_snapshots(&disk, dir()).unwrap().last(), Some(&mark(20, 100)));
    wal.close().unwrap();
    let (mut wal, _) = open(&disk, &mark(20, 100), options).unwrap();
    wal.save(Some(&state(21, 1, 100)), &[entry(21, 101, "more")], true).unwrap();
    assert_eq!(read(&disk, dir(), &mark(20, 100)).unwrap().entries, [entry(21, 101, "more")]);
}

#[test]
fn wrong_snapshots_and_missing_segments_are_named() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, small_segments(500));
    for index in 1..=50 {
        wal.save(Some(&state(1, 1, index)), &[entry(1, index, vec![1; 30])], true).unwrap();
    }
    wal.save_snapshot(&mark(1, 30)).unwrap();
    drop(wal);
    let unknown = read(&disk, dir(), &mark(1, 31)).unwrap_err();
    assert!(matches!(unknown, WalError::SnapshotMissing { .. }), "{unknown}");
    let other = read(&disk, dir(), &mark(2, 30)).unwrap_err();
    assert!(other.is_corrupt(), "{other}");
    assert!(matches!(
        Wal::create(super::support::shared(&disk), dir(), METADATA),
        Err(WalError::Exists { .. })
    ));
    let names = super::super::name::segments(&disk, dir()).unwrap();
    mainstay_env::Disk::remove_file(&disk, &dir().join(names[2].to_string())).unwrap();
    let missing = read(&disk, dir(), &ZERO).unwrap_err();
    assert!(matches!(missing, WalError::Missing { .. }), "{missing}");
    assert!(missing.to_string().contains(&names[1].to_string()), "{missing}");
    assert!(valid_snapshots(&disk, dir()).is_err());
}

#[test]
fn nothing_is_written_after_a_failure() {
    for call in [FailingCall::Write, FailingCall::Sync] {
        let disk = SimDisk::new(1);
        let mut wal = create(&disk, WalOptions::default());
        wal.save(Some(&state(1, 1, 0)), &[entry(1, 1, "a")], true).unwrap();
        disk.fail(call, 1);
        let error = wal.save(None, &[entry(1, 2, "b")], true).unwrap_err();
        assert!(matches!(error, WalError::Disk { .. }), "{error}");
        let error = wal.save(None, &[entry(1, 3, "c")], true).unwrap_err();
        assert!(matches!(error, WalError::Stopped), "{error}");
        wal.close().unwrap();
        let entries = open(&disk, &ZERO, WalOptions::default()).unwrap().1.entries;
        assert!(entries.len() <= 2 && entries[0] == entry(1, 1, "a"));
    }
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, WalOptions::default());
    let steps = disk.steps();
    let nameless = Entry { kind: EntryKind::ConfChange, ..entry(1, 1, "") };
    for bad in [nameless, entry(0, 1, "a"), entry(1, 0, "a")] {
        assert!(matches!(wal.save(None, &[bad], true), Err(WalError::Invalid(_))));
    }
    let bare = SnapshotMark { conf_state: None, ..mark(1, 1) };
    assert!(matches!(wal.save_snapshot(&bare), Err(WalError::Invalid(_))));
    assert!(matches!(wal.save(Some(&state(0, 1, 1)), &[], true), Err(WalError::Invalid(_))));
    wal.save(Some(&HardState::default()), &[], true).unwrap();
    assert_eq!(disk.steps(), steps);
}

#[test]
fn a_full_disk_does_not_stop_a_segment_from_growing() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, small_segments(1000));
    disk.set_capacity(Some(1500));
    for index in 1..=15 {
        wal.save(Some(&state(1, 1, 0)), &[entry(1, index, vec![1; 20])], true).unwrap();
    }
    assert_eq!(disk.paths().len(), 1, "{:?}", disk.paths());
    disk.set_capacity(None);
    wal.save(None, &[entry(1, 16, "x")], true).unwrap();
    wal.save(None, &[entry(1, 17, "y")], true).unwrap();
    assert_eq!(disk.paths().len(), 2, "{:?}", disk.paths());
    assert_eq!(read(&disk, dir(), &ZERO).unwrap().entries.len(), 17);
}

/// What found no room is neither lost nor on the disk: the next save writes it first, and
/// a crash before that leaves what was there.
#[test]
fn what_finds_no_room_waits() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, small_segments(1000));
    ["/", "/data"].iter().for_each(|dir| disk.sync_dir(dir.as_ref()).unwrap());
    wal.grow_only(true);
    disk.set_capacity(Some(1000));
    let save = |wal: &mut Wal, index: u64| {
        wal.save(Some(&state(1, 1, 0)), &[entry(1, index, vec![1; 20])], true)
    };
    let mut saved = 0;
    let refused = loop {
        match save(&mut wal, saved + 1) {
            Ok(()) => saved += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.is_full() && refused.to_string().contains(".wal"), "{refused}");
    assert!(!wal.fits(1));
    let crashed = disk.crash_with(Unsynced::Kept, 1);
    assert_eq!(read(&crashed, dir(), &ZERO).unwrap().entries.len() as u64, saved);
    // Still none, for the next one as well, and asking once more helps nothing.
    assert!(save(&mut wal, saved + 2).unwrap_err().is_full());
    assert!(wal.save(None, &[], true).unwrap_err().is_full());
    disk.set_capacity(Some(4000));
    wal.save(None, &[], true).unwrap();
    let crashed = disk.crash_with(Unsynced::Lost, 1);
    assert_eq!(read(&crashed, dir(), &ZERO).unwrap().entries.len() as u64, saved + 2);
    // Whoever is asked makes room, and the call that needed it succeeds.
    disk.set_capacity(Some(disk.used()));
    let (told, theirs) = (Arc::new(AtomicUsize::new(0)), disk.clone());
    let counted = Arc::clone(&told);
    wal.when_full(Box::new(move |error| {
        assert!(error.is_full());
        if counted.fetch_add(1, Ordering::Relaxed) == 2 {
            theirs.set_capacity(None);
        }
        true
    }));
    for index in saved + 3..saved + 20 {
        save(&mut wal, index).unwrap();
    }
    assert_eq!(told.load(Ordering::Relaxed), 3);
    wal.grow_only(false);
    save(&mut wal, saved + 20).unwrap();
    assert_eq!(disk.paths().len(), 2, "{:?}", disk.paths());
    assert_eq!(read(&disk, dir(), &ZERO).unwrap().entries.len() as u64, saved + 20);
}

/// A sync that fails is another matter, also on a full disk.
#[test]
fn no_room_forgives_no_failed_sync() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, WalOptions::default());
    wal.when_full(Box::new(|_| true));
    disk.fail(FailingCall::Sync, 1);
    let failed = wal.save(Some(&state(1, 1, 0)), &[entry(1, 1, "a")], true).unwrap_err();
    assert!(!failed.is_full());
    assert!(matches!(wal.save(None, &[], true), Err(WalError::Stopped)));
}

/// A leader's snapshot takes the place of a log that had gone another way, also of what is
/// behind it there: raft has dropped that, and nothing may be left when the power goes
/// before the first entry of the new way is written (sim seed 207698). etcd keeps it.
#[test]
fn a_received_snapshot_replaces_the_log_behind_it_once_it_counts() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, WalOptions::default());
    let old: Vec<Entry> = (1..=12).map(|index| entry(1, index, "old")).collect();
    wal.save(Some(&state(1, 1, 5)), &old, true).unwrap();
    let received = mark(2, 8);
    // A crash before the commit index that makes it count: the old log goes on.
    wal.save_snapshot(&received).unwrap();
    wal.save(Some(&state(1, 1, 6)), &[entry(1, 13, "old")], true).unwrap();
    assert_eq!(read(&disk, dir(), &ZERO).unwrap().entries.len(), 13);
    // It is received again, and counts.
    wal.save_snapshot(&received).unwrap();
    wal.save(Some(&state(2, 0, 8)), &[], true).unwrap();
    let replay = read(&disk, dir(), &received).unwrap();
    assert_eq!((replay.entries, replay.hard_state), (Vec::new(), state(2, 0, 8)));
    drop(wal);
    let (mut wal, replay) = open(&disk, &received, WalOptions::default()).unwrap();
    assert_eq!((replay.entries.len(), wal.last_index()), (0, Index(8)));
    // From before it there is no way on: what is there was never committed (sim seed 501160).
    let before = read(&disk, dir(), &ZERO).unwrap_err().to_string();
    assert!(before.contains("snapshot at index 8 of term 2 took the place"), "{before}");
    // What comes then stays, whatever else is recorded.
    let new = [entry(2, 9, "new"), entry(2, 10, "new")];
    wal.save(Some(&state(2, 0, 9)), &new, true).unwrap();
    wal.save_snapshot(&received).unwrap();
    wal.save(Some(&state(2, 0, 10)), &[], true).unwrap();
    wal.close().unwrap();
    let (_, replay) = open(&disk, &received, WalOptions::default()).unwrap();
    assert_eq!(replay.entries, new);
    assert!(matches!(read(&disk, dir(), &ZERO), Err(WalError::Replaced { index: Index(8), .. })));
}

/// Raft may say in one breath that a snapshot was received and that entries behind it are
/// committed. Until those are in the log it must not claim them: the power may go between
/// the two (sim seed 1015401).
#[test]
fn a_received_snapshot_claims_nothing_behind_it() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, WalOptions::default());
    wal.save(Some(&state(1, 1, 0)), &[], true).unwrap();
    wal.save_received(&mark(2, 8), Some(state(3, 1, 10))).unwrap();
    let crashed = read(&disk, dir(), &mark(2, 8)).unwrap();
    assert_eq!((crashed.entries, crashed.hard_state), (Vec::new(), state(3, 1, 8)));
    wal.save(Some(&state(3, 1, 10)), &[entry(2, 9, "new"), entry(3, 10, "new")], true).unwrap();
    let replay = read(&disk, dir(), &mark(2, 8)).unwrap();
    assert_eq!((replay.entries.len(), replay.hard_state), (2, state(3, 1, 10)));
    // Without a hard state of its own the one before counts.
    wal.save_received(&mark(3, 12), None).unwrap();
    assert_eq!(read(&disk, dir(), &mark(3, 12)).unwrap().hard_state, state(3, 1, 12));
}

/// A snapshot that was taken here leaves what is behind it.
#[test]
fn a_taken_snapshot_leaves_the_log_behind_it() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, WalOptions::default());
    let all: Vec<Entry> = (1..=12).map(|index| entry(1, index, "kept")).collect();
    wal.save(Some(&state(1, 1, 8)), &all, true).unwrap();
    wal.save_snapshot(&mark(1, 8)).unwrap();
    wal.save(Some(&state(2, 1, 9)), &[], true).unwrap();
    assert_eq!(read(&disk, dir(), &mark(1, 8)).unwrap().entries, all[8..]);
    // Also when the entry at its place was written twice.
    wal.save(Some(&state(3, 1, 9)), &[entry(3, 10, "a"), entry(3, 11, "b")], true).unwrap();
    wal.save_snapshot(&mark(3, 10)).unwrap();
    wal.save(Some(&state(4, 1, 10)), &[], true).unwrap();
    assert_eq!(read(&disk, dir(), &mark(3, 10)).unwrap().entries, [entry(3, 11, "b")]);
    assert_eq!(read(&disk, dir(), &ZERO).unwrap().entries.len(), 11, "from any before it");
}

/// The record of a snapshot that did not count, because the power went behind it, is not
/// found again by who reads from its index: the log came there on its own, and segments
/// later (sim seed 201794).
#[test]
fn a_snapshot_whose_record_is_left_behind_does_not_count() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, small_segments(4096));
    wal.save(Some(&state(1, 1, 0)), &[entry(1, 1, "old")], true).unwrap();
    wal.save_snapshot(&mark(1, 30)).unwrap();
    for index in 2..=40 {
        wal.save(Some(&state(1, 1, index)), &[entry(1, index, vec![7; 400])], true).unwrap();
    }
    wal.save_snapshot(&mark(1, 35)).unwrap();
    wal.close().unwrap();
    let marks = valid_snapshots(&disk, dir()).unwrap();
    let indexes: Vec<u64> = marks.iter().map(|mark| mark.index.0).collect();
    assert_eq!(indexes, [0, 35]);
    for mark in &marks {
        open(&disk, mark, small_segments(4096)).unwrap();
    }
}
