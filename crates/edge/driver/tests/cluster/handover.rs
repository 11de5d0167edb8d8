//! Leadership on its way to somebody who does not answer yet.

use std::time::Duration;

use mainstay_driver::{Handle, RequestField};
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::LeaseId;

use crate::wire::{Cluster, block_on, put, until};

const LEASE: i64 = 77;

/// So long that leases are looked at while a hand-over waits.
const ELECTION: Duration = Duration::from_secs(2);

async fn grant(handle: &Handle, ttl: i64) -> i64 {
    let grant = pb::LeaseGrantRequest { id: LEASE, ttl };
    let reply = handle.propose(RequestField::LeaseGrant, &grant).await.expect("granted");
    let mainstay_apply::Reply::LeaseGrant(reply) = reply else { panic!("{reply:?}") };
    reply.ttl
}

/// What expires while a leader hands over is not revoked through its successor, who
/// counts on its own (7a738b2).
#[test]
fn a_lease_that_expires_during_a_hand_over_lives_with_the_next_leader() {
    let mut cluster = Cluster::born_with("handover", 3, |cluster| cluster.election = ELECTION);
    let first = cluster.leader();
    let from = cluster.handle(cluster.number(first));
    let second = cluster.members.iter().map(|member| member.id).find(|id| *id != first);
    let second = second.expect("three");
    let to = cluster.handle(cluster.number(second));
    let ttl = block_on(grant(&from, 1));
    let id = LeaseId(LEASE);
    assert!(ttl >= 2, "one and a half election timeouts");
    until("the lease has nearly run out", || from.lease_times(id).expect("counted").remaining <= 0);
    cluster.cut_off(second);
    // The second one lags behind: leadership waits for it.
    block_on(put(&from, "ahead", "of it")).expect("put");
    let expired = |handle: &Handle| handle.stats().leases_expired.get();
    let before = expired(&from);
    let moving = from.clone();
    let mover = std::thread::spawn(move || block_on(moving.move_leader(second)));
    until("the leader wants it revoked", || expired(&from) > before);
    cluster.join_up(second);
    mover.join().expect("no panic").expect("moved");
    assert!(to.leads());
    // Whatever the first one has passed on is in the log before these.
    block_on(put(&from, "behind", "it")).expect("put");
    block_on(put(&to, "and here", "too")).expect("put");
    let times = to.lease_times(id).expect("it lives");
    assert!(times.remaining >= ttl - 1, "for its whole time: {times:?}");
    cluster.wait_ready();
}
