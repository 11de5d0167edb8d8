//! `.snap` files: saved whole, loaded newest first, damage put aside.

use std::path::Path;

use bytes::Bytes;
use mainstay_env::Disk;
use mainstay_env_sim::{SimDisk, Unsynced};
use mainstay_raft::Snapshot;
use mainstay_types::{Index, Term};

use super::support::mark;
use crate::{SnapshotMark, WalError, snap};

fn snap_dir() -> &'static Path {
    Path::new("/snap")
}

fn snapshot(term: u64, index: u64) -> Snapshot {
    let conf_state = mark(term, index).conf_state.unwrap();
    let data = Bytes::from(format!("the state at {index}"));
    Snapshot { data, index: Index(index), term: Term(term), conf_state }
}

fn with_snaps(count: u64) -> (SimDisk, Vec<SnapshotMark>) {
    let disk = SimDisk::new(1);
    disk.create_dir_all(snap_dir()).unwrap();
    disk.sync_dir("/".as_ref()).unwrap();
    for number in 1..=count {
        snap::save(&disk, snap_dir(), &snapshot(number, number * 10)).unwrap();
    }
    (disk, (1..=count).map(|number| mark(number, number * 10)).collect())
}

#[test]
fn the_newest_that_the_log_knows_is_loaded() {
    let (disk, marks) = with_snaps(3);
    let load = |marks: &[SnapshotMark]| snap::load_newest(&disk, snap_dir(), marks).unwrap();
    assert_eq!(load(&marks).0, Some(snapshot(3, 30)));
    assert_eq!(load(&marks[..2]).0, Some(snapshot(2, 20)));
    assert_eq!(load(&[mark(9, 30)]).0, None);
    assert!(load(&marks).1.is_empty());
}

#[test]
fn every_flipped_bit_is_found_and_the_next_older_loaded() {
    let (clean, marks) = with_snaps(2);
    let path = "/snap/0000000000000002-0000000000000014.snap";
    let len = clean.contents(path).unwrap().len() as u64;
    for at in 0..len {
        for bit in 0..8 {
            let disk = clean.copy();
            disk.flip(path, at, bit);
            let (loaded, broken) = snap::load_newest(&disk, snap_dir(), &marks).unwrap();
            assert_eq!(loaded, Some(snapshot(1, 10)), "{at}.{bit}");
            assert_eq!(broken.len(), 1);
            assert!(broken[0].why.is_corrupt());
            assert_eq!(broken[0].path, Path::new(&format!("{path}.broken")));
            assert!(disk.contents(&broken[0].path).is_some());
        }
    }
}

#[test]
fn a_crash_leaves_a_whole_file_or_none() {
    for step in 1.. {
        let (disk, _) = with_snaps(1);
        disk.cut_at(disk.steps() + step);
        let saved = snap::save(&disk, snap_dir(), &snapshot(2, 20));
        for seed in 0..20 {
            let after = disk.crash_with(Unsynced::ALL[seed as usize % 4], seed);
            let names = snap::list(&after, snap_dir()).unwrap();
            assert!(names.len() == 2 || saved.is_err());
            for name in names {
                snap::load(&after, snap_dir(), name).unwrap();
            }
            snap::save(&after, snap_dir(), &snapshot(2, 20)).unwrap();
        }
        if saved.is_ok() {
            break;
        }
    }
}

#[test]
fn old_ones_are_purged() {
    let (disk, _) = with_snaps(5);
    assert_eq!(snap::purge(&disk, snap_dir(), Index(50), 3).unwrap(), 2);
    let indexes: Vec<u64> =
        snap::list(&disk, snap_dir()).unwrap().iter().map(|name| name.index.0).collect();
    assert_eq!(indexes, [30, 40, 50]);
    // The newest may have been left by a crash before the log knew of it.
    assert_eq!(snap::purge(&disk, snap_dir(), Index(40), 0).unwrap(), 1, "one always stays");
    let left = snap::list(&disk, snap_dir()).unwrap();
    assert_eq!(left.iter().map(|name| name.index.0).collect::<Vec<_>>(), [40, 50]);
    for index in [10, 0x20, 0x30] {
        disk.install(format!("/snap/{index:016x}.snap.db"), b"db");
    }
    assert_eq!(snap::purge_received(&disk, snap_dir(), Index(0x30)).unwrap(), 2);
    assert!(disk.contents("/snap/0000000000000030.snap.db").is_some());
    let empty = snap::save(&disk, snap_dir(), &Snapshot::default()).unwrap_err();
    assert!(matches!(empty, WalError::Invalid(_)));
}
