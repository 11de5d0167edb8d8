//! The threads that let connections in.
//!
//! They accept, look at what a client speaks, and shake hands; a connection reaches its
//! shard with the first bytes of its first request. Shards answer requests and, for other
//! members, carry raft; a crowd at the door must not keep them from that, so these threads
//! also have a lower priority than all others.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::TlsAcceptor;

use super::listener::{Acceptor, Face, Listener};
use super::lobby::{Lobby, TLS_BYTES, Ticket};
use super::rewound::{Opening, Rewound};
use super::shard::Stop;
use super::socket::{Loose, Socket};
use crate::tls::{LetIn, Tls, reason, until_revoked};

/// How long a TLS handshake may take (etcd 3.7.1, CVE-2026-73500).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the first bytes and the headers of an HTTP/1 request may take (ours;
/// etcd 5 min).
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a failed accept rests (Go's `net/http` starts at 5 ms and doubles).
const ACCEPT_RETRY: Duration = Duration::from_millis(20);
/// What is added to the niceness of these threads: they get a third of what others get of a
/// core that both want.
const NICENESS: i32 = 5;

/// A connection on its way to its shard.
pub(crate) struct Accepted {
    pub(super) io: Greeted,
    pub(super) opening: Opening,
    pub(super) remote: String,
    pub(super) face: Face,
    /// The name in its certificate, where that is a user's.
    pub(super) common_name: Option<String>,
    /// What ends it when its certificate is revoked.
    pub(super) let_in: Option<LetIn>,
    /// Its place among the connections that the limit allows.
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) ticket: Ticket,
}

/// The connection's bytes, behind those that were looked at.
pub(super) enum Greeted {
    Plain(Rewound<Socket>),
    Tls(Box<Rewound<tokio_rustls::server::TlsStream<Rewound<Socket>>>>),
}

impl Greeted {
    fn socket(&mut self) -> &mut Socket {
        match self {
            Greeted::Plain(io) => io.inner(),
            Greeted::Tls(io) => io.inner().get_mut().0.inner(),
        }
    }

    /// Leaves the runtime of the calling thread.
    fn uproot(&mut self) -> io::Result<()> {
        self.socket().uproot()
    }

    /// Joins the runtime of the calling thread.
    ///
    /// # Errors
    /// The runtime could not register it.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.socket().settle()
    }
}

/// Somebody has connected.
pub(crate) struct Knock {
    socket: Loose,
    remote: String,
    /// Which listener took it.
    listener: usize,
    permit: OwnedSemaphorePermit,
    ticket: Ticket,
}

/// What the threads at the door of one server share.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) listeners: Arc<[Listener]>,
    pub(crate) lobby: Arc<Lobby>,
    pub(crate) slots: Arc<Semaphore>,
    /// Where connections go, in turn.
    pub(crate) shards: Vec<mpsc::UnboundedSender<Accepted>>,
    pub(crate) stop: Stop,
    /// How long what was written to another member may lie before the connection is
    /// given up.
    pub(crate) peer_write_timeout: Duration,
}

impl Door {
    /// Lets in until stopped, on the calling thread: whom `acceptors` accept, who are dealt to
    /// `greeters` in turn, and whoever is brought as a `knock`.
    ///
    /// # Errors
    /// The runtime could not be built.
    pub(crate) fn run(
        self,
        number: usize,
        acceptors: Vec<(usize, Acceptor)>,
        greeters: Vec<mpsc::UnboundedSender<Knock>>,
        knocks: mpsc::UnboundedReceiver<Knock>,
    ) -> io::Result<()> {
        // Of this thread alone; where it is not allowed, all are equal.
        let _ = rustix::process::setpriority_process(None, NICENESS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serving = self.serve(number, acceptors, greeters, knocks);
        LocalSet::new().block_on(&runtime, serving);
        Ok(())
    }

    async fn serve(
        self,
        number: usize,
        acceptors: Vec<(usize, Acceptor)>,
        greeters: Vec<mpsc::UnboundedSender<Knock>>,
        mut knocks: mpsc::UnboundedReceiver<Knock>,
    ) {
        let door = Rc::new(self);
        let mut accepting = JoinSet::new();
        for (listener, acceptor) in acceptors {
            accepting.spawn_local(accept(Rc::clone(&door), listener, acceptor, greeters.clone()));
        }
        drop(greeters);
        let mut greeting = JoinSet::new();
        // Doors of one server deal in turn as well, from different shards on.
        let mut turn = number;
        loop {
            tokio::select! {
                Some(knock) = knocks.recv() => {
                    greeting.spawn_local(greet(Rc::clone(&door), knock, turn));
                    turn += 1;
                }
                Some(_) = greeting.join_next() => {}
                () = door.stop.wait() => break,
            }
        }
        // Whoever is on the way in is told at once: the sockets are closed with the tasks.
    }
}

/// Accepts for ever. At the limit it stops: the kernel's queue then holds clients back.
async fn accept(
    door: Rc<Door>,
    listener: usize,
    acceptor: Acceptor,
    greeters: Vec<mpsc::UnboundedSender<Knock>>,
) {
    let live = match acceptor.live() {
        Ok(live) => live,
        Err(error) => {
            tracing::error!(error = %error, "a listener could not be served");
            return;
        }
    };
    let mut turn = 0;
    loop {
        door.lobby.room().await;
        let Ok(permit) = Arc::clone(&door.slots).acquire_owned().await else { return };
        let (socket, remote) = match live.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "failed to accept a connection");
                // Out of descriptors, most likely: one may be free soon.
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let ticket = door.lobby.enter();
        let knock = Knock { socket, remote, listener, permit, ticket };
        if greeters[turn % greeters.len()].send(knock).is_err() {
            return;
        }
        turn += 1;
    }
}

