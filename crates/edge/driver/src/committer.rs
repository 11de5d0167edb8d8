//! The committer: carries what apply has decided into the db file, on its own time.
//!
//! The log is the only synchronous write of a request. This thread commits what
//! has gathered after `--backend-batch-interval`, or sooner when
//! `--backend-batch-limit` operations wait, and takes the snapshots that let the
//! log be released. It also gives space back that the file no longer needs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainstay_apply::CommittedState;
use mainstay_backend::{Backend, BackendError};
use mainstay_env::{Clock, Disk, OpenMode};
use mainstay_raft::{ConfState, Snapshot};
use mainstay_types::limits::ROOM_PROBE_BYTES;
use mainstay_types::{Index, MemberId, Term};
use mainstay_wal::{SnapshotMark, WalError, snap};
use tokio::sync::oneshot;

use crate::handle::{RequestError, refused};
use crate::log_thread::LogHandle;
use crate::notes::Note;
use crate::queue::{Nothing, Receiver, Refused, Sender, bounded};
use crate::space::{Space, Writing};
use crate::stats::Stats;
use crate::stop::Stop;
use crate::transport::{DbCopy, DbOffer};

mod shrinker;

use shrinker::Turn;
pub(crate) use shrinker::{Shrinker, humanized};

/// Tells the consensus thread.
pub(crate) type Notify = Arc<dyn Fn(Note) + Send + Sync>;

type Slot = oneshot::Sender<Result<(), RequestError>>;
type OfferSlot = oneshot::Sender<Result<DbOffer, RequestError>>;

/// Orders that may wait; every client order holds a request of its own, so more
/// than this many are refused.
const QUEUE_MAX: usize = 1024;
/// Those of clients among them: the rest of the room is for the member's own threads, which
/// must not wait while a commit runs.
const ASKED_MAX: usize = QUEUE_MAX / 2;
/// How long a full disk is left alone.
const RETRY: Duration = Duration::from_secs(1);
/// Shows whether there is room; a start removes what is left of it.
const ROOM_PROBE: &str = "tmp.room";

enum Order {
    /// Rows wait that did not before, or more than the limit.
    Gathered,
    Commit(Slot),
    Defragment(Slot),
    Snapshot(StateAt),
    /// A follower needs one.
    SnapshotFor(MemberId),
    /// A member that has lost its db asks for this one.
    Offer(OfferSlot),
    Stop,
}

/// The replicated state's membership at an index, as a `.snap` file holds it.
#[derive(Clone)]
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
    /// It was told that the limit is reached: once, however long it is busy.
    full: Arc<AtomicBool>,
    /// Orders of clients that wait.
    asked: Arc<AtomicUsize>,
    compacting: Arc<AtomicBool>,
    ops_limit: usize,
}

impl CommitterHandle {
    pub(crate) fn new(ops_limit: usize) -> (CommitterHandle, Orders) {
        let (orders, queue) = bounded(QUEUE_MAX);
        let gathering = Arc::new(AtomicBool::new(false));
        let full = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let compacting = Arc::new(AtomicBool::new(false));
        let handle = CommitterHandle { orders, gathering, full, asked, compacting, ops_limit };
        let CommitterHandle { gathering, full, asked, compacting, .. } = handle.clone();
        (handle, Orders { queue, gathering, full, asked, compacting })
    }

    /// Whether a compaction deletes rows from now on: the file is not made smaller meanwhile
    /// unless a client asks for it.
    pub(crate) fn compacting(&self, is: bool) {
        self.compacting.store(is, Ordering::Release);
    }

