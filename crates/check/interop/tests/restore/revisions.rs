//! `--bump-revision` and `--mark-compacted`: whoever watched the lost cluster hears that its past is
//! gone, and no revision is given twice.

use mainstay_interop::{Kind, Member, Peer, our, peer};

use crate::kit::{must, restore, run, save};

const BUMP: i64 = 1_000_000;

#[test]
fn watchers_of_old_revisions_are_told_that_they_are_compacted() {
    let Some(_) = peer(Peer::Etcd) else { return };
    let Some(saved) = save(Kind::Real, "bump", &[]) else { return };
    let bump = format!("--bump-revision={BUMP}");
    let mut hashes = Vec::new();
    for kind in [Kind::Ours, Kind::Real] {
        let start = saved.start(kind, &format!("bump-{kind:?}"));
        restore(&our("etcdutl"), &saved.file, &start, &[&bump, "--mark-compacted"]);
        let member = start.run().expect("asked for before");
        is_raised(&member, saved.told.revision, &format!("{kind:?}"));
        let verified = saved.runtime.block_on(saved.load.borrow_mut().verify(&member.endpoint()));
        // Old revisions cannot be read any more; what is there now can.
        eprintln!("{kind:?}: {verified:?}");
        let endpoint = format!("--endpoints={}", member.endpoint());
        let hash = must(&our("etcdctl"), &["endpoint", "hashkv", "-w", "json", &endpoint]);
        let hash: serde_json::Value = serde_json::from_str(&hash.out).expect("JSON");
        hashes.push(hash[0]["HashKV"]["hash"].clone());
        member.stop();
    }
    assert_eq!(hashes[0], hashes[1], "hashes of ours and 3.5.16");
}

fn is_raised(member: &Member, before: i64, what: &str) {
    let ctl = our("etcdctl");
    let endpoint = format!("--endpoints={}", member.endpoint());
    for revision in [2, before, before + 1, before + BUMP - 1] {
        let rev = format!("--rev={revision}");
        let said = run(&ctl, &["watch", "--prefix", "", &rev, &endpoint]);
        assert_ne!(said.code, Some(0), "{what}: {said:?}");
        let words = "required revision has been compacted";
        assert!(said.err.contains(words) || said.out.contains(words), "{what}: {said:?}");
    }
    let put = must(&ctl, &["put", "after", "x", "-w", "json", &endpoint]);
    let put: serde_json::Value = serde_json::from_str(&put.out).expect("JSON");
    assert_eq!(put["header"]["revision"], before + BUMP + 1, "{what}");
    let all = must(&ctl, &["get", "--prefix", "", "--keys-only", &endpoint]);
    assert!(all.out.lines().count() > 2, "{what}: {all:?}");
}
