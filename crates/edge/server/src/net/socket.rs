//! TCP and unix sockets, alike.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How often the kernel probes an idle TCP connection (etcd's listeners: 30 s).
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// A connected socket that no runtime knows.
pub(crate) enum Loose {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// A connected socket, and which runtime it belongs to.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// On its way from one thread to another.
    Loose(Loose),
    /// Lost on that way.
    Gone,
}

impl From<Loose> for Socket {
    fn from(loose: Loose) -> Socket {
        Socket::Loose(loose)
    }
}

impl Socket {
    /// Joins the runtime of the calling thread.
    ///
    /// # Errors
    /// The runtime could not register it.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Socket::Gone) {
            Socket::Loose(Loose::Tcp(stream)) => {
                // Best effort: a socket that is closed already fails when it is read.
                let _ = stream.set_nodelay(true);
                let _ = keep_alive(&stream);
                Socket::Tcp(TcpStream::from_std(stream)?)
            }
            Socket::Loose(Loose::Unix(stream)) => Socket::Unix(UnixStream::from_std(stream)?),
            settled => settled,
        };
        Ok(())
    }

    /// Leaves the runtime it belongs to.
    ///
    /// # Errors
    /// The runtime could not let it go.
    pub(crate) fn uproot(&mut self) -> io::Result<()> {
        *self = match std::mem::replace(self, Socket::Gone) {
            Socket::Tcp(stream) => Socket::Loose(Loose::Tcp(stream.into_std()?)),
            Socket::Unix(stream) => Socket::Loose(Loose::Unix(stream.into_std()?)),
            loose => loose,
        };
        Ok(())
    }

    /// Lets the kernel end the connection once what was written has not been
    /// acknowledged for as long as this. Best effort.
    pub(crate) fn give_up_after(&self, time: Duration) {
        if let Socket::Tcp(stream) = self {
            let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
            let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, millis);
        }
    }
}

fn unsettled<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

fn keep_alive(stream: &std::net::TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, TCP_KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, TCP_KEEPALIVE)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Loose(_) | Socket::Gone => unsettled(),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Loose(_) | Socket::Gone => unsettled(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Loose(_) | Socket::Gone => unsettled(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Loose(_) | Socket::Gone => unsettled(),
        }
    }
}
