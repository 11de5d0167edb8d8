//! Every kind of entry that 3.5.16 writes without authentication, and the rows it makes
//! of them.

use std::path::Path;

use mainstay_env_sim::SimDisk;
use mainstay_membership::{Membership, V2Snapshot};
use mainstay_raft::{Entry, EntryKind};
use mainstay_wal::SnapshotMark;
use serde_json::{Value, json};

use crate::gateway::post;
use crate::generate::Dice;
use crate::{Etcd, copied, is_3516, open_at, program, replayed, rows, run_requests, seed};

/// The identity in an answer about members, in decimal as the gateway writes it.
fn id(member: &Value) -> String {
    member["ID"].as_str().expect("a member has an identity").to_owned()
}

/// Learners come and go, members move, alarms go on and off, leases end, keys are
/// compacted away.
fn rarer_requests(etcd: &Etcd, dice: &mut Dice) {
    let ask = |path: &str, body: Value| {
        let answer = post(etcd.port, path, &body);
        assert!(answer.get("message").is_none(), "{path} {body}: {answer}");
        answer
    };
    let members = ask("/v3/cluster/member/list", json!({}));
    let me = id(&members["members"][0]);
    for round in 0..3 {
        let url = |n: u64| format!("http://127.0.0.1:{}", 10_000 + 100 * round + n);
        let urls = json!([url(1), url(2)]);
        let body = json!({ "peerURLs": urls, "isLearner": true });
        let learner = id(&ask("/v3/cluster/member/add", body)["member"]);
        let body = json!({ "ID": learner, "peerURLs": [url(3)] });
        ask("/v3/cluster/member/update", body);
        ask("/v3/cluster/member/remove", json!({ "ID": learner }));
        let body = json!({ "ID": me, "peerURLs": [url(4), url(5)] });
        ask("/v3/cluster/member/update", body);

        let lease = (1000 + round).to_string();
        ask("/v3/lease/grant", json!({ "ID": lease, "TTL": (dice.below(90) + 1).to_string() }));
        for key in ["YQ==", "Yg==", "bGVhc2Vk"] {
            ask("/v3/kv/put", json!({ "key": key, "value": "eA==", "lease": lease }));
        }
        if round != 1 {
            ask("/v3/lease/revoke", json!({ "ID": lease }));
        }
        for (alarm, member) in [("NOSPACE", me.clone()), ("CORRUPT", "77".to_owned())] {
            let mut body = json!({ "action": "ACTIVATE", "memberID": member, "alarm": alarm });
            ask("/v3/maintenance/alarm", body.clone());
            let refused = post(etcd.port, "/v3/kv/put", &json!({ "key": "YQ==" }));
            assert!(refused.get("message").is_some());
            if round < 2 || alarm == "NOSPACE" {
                body["action"] = json!("DEACTIVATE");
                ask("/v3/maintenance/alarm", body);
            }
        }
    }
    // 3.5.16 applies it and forgets to answer.
    let downgrade = json!({ "action": "ENABLE", "version": "3.4" });
    post(etcd.port, "/v3/maintenance/downgrade", &downgrade);
}

/// A start from the real directory has the real membership, although the rows of 3.5.16
/// are those of the members' first day.
fn take_over(disk: &SimDisk, membership: &Membership, is_3516: bool) {
    let wal = Path::new("/wal");
    let marks = mainstay_wal::valid_snapshots(disk, wal).unwrap();
    let (snap, broken) =
        mainstay_wal::snap::load_newest(disk, Path::new("/theirs"), &marks).unwrap();
    assert!(broken.is_empty());
    let snap = snap.expect("so many entries take a snapshot");
    let v2 = V2Snapshot::parse(&snap.data).unwrap().membership;
    let mark = SnapshotMark { index: snap.index, term: snap.term, conf_state: None };
    let behind = mainstay_wal::read(disk, wal, &mark).unwrap().entries;
    let all = mainstay_wal::read(disk, wal, &SnapshotMark::default()).unwrap().entries;
    for (v2, entries) in [(v2, behind), (Membership::default(), all)] {
        let mut machine = open_at(disk, "/theirs/db");
        assert_eq!(**machine.membership() != *membership, is_3516, "it mends no row");
        let wrong = machine.take_v2_membership(v2, &entries).unwrap();
        assert_eq!(wrong.len(), usize::from(is_3516), "the others are gone");
        assert_eq!(**machine.membership(), *membership);
        assert_eq!(machine.take_v2_membership(membership.clone(), &[]).unwrap().len(), 0);
    }
    let mut machine = open_at(disk, "/theirs/db");
    machine.take_v2_membership(membership.clone(), &[]).unwrap();
    let (index, term) = machine.applied();
    let entry =
        Entry { index: index.next(), term, kind: EntryKind::Normal, data: bytes::Bytes::new() };
    let applied = machine.apply(&entry, |_| false).unwrap();
    machine.backend().append(applied.batch.unwrap());
    machine.backend().commit().unwrap();
    drop(machine);
    assert_eq!(**open_at(disk, "/theirs/db").membership(), *membership, "now its rows tell");
}

#[test]
fn a_real_log_gives_the_real_rows() {
    let Some(program) = program("a_real_log_gives_the_real_rows") else { return };
    let seed = seed();
    let options = ["--unsafe-no-fsync", "--snapshot-count", "300"];
    let mut etcd = Etcd::start_with(&program, "rows", &options);
    run_requests(&etcd, seed + 1);
    rarer_requests(&etcd, &mut Dice::new(seed));
    etcd.stop();
    let disk = copied(&etcd.dir);
    drop(etcd);
    let mut changes = 0;
    let machine = replayed(&disk, |entry, _| {
        changes += usize::from(entry.kind == EntryKind::ConfChange);
    });
    assert_eq!(changes, 1 + 4 * 3, "the first member, and what was asked");
    assert_eq!(machine.membership().removed().len(), 3);
    assert_eq!(machine.membership().downgrade().target, "3.4.0");
    let membership = machine.membership().clone();
    drop(machine);
    let is_3516 = is_3516(&program);
    let count = rows::agree(&disk, is_3516);
    take_over(&disk, &membership, is_3516);
    assert!(count > 50, "{count} rows");
}
