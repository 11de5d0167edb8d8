//! Messages of every kind arrive, in order, whatever happens to the members meanwhile.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mainstay_driver::Transport as _;
use mainstay_peer::Local as _;
use mainstay_raft::{Message, MessageKind, Snapshot};
use mainstay_types::limits::{PEER_PIPELINE_QUEUE_MAX, PEER_STREAM_QUEUE_MAX};
use mainstay_types::{Index, MemberId, Term};

use crate::support::{
    CLUSTER, Door, Fake, Node, PATIENCE, append, cluster, membership, numbered, wait,
};

#[test]
fn every_kind_arrives() {
    let nodes = cluster(3);
    let (from, to) = (&nodes[0], &nodes[2]);
    for kind in MessageKind::ALL.into_iter().filter(|kind| !kind.is_local()) {
        let mut message = match kind {
            MessageKind::App => append(from, to, 9),
            kind => numbered(kind, from, to, 9),
        };
        if kind == MessageKind::Snap {
            let snapshot = Snapshot { index: Index(3), term: Term(2), ..Snapshot::default() };
            message.snapshot = Some(Box::new(snapshot));
        }
        from.transport.send(vec![message.clone()]);
        assert_eq!(to.fake.take(1), [message]);
    }
    // Without a file a snapshot is a message like others.
    from.fake.until(|seen| seen.snapshots_sent.pop().filter(|sent| *sent == (to.id(), true)));
    assert!(nodes[1].fake.until(|seen| Some(seen.messages.is_empty())));
}

#[test]
fn messages_keep_their_order() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    const COUNT: u64 = 3_000;
    // Both streams, both ways, in batches as raft makes them.
    let mut sent = 0;
    while sent < COUNT {
        let batch = sent..(sent + 1 + sent % 7).min(COUNT);
        sent = batch.end;
        let beats = batch.clone().map(|n| numbered(MessageKind::Heartbeat, a, b, n));
        a.transport.send(batch.clone().map(|n| append(a, b, n)).chain(beats).collect());
        b.transport.send(batch.map(|n| numbered(MessageKind::AppResp, b, a, n)).collect());
        // Not more than a stream holds.
        let received = || b.fake.until(|seen| Some(seen.messages.len() as u64));
        wait(|| sent * 2 - received() < PEER_STREAM_QUEUE_MAX as u64 / 2);
    }
    let numbers = |messages: &[Message], kind| {
        let of_kind = messages.iter().filter(|message| message.kind == kind);
        of_kind.map(|message| message.commit.0).collect::<Vec<u64>>()
    };
    let all: Vec<u64> = (0..COUNT).collect();
    let received = b.fake.take(2 * usize::try_from(COUNT).expect("few"));
    assert_eq!(numbers(&received, MessageKind::App), all);
    assert_eq!(numbers(&received, MessageKind::Heartbeat), all);
    assert!(received.iter().all(|message| message.from == a.id() && message.to == b.id()));
    let answers = a.fake.take(usize::try_from(COUNT).expect("few"));
    assert_eq!(numbers(&answers, MessageKind::AppResp), all);
    let batches = b.fake.batches.load(Ordering::Relaxed);
    assert!(batches < received.len(), "some of them came together: {batches}");
}

#[test]
fn a_member_that_restarts_is_found_again() {
    let mut nodes = cluster(2);
    let b = nodes.pop().expect("two");
    let a = nodes.pop().expect("two");
    let (members, id) = ([a.as_member(), b.as_member()], b.id());
    let address = b.stop();
    a.fake.until(|seen| seen.unreachable.contains(&id).then_some(()));
    assert_eq!(a.transport.connected_for(id), None);
    // Its host says so.
    a.fake.until(|seen| seen.gone.contains(&id).then_some(()));
    let door = Door::open_at(&address.to_string());
    let b = Node::start_at(door, Fake::new(id.0, CLUSTER), None, None);
    b.follow(&members);
    a.wait_for(id);
    b.wait_for(a.id());
    let message = append(&a, &b, 4);
    a.transport.send(vec![message.clone()]);
    assert_eq!(b.fake.take(1), [message]);
}

