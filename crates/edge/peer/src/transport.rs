//! The transport: a thread of its own, and what the driver calls.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use arc_swap::ArcSwap;
use mainstay_driver::{
    CallAnswer, CallError, DbAsk, DbCopy, DbFetched, FetchError, PeerCall, Transport,
};
use mainstay_membership::Membership;
use mainstay_raft::Message;
use mainstay_server::{ClientTls, Guest, TlsError};
use mainstay_types::MemberId;
use mainstay_types::limits::PEER_CALLS_WAITING_MAX;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::client::Dialer;
use crate::face::PeerHttp;
use crate::local::Local;
use crate::peer::Sent;
use crate::shared::{Shared, Table};
use crate::thread::{Running, Thread};
use crate::unfinished::Unfinished;
use crate::url::Origin;
use crate::{calls, fetch, snapshot};
use mainstay_server::network::NetworkStats;

/// How the transport is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where other members reach this one (`--initial-advertise-peer-urls`): told to
    /// those who do not know it yet.
    pub peer_urls: Vec<String>,
    /// How long connecting to a peer may take (etcd: 1 s and the election timeout).
    pub dial_timeout: Duration,
    /// `--raft-read-timeout`: how long a stream may be silent.
    pub read_timeout: Duration,
    /// `--raft-write-timeout`: how long what was written may lie.
    pub write_timeout: Duration,
    /// Gate `SetMemberLocalAddr`: where connections to peers leave from.
    pub local_addr: Option<IpAddr>,
}

impl Options {
    /// With etcd's timeouts.
    pub fn new(peer_urls: Vec<String>) -> Options {
        let five = Duration::from_secs(5);
        let dial_timeout = Duration::from_secs(2);
        Options {
            peer_urls,
            dial_timeout,
            read_timeout: five,
            write_timeout: five,
            local_addr: None,
        }
    }
}

/// Why the transport could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No thread, or no runtime for it.
    #[error("cannot start the thread of the peer transport: {0}")]
    Thread(#[from] io::Error),
}

/// etcd's peer protocol.
///
/// Made before the member, which needs it to start; the member is attached once it is
/// there. Until then it keeps silent.
pub struct PeerTransport {
    shared: Arc<Shared>,
    /// The membership to follow once the member is attached.
    early: Mutex<Option<Arc<Membership>>>,
    running: Mutex<Option<Running>>,
}

impl PeerTransport {
    /// Starts its thread. `tls` is what it shows and trusts when it dials `https`.
    ///
    /// # Errors
    /// The certificates, or the operating system.
    pub fn start(
        mut options: Options,
        tls: Option<ClientTls>,
    ) -> Result<Arc<PeerTransport>, StartError> {
        options.peer_urls.retain(|url| Origin::parse(url).is_some());
        let (thread, running) = Thread::start()?;
        let shared = Arc::new(Shared {
            dialer: Dialer::new(tls, &options),
            options,
            stats: Arc::default(),
            table: ArcSwap::from_pointee(Table::default()),
            changing: Mutex::default(),
            thread,
            local: OnceLock::new(),
            stopping: AtomicBool::new(false),
            calls: Arc::new(Semaphore::new(PEER_CALLS_WAITING_MAX)),
            snapshots: AtomicUsize::new(0),
            offers: AtomicUsize::new(0),
            unfinished: Unfinished::default(),
        });
        let looking = Arc::clone(&shared);
        shared.thread.host(Box::new(|| {
            Box::pin(async move { looking.dialer.look_at_certificates().await })
        }));
        Ok(Arc::new(PeerTransport {
            shared,
            early: Mutex::default(),
            running: Mutex::new(Some(running)),
        }))
    }

    /// Begins to work for `local`. Only the first call counts.
    pub fn attach(&self, local: Arc<dyn Local>) {
        let mut early = self.early.lock();
        if self.shared.local.set(local).is_ok()
            && let Some(membership) = early.take()
        {
            self.shared.follow(&membership);
        }
    }

    /// Who answers raft's paths on the peer listeners, see
    /// [`Server::with_raft`](mainstay_server::Server::with_raft).
    pub fn face(&self) -> Arc<PeerHttp> {
        Arc::new(PeerHttp(Arc::clone(&self.shared)))
    }

