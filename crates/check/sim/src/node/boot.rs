//! From a disk to a running member: the driver's own boot, on a simulated disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mainstay_apply::Machine;
use mainstay_apply::quota::Quota;
use mainstay_backend::OpenOptions;
use mainstay_driver::reserve::Reserve;
use mainstay_driver::{Booted, Founding, Options, Tuning};
use mainstay_env::{Dice as _, Disk};
use mainstay_member::{Input, MemberConfig};
use mainstay_raft::Entry;
use mainstay_types::Index;
use mainstay_wal::{Replay, WalOptions};

use super::{Death, Life, Node, NodeEvent, planted};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::node::watch::WatchEnd;
use crate::plan::{MS, Plan, SECOND};

const DATA_DIR: &str = "/m";
/// What a member holds in reserve.
const RESERVE_BYTES: u64 = 64 << 10;

fn wal_dir() -> PathBuf {
    PathBuf::from("/m/member/wal")
}

/// Where `.snap` files and the db lie.
pub(crate) fn snap_dir() -> PathBuf {
    PathBuf::from("/m/member/snap")
}

pub(super) fn db_path() -> PathBuf {
    snap_dir().join("db")
}

/// A db that was received with a snapshot.
pub(super) fn received_db(index: Index) -> PathBuf {
    mainstay_driver::received_db(&snap_dir(), index)
}

/// How a member of such a run is started.
pub(super) fn options(plan: &Plan, founding: Founding) -> Options {
    Options {
        data_dir: PathBuf::from(DATA_DIR),
        founding,
        learners_max: 2,
        tick: Duration::from_micros(plan.tick),
        election_timeout: Duration::from_micros(plan.tick * u64::from(plan.election_ticks)),
        pre_vote: plan.pre_vote,
        snapshot_count: plan.snapshot_count,
        snapshot_catchup_entries: plan.catchup_entries,
        max_snapshots: plan.max_snapshots,
        max_wals: plan.max_wals,
        ..Options::default()
    }
}

/// A planted bug opens the db by hand.
pub(super) fn open_machine(
    disk: &Arc<dyn Disk>,
    options: &Options,
) -> Result<Machine, mainstay_apply::LoadError> {
    let options = mainstay_apply::Options {
        lease_ttl_min: options.min_lease_ttl(),
        learners_max: options.learners_max,
        quota: Quota::from_flag(0),
        persist_checkpoints: false,
        allow_auth: false,
    };
    Machine::open(Arc::clone(disk), &db_path(), OpenOptions::default(), options)
}

/// What the simulator sets and looks at while the driver boots.
struct Eye<'a> {
    ctx: &'a mut Ctx,
    disk: &'a Arc<dyn Disk>,
    /// Entries that a planted bug takes for applied.
    changes: Vec<Entry>,
}

impl Tuning for Eye<'_> {
    fn log(&mut self, options: &mut WalOptions) {
        options.segment_bytes = self.ctx.plan.segment_bytes;
    }

    fn mind(&mut self, config: &mut MemberConfig) {
        config.raft.max_size_per_message = self.ctx.plan.message_bytes;
    }

    fn read(&mut self, from: Index, damaged: usize, replay: &mut Replay) {
        if damaged > 0 {
            self.ctx.stats.count("damaged .snap put aside");
        }
        if replay.torn_tail.is_some() {
            self.ctx.stats.count("torn tails");
        }
        planted::at_boot(self.disk, self.ctx, from, replay);
        self.changes = planted::changes_at_boot(self.ctx, &replay.entries);
    }
}

impl Node {
    /// Starts the member, if it can.
    pub(crate) fn boot(&mut self, ctx: &mut Ctx) {
        if self.life.is_some() {
            return;
        }
        if self.disk.is_cut() || self.troubles.sync_fails {
            // The machine starts, not just the program: nobody trusts the old cache.
            self.disk = self.disk.crash();
            self.troubles.sync_fails = false;
        }
        if self.troubles.full {
            self.disk.set_capacity(Some(1));
        }
        let sim = self.disk.clone();
        if ctx.faults && ctx.dice.one_in(30) {
            ctx.stats.count("fault: power cut while booting");
            sim.cut_at(sim.steps() + 1 + ctx.dice.below(25));
        }
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        match boot(&disk, &self.options, ctx) {
            Ok(booted) => self.live(ctx, disk, sim, booted),
            Err(why) => self.stay_down(ctx, &why),
        }
    }

