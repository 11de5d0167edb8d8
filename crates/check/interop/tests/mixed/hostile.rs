//! What a peer listener must bear while its cluster works on: rubbish, half messages,
//! endless ones, strangers, members that were removed, and a member that lies.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mainstay_interop::cluster::{Cluster, Load, Make, Plan};

/// What a member may use more than before, in kilobytes: three times the largest message
/// sent here, which is there in pieces and whole, and which the allocator may keep a while.
const GROWTH_KB_MAX: u64 = 240 << 10;

fn resident_kb(cluster: &Cluster, n: usize) -> u64 {
    let pid = cluster.nodes[n].pid().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process");
    line.split_ascii_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}

/// Sends bytes, says that there are no more, and waits for the end.
fn tell_half(port: u16, bytes: &[u8]) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket");
    // It may be closed before all is sent.
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let _ = socket.read_to_end(&mut Vec::new());
}

/// Sends bytes and answers what comes; nothing on a connection that is just closed.
fn tell(port: u16, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket");
    // It may be closed before all is sent.
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A message to `/raft` as from a member.
fn post(cluster: &Cluster, to: usize, who: (u64, u64), body: &[u8]) -> String {
    post_as(cluster, to, who, ("3.5.16", "3.0.0"), body)
}

/// From a member of this version, in clusters from that version on.
fn post_as(
    cluster: &Cluster,
    to: usize,
    (from, of): (u64, u64),
    (version, min): (&str, &str),
    body: &[u8],
) -> String {
    let node = &cluster.nodes[to];
    let head = format!(
        "POST /raft HTTP/1.1\r\nHost: x\r\nX-Server-From: {from:x}\r\n\
         X-Server-Version: {version}\r\nX-Min-Cluster-Version: {min}\r\n\
         X-Etcd-Cluster-ID: {of:x}\r\n\
         Content-Type: application/protobuf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    tell(node.listens, &bytes)
}

fn cluster_id(cluster: &Cluster) -> u64 {
    use mainstay_proto::etcdserverpb as pb;
    let told = cluster.ask(0, |client| async move {
        let told = client.maintenance().status(pb::StatusRequest {}).await?.into_inner();
        Ok(told.header.map_or(0, |header| header.cluster_id))
    });
    told.expect("a status")
}

/// A raftpb.Message of numbers: tag and value.
fn message(fields: &[(u8, u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, value) in fields {
        bytes.push(tag << 3);
        let mut rest = *value;
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
    }
    bytes
}

/// Each is said so, its sender named, and the connection closed.
fn numbers_and_kinds_that_there_are_not(cluster: &Cluster, (go, id): (u64, u64), term: u64) {
    let me = cluster.nodes[0].id;
    let vote = |more: &[(u8, u64)]| message(&[&[(1, 5), (2, me), (3, go)], more].concat());
    for (what, body) in [
        ("term", vote(&[(4, u64::MAX)])),
        ("term of the log", vote(&[(4, term), (5, u64::MAX)])),
        ("index", vote(&[(4, term), (6, u64::MAX - 1)])),
        ("commit", vote(&[(4, term), (8, 1 << 63)])),
        ("hint", vote(&[(4, term), (11, u64::MAX)])),
        ("kind", message(&[(1, 99), (2, me), (3, go), (4, term)])),
        ("own kind", message(&[(1, 0), (2, me), (3, go), (4, term)])),
    ] {
        let told = post(cluster, 0, (go, id), &body).to_ascii_lowercase();
        assert!(told.starts_with("http/1.1 400"), "{what}: {told}");
        assert!(told.contains("\r\nconnection: close"), "{what}: {told}");
    }
    let newer = post_as(cluster, 0, (go, id), ("3.8.0", "3.8.0"), &vote(&[(4, term)]));
    assert!(newer.starts_with("HTTP/1.1 412"), "{newer}");
    assert!(newer.contains("incompatible version"), "{newer}");
    let log = cluster.nodes[0].log();
    let named = |text: &str| {
        let (quoted, text) = (format!("\"{go:x}\""), text.to_owned());
        log.lines().any(|line| line.contains(&text) && line.contains(&quoted))
    };
    assert!(named("a term or an index is out of range"), "the sender is named");
    assert!(named("a message is of an unknown kind"), "the sender is named");
    assert!(named("failed version compatibility check"), "the sender is named");
    assert_eq!(cluster.status(0).expect("a status").term, term, "nobody believed it");
}

#[test]
fn a_peer_listener_bears_strangers_and_rubbish() {
    let _alone = crate::alone();
    let makes = [Make::Ours, Make::Go, Make::Ours, Make::Ours];
    let Some(mut cluster) = Plan::new("hostile", &makes).start() else { return };
    let load = Load::start(12, &mut cluster, false);
    load.wait_for(&mut cluster, 50);
    // One that was removed, and is not there to learn of it.
    load.leave(3);
    cluster.nodes[3].kill();
    cluster.eventually("a member is removed", |cluster| cluster.remove(0, 3).ok());
    let (id, removed) = (cluster_id(&cluster), cluster.nodes[3].id);
    let (me, go) = (cluster.nodes[0].id, cluster.nodes[1].id);
    let before = resident_kb(&cluster, 0);
    let port = cluster.nodes[0].listens;
    for round in 0..20u8 {
        let noise: Vec<u8> = (0..4096u32).map(|n| (n as u8).wrapping_mul(31) ^ round).collect();
        tell_half(port, &noise);
        tell_half(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        tell_half(port, b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\nabc");
        let bad = post(&cluster, 0, (go, id), &noise);
        assert!(bad.starts_with("HTTP/1.1 400"), "{bad}");
    }
    let stranger = post(&cluster, 0, (go, id ^ 1), &message(&[(1, 8), (2, me), (3, go)]));
    assert!(stranger.starts_with("HTTP/1.1 412"), "{stranger}");
    let gone = post(&cluster, 0, (removed, id), &message(&[(1, 8), (2, me), (3, removed)]));
    // 403 as etcd; only who asks for a stream is told to go.
    assert!(gone.starts_with("HTTP/1.1 403"), "{gone}");
    let stream = format!(
        "GET /raft/stream/msgapp/{removed:x} HTTP/1.1\r\nHost: x\r\nX-Server-From: {removed:x}\r\n\
         X-Server-Version: 3.5.16\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Raft-To: {me:x}\r\n\
         X-Etcd-Cluster-ID: {id:x}\r\n\r\n"
    );
    let gone = tell(port, stream.as_bytes());
    assert!(gone.starts_with("HTTP/1.1 410"), "{gone}");
    // Sixty-four megabytes and more, from a member.
    let huge = vec![0x42; 80 << 20];
    let refused = post(&cluster, 0, (go, id), &huge);
    assert!(!refused.starts_with("HTTP/1.1 2"), "{refused}");
    drop(huge);
    // An index far beyond everything, in this term; it must not be believed.
    let term = cluster.status(0).expect("a status").term;
    for kind in [3, 4, 8, 9] {
        let absurd = [(1, kind), (2, me), (3, go), (4, term), (5, term), (6, u64::MAX), (8, 1)];
        post(&cluster, 0, (go, id), &message(&absurd));
    }
    numbers_and_kinds_that_there_are_not(&cluster, (go, id), term);
    load.wait_for_member(&mut cluster, 0, 50);
    let after = resident_kb(&cluster, 0);
    eprintln!("{before} KB before, {after} KB after");
    assert!(after < before + GROWTH_KB_MAX, "{before} KB before and {after} KB after");
    let log = cluster.nodes[0].log();
    assert!(!log.contains("panicked"), "{}", cluster.nodes[0].log_tail());
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}\n{:#?}", report.line(), report.words);
}

/// Answers every connection of other members with another lie.
fn liar(listener: &TcpListener, of: u64, asked: &AtomicUsize) {
    for socket in listener.incoming() {
        let Ok(mut socket) = socket else { return };
        let n = asked.fetch_add(1, Ordering::Relaxed);
        let mut head = [0; 2048];
        // Whatever was asked.
        let _ = socket.read(&mut head);
        let ok = format!(
            "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: {of:x}\r\nX-Server-Version: 3.5.16\r\n\
             X-Min-Cluster-Version: 3.0.0\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let chunk = |bytes: &[u8]| {
            let mut all = format!("{:x}\r\n", bytes.len()).into_bytes();
            all.extend_from_slice(bytes);
            all.extend_from_slice(b"\r\n");
            all
        };
        let lie: Vec<u8> = match n % 6 {
            0 => b"\xff\xfe\xfd".to_vec(),
            // A frame of 2^62 bytes, on either kind of stream.
            1 => [ok.as_bytes(), &chunk(&[0x40, 0, 0, 0, 0, 0, 0, 0])].concat(),
            2 => [ok.as_bytes(), &chunk(&[0, 0, 0, 0, 0, 0, 0, 2, 0x40, 0, 0, 0, 0, 0, 0, 0])]
                .concat(),
            // Half a frame.
            3 => [ok.as_bytes(), &chunk(&[0, 0, 0, 0, 0, 0, 0, 9, 8, 1])].concat(),
            // Rubbish without an end.
            4 => [ok.as_bytes(), &chunk(&[0xa5; 60_000])].concat(),
            _ => b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n".to_vec(),
        };
        let _ = socket.write_all(&lie);
    }
}

#[test]
fn a_member_that_lies_is_named_and_borne() {
    let _alone = crate::alone();
    let Some(mut cluster) = Plan::new("liar", &[Make::Ours, Make::Go, Make::Ours]).start() else {
        return;
    };
    let load = Load::start(13, &mut cluster, false);
    load.wait_for(&mut cluster, 50);
    let id = cluster_id(&cluster);
    // The Go member goes, and a liar is where it was.
    cluster.move_leader(0);
    load.leave(1);
    cluster.nodes[1].kill();
    let listener = TcpListener::bind(("127.0.0.1", cluster.nodes[1].listens));
    let listener = listener.expect("the port is free again");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || liar(&listener, id, &count));
    let before = resident_kb(&cluster, 0);
    cluster.eventually("many lies", |_| (asked.load(Ordering::Relaxed) > 100).then_some(()));
    load.wait_for_member(&mut cluster, 0, 50);
    let after = resident_kb(&cluster, 0);
    eprintln!("{before} KB before, {after} KB after {} lies", asked.load(Ordering::Relaxed));
    assert!(after < before + GROWTH_KB_MAX, "{before} KB before and {after} KB after");
    let (log, liar) = (cluster.nodes[0].log(), format!("{:x}", cluster.nodes[1].id));
    let named = log.lines().filter(|line| line.contains("\"warn\"") && line.contains(&liar));
    let named: Vec<&str> = named.collect();
    assert!(!named.is_empty(), "the liar is named");
    eprintln!("{}", named[named.len() - 1]);
    assert!(!log.contains("panicked"), "{}", cluster.nodes[0].log_tail());
    let report = load.finish(&mut cluster).unwrap_or_else(|why| panic!("{why}"));
    eprintln!("{}\n{:#?}", report.line(), report.words);
}
