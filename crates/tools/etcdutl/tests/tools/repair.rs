//! `repair`, damage by damage: what it says, that it changes nothing unasked, and that
//! what it leaves is sound.

use std::fs;
use std::path::Path;

use mainstay_env_os::OsDisk;
use mainstay_types::Index;
use mainstay_wal::{read, valid_snapshots};

use crate::made::{Folder, Plan, find, flip, overwrite, run, segments, tree};

/// The dry run says `damaged`, changes nothing, and fails; what it says would be lost.
fn dry(dir: &Path) -> String {
    let before = tree(dir);
    let (code, message, out) = run(dir, "repair --data-dir $D").failed();
    assert_eq!(code, 1);
    assert!(message.contains("nothing was changed"), "{message}");
    assert!(out.starts_with("damaged: "), "{out}");
    assert!(tree(dir) == before, "the dry run changed something");
    out
}

/// Repairs; nothing is damaged after it, and the originals are still there.
fn apply(dir: &Path) -> String {
    let before = tree(dir);
    let out = run(dir, "repair --data-dir $D --apply").ok();
    assert!(out.ends_with("repaired\n"), "{out}");
    assert_eq!(run(dir, "repair --data-dir $D").ok(), "nothing is damaged\n");
    run(dir, "verify --data-dir $D").ok();
    let after = tree(dir);
    for (path, bytes) in &before {
        let name = path.file_name();
        let kept = |(other, is): (&std::path::PathBuf, &Vec<u8>)| {
            is == bytes
                && (other == path
                    || other.file_name() == name
                    || other.extension().is_some_and(|e| e == "broken"))
        };
        assert!(after.iter().any(kept), "{} is gone", path.display());
    }
    out
}

/// The entries of the log behind its newest snapshot.
fn log(dir: &Path) -> (u64, Vec<u64>) {
    let (disk, wal) = (OsDisk::new(), dir.join("member/wal"));
    let marks = valid_snapshots(&disk, &wal).expect("a sound log");
    let mark = marks.into_iter().max_by_key(|mark| mark.index).expect("the first mark");
    let replay = read(&disk, &wal, &mark).expect("a sound log");
    assert!(replay.hard_state.commit >= mark.index);
    (mark.index.0, replay.entries.iter().map(|entry| entry.index.0).collect())
}

#[test]
fn what_is_sound_is_left_alone() {
    for plan in [Plan::default(), Plan { snapshots: vec![10, 30], applied: 35, ..Plan::default() }]
    {
        let folder = Folder::new();
        plan.make(&folder.0);
        let before = tree(&folder.0);
        for line in ["repair --data-dir $D", "repair --data-dir $D --apply"] {
            assert_eq!(run(&folder.0, line).ok(), "nothing is damaged\n");
        }
        assert!(tree(&folder.0) == before);
    }
}

#[test]
fn a_torn_tail_is_cut() {
    let folder = Folder::new();
    Plan { applied: 38, ..Plan::default() }.make(&folder.0);
    let segment = segments(&folder.0).pop().expect("a segment");
    // The last save, from its middle on, never reached the disk.
    let at = find(&segment, b"key00040").expect("it is there");
    let len = fs::metadata(&segment).expect("a file").len() as usize;
    overwrite(&segment, at, &vec![0; len - at]);
    let out = dry(&folder.0);
    assert!(out.contains("a save of") && out.contains("lost: nothing"), "{out}");
    apply(&folder.0);
    assert_eq!(log(&folder.0).1.last(), Some(&39));
}

#[test]
fn a_log_damaged_before_what_the_db_has_loses_nothing() {
    for (storage, voters) in [(None, 1), (Some(mainstay_types::Version::line(3, 7)), 3)] {
        let folder = Folder::new();
        let plan = Plan { applied: 30, snapshots: vec![25], storage, voters, ..Plan::default() };
        plan.make(&folder.0);
        let segment = &segments(&folder.0)[0];
        overwrite(segment, find(segment, b"key00020").expect("it is there"), b"KEY");
        let out = dry(&folder.0);
        assert!(out.contains("start the log anew behind index 30"), "{out}");
        assert!(out.contains("with 10 entries") && out.contains("lost: nothing"), "{out}");
        apply(&folder.0);
        assert_eq!(log(&folder.0), (30, (31..=40).collect()));
    }
}

