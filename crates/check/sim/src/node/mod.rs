//! One member: the real mind, log and state machine on a simulated disk, and the
//! work of a driver's threads as steps in simulated time.
//!
//! Each thread of the driver is a queue here and an event that empties it; between
//! two events anything else may happen, the end of the machine included. The order
//! of things inside an event is the driver's.

mod apply;
mod boot;
mod clock;
mod duties;
mod install;
mod log;
mod mind;
mod planted;
mod reads;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_apply::Machine;
use mainstay_driver::reserve::Reserve;
use mainstay_driver::{Founding, Options};
use mainstay_env::{Dice as _, Disk};
use mainstay_env_sim::SimDisk;
use mainstay_lease::Timer;
use mainstay_member::{Effect, Member as Mind};
use mainstay_mvcc::View;
use mainstay_raft::{Message, MessageKind};
use mainstay_types::{Index, MemberId, Term};
use mainstay_wal::Wal;
use mainstay_watch::HistoryRead;

use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::net::Packet;
use crate::ops::{OpId, Reply, Request};
use crate::plan::{MS, Time};
use apply::ApplyOrder;
pub(crate) use apply::digest;
pub(crate) use boot::snap_dir;
use clock::Clocks;
pub(crate) use clock::RATE_OFF;
use install::StateAt;
use log::LogOrder;
use reads::Reader;
pub(crate) use watch::WatchEnd;

/// What can happen to a node.
#[derive(Debug)]
pub(crate) enum NodeEvent {
    /// A heartbeat interval has passed.
    Tick,
    /// The mind's turn, put off.
    Turn,
    /// The log thread's turn.
    Log,
    /// The apply thread's turn.
    Apply,
    /// The committer's turn.
    Commit,
    /// The committer takes the snapshot that is wanted.
    Snapshot,
    /// A follower's snapshot is made.
    MakeSnapshot(MemberId),
    /// A slice of a compaction is due.
    Slice,
    /// What a member does unasked.
    Duties,
    /// A planted bug: a lease is revoked by who leads no more.
    Revoke(i64),
    /// A planted bug: a proposal is made again.
    Again(Box<Request>),
    /// A read of old revisions for watchers is done.
    History(Box<HistoryRead>),
    /// A message from another member.
    Packet(Box<Packet>),
    /// How it went with a snapshot.
    SnapshotOutcome { to: MemberId, ok: bool },
    /// Messages to this member got lost.
    Unreachable(MemberId),
    /// Its host says that this member does not run.
    Gone(MemberId),
    /// Its host refused the connection that these proposals needed.
    Unsent(Box<Message>),
    /// A client's request.
    Request(Box<Request>),
    /// The operator wants another leader.
    Transfer(MemberId),
}

/// Why a member has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Its disk failed it, or what is on the disk is not for us.
    Disk(String),
    /// It was removed from the cluster.
    Removed,
}

impl Death {
    pub(crate) fn disk(error: impl std::fmt::Display) -> Death {
        Death::Disk(error.to_string())
    }
}

/// What is wrong with a node's surroundings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles {
    /// Events wait until it goes on.
    pub(crate) paused: bool,
    /// Syncs take this many times longer.
    pub(crate) slow_disk: u64,
    /// A sync was made to fail: the disk's cache is not to be trusted any more.
    pub(crate) sync_fails: bool,
    /// There is no room on the disk.
    pub(crate) full: bool,
    /// A bit of this file is flipped.
    pub(crate) flipped: Option<(String, u64, u8)>,
    /// Its machine sleeps, during a pause.
    pub(crate) asleep_since: Option<Time>,
    /// Its db may be wrong: what it says is not believed.
    pub(crate) doubtful: bool,
    /// And it was found to be.
    pub(crate) found: bool,
}

/// A machine with a disk, on which a member runs or not.
pub(crate) struct Node {
    pub(crate) id: MemberId,
    pub(crate) disk: SimDisk,
    pub(crate) life: Option<Life>,
    pub(crate) troubles: Troubles,
    options: Options,
    lives: u32,
    clocks: Clocks,
    /// Events that wait for the end of a pause.
    parked: Vec<NodeEvent>,
}

