//! The log: the only synchronous writer. Everything that waits becomes one write and
//! one fdatasync.
//!
//! Entries are written by the log thread, beside replication, or by the consensus
//! thread itself where there is nobody to replicate to: see
//! [`LogHandle::persist_here`].

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mainstay_env::{Clock, Disk};
use mainstay_failpoints::fail_point;
use mainstay_raft::{Entry, HardState, Mark, Message, Snapshot};
use mainstay_types::Index;
use mainstay_types::limits::LOG_RESERVE_BYTES;
use mainstay_wal::{SnapshotMark, Step, Wal, WalError, snap};
use parking_lot::{Mutex, MutexGuard};

use crate::consensus::desk::{Desk, Place};
use crate::queue::{Nothing, Receiver, Sender, bounded};
use crate::space::{Space, Writing};
use crate::stats::Stats;
use crate::stop::Stop;
use crate::transport::Transport;

/// Persists that may wait. The consensus thread blocks past it: it cannot go on
/// without its log, and the log thread never waits for it.
const QUEUE_MAX: usize = 4096;
/// A write that takes longer than this makes its thread leave the next ones to the log
/// thread, for [`SLOW_FOR`].
const SLOW_WRITE: Duration = Duration::from_millis(20);
const SLOW_FOR: Duration = Duration::from_secs(5);
/// How long a disk without room for a segment is left alone.
const RETRY: Duration = Duration::from_secs(1);
/// How long a disk without room for a record is left alone.
const RETRY_RECORD: Duration = Duration::from_millis(100);
/// Bytes of a record beside the entry's own, at most.
const RECORD_BYTES_MORE: u64 = 256;

/// Entries and hard state that must be durable before `mark` counts.
#[derive(Default)]
pub(crate) struct Persist {
    /// Replaces the log: to be stored before all else.
    pub(crate) snapshot: Option<Box<Snapshot>>,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) must_sync: bool,
    pub(crate) mark: Mark,
    /// May leave once this and all before it is durable.
    pub(crate) then_send: Vec<Message>,
}

impl Persist {
    /// No more than this becomes of it in the log.
    fn bytes(&self) -> u64 {
        let entry = |entry: &Entry| entry.data.len() as u64 + RECORD_BYTES_MORE;
        // The hard state before and behind them.
        2 * RECORD_BYTES_MORE + self.entries.iter().map(entry).sum::<u64>()
    }
}

enum Order {
    Persist(Persist),
    Snapshot {
        mark: SnapshotMark,
        done: Box<dyn FnOnce() + Send>,
    },
    /// Nothing to write: a segment may have to be prepared.
    Look,
    Stop,
}

/// The front of the log.
#[derive(Clone)]
pub(crate) struct LogHandle {
    orders: Sender<Order>,
    log: Arc<Log>,
}

/// What both threads that write hold.
struct Log {
    writer: Mutex<Writer>,
    /// Persists that are queued and not yet written: nothing may overtake them.
    queued: AtomicUsize,
    persisted: Mutex<Option<Mark>>,
    /// Until when the disk counts as slow, in milliseconds of the member's clock.
    slow_until_ms: AtomicU64,
    clock: Arc<dyn Clock>,
    /// The member ends: nobody waits for room any more.
    hurry: Arc<AtomicBool>,
    stop: Stop,
    transport: Arc<dyn Transport>,
}

impl LogHandle {
    /// Queues a persist.
    pub(crate) fn persist(&self, persist: Persist) {
        self.log.queued.fetch_add(1, Ordering::AcqRel);
        // A closed queue means the thread has stopped, with its reason told.
        let _ = self.orders.send(Order::Persist(persist));
    }

    /// Persists that are queued and not yet written.
    pub(crate) fn queued(&self) -> usize {
        self.log.queued.load(Ordering::Acquire)
    }

    /// Whether the disk was quick of late.
    pub(crate) fn is_quick(&self) -> bool {
        millis(self.log.clock.now()) >= self.log.slow_until_ms.load(Ordering::Relaxed)
    }

