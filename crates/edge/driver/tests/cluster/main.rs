//! Several members in one process: the whole driver, without sockets.

mod checkpoints;
mod corruption;
mod damaged;
mod handover;
mod wire;

use std::time::Duration;

use mainstay_driver::{Founding, RequestError, RequestField};
use mainstay_membership::{Change, Member};
use mainstay_proto::membershippb::DowngradeInfoSetRequest;
use wire::{Cluster, block_on, get, member, put, until};

#[test]
fn what_one_acknowledges_all_read() {
    let cluster = Cluster::born("reads", 3);
    cluster.leader();
    block_on(async {
        for n in 0..60 {
            let key = format!("k{n}");
            put(&cluster.handle(n % 3), &key, "v").await.expect("put");
            for other in 0..3 {
                assert_eq!(get(&cluster.handle(other), &key).await.as_deref(), Some("v"));
            }
        }
    });
    cluster.check_equal();
}

#[test]
fn a_leader_that_stops_is_replaced_and_catches_up_later() {
    let mut cluster = Cluster::born("failover", 3);
    let first = cluster.leader();
    let stopped = cluster.number(first);
    block_on(put(&cluster.handle(0), "a", "1")).expect("put");
    cluster.stop(first);
    let second = cluster.leader();
    assert_ne!(first, second);
    let via = cluster.number(second);
    block_on(put(&cluster.handle(via), "b", "2")).expect("put");
    cluster.start(stopped);
    cluster.wait_ready();
    assert_eq!(block_on(get(&cluster.handle(stopped), "b")).as_deref(), Some("2"));
    cluster.check_equal();
}

#[test]
fn who_missed_more_than_the_log_holds_gets_a_snapshot() {
    let mut cluster = Cluster::born("snapshot", 3);
    let leader = cluster.leader();
    let away = (0..3).find(|n| cluster.members[*n].id != leader).expect("three");
    let via = cluster.number(leader);
    cluster.stop(cluster.members[away].id);
    block_on(async {
        for n in 0..400 {
            put(&cluster.handle(via), &format!("k{}", n % 50), &n.to_string()).await.expect("put");
        }
    });
    cluster.start(away);
    cluster.wait_ready();
    assert_eq!(block_on(get(&cluster.handle(away), "k49")).as_deref(), Some("399"));
    cluster.check_equal();
    // And from what it has on the disk now.
    cluster.stop(cluster.members[away].id);
    cluster.start(away);
    cluster.wait_ready();
    assert_eq!(block_on(get(&cluster.handle(away), "k49")).as_deref(), Some("399"));
    cluster.check_equal();
}

#[test]
fn a_learner_joins_is_promoted_and_another_member_leaves() {
    let mut cluster = Cluster::born("members", 3);
    let leader = cluster.number(cluster.leader());
    block_on(async {
        for n in 0..200 {
            put(&cluster.handle(leader), &format!("k{n}"), "v").await.expect("put");
        }
    });
    let fourth = member(3);
    let bare = Member { name: String::new(), is_learner: true, ..fourth.clone() };
    let add = Change::Add(bare);
    let members = block_on(cluster.handle(leader).change_membership(&add)).expect("added");
    assert_eq!(members.len(), 4);
    let again = block_on(cluster.handle(leader).change_membership(&add));
    assert!(matches!(again, Err(RequestError::Apply(_))), "{again:?}");
    let founding = Founding::Join { cluster: cluster.id(), me: fourth.id, members };
    cluster.start_as(&fourth, founding, false);
    cluster.wait_ready();
    let joined = cluster.drivers[&fourth.id].handle();
    until("the learner has everything", || joined.view().len() == 200);
    let promote = Change::Promote(fourth.id);
    let members = block_on(cluster.handle(leader).change_membership(&promote)).expect("promoted");
    assert!(members.iter().all(|member| !member.is_learner));
    block_on(put(&joined, "by the fourth", "v")).expect("put");
    // One after the other: a change waits for the one before.
    let leaves = cluster.members[(leader + 1) % 3].id;
    let via = cluster.handle(leader);
    block_on(via.change_membership(&Change::Remove(leaves))).expect("removed");
    let reason = block_on(cluster.drivers[&leaves].handle().stopped());
    assert_eq!(reason, mainstay_driver::REMOVED);
    cluster.stop(leaves);
    assert!(via.is_removed(leaves));
    block_on(put(&joined, "without it", "v")).expect("put");
    cluster.check_equal();
}

