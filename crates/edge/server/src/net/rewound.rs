//! A stream whose first bytes were read already, to see what they are.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// Gives the bytes looked at once more.
pub(crate) struct Rewound<IO> {
    seen: Vec<u8>,
    given: usize,
    io: IO,
}

/// What a client opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// A TLS handshake record.
    Tls,
    /// The HTTP/2 preface.
    Http2,
    /// Anything else: HTTP/1, or a mistake that HTTP/1 will refuse.
    Http1,
    /// Nothing: the client closed.
    Nothing,
}

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 22;

impl<IO: AsyncRead + Unpin> Rewound<IO> {
    /// Reads until it is clear what the client speaks.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn look(mut io: IO) -> io::Result<(Opening, Rewound<IO>)> {
        let mut seen = Vec::with_capacity(PREFACE.len());
        let opening = loop {
            if let Some(opening) = judge(&seen) {
                break opening;
            }
            let mut buffer = [0; PREFACE.len()];
            let room = PREFACE.len() - seen.len();
            let count = io.read(&mut buffer[..room]).await?;
            if count == 0 {
                break if seen.is_empty() { Opening::Nothing } else { Opening::Http1 };
            }
            seen.extend_from_slice(&buffer[..count]);
        };
        Ok((opening, Rewound { seen, given: 0, io }))
    }
}

impl<IO> Rewound<IO> {
    /// What is behind the bytes that were looked at.
    pub(crate) fn inner(&mut self) -> &mut IO {
        &mut self.io
    }
}

fn judge(seen: &[u8]) -> Option<Opening> {
    if *seen.first()? == TLS_HANDSHAKE {
        return Some(Opening::Tls);
    }
    if !PREFACE.starts_with(seen) {
        return Some(Opening::Http1);
    }
    (seen.len() == PREFACE.len()).then_some(Opening::Http2)
}

impl<IO: AsyncRead + Unpin> AsyncRead for Rewound<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given < self.seen.len() {
            let rest = &self.seen[self.given..];
            let count = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..count]);
            self.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Rewound<IO> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(judge(b""), None);
        assert_eq!(judge(b"\x16\x03"), Some(Opening::Tls));
        assert_eq!(judge(b"P"), None);
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), None);
        assert_eq!(judge(PREFACE), Some(Opening::Http2));
        assert_eq!(judge(b"POST"), Some(Opening::Http1));
        assert_eq!(judge(b"GET / HTTP/1.1\r\n"), Some(Opening::Http1));
    }
}
