//! What a client without credentials can make a member hold, or do.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mainstay_interop::Kind;
use mainstay_proto::etcdserverpb as pb;

use super::note;
use crate::Holes;
use crate::client::{framed, put, talk};
use crate::raw::{self, END_HEADERS, END_STREAM, frame, kind as frames};
use crate::world::World;

/// How much a member may grow before anybody has said who they are.
const GROWTH_MAX: u64 = 64 << 20;
/// A healthy client is answered within this, whatever others do.
const SOON: Duration = Duration::from_secs(20);
/// A connection that says nothing is closed within this.
const PATIENCE: Duration = Duration::from_secs(60);

fn grown(world: &World, before: u64, what: &str) -> Option<String> {
    let grown = world.rss_peak().saturating_sub(before);
    (grown > GROWTH_MAX).then(|| format!("{what}: memory grows by {} MiB", grown >> 20))
}

pub(crate) fn half_open(kind: Kind) -> Holes {
    let plain = World::open(kind, "half-open", &[]);
    let secured = super::tls::guarded(kind, "half-handshake");
    let plain_end = plain.member.endpoint();
    let starts: [(&str, &str, &[u8]); 6] = [
        ("a TLS port, nothing", &secured.endpoint, b""),
        ("a TLS port, half a hello", &secured.endpoint, b"\x16\x03\x01\x02\x00\x01"),
        ("a plain port, nothing", &plain_end, b""),
        ("half a header", &plain_end, b"GET /health HTTP/1.1\r\nHost: a\r\nX-A:"),
        (
            "half a body",
            &plain_end,
            b"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
        ),
        ("half of HTTP/2's preface", &plain_end, b"PRI * HTTP/2.0\r\n\r\n"),
    ];
    let sockets: Vec<(&str, TcpStream)> = starts
        .iter()
        .map(|(what, endpoint, bytes)| {
            let mut socket = raw::open(endpoint);
            socket.write_all(bytes).expect("sent");
            (*what, socket)
        })
        .collect();
    let begun = Instant::now();
    let mut holes = Vec::new();
    for (what, mut socket) in sockets {
        let left = PATIENCE.saturating_sub(begun.elapsed()).max(Duration::from_millis(100));
        let is_closed = raw::closes(&mut socket, left);
        note(&mut holes, !is_closed, || format!("{what}: open after {PATIENCE:?}"));
    }
    holes
}

/// Bodies that no request can have, by the gateway and by gRPC.
pub(crate) fn bodies(kind: Kind) -> Holes {
    let world = World::guarded(kind, "bodies", &[]);
    let mut holes = Vec::new();
    let endpoint = world.member.endpoint();
    let before = world.rss();
    const SIZE: usize = 128 << 20;
    let piece = vec![b'A'; 1 << 20];
    let mut socket = raw::open(&endpoint);
    let head = format!(
        "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n{{\"value\":\""
    );
    socket.write_all(head.as_bytes()).expect("sent");
    raw::pour(&mut socket, &piece, SIZE >> 20);
    raw::drain(&mut socket, Duration::from_secs(1));
    holes.extend(grown(&world, before, "128 MiB of JSON"));
    let before = world.rss_peak().max(before);
    let mut socket = raw::open(&endpoint);
    let head = "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).expect("sent");
    let chunk = [b"100000\r\n", &piece[..], b"\r\n"].concat();
    raw::pour(&mut socket, &chunk, SIZE >> 20);
    raw::drain(&mut socket, Duration::from_secs(1));
    holes.extend(grown(&world, before, "128 MiB in chunks"));
    holes.extend(world.lives("after large bodies", SOON));
    holes
}

