//! Members made of a few lists, and listeners for them.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_driver::{DbCopy, DbOffer, Transport as _};
use mainstay_membership::{Member, Membership};
use mainstay_peer::{
    DbOffering, IncomingSnapshot, Local, Options, PeerHttp, PeerTransport, Refused,
};
use mainstay_raft::{Entry, Message, MessageKind};
use mainstay_server::{ClientTls, RaftFace as _};
use mainstay_types::{ClusterId, Index, MemberId, Term, Version};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// Nothing in these tests takes longer on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// What a member has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) messages: Vec<Message>,
    pub(crate) unsent: Vec<Message>,
    pub(crate) unreachable: Vec<MemberId>,
    pub(crate) gone: Vec<MemberId>,
    pub(crate) snapshots_sent: Vec<(MemberId, bool)>,
    /// Files that began to arrive.
    pub(crate) begun: usize,
    /// Files that arrived whole.
    pub(crate) files: Vec<Vec<u8>>,
    /// Files that did not.
    pub(crate) discarded: usize,
    pub(crate) removed_for_good: bool,
}

/// A member.
pub(crate) struct Fake {
    member: MemberId,
    cluster: ClusterId,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    pub(crate) removed: Mutex<BTreeSet<MemberId>>,
    /// Takes no messages, and no files.
    pub(crate) full: AtomicBool,
    pub(crate) batches: AtomicUsize,
    /// Talks to nobody.
    pub(crate) shuns: AtomicBool,
    /// Who leads, and what it has applied.
    pub(crate) standing: Mutex<(MemberId, Index)>,
    /// The db that it gives away, and the term of its last entry.
    pub(crate) offer: Mutex<Option<(Arc<dyn DbCopy>, Term)>>,
}

impl Fake {
    pub(crate) fn new(member: u64, cluster: ClusterId) -> Arc<Fake> {
        Arc::new(Fake {
            member: MemberId(member),
            cluster,
            seen: Arc::default(),
            removed: Mutex::default(),
            full: AtomicBool::new(false),
            batches: AtomicUsize::new(0),
            shuns: AtomicBool::new(false),
            standing: Mutex::default(),
            offer: Mutex::default(),
        })
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.0.lock());
        self.seen.1.notify_all();
    }

    /// Waits until `holds` gives something.
    #[track_caller]
    pub(crate) fn until<T>(&self, mut holds: impl FnMut(&mut Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.0.lock();
        loop {
            if let Some(found) = holds(&mut seen) {
                return found;
            }
            let late = self.seen.1.wait_until(&mut seen, deadline).timed_out();
            assert!(!late, "what was waited for has not come");
        }
    }

    /// Takes the next `count` messages.
    #[track_caller]
    pub(crate) fn take(&self, count: usize) -> Vec<Message> {
        self.until(|seen| {
            let whole = seen.messages.len() >= count;
            whole.then(|| seen.messages.drain(..count).collect())
        })
    }
}

impl Local for Fake {
    fn member(&self) -> MemberId {
        self.member
    }

    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn shuns(&self, member: MemberId, version: Version) -> Option<String> {
        let shuns = self.shuns.load(Ordering::SeqCst);
        shuns.then(|| format!("not with {member}, which runs {version}"))
    }

    fn standing(&self) -> (MemberId, Index) {
        *self.standing.lock()
    }

    fn offer_db(&self) -> DbOffering {
        let index = self.standing.lock().1;
        let offer = self.offer.lock().clone();
        let offer = offer.map(|(copy, term)| DbOffer { index, term, copy });
        Box::pin(std::future::ready(offer.ok_or_else(|| "it is damaged, too".to_owned())))
    }

    fn receive(&self, message: Message) -> Result<(), Refused> {
        if self.full.load(Ordering::Relaxed) {
            return Err(Refused::Full);
        }
        self.note(|seen| seen.messages.push(message));
        Ok(())
    }

    fn received(&self) {
        self.batches.fetch_add(1, Ordering::Relaxed);
    }

    fn is_removed(&self, member: MemberId) -> bool {
        self.removed.lock().contains(&member)
    }

    fn unsent(&self, message: Message) {
        self.note(|seen| seen.unsent.push(message));
    }

    fn unreachable(&self, member: MemberId) {
        self.note(|seen| seen.unreachable.push(member));
    }

    fn gone(&self, member: MemberId) {
        self.note(|seen| seen.gone.push(member));
    }

    fn snapshot_sent(&self, member: MemberId, ok: bool) {
        self.note(|seen| seen.snapshots_sent.push((member, ok)));
    }

    fn incoming_snapshot(&self, message: &Message) -> io::Result<Box<dyn IncomingSnapshot>> {
        assert_eq!(message.kind, MessageKind::Snap);
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.note(|seen| seen.begun += 1);
        Ok(Box::new(File { bytes: Vec::new(), finished: false, seen: Arc::clone(&self.seen) }))
    }

    fn removed_for_good(&self) {
        self.note(|seen| seen.removed_for_good = true);
    }
}

struct File {
    bytes: Vec<u8>,
    finished: bool,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl IncomingSnapshot for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.finished = true;
        let bytes = std::mem::take(&mut self.bytes);
        self.seen.0.lock().files.push(bytes);
        self.seen.1.notify_all();
        Ok(())
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if !self.finished {
            self.seen.0.lock().discarded += 1;
            self.seen.1.notify_all();
        }
    }
}

/// A listener that is bound.
pub(crate) struct Door {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Door {
    pub(crate) fn open() -> Door {
        Door::open_at("127.0.0.1:0")
    }

