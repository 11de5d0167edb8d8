//! Writes of one turn, as one write.
//!
//! hyper's HTTP/2 writes twice per answer, and once per answer however many are
//! ready. Here what it writes during one poll of its connection is gathered and
//! goes out when the poll ends: measured, half the CPU of a request or better.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use mainstay_types::limits::CONNECTION_GATHER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection's IO, held by hyper and by the task that drives hyper.
pub(crate) struct Gather<IO>(Rc<RefCell<Inner<IO>>>);

struct Inner<IO> {
    io: IO,
    gathered: Vec<u8>,
    written: usize,
    /// The IO has taken everything, and holds some of it still.
    flushing: bool,
}

/// A buffer that grew past this is given back once it is empty: an idle
/// connection should hold little.
const KEPT_BYTES: usize = 8 * 1024;

impl<IO> Clone for Gather<IO> {
    fn clone(&self) -> Gather<IO> {
        Gather(Rc::clone(&self.0))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Gather<IO> {
    pub(crate) fn new(io: IO) -> Gather<IO> {
        let inner = Inner { io, gathered: Vec::new(), written: 0, flushing: false };
        Gather(Rc::new(RefCell::new(inner)))
    }

    /// The IO itself, once nobody else holds it; what was gathered has been written out.
    pub(crate) fn into_inner(self) -> Option<IO> {
        Rc::try_unwrap(self.0).ok().map(|inner| inner.into_inner().io)
    }

    /// Writes what was gathered. Pending keeps the rest and wakes the task when
    /// the socket takes more.
    pub(crate) fn poll_write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_write_out(cx)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Inner<IO> {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() && !self.flushing {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.gathered.len() {
            let rest = &self.gathered[self.written..];
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.written = 0;
        if self.gathered.capacity() > KEPT_BYTES {
            self.gathered = Vec::new();
        } else {
            self.gathered.clear();
        }
        // A TLS stream keeps what the socket did not take, and says so until it has taken it.
        self.flushing = true;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.flushing = false;
        Poll::Ready(Ok(()))
    }

    /// Makes room; Pending when the bound is reached and the socket takes nothing.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.len() < CONNECTION_GATHER_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        self.poll_write_out(cx)
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gather<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gather<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_room(cx))?;
        inner.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_room(cx))?;
        let mut count = 0;
        for buf in bufs {
            inner.gathered.extend_from_slice(buf);
            count += buf.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing goes out here: that is the point.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_write_out(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Takes everything at once and lets it go when it is flushed, which it puts off so often.
    struct Keeps {
        kept: Vec<u8>,
        gone: Rc<RefCell<Vec<u8>>>,
        put_off: usize,
    }

    impl AsyncRead for Keeps {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Keeps {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.kept.extend_from_slice(buf);
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.put_off > 0 {
                self.put_off -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let kept = std::mem::take(&mut self.kept);
            self.gone.borrow_mut().extend(kept);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_an_encrypted_stream_keeps_is_flushed_in_the_end() {
        let gone = Rc::default();
        let io = Keeps { kept: Vec::new(), gone: Rc::clone(&gone), put_off: 3 };
        let mut gather = Gather::new(io);
        gather.write_all(b"an answer").await.expect("there is room");
        poll_fn(|cx| gather.poll_write_out(cx)).await.expect("it goes out");
        assert_eq!(&gone.borrow()[..], b"an answer");
    }
}
