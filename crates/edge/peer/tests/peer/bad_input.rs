//! What a peer may send by mistake or in malice: an error, and nothing else changes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use mainstay_driver::Transport as _;
use mainstay_peer::codec::encode_message;
use mainstay_raft::{Entry, Message, MessageKind};
use mainstay_types::limits::PEER_REMOTES_MAX;
use mainstay_types::{Index, MemberId, Term};

use crate::support::{CLUSTER, Door, Fake, Node, cluster, numbered, wait};

/// An answer: status, headers, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Sends a request on a connection of its own. A header with the name of one that is
/// sent anyway takes its place; an empty value leaves it out.
fn ask(to: &Node, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let (mut lines, cluster) = (String::new(), CLUSTER.to_string());
    let usual = [
        ("Host", "member"),
        ("X-Server-From", "1"),
        ("X-Server-Version", "3.5.16"),
        ("X-Min-Cluster-Version", "3.0.0"),
        ("X-Etcd-Cluster-ID", cluster.as_str()),
        ("X-Raft-To", "2"),
        ("Connection", "close"),
    ];
    for (name, value) in usual {
        let value = headers.iter().find(|(other, _)| *other == name).map_or(value, |other| other.1);
        if !value.is_empty() {
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in headers.iter().filter(|(name, _)| *name == "X-PeerURLs") {
        lines.push_str(&format!("{name}: {value}\r\n"));
    }
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\n{lines}Content-Length: {length}\r\n\r\n");
    let mut socket = TcpStream::connect(to.address).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket.write_all(&[request.as_bytes(), body].concat()).expect("sent");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("an answer");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (status, body));
}

const APPS: &str = "/raft/stream/msgapp/1";
const PLAIN: &str = "/raft/stream/message/1";

#[test]
fn requests_for_streams() {
    let nodes = cluster(2);
    let b = &nodes[1];
    for path in [APPS, PLAIN] {
        let answer = ask(b, "POST", path, &[], b"");
        refused(&answer, 405, "Method Not Allowed\n");
        assert!(answer.head.contains("\r\nallow: get"));
        let answer = ask(b, "GET", path, &[("X-Server-Version", "2.3.0")], b"");
        refused(&answer, 412, "incompatible version\n");
        assert!(answer.head.contains("\r\nx-server-version: 3.7.1"));
        assert!(answer.head.contains("\r\nx-etcd-cluster-id: c1"));
        assert!(answer.head.contains("\r\ncontent-type: text/plain; charset=utf-8"));
        assert!(answer.head.contains("\r\nx-content-type-options: nosniff"));
        let answer = ask(b, "GET", path, &[("X-Server-Version", "")], b"");
        refused(&answer, 412, "incompatible version\n");
        let answer = ask(b, "GET", path, &[("X-Etcd-Cluster-ID", "c2")], b"");
        refused(&answer, 412, "cluster ID mismatch\n");
        let answer = ask(b, "GET", path, &[("X-Raft-To", "3")], b"");
        refused(&answer, 412, "to field mismatch\n");
    }
    for path in ["/raft/stream/other/1", "/raft/stream/msgapp", "/raft/stream/msgapp/1/2"] {
        refused(&ask(b, "GET", path, &[], b""), 404, "invalid path\n");
    }
    for path in ["/raft/stream/msgapp/", "/raft/stream/message/xyz", "/raft/stream/message/-1"] {
        refused(&ask(b, "GET", path, &[], b""), 404, "invalid from\n");
    }
    refused(&ask(b, "GET", "/raft/elsewhere", &[], b""), 404, "404 page not found\n");
    let stranger = ask(b, "GET", "/raft/stream/message/77", &[], b"");
    refused(&stranger, 404, "error sender not found\n");
    b.fake.removed.lock().insert(MemberId(0x55));
    let removed = ask(b, "GET", "/raft/stream/message/55", &[], b"");
    refused(&removed, 410, "removed member\n");
}

fn encoded(message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    encode_message(message, &mut out);
    out
}

#[test]
fn posts_of_messages() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    let good = numbered(MessageKind::Vote, a, b, 1);
    let post = |message: &Message| ask(b, "POST", "/raft", &[], &encoded(message));
    let answer = post(&good);
    refused(&answer, 204, "");
    assert!(answer.head.contains("\r\nx-etcd-cluster-id: c1"));
    assert_eq!(b.fake.take(1), std::slice::from_ref(&good));
    let answer = ask(b, "GET", "/raft", &[], b"");
    refused(&answer, 405, "Method Not Allowed\n");
    assert!(answer.head.contains("\r\nallow: post"));
    let answer = ask(b, "POST", "/raft", &[("X-Etcd-Cluster-ID", "1")], &encoded(&good));
    refused(&answer, 412, "cluster ID mismatch\n");
    refused(&ask(b, "POST", "/raft", &[], b"\x08"), 400, "error unmarshalling raft message\n");
    // What a member only tells itself, for instance that it shall start an election.
    refused(&ask(b, "POST", "/raft", &[], b""), 400, "error unmarshalling raft message\n");
    let answer = post(&Message { to: MemberId(9), ..good.clone() });
    refused(&answer, 403, r#"{"message":"cannot process message to mismatch member"}"#);
    assert!(answer.head.contains("\r\ncontent-type: application/json"));
    b.fake.removed.lock().insert(MemberId(5));
    let answer = post(&Message { from: MemberId(5), ..good.clone() });
    refused(&answer, 403, r#"{"message":"cannot process message from removed member"}"#);
    b.fake.full.store(true, Ordering::Relaxed);
    let answer = post(&good);
    refused(&answer, 500, "error processing raft message\n");
    assert!(answer.head.contains("\r\nconnection: close"));
    b.fake.full.store(false, Ordering::Relaxed);
    // Numbers that nobody comes to.
    let far = u64::MAX - 1;
    let entry =
        |term, index| vec![Entry { term: Term(term), index: Index(index), ..Entry::default() }];
    for absurd in [
        Message { term: Term(far), ..good.clone() },
        Message { log_term: Term(far), ..good.clone() },
        Message { index: Index(far), ..good.clone() },
        Message { commit: Index(far), ..good.clone() },
        Message { reject_hint: Index(far), ..good.clone() },
        Message { entries: entry(far, 1), ..good.clone() },
        Message { entries: entry(1, far), ..good.clone() },
    ] {
        let answer = post(&absurd);
        refused(&answer, 400, "error unmarshalling raft message\n");
        assert!(answer.head.contains("\r\nconnection: close"));
    }
    assert!(b.fake.until(|seen| Some(seen.messages.is_empty())));
}

#[test]
fn not_everyone_is_remembered() {
    let nodes = cluster(2);
    let b = &nodes[1];
    let (door, vote) = (Door::open(), MessageKind::PreVoteResp);
    let url = door.url();
    for stranger in 0..2 * PEER_REMOTES_MAX {
        let from = format!("{:x}", 0x1000 + stranger);
        let headers = [("X-Server-From", from.as_str()), ("X-PeerURLs", url.as_str())];
        let path = format!("/raft/stream/message/{from}");
        refused(&ask(b, "GET", &path, &headers, b""), 404, "error sender not found\n");
    }
    let answer = |to: usize| {
        let to = MemberId(0x1000 + to as u64);
        b.transport.send(vec![Message { to, ..numbered(vote, b, b, 1) }]);
        to
    };
    // The first are answered; that there were so many is reported with the last.
    let last = answer(2 * PEER_REMOTES_MAX - 1);
    b.fake.until(|seen| (seen.unreachable == [last]).then_some(()));
    // URLs that are none are not an answer's way.
    for urls in ["nonsense", "http://a:1,nonsense", "http://:1"] {
        let headers = [("X-Server-From", "777"), ("X-PeerURLs", urls)];
        ask(b, "GET", "/raft/stream/message/777", &headers, b"");
    }
    b.fake.until(|seen| {
        seen.unreachable.clear();
        Some(())
    });
    b.transport.send(vec![Message { to: MemberId(0x777), ..numbered(vote, b, b, 1) }]);
    b.fake.until(|seen| (seen.unreachable == [MemberId(0x777)]).then_some(()));
}

/// Serves one answer to whoever connects, again and again: its head, then `body` as
/// one chunk.
fn impostor(body: &'static [u8]) -> (String, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        // Two streams each try a few times; neither waits for the other.
        for _ in 0..6 {
            let Ok((socket, _)) = listener.accept() else { return };
            std::thread::spawn(move || lie(socket, body));
        }
    });
    (url, thread)
}

