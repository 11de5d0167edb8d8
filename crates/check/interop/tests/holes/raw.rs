//! Bytes on a socket: what no library would send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Kinds of HTTP/2 frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What an HTTP/2 client says first.
pub(crate) fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(kind::SETTINGS, 0, 0, &[])].concat()
}

/// A header field that is spelled out and not remembered.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut out = Vec::new();
        if text.len() < 127 {
            out.push(text.len() as u8);
        } else {
            // RFC 7541, 5.1.
            out.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                out.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            out.push(rest as u8);
        }
        out.extend_from_slice(text.as_bytes());
        out
    };
    [vec![0], text(name), text(value)].concat()
}

/// The header block of a gRPC call to `path`, whatever that is.
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", path),
        field(":authority", "member"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]
    .concat()
}

/// A socket to a member, on which nothing waits for ever.
pub(crate) fn open(endpoint: &str) -> TcpStream {
    let socket = TcpStream::connect(endpoint).expect("it listens");
    let patience = Some(Duration::from_secs(10));
    socket.set_read_timeout(patience).expect("a timeout");
    socket.set_write_timeout(patience).expect("a timeout");
    socket
}

/// Everything that comes until the other end closes, or nothing has come for a time.
pub(crate) fn drain(socket: &mut TcpStream, quiet: Duration) -> Vec<u8> {
    socket.set_read_timeout(Some(quiet)).expect("a timeout");
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = socket.read(&mut piece) {
        all.extend_from_slice(&piece[..count]);
    }
    all
}

/// Whether the other end closes within a time.
pub(crate) fn closes(socket: &mut TcpStream, within: Duration) -> bool {
    let patience = Instant::now() + within;
    let mut piece = [0; 4096];
    loop {
        let left = patience.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        socket.set_read_timeout(Some(left)).expect("a timeout");
        match socket.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                use std::io::ErrorKind::{TimedOut, WouldBlock};
                return !matches!(error.kind(), TimedOut | WouldBlock);
            }
        }
    }
}

/// Sends as much as the other end takes; how many bytes that were.
pub(crate) fn pour(socket: &mut TcpStream, piece: &[u8], times: usize) -> usize {
    (0..times).take_while(|_| socket.write_all(piece).is_ok()).count() * piece.len()
}

/// An HTTP/1.1 request and its whole answer.
pub(crate) fn http(endpoint: &str, head: &str, body: &str) -> String {
    let mut socket = open(endpoint);
    let len = body.len();
    let text = format!("{head}\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n{body}");
    // Refused before all was sent is as good.
    let _ = socket.write_all(text.as_bytes());
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
