//! Clients that mean harm, byte by byte, with a healthy one beside them.

use std::time::{Duration, Instant};

use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::{EMPTY_FRAMES_AT_ONCE, HEADER_BYTES_MAX};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Client, get, run};
use super::fake::{Running, local};
use crate::server::ServerConfig;

const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn is_served(client: &Client) {
    let _: pb::StatusResponse = client.call(STATUS, &pb::StatusRequest {}).await.ok();
}

async fn open(address: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket.write_all(OPENING).await.expect("sent");
    socket
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let mut frame = vec![high, middle, low, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a call.
fn headers() -> Vec<u8> {
    let mut headers = b"\x83\x86\x45\x20/etcdserverpb.Maintenance/Status\x41\x06member".to_vec();
    headers.extend(b"\x5f\x10application/grpc\x40\x02te\x08trailers");
    headers
}

/// Says the same again and again, until the server ends the connection; what came from it.
async fn until_ended(mut socket: TcpStream, text: &[u8], most: usize) -> Vec<u8> {
    let (mut from, mut to) = socket.split();
    let mut heard = Vec::new();
    let say = async {
        for _ in 0..most {
            if to.write_all(text).await.is_err() {
                return;
            }
        }
        panic!("it bears {most} of {} bytes", text.len());
    };
    let hear = async {
        // Bytes that it did not read reset the connection.
        let _ = from.read_to_end(&mut heard).await;
    };
    tokio::select! {
        () = say => {}
        () = hear => {}
    }
    heard
}

#[test]
fn floods_of_empty_frames_end_their_connection_and_no_other() {
    let server = Running::start(ServerConfig { shards: 1, ..local() });
    run(async {
        let healthy = Client::connect(&server.address()).await;
        // Far more than lies in the buffers of sockets.
        let most = 1_000 * EMPTY_FRAMES_AT_ONCE as usize / 100;
        for each in [
            frame(6, 0, 0, &[1; 8]),
            frame(4, 0, 0, &[]),
            frame(2, 0, 3, &[0, 0, 0, 0, 1]),
            frame(0xbb, 0, 0, &[]),
        ] {
            let socket = open(&server.address()).await;
            until_ended(socket, &each.repeat(100), most).await;
            is_served(&healthy).await;
        }
    });
}

#[test]
fn headers_without_end_end_their_connection() {
    let server = Running::start(ServerConfig { shards: 1, ..local() });
    run(async {
        let healthy = Client::connect(&server.address()).await;
        let mut socket = open(&server.address()).await;
        socket.write_all(&frame(1, 0, 1, &headers())).await.expect("sent");
        let mut field = vec![0, 1, b'x', 100];
        field.extend([b'v'; 100]);
        let more = frame(9, 0, 1, &field.repeat(150));
        until_ended(socket, &more, 2_000).await;
        // One of HTTP/1 is told so.
        let mut socket = TcpStream::connect(server.address()).await.expect("it listens");
        let long = format!("GET /health HTTP/1.1\r\nx: {}", "a".repeat(2 * HEADER_BYTES_MAX));
        let _ = socket.write_all(long.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        is_served(&healthy).await;
    });
}

#[test]
fn calls_that_are_reset_at_once_end_their_connection() {
    let server = Running::start(ServerConfig { shards: 1, ..local() });
    run(async {
        let healthy = Client::connect(&server.address()).await;
        let mut socket = open(&server.address()).await;
        let mut calls = Vec::new();
        for n in 0..1_000 {
            calls.extend(frame(1, 4, 2 * n + 1, &headers()));
            calls.extend(frame(3, 0, 2 * n + 1, &[0, 0, 0, 8]));
        }
        let _ = socket.write_all(&calls).await;
        let mut heard = Vec::new();
        let _ = socket.read_to_end(&mut heard).await;
        // GOAWAY, ENHANCE_YOUR_CALM, and why.
        let text = b"too_many_resets";
        assert!(heard.windows(text.len()).any(|seen| seen == text), "{heard:?}");
        is_served(&healthy).await;
    });
}

#[test]
fn a_crowd_that_says_nothing_makes_room() {
    // Two may stand in the lobby.
    let server = Running::start(ServerConfig { max_connections: Some(5), shards: 1, ..local() });
    run(async {
        let healthy = Client::connect(&server.address()).await;
        is_served(&healthy).await;
        let mut crowd = Vec::new();
        for n in 0..6 {
            let mut socket = TcpStream::connect(server.address()).await.expect("it is queued");
            // Some say half a word.
            socket.write_all(&b"PRI * H"[..n]).await.expect("sent");
            crowd.push(socket);
        }
        // Each of those before it has a second.
        let begun = Instant::now();
        assert_eq!(get(&server.address(), "/health").await.0, 200);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        is_served(&healthy).await;
        let mut byte = [0];
        assert_eq!(crowd[0].read(&mut byte).await.unwrap_or(0), 0, "it was sent away");
    });
}

#[test]
fn who_has_made_a_call_is_not_sent_away() {
    let server = Running::start(ServerConfig { max_connections: Some(8), shards: 1, ..local() });
    run(async {
        let mut known = Vec::new();
        for _ in 0..3 {
            let client = Client::connect(&server.address()).await;
            is_served(&client).await;
            known.push(client);
        }
        let mut crowd = Vec::new();
        for _ in 0..6 {
            crowd.push(TcpStream::connect(server.address()).await.expect("it is queued"));
        }
        assert_eq!(get(&server.address(), "/health").await.0, 200);
        for client in &known {
            is_served(client).await;
        }
    });
}
