//! Members that are not to be talked to, and may be again.

use std::sync::atomic::Ordering;

use mainstay_driver::Transport as _;
use mainstay_raft::MessageKind;

use crate::support::{cluster, numbered, wait};

#[test]
fn who_is_shunned_hears_nothing_and_is_not_heard() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    let members = [a.as_member(), b.as_member()];
    b.fake.shuns.store(true, Ordering::SeqCst);
    // Told of any change, it looks again at those it is connected with.
    b.follow(&members);
    wait(|| a.transport.connected_for(b.id()).is_none());
    wait(|| b.transport.connected_for(a.id()).is_none());
    let send = |from, to, number| numbered(MessageKind::Heartbeat, from, to, number);
    b.transport.send(vec![send(b, a, 1)]);
    b.fake.until(|seen| seen.unreachable.contains(&a.id()).then_some(()));
    a.transport.send(vec![send(a, b, 2)]);
    // As a POST, which is refused.
    a.fake.until(|seen| seen.unreachable.contains(&b.id()).then_some(()));
    b.fake.shuns.store(false, Ordering::SeqCst);
    a.wait_for(b.id());
    b.wait_for(a.id());
    a.transport.send(vec![send(a, b, 3)]);
    assert_eq!(b.fake.take(1), [send(a, b, 3)], "and nothing of what was sent before");
    b.transport.send(vec![send(b, a, 4)]);
    assert_eq!(a.fake.take(1), [send(b, a, 4)]);
}