/// Frames that cost the sender little.
pub(crate) fn floods(kind: Kind) -> Holes {
    let mut holes = Vec::new();
    let headers = raw::call_headers("/etcdserverpb.KV/Range");
    let resets = |from: u32| -> Vec<u8> {
        let one = |n: u32| {
            let stream = from + 2 * n;
            [
                frame(frames::HEADERS, END_HEADERS, stream, &headers),
                frame(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
            .concat()
        };
        (0..1000).flat_map(one).collect()
    };
    let field = raw::field("x", &"y".repeat(16_000));
    let unending = frame(frames::CONTINUATION, 0, 1, &field);
    let ping = frame(frames::PING, 0, 0, &[7; 8]).repeat(1000);
    let settings = frame(frames::SETTINGS, 0, 0, &[0, 1, 0, 0, 16, 0]).repeat(1000);
    let first = frame(frames::HEADERS, 0, 1, &headers);
    for (what, begin, piece) in [
        ("rapid resets", Vec::new(), None),
        ("headers without end", first, Some(unending)),
        ("pings", Vec::new(), Some(ping)),
        ("settings", Vec::new(), Some(settings)),
    ] {
        let world = World::open(kind, "floods", &[]);
        let before = world.rss();
        let mut socket = raw::open(&world.member.endpoint());
        socket.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        socket.write_all(&[raw::preface(), begin].concat()).expect("sent");
        match piece {
            // Streams have numbers of their own.
            None => {
                let all = (0..100_u32).map(|n| resets(1 + n * 2000));
                all.take_while(|piece| socket.write_all(piece).is_ok()).for_each(drop);
            }
            Some(piece) => drop(raw::pour(&mut socket, &piece, 2000)),
        }
        holes.extend(world.lives(what, SOON));
        holes.extend(grown(&world, before, what));
    }
    holes
}

/// Twenty thousand leases that end in the same second.
pub(crate) fn leases(kind: Kind) -> Holes {
    const LEASES: usize = 20_000;
    let world = World::open(kind, "many-leases", &[]);
    talk(async {
        let mut holes = Vec::new();
        let client = world.client().await;
        let mut granting = tokio::task::JoinSet::new();
        for n in 0..LEASES {
            let client = client.clone();
            granting.spawn(async move {
                let grant = pb::LeaseGrantRequest { ttl: 5, id: 1000 + n as i64 };
                client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await.done()
            });
            if granting.len() >= 64 {
                assert!(granting.join_next().await.expect("one").expect("no panic"), "granted");
            }
        }
        while granting.join_next().await.is_some() {}
        let mut worst = Duration::ZERO;
        let patience = Instant::now() + Duration::from_secs(90);
        loop {
            let begun = Instant::now();
            assert!(client.put("k", "v").await.done());
            worst = worst.max(begun.elapsed());
            let list = pb::LeaseLeasesRequest {};
            let left: pb::LeaseLeasesResponse =
                client.ask("/etcdserverpb.Lease/LeaseLeases", &list).await;
            if left.leases.is_empty() {
                break;
            }
            if Instant::now() > patience {
                holes.push(format!("{} leases are left after 90 s", left.leases.len()));
                break;
            }
        }
        note(&mut holes, worst > SOON, || format!("a put takes {worst:?} meanwhile"));
        holes
    })
}

/// Fills a member with so many MiB.
fn fill(world: &World, mib: usize) {
    talk(async {
        let client = world.client().await;
        let value = "v".repeat(1 << 20);
        for n in 0..mib {
            assert!(client.put(&format!("big{n:04}"), &value).await.done());
        }
    });
}

/// Sends a call and reads nothing of its answer: the windows stay open.
fn ask_and_wait(endpoint: &str, path: &str, message: &[u8]) -> TcpStream {
    let mut socket = raw::open(endpoint);
    // As much as there is, of every stream and of the connection.
    let window = [0, 4, 0x7f, 0xff, 0xff, 0xff];
    let more = frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    let hello = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(frames::SETTINGS, 0, 0, &window),
        more,
        frame(frames::HEADERS, END_HEADERS, 1, &raw::call_headers(path)),
        frame(frames::DATA, END_STREAM, 1, &framed(message)),
    ];
    socket.write_all(&hello.concat()).expect("sent");
    socket
}

/// Ten clients ask for the whole store and read nothing.
pub(crate) fn readers(kind: Kind) -> Holes {
    use mainstay_proto::Message as _;
    const MIB: usize = 48;
    let world = World::open(kind, "readers", &[]);
    fill(&world, MIB);
    let before = world.rss();
    let all = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    let all = all.encode_to_vec();
    let endpoint = world.member.endpoint();
    let ask = |_| ask_and_wait(&endpoint, "/etcdserverpb.KV/Range", &all);
    let sockets: Vec<TcpStream> = (0..10).map(ask).collect();
    let mut holes = Vec::new();
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        holes.extend(world.lives("while ten clients read nothing", SOON));
    }
    let grown = world.rss_peak().saturating_sub(before) >> 20;
    // One copy for each of them would be ten times the store.
    note(&mut holes, grown as usize > 10 * MIB * 5 / 4, || {
        format!("ten answers of {MIB} MiB that nobody reads: memory grows by {grown} MiB")
    });
    drop(sockets);
    holes
}

