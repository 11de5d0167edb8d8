//! One other member: its queues, and the tasks that serve it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use http::Request;
use mainstay_raft::{Message, MessageKind};
use mainstay_types::limits::{PEER_PIPELINE_POSTS, PEER_PIPELINE_QUEUE_MAX};
use mainstay_types::{MemberId, Version};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::client::{OutBody, Pool};
use crate::headers::introduce;
use crate::lane::{Lane, Pushed};
use crate::outgoing::StreamKind;
use crate::shared::Shared;
use crate::status::{Status, Way};
use crate::thread::Task;
use crate::url::{Origin, Picker};
use crate::{incoming, pipeline, prober};
use mainstay_server::network::PeerStats;

/// Another member.
pub(crate) struct Peer {
    pub(crate) id: MemberId,
    pub(crate) picker: Picker,
    pub(crate) status: Status,
    pub(crate) stats: Arc<PeerStats>,
    pub(crate) pool: Pool,
    apps: Lane,
    plain: Lane,
    /// Messages to POST.
    posts: mpsc::Sender<Message>,
    tasks: Mutex<Vec<Task>>,
    /// When a dropped message was last logged.
    complained: Mutex<Option<Instant>>,
    /// The version that it said last.
    version: Mutex<Option<Version>>,
    /// Nothing is sent to it.
    shunned: AtomicBool,
}

/// What becomes of a message that a peer was given.
pub(crate) enum Sent {
    /// It is on its way; whoever is in this must be woken.
    Queued(Option<Waker>),
    /// Its queue is full.
    Dropped,
}

impl Peer {
    /// Begins to talk to a member of the cluster.
    pub(crate) fn start(shared: &Arc<Shared>, id: MemberId, urls: &[String]) -> Arc<Peer> {
        let peer = Peer::start_posts(shared, id, urls);
        let mut tasks = peer.tasks.lock();
        for kind in [StreamKind::App, StreamKind::Plain] {
            let reader = incoming::run(Arc::clone(shared), Arc::clone(&peer), kind);
            tasks.push(shared.thread.spawn(reader));
        }
        let prober = prober::run(Arc::clone(shared), Arc::clone(&peer));
        tasks.push(shared.thread.spawn(prober));
        drop(tasks);
        tracing::info!("remote-peer-id" = %id, "started remote peer");
        peer
    }

    /// Begins to answer somebody who is no member that we know of.
    pub(crate) fn start_posts(shared: &Arc<Shared>, id: MemberId, urls: &[String]) -> Arc<Peer> {
        let stats = shared.stats.of(id);
        let (posts, waiting) = mpsc::channel(PEER_PIPELINE_QUEUE_MAX);
        let peer = Arc::new(Peer {
            id,
            picker: Picker::new(urls),
            status: Status::new(id, Arc::clone(&stats)),
            stats,
            pool: Pool::default(),
            apps: Lane::default(),
            plain: Lane::default(),
            posts,
            tasks: Mutex::default(),
            complained: Mutex::default(),
            version: Mutex::default(),
            shunned: AtomicBool::new(false),
        });
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let mut tasks = peer.tasks.lock();
        for _ in 0..PEER_PIPELINE_POSTS {
            let post = pipeline::run(Arc::clone(shared), Arc::clone(&peer), Arc::clone(&waiting));
            tasks.push(shared.thread.spawn(post));
        }
        drop(tasks);
        peer
    }

    /// Ends `task` when everything with it ends.
    pub(crate) fn keep(&self, task: Task) {
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Ends everything with it. What waits for a stream still leaves by it; what waits to be
    /// POSTed is lost.
    pub(crate) fn stop(&self) {
        for lane in [&self.apps, &self.plain] {
            if lane.is_attached() {
                self.status.down(Way::Out);
            }
            lane.close();
        }
        self.tasks.lock().clear();
        self.status.forget();
        tracing::info!("remote-peer-id" = %self.id, "stopped remote peer");
    }

    /// The queue of one of its streams.
    pub(crate) fn lane(&self, kind: StreamKind) -> &Lane {
        match kind {
            StreamKind::App => &self.apps,
            StreamKind::Plain => &self.plain,
        }
    }

    /// Takes note of the version that it says it runs. An error says why it is not to be
    /// talked to.
    pub(crate) fn runs(&self, shared: &Shared, version: Version) -> Result<(), String> {
        *self.version.lock() = Some(version);
        let why = shared.local().shuns(self.id, version);
        let before = self.shunned.swap(why.is_some(), Ordering::AcqRel);
        let Some(why) = why else { return Ok(()) };
        if !before || self.may_complain() {
            tracing::error!("remote-peer-id" = %self.id, "{why}");
        }
        Err(why)
    }

    /// Looks again at who it is; ends its streams when it is not to be talked to any more.
    pub(crate) fn look_again(&self, shared: &Shared) {
        let version = *self.version.lock();
        if let Some(version) = version
            && self.runs(shared, version).is_err()
        {
            for lane in [&self.apps, &self.plain] {
                if lane.cut() {
                    self.status.down(Way::Out);
                }
            }
        }
    }

    /// Whether nothing is sent to it, and nothing taken from it.
    pub(crate) fn is_shunned(&self) -> bool {
        self.shunned.load(Ordering::Acquire)
    }

    /// Puts a message on the first of its ways that is open (http.md 3.4).
    pub(crate) fn send(&self, message: Message) -> Sent {
        if self.is_shunned() {
            return Sent::Dropped;
        }
        let mut message = message;
        let kind = message.kind;
        // A snapshot may be large and would block a stream for long.
        if kind != MessageKind::Snap {
            let lanes = [(kind == MessageKind::App).then_some(&self.apps), Some(&self.plain)];
            for lane in lanes.into_iter().flatten() {
                match lane.push(message) {
                    Pushed::Queued(waker) => return Sent::Queued(waker),
                    Pushed::Full => return self.dropped(kind),
                    Pushed::Detached(back) => message = back,
                }
            }
        }
        match self.posts.try_send(message) {
            Ok(()) => Sent::Queued(None),
            Err(_) => self.dropped(kind),
        }
    }

    fn dropped(&self, kind: MessageKind) -> Sent {
        self.stats.sent_failures.inc();
        if self.may_complain() {
            tracing::warn!(
                "message-type" = ?kind,
                "remote-peer-id" = %self.id,
                "remote-peer-active" = self.status.is_active(),
                "dropped internal Raft message since sending buffer is full"
            );
        }
        Sent::Dropped
    }

    /// Whether a line about dropped messages may be logged: one a second says it all.
    pub(crate) fn may_complain(&self) -> bool {
        let mut complained = self.complained.lock();
        let may = complained.is_none_or(|last| last.elapsed() >= Duration::from_secs(1));
        if may {
            *complained = Some(Instant::now());
        }
        may
    }

    /// A request to it that says who asks.
    pub(crate) fn request(
        shared: &Shared,
        origin: &Origin,
        method: http::Method,
        path: &str,
        body: OutBody,
    ) -> Request<OutBody> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("paths are made of plain words and numbers");
        let urls = &shared.options.peer_urls;
        introduce(request.headers_mut(), origin.host(), shared.me(), urls);
        request
    }
}
