//! Owns every thread of a member: boots it, carries out its effects, stops it.
//!
//! | thread | owns | waits for |
//! | --- | --- | --- |
//! | consensus | raft, with whoever has work for it (see `consensus::desk`) | nobody |
//! | log | the WAL | the disk |
//! | apply | the replicated state | nobody |
//! | committer | the db's writer | the disk |
//! | watch, watch-read | the watchers | nobody; the disk |
//! | read-N | nothing | the disk |
//! | duties | what a leader does unasked | time |
//! | monitor, corruption | nothing | answers of other members |
//!
//! Shards of the server call a [`Handle`]; queues between threads are bounded, and
//! no two threads ever wait for each other's queues (see `consensus`).

mod apply_thread;
mod beside;
mod boot;
mod checkpoints;
mod committer;
mod consensus;
mod corruption;
mod courier;
pub mod damage;
mod duties;
mod handle;
mod harm;
mod hashes;
mod incoming;
mod leases;
mod log_thread;
mod mend;
mod monitor;
mod notes;
mod options;
mod queue;
mod read_pool;
pub mod reserve;
mod scrub;
mod shared;
mod space;
pub mod stats;
mod stop;
mod transport;
mod view_past;
mod waiters;
mod watch_thread;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use mainstay_apply::Machine;
use mainstay_apply::quota::Quota;
use mainstay_credentials::SimpleTokens;
use mainstay_env::{Clock, Dice, Disk};
use mainstay_lease::TimerOptions;
use mainstay_member::Member;
use mainstay_types::Index;
use mainstay_types::limits::PROPOSALS_WAITING_MAX;
use parking_lot::Mutex;
use tokio::sync::watch;

use apply_thread::{Applier, ApplyHandle, Order};
use committer::{Committer, CommitterHandle, Shrinker};
use consensus::desk::Desk;
use consensus::{Command, Consensus};
use corruption::Corruption;
use duties::Duties;
use hashes::Hashes;
use leases::Leases;
use log_thread::{LogHandle, LogThread, Writer};
use monitor::Monitor;
use notes::Notes;
use queue::{Receiver, Sender, bounded};
use read_pool::ReadPool;
use reserve::Reserve;
use scrub::Scrub;
use shared::{Cells, RequestIds, Shared};
use space::{Place, Space};
use stats::Stats;
use stop::Stop;
use view_past::ViewPast;
use waiters::Waiters;
use watch_thread::WatchDeps;

pub use boot::{BootError, Booted, Tuning, boot, refuse_without_log};
pub use handle::{Handle, Identity, LeaseTimes, RequestError, RequestField, Standing};
pub use incoming::{IncomingDb, received_db};
pub use mend::Mended;
pub use options::{AutoCompaction, Founding, Options};
pub use stop::REMOVED;
pub use transport::{
    About, Alone, CallAnswer, CallError, DbAsk, DbCopy, DbFetched, DbOffer, FetchError, PeerAnswer,
    PeerCall, PeerHash, Transport,
};
pub use watch_thread::{WatchCommand, WatchStream};

/// Threads of the read pool.
const READ_THREADS: usize = 2;

/// A running member.
pub struct Driver {
    handle: Handle,
    log: LogHandle,
    ready: watch::Receiver<bool>,
    duties: Option<Sender<()>>,
    consensus: Option<JoinHandle<()>>,
    joins: Vec<JoinHandle<()>>,
    /// Whether this start made the member.
    is_new: bool,
}

impl Driver {
    /// Boots the member in `options.data_dir` and starts its threads. What it sends to
    /// others goes through `transport`, which may be asked to send at once.
    ///
    /// # Errors
    /// When the directory cannot be used; the error says why and what to do.
    pub fn start(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        dice: &mut dyn Dice,
        transport: Arc<dyn Transport>,
    ) -> Result<Driver, BootError> {
        Driver::start_tuned(options, disk, clock, dice, transport, &mut ())
    }

    fn start_tuned(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        dice: &mut dyn Dice,
        transport: Arc<dyn Transport>,
        tuning: &mut dyn Tuning,
    ) -> Result<Driver, BootError> {
        let seed = dice.roll();
        let place = mend::Place { disk: &disk, options: &options, transport: &*transport };
        let (booted, mended) = mend::boot_mending(&place, seed, tuning)?;
        let threads = |source| BootError::Disk {
            doing: "start the threads of",
            path: options.data_dir.clone(),
            source,
        };
        let world = World { disk, clock, transport };
        let driver = start_threads(options.clone(), world, booted, seed).map_err(threads)?;
        driver.handle.stats().mended_dbs.add(mended.dbs);
        driver.handle.stats().mended_logs.add(mended.logs);
        Ok(driver)
    }

