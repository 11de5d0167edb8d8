//! Snapshots of etcd 3.4.

use mainstay_interop::{Folder, Kind, Peer, Start, free_ports, our, peer};

use crate::files::are_same;
use crate::kit::{Running, must, restore};

#[test]
fn what_3_4_saved_is_restored() {
    let (Some(etcd), Some(ctl)) = (peer(Peer::Etcd34), peer(Peer::Etcdctl34)) else { return };
    let (Some(utl), Some(_)) = (peer(Peer::Etcdutl), peer(Peer::Etcd)) else { return };
    let folder = Folder::new("restore-34");
    let ports = free_ports();
    let endpoint = format!("--endpoints=127.0.0.1:{}", ports.0);
    let file = folder.path().join("s.db");
    {
        let _member = Running::alone(&etcd, &folder.path().join("34.etcd"), ports, &[]);
        for n in 1..30 {
            must(&ctl, &["put", &format!("k{}", n % 7), &format!("v{n}"), &endpoint]);
        }
        must(&ctl, &["del", "k3", &endpoint]);
        must(&ctl, &["compaction", "9", &endpoint]);
        must(&ctl, &["snapshot", "save", &file.display().to_string(), &endpoint]);
    }
    let mut told = Vec::new();
    for kind in [Kind::Ours, Kind::Real] {
        let start = Start::new(kind, &folder.path().join(format!("{kind:?}")));
        restore(&our("etcdutl"), &file, &start, &[]);
        let theirs =
            Start { data_dir: folder.path().join(format!("{kind:?}-ref")), ..start.clone() };
        restore(&utl, &file, &theirs, &[]);
        let member = start.run().expect("asked for before");
        let endpoint = format!("--endpoints={}", member.endpoint());
        let all = must(&our("etcdctl"), &["get", "--prefix", "k", &endpoint]).out;
        let hash = must(&our("etcdctl"), &["endpoint", "hashkv", "-w", "json", &endpoint]).out;
        let hash: serde_json::Value = serde_json::from_str(&hash).expect("JSON");
        let version = member.http_get("/version").expect("an answer");
        assert!(version.contains("\"etcdcluster\":\"3.5.0\""), "{kind:?}: {version}");
        must(&our("etcdctl"), &["put", "new", "value", &endpoint]);
        told.push((all, hash[0]["HashKV"]["hash"].clone()));
        member.stop();
        // The rows differ in the cluster's version only, which below 3.5 would be held.
        let again =
            Start { data_dir: folder.path().join(format!("{kind:?}-again")), ..start.clone() };
        restore(&our("etcdutl"), &file, &again, &["--target-version=3.5"]);
        let differs =
            std::panic::catch_unwind(|| are_same(&again.data_dir, &theirs.data_dir, "3.4"));
        let why = differs.expect_err("the version");
        let why = why.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        assert!(why.contains("clusterVersion"), "{why}");
    }
    assert_eq!(told[0], told[1], "ours and 3.5.16");
    assert!(told[0].0.contains("k6\n"), "{told:?}");
}