    /// What is counted, for `/metrics`; see
    /// [`Server::with_network`](mainstay_server::Server::with_network).
    pub fn stats(&self) -> Arc<NetworkStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Runs a guest on the transport's thread: the server of the peer listeners, see
    /// [`Server::serve_on`](mainstay_server::Server::serve_on). It ends with the transport.
    pub fn host(&self, guest: Guest) {
        self.shared.thread.host(guest);
    }

    /// Ends every connection and the thread. What waits is lost.
    pub fn stop(&self) {
        let Some(running) = self.running.lock().take() else { return };
        self.shared.stopping.store(true, Ordering::Release);
        let changing = self.shared.changing.lock();
        let table = self.shared.table.swap(Arc::default());
        // Its thread may want it before it ends.
        drop(changing);
        for peer in table.peers.values().chain(table.remotes.values()) {
            peer.stop();
        }
        running.stop();
    }
}

impl Drop for PeerTransport {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Transport for PeerTransport {
    fn send(&self, messages: Vec<Message>) {
        let table = self.shared.table.load();
        // One wake-up for each stream that sleeps, after all is in its queue.
        let mut wakers: Vec<Waker> = Vec::new();
        let mut lost: Vec<MemberId> = Vec::new();
        for message in messages {
            let to = message.to;
            if to == MemberId::NONE {
                continue;
            }
            match table.find(to).map(|peer| peer.send(message)) {
                Some(Sent::Queued(waker)) => wakers.extend(waker),
                Some(Sent::Dropped) | None if !lost.contains(&to) => lost.push(to),
                Some(Sent::Dropped) | None => {}
            }
        }
        wakers.into_iter().for_each(Waker::wake);
        lost.into_iter().for_each(|member| self.shared.unreachable(member));
    }

    fn send_snapshot(&self, message: Message, db: Arc<dyn DbCopy>) {
        let report = snapshot::Report::new(&self.shared, message.to);
        if let Some(peer) = self.shared.peer(message.to).filter(|peer| !peer.is_shunned()) {
            let shared = Arc::clone(&self.shared);
            let sending = snapshot::send(shared, Arc::clone(&peer), message, db, report);
            peer.keep(self.shared.thread.spawn(sending));
        }
    }

    fn follow(&self, membership: &Arc<Membership>) {
        let mut early = self.early.lock();
        if self.shared.is_stopping() {
            return;
        }
        if self.shared.local.get().is_some() {
            self.shared.follow(membership);
        } else {
            *early = Some(Arc::clone(membership));
        }
    }

    fn connected_for(&self, member: MemberId) -> Option<Duration> {
        self.shared.table.load().peers.get(&member)?.status.connected_for()
    }

    fn call(&self, to: MemberId, call: PeerCall) -> CallAnswer {
        let (mut slot, answer) = oneshot::channel();
        let Some(peer) = self.shared.peer(to) else {
            // The asker may have gone; then nobody wants the answer.
            let _ = slot.send(Err(CallError::Unknown(to)));
            return answer;
        };
        let Ok(permit) = Arc::clone(&self.shared.calls).try_acquire_owned() else {
            let _ = slot.send(Err(CallError::Unreachable("too many questions wait".to_owned())));
            return answer;
        };
        let shared = Arc::clone(&self.shared);
        let asking = async move {
            let result = tokio::select! {
                result = calls::ask(&shared, &peer, &call) => result,
                () = slot.closed() => return,
            };
            drop(permit);
            let _ = slot.send(result);
        };
        self.shared.thread.host(Box::new(|| Box::pin(asking)));
        answer
    }

    fn fetch_db(
        &self,
        ask: &DbAsk,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<DbFetched, FetchError> {
        let (sender, pieces) = fetch::pieces();
        let (shared, ask) = (Arc::clone(&self.shared), ask.clone());
        let fetching = async move {
            let own_urls = &shared.options.peer_urls;
            fetch::Asker { dialer: &shared.dialer, own_urls, ask: &ask }.run(&sender).await;
        };
        self.shared.thread.host(Box::new(|| Box::pin(fetching)));
        fetch::write(pieces, sink)
    }
}