    /// The front of the member.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Whether the member was born by this start.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Resolves once the member has published itself and can serve, or has stopped.
    pub async fn ready(&mut self) {
        // An error means that it stopped; then `Handle::stopped` says why.
        let _ = self.ready.wait_for(|ready| *ready).await;
    }

    /// Stops all threads in the order in which work flows through them; everything
    /// applied is committed to the db at the end.
    pub fn stop(mut self) {
        let shared = &self.handle.shared;
        self.log.hurry();
        self.duties = None;
        // A closed queue means that the thread has stopped already.
        let _ = shared.consensus.send(Command::Stop);
        if let Some(consensus) = self.consensus.take() {
            // It hands the last of its work to the others before it ends.
            join(consensus);
        }
        self.log.stop();
        shared.apply.stop();
        shared.committer.stop();
        shared.watch.stop();
        shared.read_pool.stop();
        self.joins.drain(..).for_each(join);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread had panicked");
    }
}

/// What a member reaches the world through.
struct World {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
}

fn start_threads(
    options: Options,
    world: World,
    booted: Booted,
    seed: u64,
) -> std::io::Result<Driver> {
    let World { disk, clock, transport } = world;
    let Booted { identity, wal, backend, machine, member, applied, is_new } = booted;
    let stats = Arc::new(Stats::default());
    let (stop, space) = (Stop::default(), space_of(&options, &disk, identity));
    let (auth_changes, tokens) = tokens_of(&options);
    let (consensus, commands) = bounded(PROPOSALS_WAITING_MAX);
    let consensus = Arc::new(Desk::new(consensus));
    let (apply, apply_orders) = ApplyHandle::new();
    let (committer, committer_orders) = CommitterHandle::new(options.backend_batch_ops);
    let view = Arc::new(ArcSwap::new(machine.view()));
    let (read_pool, mut joins) = ReadPool::start(READ_THREADS)?;
    let (watch, watch_joins) = watch_thread::start(WatchDeps {
        past: Arc::new(ViewPast(Arc::clone(&view))),
        clock: Arc::clone(&clock),
        stats: Arc::clone(&stats),
        progress_interval: options.watch_progress_interval,
        seed,
    })?;
    joins.extend(watch_joins);
    let place = (space.clone(), options.snap_path(), options.max_wals);
    let writer = Writer::new(wal, place, Arc::clone(&disk), &clock, &stats);
    let sender = Arc::clone(&transport);
    let (log, log_join) =
        LogThread::new(writer, stop.clone(), consensus.clone(), sender).start()?;
    joins.push(log_join);
    let shared = Arc::new(Shared {
        identity,
        cells: Cells::default(),
        view,
        membership: ArcSwap::new(Arc::clone(machine.membership())),
        alarms: ArcSwap::new(Arc::clone(machine.alarms())),
        auth: ArcSwap::new(Arc::clone(machine.auth())),
        tokens,
        auth_changes,
        backend: backend.clone(),
        waiters: Waiters::new(),
        consensus: consensus.clone(),
        apply,
        committer,
        leases: leases_of(&options, &clock),
        read_pool,
        watch,
        stats: Arc::clone(&stats),
        stop: stop.clone(),
        space,
        request_ids: RequestIds::new(identity.member, clock.wall()),
        clock: Arc::clone(&clock),
        notes: Notes::default(),
        hashes: Hashes::default(),
        transport,
        disk,
        shunned: Mutex::default(),
        founders: if is_new { options.founding.members().to_vec() } else { Vec::new() },
        options,
    });
    begin(&shared, applied);
    let committer = committer_of(&shared, log.clone());
    joins.push(spawn("committer", move || committer.run(&committer_orders))?);
    let consensus =
        start_deciding(&shared, (machine, apply_orders), (member, commands), &log, &mut joins)?;
    let (ready, duties) = start_duties(&shared, &mut joins)?;
    let (handle, duties, consensus) = (Handle { shared }, Some(duties), Some(consensus));
    Ok(Driver { handle, log, ready, duties, consensus, joins, is_new })
}

