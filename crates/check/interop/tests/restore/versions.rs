//! Snapshots of 3.6 and 3.7, both ways: their servers are built from etcd's own modules.

use std::path::Path;

use mainstay_interop::cluster::Real;
use mainstay_interop::{Folder, Peer, free_ports, our, peer};

use crate::kit::{Running, must};

/// What is compared: every key with its revisions and lease, and the hash of the history.
fn told(member: &Running) -> (serde_json::Value, serde_json::Value) {
    let ask = |args: &[&str]| -> serde_json::Value {
        let said = member.ctl(args);
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).expect("JSON")
    };
    let all = ask(&["get", "--prefix", "k", "-w", "json"]);
    let hash = ask(&["endpoint", "hashkv", "--rev=30", "-w", "json"]);
    (all["kvs"].clone(), hash[0]["HashKV"]["hash"].clone())
}

fn write(member: &Running) {
    for n in 0..30 {
        member.ctl(&["put", &format!("k{}", n % 7), &format!("v{n}")]);
    }
    member.ctl(&["del", "k3"]);
    let lease = member.ctl(&["lease", "grant", "10000"]).out;
    let lease = lease.split(' ').nth(1).expect("a lease").to_owned();
    member.ctl(&["put", "kl", "x", "--lease", &lease]);
}

/// Restores `file` with our tool for each of `starts` (a server, and the version asked for),
/// starts it, and it tells what the saved member told.
fn comes_back(
    folder: &Folder,
    file: &Path,
    before: &(serde_json::Value, serde_json::Value),
    starts: &[(&Path, &str)],
) {
    for (at, (etcd, target)) in starts.iter().enumerate() {
        let ports = free_ports();
        let dir = folder.path().join(format!("restored-{at}"));
        let peer = format!("http://127.0.0.1:{}", ports.1);
        let mut args = vec!["snapshot".to_owned(), "restore".to_owned()];
        args.push(file.display().to_string());
        args.push(format!("--data-dir={}", dir.display()));
        args.extend(["--name=m1".to_owned(), format!("--initial-cluster=m1={peer}")]);
        args.push(format!("--initial-advertise-peer-urls={peer}"));
        if !target.is_empty() {
            args.push(format!("--target-version={target}"));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        must(&our("etcdutl"), &args);
        let member = Running::alone(etcd, &dir, ports, &[]);
        assert_eq!(told(&member), *before, "{} for {target:?}", etcd.display());
        drop(member);
        std::fs::remove_dir_all(&dir).expect("our own folder");
    }
}

fn there_and_back(real: Real) {
    let (Some(etcd), Some(old)) = (real.binary(), peer(Peer::Etcd)) else { return };
    let version = real.cluster_version();
    let flag = format!("--initial-cluster-version={version}");
    let ours = our("etcd");
    for (maker, flags) in [(&etcd, &[][..]), (&ours, &[flag.as_str()][..])] {
        let folder = Folder::new(&format!("restore-{version}"));
        let file = folder.path().join("s.db");
        let ports = free_ports();
        let member = Running::alone(maker, &folder.path().join("source"), ports, flags);
        write(&member);
        let before = told(&member);
        assert!(before.0.as_array().is_some_and(|kvs| kvs.len() == 7), "{before:?}");
        let saved = member.ctl(&["snapshot", "save", &file.display().to_string()]);
        assert_eq!(saved.code, Some(0), "{saved:?}");
        assert!(saved.out.contains("Server version 3."), "{saved:?}");
        drop(member);
        let starts: [(&Path, &str); 5] =
            [(&ours, ""), (&etcd, ""), (&ours, "3.5"), (&old, "3.5"), (&etcd, "3.6")];
        comes_back(&folder, &file, &before, &starts);
    }
}

#[test]
fn snapshots_of_3_6_and_ours_at_3_6() {
    there_and_back(Real::V36);
}

#[test]
fn snapshots_of_3_7_and_ours_at_3_7() {
    there_and_back(Real::V37);
}
