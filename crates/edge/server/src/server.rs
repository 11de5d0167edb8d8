//! The whole server: listeners, shards, and their end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use mainstay_audit::Trail;
use mainstay_types::limits::{
    GATEWAY_TEXT_BYTES_MAX, GRPC_OVERHEAD_BYTES, MESSAGES_UNFINISHED_BYTES_MAX,
    PEER_CONNECTIONS_MAX, PEER_CONNECTIONS_MIN, RESERVED_FDS,
};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::answers::Answers;
use crate::gateway::Gateway;
use crate::grpc::Limits;
use crate::http::{Access, Http};
use crate::member::Member;
use crate::metrics::grpc::GrpcCells;
use crate::metrics::{Feature, Registry, process};
use crate::net::address::ListenUrl;
use crate::net::door::{Accepted, Door};
use crate::net::listener::{Face, Listener};
use crate::net::lobby::Lobby;
use crate::net::shard::{Keepalive, Seat, Shard, Stop, Stopper};
use crate::network::NetworkStats;
use crate::raft_face::{OpenAnswers, RaftFace};
use crate::room::Room;
use crate::services::Services;
use crate::tls::{Expiry, Looking, Tls, TlsError, TlsFiles};

/// What the server listens on, and how it treats connections. Made by the binary
/// from the flag table.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// `--listen-client-urls`.
    pub client_urls: Vec<String>,
    /// `--listen-client-http-urls`; when given, [`ServerConfig::client_urls`] carry
    /// gRPC only.
    pub client_http_urls: Vec<String>,
    /// `--listen-metrics-urls`.
    pub metrics_urls: Vec<String>,
    /// `--listen-peer-urls`.
    pub peer_urls: Vec<String>,
    /// TLS of client and metrics URLs that begin with `https` or `unixs`.
    pub client_tls: Option<TlsFiles>,
    /// TLS of peer URLs.
    pub peer_tls: Option<TlsFiles>,
    /// What ends of all that the member shows and trusts, for `/metrics`.
    pub expiry: Arc<Expiry>,
    /// Threads that serve connections; 0 is one per core.
    pub shards: usize,
    /// `--max-concurrent-streams`, per connection.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-interval` and `-timeout`.
    pub keepalive: Keepalive,
    /// `--raft-write-timeout`: how long what was written to another member may lie before the
    /// connection is given up.
    pub peer_write_timeout: Duration,
    /// `--host-whitelist` and `--cors`.
    pub access: Access,
    /// `--enable-grpc-gateway`: whether client listeners serve JSON below `/v3/`.
    pub gateway: bool,
    /// `--warning-unary-request-duration`.
    pub slow_request: Duration,
    /// `--metrics=extensive`: how long calls take is counted too.
    pub extensive_metrics: bool,
    /// The feature gates, for `/metrics`.
    pub features: Vec<Feature>,
    /// Connections at the same time; `None` is the descriptor limit less those
    /// that the member needs itself.
    pub max_connections: Option<usize>,
}