/// A running member.
pub(crate) struct Life {
    id: MemberId,
    pub(crate) number: u32,
    clocks: Clocks,
    slow_disk: u64,
    /// See [`Troubles::doubtful`].
    doubtful: bool,
    /// The last commit of the db was a whole one.
    pub(crate) db_is_whole: bool,
    disk: Arc<dyn Disk>,
    sim: SimDisk,
    pub(crate) mind: Mind,
    wal: Wal,
    /// What is given up when the disk is full.
    reserve: Reserve,
    /// The last save found no room.
    log_is_full: bool,
    pub(crate) machine: Machine,
    pub(crate) view: Arc<View>,
    options: Options,
    /// Who has called and is not known as a member.
    remotes: BTreeSet<MemberId>,
    effects: Vec<Effect>,
    turn_due: bool,
    ticks: u64,
    log: VecDeque<LogOrder>,
    log_due: bool,
    apply: VecDeque<ApplyOrder>,
    apply_due: bool,
    waiters: BTreeSet<OpId>,
    read_ctx: u64,
    asking: BTreeMap<u64, Vec<Reader>>,
    waiting: BTreeMap<Index, Vec<Reader>>,
    /// The tick at which a round was last confirmed (for a planted bug).
    confirmed: Option<u64>,
    pub(crate) watch: WatchEnd,
    timer: Option<Timer>,
    wanted: Option<StateAt>,
    sending: BTreeMap<MemberId, Arc<[u8]>>,
    slice_due: bool,
    /// The configuration may have changed.
    look_at_conf: bool,
    /// The commit index and the term led, as the judge saw them last.
    seen_commit: Index,
    seen_lead: Term,
}

impl Node {
    pub(crate) fn new(id: MemberId, founding: Founding, ctx: &mut Ctx) -> Node {
        Node {
            id,
            disk: SimDisk::new(ctx.dice.below(u64::MAX)),
            life: None,
            troubles: Troubles::default(),
            options: boot::options(&ctx.plan, founding),
            lives: 0,
            clocks: Clocks::new(ctx.now(), ctx.dice.below(2 * RATE_OFF + 1)),
            parked: Vec::new(),
        }
    }

    /// Something happens here.
    pub(crate) fn happen(&mut self, ctx: &mut Ctx, life: u32, what: NodeEvent) {
        let Some(running) = &mut self.life else {
            return absent(ctx, self.id, what);
        };
        if life != 0 && life != running.number {
            return;
        }
        if self.troubles.paused {
            return self.parked.push(what);
        }
        running.slow_disk = self.troubles.slow_disk;
        let snapshot_of = match &what {
            NodeEvent::Packet(packet) => {
                packet.message.snapshot.as_ref().map(|_| packet.message.from)
            }
            _ => None,
        };
        let mut done = running.happen(ctx, what);
        if done.is_ok() && self.disk.is_cut() {
            // A call whose failure did not matter; the power is gone all the same.
            done = Err(Death::Disk("the power is cut".into()));
        }
        if let Err(death) = done {
            if let Some(sender) = snapshot_of {
                let what = NodeEvent::SnapshotOutcome { to: self.id, ok: false };
                ctx.at_node(100 * MS, sender, 0, what);
            }
            self.die(ctx, death);
        }
    }

    /// The member ends; what it had in memory is gone.
    pub(crate) fn die(&mut self, ctx: &mut Ctx, death: Death) {
        ctx.tell(|| format!("{} ends: {death:?}", self.id));
        if let Death::Disk(why) = &death {
            let troubles = &self.troubles;
            let expected = self.disk.is_cut() || troubles.sync_fails;
            assert!(
                expected || troubles.doubtful,
                "member {} stops without a fault of its disk: {why}",
                self.id
            );
        }
        self.stop(ctx);
        ctx.died.push((self.id, death));
    }

    /// The process is gone.
    pub(crate) fn stop(&mut self, ctx: &mut Ctx) {
        self.life = None;
        self.troubles.paused = false;
        self.troubles.asleep_since = None;
        for what in std::mem::take(&mut self.parked) {
            absent(ctx, self.id, what);
        }
    }

    /// The power is gone.
    pub(crate) fn power_off(&mut self, ctx: &mut Ctx) {
        self.stop(ctx);
        self.disk = self.disk.crash();
    }

    /// What waited during a pause happens now, nearly in order.
    pub(crate) fn resume(&mut self, ctx: &mut Ctx) {
        if !std::mem::take(&mut self.troubles.paused) {
            return;
        }
        if let Some(since) = self.troubles.asleep_since.take() {
            let now = ctx.now();
            self.set_clocks(self.clocks.stood_still(now, now - since));
        }
        let Some(life) = &self.life else { return };
        // Its own threads and its clients may be served before its peers are heard.
        let deaf = if ctx.dice.one_in(2) { 2 * MS } else { 0 };
        for what in std::mem::take(&mut self.parked) {
            let hears = matches!(what, NodeEvent::Packet(_));
            let delay = ctx.dice.below(2 * MS) + if hears { deaf } else { 0 };
            ctx.at_node(delay, self.id, life.number, what);
        }
    }

