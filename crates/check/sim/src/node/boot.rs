//! From a disk to a running member.
//!
//! The order of the driver's boot; small, so that it can give way to that one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_apply::Machine;
use mainstay_apply::quota::Quota;
use mainstay_backend::OpenOptions;
use mainstay_env::{Dice as _, Disk};
use mainstay_member::{Member as Mind, MemberConfig};
use mainstay_raft::{ConfState, HardState, LogStart, Peer, Snapshot};
use mainstay_types::{ClusterId, Index, MemberId};
use mainstay_wal::{Metadata, Replay, SnapshotMark, Wal, WalOptions, snap};

use super::{Death, Founding, Life, Node, NodeEvent, planted};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::node::watch::WatchEnd;
use crate::plan::{MS, SECOND};

/// All clusters of the simulation are this one.
const CLUSTER: ClusterId = ClusterId(0x51);

fn wal_dir() -> PathBuf {
    PathBuf::from("/m/wal")
}

/// Where `.snap` files and the db lie.
pub(super) fn snap_dir() -> PathBuf {
    PathBuf::from("/m/snap")
}

pub(super) fn db_path() -> PathBuf {
    PathBuf::from("/m/snap/db")
}

/// A db that was received with a snapshot.
pub(super) fn received_db(index: Index) -> PathBuf {
    snap_dir().join(format!("{:016x}.snap.db", index.0))
}

/// Puts a received db in the place of the db.
pub(super) fn rename_received(disk: &dyn Disk, index: Index) -> std::io::Result<()> {
    disk.rename(&received_db(index), &db_path())?;
    disk.sync_dir(&snap_dir())
}

pub(super) fn open_machine(
    disk: &Arc<dyn Disk>,
    ctx: &Ctx,
) -> Result<Machine, mainstay_apply::LoadError> {
    let election = ctx.plan.tick * u64::from(ctx.plan.election_ticks);
    let options = mainstay_apply::Options {
        lease_ttl_min: (election * 3 / 2).div_ceil(SECOND) as i64,
        learners_max: 2,
        quota: Quota::from_flag(0),
        persist_checkpoints: false,
        allow_auth: true,
    };
    Machine::open(Arc::clone(disk), &db_path(), OpenOptions::default(), options)
}