#[test]
fn one_flipped_bit_loses_nothing() {
    let folder = Folder::new();
    Plan { applied: 30, voters: 3, ..Plan::default() }.make(&folder.0);
    let segment = &segments(&folder.0)[0];
    flip(segment, find(segment, b"key00035").expect("it is there") + 4, 1);
    let out = dry(&folder.0);
    assert!(out.contains("1 records of the log have one flipped bit"), "{out}");
    assert!(out.contains("with 10 entries") && out.contains("lost: nothing"), "{out}");
    apply(&folder.0);
    assert_eq!(log(&folder.0), (30, (31..=40).collect()));
    let log = run(&folder.0, "dump-logs $D").ok();
    assert!(log.contains("put:<key:\"key00035\" "), "{log}");
}

#[test]
fn a_log_damaged_behind_what_the_db_has_says_what_is_lost() {
    for (voters, kept) in [(3, 34), (1, 34)] {
        let folder = Folder::new();
        Plan { applied: 30, voters, ..Plan::default() }.make(&folder.0);
        let segment = &segments(&folder.0)[0];
        overwrite(segment, find(segment, b"key00035").expect("it is there"), b"KEY");
        let out = dry(&folder.0);
        assert!(out.contains("lost: entries 35 to 40 of the log"), "{out}");
        let warned = out.contains("warning: this is one of 3 voting members");
        assert_eq!(warned, voters == 3, "{out}");
        apply(&folder.0);
        assert_eq!(log(&folder.0), (30, (31..=kept).collect()));
    }
}

#[test]
fn a_length_field_that_is_nonsense_is_passed_over() {
    let folder = Folder::new();
    Plan { applied: 39, ..Plan::default() }.make(&folder.0);
    let segment = &segments(&folder.0)[0];
    // The frame of entry 20, some twenty bytes before its key.
    let at = find(segment, b"key00020").expect("it is there") - 48;
    overwrite(segment, at - at % 8, &[0xff; 40]);
    let out = dry(&folder.0);
    assert!(out.contains("with 1 entries") && out.contains("lost: nothing"), "{out}");
    apply(&folder.0);
    assert_eq!(log(&folder.0), (39, vec![40]));
}

#[test]
fn a_missing_segment_is_no_end() {
    let folder = Folder::new();
    Plan { entries: 400, applied: 390, value_bytes: 200, ..Plan::default() }.make(&folder.0);
    let all = segments(&folder.0);
    assert!(all.len() > 3, "{} segments", all.len());
    fs::remove_file(&all[1]).expect("removed");
    let out = dry(&folder.0);
    assert!(out.contains("with 10 entries") && out.contains("lost: nothing"), "{out}");
    apply(&folder.0);
    assert_eq!(log(&folder.0), (390, (391..=400).collect()));
}

#[test]
fn the_db_ahead_of_a_log_that_was_cut_goes_on() {
    let folder = Folder::new();
    Plan { entries: 400, applied: 400, value_bytes: 200, ..Plan::default() }.make(&folder.0);
    fs::remove_file(segments(&folder.0).pop().expect("a segment")).expect("removed");
    let out = dry(&folder.0);
    assert!(out.contains("behind index 400") && out.contains("lost: nothing"), "{out}");
    apply(&folder.0);
    assert_eq!(log(&folder.0), (400, vec![]));
}