    pub(crate) fn clocks(&self) -> Clocks {
        self.clocks
    }

    pub(crate) fn set_clocks(&mut self, clocks: Clocks) {
        self.clocks = clocks;
        if let Some(life) = &mut self.life {
            life.clocks = clocks;
        }
    }

    /// Its db is right after all.
    pub(crate) fn trust(&mut self) {
        self.troubles.doubtful = false;
        if let Some(life) = &mut self.life {
            life.doubtful = false;
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.life.is_some() && !self.troubles.paused
    }
}

/// Nobody is there.
fn absent(ctx: &mut Ctx, id: MemberId, what: NodeEvent) {
    match what {
        NodeEvent::Request(request) => ctx.answer(request.op, id, Reply::Refused),
        NodeEvent::Packet(packet) if packet.message.snapshot.is_some() => {
            let what = NodeEvent::SnapshotOutcome { to: id, ok: false };
            ctx.at_node(100 * MS, packet.message.from, 0, what);
        }
        NodeEvent::Packet(packet)
            if packet.message.kind == MessageKind::Prop && ctx.dice.one_in(2) =>
        {
            ctx.stats.count("proposals given back unsent");
            let message = packet.message;
            ctx.at_node(10 * MS, message.from, 0, NodeEvent::Unsent(Box::new(message)));
        }
        NodeEvent::Packet(packet) if ctx.dice.one_in(8) => {
            ctx.at_node(10 * MS, packet.message.from, 0, NodeEvent::Unreachable(id));
            // Its host refuses connections; by then it may be back.
            ctx.at_node(20 * MS, packet.message.from, 0, NodeEvent::Gone(id));
        }
        _ => {}
    }
}

impl Life {
    fn happen(&mut self, ctx: &mut Ctx, what: NodeEvent) -> Result<(), Death> {
        match what {
            NodeEvent::Tick => self.tick(ctx),
            NodeEvent::Turn => self.turn(ctx),
            NodeEvent::Log => self.log_turn(ctx),
            NodeEvent::Apply => self.apply_turn(ctx),
            NodeEvent::Commit => self.commit_turn(ctx),
            NodeEvent::Snapshot => self.snapshot_turn(ctx),
            NodeEvent::MakeSnapshot(to) => self.make_snapshot(ctx, to),
            NodeEvent::Slice => self.slice_turn(ctx),
            NodeEvent::Duties => self.duties_turn(ctx),
            NodeEvent::Revoke(lease) => self.propose_revoke(ctx, lease),
            NodeEvent::Again(request) => self.propose_again(ctx, *request),
            NodeEvent::History(read) => {
                self.history_turn(ctx, &read);
                Ok(())
            }
            NodeEvent::Packet(packet) => self.receive(ctx, *packet),
            NodeEvent::SnapshotOutcome { to, ok } => self.snapshot_outcome(ctx, to, ok),
            NodeEvent::Unsent(message) => self.unsent(ctx, *message),
            NodeEvent::Unreachable(peer) => self.unreachable(ctx, peer),
            NodeEvent::Gone(peer) => self.gone(ctx, peer),
            NodeEvent::Request(request) => self.request(ctx, *request),
            NodeEvent::Transfer(to) => self.transfer(ctx, to),
        }
    }

    /// Later, in this life.
    fn after(&self, ctx: &mut Ctx, delay: Time, what: NodeEvent) {
        ctx.at_node(delay, self.id, self.number, what);
    }

    /// This node's own monotonic time.
    fn clock(&self, ctx: &Ctx) -> Duration {
        self.clocks.monotonic(ctx.now())
    }

    /// What leases are counted by.
    fn lease_clock(&self, ctx: &Ctx) -> Duration {
        if ctx.has(Bug::LeasesByTheDay) { self.clocks.day(ctx.now()) } else { self.clock(ctx) }
    }

    /// How long a step of the disk takes.
    fn sync_time(&self, ctx: &mut Ctx) -> Time {
        let usual = MS / 5 + ctx.dice.below(ctx.plan.sync);
        usual * self.slow_disk.max(1)
    }

    /// Sometimes the power goes in the middle of what comes now.
    fn tempt_fate(&self, ctx: &mut Ctx, one_in: u64, steps: u64) {
        if ctx.faults && ctx.dice.one_in(one_in) {
            ctx.stats.count("fault: power cut at a chosen step");
            self.sim.cut_at(self.sim.steps() + 1 + ctx.dice.below(steps));
        }
    }
}
