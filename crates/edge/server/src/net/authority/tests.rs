//! Names are found wherever they are, and nothing else changes.

use super::*;

/// What etcdctl 3.4.23 sends for `endpoint status` of `http://127.0.0.1:23790`, up to
/// the end of its first request.
const OF_3_4: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x00\x04\x01\x00\x00\x00\x00\
    \x00\x00\x77\x01\x04\x00\x00\x00\x01\
    \x83\x86\x45\x97\x60\xa9\x24\x88\x2d\x9d\xcb\x65\x71\xaf\xa0\x66\xa9\x25\xa8\x75\x10\xac\x6e\x48\xd3\x6a\x3f\
    \x41\x90\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f\x07\
    \x5f\x8b\x1d\x75\xd0\x62\x0d\x26\x3d\x4c\x4d\x65\x64\
    \x7a\x8b\x9a\xca\xc8\xb4\xc7\x60\x2b\xb2\xca\xec\xff\
    \x40\x02\x74\x65\x86\x4d\x83\x35\x05\xb1\x1f\
    \x40\x89\x9a\xca\xc8\xb2\x4d\x49\x4f\x6a\x7f\x86\x69\xf7\xdd\x71\xe0\xdb\
    \x40\x8d\x25\x06\x2d\x49\x58\x75\x99\x6e\xe5\xb1\x06\x3d\x5f\x03\x33\x2e\x34\
    \x00\x00\x05\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00";

/// Where in it the name of the server begins.
const NAMED_AT: usize = 24 + 3 * 9 + 27;

/// The same names, as clients were seen to send them: each with its length.
const CODED: [(&[u8], Verdict); 5] = [
    (b"\x90\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f\x07", Verdict::Url),
    (b"\x90\xb6\xa3\x79\xb8\xc3\x14\x1c\x83\xa2\x73\xa1\x37\x04\xcb\xaf\x87", Verdict::Url),
    (b"\x8b\x08\x9d\x5c\x0b\x81\x70\xdc\x13\x2e\xbe\x0f", Verdict::Proper),
    (b"\x8b\xa0\xe4\x1d\x13\x9d\x09\xb8\x26\x5d\x7c\x3f", Verdict::Proper),
    // The client of 3.5.0.
    (
        b"\x97\xff\xa3\x54\x64\x98\x74\x51\xea\x0f\xfd\x84\x4e\xae\x05\xc0\xb8\x6e\x09\x97\x5f\x07\xff\x3f",
        Verdict::Url,
    ),
];

/// What comes out when these pieces go in, one after another.
fn passed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut sieve = Sieve::new();
    let mut out = Vec::new();
    for piece in pieces {
        let from = out.len();
        out.extend_from_slice(piece);
        sieve.pass(&mut out[from..]);
    }
    out
}

fn with_host(bytes: &[u8], at: &[usize]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in at {
        assert_eq!(bytes[*at], AUTHORITY);
        bytes[*at] = HOST;
    }
    bytes
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    frame.extend_from_slice(payload);
    frame
}

fn preface() -> Vec<u8> {
    OF_3_4[..PREFACE_BYTES].to_vec()
}

/// Any numbers, the same in every run (Knuth's MMIX constants).
struct Any(u64);

impl Any {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256).to_be_bytes()[7]).collect()
    }

    fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(1 + self.below(bytes.len().min(40)));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }

    /// A string of this kind with its length, plain or (when it is no name) as if coded.
    fn string(&mut self, count: usize) -> Vec<u8> {
        let huffman = if self.below(2) == 0 { 0 } else { 0x80 };
        let mut string = integer(huffman, 7, count);
        string.extend(self.bytes(count));
        string
    }

    /// Any item but a name of the server.
    fn item(&mut self) -> Vec<u8> {
        let index = 2 + self.below(300);
        let most = if self.below(9) == 0 { 700 } else { 20 };
        let count = self.below(most);
        match self.below(5) {
            0 => integer(0x80, 7, index),
            1 => integer(0x20, 5, index),
            2 => [integer(0x40, 6, index), self.string(count)].concat(),
            3 => [integer(0, 4, index), self.string(count)].concat(),
            _ => [vec![0x40], self.string(count % 50), self.string(count)].concat(),
        }
    }
}