    /// Writes on the caller's thread and returns the mark, now durable; queues instead
    /// when others wait or the log is busy. For a lone voter, which has nobody to talk to
    /// while the disk works, and for a follower, whose leader waits for nothing else: two
    /// wake-ups of a thread cost more than the write.
    ///
    /// What may have to wait for room on the disk is always queued.
    pub(crate) fn persist_here(&self, persist: Persist) -> Option<Mark> {
        let free = self.log.queued.load(Ordering::Acquire) == 0 && persist.snapshot.is_none();
        let writer = free.then(|| self.log.writer.try_lock()).flatten();
        let Some(mut writer) = writer.filter(|writer| writer.wal.fits(persist.bytes())) else {
            self.persist(persist);
            return None;
        };
        let mark = persist.mark;
        let mut gathered = Gathered::from(persist);
        let begun = self.log.clock.now();
        writer.may_wait.store(false, Ordering::Relaxed);
        match writer.save(&gathered) {
            Ok(()) => {}
            Err(error) if error.is_full() => {
                // A file system that breaks its promises. The log has it all, and the other
                // thread may wait.
                let then_send = std::mem::take(&mut gathered.then_send);
                self.persist(Persist { must_sync: true, mark, then_send, ..Persist::default() });
                return None;
            }
            Err(error) => {
                self.log.stop.because(save_failed(&error));
                return None;
            }
        }
        let ended = self.log.clock.now();
        if ended.saturating_sub(begun) > SLOW_WRITE {
            self.log.slow_until_ms.store(millis(ended + SLOW_FOR), Ordering::Relaxed);
        }
        if !gathered.then_send.is_empty() {
            fail_point!("raftBeforeFollowerSend");
            self.log.transport.send(gathered.then_send);
        }
        if writer.wants_segment() {
            // A full queue means that the thread is awake and will look by itself.
            let _ = self.orders.try_send(Order::Look);
        }
        Some(mark)
    }

    /// Writes a snapshot record, releases what it covers, then calls `done`.
    pub(crate) fn snapshot(&self, mark: SnapshotMark, done: Box<dyn FnOnce() + Send>) {
        // As above.
        let _ = self.orders.send(Order::Snapshot { mark, done });
    }

    /// The newest durable mark since the last call, of those that were queued.
    pub(crate) fn take_persisted(&self) -> Option<Mark> {
        self.log.persisted.lock().take()
    }

    /// The member ends: what finds no room from now on is given up. It was never
    /// acknowledged.
    pub(crate) fn hurry(&self) {
        self.log.hurry.store(true, Ordering::Release);
    }