#[test]
fn a_damaged_snap_is_put_aside() {
    let folder = Folder::new();
    Plan { snapshots: vec![10, 30], ..Plan::default() }.make(&folder.0);
    let name = format!("member/snap/{:016x}-{:016x}.snap", 2, 30);
    flip(&folder.0.join(&name), 40, 5);
    let out = dry(&folder.0);
    assert!(out.contains(&format!("{name} at offset 0: expected data with crc")), "{out}");
    assert!(out.contains(".broken") && out.contains("lost: nothing"), "{out}");
    apply(&folder.0);
    assert!(folder.0.join(name + ".broken").exists());
}

#[test]
fn the_only_snap_is_made_anew_from_the_db() {
    let folder = Folder::new();
    Plan { entries: 400, applied: 390, snapshots: vec![300], value_bytes: 200, ..Plan::default() }
        .make(&folder.0);
    // The log no longer reaches back to its beginning.
    for segment in &segments(&folder.0)[..2] {
        fs::remove_file(segment).expect("removed");
    }
    let name = format!("member/snap/{:016x}-{:016x}.snap", 2, 300);
    fs::remove_file(folder.0.join(name)).expect("removed");
    let out = dry(&folder.0);
    assert!(out.contains("behind index 390") && out.contains("lost: nothing"), "{out}");
    apply(&folder.0);
    assert_eq!(log(&folder.0), (390, (391..=400).collect()));
    assert!(folder.0.join(format!("member/snap/{:016x}-{:016x}.snap", 2, 390)).exists());
}

#[test]
fn damaged_pages_of_the_db_are_left_out() {
    let folder = Folder::new();
    Plan { entries: 400, applied: 400, value_bytes: 200, ..Plan::default() }.make(&folder.0);
    let pages = run(&folder.0, "bbolt pages $S").ok();
    let leaf = |line: &&str| line.contains("leaf") && !line.contains("leaf       10 ");
    let line = pages.lines().filter(leaf).nth(5).expect("a leaf");
    let id: usize = line.split(' ').next().expect("an id").parse().expect("a number");
    let db = folder.0.join("member/snap/db");
    overwrite(&db, id * 4096, &[0xa5; 4096]);
    let out = dry(&folder.0);
    assert!(out.contains(&format!("at offset {}: page {id}", id * 4096)), "{out}");
    assert!(out.contains("lost: revisions of the key space from "), "{out}");
    let lost: Vec<&str> = out.lines().filter(|line| line.starts_with("lost: ")).collect();
    let words: Vec<&str> = lost[0].split(' ').collect();
    let number = |at: usize| -> u64 {
        words[at].split('/').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{out}"))
    };
    let (first, until) = (number(7), number(9));
    assert!(first < until && until - first < 40, "{out}");
    apply(&folder.0);
    let rows = run(&folder.0, "dump-db iterate-bucket $D key").ok().lines().count() as u64;
    assert_eq!(rows, 399 - (until - first), "what was said is lost, and nothing else");
}

#[test]
fn a_damaged_branch_loses_little_of_what_lies_under_it() {
    let folder = Folder::new();
    Plan { entries: 4000, applied: 4000, value_bytes: 200, ..Plan::default() }.make(&folder.0);
    let pages = run(&folder.0, "bbolt pages $S").ok();
    let line = pages.lines().find(|line| line.contains("branch")).expect("a branch");
    let id: usize = line.split(' ').next().expect("an id").parse().expect("a number");
    overwrite(&folder.0.join("member/snap/db"), id * 4096 + 8, &[0xff; 8]);
    let out = dry(&folder.0);
    let rows = |text: &str| text.lines().count();
    if out.contains("nothing points to") {
        apply(&folder.0);
        assert_eq!(rows(&run(&folder.0, "dump-db iterate-bucket $D key").ok()), 3999);
    } else {
        // The root of the bucket, or its last branch: nothing can be told of what is behind.
        assert!(out.contains("to the last"), "{out}");
    }
}