#[test]
fn leadership_moves_when_asked() {
    let cluster = Cluster::born("transfer", 3);
    let leader = cluster.leader();
    let to = cluster.members.iter().map(|member| member.id).find(|id| *id != leader);
    let from = cluster.handle(cluster.number(leader));
    let term = from.standing().term;
    block_on(from.move_leader(to.expect("three"))).expect("moved");
    assert_eq!(Some(cluster.leader()), to);
    assert_eq!(from.standing().term.0, term.0 + 1);
    // A planned end hands over by itself.
    let leads = cluster.handle(cluster.number(cluster.leader()));
    block_on(leads.hand_over()).expect("handed over");
    assert!(!leads.leads());
}

#[test]
fn who_is_cut_off_answers_nothing_new_and_nothing_old_as_new() {
    let cluster = Cluster::born("cut", 3);
    let old = cluster.leader();
    let old_handle = cluster.handle(cluster.number(old));
    block_on(put(&old_handle, "k", "before")).expect("put");
    cluster.cut_off(old);
    let new = cluster.leader();
    let new_handle = cluster.handle(cluster.number(new));
    block_on(async {
        put(&new_handle, "k", "after").await.expect("put");
        let read = tokio::time::timeout(Duration::from_millis(500), old_handle.linearizable());
        assert!(!matches!(read.await, Ok(Ok(()))), "nobody confirmed that it still leads");
    });
    cluster.join_up(old);
    assert_eq!(block_on(get(&old_handle, "k")).as_deref(), Some("after"));
    cluster.check_equal();
}

#[test]
fn one_survivor_is_made_a_cluster_of_its_own() {
    let mut cluster = Cluster::born("force", 3);
    let leader = cluster.number(cluster.leader());
    block_on(put(&cluster.handle(leader), "kept", "v")).expect("put");
    cluster.check_equal();
    let all: Vec<_> = cluster.members.iter().map(|member| member.id).collect();
    for id in all {
        cluster.stop(id);
    }
    let survivor = cluster.members[(leader + 1) % 3].clone();
    let founding = Founding::New { me: survivor.id, members: cluster.members.clone() };
    cluster.start_as(&survivor, founding.clone(), true);
    cluster.wait_ready();
    let handle = cluster.drivers[&survivor.id].handle();
    assert_eq!(block_on(get(&handle, "kept")).as_deref(), Some("v"));
    assert_eq!(handle.membership().members().len(), 1);
    block_on(put(&handle, "new", "v")).expect("put");
    drop(handle);
    cluster.stop(survivor.id);
    cluster.start_as(&survivor, founding, false);
    cluster.wait_ready();
    let handle = cluster.drivers[&survivor.id].handle();
    assert_eq!(block_on(get(&handle, "new")).as_deref(), Some("v"));
}

#[test]
fn a_downgrade_ends_when_it_is_looked_at() {
    let mut cluster = Cluster::born("downgrade", 1);
    let handle = cluster.handle(0);
    cluster.leader();
    // To what all of them run: it is done as soon as somebody looks.
    let job = DowngradeInfoSetRequest { enabled: true, ver: "3.7.0".to_owned() };
    block_on(handle.propose(RequestField::DowngradeInfoSet, &job)).expect("enabled");
    assert!(handle.membership().downgrade().enabled);
    drop(handle);
    cluster.stop(cluster.members[0].id);
    cluster.downgrade_check = Some(Duration::from_millis(100));
    cluster.start(0);
    cluster.wait_ready();
    let handle = cluster.handle(0);
    until("it has ended", || !handle.membership().downgrade().enabled);
}