/// What is so before the first thread looks.
fn begin(shared: &Arc<Shared>, applied: Index) {
    shared.cells.applied.store(applied.0, Ordering::Release);
    shared.take_auth(&shared.auth.load_full());
    shared.tell_transport();
    harm::listen(shared);
}

/// Who is told when users change, and the tokens that entries make.
fn tokens_of(options: &Options) -> (watch::Sender<u64>, Option<SimpleTokens>) {
    (watch::channel(0).0, options.simple_token_ttl.map(SimpleTokens::new))
}

/// The two threads that decide, each with what it owns and its queue: apply and consensus.
fn start_deciding(
    shared: &Arc<Shared>,
    (machine, orders): (Machine, Receiver<Order>),
    (member, commands): (Member, Receiver<Command>),
    log: &LogHandle,
    joins: &mut Vec<JoinHandle<()>>,
) -> std::io::Result<JoinHandle<()>> {
    let applier = Arc::new(Mutex::new(Applier::new(Arc::clone(shared), machine)));
    let (of_thread, theirs) = (Arc::clone(shared), Arc::clone(&applier));
    joins.push(spawn("apply", move || apply_thread::run(&of_thread, &theirs, &orders))?);
    let desk = Arc::clone(&shared.consensus);
    let theirs = commands.clone();
    desk.open(Consensus::new(Arc::clone(shared), member, log.clone(), applier, theirs));
    spawn("consensus", move || desk.run(&commands))
}

/// How much room there is for the member's files, and in reserve.
fn space_of(options: &Options, disk: &Arc<dyn Disk>, identity: Identity) -> Space {
    let bytes = options.disk_reserve_mib.saturating_mul(1 << 20);
    let reserve = Reserve::open(disk, &options.member_dir(), identity, bytes);
    let folder = options.snap_path();
    let log_folder = options.wal_dir.is_some().then(|| options.wal_path());
    Space::new(Place { disk: Arc::clone(disk), reserve, folder, log_folder })
}

fn leases_of(options: &Options, clock: &Arc<dyn Clock>) -> Leases {
    let (retry, checkpoint_every) = (options.request_timeout(), options.lease_checkpoint_every);
    Leases::new(Arc::clone(clock), TimerOptions { retry, checkpoint_every })
}

fn committer_of(shared: &Arc<Shared>, log: LogHandle) -> Committer {
    let (told, applier) = (Arc::clone(shared), shared.apply.clone());
    Committer {
        refresh: Arc::new(move || applier.refresh()),
        shrinker: Shrinker::default(),
        quota: Quota::from_flag(shared.options.quota_bytes).limit(),
        disk: Arc::clone(&shared.disk),
        notify: Arc::new(move |note| told.note(note)),
        log,
        backend: shared.backend.clone(),
        clock: Arc::clone(&shared.clock),
        stats: Arc::clone(&shared.stats),
        stop: shared.stop.clone(),
        space: shared.space.clone(),
        wanted: None,
        snap_dir: shared.options.snap_path(),
        max_snapshots: shared.options.max_snapshots,
        interval: shared.options.backend_batch_interval,
        ops_limit: shared.options.backend_batch_ops,
    }
}

/// The threads that do what nobody asks for; they end when the sender is dropped.
fn start_duties(
    shared: &Arc<Shared>,
    joins: &mut Vec<JoinHandle<()>>,
) -> std::io::Result<(watch::Receiver<bool>, Sender<()>)> {
    let (told, ready) = watch::channel(false);
    let (end, ended): (Sender<()>, Receiver<()>) = bounded(1);
    let (monitored, until, scrubbed) = (ended.clone(), ended.clone(), ended.clone());
    let duties = Duties { shared: Arc::clone(shared), ready: told };
    joins.push(spawn("duties", move || duties.run(&ended))?);
    let monitor = Monitor { shared: Arc::clone(shared) };
    // Not waited for at the end: it may be waiting for another member's answer.
    drop(spawn("monitor", move || monitor.run(&monitored))?);
    let options = &shared.options;
    if !options.scrub_period.is_zero() && options.scrub_bytes_per_second > 0 {
        let scrub = Scrub { shared: Arc::clone(shared) };
        joins.push(spawn("scrub", move || scrub.run(&scrubbed))?);
    }
    if options.corrupt_check_every.or(options.compact_hash_check_every).is_some() {
        let corruption = Corruption::new(Arc::clone(shared));
        // As above.
        drop(spawn("corruption", move || corruption.run(&until))?);
    }
    Ok((ready, end))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}