    fn stay_down(&mut self, ctx: &mut Ctx, why: &str) {
        ctx.tell(|| {
            let marks = mainstay_wal::valid_snapshots(&self.disk, &wal_dir()).map(|marks| {
                marks.iter().map(|mark| (mark.term.0, mark.index.0)).collect::<Vec<_>>()
            });
            format!("{} has {:?}; its log knows {marks:?}", self.id, self.disk.paths())
        });
        ctx.tell(|| format!("{} does not start: {why}", self.id));
        let troubles = &self.troubles;
        let expected = self.disk.is_cut() || troubles.flipped.is_some();
        if troubles.doubtful && !expected {
            // It says itself what is wrong.
            ctx.stats.count("flipped bits refused later");
            self.troubles.found = true;
        }
        let troubles = &self.troubles;
        assert!(expected || troubles.doubtful, "member {} does not start: {why}", self.id);
        if !self.disk.is_cut() && troubles.flipped.is_some() {
            ctx.stats.count("flipped bits refused");
        }
        // Whoever watches it sees that it is down, and tries again.
        ctx.died.push((self.id, Death::Disk(why.to_owned())));
    }

    fn live(
        &mut self,
        ctx: &mut Ctx,
        disk: Arc<dyn Disk>,
        sim: mainstay_env_sim::SimDisk,
        booted: Booted,
    ) {
        self.lives += 1;
        ctx.stats.count("boots");
        let Booted { member: mind, mut wal, machine, identity, .. } = booted;
        let member_dir = self.options.member_dir();
        let reserve = Reserve::open(&disk, &member_dir, identity, RESERVE_BYTES);
        let theirs = reserve.clone();
        wal.when_full(Box::new(move |_| theirs.give_up() > 0));
        ctx.tell(|| {
            let status = mind.status();
            format!("{} starts: applied {}, {status:?}", self.id, machine.applied().0)
        });
        let view = machine.view();
        let watch = WatchEnd::new(&view, self.id.0);
        let mut life = Life {
            id: self.id,
            number: self.lives,
            clocks: self.clocks,
            doubtful: self.troubles.doubtful,
            db_is_whole: false,
            slow_disk: self.troubles.slow_disk,
            disk,
            sim,
            mind,
            wal,
            reserve,
            log_is_full: false,
            machine,
            view,
            options: self.options.clone(),
            remotes: Default::default(),
            effects: Vec::new(),
            turn_due: false,
            ticks: 0,
            log: Default::default(),
            log_due: false,
            apply: Default::default(),
            apply_due: false,
            waiters: Default::default(),
            read_ctx: 0,
            asking: BTreeMap::new(),
            waiting: BTreeMap::new(),
            confirmed: None,
            watch,
            timer: None,
            wanted: None,
            sending: BTreeMap::new(),
            slice_due: false,
            look_at_conf: true,
            seen_commit: Index(0),
            seen_lead: Default::default(),
        };
        if ctx.has(Bug::LeaseNotExtended) {
            life.promote(ctx);
        }
        let started = life.start(ctx);
        self.life = Some(life);
        if let Err(death) = started {
            self.die(ctx, death);
        }
    }
}

impl Life {
    fn start(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        let tick = ctx.dice.below(ctx.plan.tick);
        self.after(ctx, tick, NodeEvent::Tick);
        let commit = MS + ctx.about(ctx.plan.commit);
        self.after(ctx, commit, NodeEvent::Commit);
        let duties = ctx.dice.below(SECOND / 2);
        self.after(ctx, duties, NodeEvent::Duties);
        self.resume_compaction(ctx);
        if self.machine.applied().0 > Index(0) {
            self.show_digest(ctx)?;
        }
        self.turn(ctx)
    }
}

/// Boots as the driver does.
fn boot(disk: &Arc<dyn Disk>, options: &Options, ctx: &mut Ctx) -> Result<Booted, String> {
    let seed = ctx.dice.below(u64::MAX);
    let mut eye = Eye { ctx, disk, changes: Vec::new() };
    let booted = mainstay_driver::boot(disk, options, seed, &mut eye);
    let mut booted = booted.map_err(|error| error.to_string())?;
    let unapplied = eye.changes.iter().filter(|entry| entry.index > booted.applied);
    for change in unapplied.filter_map(planted::change_of) {
        booted.member.feed(Input::ConfChangeApplied(change));
    }
    Ok(booted)
}
