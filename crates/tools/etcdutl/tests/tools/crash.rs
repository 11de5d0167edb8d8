//! The power goes at every step of a repair: the directory is repaired, or no member starts
//! on it and the next repair makes it what the first one would have made; and nothing of
//! the originals is gone.

use std::path::Path;
use std::sync::Arc;

use mainstay_env_sim::SimDisk;
use mainstay_types::Index;
use mainstay_wal::{SnapshotMark, read, valid_snapshots};

use crate::made::{Folder, Plan, Said, find, flip, overwrite, run, run_on, segments, tree};

const DIR: &str = "/nowhere/m.etcd";

fn on(disk: &SimDisk, line: &str) -> Said {
    run_on(Arc::new(disk.clone()), "etcdutl", Path::new(DIR), line)
}

/// A disk with what is in a folder.
fn disk_with(folder: &Folder) -> SimDisk {
    let disk = SimDisk::new(5);
    for (path, bytes) in tree(&folder.0) {
        disk.install(Path::new(DIR).join(path), &bytes);
    }
    disk
}

/// Log and rows, as they are shown.
fn state(disk: &SimDisk) -> (String, String) {
    (on(disk, "dump-logs $D").ok(), on(disk, "dump-db iterate-bucket $D key").ok())
}

/// Whether a member would start: its log is sound from the newest snapshot on that has its
/// file, and reaches as far as the db, which is sound.
fn starts(disk: &SimDisk) -> bool {
    let wal = Path::new(DIR).join("member/wal");
    let Ok(marks) = valid_snapshots(disk, &wal) else { return false };
    let files =
        mainstay_wal::snap::list(disk, &Path::new(DIR).join("member/snap")).unwrap_or_default();
    let has_file = |mark: &&SnapshotMark| {
        mark.index == Index(0)
            || files.iter().any(|name| (name.index, name.term) == (mark.index, mark.term))
    };
    let newest = marks.iter().filter(has_file).max_by_key(|mark| mark.index);
    newest.is_some_and(|mark| read(disk, &wal, mark).is_ok())
        && on(disk, "bbolt check $S").result.is_ok()
        && on(disk, "verify --data-dir $D").result.is_ok()
}

/// Cuts the power at each step of the repair of a directory.
fn interrupted(folder: &Folder) {
    let damaged = disk_with(folder);
    let originals: Vec<(String, Vec<u8>)> = damaged
        .paths()
        .into_iter()
        .map(|path| (path.clone(), damaged.contents(&path).expect("a file")))
        .collect();
    let whole = damaged.copy();
    on(&whole, "repair --data-dir $D --apply").ok();
    assert!(starts(&whole));
    let (wanted, steps) = (state(&whole), whole.steps());
    assert!(steps > 5, "{steps} steps");
    let (mut before, mut after) = (0, 0);
    // All of them on request; a few are enough every day.
    let every = std::env::var("ETCDUTL_STEPS").map_or((steps / 5).max(1), |_| 1);
    for step in (1..=steps).rev().step_by(usize::try_from(every).expect("small")) {
        let disk = damaged.copy();
        disk.cut_at(step);
        assert!(on(&disk, "repair --data-dir $D --apply").result.is_err(), "step {step}");
        for _ in 0..2 {
            let found = disk.crash();
            for (path, bytes) in &originals {
                let kept = |other: String| found.contents(other).is_some_and(|is| &is == bytes);
                assert!(found.paths().into_iter().any(kept), "step {step}: {path} is gone");
            }
            if starts(&found) {
                after += 1;
                assert!(state(&found) == wanted, "step {step}: a member starts on something else");
            } else {
                before += 1;
            }
            let again = on(&found, "repair --data-dir $D --apply");
            assert!(again.result.is_ok(), "step {step}: {:?}: {}", again.result, again.out);
            assert!(starts(&found) && state(&found) == wanted, "step {step}: repaired otherwise");
        }
    }
    assert!(before > 0 && after > 0, "{before} and {after} of {steps} steps");
}

#[test]
fn the_log() {
    let folder = Folder::new();
    Plan { entries: 90, applied: 80, snapshots: vec![20], value_bytes: 300, ..Plan::default() }
        .make(&folder.0);
    let all = segments(&folder.0);
    assert!(all.len() > 1, "more than one segment");
    overwrite(&all[0], find(&all[0], b"key00030").expect("it is there"), b"KEY");
    interrupted(&folder);
}

#[test]
fn the_pages_of_the_db() {
    let folder = Folder::new();
    Plan { entries: 120, applied: 120, value_bytes: 300, ..Plan::default() }.make(&folder.0);
    let pages = run(&folder.0, "bbolt pages $S").ok();
    let leaf = |line: &&str| line.contains("leaf") && !line.contains("leaf       10 ");
    let line = pages.lines().find(leaf).expect("a leaf");
    let id: usize = line.split(' ').next().expect("an id").parse().expect("a number");
    overwrite(&folder.0.join("member/snap/db"), id * 4096, &[0; 4096]);
    interrupted(&folder);
}

#[test]
fn everything_at_once() {
    let folder = Folder::new();
    Plan { entries: 90, applied: 80, snapshots: vec![20, 60], value_bytes: 300, ..Plan::default() }
        .make(&folder.0);
    let all = segments(&folder.0);
    overwrite(&all[0], find(&all[0], b"key00030").expect("it is there"), b"KEY");
    flip(&folder.0.join(format!("member/snap/{:016x}-{:016x}.snap", 2, 60)), 40, 5);
    interrupted(&folder);
}
