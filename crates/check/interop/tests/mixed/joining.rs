//! A member of the other make joins: as a learner, by snapshot, gets a vote, leads.

use std::process::Command;

use mainstay_interop::cluster::{Cluster, Load, Make, Plan, Real};
use mainstay_interop::{Peer, our, peer};

/// Adds the member as an operator does, with the etcdctl of the cluster's make.
fn member_add(cluster: &mut Cluster, n: usize) {
    let ctl = match cluster.nodes[0].make {
        Make::Ours => our("etcdctl"),
        Make::Go => peer(Peer::Etcdctl).expect("it comes with the etcd"),
    };
    // Neither make adds anybody in the first seconds of its connections.
    let out = cluster.eventually("a new member", |cluster| {
        let told = Command::new(&ctl)
            .arg(format!("--endpoints={}", cluster.nodes[0].endpoint()))
            .args(["member", "add", &cluster.nodes[n].name, "--learner"])
            .arg(format!("--peer-urls={}", cluster.nodes[n].peer_url()))
            .env("ETCDCTL_API", "3")
            .output()
            .expect("etcdctl runs");
        let err = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success() || err.contains("unhealthy cluster"), "{err}");
        told.status.success().then(|| String::from_utf8_lossy(&told.stdout).into_owned())
    });
    let id = out.split_ascii_whitespace().nth(1).expect("Member ID ...");
    cluster.nodes[n].id = u64::from_str_radix(id, 16).expect("an id");
}

fn joins(name: &'static str, make: Make) {
    let _alone = crate::alone();
    let Some(mut cluster) = Plan::new(name, &[make; 3]).short_logs().start() else { return };
    if make.other().binary().is_none() {
        return;
    }
    let load = Load::start(7, &mut cluster, true);
    // Many times what a log keeps.
    load.wait_for(&mut cluster, 600);
    let n = cluster.new_node(make.other());
    member_add(&mut cluster, n);
    cluster.join(n, &[0, 1, 2]);
    cluster.promote(0, n);
    cluster.wait_healthy(n);
    let got = cluster.nodes[n].log().contains("applied snapshot");
    assert!(got, "it must have come by snapshot:\n{}", cluster.nodes[n].log_tail());
    load.also(&cluster, n);
    load.wait_for_member(&mut cluster, n, 50);
    cluster.move_leader(n);
    for m in 0..4 {
        load.wait_for_member(&mut cluster, m, 50);
        let version = cluster.cluster_version(m);
        assert_eq!(version, Some(Real::of_this_run().cluster_version_told()));
        let list = cluster.list(m).expect("a list");
        assert_eq!(list.len(), 4);
        assert!(list.iter().all(|member| !member.is_learner && !member.name.is_empty()));
    }
    // What it was told by snapshot survives a restart.
    load.excuse(n);
    cluster.stop(n);
    cluster.restart(n);
    load.expect(n);
    load.wait_for_member(&mut cluster, n, 50);
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}\n{:#?}", report.line(), report.words);
}

#[test]
fn ours_joins_theirs_by_snapshot_and_leads() {
    joins("join-theirs", Make::Go);
}

#[test]
fn theirs_joins_ours_by_snapshot_and_leads() {
    joins("join-ours", Make::Ours);
}

/// A 3.5 member takes over from an update whatever it says of learning.
#[test]
fn a_learner_whose_urls_change_still_learns() {
    let _alone = crate::alone();
    let makes = [Make::Ours, Make::Go, Make::Ours];
    let Some(mut cluster) = Plan::new("update", &makes).start() else { return };
    let n = cluster.new_node(Make::Ours);
    member_add(&mut cluster, n);
    let (id, url) = (format!("{:x}", cluster.nodes[n].id), "http://127.0.0.1:9".to_owned());
    let told = Command::new(our("etcdctl"))
        .arg(format!("--endpoints={}", cluster.nodes[0].endpoint()))
        .args(["member", "update", &id, &format!("--peer-urls={url}")])
        .output()
        .expect("etcdctl runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    for m in 0..3 {
        let member = cluster.eventually("the URL has changed", |cluster| {
            let members = cluster.list(m).ok()?;
            members.into_iter().find(|member| member.peer_ur_ls == [url.clone()])
        });
        assert!(member.is_learner, "member {} says that it has a vote", m + 1);
    }
}

/// A member that was away while its part of the log went.
#[test]
fn who_was_away_too_long_is_sent_a_snapshot_by_either_make() {
    let _alone = crate::alone();
    let makes = [Make::Ours, Make::Go, Make::Ours, Make::Go];
    let Some(mut cluster) = Plan::new("away", &makes).short_logs().start() else { return };
    let load = Load::start(8, &mut cluster, true);
    load.wait_for(&mut cluster, 100);
    // Go keeps its log for half a minute after it has sent a snapshot, so it sends one only.
    for (leader, away) in [(0, 1), (1, 0), (0, 2)] {
        cluster.move_leader(leader);
        load.excuse(away);
        cluster.nodes[away].kill();
        load.wait_for_member(&mut cluster, leader, 200);
        cluster.restart(away);
        load.expect(away);
        load.wait_for_member(&mut cluster, away, 20);
        let (node, from) = (&cluster.nodes[away], cluster.nodes[leader].make);
        let got = node.log().contains("applied snapshot");
        assert!(got, "{:?} must have a snapshot of {from:?}:\n{}", node.make, node.log_tail());
    }
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}\n{:#?}", report.line(), report.words);
}