/// A message that says that it is long, and one that grows when it is unpacked.
pub(crate) fn lies(kind: Kind) -> Holes {
    let world = World::open(kind, "lies", &[]);
    let before = world.rss();
    let endpoint = world.member.endpoint();
    let mut holes = Vec::new();
    let headers = raw::call_headers("/etcdserverpb.KV/Put");
    for (what, prefix) in [
        ("four GiB", [0, 0xff, 0xff, 0xff, 0xff]),
        ("two GiB", [0, 0x7f, 0xff, 0xff, 0xff]),
        ("compressed, four GiB", [1, 0xff, 0xff, 0xff, 0xff]),
        ("of no kind", [9, 0, 0, 0, 1]),
    ] {
        let sockets: Vec<TcpStream> = (0..50)
            .map(|_| {
                let mut socket = raw::open(&endpoint);
                let hello = [
                    raw::preface(),
                    frame(frames::HEADERS, END_HEADERS, 1, &headers),
                    frame(frames::DATA, 0, 1, &prefix),
                ];
                socket.write_all(&hello.concat()).expect("sent");
                socket
            })
            .collect();
        holes.extend(world.lives(what, SOON));
        drop(sockets);
    }
    bomb(&endpoint);
    holes.extend(world.lives("after a bomb", SOON));
    holes.extend(grown(&world, before, "lengths that lie"));
    holes
}

/// A gzip stream of zeros as a message: some kilobytes, unpacked 48 MiB. Thirty of them.
fn bomb(endpoint: &str) {
    let packed = std::process::Command::new("sh")
        .args(["-c", "head -c 50331648 /dev/zero | gzip -9"])
        .output();
    let packed = packed.expect("a shell").stdout;
    assert!((10_000..60_000).contains(&packed.len()), "gzip has packed it: {}", packed.len());
    let mut headers = raw::call_headers("/etcdserverpb.KV/Put");
    headers.extend(raw::field("grpc-encoding", "gzip"));
    let mut body = framed(&packed);
    body[0] = 1;
    let mut hello = [raw::preface(), frame(frames::HEADERS, END_HEADERS, 1, &headers)].concat();
    for piece in body.chunks(16_000) {
        hello.extend(frame(frames::DATA, 0, 1, piece));
    }
    let sockets: Vec<TcpStream> = (0..30)
        .map(|_| {
            let mut socket = raw::open(endpoint);
            // Refused before all was sent is as good.
            let _ = socket.write_all(&hello);
            socket
        })
        .collect();
    for mut socket in sockets {
        raw::drain(&mut socket, Duration::from_millis(50));
    }
}

/// A snapshot whose reader has gone to sleep.
pub(crate) fn snapshot(kind: Kind) -> Holes {
    const MIB: usize = 64;
    let world = World::open(kind, "slow-snapshot", &[]);
    fill(&world, MIB);
    let before = world.rss();
    let endpoint = world.member.endpoint();
    let path = "/etcdserverpb.Maintenance/Snapshot";
    let sockets: Vec<TcpStream> = (0..10).map(|_| ask_and_wait(&endpoint, path, &[])).collect();
    let mut holes = Vec::new();
    talk(async {
        let client = world.client().await;
        for n in 0..200 {
            let answer = client.call("/etcdserverpb.KV/Put", &put("k", &n.to_string())).await;
            assert!(answer.done(), "it writes meanwhile: {answer:?}");
        }
    });
    holes.extend(grown(&world, before, "ten snapshots that nobody reads"));
    drop(sockets);
    holes.extend(world.lives("afterwards", SOON));
    holes
}