/// An integer behind a prefix of so many bits (RFC 7541, 5.1).
fn integer(pattern: u8, bits: u32, value: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    let byte = |value: usize| value.to_be_bytes()[7];
    if value < most {
        return vec![pattern | byte(value)];
    }
    let mut rest = value - most;
    let mut bytes = vec![pattern | byte(most)];
    while rest >= 0x80 {
        bytes.push(byte(rest) | 0x80);
        rest >>= 7;
    }
    bytes.push(byte(rest));
    bytes
}

#[test]
fn a_url_is_sent_as_host() {
    assert_eq!(passed([OF_3_4]), with_host(OF_3_4, &[NAMED_AT]));
}

#[test]
fn names_are_judged_as_soon_as_they_can_be() {
    for (string, verdict) in CODED {
        assert_eq!(judge(string), verdict, "{string:x?}");
        assert_eq!(judge(&string[..8]), Verdict::Unknown, "{string:x?}");
        assert_eq!(judge(&string[..9]), verdict, "{string:x?}");
    }
    let plain = [
        ("http://m:2379", Verdict::Url),
        ("https://m", Verdict::Url),
        ("unix://m", Verdict::Url),
        ("unixs://m", Verdict::Url),
        ("#initially=[m]", Verdict::Url),
        ("#", Verdict::Url),
        ("http:/", Verdict::Proper),
        ("http:2379", Verdict::Proper),
        ("m", Verdict::Proper),
        ("", Verdict::Proper),
    ];
    for (name, verdict) in plain {
        let string = [integer(0, 7, name.len()), name.into()].concat();
        assert_eq!(judge(&string), verdict, "{name}");
        let long = [integer(0, 7, 200), name.into(), vec![b'a'; 200 - name.len()]].concat();
        let begins = if name.len() < 7 { Verdict::Proper } else { verdict };
        assert_eq!(judge(&long), if name == "#" { Verdict::Url } else { begins }, "{name}");
    }
    for unknown in [&b""[..], b"\x90", b"\x7f", b"\x7f\xff\xff", b"\x7f\x01http:/"] {
        assert_eq!(judge(unknown), Verdict::Unknown, "{unknown:x?}");
    }
    // The codes that no client was seen to send here, against the RFC's table by hand.
    assert_eq!(coded("https://"), (0x9d29_ad17_1860 >> 2, 46));
    assert_eq!(
        coded("unixs://"),
        (0b1011_0110_1010_0011_0111_1001_0100_0101_1100_0110_0001_1000, 48)
    );
}

#[test]
fn what_is_renamed_is_what_h2_refuses() {
    // h2 asks this type.
    let refused = |name: &str| http::uri::Authority::try_from(name).is_err();
    for (beginning, _) in URLS {
        assert!(refused(&format!("{beginning}127.0.0.1:2379")), "{beginning}");
    }
    for name in ["127.0.0.1:2379", "[::1]:2379", "localhost", "http:2379", "m-1.etcd.svc"] {
        assert!(!refused(name), "{name}");
    }
}

#[test]
fn a_request_cut_anywhere_changes_as_a_whole_or_not() {
    let changed = with_host(OF_3_4, &[NAMED_AT]);
    for cut in 0..OF_3_4.len() {
        let (first, second) = OF_3_4.split_at(cut);
        // Cut behind the name's first byte and before its beginning is told.
        let lost = (NAMED_AT + 1..NAMED_AT + 10).contains(&cut);
        let wanted = if lost { OF_3_4 } else { &changed };
        assert_eq!(passed([first, second]), wanted, "cut at {cut}");
    }
    let single = OF_3_4.chunks(1);
    assert_eq!(passed(single), OF_3_4, "never seen as a whole");
}

#[test]
fn a_client_known_for_urls_may_be_cut_anywhere() {
    let headers = &OF_3_4[PREFACE_BYTES + 18..OF_3_4.len() - 14];
    let mut stream = OF_3_4.to_vec();
    let mut named = vec![NAMED_AT];
    for _ in 0..20 {
        named.push(stream.len() + NAMED_AT - PREFACE_BYTES - 18);
        stream.extend_from_slice(headers);
        // Bytes that look like a name, where none can be.
        stream.extend(frame(0, 0, b"\x41\x90\x9d\x29\xae\xe3\x0c\x04\x4e\xae\x05\xc0"));
    }
    let wanted = with_host(&stream, &named);
    for size in 1..40 {
        let (first, rest) = stream.split_at(OF_3_4.len());
        assert_eq!(passed([first].into_iter().chain(rest.chunks(size))), wanted, "by {size}");
    }
}