fn lie(mut socket: TcpStream, body: &[u8]) {
    let _ = socket.set_read_timeout(Some(Duration::from_secs(20)));
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && socket.read_exact(&mut byte).is_ok() {
        request.push(byte[0]);
    }
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let head = format!("{head}{length:x}\r\n");
    let _ = socket.write_all(&[head.as_bytes(), body, b"\r\n"].concat());
    // The reader closes the connection.
    let _ = socket.read(&mut byte);
}

#[test]
fn streams_of_rubbish_are_closed() {
    let rubbish: [&[u8]; 5] = [
        b"\x07 no such type, and no such length either",
        &[0xff; 64],
        &[2, 0, 0, 0, 0, 0, 0, 0, 2, 8, 99, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 2, 8, 1],
        &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xff],
    ];
    for body in rubbish {
        let a = Node::start_at(Door::open(), Fake::new(1, CLUSTER), None, None);
        let (url, thread) = impostor(body);
        let mut peer = a.as_member();
        (peer.id, peer.peer_urls) = (MemberId(2), vec![url]);
        a.follow(&[a.as_member(), peer]);
        let stats = a.transport.stats().of(MemberId(2));
        wait(|| stats.received_failures.get() >= 2);
        assert!(a.fake.until(|seen| Some(seen.messages.is_empty())));
        a.follow(&[a.as_member()]);
        drop(a);
        drop(thread);
    }
}
