//! All members of a cluster from one file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use mainstay_interop::{Folder, Kind, Peer, free_ports, our, peer};

use crate::files::are_same;
use crate::kit::{PATIENCE, Running, must, run, save};

struct Trio {
    folder: Folder,
    ports: Vec<(u16, u16)>,
}

impl Trio {
    fn new(name: &str) -> Trio {
        let ports = (0..3).map(|_| free_ports()).collect();
        Trio { folder: Folder::new(&format!("restore-{name}")), ports }
    }

    fn peer_url(&self, n: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[n].1)
    }

    fn cluster(&self) -> String {
        let all: Vec<String> = (0..3).map(|n| format!("m{n}={}", self.peer_url(n))).collect();
        all.join(",")
    }

    fn dir(&self, by: &str, n: usize) -> PathBuf {
        self.folder.path().join(format!("{by}-m{n}.etcd"))
    }

    /// Restores all three with one program.
    fn restore(&self, program: &Path, by: &str, file: &Path, more: &[&str]) {
        for n in 0..3 {
            let dir = self.dir(by, n);
            let mut args = vec![
                "snapshot".to_owned(),
                "restore".to_owned(),
                file.display().to_string(),
                format!("--data-dir={}", dir.display()),
                format!("--name=m{n}"),
                format!("--initial-cluster={}", self.cluster()),
                "--initial-cluster-token=another".to_owned(),
                format!("--initial-advertise-peer-urls={}", self.peer_url(n)),
            ];
            args.extend(more.iter().map(|arg| (*arg).to_owned()));
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            must(program, &args);
        }
    }

    /// Starts all three; they become a cluster, know every key, and take writes.
    fn serves(&self, etcd: &Path, by: &str, revision: i64) {
        let members: Vec<Running> = (0..3)
            .map(|n| {
                let (dir, name) = (self.dir(by, n), format!("m{n}"));
                Running::start(etcd, &dir, &name, self.ports[n], &self.cluster(), &[])
            })
            .collect();
        let endpoints: Vec<String> =
            (0..3).map(|n| format!("127.0.0.1:{}", self.ports[n].0)).collect();
        let all = format!("--endpoints={}", endpoints.join(","));
        let ctl = our("etcdctl");
        let patience = Instant::now() + PATIENCE;
        while run(&ctl, &["endpoint", "health", &all]).code != Some(0) {
            assert!(Instant::now() < patience, "{by}: no cluster in {PATIENCE:?}");
        }
        let put = must(&ctl, &["put", "whole", by, "-w", "json", &all]);
        let put: serde_json::Value = serde_json::from_str(&put.out).expect("JSON");
        assert_eq!(put["header"]["revision"], revision + 1, "{by}");
        for endpoint in &endpoints {
            let one = format!("--endpoints={endpoint}");
            let got = must(&ctl, &["get", "whole", "--print-value-only", &one]);
            assert_eq!(got.out, format!("{by}\n"));
        }
        let hashes = must(&ctl, &["endpoint", "hashkv", "-w", "json", &all]);
        let hashes: serde_json::Value = serde_json::from_str(&hashes.out).expect("JSON");
        let hashes = hashes.as_array().expect("a list").iter();
        let hashes: Vec<&serde_json::Value> = hashes.map(|one| &one["HashKV"]["hash"]).collect();
        assert!(
            hashes.len() == 3 && hashes.windows(2).all(|pair| pair[0] == pair[1]),
            "{hashes:?}"
        );
        drop(members);
    }
}

#[test]
fn three_members_from_one_file() {
    let (Some(etcd), Some(utl)) = (peer(Peer::Etcd), peer(Peer::Etcdutl)) else { return };
    for kind in [Kind::Real, Kind::Ours] {
        let flags: &[&str] =
            if kind == Kind::Ours { &["--initial-cluster-version=3.5"] } else { &[] };
        let Some(saved) = save(kind, "trio", flags) else { return };
        let trio = Trio::new("trio");
        trio.restore(&our("etcdutl"), "ours", &saved.file, &[]);
        trio.restore(&utl, "theirs", &saved.file, &[]);
        for n in 0..3 {
            let what = format!("{kind:?}'s file, member {n}");
            are_same(&trio.dir("ours", n), &trio.dir("theirs", n), &what);
        }
        // Each kind of member on what the other's tool has made, and ours on ours.
        trio.serves(&our("etcd"), "theirs", saved.told.revision);
        if kind == Kind::Real {
            trio.serves(&etcd, "ours", saved.told.revision);
        } else {
            trio.serves(&our("etcd"), "ours", saved.told.revision);
        }
    }
}

/// With a raised revision, too, all files are those of the real tool.
#[test]
fn a_raised_revision_is_written_as_etcd_writes_it() {
    let Some(utl) = peer(Peer::Etcdutl) else { return };
    let Some(saved) = save(Kind::Real, "raised", &[]) else { return };
    let trio = Trio::new("raised");
    let more = ["--bump-revision=1000000000", "--mark-compacted"];
    trio.restore(&our("etcdutl"), "ours", &saved.file, &more);
    trio.restore(&utl, "theirs", &saved.file, &more);
    for n in 0..3 {
        are_same(&trio.dir("ours", n), &trio.dir("theirs", n), &format!("member {n}"));
    }
}