#[test]
fn a_proper_name_ends_the_search() {
    let proper = [&b"\x41"[..], CODED[2].0].concat();
    let url = [&b"\x41"[..], CODED[0].0].concat();
    let mut stream = preface();
    stream.extend(frame(HEADERS, 4, &proper));
    stream.extend(frame(HEADERS, 4, &url));
    assert_eq!(passed([&stream[..]]), stream);
    // After a URL it does not: such a client is not one that names one server.
    let mut stream = preface();
    let mut named = Vec::new();
    for name in [&url, &proper, &url] {
        if name == &url {
            named.push(stream.len() + FRAME_HEADER_BYTES);
        }
        stream.extend(frame(HEADERS, 4, name));
    }
    assert_eq!(passed([&stream[..]]), with_host(&stream, &named));
}

#[test]
fn padding_priority_and_continuations_are_no_headers() {
    let url = [&b"\x41"[..], CODED[0].0].concat();
    let mut stream = preface();
    let mut named = Vec::new();
    for flags in [0, PADDED, PRIORITY, PADDED | PRIORITY] {
        let mut payload = Vec::new();
        if flags & PADDED != 0 {
            payload.push(18);
        }
        if flags & PRIORITY != 0 {
            payload.extend(b"\x41\x84#\x41\x84");
        }
        // A header's name goes on in the next frame.
        payload.extend(b"\x83\x40\x03a");
        if flags & PADDED != 0 {
            payload.extend(&url);
        }
        stream.extend(frame(HEADERS, flags, &payload));
        let rest = [&b"bc\x01d"[..], &url].concat();
        named.push(stream.len() + FRAME_HEADER_BYTES + 4);
        stream.extend(frame(CONTINUATION, 0, &rest));
    }
    assert_eq!(passed([&stream[..]]), with_host(&stream, &named));
}

#[test]
fn any_headers_come_through_and_every_url_is_found() {
    let mut any = Any(1);
    for _ in 0..500 {
        let mut stream = OF_3_4.to_vec();
        let mut named = vec![NAMED_AT];
        for _ in 0..any.below(6) {
            let mut block = Vec::new();
            let mut names = Vec::new();
            for _ in 0..any.below(8) {
                if any.below(4) == 0 {
                    names.push(block.len());
                    block.extend([&b"\x41"[..], CODED[any.below(2)].0].concat());
                } else {
                    block.extend(any.item());
                }
            }
            named.extend(names.iter().map(|at| at + stream.len() + FRAME_HEADER_BYTES));
            stream.extend(frame(HEADERS, 4, &block));
            let size = any.below(50);
            stream.extend(frame([0, 4, 6, 8][any.below(4)], 0xff, &any.bytes(size)));
        }
        let (first, rest) = stream.split_at(OF_3_4.len());
        let pieces = [vec![first], any.pieces(rest)].concat();
        assert_eq!(passed(pieces), with_host(&stream, &named));
    }
}

#[test]
fn any_bytes_pass_and_only_names_change() {
    let mut any = Any(2);
    for round in 0..4000 {
        let mut stream = preface();
        for _ in 0..any.below(5) {
            let size = any.below(120);
            let mut bytes = any.bytes(size);
            // Half of the time something that begins like headers.
            if any.below(2) == 0 {
                bytes = frame(
                    if any.below(4) == 0 { 9 } else { 1 },
                    bytes.len().to_be_bytes()[7],
                    &bytes,
                );
                let at = any.below(bytes.len() + 1);
                bytes.splice(at..at, *b"\x41\x90\x9d\x29\xae\xe3\x0c\x04");
            }
            stream.extend(bytes);
        }
        for pieces in [vec![&stream[..]], any.pieces(&stream), stream.chunks(1).collect()] {
            let out = passed(pieces);
            assert_eq!(out.len(), stream.len());
            for (before, after) in stream.iter().zip(&out) {
                let named = (*before, *after) == (AUTHORITY, HOST);
                assert!(before == after || named, "round {round}: {stream:x?}");
            }
        }
    }
}
