//! The committer: carries what apply has decided into the db file, on its own time.
//!
//! The log is the only synchronous write of a request. This thread commits what
//! has gathered after `--backend-batch-interval`, or sooner when
//! `--backend-batch-limit` operations wait, and takes the snapshots that let the
//! log be released.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainstay_backend::Backend;
use mainstay_env::{Clock, Disk};
use mainstay_raft::{ConfState, Snapshot};
use mainstay_types::{Index, Term};
use mainstay_wal::{SnapshotMark, snap};
use tokio::sync::oneshot;

use crate::consensus::Command;
use crate::handle::RequestError;
use crate::log_thread::LogHandle;
use crate::queue::{Nothing, Receiver, Refused, Sender, bounded};
use crate::stats::Stats;
use crate::stop::Stop;

type Slot = oneshot::Sender<Result<(), RequestError>>;

/// Orders that may wait; every client order holds a request of its own, so more
/// than this many are refused.
const QUEUE_MAX: usize = 1024;

enum Order {
    /// Rows wait that did not before, or more than the limit.
    Gathered,
    Commit(Slot),
    Defragment(Slot),
    Snapshot(StateAt),
    Stop,
}

/// The replicated state's membership at an index, as a `.snap` file holds it.
pub(crate) struct StateAt {
    pub(crate) index: Index,
    pub(crate) term: Term,
    pub(crate) conf_state: ConfState,
    /// The v2 store as JSON.
    pub(crate) data: Bytes,
}

/// The front of the committer.
#[derive(Clone)]
pub(crate) struct CommitterHandle {
    orders: Sender<Order>,
    gathering: Arc<AtomicBool>,
    ops_limit: usize,
}

impl CommitterHandle {
    pub(crate) fn new(ops_limit: usize) -> (CommitterHandle, Orders) {
        let (orders, queue) = bounded(QUEUE_MAX);
        let gathering = Arc::new(AtomicBool::new(false));
        let orders_end = Orders { queue, gathering: Arc::clone(&gathering) };
        (CommitterHandle { orders, gathering, ops_limit }, orders_end)
    }

    /// Tells that `pending` operations wait. Called by the apply thread after each
    /// turn; never blocks.
    pub(crate) fn gathered(&self, pending: usize) {
        let first = !self.gathering.swap(true, Ordering::AcqRel);
        if first || pending >= self.ops_limit {
            // A full queue means the committer is awake and will look by itself.
            let _ = self.orders.try_send(Order::Gathered);
        }
    }

    pub(crate) async fn commit_now(&self) -> Result<(), RequestError> {
        self.ask(Order::Commit).await
    }

    pub(crate) async fn defragment(&self) -> Result<(), RequestError> {
        self.ask(Order::Defragment).await
    }

    /// Queues a snapshot; one at a time is asked for.
    pub(crate) fn snapshot(&self, state: StateAt) {
        // A closed queue means the member stops.
        let _ = self.orders.send(Order::Snapshot(state));
    }

    /// Ends the thread after a last commit.
    pub(crate) fn stop(&self) {
        // As above.
        let _ = self.orders.send(Order::Stop);
    }

    async fn ask(&self, order: fn(Slot) -> Order) -> Result<(), RequestError> {
        let (slot, answer) = oneshot::channel();
        self.orders.try_send(order(slot)).map_err(|error| match error {
            Refused::Full => RequestError::TooManyRequests,
            Refused::Closed => RequestError::Stopped,
        })?;
        answer.await.map_err(|_| RequestError::Stopped)?
    }
}

/// The other end of a [`CommitterHandle`].
pub(crate) struct Orders {
    queue: Receiver<Order>,
    gathering: Arc<AtomicBool>,
}

/// The thread's state.
pub(crate) struct Committer {
    pub(crate) backend: Backend,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) snap_dir: PathBuf,
    pub(crate) max_snapshots: usize,
    pub(crate) interval: Duration,
    pub(crate) ops_limit: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: LogHandle,
    pub(crate) consensus: Sender<Command>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) stop: Stop,
}

impl Committer {
    /// Runs until stopped.
    pub(crate) fn run(self, orders: &Orders) {
        let mut due: Option<Duration> = None;
        loop {
            let order = match due {
                None => orders.queue.recv(),
                Some(at) => orders.queue.recv_timeout(at.saturating_sub(self.clock.now())),
            };
            let result = match order {
                Ok(Order::Gathered) => {
                    due.get_or_insert(self.clock.now() + self.interval);
                    if self.backend.pending_ops() >= self.ops_limit {
                        self.commit(orders)
                    } else {
                        continue;
                    }
                }
                Ok(Order::Commit(slot)) => answer(slot, self.commit(orders)),
                Ok(Order::Defragment(slot)) => answer(slot, self.defragment(orders)),
                Ok(Order::Snapshot(state)) => self.snapshot(orders, state),
                Err(Nothing::Timeout) => self.commit(orders),
                Ok(Order::Stop) | Err(Nothing::Closed) => {
                    if let Err(error) = self.commit(orders) {
                        tracing::error!(%error, "failed to commit at the end; the log has it all");
                    }
                    return;
                }
            };
            due = None;
            if let Err(error) = result {
                tracing::error!(%error, "failed to commit tx");
                self.stop.because(format!("failed to commit tx: {error}"));
                return;
            }
        }
    }

    fn commit(&self, orders: &Orders) -> Result<(), RequestError> {
        // Cleared before the look, so that rows appended after it poke again.
        orders.gathering.store(false, Ordering::Release);
        if self.backend.pending_ops() == 0 {
            return Ok(());
        }
        let before = self.clock.now();
        self.backend.commit().map_err(storage)?;
        self.stats.backend_commit.observe(self.clock.now().saturating_sub(before));
        Ok(())
    }

    fn defragment(&self, orders: &Orders) -> Result<(), RequestError> {
        self.commit(orders)?;
        let before = self.clock.now();
        tracing::info!("defragmenting");
        self.backend.defragment().map_err(storage)?;
        let took = self.clock.now().saturating_sub(before);
        self.stats.backend_defrag.observe(took);
        tracing::info!(took = ?took, "finished defragmenting directory");
        Ok(())
    }

    /// Order matters (disk.md 3): the db first, then `.snap`, then the log's record
    /// that makes it count, then what it makes superfluous.
    fn snapshot(&self, orders: &Orders, state: StateAt) -> Result<(), RequestError> {
        self.commit(orders)?;
        let StateAt { index, term, conf_state, data } = state;
        let mark = SnapshotMark { index, term, conf_state: Some(conf_state.clone()) };
        let snapshot = Snapshot { data, index, term, conf_state };
        snap::save(&*self.disk, &self.snap_dir, &snapshot).map_err(storage)?;
        tracing::info!(snapshot.index = index.0, snapshot.term = term.0, "saved snapshot");
        if self.max_snapshots > 0 {
            snap::purge(&*self.disk, &self.snap_dir, self.max_snapshots).map_err(storage)?;
        }
        let consensus = self.consensus.clone();
        self.log.snapshot(
            mark,
            Box::new(move || {
                // A closed queue means the member stops.
                let _ = consensus.send(Command::SnapshotTaken { index });
            }),
        );
        Ok(())
    }
}

/// Gives a client its answer; a failure stops the thread as well.
fn answer(slot: Slot, result: Result<(), RequestError>) -> Result<(), RequestError> {
    // The client may have gone.
    let _ = slot.send(result.clone());
    result
}

fn storage(error: impl std::fmt::Display) -> RequestError {
    RequestError::Storage(error.to_string())
}
