//! Snapshots arrive whole or not at all.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use mainstay_driver::{DbCopy, Transport as _};
use mainstay_peer::codec::encode_plain;
use mainstay_raft::{ConfState, Message, MessageKind, Snapshot};
use mainstay_types::limits::PEER_SNAPSHOT_CHUNK_BYTES;
use mainstay_types::{Index, MemberId, Term};

use crate::support::{CLUSTER, Node, cluster, numbered, wait};

/// A file in memory that cannot be read past a point.
pub(crate) struct Db {
    pub(crate) bytes: Vec<u8>,
    pub(crate) readable: u64,
}

impl Db {
    pub(crate) fn of(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    pub(crate) fn whole(length: usize) -> Arc<Db> {
        Arc::new(Db { bytes: Db::of(length), readable: u64::MAX })
    }
}

impl DbCopy for Db {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        if at + out.len() as u64 > self.readable {
            return Err(io::Error::other("a bad sector"));
        }
        let at = usize::try_from(at).expect("in memory");
        out.copy_from_slice(&self.bytes[at..at + out.len()]);
        Ok(())
    }
}

fn snapshot(from: &Node, to: &Node) -> Message {
    let conf_state = ConfState { voters: vec![MemberId(1), MemberId(2)], ..ConfState::default() };
    let snapshot =
        Snapshot { data: "{\"v2\":true}".into(), index: Index(1_000), term: Term(6), conf_state };
    Message { snapshot: Some(Box::new(snapshot)), ..numbered(MessageKind::Snap, from, to, 0) }
}

#[test]
fn a_snapshot_of_any_size_arrives() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    for length in [0, 1, PEER_SNAPSHOT_CHUNK_BYTES, 5 * PEER_SNAPSHOT_CHUNK_BYTES + 17] {
        let message = snapshot(a, b);
        a.transport.send_snapshot(message.clone(), Db::whole(length));
        let sent = a.fake.until(|seen| seen.snapshots_sent.pop());
        assert_eq!(sent, (b.id(), true));
        let file = b.fake.until(|seen| seen.files.pop());
        assert!(file == Db::of(length), "the same {length} bytes");
        assert_eq!(b.fake.take(1), [message]);
    }
    assert_eq!(a.transport.stats().of(b.id()).snapshots_sent.done.get(), 4);
    assert_eq!(b.transport.stats().of(a.id()).snapshots_received.done.get(), 4);
    assert_eq!(b.fake.until(|seen| Some(seen.discarded)), 0);
}

#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_whole() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    let chunk = PEER_SNAPSHOT_CHUNK_BYTES as u64;
    for readable in [0, chunk, 3 * chunk] {
        let db = Db { bytes: Db::of(4 * PEER_SNAPSHOT_CHUNK_BYTES), readable };
        a.transport.send_snapshot(snapshot(a, b), Arc::new(db));
        let sent = a.fake.until(|seen| seen.snapshots_sent.pop());
        assert_eq!(sent, (b.id(), false));
    }
    b.fake.until(|seen| (seen.discarded == 3).then_some(()));
    assert!(b.fake.until(|seen| Some(seen.files.is_empty() && seen.messages.is_empty())));
}

#[test]
fn a_disk_that_is_full_is_reported() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    b.fake.full.store(true, Ordering::Relaxed);
    a.transport.send_snapshot(snapshot(a, b), Db::whole(1 << 20));
    assert_eq!(a.fake.until(|seen| seen.snapshots_sent.pop()), (b.id(), false));
    wait(|| b.transport.stats().of(a.id()).snapshots_received.failed.get() == 1);
}

#[test]
fn nobody_to_send_to_is_a_failure() {
    let a = Node::start(1);
    let message = Message { to: MemberId(9), ..snapshot(&a, &a) };
    a.transport.send_snapshot(message, Db::whole(1));
    assert_eq!(a.fake.until(|seen| seen.snapshots_sent.pop()), (MemberId(9), false));
}

/// A file that is never read to its end.
struct Endless;

impl DbCopy for Endless {
    fn len(&self) -> u64 {
        u64::MAX
    }

