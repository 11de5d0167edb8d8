//! What is POSTed arrives once, or perhaps not at all.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, mpsc};

use mainstay_driver::Transport as _;
use mainstay_membership::Member;
use mainstay_raft::{Message, MessageKind};
use mainstay_types::MemberId;
use mainstay_types::limits::PEER_STREAM_QUEUE_MAX;

use crate::support::{Door, Node, PATIENCE, cluster, numbered, wait};

/// A peer that gives no streams, and takes messages: their bodies come out.
struct Taker {
    url: String,
    bodies: mpsc::Receiver<Vec<u8>>,
}

impl Taker {
    /// It answers the messages but for this one, counted from 1: then it has read it, and ends
    /// the connection.
    fn start(hangs_up_after: usize) -> Taker {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (say, bodies) = mpsc::channel();
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (say, count) = (say.clone(), Arc::clone(&count));
                let hang_up = move || {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == hangs_up_after
                };
                std::thread::spawn(move || take(socket.expect("a socket"), &say, &hang_up));
            }
        });
        Taker { url, bodies }
    }

    fn next(&self) -> Vec<u8> {
        self.bodies.recv_timeout(PATIENCE).expect("a message")
    }
}

/// Serves one connection until it ends. What goes wrong with it ends it.
fn take(socket: TcpStream, say: &mpsc::Sender<Vec<u8>>, hang_up: &dyn Fn() -> bool) {
    let mut reader = BufReader::new(socket);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let mut line = String::new();
            if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                return;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let answer = if head.starts_with("POST /raft ") {
            let hangs_up = hang_up();
            // The test may have ended.
            let _ = say.send(body);
            if hangs_up {
                return;
            }
            "HTTP/1.1 204 No Content\r\n\r\n"
        } else {
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        };
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The connection is one that was used before, so that it looks as if the peer had closed it
/// before the message was sent; but the message had arrived.
#[test]
fn a_message_without_an_answer_is_not_sent_again() {
    let (node, other) = (Node::start(1), Node::start(2));
    let taker = Taker::start(2);
    let peer = Member { id: MemberId(2), peer_urls: vec![taker.url.clone()], ..Member::default() };
    node.follow(&[node.as_member(), peer]);
    let send = |number| {
        node.transport.send(vec![numbered(MessageKind::Prop, &node, &other, number)]);
        taker.next()
    };
    let first = send(1);
    let stats = node.transport.stats().of(other.id());
    // Until then its connection is not idle.
    wait(|| stats.sent_bytes.get() >= first.len() as u64);
    let second = send(2);
    node.fake.until(|seen| seen.unreachable.contains(&other.id()).then_some(()));
    let third = send(3);
    assert!(first != second && second != third, "each of them once");
    assert!(taker.bodies.try_recv().is_err());
    assert!(node.fake.until(|seen| Some(seen.unsent.is_empty())), "it may have arrived");
}

#[test]
fn proposals_that_found_nobody_are_given_back() {
    let (node, other) = (Node::start(1), Node::start(2));
    let url = Door::open().url();
    let peer = Member { id: MemberId(2), peer_urls: vec![url], ..Member::default() };
    node.follow(&[node.as_member(), peer]);
    let proposal = numbered(MessageKind::Prop, &node, &other, 1);
    node.transport.send(vec![numbered(MessageKind::Vote, &node, &other, 2), proposal.clone()]);
    let unsent = node.fake.until(|seen| seen.unsent.pop());
    assert_eq!(unsent, proposal, "and nothing else");
}

#[test]
fn proposals_that_wait_for_a_stream_that_ends_are_given_back() {
    let mut nodes = cluster(2);
    let b = nodes.pop().expect("two");
    let a = nodes.pop().expect("two");
    let count = PEER_STREAM_QUEUE_MAX as u64;
    // Its reader does not keep up with a loop, and then it ends.
    let proposals = (0..count).map(|n| numbered(MessageKind::Prop, &a, &b, n));
    a.transport.send(proposals.collect());
    let id = b.id();
    let arrived = Arc::clone(&b.fake);
    b.stop();
    a.fake.until(|seen| seen.gone.contains(&id).then_some(()));
    let numbers = |messages: &[Message]| -> Vec<u64> {
        messages.iter().map(|message| message.commit.0).collect()
    };
    let arrived = arrived.until(|seen| Some(numbers(&seen.messages)));
    let unsent = a.fake.until(|seen| Some(numbers(&seen.unsent)));
    let twice: Vec<&u64> = unsent.iter().filter(|number| arrived.contains(number)).collect();
    assert!(twice.is_empty(), "arrived and given back: {twice:?}");
}
