//! A thread with its connections.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, LocalSet};

use super::connection;
use super::door::Accepted;
use crate::grpc::Limits;
use crate::http::Http;
use crate::member::Member;
use crate::metrics::grpc::GrpcCells;
use crate::raft_face::{OpenAnswers, RaftFace};
use crate::services::Services;

/// HTTP/2 keepalive (`--grpc-keepalive-interval`, `--grpc-keepalive-timeout`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// An idle connection is pinged after this; `None` never.
    pub interval: Option<Duration>,
    /// An unanswered ping closes the connection after this.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// etcd's: 2 h and 20 s.
    fn default() -> Keepalive {
        let interval = Some(Duration::from_secs(2 * 60 * 60));
        Keepalive { interval, timeout: Duration::from_secs(20) }
    }
}

/// Tells everyone that the server ends.
#[derive(Clone)]
pub(crate) struct Stop {
    flag: Arc<AtomicBool>,
    told: watch::Receiver<bool>,
}

/// The other end of [`Stop`].
pub(crate) struct Stopper {
    flag: Arc<AtomicBool>,
    tell: watch::Sender<bool>,
}

impl Stop {
    pub(crate) fn pair() -> (Stopper, Stop) {
        let flag = Arc::new(AtomicBool::new(false));
        let (tell, told) = watch::channel(false);
        (Stopper { flag: Arc::clone(&flag), tell }, Stop { flag, told })
    }

    /// Whether the server ends.
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Resolves when the server ends.
    pub(crate) async fn wait(&self) {
        let mut told = self.told.clone();
        // An error means that the server is gone, which is an end as well.
        let _ = told.wait_for(|ended| *ended).await;
    }
}

impl Stopper {
    pub(crate) fn stop(&self) {
        self.flag.store(true, Ordering::Release);
        // Nobody may be listening any more.
        let _ = self.tell.send(true);
    }
}

/// What a connection finds on its shard.
pub(crate) struct Seat<M> {
    pub(crate) services: Services<M>,
    pub(crate) http: Http<M>,
    pub(crate) cells: Rc<GrpcCells>,
    pub(crate) limits: Limits,
    pub(crate) max_concurrent_streams: u32,
    pub(crate) keepalive: Keepalive,
    pub(crate) stop: Stop,
    /// Who answers raft's paths; nobody in a server without peers.
    pub(crate) raft: Option<Arc<dyn RaftFace>>,
    pub(crate) raft_answers: OpenAnswers,
}

/// What a shard is started with.
pub(crate) struct Shard {
    pub(crate) accepted: mpsc::UnboundedReceiver<Accepted>,
    /// How long connections may take to end once the server does.
    pub(crate) patience: watch::Receiver<Duration>,
}

impl Shard {
    /// Serves until stopped, on the calling thread.
    ///
    /// # Errors
    /// The runtime could not be built.
    pub(crate) fn run<M: Member>(self, seat: impl FnOnce() -> Seat<M>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = LocalSet::new();
        let served = local.run_until(async move { self.serve(Rc::new(seat())).await });
        runtime.block_on(served);
        Ok(())
    }

    /// Serves until stopped, in a `LocalSet` of the caller's.
    pub(crate) async fn serve<M: Member>(mut self, seat: Rc<Seat<M>>) {
        // Aborted with the shard's tasks, after the last connection.
        let member = seat.http.member.clone();
        tokio::task::spawn_local(async move { member.attend().await });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.accepted.recv() => match accepted {
                    Some(accepted) => {
                        connections.spawn_local(connection::serve(Rc::clone(&seat), accepted));
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
                () = seat.stop.wait() => break,
            }
        }
        // Whoever is on the way here is told at once, and does not wait for our end.
        self.accepted.close();
        while self.accepted.try_recv().is_ok() {}
        let patience = *self.patience.borrow();
        // Streams to other members end when those or the transport end, after us.
        let raft = &seat.raft_answers;
        let all = async {
            while connections.len() > raft.count() && connections.join_next().await.is_some() {}
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::debug!(left = connections.len(), "closing connections that did not end");
        }
    }
}