#[test]
fn what_cannot_be_repaired_is_refused() {
    let no_log = Folder::new();
    Plan::default().make(&no_log.0);
    fs::remove_dir_all(no_log.0.join("member/wal")).expect("removed");
    let no_db = Folder::new();
    Plan::default().make(&no_db.0);
    fs::remove_file(no_db.0.join("member/snap/db")).expect("removed");
    let no_meta = Folder::new();
    Plan::default().make(&no_meta.0);
    overwrite(&no_meta.0.join("member/snap/db"), 0, &[0; 8192]);
    let old = Folder::new();
    let plan = Plan { entries: 40, applied: 10, snapshots: vec![30], ..Plan::default() };
    plan.make(&old.0);
    let segment = &segments(&old.0)[0];
    overwrite(segment, find(segment, b"key00020").expect("it is there"), b"KEY");
    for (folder, want) in [
        (no_log, "there is no log"),
        (no_db, "there is no db file"),
        (no_meta, "neither meta page"),
        (old, "the db is older than the snapshot"),
    ] {
        for line in ["repair --data-dir $D", "repair --data-dir $D --apply"] {
            let before = tree(&folder.0);
            let (code, message, out) = run(&folder.0, line).failed();
            assert!(code == 1 && message.contains("cannot be repaired"), "{message}");
            assert!(out.contains("refused: ") && out.contains(want), "{out}");
            assert!(tree(&folder.0) == before, "{want}: something changed");
        }
    }
    let none = Folder::new();
    assert!(run(&none.0, "repair --data-dir $D").failed().1.contains("no data directory"));
}

#[test]
fn the_log_may_lie_elsewhere() {
    let folder = Folder::new();
    Plan { applied: 30, ..Plan::default() }.make(&folder.0);
    let elsewhere = Folder::new();
    let wal = elsewhere.0.join("wal");
    let segment = segments(&folder.0).remove(0);
    overwrite(&segment, find(&segment, b"key00020").expect("it is there"), b"KEY");
    fs::rename(folder.0.join("member/wal"), &wal).expect("moved");
    let line = format!("repair --data-dir $D --wal-dir {} --apply", wal.display());
    let out = run(&folder.0, &line).ok();
    assert!(out.contains("lost: nothing"), "{out}");
    let marks = valid_snapshots(&OsDisk::new(), &wal).expect("a sound log");
    assert!(marks.iter().any(|mark| mark.index == Index(30)));
}

/// A value of another content looks like any value: only the member's checksums tell, and all
/// tools that would carry it on look at them.
#[test]
fn a_flipped_value_is_found_by_the_checksums_of_its_page() {
    use mainstay_backend::{Backend, OpenOptions, SumsPlace};
    use mainstay_types::{ClusterId, MemberId};
    let folder = Folder::new();
    let dir = &folder.0;
    Plan { applied: 38, value_bytes: 700, ..Plan::default() }.make(dir);
    let (db, path) = (dir.join("member/snap/db"), dir.join("member/mainstay/pages"));
    let sums = SumsPlace { path: path.clone(), cluster: ClusterId(1), member: MemberId(1) };
    let options = OpenOptions { sums: Some(sums), ..OpenOptions::default() };
    let disk = std::sync::Arc::new(OsDisk::new());
    drop(Backend::open(disk, &db, options, &mut |_, _, _| {}).expect("a db"));
    run(dir, "verify --data-dir $D").ok();
    assert_eq!(run(dir, "repair --data-dir $D").ok(), "nothing is damaged\n");
    let at = find(&db, &[b'v'; 300]).expect("a value");
    flip(&db, at + 100, 1);
    for line in ["verify --data-dir $D", "defrag --data-dir $D"] {
        let (_, message, _) = run(dir, line).failed();
        assert!(message.contains("checksum"), "{line}: {message}");
    }
    let out = dry(dir);
    assert!(out.contains("checksum") && out.contains("lost: "), "{out}");
    apply(dir);
    // Without them nobody can tell.
    flip(&db, find(&db, &[b'v'; 300]).expect("a value") + 100, 1);
    fs::remove_file(path).expect("its file");
    run(dir, "verify --data-dir $D").ok();
}
