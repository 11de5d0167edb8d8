//! Clients that name the server by a URL where HTTP/2 wants a host.
//!
//! etcd's own client up to 3.4 sends, for calls to one member (`endpoint status`,
//! `defrag`), the endpoint as it was given: `:authority: http://127.0.0.1:2379`, or
//! `unix://…`; the client of 3.5.0 sends `#initially=[…]` with every call. Go's server
//! does not look at it. h2 refuses such a request as malformed (RFC 9113, 8.3.1) before
//! we see it. So the header is given another name as it is read: its literal begins
//! with the index of `:authority` in HPACK's static table, and this one byte becomes
//! the index of `host`, which nobody judges. The client's table of headers then says
//! `host` wherever it refers back, and every other byte stays as it is.
//!
//! A client names one server, so the first name that is a proper one ends the search
//! for that connection: what is left is one branch per read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that speaks HTTP/2, from the client's preface on.
pub(crate) struct Forgiving<IO> {
    io: IO,
    sieve: Sieve,
}

impl<IO> Forgiving<IO> {
    pub(crate) fn new(io: IO) -> Forgiving<IO> {
        Forgiving { io, sieve: Sieve::new() }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Forgiving<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.sieve.pass(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Forgiving<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The length of the client's preface (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;
/// The length of a frame's header (RFC 9113, 4.1).
const FRAME_HEADER_BYTES: usize = 9;
/// Types of frames with headers (RFC 9113, 6.2 and 6.10).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// Flags of HEADERS: one byte says how much padding there is; five bytes of priority.
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

/// A literal to be remembered, with the name 1 (`:authority`) or 38 (`host`) of the
/// static table (RFC 7541, 6.2.1 and appendix A). The kinds that are not remembered
/// have no room for 38 in the byte of a 1; no client is known to send them here.
const AUTHORITY: u8 = 0x40 | 1;
const HOST: u8 = 0x40 | 38;

/// Follows what the client sends, in pieces of any size.
pub(super) struct Sieve {
    at: At,
    /// Inside a block of headers.
    item: Item,
    /// This client has sent a URL before.
    sends_urls: bool,
}

/// Where in the stream of frames the next byte lies.
#[derive(Clone, Copy, Debug)]
enum At {
    /// So much is to be passed over, then a frame begins.
    Passing(usize),
    /// In a frame's header, of which so many bytes were seen.
    Header([u8; FRAME_HEADER_BYTES], usize),
    /// At the byte that says how much padding a frame with so many bytes more has.
    Padding { left: usize, flags: u8 },
    /// So many bytes of priority, of headers, of padding.
    Block { priority: usize, headers: usize, padding: usize },
    /// Nothing more is looked for.
    Done,
}

/// Where in a block of headers the next byte lies (RFC 7541, 6).
#[derive(Clone, Copy, Debug)]
enum Item {
    /// At an item's first byte.
    First,
    /// In the rest of an integer; so many strings follow.
    Number { strings: u8 },
    /// At a string's length, the last of so many strings.
    Length { strings: u8 },
    /// In the rest of a string's length.
    LengthRest { strings: u8, length: usize, shift: u32 },
    /// So many bytes of a string are left, then so many strings follow.
    Text { left: usize, strings: u8 },
}

/// What the bytes at hand tell of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Proper,
    Url,
    /// Too few bytes.
    Unknown,
}

/// The search is over for this connection.
struct Over;

impl Sieve {
    pub(super) fn new() -> Sieve {
        Sieve { at: At::Passing(PREFACE_BYTES), item: Item::First, sends_urls: false }
    }

    /// Sees the next bytes of the stream, and changes names in them.
    pub(super) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            if matches!(self.at, At::Done) {
                return;
            }
            let Ok(used) = self.step(bytes) else {
                self.at = At::Done;
                return;
            };
            bytes = &mut bytes[used..];
        }
    }