#[test]
fn another_url_is_tried_when_one_fails() {
    let (a, b) = (Node::start(1), Node::start(2));
    // Nobody listens at the first.
    let nobody = Door::open().url();
    let mut other = b.as_member();
    other.peer_urls.insert(0, nobody);
    a.follow(&[a.as_member(), other]);
    b.follow(&[a.as_member(), b.as_member()]);
    a.wait_for(b.id());
    let message = numbered(MessageKind::Vote, &a, &b, 1);
    a.transport.send(vec![message.clone()]);
    assert_eq!(b.fake.take(1), [message]);
}

#[test]
fn messages_are_posted_while_there_is_no_stream() {
    // `b` does not know `a` as a member, so it gives it no stream.
    let (a, b) = (Node::start(1), Node::start(2));
    a.follow(&[a.as_member(), b.as_member()]);
    let message = numbered(MessageKind::PreVote, &a, &b, 1);
    a.transport.send(vec![message.clone()]);
    assert_eq!(b.fake.take(1), [message]);
    // And it answers: the request said where.
    wait(|| {
        b.transport.send(vec![numbered(MessageKind::PreVoteResp, &b, &a, 2)]);
        a.fake.until(|seen| Some(!seen.messages.is_empty()))
    });
    let answer = a.fake.take(1).remove(0);
    assert_eq!((answer.kind, answer.from), (MessageKind::PreVoteResp, b.id()));
}

#[test]
fn a_full_queue_is_reported() {
    let mut nodes = cluster(2);
    let mut b = nodes.pop().expect("two");
    let a = nodes.pop().expect("two");
    // More at once than a stream holds; its reader cannot keep up with a loop.
    let burst = |b: &Node, count: usize| {
        let messages = (0..count).map(|n| numbered(MessageKind::Heartbeat, &a, b, n as u64));
        a.transport.send(messages.collect());
    };
    burst(&b, PEER_STREAM_QUEUE_MAX * 4);
    a.fake.until(|seen| (seen.unreachable == [b.id()]).then_some(()));
    let stats = a.transport.stats().of(b.id());
    assert!(stats.sent_failures.get() > 0);
    a.fake.until(|seen| {
        seen.unreachable.clear();
        Some(())
    });
    // Without streams there is less room still.
    b.close_door();
    b.follow(&[b.as_member()]);
    wait(|| a.transport.connected_for(b.id()).is_none());
    burst(&b, PEER_PIPELINE_QUEUE_MAX * 4);
    a.fake.until(|seen| seen.unreachable.contains(&b.id()).then_some(()));
}

#[test]
fn nobody_is_reported_too() {
    let a = Node::start(1);
    a.follow(&[a.as_member()]);
    let message = |to| Message { to: MemberId(to), from: a.id(), ..Message::default() };
    a.transport.send(vec![message(9), message(0), message(9)]);
    a.fake.until(|seen| (seen.unreachable == [MemberId(9)]).then_some(()));
}

#[test]
fn a_member_that_leaves_is_left() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    let stats = a.transport.stats().of(b.id());
    assert_eq!(stats.active.get(), 1);
    a.follow(&[a.as_member()]);
    assert_eq!(a.transport.connected_for(b.id()), None);
    assert_eq!(stats.active.get(), 0);
    b.wait_lost(a);
}

impl Node {
    /// Waits until `peer` does not talk to this one any more.
    fn wait_lost(&self, peer: &Node) {
        wait(|| self.transport.connected_for(peer.id()).is_none());
    }
}

