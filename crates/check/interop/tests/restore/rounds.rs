//! There and back: all keys, revisions, leases and hashes are those of the member that was saved.

use std::fs;
use std::path::Path;

use mainstay_interop::{Kind, Peer, Start, our, peer};

use crate::kit::{Saved, must, restore, restore_args, run, save};

/// A copy of a restored directory for another start on the same ports.
fn copied(start: &Start, kind: Kind) -> Start {
    let to = start.data_dir.with_extension(format!("for-{kind:?}"));
    let done = std::process::Command::new("cp").arg("-a").arg(&start.data_dir).arg(&to).status();
    assert!(done.is_ok_and(|status| status.success()));
    Start { data_dir: to, ..start.with_kind(kind) }
}

/// Restored once with `program`, both kinds serve it.
fn both_serve(saved: &Saved, program: &Path, name: &str, more: &[&str]) {
    let start = saved.start(Kind::Ours, name);
    restore(program, &saved.file, &start, more);
    let real = copied(&start, Kind::Real);
    saved.serves(&start, &format!("{name}, ours")).stop();
    saved.serves(&real, &format!("{name}, 3.5.16")).stop();
    // What ours has run on is still one that 3.5.16 takes.
    let again = start.with_kind(Kind::Real).run().expect("asked for before");
    again.stop();
}

#[test]
fn what_3_5_saved_is_restored_by_ours() {
    let Some(saved) = save(Kind::Real, "real", &[]) else { return };
    both_serve(&saved, &our("etcdutl"), "etcdutl", &[]);
    both_serve(&saved, &our("etcdctl"), "etcdctl", &[]);
    let wal = saved.folder.path().join("elsewhere/wal").display().to_string();
    let start = saved.start(Kind::Ours, "apart").flag(&format!("--wal-dir={wal}"));
    restore(&our("etcdutl"), &saved.file, &start, &[&format!("--wal-dir={wal}")]);
    saved.serves(&start, "wal elsewhere").stop();
}

#[test]
fn what_ours_saved_at_3_5_is_restored_by_the_real_tools() {
    let (Some(utl), Some(ctl)) = (peer(Peer::Etcdutl), peer(Peer::Etcdctl)) else { return };
    let saved = save(Kind::Ours, "ours35", &["--initial-cluster-version=3.5"]).expect("ours");
    both_serve(&saved, &utl, "etcdutl", &[]);
    both_serve(&saved, &ctl, "etcdctl", &[]);
}

#[test]
fn what_ours_saved_at_3_7_is_restored_for_3_5() {
    let Some(_) = peer(Peer::Etcd) else { return };
    let saved = save(Kind::Ours, "ours37", &[]).expect("ours");
    both_serve(&saved, &our("etcdutl"), "target-3.5", &["--target-version", "3.5"]);
    let start = saved.start(Kind::Ours, "as it is");
    restore(&our("etcdutl"), &saved.file, &start, &[]);
    let member = saved.serves(&start, "3.7");
    assert_eq!(saved.tell(&member).cluster_version, "3.7.0");
    member.stop();
}

#[test]
fn a_copy_of_a_db_is_restored_when_told_so() {
    for kind in [Kind::Ours, Kind::Real] {
        let Some(saved) = save(kind, &format!("copy-{kind:?}"), &[]) else { return };
        let db = saved.folder.path().join("copy.db");
        fs::copy(saved.data_dir.join("member/snap/db"), &db).expect("a db to copy");
        let start = saved.start(Kind::Ours, "copy");
        let args = restore_args(&db, &start);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let refused = run(&our("etcdutl"), &args);
        assert_eq!(refused.code, Some(1));
        let wanted = "Error: snapshot missing hash but --skip-hash-check=false";
        assert_eq!(refused.error(), wanted);
        assert!(!start.data_dir.exists());
        restore(&our("etcdutl"), &db, &start, &["--skip-hash-check"]);
        saved.serves(&start, &format!("a copy of {kind:?}'s db")).stop();
    }
}

#[test]
fn status_says_what_3_5_says_where_it_means_the_same() {
    let Some(utl) = peer(Peer::Etcdutl) else { return };
    for kind in [Kind::Ours, Kind::Real] {
        let Some(saved) = save(kind, &format!("status-{kind:?}"), &[]) else { return };
        let file = saved.file.display().to_string();
        let ask = |program: &Path| -> serde_json::Value {
            let said = must(program, &["snapshot", "status", &file, "-w", "json"]);
            serde_json::from_str(&said.out).expect("JSON")
        };
        let (theirs, ours) = (ask(&utl), ask(&our("etcdutl")));
        // 3.5 counts rows of all buckets as keys; 3.7 keys that are not deleted.
        for name in ["hash", "revision", "totalSize"] {
            assert_eq!(theirs[name], ours[name], "{name}");
        }
        let version = if kind == Kind::Ours { "3.7.0" } else { "" };
        assert_eq!(ours["version"], version);
        let live = saved.told.rows[&saved.told.revision].len();
        assert_eq!(ours["totalKey"], live);
        let old = run(&our("etcdctl"), &["snapshot", "status", &file, "-w", "json"]);
        let notice = "Deprecated: Use `etcdutl snapshot status` instead.\n\n";
        assert!(old.err.ends_with(notice), "{old:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&old.out).expect("JSON"), ours);
    }
}
