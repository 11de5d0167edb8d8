//! What a connection sends, counted: its bytes while it stands in the lobby, and for as long
//! as it lives the frames of HTTP/2 that carry nothing.
//!
//! A frame without a load costs its sender nothing and us a turn, an answer or a place in a
//! queue: PING, SETTINGS, PRIORITY, RST_STREAM, WINDOW_UPDATE, empty DATA, and those of no
//! known type. An honest client sends them in proportion to what is said: to a stream, to
//! data in either direction (Go's clients send a PING for each frame of data they get). So
//! these pay for them, and beyond that there are some to begin with and a few each second.
//! The rest of what can be wrong with frames (CONTINUATION without end, resets of streams that
//! were not looked at yet, data in tiny pieces) is h2's to refuse, and is.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use mainstay_types::limits::{
    EMPTY_FRAMES_AT_ONCE, EMPTY_FRAMES_EARNED_MAX, EMPTY_FRAMES_PER_SECOND, LOBBY_HEADERS_FACTOR,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::lobby::{HTTP1_BYTES, HTTP2_BYTES, Ticket};

/// A connection whose bytes are counted.
pub(crate) struct Metered<IO> {
    io: IO,
    ticket: Rc<Ticket>,
    /// Whether bytes are.
    counts: bool,
    frames: Option<Frames>,
}

impl<IO> Metered<IO> {
    /// One that speaks HTTP/1.
    pub(crate) fn http1(io: IO, ticket: Rc<Ticket>) -> Metered<IO> {
        ticket.costs(HTTP1_BYTES);
        Metered { io, ticket, counts: true, frames: None }
    }

    /// One that speaks HTTP/2, from the client's preface on.
    pub(crate) fn http2(io: IO, ticket: Rc<Ticket>) -> Metered<IO> {
        ticket.costs(HTTP2_BYTES);
        Metered { io, ticket, counts: true, frames: Some(Frames::new()) }
    }

    /// Leaves the counting of bytes to somebody else.
    pub(crate) fn count_no_more(&mut self) {
        self.counts = false;
        self.ticket.settled();
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.counts {
            ready!(self.ticket.poll_read(cx));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let this = &mut *self;
        let read = &buf.filled()[before..];
        if this.counts && !this.ticket.is_known() {
            this.ticket.sent(read.len());
        }
        match &mut this.frames {
            Some(frames) => Poll::Ready(frames.pass(read, &this.ticket)),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        if let Some(frames) = &mut self.frames {
            frames.said(written);
        }
        Poll::Ready(Ok(written))
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
const HEADER_BYTES: usize = 9;
/// Types of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
/// A flag of DATA, and one of PING and SETTINGS.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
/// What a PING and a SETTINGS are answered with, in bytes.
const PONG_BYTES: usize = 17;
const SETTINGS_ACK_BYTES: usize = 9;
/// A frame of an answer has no less: its header, gRPC's prefix, a small message.
const ANSWER_BYTES: usize = 32;

/// Follows the frames that a client sends, in pieces of any size.
pub(super) struct Frames {
    /// Bytes before the next frame.
    skip: usize,
    header: [u8; HEADER_BYTES],
    seen: usize,
    /// How many empty frames it may send now.
    allowed: u32,
    /// When the last of those that time allows were added.
    filled: Instant,
    /// What is owed for frames that are answered by themselves, in bytes.
    owed: usize,
    /// Bytes of answers that have not paid for a frame yet.
    paid: usize,
}

impl Frames {
    pub(super) fn new() -> Frames {
        Frames {
            skip: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            seen: 0,
            allowed: EMPTY_FRAMES_AT_ONCE,
            filled: Instant::now(),
            owed: 0,
            paid: 0,
        }
    }

    /// How many empty frames may come now.
    pub(super) fn left(&self) -> u32 {
        self.allowed
    }

    /// Sees what a client has sent.
    ///
    /// # Errors
    /// Too many frames that carry nothing.
    pub(super) fn pass(&mut self, mut bytes: &[u8], ticket: &Ticket) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let count = bytes.len().min(HEADER_BYTES - self.seen);
            self.header[self.seen..self.seen + count].copy_from_slice(&bytes[..count]);
            self.seen += count;
            bytes = &bytes[count..];
            if self.seen == HEADER_BYTES {
                self.seen = 0;
                self.frame(ticket)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, ticket: &Ticket) -> io::Result<()> {
        let [high, middle, low, kind, flags, ..] = self.header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.skip = length;
        match kind {
            HEADERS => {
                ticket.began(length);
                // It may be reset, and its window be moved.
                self.earn(2);
                return Ok(());
            }
            CONTINUATION => {
                ticket.sent(LOBBY_HEADERS_FACTOR * length);
                return Ok(());
            }
            DATA if length > 0 => {
                self.earn(1);
                return Ok(());
            }
            DATA if flags & END_STREAM != 0 => return Ok(()),
            PING if flags & ACK == 0 => self.owed += PONG_BYTES,
            SETTINGS if flags & ACK == 0 => self.owed += SETTINGS_ACK_BYTES,
            _ => {}
        }
        self.spend()
    }

    fn earn(&mut self, frames: u32) {
        self.allowed = self.allowed.saturating_add(frames).min(EMPTY_FRAMES_EARNED_MAX);
    }

    fn spend(&mut self) -> io::Result<()> {
        if self.allowed == 0 {
            let seconds = self.filled.elapsed().as_secs();
            let filled = u32::try_from(seconds).unwrap_or(u32::MAX);
            self.earn(filled.saturating_mul(EMPTY_FRAMES_PER_SECOND).min(EMPTY_FRAMES_AT_ONCE));
            if self.allowed == 0 {
                return Err(io::Error::other("a flood of frames that carry nothing"));
            }
            self.filled = Instant::now();
        }
        self.allowed -= 1;
        Ok(())
    }

    /// So many bytes were written.
    fn said(&mut self, bytes: usize) {
        let answers = self.owed.min(bytes);
        self.owed -= answers;
        self.paid += bytes - answers;
        if self.paid >= ANSWER_BYTES {
            let frames = u32::try_from(self.paid / ANSWER_BYTES).unwrap_or(u32::MAX);
            self.earn(frames);
            self.paid %= ANSWER_BYTES;
        }
    }
}

#[cfg(test)]
mod tests;
