//! What clients send before anybody knows who they are: frames of HTTP/2, of a websocket.
//!
//! The first byte says which, the second how long the pieces are in which they come. What is
//! seen in them does not depend on the pieces.

use mainstay_server::fuzzed;

use crate::Target;
use crate::pieces::Kind;

pub(crate) const TARGET: Target = Target { name: "wire", seeds, run };

const HTTP2: u8 = 0;
/// A bound that mutations can reach.
const MESSAGE_BYTES_MAX: usize = 300;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
    frame.extend(payload);
    frame
}

fn seeds() -> Vec<Vec<u8>> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let headers = b"\x83\x86\x45\x05/a/b/\x41\x12http://member:2379\x5f\x10application/grpc";
    let coded = b"\x83\x86\x41\x86\x9d\x29\xae\xe3\x0c\x50\x40\x02te\x08trailers";
    let http2 = [
        &preface[..],
        &frame(4, 0, &[0, 3, 0, 0, 0, 1]),
        &frame(1, 4, headers),
        &frame(1, 0x2c, &[&[3, 0, 0, 0, 0, 9], &coded[..], &[0, 0, 0]].concat()),
        &frame(9, 4, coded),
        &frame(0, 1, b"\0\0\0\0\x01x"),
        &frame(6, 0, &[1; 8]),
        &frame(8, 0, &[0, 0, 1, 0]),
    ]
    .concat();
    let mask = [9, 8, 7, 6];
    let text = |first: u8, payload: &[u8]| {
        let hidden = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let head = if payload.len() < 126 {
            vec![first, 0x80 | payload.len() as u8]
        } else {
            vec![first, 0xfe, (payload.len() >> 8) as u8, payload.len() as u8]
        };
        head.into_iter().chain(mask).chain(hidden).collect::<Vec<u8>>()
    };
    let long = vec![b'a'; 200];
    let websocket = [
        text(0x81, b"{}"),
        text(0x01, b"{\"a\":"),
        text(0x89, b"ping"),
        text(0x80, b"1}"),
        text(0x82, &long),
        text(0x88, &[3, 232]),
    ]
    .concat();
    vec![[&[HTTP2, 5], &http2[..]].concat(), [&[1, 5], &websocket[..]].concat()]
}

fn run(input: &[u8]) -> u64 {
    let Some((&[which, piece], bytes)) = input.split_first_chunk() else { return 0 };
    let (whole, piece) = (bytes.len().max(1), usize::from(piece).max(1));
    let mut kind = Kind::default();
    kind.add(u64::from(which.min(1)));
    if which == HTTP2 {
        // Names that are cut by the end of a read may stay as they were.
        let (once, pieces) = (fuzzed::http2(bytes, whole), fuzzed::http2(bytes, piece));
        assert_eq!(once.0.len(), bytes.len());
        assert_eq!(once.1, pieces.1, "the same frames are counted");
        kind.add_size(once.0.iter().zip(bytes).filter(|(a, b)| a != b).count());
        kind.add(u64::from(once.1));
    } else {
        let once = fuzzed::websocket(bytes, whole, MESSAGE_BYTES_MAX);
        assert_eq!(once, fuzzed::websocket(bytes, piece, MESSAGE_BYTES_MAX));
        let (frames, end) = once;
        assert!(frames.iter().all(|frame| frame.len() <= MESSAGE_BYTES_MAX));
        kind.add_size(frames.len());
        kind.add(end.map_or(0, u64::from));
    }
    kind.end()
}
