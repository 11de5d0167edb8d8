//! Damaged, mixed-up and foreign data directories (faults.md, section 6).

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use mainstay_bolt::{Bolt, Options, WriteBatch};
use mainstay_env_os::OsDisk;
use mainstay_interop::Start;

use crate::rest::{Rest, refused};

/// Turns one bit.
fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("the file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("it is that long");
    byte[0] ^= 4;
    file.write_all_at(&byte, offset).expect("a writable file");
}

fn truncate(path: &Path, len: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("the file");
    file.set_len(len).expect("a writable file");
}

#[test]
fn a_log_that_is_gone_is_missed() {
    let rest = Rest::new("no-log");
    fs::remove_dir_all(rest.path("wal")).expect("it was there");
    rest.assert_refused(&["has no log", "snap/db", "member/wal"]);
}

#[test]
fn a_db_that_is_gone_is_missed() {
    let rest = Rest::new("no-db");
    fs::remove_file(rest.path("snap/db")).expect("it was there");
    rest.assert_refused(&["database file", "snap/db", "missing"]);
}

/// What the log has lost is in the db: it starts anew behind that, unless it must not. The last
/// record may be a vote, which is nowhere else.
#[test]
fn a_bit_in_the_log_is_named() {
    let rest = Rest::new("log-bit");
    let segment = rest.newest("wal", ".wal");
    let name = segment.file_name().expect("a file").to_string_lossy().into_owned();
    let bytes = fs::read(&segment).expect("a segment");
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("records") as u64;
    flip(&segment, last);
    rest.assert_refused(&["is damaged at offset", &name, "this member's vote", "etcdutl repair"]);
    flip(&segment, last);
    flip(&segment, 1000);
    let damage = ["is damaged at offset", &name, "bit 2 is flipped", "it is not fetched"];
    rest.assert_refused_with(&["--repair-from-peers=false"], &damage);
    let member = rest.assert_serves();
    let log = member.log();
    assert!(log.contains("the damaged log has begun anew; nothing of it was lost"), "{log}");
    assert!(Path::new(&format!("{}.broken", segment.display())).exists(), "it is put aside");
    member.stop();
    rest.assert_serves().stop();
}

#[test]
fn a_segment_of_garbage_is_named_and_other_files_are_passed_over() {
    let rest = Rest::new("log-garbage");
    fs::write(rest.path("wal/notes.txt"), "not a segment").expect("a writable folder");
    fs::write(rest.path("snap/notes.txt"), "not a snapshot").expect("a writable folder");
    rest.assert_serves().stop();
    let garbage = rest.path("wal/0000000000000001-0000000000000100.wal");
    fs::write(&garbage, [0x5a; 4096]).expect("a writable folder");
    rest.assert_refused(&["0000000000000001-0000000000000100.wal", "is damaged at offset 0"]);
    fs::rename(&garbage, rest.path("wal/0000000000000009-0000000000000100.wal")).expect("there");
    rest.assert_refused(&["0000000000000009-0000000000000100.wal", "no segment follows"]);
}

#[test]
fn a_damaged_db_is_named() {
    let rest = Rest::new("db-damage");
    let db = rest.path("snap/db");
    let sound = fs::read(&db).expect("the db");
    for meta in [0, 4096] {
        flip(&db, meta + 20);
    }
    rest.assert_refused(&["snap/db", "meta"]);
    fs::write(&db, &sound[..sound.len() / 2]).expect("a writable file");
    rest.assert_refused(&["snap/db", "pages of 4096 bytes"]);
    fs::write(&db, b"").expect("a writable file");
    fs::write(&db, &sound).expect("a writable file");
    rest.assert_serves().stop();
    // The header of every page behind the metas.
    for page in 2..sound.len() / 4096 {
        flip(&db, page as u64 * 4096);
    }
    rest.assert_refused(&["snap/db", "page", "offset"]);
}

#[test]
fn an_older_snapshot_serves_when_the_newest_is_damaged() {
    for damage in [
        |path: &Path| truncate(path, 20),
        |path: &Path| flip(path, 30),
        |path: &Path| truncate(path, 0),
    ] {
        let rest = Rest::new("snap-damage");
        let snap = rest.newest("snap", ".snap");
        damage(&snap);
        let member = rest.assert_serves();
        let log = member.log();
        assert!(log.contains("renamed a damaged snapshot file"), "{log}");
        assert!(Path::new(&format!("{}.broken", snap.display())).exists(), "it is put aside");
        member.stop();
    }
}

#[test]
fn a_newer_version_is_not_opened() {
    let rest = Rest::new("newer");
    let disk = OsDisk;
    let mut bolt = Bolt::open(&disk, &rest.path("snap/db"), Options::default()).expect("the db");
    let mut batch = WriteBatch::new();
    batch.put(b"meta", Bytes::from_static(b"storageVersion"), Bytes::from_static(b"3.8.0"));
    bolt.commit(batch).expect("a sound disk");
    drop(bolt);
    rest.assert_refused(&["3.8.0", "3.7"]);
}

#[test]
fn a_directory_in_use_is_not_opened_twice() {
    let rest = Rest::new("in-use");
    let member = rest.assert_serves();
    let second = Start::new(mainstay_interop::Kind::Ours, &rest.start().data_dir);
    let log = rest.start().data_dir.with_extension("second.log");
    let refusal = refused(second.command().expect("ours is never missing"), &log);
    refusal.assert_says(&["another process"]);
    member.stop();
    rest.assert_serves().stop();
}

#[test]
fn a_path_that_is_no_directory_is_named() {
    let rest = Rest::new("no-dir");
    let data_dir = &rest.start().data_dir;
    fs::remove_dir_all(data_dir).expect("at rest");
    fs::write(data_dir, "a file").expect("a writable folder");
    rest.assert_refused(&["m.etcd", "directory"]);
}
