//! Who was removed stays out; a cluster that all left comes back; one member can go on
//! alone on what the other make has left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mainstay_interop::cluster::{Cluster, Load, Make, Plan};
use mainstay_interop::{Folder, Kind, Start};

const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Removes a running member, and one that learns of it only when it comes back.
fn removed_members_stay_out(cluster: &mut Cluster, load: &Load, told: usize, away: usize) {
    let codes: Vec<Option<i32>> = [told, away]
        .into_iter()
        .map(|n| {
            load.leave(n);
            if n == away {
                cluster.nodes[n].kill();
            }
            let via = cluster.running().into_iter().find(|m| *m != n && *m != told);
            cluster.eventually("the member is removed", |cluster| {
                match cluster.remove(via.expect("others run"), n) {
                    Ok(()) => Some(()),
                    Err(why) if why.contains("member not found") => Some(()),
                    Err(why) => {
                        eprintln!("member remove: {why}");
                        None
                    }
                }
            });
            if n == away {
                cluster.spawn(n, &[]);
            }
            let status = cluster.wait_ended(n);
            let node = &cluster.nodes[n];
            assert!(node.log().contains(REMOVED), "{:?}:\n{}", node.make, node.log_tail());
            eprintln!("removed {} ({:?}): {status}", node.name, node.make);
            status.code()
        })
        .collect();
    for (n, code) in [told, away].into_iter().zip(codes) {
        // etcd that is told while it still starts ends with 1 ("listener failed").
        let late = cluster.nodes[n].make == Make::Go && n == away && code == Some(1);
        assert!(code == Some(0) || late, "{}: {code:?}", cluster.nodes[n].name);
    }
    // Once more: what it has on its disk does not let it in either.
    cluster.spawn(told, &[]);
    let status = cluster.wait_ended(told);
    let node = &cluster.nodes[told];
    eprintln!("removed {} ({:?}) again: {status}", node.name, node.make);
    assert!(node.log().contains(REMOVED), "{:?}:\n{}", node.make, node.log_tail());
}

fn stay_out(name: &'static str, makes: &[Make; 5], told: usize, away: usize) {
    let _alone = crate::alone();
    let Some(mut cluster) = Plan::new(name, makes).start() else { return };
    let load = Load::start(9, &mut cluster, true);
    load.wait_for(&mut cluster, 100);
    // The longer way: a leader that removes itself.
    cluster.move_leader(told);
    removed_members_stay_out(&mut cluster, &load, told, away);
    load.wait_for(&mut cluster, 100);
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}\n{:#?}", report.line(), report.words);
}

#[test]
fn ours_that_were_removed_stay_out() {
    stay_out("out-ours", &[Make::Go, Make::Ours, Make::Ours, Make::Ours, Make::Go], 1, 2);
}

#[test]
fn theirs_that_were_removed_stay_out() {
    stay_out("out-theirs", &[Make::Ours, Make::Go, Make::Go, Make::Ours, Make::Ours], 1, 2);
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a new folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

#[test]
fn all_end_and_come_back_and_one_goes_on_alone() {
    let _alone = crate::alone();
    let makes = [Make::Ours, Make::Go, Make::Go, Make::Ours, Make::Ours];
    let Some(mut cluster) = Plan::new("whole", &makes).flag("--snapshot-count=300").start() else {
        return;
    };
    let load = Load::start(10, &mut cluster, true);
    for signal in [true, false, true] {
        load.wait_for(&mut cluster, 200);
        (0..5).for_each(|n| load.excuse(n));
        for n in 0..5 {
            if signal {
                cluster.stop(n);
            } else {
                cluster.nodes[n].kill();
            }
        }
        (0..5).for_each(|n| cluster.spawn(n, &[]));
        cluster.wait_all_healthy();
        (0..5).for_each(|n| load.expect(n));
    }
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}\n{:#?}", report.line(), report.words);
    let revision = cluster.same_everywhere();
    for n in 0..5 {
        cluster.stop(n);
    }
    // Each make goes on alone on what the other has left, and hands it back.
    let folder = Folder::new("alone");
    for (from, kinds) in [(1, [Kind::Ours, Kind::Real]), (0, [Kind::Real, Kind::Ours])] {
        let dir = folder.path().join(format!("{from}.etcd"));
        copy(cluster.nodes[from].dir(), &dir);
        let alone = Start::new(kinds[0], &dir).flag("--force-new-cluster");
        for start in [alone.clone(), alone.with_kind(kinds[0]), alone.with_kind(kinds[1])] {
            let member = start.run().expect("the binary is there");
            let health = member.http_get("/health").expect("an answer");
            assert!(health.contains("true"), "{health}");
            let hash = hash_at(&member.endpoint(), revision);
            eprintln!("{:?} alone on what {:?} left: {hash:?}", start.kind, makes[from]);
            assert_eq!(hash.1, 1, "members");
            member.stop();
        }
    }
}

/// Its hash at that revision, and how many members it knows.
fn hash_at(endpoint: &str, revision: i64) -> (u32, usize) {
    use mainstay_client::{Client, Options};
    use mainstay_proto::etcdserverpb as pb;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = async {
        let client = Client::connect(endpoint, &Options::default()).await.expect("it listens");
        let hash = client.maintenance().hash_kv(pb::HashKvRequest { revision }).await;
        let list = client.cluster().member_list(pb::MemberListRequest { linearizable: true }).await;
        let members = list.expect("a list").into_inner().members.len();
        (hash.expect("a hash").into_inner().hash, members)
    };
    let asked = async {
        tokio::time::timeout(Duration::from_secs(10), asked).await.expect("an answer in time")
    };
    runtime.expect("an event loop").block_on(asked)
}