struct Parts {
    mind: Mind,
    wal: Wal,
    machine: Machine,
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
        let sim = self.disk.clone();
        if ctx.faults && ctx.dice.one_in(30) {
            ctx.stats.count("fault: power cut while booting");
            sim.cut_at(sim.steps() + 1 + ctx.dice.below(25));
        }
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        match boot(&disk, self.id, &self.founding, ctx) {
            Ok(parts) => self.live(ctx, disk, sim, parts),
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
        let expected = self.disk.is_cut() || troubles.full || troubles.flipped.is_some();
        assert!(expected, "member {} does not start: {why}", self.id);
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
        parts: Parts,
    ) {
        self.lives += 1;
        ctx.stats.count("boots");
        let Parts { mind, wal, machine } = parts;
        ctx.tell(|| {
            let status = mind.status();
            format!("{} starts: applied {}, {status:?}", self.id, machine.applied().0)
        });
        let view = machine.view();
        let watch = WatchEnd::new(&view, self.id.0);
        let mut life = Life {
            id: self.id,
            number: self.lives,
            rate: self.rate,
            slow_disk: self.troubles.slow_disk,
            disk,
            sim,
            mind,
            wal,
            machine,
            view,
            founders: self.founding.members().to_vec(),
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

fn boot(
    disk: &Arc<dyn Disk>,
    id: MemberId,
    founding: &Founding,
    ctx: &mut Ctx,
) -> Result<Parts, String> {
    make_directories(&**disk).map_err(|e| e.to_string())?;
    if mainstay_wal::exists(&**disk, &wal_dir()).map_err(|e| e.to_string())? {
        return reopen(disk, id, founding, ctx);
    }
    let machine = open_machine(disk, ctx).map_err(|e| e.to_string())?;
    if machine.applied().0 > Index(0) {
        return Err("a db without its log".into());
    }
    let metadata = Metadata { member: id, cluster: CLUSTER };
    let wal = Wal::create_with(Arc::clone(disk), &wal_dir(), metadata, wal_options(ctx));
    let wal = wal.map_err(|e| e.to_string())?;
    let mind = newborn(id, founding, ctx)?;
    Ok(Parts { mind, wal, machine })
}

fn wal_options(ctx: &Ctx) -> WalOptions {
    WalOptions { segment_bytes: ctx.plan.segment_bytes, sync: true }
}

fn make_directories(disk: &dyn Disk) -> std::io::Result<()> {
    disk.create_dir_all(&snap_dir())?;
    disk.sync_dir(Path::new("/"))?;
    disk.sync_dir(Path::new("/m"))?;
    for name in disk.list(&snap_dir())? {
        if name.starts_with("tmp") || name.starts_with("db.tmp") {
            disk.remove_file(&snap_dir().join(name))?;
        }
    }
    Ok(())
}

fn config(id: MemberId, ctx: &mut Ctx) -> MemberConfig {
    let mut config = MemberConfig::new(id);
    config.raft.election_tick = ctx.plan.election_ticks;
    config.raft.pre_vote = ctx.plan.pre_vote;
    config.raft.max_size_per_message = ctx.plan.message_bytes;
    config.raft.seed = ctx.dice.below(u64::MAX);
    config.read_epoch = ctx.dice.below(u64::MAX) << 32;
    config.snapshot_count = ctx.plan.snapshot_count;
    config.catchup_entries = ctx.plan.catchup_entries;
    config
}

fn newborn(id: MemberId, founding: &Founding, ctx: &mut Ctx) -> Result<Mind, String> {
    let config = config(id, ctx);
    let mind = match founding {
        Founding::New(members) => {
            let peer = |member: &mainstay_membership::Member| Peer {
                id: member.id,
                context: Bytes::from(member.to_json()),
            };
            Mind::bootstrap(config, members.iter().map(peer).collect())
        }
        Founding::Join(_) => {
            Mind::new(config, HardState::default(), ConfState::default(), LogStart::default())
        }
    };
    mind.map_err(|e| e.to_string())
}

fn reopen(
    disk: &Arc<dyn Disk>,
    id: MemberId,
    founding: &Founding,
    ctx: &mut Ctx,
) -> Result<Parts, String> {
    let (snapshot, wal, mut replay) = read_log(disk, ctx)?;
    let (from, term) = snapshot.as_ref().map(|s| (s.index, s.term)).unwrap_or_default();
    planted::at_boot(disk, ctx, from, &mut replay);
    let mut machine = open_machine(disk, ctx).map_err(|e| e.to_string())?;
    if machine.applied().0 < from {
        // Received and recorded, but not in its place yet.
        drop(machine);
        rename_received(&**disk, from)
            .map_err(|e| format!("the db is older than the snapshot at {from}: {e}"))?;
        machine = open_machine(disk, ctx).map_err(|e| e.to_string())?;
    }
    let applied = machine.applied().0;
    if replay.entries.is_empty() && replay.hard_state == HardState::default() && snapshot.is_none()
    {
        // Its birth was cut short.
        let mind = newborn(id, founding, ctx)?;
        return Ok(Parts { mind, wal, machine });
    }
    let last = replay.entries.last().map_or(from, |entry| entry.index);
    if applied > last || applied < from {
        return Err(format!("the db holds {applied}, the log {from} to {last}"));
    }
    let conf_state = match &snapshot {
        Some(snapshot) if machine.conf_state() == ConfState::default() => {
            snapshot.conf_state.clone()
        }
        _ => machine.conf_state(),
    };
    let commit = replay.hard_state.commit.max(applied);
    let hard_state = HardState { commit, ..replay.hard_state };
    let mut config = config(id, ctx);
    config.raft.applied = applied;
    config.last_snapshot = from;
    let unapplied = replay.entries.iter().filter(|entry| entry.index > applied);
    let changes = planted::changes_at_boot(ctx, unapplied);
    let start = LogStart { snapshot_index: from, snapshot_term: term, entries: replay.entries };
    let mut mind = Mind::new(config, hard_state, conf_state, start).map_err(|e| e.to_string())?;
    changes.into_iter().for_each(|input| mind.feed(input));
    Ok(Parts { mind, wal, machine })
}

fn read_log(
    disk: &Arc<dyn Disk>,
    ctx: &mut Ctx,
) -> Result<(Option<Snapshot>, Wal, Replay), String> {
    let marks = mainstay_wal::valid_snapshots(&**disk, &wal_dir()).map_err(|e| e.to_string())?;
    let (snapshot, broken) =
        snap::load_newest(&**disk, &snap_dir(), &marks).map_err(|e| e.to_string())?;
    if !broken.is_empty() {
        ctx.stats.count("damaged .snap put aside");
    }
    let from = match &snapshot {
        Some(s) => {
            SnapshotMark { index: s.index, term: s.term, conf_state: Some(s.conf_state.clone()) }
        }
        None => SnapshotMark::default(),
    };
    let opened = Wal::open_with(Arc::clone(disk), &wal_dir(), &from, wal_options(ctx));
    let (wal, replay) = opened.map_err(|e| e.to_string())?;
    if replay.torn_tail.is_some() {
        ctx.stats.count("torn tails");
    }
    Ok((snapshot, wal, replay))
}
