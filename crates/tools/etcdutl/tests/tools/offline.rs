//! `defrag`, `hashkv`, `migrate`, `verify`, `check`, `version`, `completion`.

use std::fs;
use std::sync::Arc;

use mainstay_backend::{Backend, OpenOptions};
use mainstay_env::{Disk as _, LockKind, OpenMode};
use mainstay_env_os::OsDisk;
use mainstay_mvcc::Loading;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::Version;

use crate::made::{Folder, Plan, flip, run, tree};

#[test]
fn versions_and_completions_are_told() {
    let folder = Folder::new();
    assert_eq!(run(&folder.0, "version").ok(), "etcdutl version: 3.7.1\nAPI version: 3.7\n");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = run(&folder.0, &format!("completion {shell}")).ok();
        assert!(script.contains("etcdutl") && script.contains("hashkv"), "{script}");
    }
    assert!(run(&folder.0, "").ok().contains("COMMANDS:"));
    let (code, message, _) = run(&folder.0, "nonsense").failed();
    assert_eq!((code, message.as_str()), (1, "unknown command \"nonsense\" for \"etcdutl\""));
    let (code, message, _) = run(&folder.0, "defrag").failed();
    assert_eq!((code, message.as_str()), (1, "required flag(s) \"data-dir\" not set"));
    assert_eq!(run(&folder.0, "version -w yaml").failed().0, 4);
}

#[test]
fn defrag_keeps_every_row() {
    let folder = Folder::new();
    Plan { entries: 400, applied: 400, value_bytes: 300, ..Plan::default() }.make(&folder.0);
    let db = folder.0.join("member/snap/db");
    let before = run(&folder.0, "dump-db hash $S").ok();
    let size = fs::metadata(&db).expect("a db").len();
    fs::write(folder.0.join("member/snap/db.tmp.0"), "left behind").expect("written");
    run(&folder.0, "defrag --data-dir $D").ok();
    assert_eq!(run(&folder.0, "dump-db hash $S").ok(), before);
    assert!(fs::metadata(&db).expect("a db").len() <= size, "it grew");
    assert!(!folder.0.join("member/snap/db.tmp.0").exists());
    assert_eq!(run(&folder.0, "bbolt check $S").ok(), "OK\n");
}

#[test]
fn defrag_of_a_damaged_or_missing_db_leaves_it_as_it_is() {
    let folder = Folder::new();
    Plan { entries: 100, applied: 100, value_bytes: 300, ..Plan::default() }.make(&folder.0);
    let pages = run(&folder.0, "bbolt pages $S").ok();
    let leaf = pages.lines().find(|line| line.contains("leaf")).expect("a leaf");
    let page: usize = leaf.split(' ').next().expect("an id").parse().expect("a number");
    flip(&folder.0.join("member/snap/db"), page * 4096, 3);
    let before = tree(&folder.0);
    let (code, message, _) = run(&folder.0, "defrag --data-dir $D").failed();
    assert_eq!(code, 1);
    assert!(message.starts_with("Failed to defragment etcd data["), "{message}");
    assert_eq!(tree(&folder.0), before);
    let none = Folder::new();
    let (_, message, _) = run(&none.0, "defrag --data-dir $D").failed();
    assert!(message.contains("no such file or directory"), "{message}");
    assert!(tree(&none.0).is_empty(), "a db was made");
}

#[test]
fn a_file_in_use_is_named() {
    let folder = Folder::new();
    Plan::default().make(&folder.0);
    let db = folder.0.join("member/snap/db");
    let held = OsDisk::new().open(&db, OpenMode::Read).expect("opens");
    assert!(held.try_lock(LockKind::Flock).expect("locks"));
    for line in [
        "defrag --data-dir $D --timeout 100ms",
        "hashkv $S --timeout 100ms",
        "migrate --data-dir $D --target-version 3.6 --timeout 100ms",
        "verify --data-dir $D --timeout 100ms",
        "repair --data-dir $D --timeout 100ms",
        "dump-db hash $D --timeout 100ms",
    ] {
        let (code, message, _) = run(&folder.0, line).failed();
        assert!(code == 1 && message.contains(&*db.to_string_lossy()), "{line}: {message}");
        assert!(message.contains("locked"), "{line}: {message}");
    }
}