    /// One part of a frame; how many bytes it took, at least one.
    fn step(&mut self, bytes: &mut [u8]) -> Result<usize, Over> {
        match &mut self.at {
            At::Passing(left) => {
                let used = bytes.len().min(*left);
                *left -= used;
                if *left == 0 {
                    self.at = At::Header([0; FRAME_HEADER_BYTES], 0);
                }
                Ok(used)
            }
            At::Header(header, seen) => {
                let used = bytes.len().min(FRAME_HEADER_BYTES - *seen);
                header[*seen..*seen + used].copy_from_slice(&bytes[..used]);
                *seen += used;
                if *seen == FRAME_HEADER_BYTES {
                    let header = *header;
                    self.frame(header)?;
                }
                Ok(used)
            }
            At::Padding { left, flags } => {
                let (left, flags, padding) = (*left, *flags, usize::from(bytes[0]));
                self.block(left, flags, padding)?;
                Ok(1)
            }
            At::Block { priority: left @ 1.., .. }
            | At::Block { headers: 0, padding: left, .. } => {
                let used = bytes.len().min(*left);
                *left -= used;
                self.end_of_block();
                Ok(used)
            }
            At::Block { headers, .. } => {
                let used = bytes.len().min(*headers);
                *headers -= used;
                self.headers(&mut bytes[..used])?;
                self.end_of_block();
                Ok(used)
            }
            At::Done => Err(Over),
        }
    }

    fn frame(&mut self, header: [u8; FRAME_HEADER_BYTES]) -> Result<(), Over> {
        let [high, middle, low, kind, flags, ..] = header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            HEADERS => {
                self.item = Item::First;
                if flags & PADDED == 0 {
                    return self.block(length, flags, 0);
                }
                let left = length.checked_sub(1).ok_or(Over)?;
                self.at = At::Padding { left, flags };
            }
            CONTINUATION => return self.block(length, 0, 0),
            _ if length == 0 => self.at = At::Header([0; FRAME_HEADER_BYTES], 0),
            _ => self.at = At::Passing(length),
        }
        Ok(())
    }

    /// A frame with headers has so many bytes more. One that says it has less than its
    /// parts need ends the connection, which is not for us to say.
    fn block(&mut self, left: usize, flags: u8, padding: usize) -> Result<(), Over> {
        let priority = if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES };
        let headers = left.checked_sub(priority + padding).ok_or(Over)?;
        self.at = At::Block { priority, headers, padding };
        self.end_of_block();
        Ok(())
    }

    fn end_of_block(&mut self) {
        if matches!(self.at, At::Block { priority: 0, headers: 0, padding: 0 }) {
            self.at = At::Header([0; FRAME_HEADER_BYTES], 0);
        }
    }

    /// A piece of a block of headers.
    fn headers(&mut self, piece: &mut [u8]) -> Result<(), Over> {
        let mut at = 0;
        while at < piece.len() {
            if let Item::Text { left, strings } = self.item {
                let used = left.min(piece.len() - at);
                at += used;
                self.item = text(left - used, strings);
                continue;
            }
            if matches!(self.item, Item::First) && piece[at] == AUTHORITY {
                self.authority(&mut piece[at..])?;
            }
            self.item = self.item.next(piece[at]).ok_or(Over)?;
            at += 1;
        }
        Ok(())
    }

    /// A piece that begins with a name for the server.
    fn authority(&mut self, piece: &mut [u8]) -> Result<(), Over> {
        match judge(&piece[1..]) {
            Verdict::Proper if !self.sends_urls => return Err(Over),
            Verdict::Url => self.sends_urls = true,
            Verdict::Proper => return Ok(()),
            // Cut by the end of a read: it will be what it was before.
            Verdict::Unknown if self.sends_urls => {}
            Verdict::Unknown => return Ok(()),
        }
        piece[0] = HOST;
        Ok(())
    }
}

/// So many bytes of a string are left, then so many strings follow.
fn text(left: usize, strings: u8) -> Item {
    match (left, strings) {
        (0, 0) => Item::First,
        (0, _) => Item::Length { strings },
        _ => Item::Text { left, strings },
    }
}

