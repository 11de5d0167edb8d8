//! A member that has lost its db gets another's, whole, or an answer why not.

use std::sync::Arc;

use mainstay_driver::{DbAsk, DbFetched, FetchError, Identity, Transport as _};
use mainstay_peer::{Options, PeerTransport};
use mainstay_types::limits::{PEER_DB_OFFERS_MAX, PEER_SNAPSHOT_CHUNK_BYTES};
use mainstay_types::{ClusterId, Index, MemberId, Term};

use crate::snapshots::Db;
use crate::support::{CLUSTER, Node, cluster, wait};

/// Member 3 asks the others, before it has begun anything.
fn ask(nodes: &[Node], identity: Identity, least: u64) -> (Result<DbFetched, FetchError>, Vec<u8>) {
    let others = nodes.iter().filter(|node| node.id() != identity.member);
    let others = others.map(|node| (node.id(), vec![node.url.clone()])).collect();
    let transport = PeerTransport::start(Options::new(Vec::new()), None).expect("a transport");
    let mut got = Vec::new();
    let ask = DbAsk { identity, others, least: Index(least), last: Vec::new() };
    let fetched = transport.fetch_db(&ask, &mut |bytes| {
        got.extend_from_slice(bytes);
        Ok(())
    });
    transport.stop();
    (fetched, got)
}

const ME: Identity = Identity { cluster: CLUSTER, member: MemberId(3) };

fn gives(node: &Node, applied: u64, leader: u64, length: usize) {
    *node.fake.standing.lock() = (MemberId(leader), Index(applied));
    *node.fake.offer.lock() = Some((Db::whole(length), Term(6)));
}

#[test]
fn the_leaders_db_of_any_size_arrives() {
    let nodes = cluster(3);
    for length in [0, 1, PEER_SNAPSHOT_CHUNK_BYTES, 5 * PEER_SNAPSHOT_CHUNK_BYTES + 17] {
        gives(&nodes[0], 40, 1, length);
        gives(&nodes[1], 50, 1, 3);
        let (fetched, got) = ask(&nodes, ME, 40);
        let bytes = length as u64;
        let wanted = DbFetched { from: MemberId(1), index: Index(40), term: Term(6), bytes };
        assert_eq!(fetched.expect("it arrives"), wanted);
        assert!(got == Db::of(length), "{length} bytes");
    }
    // A leader that lacks what is needed is passed over.
    let (fetched, got) = ask(&nodes, ME, 41);
    assert_eq!(fetched.expect("it arrives").from, MemberId(2));
    assert_eq!(got, Db::of(3));
}

#[test]
fn who_has_too_little_may_have_more_later() {
    let nodes = cluster(3);
    gives(&nodes[0], 40, 1, 9);
    gives(&nodes[1], 39, 1, 9);
    let (refused, _) = ask(&nodes, ME, 41);
    let Err(FetchError::NotYet(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("has applied 40, and 41 is needed"), "{why}");
    // Nobody there at all.
    let stopped: Vec<Node> = nodes;
    let urls: Vec<(MemberId, Vec<String>)> =
        stopped[..2].iter().map(|node| (node.id(), vec![node.url.clone()])).collect();
    for node in stopped {
        node.stop();
    }
    let transport = PeerTransport::start(Options::new(Vec::new()), None).expect("a transport");
    let ask = DbAsk { identity: ME, others: urls, least: Index(1), last: Vec::new() };
    let refused = transport.fetch_db(&ask, &mut |_| Ok(()));
    assert!(matches!(refused, Err(FetchError::NotYet(_))), "{refused:?}");
}

#[test]
fn strangers_and_removed_members_get_nothing() {
    let nodes = cluster(3);
    gives(&nodes[0], 40, 1, 9);
    gives(&nodes[1], 40, 1, 9);
    let refused = |identity: Identity| {
        let (refused, got) = ask(&nodes[..2], identity, 1);
        assert!(got.is_empty());
        refused.expect_err("nobody gives it anything")
    };
    let other = refused(Identity { cluster: ClusterId(9), ..ME });
    assert!(
        matches!(&other, FetchError::Never(why) if why.contains("cluster ID mismatch")),
        "{other}"
    );
    let stranger = refused(Identity { member: MemberId(9), ..ME });
    assert!(stranger.to_string().contains("not a member"), "{stranger}");
    for node in &nodes[..2] {
        node.fake.removed.lock().insert(MemberId(3));
    }
    let removed = refused(ME);
    let words = "was removed from the cluster";
    assert!(matches!(&removed, FetchError::Never(why) if why.contains(words)), "{removed}");
}

#[test]
fn what_breaks_off_or_cannot_be_read_is_no_db() {
    let nodes = cluster(3);
    for node in &nodes[..2] {
        let bytes = Db::of(3 * PEER_SNAPSHOT_CHUNK_BYTES);
        let db = Db { bytes, readable: 2 * PEER_SNAPSHOT_CHUNK_BYTES as u64 };
        *node.fake.standing.lock() = (MemberId(1), Index(40));
        *node.fake.offer.lock() = Some((Arc::new(db), Term(6)));
    }
    let (broken, _) = ask(&nodes, ME, 1);
    let by_the_leader = Err(MemberId(1));
    let by = broken.map(|_| ()).map_err(|error| match error {
        FetchError::Broken { from, .. } => from,
        other => panic!("{other}"),
    });
    assert_eq!(by, by_the_leader);
    // One that has none is passed over at once.
    *nodes[0].fake.offer.lock() = None;
    gives(&nodes[1], 40, 1, 5);
    let (second, got) = ask(&nodes, ME, 1);
    assert_eq!((second.expect("it arrives").from, got), (MemberId(2), Db::of(5)));
    nodes[..2].iter().for_each(|node| *node.fake.offer.lock() = None);
    let (none, _) = ask(&nodes, ME, 1);
    assert!(none.expect_err("it has none").to_string().contains("it is damaged, too"));
}

/// Whoever takes nothing more keeps one of a few places, and gives it back at its end.
#[test]
fn only_a_few_are_served_at_once() {
    use std::io::{Read as _, Write as _};
    let nodes = cluster(3);
    gives(&nodes[0], 40, 1, 64 << 20);
    let open = || {
        let mut socket = std::net::TcpStream::connect(nodes[0].address).expect("connects");
        let head = format!(
            "GET /raft/mainstay/db HTTP/1.1\r\nHost: x\r\nX-Server-From: 3\r\n\
             X-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-Id: {CLUSTER}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).expect("writes");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).expect("an answer");
        (socket, String::from_utf8_lossy(&answer).into_owned())
    };
    let held: Vec<_> = (0..PEER_DB_OFFERS_MAX).map(|_| open()).collect();
    assert!(held.iter().all(|(_, answer)| answer.ends_with("200")));
    assert!(open().1.ends_with("503"));
    drop(held);
    wait(|| open().1.ends_with("200"));
}