    /// Tells that `pending` operations wait. Called by the apply thread after each
    /// turn; never blocks.
    pub(crate) fn gathered(&self, pending: usize) {
        let first = !self.gathering.swap(true, Ordering::AcqRel);
        let full = pending >= self.ops_limit && !self.full.swap(true, Ordering::AcqRel);
        if first || full {
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

    /// Makes a snapshot for a follower; the consensus thread hears of it, or that it failed.
    pub(crate) fn snapshot_for(&self, to: MemberId) {
        // As above.
        let _ = self.orders.send(Order::SnapshotFor(to));
    }

    /// Ends the thread after a last commit.
    pub(crate) fn stop(&self) {
        // As above.
        let _ = self.orders.send(Order::Stop);
    }

    /// Commits what waits, and pins the file as it is then.
    pub(crate) async fn offer(&self) -> Result<DbOffer, RequestError> {
        self.ask(Order::Offer).await
    }

    async fn ask<T>(
        &self,
        order: fn(oneshot::Sender<Result<T, RequestError>>) -> Order,
    ) -> Result<T, RequestError> {
        let (slot, answer) = oneshot::channel();
        let asked = if self.asked.fetch_add(1, Ordering::AcqRel) < ASKED_MAX {
            self.orders.try_send(order(slot))
        } else {
            Err(Refused::Full)
        };
        asked.map_err(|error| {
            self.asked.fetch_sub(1, Ordering::AcqRel);
            refused(error)
        })?;
        answer.await.map_err(|_| RequestError::Stopped)?
    }
}

/// The other end of a [`CommitterHandle`].
pub(crate) struct Orders {
    queue: Receiver<Order>,
    gathering: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    compacting: Arc<AtomicBool>,
}

impl Orders {
    fn is_compacting(&self) -> bool {
        self.compacting.load(Ordering::Acquire)
    }
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
    pub(crate) notify: Notify,
    pub(crate) stats: Arc<Stats>,
    pub(crate) stop: Stop,
    pub(crate) space: Space,
    /// A snapshot that was asked for and is not on the disk yet.
    pub(crate) wanted: Option<StateAt>,
    /// Has the newest view published, so that older ones hold no page of the file.
    pub(crate) refresh: Arc<dyn Fn() + Send + Sync>,
    pub(crate) shrinker: Shrinker,
    /// The quota in bytes; `None` is no quota.
    pub(crate) quota: Option<u64>,
}

impl Committer {
    /// Runs until stopped.
    pub(crate) fn run(mut self, orders: &Orders) {
        let mut due: Option<Duration> = None;
        self.look_for_space();
        loop {
            let next = [due, self.shrinker.due].into_iter().flatten().min();
            let order = match next {
                None => orders.queue.recv(),
                Some(at) => orders.queue.recv_timeout(at.saturating_sub(self.clock.now())),
            };
            if matches!(order, Ok(Order::Commit(_) | Order::Defragment(_) | Order::Offer(_))) {
                orders.asked.fetch_sub(1, Ordering::AcqRel);
            }
            let result = match order {
                Ok(Order::Gathered) => {
                    due.get_or_insert(self.clock.now() + self.interval);
                    if self.backend.pending_ops() < self.ops_limit || self.space.is_db_full() {
                        continue;
                    }
                    self.commit(orders)
                }
                Ok(Order::Commit(slot)) => answer(slot, self.commit(orders)),
                // What gathers meanwhile still has its time.
                Ok(Order::Defragment(slot)) => match self.defragment(orders, slot) {
                    Ok(()) => continue,
                    failed => failed,
                },
                Ok(Order::Snapshot(state)) => {
                    self.wanted = Some(state);
                    self.snapshot(orders)
                }
                Ok(Order::SnapshotFor(to)) => self.snapshot_for(orders, to),
                Ok(Order::Offer(slot)) => self.offer(orders, slot),
                Err(Nothing::Timeout) if self.shrinks_now(orders) => match self.shrink(orders) {
                    Turn::Looked => continue,
                    Turn::Committed(done) => done.and_then(|()| self.snapshot(orders)),
                },
                Err(Nothing::Timeout) => self.commit(orders).and_then(|()| self.snapshot(orders)),
                Ok(Order::Stop) | Err(Nothing::Closed) => return self.end(orders),
            };
            due = match result {
                Ok(()) => {
                    self.look_for_space();
                    self.look_for_room()
                }
                Err(Failure::NoRoom(error)) => {
                    if self.space.db_full(true) {
                        tracing::warn!(%error, "no room on the disk; the log has it all");
                    }
                    // With the reserve given up it is tried again at once.
                    let rest = !self.space.give_up_reserve(Writing::Db);
                    Some(self.clock.now() + if rest { RETRY } else { Duration::ZERO })
                }
                Err(Failure::Final { what, error }) => {
                    tracing::error!(%error, "{what}");
                    self.stop.because(format!("{what}: {error}"));
                    return;
                }
            };
        }
    }

    fn end(&mut self, orders: &Orders) {
        self.end_shrinking();
        if let Err(failure) = self.commit(orders) {
            let error = failure.to_string();
            tracing::error!(%error, "failed to commit at the end; the log has it all");
        }
    }

    /// Whether a disk that was full has room to go on, not just for what waited; when
    /// to look again if not.
    fn look_for_room(&self) -> Option<Duration> {
        if !self.space.is_db_full() {
            return None;
        }
        let path = self.snap_dir.join(ROOM_PROBE);
        let probe = self.disk.open(&path, OpenMode::CreateNew);
        let probed = probe.and_then(|file| file.allocate(ROOM_PROBE_BYTES));
        // Not there, or removed at the next start.
        let _ = self.disk.remove_file(&path);
        if probed.is_err() {
            return Some(self.clock.now() + RETRY);
        }
        self.space.db_full(false);
        tracing::info!("there is room on the disk again");
        None
    }

    fn commit(&self, orders: &Orders) -> Result<(), Failure> {
        self.commit_moving(orders, 0).map(drop)
    }

    /// Commits what waits, and moves `bytes` of the file on the way if it is being shrunk;
    /// answers how many operations waited.
    fn commit_moving(&self, orders: &Orders, bytes: u64) -> Result<usize, Failure> {
        // Cleared before the look, so that rows appended after it poke again.
        orders.gathering.store(false, Ordering::Release);
        orders.full.store(false, Ordering::Release);
        if self.backend.pending_ops() == 0 && bytes == 0 {
            return Ok(0);
        }
        let before = self.clock.now();
        let done = self.backend.commit_moving(bytes).map_err(Failure::of_commit)?;
        if let Some(why) = self.backend.sums_failed() {
            tracing::warn!(why, "failed to keep the checksums of the database's pages");
        }
        self.stats.backend_commit.observe(self.clock.now().saturating_sub(before));
        Ok(done.ops)
    }

    /// Takes the snapshot that is wanted, if one is. Order matters (disk.md 3): the db
    /// first, then `.snap`, then the log's record that makes it count, then what it
    /// makes superfluous.
    fn snapshot(&mut self, orders: &Orders) -> Result<(), Failure> {
        let Some(StateAt { index, term, conf_state, data }) = self.wanted.clone() else {
            return Ok(());
        };
        self.commit(orders)?;
        let before = self.clock.now();
        let mark = SnapshotMark { index, term, conf_state: Some(conf_state.clone()) };
        let snapshot = Snapshot { data, index, term, conf_state };
        snap::save(&*self.disk, &self.snap_dir, &snapshot).map_err(Failure::of_snapshot)?;
        self.wanted = None;
        // Writing it is little beside the sync.
        let took = self.clock.now().saturating_sub(before);
        self.stats.snap_save.observe(took);
        self.stats.snap_fsync.observe(took);
        tracing::info!(snapshot.index = index.0, snapshot.term = term.0, "saved snapshot");
        let purged = snap::purge_received(&*self.disk, &self.snap_dir, index);
        purged.map_err(Failure::of_snapshot)?;
        let (notify, disk) = (Arc::clone(&self.notify), Arc::clone(&self.disk));
        let (dir, keep) = (self.snap_dir.clone(), self.max_snapshots);
        let recorded = move || {
            // Not before the record: until then the older ones are all that counts.
            if keep > 0
                && let Err(error) = snap::purge(&*disk, &dir, index, keep)
            {
                tracing::warn!(%error, "failed to remove old snapshots; the next one tries again");
            }
            notify(Note::SnapshotTaken { index });
        };
        self.log.snapshot(mark, Box::new(recorded));
        Ok(())
    }

    /// As for a follower, for a member that asks by itself.
    fn offer(&self, orders: &Orders, slot: OfferSlot) -> Result<(), Failure> {
        let committed = self.commit(orders);
        let made = match &committed {
            Ok(()) => mainstay_apply::committed_state(&self.backend).map_err(|e| e.to_string()),
            Err(failure) => Err(failure.to_string()),
        };
        let offer = made.map(|CommittedState { snapshot, reader }| DbOffer {
            index: snapshot.index,
            term: snapshot.term,
            copy: Arc::new(PinnedDb(reader.copy())),
        });
        // Whoever asked may have gone.
        let _ = slot.send(offer.map_err(RequestError::Storage));
        committed
    }

    /// Commits and pins what a follower gets. A failure to read is its loss, not ours.
    fn snapshot_for(&self, orders: &Orders, to: MemberId) -> Result<(), Failure> {
        let committed = self.commit(orders);
        let made = match &committed {
            Ok(()) => mainstay_apply::committed_state(&self.backend).map_err(|e| e.to_string()),
            Err(failure) => Err(failure.to_string()),
        };
        (self.notify)(match made {
            Ok(CommittedState { snapshot, reader }) => {
                tracing::info!(
                    "snapshot-index" = snapshot.index.0,
                    "remote-peer-id" = %to,
                    bytes = reader.size(),
                    "sending merged snapshot"
                );
                Note::SnapshotReady { to, snapshot, db: Arc::new(PinnedDb(reader.copy())) }
            }
            Err(error) => {
                tracing::warn!("remote-peer-id" = %to, %error, "failed to make a snapshot");
                Note::SnapshotFailed { to }
            }
        });
        committed
    }
}

/// The bytes of a pinned db.
struct PinnedDb(mainstay_bolt::Copy);

impl DbCopy for PinnedDb {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> std::io::Result<()> {
        let read = self.0.read_at(at, out).map_err(std::io::Error::other)?;
        if read < out.len() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Nothing of it is done; it may be tried again.
    #[error("{0}")]
    NoRoom(String),
    /// The member must stop. `what` is etcd's line for it.
    #[error("{what}: {error}")]
    Final { what: &'static str, error: String },
}

impl Failure {
    fn of_commit(error: BackendError) -> Failure {
        match error {
            BackendError::Bolt(full @ mainstay_bolt::Error::Full { .. }) => {
                Failure::NoRoom(full.to_string())
            }
            error => Failure::Final { what: "failed to commit tx", error: error.to_string() },
        }
    }

    fn of_snapshot(error: WalError) -> Failure {
        if error.is_full() {
            return Failure::NoRoom(error.to_string());
        }
        Failure::Final { what: "failed to save snapshot", error: error.to_string() }
    }
}

/// Gives a client its answer, and hands it on.
fn answer(slot: Slot, result: Result<(), Failure>) -> Result<(), Failure> {
    let told = match &result {
        Ok(()) => Ok(()),
        Err(failure) => Err(RequestError::Storage(failure.to_string())),
    };
    // The client may have gone.
    let _ = slot.send(told);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While it defragments nobody empties its queue, and the member's own threads must
    /// find room in it.
    #[test]
    fn what_gathers_is_told_once_however_long_the_committer_is_busy() {
        let (handle, orders) = CommitterHandle::new(10);
        (0..QUEUE_MAX * 2).for_each(|pending| handle.gathered(pending));
        let told = std::iter::from_fn(|| orders.queue.try_recv());
        assert_eq!(told.filter(|order| matches!(order, Order::Gathered)).count(), 2);
    }
}