    /// Ends the thread after what is queued.
    pub(crate) fn stop(&self) {
        // As above.
        let _ = self.orders.send(Order::Stop);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The disk has no room for the log: whether to try again, and it may have been waited.
fn found_full(space: &Space, may_wait: &AtomicBool, hurry: &AtomicBool, error: &WalError) -> bool {
    if space.give_up_reserve(Writing::Log) {
        return true;
    }
    space.look();
    if space.log_waits(true) {
        tracing::warn!(
            %error,
            "free-bytes" = space.free(),
            "no room on the disk for the log: nothing is acknowledged until there is"
        );
    }
    let waits = may_wait.load(Ordering::Relaxed) && !hurry.load(Ordering::Acquire);
    if waits {
        std::thread::sleep(RETRY_RECORD);
    }
    waits
}

fn save_failed(error: &WalError) -> String {
    tracing::error!(error = %error, "failed to save Raft hard state and entries");
    format!("failed to save Raft hard state and entries: {error}")
}

/// The log itself, with what is counted about it.
pub(crate) struct Writer {
    wal: Wal,
    max_wals: usize,
    disk: Arc<dyn Disk>,
    snap_dir: PathBuf,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    space: Space,
    /// When a segment that did not fit is tried again.
    retry_at: Duration,
    /// A write has failed: whatever came after it would leave a gap.
    failed: bool,
    /// Whoever writes now may wait for room on the disk.
    may_wait: Arc<AtomicBool>,
    /// See [`LogHandle::hurry`].
    hurry: Arc<AtomicBool>,
}

impl Writer {
    /// Over `wal`, with the room on its disk, the folder of `.snap` files and how many
    /// segments are kept.
    pub(crate) fn new(
        wal: Wal,
        (space, snap_dir, max_wals): (Space, PathBuf, usize),
        disk: Arc<dyn Disk>,
        clock: &Arc<dyn Clock>,
        stats: &Arc<Stats>,
    ) -> Writer {
        let (clock, stats) = (Arc::clone(clock), Arc::clone(stats));
        Writer {
            wal,
            max_wals,
            disk,
            snap_dir,
            clock,
            stats,
            space,
            retry_at: Duration::ZERO,
            failed: false,
            may_wait: Arc::default(),
            hurry: Arc::default(),
        }
        .waiting_for_room()
    }

    /// Has the log ask us when the disk is full.
    fn waiting_for_room(mut self) -> Writer {
        let (space, may_wait) = (self.space.clone(), Arc::clone(&self.may_wait));
        let hurry = Arc::clone(&self.hurry);
        self.wal.when_full(Box::new(move |error| found_full(&space, &may_wait, &hurry, error)));
        self
    }

    fn save(&mut self, gathered: &Gathered) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Stopped);
        }
        self.wal.grow_only(self.space.is_spent());
        let saved = self.save_all(gathered);
        match &saved {
            Ok(()) if self.space.log_waits(false) => {
                tracing::info!("there is room for the log again: what waited is on the disk");
            }
            // It is neither lost nor on the disk.
            Err(error) if error.is_full() => {}
            done => self.failed = done.is_err(),
        }
        saved
    }

    fn save_all(&mut self, gathered: &Gathered) -> Result<(), WalError> {
        if let Some(snapshot) = &gathered.snapshot {
            fail_point!("raftBeforeSaveSnap");
            self.take_over(snapshot, gathered.hard_state)?;
            fail_point!("raftAfterSaveSnap");
        }
        fail_point!("raftBeforeSave");
        self.wal.save(gathered.hard_state.as_ref(), &gathered.entries, gathered.must_sync)?;
        fail_point!("raftAfterSave");
        if let Some(snapshot) = &gathered.snapshot {
            self.release_to(snapshot.index)?;
            fail_point!("raftAfterWALRelease");
        }
        Ok(())
    }

    /// Counts what the log writes from now on.
    fn count(&mut self) {
        let (clock, stats) = (Arc::clone(&self.clock), Arc::clone(&self.stats));
        let mut begun = Duration::ZERO;
        self.wal.observe(Box::new(move |step| {
            let now = clock.now();
            let took = now.saturating_sub(std::mem::replace(&mut begun, now));
            match step {
                Step::Write => {}
                Step::Sync(bytes) => {
                    fail_point!("walBeforeSync");
                    stats.wal_write.observe(took);
                    stats.wal_write_bytes.add(i64::try_from(bytes).unwrap_or(i64::MAX));
                }
                Step::Done => {
                    fail_point!("walAfterSync");
                    stats.wal_fsync.observe(took);
                }
            }
        }));
    }

    fn wants_segment(&self) -> bool {
        !self.wal.has_next() && self.clock.now() >= self.retry_at
    }

    /// A commit index that no entry has carried to the disk is written at a clean end.
    fn end(&mut self) -> Result<(), WalError> {
        self.wal.save(None, &[], true)
    }

    fn record_snapshot(&mut self, mark: &SnapshotMark) -> Result<(), WalError> {
        let state = self.wal.hard_state();
        if state.commit < mark.index {
            // What is applied is committed. A log that does not say so makes whoever
            // opens it after a crash pass this snapshot over (disk.md 2.5).
            let state = HardState { commit: mark.index, ..state };
            self.wal.save(Some(&state), &[], false)?;
        }
        fail_point!("raftBeforeWALSaveSnaphot");
        self.wal.save_snapshot(mark)?;
        self.release_to(mark.index)
    }

    /// A leader's snapshot stands for the log so far. Its db is on the disk already.
    fn take_over(
        &mut self,
        snapshot: &Snapshot,
        hard_state: Option<HardState>,
    ) -> Result<(), WalError> {
        while let Err(error) = snap::save(&*self.disk, &self.snap_dir, snapshot) {
            let again =
                error.is_full() && found_full(&self.space, &self.may_wait, &self.hurry, &error);
            if !again {
                return Err(error);
            }
        }
        let mark = SnapshotMark {
            index: snapshot.index,
            term: snapshot.term,
            conf_state: Some(snapshot.conf_state.clone()),
        };
        self.wal.save_received(&mark, hard_state)?;
        tracing::info!(
            snapshot.index = snapshot.index.0,
            snapshot.term = snapshot.term.0,
            "saved a snapshot of the leader"
        );
        Ok(())
    }

    fn release_to(&mut self, index: Index) -> Result<(), WalError> {
        self.wal.release_to(index)?;
        if self.max_wals > 0 {
            self.wal.purge(self.max_wals)?;
        }
        Ok(())
    }

    fn prepare_next(&mut self) {
        self.wal.grow_only(self.space.is_spent());
        if !self.wants_segment() {
            return;
        }
        let Err(error) = self.wal.prepare_next() else {
            if self.space.log_full(false) {
                tracing::info!("there is room for the next WAL segment again");
            }
            return;
        };
        // Not fatal: the cut itself will try again and fail loudly.
        self.retry_at = self.clock.now() + RETRY;
        if !error.is_full() {
            tracing::warn!(error = %error, "failed to prepare the next WAL segment");
        } else if self.wal.room() < LOG_RESERVE_BYTES && self.space.log_full(true) {
            tracing::warn!(error = %error, "no room on the disk for the next WAL segment");
        }
    }
}

/// What the thread needs.
pub(crate) struct LogThread {
    writer: Writer,
    stop: Stop,
    consensus: Arc<Desk>,
    transport: Arc<dyn Transport>,
}

