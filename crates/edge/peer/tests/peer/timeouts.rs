//! `--raft-read-timeout` and `--raft-write-timeout`: who says nothing, and who takes nothing;
//! and where connections leave from.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mainstay_driver::Transport as _;
use mainstay_membership::Member;
use mainstay_peer::Options;
use mainstay_raft::{Entry, MessageKind};
use mainstay_types::MemberId;

use crate::support::{CLUSTER, Door, Fake, Node, numbered, wait};

const SHORT: Duration = Duration::from_millis(300);
/// Shorter than what holds without the flags.
const SOON: Duration = Duration::from_secs(4);

fn impatient() -> Node {
    let short = |options| Options { read_timeout: SHORT, write_timeout: SHORT, ..options };
    Node::start_tuned(Door::open(), Fake::new(1, CLUSTER), None, None, short)
}

/// Member 2 is whoever listens there.
fn follow(node: &Node, listener: &TcpListener) {
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let peer = Member { id: MemberId(2), peer_urls: vec![url], ..Member::default() };
    node.follow(&[node.as_member(), peer]);
}

/// Gate `SetMemberLocalAddr`.
#[test]
fn connections_leave_from_the_address_that_was_given() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let from: IpAddr = "127.0.0.9".parse().expect("an address");
    let tune = |options| Options { local_addr: Some(from), ..options };
    let node = Node::start_tuned(Door::open(), Fake::new(1, CLUSTER), None, None, tune);
    follow(&node, &listener);
    let (_, remote) = listener.accept().expect("it dials");
    assert_eq!(remote.ip(), from);
}

#[test]
fn a_stream_that_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let node = impatient();
    follow(&node, &listener);
    let begun = Instant::now();
    let mut kept: Vec<TcpStream> = Vec::new();
    // Both streams, and a second attempt of one of them.
    while kept.len() < 3 {
        let (mut socket, _) = listener.accept().expect("it dials");
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && socket.read_exact(&mut byte).is_ok() {
            head.push(byte[0]);
        }
        if head.starts_with(b"GET /raft/stream/") {
            let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            socket.write_all(answer).expect("sent");
            kept.push(socket);
        }
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let stats = node.transport.stats().of(MemberId(2));
    wait(|| stats.disconnected.get() >= 1);
}

#[test]
fn a_connection_that_takes_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (node, other) = (impatient(), Node::start(2));
    follow(&node, &listener);
    let mut message = numbered(MessageKind::App, &node, &other, 1);
    // More than the kernel takes.
    message.entries = vec![Entry { data: vec![7; 48 << 20].into(), ..Entry::default() }];
    let begun = Instant::now();
    node.transport.send(vec![message]);
    node.fake.until(|seen| seen.unreachable.contains(&other.id()).then_some(()));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    // Accepted by the kernel all the while, read by nobody.
    drop(listener);
}
