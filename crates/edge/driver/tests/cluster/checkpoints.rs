//! Checkpoints of leases: made, counted from, cleared, and not made beside a member that
//! would not clear them.

use std::time::Duration;

use mainstay_driver::{Founding, Handle, RequestField};
use mainstay_membership::{Change, Member};
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::{LeaseId, MemberId};

use crate::wire::{Cluster, block_on, member, until};

const ID: LeaseId = LeaseId(7);
const TTL: i64 = 60;
const EVERY: Duration = Duration::from_secs(1);

fn grant(handle: &Handle) {
    let request = pb::LeaseGrantRequest { id: ID.0, ttl: TTL };
    block_on(handle.propose(RequestField::LeaseGrant, &request)).expect("granted");
}

/// What a member has in its book.
fn remaining(handle: &Handle) -> i64 {
    let asked = handle.ask(|machine| machine.leases().lease(ID).map(|lease| lease.remaining));
    block_on(asked).expect("it runs").expect("the lease is there")
}

/// What a leader counts down.
fn left(handle: &Handle) -> i64 {
    let mut times = None;
    until("the leader counts", || {
        times = handle.lease_times(ID);
        times.is_some()
    });
    times.expect("just seen").remaining
}

fn handles(cluster: &Cluster) -> Vec<Handle> {
    cluster.drivers.values().map(mainstay_driver::Driver::handle).collect()
}

fn until_all(cluster: &Cluster, what: &str, holds: impl Fn(i64) -> bool) {
    let handles = handles(cluster);
    until(what, || handles.iter().all(|handle| holds(remaining(handle))));
}

fn with_gate(name: &str) -> Cluster {
    Cluster::born_with(name, 3, |cluster| cluster.checkpoints = Some(EVERY))
}

fn leader(cluster: &Cluster) -> Handle {
    cluster.handle(cluster.number(cluster.leader()))
}

fn other(cluster: &Cluster, than: MemberId) -> MemberId {
    let ids = cluster.members.iter().map(|member| member.id);
    ids.into_iter().find(|id| *id != than).expect("three")
}

fn set_foreign(cluster: &Cluster, id: MemberId, foreign: bool) {
    let mut all = cluster.wires.foreign.lock().expect("no panic holds it");
    if foreign {
        all.insert(id);
    } else {
        all.remove(&id);
    }
    drop(all);
    // It is another process now.
    cluster.join_up(id);
}

#[test]
fn a_new_leader_goes_on_from_what_is_left() {
    let mut cluster = with_gate("checkpoints");
    let first = cluster.leader();
    grant(&leader(&cluster));
    until_all(&cluster, "all know what is left", |left| left > 0 && left <= TTL - 3);
    block_on(leader(&cluster).move_leader(other(&cluster, first))).expect("moved");
    let next = leader(&cluster);
    assert!(left(&next) <= TTL - 2, "{} of {TTL}", left(&next));
    // Whoever keeps it alive gets all of it, and so does the leader after that.
    assert_eq!(block_on(next.lease_renew(ID)), Ok(TTL));
    assert!(left(&next) >= TTL - 1, "{} of {TTL}", left(&next));
    block_on(next.move_leader(first)).expect("moved");
    assert!(left(&leader(&cluster)) >= TTL - 3, "{} of {TTL}", left(&leader(&cluster)));
    drop(next);
    // A start of all of them is a change of leaders, too.
    until_all(&cluster, "all know what is left", |left| left > 0 && left <= TTL - 3);
    for id in cluster.members.iter().map(|member| member.id).collect::<Vec<_>>() {
        cluster.stop(id);
    }
    cluster.again((None, None));
    let last = leader(&cluster);
    assert!(left(&last) <= TTL - 2, "{} of {TTL}", left(&last));
}

#[test]
fn none_is_made_beside_a_member_that_would_not_clear_it() {
    let cluster = with_gate("beside");
    let leads = cluster.leader();
    let go = other(&cluster, leads);
    set_foreign(&cluster, go, true);
    let via = leader(&cluster);
    grant(&via);
    let all = handles(&cluster);
    until("time passes", || {
        assert!(all.iter().all(|handle| remaining(handle) == 0), "beside a Go member");
        left(&via) <= TTL - 4
    });
    // It is replaced by one of ours, and comes back as a Go member.
    set_foreign(&cluster, go, false);
    until_all(&cluster, "all know what is left", |left| left > 0);
    set_foreign(&cluster, go, true);
    until_all(&cluster, "cleared", |left| left == 0);
    // Away, it may come back as anything.
    set_foreign(&cluster, go, false);
    until_all(&cluster, "all know what is left", |left| left > 0);
    cluster.cut_off(go);
    let there: Vec<Handle> =
        handles(&cluster).into_iter().filter(|one| one.identity().member != go).collect();
    until("cleared", || there.iter().all(|handle| remaining(handle) == 0));
    assert!(left(&via) < TTL - 4, "what the leader counts is not touched");
}

#[test]
fn what_is_left_over_is_cleared_without_the_gate() {
    let mut cluster = with_gate("leftover");
    grant(&leader(&cluster));
    until_all(&cluster, "all know what is left", |left| left > 0 && left <= TTL - 3);
    for id in cluster.members.iter().map(|member| member.id).collect::<Vec<_>>() {
        cluster.stop(id);
    }
    cluster.checkpoints = None;
    cluster.again((None, None));
    let last = leader(&cluster);
    assert!(left(&last) <= TTL - 2, "{} of {TTL}", left(&last));
    until_all(&cluster, "cleared", |left| left == 0);
    assert_eq!(block_on(last.lease_renew(ID)), Ok(TTL));
    assert!(left(&last) >= TTL - 1, "the answer was true");
}

#[test]
fn a_member_that_is_added_has_not_said_anything_yet() {
    let mut cluster = with_gate("added");
    let via = leader(&cluster);
    grant(&via);
    until_all(&cluster, "all know what is left", |left| left > 0);
    let fourth = member(3);
    let bare = Member { name: String::new(), is_learner: true, ..fourth.clone() };
    let members = block_on(via.change_membership(&Change::Add(bare))).expect("added");
    until_all(&cluster, "cleared", |left| left == 0);
    let founding = Founding::Join { cluster: cluster.id(), me: fourth.id, members };
    cluster.start_as(&fourth, founding, false);
    cluster.wait_ready();
    until_all(&cluster, "all know what is left, the learner too", |left| left > 0);
}