    /// The port may still be held by connections of the one before.
    pub(crate) fn open_at(address: &str) -> Door {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match TcpListener::bind(address) {
                Ok(listener) => {
                    listener.set_nonblocking(true).expect("a listener");
                    let address = listener.local_addr().expect("an address");
                    return Door { listener, address };
                }
                Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A thread that serves raft's paths; stopped when it is dropped.
pub(crate) struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A listener's TLS.
pub(crate) type Tls = Option<Arc<rustls::ServerConfig>>;

impl Serving {
    pub(crate) fn start(door: Door, face: Arc<PeerHttp>, tls: Tls) -> Serving {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts");
            LocalSet::new().block_on(&runtime, async move {
                let listener =
                    tokio::net::TcpListener::from_std(door.listener).expect("a listener");
                tokio::task::spawn_local(accept(listener, face, tls));
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        });
        Serving { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        let joined = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(joined.is_some_and(|joined| joined.is_ok()), "the server has panicked");
    }
}

async fn accept(listener: tokio::net::TcpListener, face: Arc<PeerHttp>, tls: Tls) {
    loop {
        let Ok((socket, remote)) = listener.accept().await else { return };
        let _ = socket.set_nodelay(true);
        let (face, tls) = (Arc::clone(&face), tls.clone());
        tokio::task::spawn_local(async move {
            match tls {
                None => serve(TokioIo::new(socket), face, remote).await,
                Some(tls) => {
                    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
                    if let Ok(stream) = acceptor.accept(socket).await {
                        serve(TokioIo::new(stream), face, remote).await;
                    }
                }
            }
        });
    }
}

async fn serve<IO>(io: IO, face: Arc<PeerHttp>, remote: SocketAddr)
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let remote = remote.to_string();
    let service = service_fn(|request| {
        let answer = face.answer(request, &remote);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    // How a connection ends is the business of whoever opened it.
    let _ = http1::Builder::new().serve_connection(io, service).await;
}

/// A member with a listener.
pub(crate) struct Node {
    pub(crate) fake: Arc<Fake>,
    pub(crate) transport: Arc<PeerTransport>,
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    serving: Option<Serving>,
}

impl Node {
    pub(crate) fn start(id: u64) -> Node {
        Node::start_at(Door::open(), Fake::new(id, CLUSTER), None, None)
    }

    pub(crate) fn start_at(
        door: Door,
        fake: Arc<Fake>,
        dial: Option<ClientTls>,
        listen: Tls,
    ) -> Node {
        Node::start_tuned(door, fake, dial, listen, |options| options)
    }

    /// With other timeouts.
    pub(crate) fn start_tuned(
        door: Door,
        fake: Arc<Fake>,
        dial: Option<ClientTls>,
        listen: Tls,
        tune: impl FnOnce(Options) -> Options,
    ) -> Node {
        let scheme = if listen.is_some() { "https" } else { "http" };
        let (url, address) = (format!("{scheme}://{}", door.address), door.address);
        let options = Options { dial_timeout: PATIENCE, ..tune(Options::new(vec![url.clone()])) };
        let transport = PeerTransport::start(options, dial).expect("a transport");
        transport.attach(Arc::clone(&fake) as Arc<dyn Local>);
        let serving = Some(Serving::start(door, transport.face(), listen));
        Node { fake, transport, url, address, serving }
    }

    pub(crate) fn id(&self) -> MemberId {
        self.fake.member
    }

    pub(crate) fn as_member(&self) -> Member {
        Member { id: self.id(), peer_urls: vec![self.url.clone()], ..Member::default() }
    }

    pub(crate) fn follow(&self, members: &[Member]) {
        self.transport.follow(&Arc::new(membership(members)));
    }

    /// Waits until messages go both ways.
    #[track_caller]
    pub(crate) fn wait_for(&self, peer: MemberId) {
        wait(|| self.transport.connected_for(peer).is_some());
    }

    /// Takes its listener away, and every connection that came through it.
    pub(crate) fn close_door(&mut self) {
        self.serving = None;
    }

    /// Ends it, and gives its address back.
    pub(crate) fn stop(mut self) -> SocketAddr {
        self.serving = None;
        self.transport.stop();
        self.address
    }
}

pub(crate) fn membership(members: &[Member]) -> Membership {
    let mut membership = Membership::default();
    for member in members {
        membership.apply(mainstay_membership::Change::Add(member.clone()));
    }
    membership
}

/// Members that know each other and are connected.
pub(crate) fn cluster(count: u64) -> Vec<Node> {
    let nodes: Vec<Node> = (1..=count).map(Node::start).collect();
    let members: Vec<Member> = nodes.iter().map(Node::as_member).collect();
    nodes.iter().for_each(|node| node.follow(&members));
    for node in &nodes {
        nodes.iter().filter(|peer| peer.id() != node.id()).for_each(|p| node.wait_for(p.id()));
    }
    nodes
}

/// Looks until `holds`.
#[track_caller]
pub(crate) fn wait(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "what was waited for has not come");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A message between two members with a number that tells it from others.
pub(crate) fn numbered(kind: MessageKind, from: &Node, to: &Node, number: u64) -> Message {
    Message {
        kind,
        from: from.id(),
        to: to.id(),
        term: Term(7),
        commit: Index(number),
        ..Message::default()
    }
}

/// An append of one entry after `index`.
pub(crate) fn append(from: &Node, to: &Node, index: u64) -> Message {
    let entry =
        Entry { term: Term(7), index: Index(index + 1), data: "data".into(), ..Entry::default() };
    Message {
        log_term: Term(7),
        index: Index(index),
        entries: vec![entry],
        ..numbered(MessageKind::App, from, to, index)
    }
}