impl LogThread {
    pub(crate) fn new(
        writer: Writer,
        stop: Stop,
        consensus: Arc<Desk>,
        transport: Arc<dyn Transport>,
    ) -> LogThread {
        LogThread { writer, stop, consensus, transport }
    }

    /// Starts the thread.
    pub(crate) fn start(mut self) -> std::io::Result<(LogHandle, JoinHandle<()>)> {
        self.writer.count();
        let (orders, queue) = bounded(QUEUE_MAX);
        let (clock, hurry) = (Arc::clone(&self.writer.clock), Arc::clone(&self.writer.hurry));
        let log = Arc::new(Log {
            slow_until_ms: AtomicU64::new(0),
            clock,
            writer: Mutex::new(self.writer),
            queued: AtomicUsize::new(0),
            persisted: Mutex::new(None),
            hurry,
            stop: self.stop,
            transport: self.transport,
        });
        let handle = LogHandle { orders, log: Arc::clone(&log) };
        let consensus = self.consensus;
        let join = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || run(&log, &queue, &consensus))?;
        Ok((handle, join))
    }
}

fn run(log: &Log, queue: &Receiver<Order>, consensus: &Desk) {
    loop {
        // An idle moment is when the next segment is made.
        let first = match queue.try_recv() {
            Some(order) => order,
            None => {
                log.writer.lock().prepare_next();
                let wanting = !log.writer.lock().wal.has_next();
                match if wanting { queue.recv_timeout(RETRY) } else { queue.recv() } {
                    Ok(order) => order,
                    Err(Nothing::Timeout) => continue,
                    Err(Nothing::Closed) => return,
                }
            }
        };
        match log.turn(first, queue, consensus) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) if error.is_full() && log.hurry.load(Ordering::Acquire) => {
                tracing::warn!(%error, "the member ends without room for what it was about to log; none of it was acknowledged");
                return;
            }
            Err(error) => {
                log.stop.because(save_failed(&error));
                return;
            }
        }
    }
}

impl Log {
    /// Takes everything that waits; one sync covers it.
    fn turn(
        &self,
        first: Order,
        queue: &Receiver<Order>,
        consensus: &Desk,
    ) -> Result<bool, WalError> {
        let mut gathered = Gathered::default();
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Persist(persist) => {
                    if persist.snapshot.is_some() {
                        self.flush(std::mem::take(&mut gathered), consensus)?;
                    }
                    gathered.add(persist);
                }
                Order::Snapshot { mark, done } => {
                    self.flush(std::mem::take(&mut gathered), consensus)?;
                    self.lock_patiently().record_snapshot(&mark)?;
                    done();
                }
                Order::Look => {}
                Order::Stop => {
                    self.flush(gathered, consensus)?;
                    self.lock_patiently().end()?;
                    return Ok(false);
                }
            }
            next = queue.try_recv();
        }
        self.flush(gathered, consensus)?;
        Ok(true)
    }

    /// For the log thread, which may wait for room.
    fn lock_patiently(&self) -> MutexGuard<'_, Writer> {
        let writer = self.writer.lock();
        writer.may_wait.store(true, Ordering::Relaxed);
        writer
    }

    fn flush(&self, gathered: Gathered, consensus: &Desk) -> Result<(), WalError> {
        let Some(mark) = gathered.mark else { return Ok(()) };
        self.lock_patiently().save(&gathered)?;
        if !gathered.then_send.is_empty() {
            fail_point!("raftBeforeFollowerSend");
            self.transport.send(gathered.then_send);
        }
        *self.persisted.lock() = Some(mark);
        self.queued.fetch_sub(gathered.count, Ordering::AcqRel);
        consensus.work_here(Place::Log);
        Ok(())
    }
}

/// Several persists as one.
#[derive(Default)]
struct Gathered {
    snapshot: Option<Box<Snapshot>>,
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    must_sync: bool,
    then_send: Vec<Message>,
    mark: Option<Mark>,
    count: usize,
}

impl From<Persist> for Gathered {
    fn from(persist: Persist) -> Gathered {
        let mut gathered = Gathered::default();
        gathered.add(persist);
        gathered
    }
}

impl Gathered {
    fn add(&mut self, persist: Persist) {
        self.hard_state = persist.hard_state.or(self.hard_state.take());
        if self.entries.is_empty() {
            self.entries = persist.entries;
        } else {
            self.entries.extend(persist.entries);
        }
        // It comes first, so nothing was gathered before it.
        self.snapshot = persist.snapshot.or(self.snapshot.take());
        self.then_send.extend(persist.then_send);
        self.must_sync |= persist.must_sync;
        self.mark = Some(persist.mark);
        self.count += 1;
    }
}
