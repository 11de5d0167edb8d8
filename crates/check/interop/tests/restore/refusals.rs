//! What both refuse, in the same words and with the same exit code.

use std::fs;
use std::path::Path;

use mainstay_interop::{Kind, Peer, our, peer};

use crate::kit::{Said, run, save};

/// Runs a command line in a folder of its own, in which `prepare` may put things.
fn said(program: &Path, folder: &Path, line: &str) -> Said {
    let args: Vec<String> =
        line.split(' ').map(|arg| arg.replace("$D", &folder.display().to_string())).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    run(program, &args)
}

/// Command lines behind `snapshot`. `$D` is a folder with `s.db` (good), `flipped.db`, `copy.db`,
/// `full.etcd/x` and `log`.
const REFUSED: &[&str] = &[
    "restore --data-dir=$D/new.etcd",
    "restore $D/s.db $D/s.db --data-dir=$D/new.etcd",
    "restore $D/s.db --data-dir=$D/full.etcd",
    "restore $D/s.db --data-dir=$D/new.etcd --wal-dir=$D/log",
    "restore $D/flipped.db --data-dir=$D/new.etcd",
    "restore $D/copy.db --data-dir=$D/new.etcd",
    "restore $D/nowhere.db --data-dir=$D/new.etcd",
    "restore $D/s.db --data-dir=$D/new.etcd --name=other",
    "restore $D/s.db --data-dir=$D/new.etcd --initial-cluster=default=http://127.0.0.1:1",
    "restore $D/s.db --data-dir=$D/new.etcd --initial-advertise-peer-urls=http://127.0.0.1:1",
    "restore $D/s.db --data-dir=$D/new.etcd --initial-cluster=default=http://localhost:2380,b=http://localhost:2380",
    "restore $D/s.db --data-dir=$D/new.etcd --initial-cluster=default=localhost:2380",
    "restore $D/s.db --data-dir=$D/new.etcd --initial-cluster=default=http://localhost",
    "restore $D/s.db --data-dir=$D/new.etcd --initial-cluster=default=http://localhost:2380/x",
    "restore $D/s.db --data-dir=$D/new.etcd --initial-cluster=",
    "restore $D/s.db --data-dir=$D/new.etcd --bump-revision=5",
    "restore $D/s.db --data-dir=$D/new.etcd --mark-compacted",
    "restore $D/s.db --data-dir=$D/new.etcd --bump-revision=-5 --mark-compacted",
    "restore $D/s.db --data-dir=$D/new.etcd --unknown",
    "status",
    "status $D/s.db $D/s.db",
    "status $D/nowhere.db",
    "status $D/s.db -w protobuf",
    "status $D/s.db -w other",
];

#[test]
fn both_refuse_the_same_in_the_same_words() {
    let (Some(utl), Some(ctl)) = (peer(Peer::Etcdutl), peer(Peer::Etcdctl)) else { return };
    let Some(saved) = save(Kind::Real, "refusals", &[]) else { return };
    for (theirs, ours) in [(&utl, our("etcdutl")), (&ctl, our("etcdctl"))] {
        for line in REFUSED {
            let one = |program: &Path, name: &str| {
                let folder = saved.folder.path().join(name);
                let _ = fs::remove_dir_all(&folder);
                prepare(&folder, &saved.file);
                let before = listed(&folder);
                let said = said(program, &folder, &format!("snapshot {line}"));
                let folder_name = folder.display().to_string();
                (said, before, listed(&folder), folder_name)
            };
            let (a, ..) = one(theirs, "dir");
            let (b, before, after, _) = one(&ours, "dir");
            assert_eq!(a.code, b.code, "{line}: {a:?} and {b:?}");
            assert_eq!(a.error(), b.error(), "{line}: {a:?} and {b:?}");
            assert!(!b.error().is_empty(), "{line}: {b:?}");
            assert_eq!(before, after, "{line}: nothing is left behind");
        }
    }
}

fn prepare(folder: &Path, file: &Path) {
    fs::create_dir_all(folder.join("full.etcd")).expect("a new folder");
    fs::create_dir_all(folder.join("log")).expect("a new folder");
    let write = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    };
    let bytes = fs::read(file).expect("a snapshot");
    write("full.etcd/x", b"x");
    write("s.db", &bytes);
    write("copy.db", &bytes[..bytes.len() - 32]);
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    write("flipped.db", &flipped);
}

/// Everything in a folder.
fn listed(folder: &Path) -> Vec<String> {
    let told = std::process::Command::new("find").arg(folder).output().expect("find runs");
    let mut all: Vec<String> =
        String::from_utf8_lossy(&told.stdout).lines().map(str::to_owned).collect();
    all.sort();
    all
}