    fn read_at(&self, _: u64, out: &mut [u8]) -> io::Result<()> {
        out.fill(1);
        Ok(())
    }
}

#[test]
fn a_member_that_leaves_gets_no_more_of_it() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    // What arrives is kept in memory here, so not for long.
    a.transport.send_snapshot(snapshot(a, b), Arc::new(Endless));
    b.fake.until(|seen| (seen.begun == 1).then_some(()));
    a.follow(&[a.as_member()]);
    assert_eq!(a.fake.until(|seen| seen.snapshots_sent.pop()), (b.id(), false));
    b.fake.until(|seen| (seen.discarded == 1).then_some(()));
}

/// The POST of `body` as Go sends it, chunked: its head, then all of it.
fn request(to: &Node, body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let head = format!(
        "POST /raft/snapshot HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\
         Content-Type: application/octet-stream\r\nX-Etcd-Cluster-ID: {CLUSTER}\r\n\
         X-Min-Cluster-Version: 3.0.0\r\nX-Server-From: 1\r\nX-Server-Version: 3.5.16\r\n\
         Connection: close\r\n\r\n",
        to.address
    );
    let mut chunks = Vec::new();
    for chunk in body.chunks(1_000) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    (head.into_bytes(), chunks)
}

fn connect(to: &Node) -> TcpStream {
    let socket = TcpStream::connect(to.address).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket
}

/// POSTs `body` and returns the status.
fn post(to: &Node, body: &[u8]) -> u16 {
    let (head, chunks) = request(to, body);
    let mut socket = connect(to);
    socket.write_all(&[head, chunks].concat()).expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[test]
fn a_stream_that_is_cut_off_is_discarded() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    let mut body = BytesMut::new();
    encode_plain(&snapshot(a, b), &mut body);
    // The first chunk has 5 bytes in front of it.
    let message = body.len() + 5;
    body.extend_from_slice(&Db::of(10_000));
    let (head, chunks) = request(b, &body);
    let end = chunks.len();
    // In the message (fewer than may arrive at once: nobody sees these end), in the
    // file, and with only the last chunk, of no bytes, missing.
    let cuts = [0, 9, message - 1, message + 1, 1_200, 5_000, end - 600, end - 5, end - 3];
    let mut begun = 0;
    for cut in cuts {
        let mut socket = connect(b);
        socket.write_all(&head).expect("sent");
        socket.write_all(&chunks[..cut]).expect("sent");
        begun += usize::from(cut > message);
        b.fake.until(|seen| (seen.begun == begun).then_some(()));
        socket.shutdown(Shutdown::Both).expect("cut");
        b.fake.until(|seen| (seen.discarded == begun).then_some(()));
    }
    assert!(b.fake.until(|seen| Some(seen.files.is_empty() && seen.messages.is_empty())));
    let numbers = b.transport.stats().of(a.id());
    wait(|| numbers.snapshots_received.under_way.get() == 0);
    assert_eq!(numbers.snapshots_received.failed.get(), begun as u64);
    // The same, whole.
    assert_eq!(post(b, &body), 204);
    assert!(b.fake.until(|seen| seen.files.pop()) == Db::of(10_000));
    assert_eq!(b.fake.take(1), [snapshot(a, b)]);
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let nodes = cluster(2);
    let (a, b) = (&nodes[0], &nodes[1]);
    let refused = |message: &Message, status| {
        let mut body = BytesMut::new();
        encode_plain(message, &mut body);
        assert_eq!(post(b, &body), status, "{message:?}");
    };
    refused(&numbered(MessageKind::App, a, b, 1), 400);
    refused(&numbered(MessageKind::Snap, a, b, 1), 400);
    refused(&Message { to: MemberId(9), ..snapshot(a, b) }, 403);
    b.fake.removed.lock().insert(MemberId(3));
    refused(&Message { from: MemberId(3), ..snapshot(a, b) }, 403);
    assert_eq!(post(b, b"short"), 400);
    // A length of 64 MiB and one.
    assert_eq!(post(b, &[0, 0, 0, 0, 4, 0, 0, 1]), 400);
    assert_eq!(b.fake.until(|seen| Some((seen.files.len(), seen.messages.len()))), (0, 0));
}