#[test]
fn hashkv_is_that_of_a_server() {
    let folder = Folder::new();
    Plan::default().make(&folder.0);
    let db = folder.0.join("member/snap/db");
    let want = {
        let mut loading = Loading::default();
        let backend = Backend::open(
            Arc::new(OsDisk::new()),
            &db,
            OpenOptions::default(),
            &mut |revision, tombstone, value| loading.row(revision, tombstone, value),
        );
        let store = loading.finish(&backend.expect("opens")).expect("loads").store;
        let hash = |revision| store.view().hash_kv(revision).expect("hashes");
        [hash(0), hash(7)]
    };
    let line = |at: usize| {
        format!("{}, {}, {}\n", want[at].hash, want[at].revision, want[at].compact_revision)
    };
    assert_eq!(run(&folder.0, "hashkv $S").ok(), line(0));
    assert_eq!(run(&folder.0, "hashkv $S --rev 7").ok(), line(1));
    let json = run(&folder.0, "hashkv $S -w json").ok();
    let hash = want[0].hash;
    assert_eq!(json, format!("{{\"hash\":{hash},\"hashRevision\":40,\"compactRevision\":-1}}\n"));
    let fields = run(&folder.0, "hashkv $S -w fields").ok();
    assert!(fields.contains("\"Hash revision\" : 40\n"), "{fields}");
    assert!(run(&folder.0, "hashkv $S -w table").ok().contains("COMPACT REVISION"));
    assert_eq!(run(&folder.0, "hashkv $S -w protobuf").failed().0, 4);
    let (_, message, _) = run(&folder.0, "hashkv $S --rev 41").failed();
    assert_eq!(message, "mvcc: required revision is a future revision");
    assert_eq!(run(&folder.0, "hashkv").failed().1, "accepts 1 arg(s), received 0");
}

#[test]
fn migrate_goes_up_and_down() {
    let folder = Folder::new();
    Plan { snapshots: vec![30], ..Plan::default() }.make(&folder.0);
    let version = || run(&folder.0, "dump-db iterate-bucket $D meta").ok();
    run(&folder.0, "migrate --data-dir $D --target-version 3.7").ok();
    assert!(version().contains("key=\"storageVersion\", value=\"3.7.0\""), "{}", version());
    let said = run(&folder.0, "migrate --data-dir $D --target-version 3.7");
    assert!(said.log.contains("storage version up-to-date"), "{}", said.log);
    run(&folder.0, "migrate --data-dir $D --target-version 3.6").ok();
    assert!(version().contains("3.6.0"));
    run(&folder.0, "migrate --data-dir $D --target-version 3.5").ok();
    assert!(!version().contains("storageVersion"));
    for (target, code) in [("3.4", 128), ("3.6.1", 128), ("x.y", 128), ("3.8", 1), ("4.0", 1)] {
        let line = format!("migrate --data-dir $D --target-version {target}");
        assert_eq!(run(&folder.0, &line).failed().0, code, "{target}");
    }
}

#[test]
fn migrate_heeds_the_log() {
    let folder = Folder::new();
    let last = pb::InternalRaftRequest {
        downgrade_version_test: Some(pb::DowngradeVersionTestRequest { ver: "3.7.0".into() }),
        ..Default::default()
    };
    let (applied, storage) = (39, Some(Version::line(3, 7)));
    Plan { last: Some(last), applied, storage, ..Plan::default() }.make(&folder.0);
    let (_, message, _) = run(&folder.0, "migrate --data-dir $D --target-version 3.6").failed();
    assert!(message.contains("WAL contains newer entries"), "{message}");
    let said = run(&folder.0, "migrate --data-dir $D --target-version 3.6 --force");
    assert!(said.log.contains("trying with force"), "{}", said.log);
    assert!(run(&folder.0, "dump-db iterate-bucket $D meta").ok().contains("3.6.0"));
}

#[test]
fn verify_compares_db_and_log() {
    let folder = Folder::new();
    Plan { snapshots: vec![10, 30], ..Plan::default() }.make(&folder.0);
    let said = run(&folder.0, "verify --data-dir $D");
    assert!(said.log.contains("verification of persisted state successful"), "{}", said.log);
    said.ok();
    let ahead = Folder::new();
    Plan { entries: 30, applied: 30, ..Plan::default() }.make(&ahead.0);
    fs::copy(folder.0.join("member/snap/db"), ahead.0.join("member/snap/db")).expect("copied");
    let (_, message, _) = run(&ahead.0, "verify --data-dir $D").failed();
    assert!(message.contains("backend.ConsistentIndex (40) must be <="), "{message}");
    let none = Folder::new();
    assert!(run(&none.0, "verify --data-dir $D").log.contains("skipped"));
}

#[test]
fn v2_keys_are_found() {
    let folder = Folder::new();
    Plan { snapshots: vec![30], ..Plan::default() }.make(&folder.0);
    let nothing = "No custom content found in v2store.\n";
    assert_eq!(run(&folder.0, "check v2store --data-dir $D").ok(), nothing);
    let none = Folder::new();
    let (_, message, _) = run(&none.0, "check v2store --data-dir $D").failed();
    assert!(message.ends_with("member/wal: no such file or directory"), "{message}");
}