#[test]
fn a_removed_member_learns_it() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    a.fake.removed.lock().insert(b.id());
    a.follow(&[a.as_member()]);
    // Its streams have ended and it asks for others: 410.
    b.fake.until(|seen| seen.removed_for_good.then_some(()));
    // Or it has something to say: 403.
    b.fake.until(|seen| {
        seen.removed_for_good = false;
        Some(())
    });
    b.transport.send(vec![numbered(MessageKind::Vote, b, a, 1)]);
    b.fake.until(|seen| seen.removed_for_good.then_some(()));
    assert!(a.fake.until(|seen| Some(seen.messages.is_empty())));
}

#[test]
fn another_cluster_is_kept_out() {
    let a = Node::start(1);
    let b =
        Node::start_at(Door::open(), Fake::new(2, mainstay_types::ClusterId(0xbad)), None, None);
    let members = [a.as_member(), b.as_member()];
    a.follow(&members);
    b.follow(&members);
    a.transport.send(vec![numbered(MessageKind::Vote, &a, &b, 1)]);
    a.fake.until(|seen| seen.unreachable.contains(&b.id()).then_some(()));
    assert_eq!(a.transport.connected_for(b.id()), None);
    assert!(b.fake.until(|seen| Some(seen.messages.is_empty())));
    assert!(!a.fake.until(|seen| Some(seen.removed_for_good)));
}

#[test]
fn a_member_that_cannot_take_more_loses_messages_and_keeps_its_streams() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    b.fake.full.store(true, Ordering::Relaxed);
    a.transport.send(vec![append(a, b, 1), numbered(MessageKind::Heartbeat, a, b, 1)]);
    let stats = b.transport.stats().of(a.id());
    wait(|| stats.received_failures.get() == 2);
    b.fake.full.store(false, Ordering::Relaxed);
    let message = append(a, b, 2);
    a.transport.send(vec![message.clone()]);
    assert_eq!(b.fake.take(1), [message]);
    assert!(a.transport.connected_for(b.id()).is_some());
}

#[test]
fn silent_streams_stay_open() {
    let nodes = cluster(2);
    // Longer than a reader waits: heartbeats of the link keep them.
    let deadline = Instant::now() + Duration::from_secs(7);
    let (a, b) = (&nodes[0], &nodes[1]);
    assert!(PATIENCE > Duration::from_secs(10));
    wait(|| {
        assert!(a.transport.connected_for(b.id()).is_some());
        assert!(b.transport.connected_for(a.id()).is_some());
        Instant::now() >= deadline
    });
    wait(|| a.transport.stats().of(b.id()).round_trip.counts().iter().sum::<u64>() == 0);
}

#[test]
fn a_membership_that_comes_early_waits_for_the_member() {
    let b = Node::start(2);
    let options = mainstay_peer::Options::new(Vec::new());
    let transport = mainstay_peer::PeerTransport::start(options, None).expect("a transport");
    let fake = Fake::new(1, CLUSTER);
    transport.follow(&std::sync::Arc::new(membership(&[b.as_member()])));
    let vote =
        Message { kind: MessageKind::Vote, from: fake.member(), to: b.id(), ..Message::default() };
    transport.send(vec![vote.clone()]);
    transport.attach(fake);
    transport.send(vec![vote.clone()]);
    assert_eq!(b.fake.take(1), [vote]);
    transport.stop();
    transport.stop();
}

#[test]
fn another_member_at_the_address_is_no_reason_to_stop() {
    let (a, b) = (Node::start(1), Node::start(2));
    // Number 3 was there before; `a` has not heard that it left.
    let mut gone = b.as_member();
    gone.id = MemberId(3);
    a.follow(&[a.as_member(), gone]);
    let lost = Message { to: MemberId(3), ..numbered(MessageKind::Vote, &a, &b, 1) };
    a.transport.send(vec![lost]);
    a.fake.until(|seen| seen.unreachable.contains(&MemberId(3)).then_some(()));
    assert!(!a.fake.until(|seen| Some(seen.removed_for_good)));
    assert!(b.fake.until(|seen| Some(seen.messages.is_empty())));
}
