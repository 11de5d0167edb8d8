//! The log thread: the only synchronous writer. Everything that waits becomes one
//! write and one fdatasync.

use std::sync::Arc;
use std::thread::JoinHandle;

use mainstay_env::Clock;
use mainstay_raft::{Entry, HardState, Mark};
use mainstay_wal::{SnapshotMark, Wal, WalError};
use parking_lot::Mutex;

use crate::consensus::Command;
use crate::queue::{Receiver, Sender, bounded};
use crate::stats::Stats;
use crate::stop::Stop;

/// Persists that may wait. The consensus thread blocks past it: it cannot go on
/// without its log, and the log thread never waits for it.
const QUEUE_MAX: usize = 4096;

/// Entries and hard state that must be durable before `mark` counts.
pub(crate) struct Persist {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) must_sync: bool,
    pub(crate) mark: Mark,
}

enum Order {
    Persist(Persist),
    Snapshot { mark: SnapshotMark, done: Box<dyn FnOnce() + Send> },
    Stop,
}

/// The front of the log thread.
#[derive(Clone)]
pub(crate) struct LogHandle {
    orders: Sender<Order>,
    persisted: Arc<Mutex<Option<Mark>>>,
}

impl LogHandle {
    /// Queues a persist.
    pub(crate) fn persist(&self, persist: Persist) {
        // A closed queue means the thread has stopped, with its reason told.
        let _ = self.orders.send(Order::Persist(persist));
    }

    /// Writes a snapshot record, releases what it covers, then calls `done`.
    pub(crate) fn snapshot(&self, mark: SnapshotMark, done: Box<dyn FnOnce() + Send>) {
        // As above.
        let _ = self.orders.send(Order::Snapshot { mark, done });
    }

    /// The newest durable mark since the last call.
    pub(crate) fn take_persisted(&self) -> Option<Mark> {
        self.persisted.lock().take()
    }

    /// Ends the thread after what is queued.
    pub(crate) fn stop(&self) {
        // As above.
        let _ = self.orders.send(Order::Stop);
    }
}

/// What the thread needs.
pub(crate) struct LogThread {
    pub(crate) wal: Wal,
    pub(crate) max_wals: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) stop: Stop,
    pub(crate) consensus: Sender<Command>,
}

impl LogThread {
    /// Starts the thread.
    pub(crate) fn start(self) -> std::io::Result<(LogHandle, JoinHandle<()>)> {
        let (orders, queue) = bounded(QUEUE_MAX);
        let persisted = Arc::new(Mutex::new(None));
        let handle = LogHandle { orders, persisted: Arc::clone(&persisted) };
        let join = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || self.run(&queue, &persisted))?;
        Ok((handle, join))
    }

    fn run(mut self, queue: &Receiver<Order>, persisted: &Mutex<Option<Mark>>) {
        loop {
            // An idle moment is when the next segment is made.
            let first = match queue.try_recv() {
                Some(order) => order,
                None => {
                    self.prepare_next();
                    let Ok(order) = queue.recv() else { return };
                    order
                }
            };
            match self.turn(first, queue, persisted) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(error = %error, "failed to save Raft hard state and entries");
                    self.stop
                        .because(format!("failed to save Raft hard state and entries: {error}"));
                    return;
                }
            }
        }
    }

    /// Takes everything that waits; one sync covers it.
    fn turn(
        &mut self,
        first: Order,
        queue: &Receiver<Order>,
        persisted: &Mutex<Option<Mark>>,
    ) -> Result<bool, WalError> {
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Persist(persist) => gathered.add(persist),
                Order::Snapshot { mark, done } => {
                    self.flush(std::mem::take(&mut gathered), persisted)?;
                    self.record_snapshot(&mark)?;
                    done();
                }
                Order::Stop => {
                    self.flush(gathered, persisted)?;
                    return Ok(false);
                }
            }
            next = queue.try_recv();
        }
        self.flush(gathered, persisted)?;
        Ok(true)
    }

    fn flush(
        &mut self,
        gathered: Gathered,
        persisted: &Mutex<Option<Mark>>,
    ) -> Result<(), WalError> {
        let Some(mark) = gathered.mark else { return Ok(()) };
        let before = self.clock.now();
        self.wal.save(gathered.hard_state.as_ref(), &gathered.entries, gathered.must_sync)?;
        if gathered.must_sync {
            self.stats.wal_fsync.observe(self.clock.now().saturating_sub(before));
        }
        *persisted.lock() = Some(mark);
        // A full queue means the consensus thread is awake and will look by itself.
        let _ = self.consensus.try_send(Command::Wake);
        Ok(())
    }

    fn record_snapshot(&mut self, mark: &SnapshotMark) -> Result<(), WalError> {
        self.wal.save_snapshot(mark)?;
        self.wal.release_to(mark.index)?;
        if self.max_wals > 0 {
            self.wal.purge(self.max_wals)?;
        }
        Ok(())
    }

    fn prepare_next(&mut self) {
        if let Err(error) = self.wal.prepare_next() {
            // Not fatal: the cut itself will try again and fail loudly.
            tracing::warn!(error = %error, "failed to prepare the next WAL segment");
        }
    }
}

/// Several persists as one.
#[derive(Default)]
struct Gathered {
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    must_sync: bool,
    mark: Option<Mark>,
}

impl Gathered {
    fn add(&mut self, persist: Persist) {
        self.hard_state = persist.hard_state.or(self.hard_state.take());
        if self.entries.is_empty() {
            self.entries = persist.entries;
        } else {
            self.entries.extend(persist.entries);
        }
        self.must_sync |= persist.must_sync;
        self.mark = Some(persist.mark);
    }
}
