//! Calls of the gateway over a websocket.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{PATIENCE, eventually, run};
use super::fake::{Running, local};
use super::real::Member;
use mainstay_driver::Options;

/// The key and answer of RFC 6455's own example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct Socket(TcpStream);

impl Socket {
    /// Asks for a websocket; the head of the answer.
    async fn ask(address: &str, path: &str, headers: &str) -> (Socket, String) {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: m\r\nconnection: keep-alive, Upgrade\r\n\
             upgrade: WebSocket\r\nsec-websocket-key: {KEY}\r\n{headers}\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.expect("the server answers"));
        }
        (Socket(socket), String::from_utf8(head).expect("ASCII").to_ascii_lowercase())
    }

    async fn open(address: &str, path: &str) -> Socket {
        let (socket, head) = Socket::ask(address, path, "sec-websocket-version: 13\r\n").await;
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains(&format!("sec-websocket-accept: {ACCEPT}").to_lowercase()), "{head}");
        socket
    }

    async fn send(&mut self, first: u8, payload: &[u8]) {
        let mask = [9, 8, 7, 6];
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).await.expect("sent");
    }

    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let first = self.0.read_u8().await.expect("a frame comes");
        let len = match self.0.read_u8().await.expect("its length") {
            126 => usize::from(self.0.read_u16().await.expect("its length")),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).await.expect("the frame is whole");
        (first, payload)
    }

    async fn json(&mut self) -> Value {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x81, "a text in one frame: {payload:?}");
        assert!(!payload.ends_with(b"\n"));
        serde_json::from_slice(&payload).expect("JSON")
    }

    async fn ends(&mut self) -> bool {
        let mut rest = [0; 1];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut rest)).await;
        matches!(read.expect("the server closes"), Ok(0) | Err(_))
    }
}

fn real(name: &str) -> Member {
    Member::start_with(name, Options::default(), local())
}

#[test]
fn a_watch_over_a_websocket() {
    let member = real("websocket-watch");
    run(async {
        let mut socket = Socket::open(&member.address, "/v3/watch?method=GET").await;
        socket.send(0x81, br#"{"create_request":{"key":"YQ=="}}"#).await;
        let created = socket.json().await;
        assert_eq!(created["result"]["created"], true);
        // In pieces, with a ping between.
        socket.send(0x01, br#"{"create_request":"#).await;
        socket.send(0x89, b"are you there").await;
        assert_eq!(socket.frame().await, (0x8a, b"are you there".to_vec()));
        socket.send(0x80, br#"{"key":"Yg=="}}"#).await;
        assert_eq!(socket.json().await["result"]["watch_id"], "1");
        socket.send(0x81, br#"{"cancel_request":{"watch_id":"1"}}"#).await;
        assert_eq!(socket.json().await["result"]["canceled"], true);
        socket.send(0x88, &1000u16.to_be_bytes()).await;
        assert_eq!(socket.frame().await, (0x88, 1000u16.to_be_bytes().to_vec()));
        assert!(socket.ends().await);
    });
}

#[test]
fn other_calls_over_a_websocket() {
    let member = real("websocket-calls");
    run(async {
        let closed = (0x88, 1000u16.to_be_bytes().to_vec());
        let mut put = Socket::open(&member.address, "/v3/kv/put").await;
        put.send(0x81, br#"{"key":"YQ=="}"#).await;
        assert_eq!(put.json().await["header"]["revision"], "2");
        assert_eq!(put.frame().await, closed);
        let mut alive = Socket::open(&member.address, "/v3/lease/keepalive").await;
        for _ in 0..2 {
            alive.send(0x82, br#"{"ID":"7"}"#).await;
            assert_eq!(alive.json().await["result"]["ID"], "7");
        }
        let mut nowhere = Socket::open(&member.address, "/v3/nowhere").await;
        assert_eq!(nowhere.json().await, json!({ "code": 5, "message": "Not Found" }));
        assert_eq!(nowhere.frame().await, closed);
        let mut snapshot = Socket::open(&member.address, "/v3/maintenance/snapshot").await;
        snapshot.send(0x81, b"{}").await;
        assert!(snapshot.json().await["result"]["blob"].is_string());
    });
}

#[test]
fn handshakes_that_are_none_are_refused() {
    let server = Running::plain();
    run(async {
        for headers in ["", "sec-websocket-version: 12\r\n"] {
            let (_, head) = Socket::ask(&server.address(), "/v3/watch", headers).await;
            assert!(head.starts_with("http/1.1 400"), "{head}");
            assert!(head.contains("sec-websocket-version: 13"), "{head}");
        }
        let bearer = "sec-websocket-version: 13\r\nsec-websocket-protocol: Bearer, token\r\n";
        let (_, head) = Socket::ask(&server.address(), "/v3/watch", bearer).await;
        assert!(head.contains("sec-websocket-protocol: bearer\r\n"), "{head}");
        let (_, head) =
            Socket::ask(&server.address(), "/health", "sec-websocket-version: 13\r\n").await;
        assert!(head.starts_with("http/1.1 200"), "only the gateway speaks it: {head}");
    });
}

#[test]
fn frames_that_mean_harm_end_the_session() {
    let server = Running::plain();
    run(async {
        for (frame, code) in [
            (&b"\x81\x05hello"[..], 1002u16),
            (b"\xc1\x80\0\0\0\0", 1002),
            (b"\x80\x80\0\0\0\0", 1002),
            (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009),
        ] {
            let mut socket = Socket::open(&server.address(), "/v3/watch").await;
            socket.0.write_all(frame).await.expect("sent");
            assert_eq!(socket.frame().await, (0x88, code.to_be_bytes().to_vec()));
            assert!(socket.ends().await);
        }
        let mut socket = Socket::open(&server.address(), "/v3/kv/put").await;
        socket.send(0x81, br#"{"key":"aGFuZw=="}"#).await;
        eventually(|| server.member.hung() == 1).await;
        drop(socket);
        eventually(|| server.member.hung() == 0).await;
    });
}
