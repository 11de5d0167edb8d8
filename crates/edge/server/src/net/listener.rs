//! Listening sockets, and what they accept.

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::address::{ListenUrl, Place};
use super::socket::Loose;
use crate::tls::Tls;

/// What is behind a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// gRPC and HTTP for clients.
    Client,
    /// gRPC only: HTTP has listeners of its own.
    ClientGrpc,
    /// HTTP for clients only.
    ClientHttp,
    /// `--listen-metrics-urls`.
    Metrics,
    /// Other members.
    Peer,
}

/// A bound listener. One socket may serve both plain and encrypted connections.
pub(crate) struct Listener {
    pub(crate) face: Face,
    pub(crate) plain: bool,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) place: Place,
    /// Until it is taken by who accepts.
    socket: Mutex<Option<Bound>>,
}

enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds a socket. A unix socket's file is replaced when nobody listens there: the member
    /// before us left it.
    ///
    /// # Errors
    /// The operating system's, with the address in the text.
    pub(crate) fn bind(face: Face, place: Place) -> io::Result<Listener> {
        // Operators look for Go's words.
        let named = |error: io::Error, what: &str| {
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
                io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("listen {what}: {why}"))
        };
        let (socket, place) = match place {
            Place::Tcp(host) => {
                let listener = bind_tcp(&host).map_err(|e| named(e, &format!("tcp {host}")))?;
                listener.set_nonblocking(true)?;
                let place = Place::Tcp(listener.local_addr()?.to_string());
                (Bound::Tcp(listener), place)
            }
            Place::Unix(path) => {
                let named = |error| named(error, &format!("unix {path}"));
                // Somebody answers: another member, which must not lose its clients to us.
                if UnixStream::connect(&path).is_ok() {
                    return Err(named(io::ErrorKind::AddrInUse.into()));
                }
                match std::fs::remove_file(&path) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(named(error)),
                }
                let listener = UnixListener::bind(&path).map_err(named)?;
                listener.set_nonblocking(true)?;
                (Bound::Unix(listener), Place::Unix(path))
            }
        };
        Ok(Listener { face, plain: false, tls: None, place, socket: Mutex::new(Some(socket)) })
    }

    /// The URLs under which it is reached.
    pub(crate) fn urls(&self) -> Vec<String> {
        let url = |tls| ListenUrl { place: self.place.clone(), tls }.to_string();
        let plain = self.plain.then(|| url(false));
        plain.into_iter().chain(self.tls.is_some().then(|| url(true))).collect()
    }

    /// The socket, for the thread that accepts. Nobody else keeps it: once that thread ends,
    /// who connects is refused, and does not wait in the queue of a member that goes.
    ///
    /// # Errors
    /// It was taken before.
    pub(crate) fn acceptor(&self) -> io::Result<Acceptor> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        socket.map(Acceptor).ok_or_else(|| io::Error::other("the listener is in use"))
    }
}

/// Binds as Go does: of a name's addresses the first of IPv4, so that `localhost` is 127.0.0.1
/// even where ::1 is listed before it; and every address of IPv4 means those of IPv6 too.
fn bind_tcp(host: &str) -> io::Result<TcpListener> {
    let found: Vec<SocketAddr> = host.to_socket_addrs()?.collect();
    let Some(address) = found.iter().find(|address| address.is_ipv4()).or(found.first()) else {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such host"));
    };
    if address.is_ipv4() && address.ip().is_unspecified() {
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
        match TcpListener::bind(both) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => return Err(e),
            Err(_) => {} // A machine without IPv6.
            bound => return bound,
        }
    }
    TcpListener::bind(address)
}

/// A listening socket that is not yet part of a runtime.
pub(crate) struct Acceptor(Bound);

/// The same, as a part of one.
pub(crate) enum Live {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Acceptor {
    /// The socket as a part of the runtime of the calling thread.
    ///
    /// # Errors
    /// The runtime could not register it.
    pub(crate) fn live(self) -> io::Result<Live> {
        Ok(match self.0 {
            Bound::Tcp(listener) => Live::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Live::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }
}

impl Live {
    /// The next connection, and its address as it is logged.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) async fn accept(&self) -> io::Result<(Loose, String)> {
        match self {
            Live::Tcp(listener) => {
                let (stream, remote) = listener.accept().await?;
                // A listener of both families shows IPv4 as a piece of IPv6.
                let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                Ok((Loose::Tcp(stream.into_std()?), remote.to_string()))
            }
            Live::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Loose::Unix(stream.into_std()?), String::new()))
            }
        }
    }
}