/// Sees a connection to its shard, unless it never gets as far as a request.
async fn greet(door: Rc<Door>, knock: Knock, turn: usize) {
    let Knock { socket, remote, listener, permit, ticket } = knock;
    let listener = &door.listeners[listener];
    let opening = open(&door, listener, socket, &remote, &ticket);
    let opened = ticket.ender().unless_ended(opening).await;
    let Opened { mut io, opening, let_in } = match opened {
        Some(Ok(Some(opened))) => opened,
        Some(Ok(None)) | None => return,
        Some(Err(error)) => return rejected(listener.face, &remote, &error),
    };
    let mut common_name = None;
    if let (Greeted::Tls(stream), Some(tls)) = (&mut io, &listener.tls) {
        let shown = stream.inner().get_ref().1.peer_certificates();
        common_name = tls.user_of(shown);
        // Certificates that were asked for were verified.
        if shown.is_some() {
            ticket.become_known();
        }
    }
    if io.uproot().is_err() {
        return;
    }
    let face = listener.face;
    let accepted = Accepted { io, opening, remote, face, common_name, let_in, permit, ticket };
    // A shard that is gone takes its connections with it.
    let _ = door.shards[turn % door.shards.len()].send(accepted);
}

/// Operators' scripts look for this line.
fn rejected(face: Face, remote: &str, error: &io::Error) {
    match face {
        Face::Peer => {
            tracing::warn!("remote-addr" = remote, error = %error, "rejected connection on peer endpoint");
        }
        Face::Metrics | Face::Client | Face::ClientGrpc | Face::ClientHttp => {
            tracing::warn!("remote-addr" = remote, error = %error, "rejected connection on client endpoint");
        }
    }
}

/// A connection whose client has begun to speak.
struct Opened {
    io: Greeted,
    opening: Opening,
    let_in: Option<LetIn>,
}

/// Sees what the client speaks. An error is a connection that never got as far as
/// a request, and says so; `None` one that said nothing.
async fn open(
    door: &Door,
    listener: &Listener,
    socket: Loose,
    remote: &str,
    ticket: &Ticket,
) -> io::Result<Option<Opened>> {
    let mut socket = Socket::from(socket);
    socket.settle()?;
    if listener.face == Face::Peer {
        socket.give_up_after(door.peer_write_timeout);
    }
    let plain = listener.plain;
    let patience = if plain { HEADER_TIMEOUT } else { HANDSHAKE_TIMEOUT };
    // A client that resets before it has said anything is a port probe.
    let Ok(Ok((opening, io))) = tokio::time::timeout(patience, Rewound::look(socket)).await else {
        return Ok(None);
    };
    match (opening, &listener.tls) {
        (Opening::Nothing, _) => Ok(None),
        (Opening::Tls, Some(tls)) => {
            ticket.costs(TLS_BYTES);
            shake(tls, io, remote).await
        }
        (Opening::Tls, None) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a TLS handshake on a plain listener"))
        }
        (Opening::Http1 | Opening::Http2, _) if !plain => {
            let text = "tls: first record does not look like a TLS handshake";
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
        (opening, _) => Ok(Some(Opened { io: Greeted::Plain(io), opening, let_in: None })),
    }
}

/// A handshake, and what is said after it.
async fn shake(tls: &Arc<Tls>, io: Rewound<Socket>, remote: &str) -> io::Result<Option<Opened>> {
    let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake timed out");
    let acceptor = TlsAcceptor::from(tls.current());
    let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(io)).await;
    let stream = accepted
        .map_err(timed_out)?
        .map_err(|error| io::Error::new(error.kind(), reason(&error)))?;
    let shown = stream.get_ref().1.peer_certificates();
    let let_in = tls.let_in(shown).map_err(io::Error::other)?;
    let place = tls.check_place(shown, remote);
    // Names are looked up for it, by a resolver that may be slow.
    let checked = tokio::time::timeout(HANDSHAKE_TIMEOUT, place).await;
    checked.map_err(timed_out)?.map_err(io::Error::other)?;
    let looking = tokio::time::timeout(HEADER_TIMEOUT, Rewound::look(stream));
    let looking = until_revoked(let_in.as_ref(), looking).await;
    let Some(Ok(Ok((opening, io)))) = looking else { return Ok(None) };
    if opening == Opening::Nothing {
        return Ok(None);
    }
    Ok(Some(Opened { io: Greeted::Tls(Box::new(io)), opening, let_in }))
}