impl Default for ServerConfig {
    /// etcd's defaults, listening nowhere.
    fn default() -> ServerConfig {
        ServerConfig {
            client_urls: Vec::new(),
            client_http_urls: Vec::new(),
            metrics_urls: Vec::new(),
            peer_urls: Vec::new(),
            client_tls: None,
            peer_tls: None,
            expiry: Arc::default(),
            shards: 0,
            max_concurrent_streams: u32::MAX,
            keepalive: Keepalive::default(),
            peer_write_timeout: Duration::from_secs(5),
            access: Access::default(),
            gateway: true,
            slow_request: Duration::from_millis(300),
            extensive_metrics: false,
            features: Vec::new(),
            max_connections: None,
        }
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Not a URL to listen on.
    #[error("{flag}: {url:?} is not of the form http://host:port, https://, unix:// or unixs://")]
    Url {
        /// The flag that holds it.
        flag: &'static str,
        /// The URL.
        url: String,
    },
    /// An encrypted URL, and no certificate for it.
    #[error("{tls} TLS key/cert ({certs}) must be provided for {what} url {url}")]
    NoCertificate {
        /// `client` or `peer`.
        tls: &'static str,
        /// The flags that would give one.
        certs: &'static str,
        /// Which kind of URL.
        what: &'static str,
        /// The URL.
        url: String,
    },
    /// A certificate that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system refused.
    #[error(transparent)]
    Listen(#[from] io::Error),
}

/// Listeners that are bound; clients may connect and wait. With a member they become a
/// [`Server`]. Apart from it, so that an address in use is found out before a member is made.
pub struct Sockets {
    config: ServerConfig,
    listeners: Arc<[Listener]>,
}

impl Sockets {
    /// Binds every listener.
    ///
    /// # Errors
    /// A URL, certificate or address that cannot be used.
    pub fn bind(config: ServerConfig) -> Result<Sockets, BindError> {
        let listeners = bind_all(&config)?.into();
        Ok(Sockets { config, listeners })
    }
}

/// A server whose listeners are bound and which does not serve yet.
pub struct Server<M> {
    config: ServerConfig,
    member: M,
    listeners: Arc<[Listener]>,
    raft: Option<Arc<dyn RaftFace>>,
    network: Arc<NetworkStats>,
    trail: Option<Trail>,
}

impl<M: Member> Server<M> {
    /// Binds every listener. Clients may connect from now on and wait.
    ///
    /// # Errors
    /// A URL, certificate or address that cannot be used.
    pub fn bind(config: ServerConfig, member: M) -> Result<Server<M>, BindError> {
        Ok(Server::over(Sockets::bind(config)?, member))
    }

    /// The server of `member` on listeners that are bound already.
    pub fn over(sockets: Sockets, member: M) -> Server<M> {
        let Sockets { config, listeners } = sockets;
        Server { config, member, listeners, raft: None, network: Arc::default(), trail: None }
    }

    /// The same server, whose calls are recorded in `trail`.
    #[must_use]
    pub fn with_audit(self, trail: Option<Trail>) -> Server<M> {
        Server { trail, ..self }
    }

    /// The same server, in which `raft` answers raft's paths on the peer listeners.
    #[must_use]
    pub fn with_raft(self, raft: Arc<dyn RaftFace>) -> Server<M> {
        Server { raft: Some(raft), ..self }
    }

    /// The same server, which shows `network` among its metrics.
    #[must_use]
    pub fn with_network(self, network: Arc<NetworkStats>) -> Server<M> {
        Server { network, ..self }
    }

    /// The client URLs as bound, with the ports that were chosen for port 0.
    pub fn client_urls(&self) -> Vec<String> {
        self.urls(&[Face::Client, Face::ClientGrpc])
    }

    /// The URLs that carry the HTTP endpoints.
    pub fn http_urls(&self) -> Vec<String> {
        self.urls(&[Face::Client, Face::ClientHttp])
    }

    /// The URLs of `--listen-client-http-urls` as bound.
    pub fn http_only_urls(&self) -> Vec<String> {
        self.urls(&[Face::ClientHttp])
    }

    /// The metrics URLs as bound.
    pub fn metrics_urls(&self) -> Vec<String> {
        self.urls(&[Face::Metrics])
    }

    /// The peer URLs as bound.
    pub fn peer_urls(&self) -> Vec<String> {
        self.urls(&[Face::Peer])
    }

    fn urls(&self, faces: &[Face]) -> Vec<String> {
        let wanted = self.listeners.iter().filter(|listener| faces.contains(&listener.face));
        wanted.flat_map(Listener::urls).collect()
    }

    /// Starts the shards.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn serve(self) -> io::Result<Serving> {
        let count = match self.config.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        };
        let (mut serving, shards) = self.shards(count)?;
        for (number, (shard, seat)) in shards.into_iter().enumerate() {
            let name = format!("shard-{number}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                if let Err(error) = shard.run(seat) {
                    tracing::error!(error = %error, "a network shard could not run");
                }
            })?;
            serving.threads.push(thread);
        }
        Ok(serving)
    }

    /// Serves as a guest of somebody else's thread, which `host` brings it to: one shard,
    /// beside what else runs there.
    ///
    /// # Errors
    /// A listener is in use.
    pub fn serve_on(self, host: impl FnOnce(Guest)) -> io::Result<Serving> {
        let (mut serving, mut shards) = self.shards(1)?;
        let (shard, seat) = shards.pop().expect("one was asked for");
        let (ended, end) = std::sync::mpsc::channel();
        serving.guests.push(end);
        host(Box::new(move || {
            Box::pin(async move {
                shard.serve(Rc::new(seat())).await;
                drop(ended);
            })
        }));
        Ok(serving)
    }

    /// Everything that `count` shards need to run. The first one accepts.
    #[expect(clippy::type_complexity, reason = "a shard, and how to make its seat")]
    fn shards(
        &self,
        count: usize,
    ) -> io::Result<(Serving, Vec<(Shard, impl FnOnce() -> Seat<M> + Send + use<M>)>)> {
        let registry = Arc::new(Registry::new(
            count,
            self.config.extensive_metrics,
            self.config.features.clone(),
            Arc::clone(&self.network),
            Arc::clone(&self.config.expiry),
            self.trail.clone(),
        ));
        let access = Arc::new(self.config.access.clone());
        let (stopper, stop) = Stop::pair();
        let (patience, patience_told) = watch::channel(Duration::ZERO);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let mut shards = Vec::with_capacity(count);
        let answers = Answers::default();
        for (number, accepted) in receivers.into_iter().enumerate() {
            let shard = Shard { accepted, patience: patience_told.clone() };
            shards.push((shard, self.seat(&registry, &access, &stop, &answers, number)));
        }
        let threads = self.doors(senders, &stop)?;
        let encrypted = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let looking = Looking::start(encrypted)?;
        let serving = Serving { stopper, patience, threads, guests: Vec::new(), looking };
        Ok((serving, shards))
    }

    /// Starts the threads that let connections in. Handshakes take a thread's whole time, so
    /// there may be several; the first one accepts.
    fn doors(
        &self,
        shards: Vec<mpsc::UnboundedSender<Accepted>>,
        stop: &Stop,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let limit = self.connection_limit();
        let door = Door {
            listeners: Arc::clone(&self.listeners),
            lobby: Arc::new(Lobby::of(limit)),
            slots: Arc::new(Semaphore::new(limit)),
            shards,
            stop: stop.clone(),
            peer_write_timeout: self.config.peer_write_timeout,
        };
        let mut acceptors = Vec::new();
        for (n, listener) in self.listeners.iter().enumerate() {
            acceptors.push((n, listener.acceptor()?));
        }
        let encrypted = self.listeners.iter().any(|listener| listener.tls.is_some());
        let count = if encrypted { door.shards.len() } else { 1 };
        let (greeters, knocks): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let mut threads = Vec::with_capacity(count);
        for (number, knocks) in knocks.into_iter().enumerate() {
            let (door, acceptors) = (door.clone(), std::mem::take(&mut acceptors));
            let greeters = if acceptors.is_empty() { Vec::new() } else { greeters.clone() };
            let name = format!("door-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                if let Err(error) = door.run(number, acceptors, greeters, knocks) {
                    tracing::error!(error = %error, "nobody can be let in");
                }
            })?);
        }
        Ok(threads)
    }

    /// Builds a shard's seat on the shard's own thread.
    fn seat(
        &self,
        registry: &Arc<Registry>,
        access: &Arc<Access>,
        stop: &Stop,
        answers: &Answers,
        number: usize,
    ) -> impl FnOnce() -> Seat<M> + Send + use<M> {
        let (registry, access) = (Arc::clone(registry), Arc::clone(access));
        let (member, stop) = (self.member.clone(), stop.clone());
        let (config, raft) = (self.config.clone(), self.raft.clone());
        let (trail, answers) = (self.trail.clone(), answers.clone());
        move || {
            let max = member.settings().max_request_bytes + GRPC_OVERHEAD_BYTES;
            let cells = GrpcCells::new(Arc::clone(&registry.shards[number]));
            let message_bytes = usize::try_from(max).unwrap_or(usize::MAX);
            let shards = registry.shards.len().max(1);
            let room = GATEWAY_TEXT_BYTES_MAX / shards;
            let unfinished =
                Room::new((MESSAGES_UNFINISHED_BYTES_MAX / shards).max(2 * message_bytes));
            let services = Services::new(
                member.clone(),
                Arc::clone(&registry),
                stop.clone(),
                config.slow_request,
                trail,
                answers,
            );
            let gateway = || Gateway::new(services.clone(), &cells, message_bytes, room);
            let gateway = config.gateway.then(gateway);
            Seat {
                http: Http { member, access, registry, gateway },
                services,
                cells,
                limits: Limits { message_bytes, room: unfinished },
                max_concurrent_streams: config.max_concurrent_streams,
                keepalive: config.keepalive,
                stop,
                raft,
                raft_answers: OpenAnswers::default(),
            }
        }
    }

    /// Descriptors are shared out so that neither clients nor peers can take those of the
    /// other, nor of the member's files.
    fn connection_limit(&self) -> usize {
        let limit = self.config.max_connections.unwrap_or_else(|| {
            let all = process::fd_limit();
            let peers = (all / 16).clamp(PEER_CONNECTIONS_MIN, PEER_CONNECTIONS_MAX);
            let of_peers = self.listeners.iter().all(|listener| listener.face == Face::Peer);
            let clients = all.saturating_sub(RESERVED_FDS - PEER_CONNECTIONS_MIN + peers);
            usize::try_from(if of_peers { peers } else { clients }).unwrap_or(usize::MAX)
        });
        limit.clamp(1, Semaphore::MAX_PERMITS)
    }
}