/// Past an integer, with so many strings to follow.
fn number(rest: bool, strings: u8) -> Item {
    if rest { Item::Number { strings } } else { text(0, strings) }
}

impl Item {
    /// Where the byte after this one lies; `None` when the block makes no sense.
    fn next(self, byte: u8) -> Option<Item> {
        Some(match self {
            Item::First => match byte.leading_zeros() {
                // A name and a value of the table.
                0 => number(byte & 0x7f == 0x7f, 0),
                // A literal; its name is of the table or follows.
                1 => number(byte & 0x3f == 0x3f, if byte & 0x3f == 0 { 2 } else { 1 }),
                // A new size of the table.
                2 => number(byte & 0x1f == 0x1f, 0),
                _ => number(byte & 0xf == 0xf, if byte & 0xf == 0 { 2 } else { 1 }),
            },
            Item::Number { strings } => number(byte & 0x80 != 0, strings),
            Item::Length { strings } => match usize::from(byte & 0x7f) {
                length @ 0x7f => Item::LengthRest { strings, length, shift: 0 },
                length => text(length, strings - 1),
            },
            Item::LengthRest { strings, length, shift } => {
                // Longer than any frame.
                if shift > 21 {
                    return None;
                }
                let length = length + (usize::from(byte & 0x7f) << shift);
                match byte & 0x80 {
                    0 => text(length, strings - 1),
                    _ => Item::LengthRest { strings, length, shift: shift + 7 },
                }
            }
            Item::Text { left, strings } => text(left.checked_sub(1)?, strings),
        })
    }
}

/// How names begin that h2 does not take: plain, and in the code of [`coded`]. Neither
/// `/` nor `#` can be in a name that it takes.
const URLS: [(&str, (u64, u32)); 5] = [
    ("http://", coded("http://")),
    ("https://", coded("https://")),
    ("unix://", coded("unix://")),
    ("unixs://", coded("unixs://")),
    ("#", coded("#")),
];

/// Judges a string that begins with its length.
fn judge(string: &[u8]) -> Verdict {
    let Some((&first, mut value)) = string.split_first() else { return Verdict::Unknown };
    let mut length = usize::from(first & 0x7f);
    if length == 0x7f {
        // The shortest such value is long enough to begin in any of these ways.
        let Some(end) = value.iter().position(|byte| byte & 0x80 == 0) else {
            return Verdict::Unknown;
        };
        value = &value[end + 1..];
        length = usize::MAX;
    }
    let longest = URLS.iter().map(|(plain, _)| plain.len()).max().unwrap_or_default();
    if value.len() < longest.min(length) {
        return Verdict::Unknown;
    }
    let value = &value[..value.len().min(length)];
    let url = if first & 0x80 == 0 {
        URLS.iter().any(|(plain, _)| value.starts_with(plain.as_bytes()))
    } else {
        let mut start = [0; 8];
        let count = value.len().min(start.len());
        start[..count].copy_from_slice(&value[..count]);
        let start = u64::from_be_bytes(start);
        URLS.iter().any(|(_, (bits, count))| start >> (u64::BITS - count) == *bits)
    };
    if url { Verdict::Url } else { Verdict::Proper }
}

/// Text in HPACK's Huffman code (RFC 7541, appendix B): its bits, and how many.
const fn coded(text: &str) -> (u64, u32) {
    let text = text.as_bytes();
    let (mut bits, mut count, mut at) = (0, 0, 0);
    while at < text.len() {
        let (code, length) = match text[at] {
            b's' => (0x8, 5),
            b't' => (0x9, 5),
            b'i' => (0x6, 5),
            b'/' => (0x18, 6),
            b'h' => (0x27, 6),
            b'n' => (0x2a, 6),
            b'p' => (0x2b, 6),
            b'u' => (0x2d, 6),
            b':' => (0x5c, 7),
            b'x' => (0x79, 7),
            b'#' => (0xffa, 12),
            _ => panic!("its code is not in this table"),
        };
        bits = bits << length | code;
        count += length;
        at += 1;
    }
    (bits, count)
}

#[cfg(test)]
mod tests;
