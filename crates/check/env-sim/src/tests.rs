//! The simulated disk forgets what it may forget, and nothing else.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_env::{Clock, Dice, Disk, File, LockKind, OpenMode, Room};

use crate::{FailingCall, SimClock, SimDice, SimDisk, StepKind, Unsynced};

fn open(disk: &SimDisk, path: &str, mode: OpenMode) -> Box<dyn File> {
    disk.open(Path::new(path), mode).unwrap()
}

fn create(disk: &SimDisk, path: &str) -> Box<dyn File> {
    open(disk, path, OpenMode::CreateNew)
}

fn sync_dir(disk: &SimDisk, path: &str) {
    disk.sync_dir(Path::new(path)).unwrap();
}

/// A disk with a synced file `/a` of 3,000 ones.
fn with_file() -> (SimDisk, Box<dyn File>) {
    let disk = SimDisk::new(1);
    disk.install("/a", &[1; 3000]);
    let file = open(&disk, "/a", OpenMode::ReadWrite);
    (disk, file)
}

#[test]
fn behaves_like_a_disk() {
    let disk = SimDisk::new(1);
    disk.create_dir_all("/x/y".as_ref()).unwrap();
    let file = create(&disk, "/x/y/f");
    file.write_at(5000, b"abc").unwrap();
    let mut buf = [7; 10];
    assert_eq!(file.read_at(4998, &mut buf).unwrap(), 5);
    assert_eq!(&buf[..5], b"\0\0abc");
    file.set_len(5001).unwrap();
    file.allocate(6000).unwrap();
    assert_eq!(file.read_at(4998, &mut buf).unwrap(), 10);
    assert_eq!(&buf[..5], b"\0\0a\0\0");
    let error = disk.open("/x/y/f".as_ref(), OpenMode::CreateNew).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let error = disk.open("/x/y/g".as_ref(), OpenMode::Read).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    drop(create(&disk, "/x/g"));
    disk.rename("/x/g".as_ref(), "/x/y/f".as_ref()).unwrap();
    assert_eq!(file.len().unwrap(), 6000, "an open file outlives its name");
    assert_eq!(disk.contents("/x/y/f"), Some(vec![]));
    assert_eq!(disk.list("/x".as_ref()).unwrap(), ["y"]);
    assert!(disk.metadata("/x/y".as_ref()).unwrap().unwrap().is_dir);
    assert_eq!(disk.metadata("/x/z".as_ref()).unwrap(), None);
    let error = disk.remove_file("/x/y".as_ref()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
    disk.rename("/x".as_ref(), "/z".as_ref()).unwrap();
    assert_eq!(disk.paths(), ["/z/y/f"]);
    disk.remove_dir_all("/z".as_ref()).unwrap();
    assert_eq!(disk.list("/".as_ref()).unwrap(), Vec::<String>::new());
}

#[test]
fn locks_exclude_each_other_by_kind() {
    let (disk, first) = with_file();
    let second = open(&disk, "/a", OpenMode::ReadWrite);
    assert!(first.try_lock(LockKind::OpenFileDescription).unwrap());
    assert!(!second.try_lock(LockKind::OpenFileDescription).unwrap());
    assert!(second.try_lock(LockKind::Flock).unwrap());
    drop(first);
    assert!(second.try_lock(LockKind::OpenFileDescription).unwrap());
}

#[test]
fn unsynced_bytes_are_kept_lost_or_torn() {
    let (disk, file) = with_file();
    file.write_at(0, &[2; 3000]).unwrap();
    let mut seen = [false; 4];
    for seed in 0..300 {
        let after = disk.crash_with(Unsynced::Scattered, seed).contents("/a").unwrap();
        assert_eq!(after.len(), 3000);
        let new = after.iter().filter(|byte| **byte == 2).count();
        let changes = after.windows(2).filter(|pair| pair[0] != pair[1]).count();
        match (new, changes) {
            (0, _) => seen[0] = true,
            (3000, _) => seen[1] = true,
            (_, 1) => seen[2] = true,
            _ => seen[3] = true,
        }
    }
    assert_eq!(seen, [true; 4], "nothing, all, a part, scattered sectors");
    file.sync().unwrap();
    for way in Unsynced::ALL {
        assert_eq!(disk.crash_with(way, 3).contents("/a"), Some(vec![2; 3000]));
    }
}

#[test]
fn lengths_and_bytes_can_come_apart() {
    let (disk, file) = with_file();
    file.write_at(3000, &[2; 3000]).unwrap();
    let mut zeros = false;
    for seed in 0..200 {
        let after = disk.crash_with(Unsynced::Scattered, seed).contents("/a").unwrap();
        assert_eq!(after[..3000], [1; 3000]);
        assert!(after.len() == 3000 || after.len() == 6000);
        zeros |= after.len() == 6000 && after[3000..].iter().all(|byte| *byte == 0);
    }
    assert!(zeros, "a length without its bytes reads as zeros");
    file.set_len(100).unwrap();
    file.write_at(0, &[3; 200]).unwrap();
    for seed in 0..200 {
        let after = disk.crash_with(Unsynced::Scattered, seed).contents("/a").unwrap();
        assert!(after.len() <= 200 || after[..3000] == [1; 3000], "nothing is older than a cut");
    }
}

#[test]
fn a_cut_then_growth_is_synced_as_zeros() {
    let (disk, file) = with_file();
    file.set_len(10).unwrap();
    file.set_len(20).unwrap();
    file.sync().unwrap();
    let wanted = [[1; 10], [0; 10]].concat();
    assert_eq!(disk.crash_with(Unsynced::Lost, 0).contents("/a"), Some(wanted));
}

#[test]
fn names_last_only_after_a_directory_sync() {
    let disk = SimDisk::new(1);
    disk.create_dir_all("/d".as_ref()).unwrap();
    sync_dir(&disk, "/");
    create(&disk, "/d/a").sync().unwrap();
    assert_eq!(disk.crash_with(Unsynced::Lost, 0).paths(), Vec::<String>::new());
    sync_dir(&disk, "/d");
    disk.rename("/d/a".as_ref(), "/d/b".as_ref()).unwrap();
    drop(create(&disk, "/d/c"));
    let mut seen = Vec::new();
    for seed in 0..100 {
        seen.push(disk.crash_with(Unsynced::Scattered, seed).paths());
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, [vec!["/d/a"], vec!["/d/b"], vec!["/d/b", "/d/c"]], "in order, not more");
}

#[test]
fn a_rename_between_directories_is_whole() {
    let disk = SimDisk::new(1);
    disk.install("/x/a", b"1");
    disk.install("/y/b", b"2");
    drop(create(&disk, "/x/before"));
    disk.rename("/x/a".as_ref(), "/y/a".as_ref()).unwrap();
    for seed in 0..100 {
        let paths = disk.crash_with(Unsynced::Scattered, seed).paths();
        let count = paths.iter().filter(|path| path.ends_with("/a")).count();
        assert_eq!(count, 1, "{paths:?}");
    }
    sync_dir(&disk, "/y");
    let paths = disk.crash_with(Unsynced::Lost, 0).paths();
    assert_eq!(paths, ["/x/before", "/y/a", "/y/b"], "what came before it in /x is forced too");
}

#[test]
fn the_power_goes_at_a_step() {
    let run = |disk: &SimDisk| -> std::io::Result<()> {
        let file = disk.open("/a".as_ref(), OpenMode::CreateNew)?;
        file.write_at(0, b"1")?;
        file.sync()?;
        disk.sync_dir("/".as_ref())
    };
    let whole = SimDisk::new(1);
    run(&whole).unwrap();
    assert_eq!(whole.steps(), 4);
    for step in 1..=4 {
        let disk = SimDisk::new(1);
        disk.cut_at(step);
        run(&disk).unwrap_err();
        assert!(disk.is_cut());
        assert_eq!(disk.steps(), step);
        disk.list("/".as_ref()).unwrap_err();
        assert_eq!(disk.crash_with(Unsynced::Lost, 0).paths(), Vec::<String>::new());
        let kept = disk.crash_with(Unsynced::Kept, 0);
        assert_eq!(kept.paths(), ["/a"]);
        let wanted: &[u8] = if step == 1 { b"" } else { b"1" };
        assert_eq!(kept.contents("/a").unwrap(), wanted);
        assert!(!kept.is_cut());
    }
}

#[test]
fn a_program_may_die_without_the_disk() {
    let (disk, file) = with_file();
    disk.cut_at(1);
    file.write_at(0, b"2").unwrap_err();
    drop(file);
    disk.revive();
    assert_eq!(disk.contents("/a").unwrap()[0], b'2');
    assert_eq!(disk.crash_with(Unsynced::Lost, 0).contents("/a").unwrap()[0], 1);
    open(&disk, "/a", OpenMode::ReadWrite).sync().unwrap();
    assert_eq!(disk.crash_with(Unsynced::Lost, 0).contents("/a").unwrap()[0], b'2');
}

#[test]
fn an_observer_sees_every_step_before_it_happens() {
    let disk = SimDisk::new(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    disk.observe(move |disk, step| {
        let paths = disk.crash_with(Unsynced::Kept, 0).paths().len();
        log.lock().unwrap().push((step.number, step.kind, paths));
    });
    create(&disk, "/a").write_at(0, b"1").unwrap();
    disk.remove_file("/a".as_ref()).unwrap();
    let wanted = [(1, StepKind::Create, 0), (2, StepKind::Write, 1), (3, StepKind::Remove, 1)];
    assert_eq!(*seen.lock().unwrap(), wanted);
}

#[test]
fn a_failed_sync_is_never_made_good() {
    let mut lost = false;
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        disk.install("/a", &[1; 10]);
        let file = open(&disk, "/a", OpenMode::ReadWrite);
        file.write_at(0, &[2; 10]).unwrap();
        disk.fail(FailingCall::Sync, 1);
        file.sync().unwrap_err();
        file.sync().unwrap();
        assert_eq!(disk.contents("/a"), Some(vec![2; 10]), "the cache shows the new bytes");
        lost |= disk.crash_with(Unsynced::Kept, 0).contents("/a") != Some(vec![2; 10]);
    }
    assert!(lost);
}

#[test]
fn calls_fail_when_told() {
    let (disk, file) = with_file();
    disk.fail(FailingCall::Write, 2);
    disk.fail(FailingCall::Read, 1);
    disk.fail(FailingCall::SyncDir, 1);
    file.write_at(0, b"1").unwrap();
    file.write_at(0, b"1").unwrap_err();
    file.write_at(0, b"1").unwrap();
    file.read_at(0, &mut [0]).unwrap_err();
    file.read_at(0, &mut [0]).unwrap();
    disk.sync_dir("/".as_ref()).unwrap_err();
    sync_dir(&disk, "/");
}

#[test]
fn a_full_disk_says_so() {
    let (disk, file) = with_file();
    disk.set_capacity(Some(4000));
    file.write_at(3000, &[1; 1000]).unwrap();
    let error = file.write_at(4000, &[1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.allocate(5000).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(0, &[2; 4000]).unwrap();
    assert_eq!(disk.room("/".as_ref()).unwrap(), Room { total: 4000, free: 0 });
    disk.set_capacity(Some(5000));
    assert_eq!(disk.room("/".as_ref()).unwrap(), Room { total: 5000, free: 1000 });
    disk.set_capacity(None);
    file.allocate(5000).unwrap();
    assert_eq!(disk.used(), 5000);
    assert!(disk.room("/".as_ref()).unwrap().free > 1 << 60);
}

#[test]
fn bits_flip_and_time_passes() {
    let (disk, file) = with_file();
    disk.flip("/a", 2999, 7);
    assert_eq!(disk.contents("/a").unwrap()[2999], 129);
    let clock = SimClock::new(Duration::from_secs(1_000));
    disk.set_slow(clock.clone(), Duration::from_millis(1), Duration::from_secs(1));
    file.write_at(0, &[1]).unwrap();
    file.sync().unwrap();
    assert_eq!(clock.now(), Duration::from_millis(1_001));
    clock.set_wall(Duration::ZERO);
    assert_eq!((clock.now(), clock.wall()), (Duration::from_millis(1_001), Duration::ZERO));
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "/a");
        let mut dice = SimDice::new(5);
        for _ in 0..50 {
            let bytes = vec![dice.below(256) as u8; dice.below(2000) as usize];
            file.write_at(dice.below(10_000), &bytes).unwrap();
        }
        (0..20).map(|_| disk.crash().contents("/a")).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn removed_files_are_dropped_when_nobody_needs_them() {
    let disk = SimDisk::new(1);
    disk.install("/a", b"1");
    let file = open(&disk, "/a", OpenMode::Read);
    disk.remove_file("/a".as_ref()).unwrap();
    assert_eq!(disk.crash_with(Unsynced::Lost, 0).contents("/a"), Some(b"1".to_vec()));
    sync_dir(&disk, "/");
    assert_eq!(file.len().unwrap(), 1);
    drop(file);
    assert!(disk.crash_with(Unsynced::Kept, 0).paths().is_empty());
}