/// A server that serves. Dropping it stops nothing; [`Serving::shutdown`] does.
pub struct Serving {
    stopper: Stopper,
    patience: watch::Sender<Duration>,
    threads: Vec<JoinHandle<()>>,
    /// Closed when the guest on somebody else's thread has ended.
    guests: Vec<std::sync::mpsc::Receiver<Infallible>>,
    /// Reads changed certificates again.
    looking: Option<Looking>,
}

/// Work that somebody else's thread carries for a server: made there, and run in its
/// `LocalSet` until it ends.
pub type Guest = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

impl Serving {
    /// Stops accepting, ends streaming calls, lets unary calls finish for as long
    /// as `deadline`, and returns when every connection is closed.
    pub fn shutdown(self, deadline: Duration) {
        // The shards may have ended by themselves.
        let _ = self.patience.send(deadline);
        self.stopper.stop();
        drop(self.looking);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a network shard has panicked");
            }
        }
        for guest in self.guests {
            // Nothing is ever sent: this waits for the other end to go.
            let _ = guest.recv();
        }
    }
}

/// What the URLs of one flag have in common.
struct Group<'a> {
    flag: &'static str,
    what: &'static str,
    face: Face,
    urls: &'a [String],
    tls: &'a Option<TlsFiles>,
}

fn bind_all(config: &ServerConfig) -> Result<Vec<Listener>, BindError> {
    let split = !config.client_http_urls.is_empty();
    let groups = [
        Group {
            flag: "--listen-client-urls",
            what: "client",
            face: if split { Face::ClientGrpc } else { Face::Client },
            urls: &config.client_urls,
            tls: &config.client_tls,
        },
        Group {
            flag: "--listen-client-http-urls",
            what: "client-http",
            face: Face::ClientHttp,
            urls: &config.client_http_urls,
            tls: &config.client_tls,
        },
        Group {
            flag: "--listen-metrics-urls",
            what: "metrics secure",
            face: Face::Metrics,
            urls: &config.metrics_urls,
            tls: &config.client_tls,
        },
        Group {
            flag: "--listen-peer-urls",
            what: "peer",
            face: Face::Peer,
            urls: &config.peer_urls,
            tls: &config.peer_tls,
        },
    ];
    let mut listeners = Vec::new();
    // What clients are shown is read once for all of their listeners.
    let (mut clients, mut peers) = (None, None);
    for group in groups {
        let tls = if group.face == Face::Peer { &mut peers } else { &mut clients };
        bind_group(&group, tls, &mut listeners)?;
    }
    Ok(listeners)
}

fn bind_group(
    group: &Group<'_>,
    tls: &mut Option<Arc<Tls>>,
    listeners: &mut Vec<Listener>,
) -> Result<(), BindError> {
    // The same address under http and https is one socket that speaks both.
    let mut bound: Vec<(crate::net::address::Place, Listener)> = Vec::new();
    for url in group.urls {
        let wrong = || BindError::Url { flag: group.flag, url: url.clone() };
        let parsed = ListenUrl::parse(url).ok_or_else(wrong)?;
        let place = parsed.place.clone();
        if parsed.tls && tls.is_none() {
            let files = group.tls.clone().ok_or_else(|| no_certificate(group, url))?;
            *tls = Some(Arc::new(Tls::load(files)?));
        }
        let at = match bound.iter().position(|(known, _)| *known == place) {
            Some(at) => at,
            None => {
                bound.push((place.clone(), Listener::bind(group.face, place)?));
                bound.len() - 1
            }
        };
        let listener = &mut bound[at].1;
        if parsed.tls {
            listener.tls = tls.clone();
        } else {
            listener.plain = true;
        }
    }
    listeners.extend(bound.into_iter().map(|(_, listener)| listener));
    Ok(())
}

fn no_certificate(group: &Group<'_>, url: &str) -> BindError {
    let (tls, certs) = match group.face {
        Face::Peer => ("peer", "--peer-cert-file, --peer-key-file"),
        Face::Client | Face::ClientGrpc | Face::ClientHttp | Face::Metrics => {
            ("client", "--cert-file, --key-file")
        }
    };
    BindError::NoCertificate { tls, certs, what: group.what, url: url.to_owned() }
}
