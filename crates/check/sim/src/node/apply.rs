//! The apply thread and the committer.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_apply::{Applied, Effects, LeaseChange, Machine};
use mainstay_backend::BackendError;
use mainstay_env::Dice as _;
use mainstay_lease::{Timer, TimerOptions};
use mainstay_member::Input;
use mainstay_raft::{Entry, Snapshot};
use mainstay_types::Index;
use mainstay_wal::{SnapshotMark, snap};
use mainstay_watch::{Event, EventBatch, EventKind};

use super::boot::snap_dir;
use super::install::StateAt;
use super::{Death, Life, NodeEvent};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::node::log::LogOrder;
use crate::ops::Reply;
use crate::plan::{MS, SECOND};

/// Applied entries between two looks at the whole state.
const DIGEST_EVERY: u64 = 64;
/// Rows of a compaction's slice.
const SLICE: usize = 8;

#[derive(Debug)]
pub(crate) enum ApplyOrder {
    Apply(Vec<Entry>),
    TakeSnapshot,
    /// A received db takes the place of the state.
    Install(Index),
}

/// What a turn gives out once its view is there.
#[derive(Default)]
struct Turn {
    answers: Vec<(u64, Reply)>,
    events: Vec<Arc<EventBatch>>,
    compacted: Option<i64>,
    removed: bool,
}

impl Life {
    pub(super) fn apply_turn(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        self.apply_due = false;
        match self.apply.pop_front() {
            Some(ApplyOrder::Apply(entries)) => self.apply_entries(ctx, &entries)?,
            Some(ApplyOrder::TakeSnapshot) => self.want_snapshot(ctx),
            Some(ApplyOrder::Install(index)) => self.install(ctx, index)?,
            None => {}
        }
        self.apply_soon(ctx);
        self.turn_soon(ctx)
    }

    fn apply_entries(&mut self, ctx: &mut Ctx, entries: &[Entry]) -> Result<(), Death> {
        let mut turn = Turn::default();
        for entry in entries {
            self.apply_one(ctx, entry, &mut turn)?;
        }
        self.give_out(ctx, turn)
    }

    fn apply_one(&mut self, ctx: &mut Ctx, entry: &Entry, turn: &mut Turn) -> Result<(), Death> {
        ctx.stats.events += 1;
        let now = ctx.now();
        ctx.tell(|| format!("{} applies {} of term {}", self.id, entry.index, entry.term));
        ctx.judge.applying(self.id, entry, now);
        let waiters = &self.waiters;
        let applied = self.machine.apply(entry, |id| waiters.contains(&id));
        let Applied { request_id, batch, outcome, events, leases, effects, .. } =
            applied.map_err(Death::disk)?;
        if let Some(batch) = batch {
            if !self.doubtful {
                ctx.judge.raft.batch(self.id, entry.index, &batch);
            }
            self.planted_at_rows(ctx, &batch)?;
            self.machine.backend().append(batch);
        }
        self.change_leases(ctx, &leases);
        if let Some(batch) = event_batch(events) {
            turn.events.push(Arc::new(batch));
        }
        if let Some(compaction) = effects.compaction {
            turn.compacted = Some(compaction.revision);
            self.slice_soon(ctx);
        }
        if self.waiters.remove(&request_id) {
            turn.answers.push((request_id, Reply::Applied(outcome)));
        }
        self.follow(ctx, effects, turn);
        if entry.index.0.is_multiple_of(DIGEST_EVERY) {
            self.show_digest(ctx)?;
        }
        Ok(())
    }

    fn follow(&mut self, ctx: &mut Ctx, effects: Effects, turn: &mut Turn) {
        if effects.first_of_term && self.leads() {
            self.promote(ctx);
        }
        let Some(change) = effects.conf_change else { return };
        self.look_at_conf = true;
        use mainstay_apply::MemberChange as C;
        match &change.outcome {
            Ok(C::Added(member)) => ctx.joined.push(member.clone()),
            Ok(C::Removed(id)) => turn.removed |= *id == self.id,
            Ok(C::Promoted(_) | C::PeerUrls(..)) | Err(_) => {}
        }
        if !ctx.has(Bug::ConfAtAppend) {
            self.mind.feed(Input::ConfChangeApplied(change.raft));
        }
    }

    pub(super) fn promote(&mut self, ctx: &mut Ctx) {
        if ctx.has(Bug::LeaseNotExtended) && self.timer.is_some() {
            return;
        }
        let options =
            TimerOptions { retry: std::time::Duration::from_secs(7), checkpoint_every: None };
        let election = ctx.plan.tick * u64::from(ctx.plan.election_ticks);
        let extend = std::time::Duration::from_micros(election);
        let now = self.lease_clock(ctx);
        let leases = self.machine.leases().leases();
        self.timer = Some(Timer::promote(options, now, extend, leases));
    }

    fn change_leases(&mut self, ctx: &Ctx, changes: &[LeaseChange]) {
        let now = self.lease_clock(ctx);
        let Some(timer) = &mut self.timer else { return };
        for change in changes {
            match change {
                LeaseChange::Granted(lease) => timer.granted(now, *lease),
                LeaseChange::Revoked(id) => timer.revoked(*id),
                LeaseChange::Checkpointed(id, left) => timer.checkpointed(now, *id, *left),
            }
        }
    }

    /// Order matters: view, events, answers, then how far we are.
    fn give_out(&mut self, ctx: &mut Ctx, turn: Turn) -> Result<(), Death> {
        self.view = self.machine.view();
        for batch in turn.events {
            self.publish(ctx, batch);
        }
        if let Some(revision) = turn.compacted {
            self.watch_compacted(ctx, revision);
        }
        for (op, reply) in turn.answers {
            ctx.answer(op, self.id, reply);
        }
        let (index, _) = self.machine.applied();
        self.mind.feed(Input::Applied(index));
        self.answer_reads(ctx);
        if turn.removed {
            ctx.stats.count("members removed");
            // Its last messages still leave.
            self.turn(ctx)?;
            return Err(Death::Removed);
        }
        Ok(())
    }

    /// Looks at the whole state.
    pub(super) fn show_digest(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        if self.doubtful {
            return Ok(());
        }
        let digest = digest(&self.machine).map_err(Death::disk)?;
        ctx.judge.raft.digest(self.id, self.machine.applied().0, digest);
        Ok(())
    }

    fn slice_soon(&mut self, ctx: &mut Ctx) {
        if !self.slice_due && self.machine.is_compacting() {
            self.slice_due = true;
            let delay = ctx.dice.below(SECOND);
            self.after(ctx, delay, NodeEvent::Slice);
        }
    }

    pub(super) fn slice_turn(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        self.slice_due = false;
        if let Some((batch, slice)) = self.machine.compaction_slice(SLICE) {
            self.machine.backend().append(batch);
            if slice.finished {
                self.view = self.machine.view();
                ctx.stats.count("compactions finished");
            }
        }
        self.slice_soon(ctx);
        Ok(())
    }

    pub(super) fn resume_compaction(&mut self, ctx: &mut Ctx) {
        self.slice_soon(ctx);
    }

    pub(super) fn commit_turn(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        let pause = MS + ctx.about(ctx.plan.commit);
        self.after(ctx, pause, NodeEvent::Commit);
        if self.machine.backend().pending_ops() == 0 {
            return Ok(());
        }
        self.tempt_fate(ctx, 400, 12);
        self.commit(ctx).map(|_| ())
    }

    /// `false` when the disk is full: the log has it all.
    pub(super) fn commit(&mut self, ctx: &mut Ctx) -> Result<bool, Death> {
        let changes = self.machine.backend().pending_ops() > 0;
        let mut done = self.machine.backend().commit();
        if matches!(done, Err(BackendError::Bolt(mainstay_bolt::Error::Full { .. })))
            && self.reserve.give_up() > 0
        {
            ctx.stats.count("reserves given up by the db");
            done = self.machine.backend().commit();
        }
        self.db_is_whole = done.is_ok() && (changes || self.db_is_whole);
        match done {
            Ok(_) => Ok(true),
            Err(BackendError::Bolt(mainstay_bolt::Error::Full { .. })) => {
                ctx.stats.count("commits without room");
                Ok(false)
            }
            Err(error) => Err(Death::disk(error)),
        }
    }

    fn want_snapshot(&mut self, ctx: &mut Ctx) {
        let (index, term) = self.machine.applied();
        let conf_state = self.machine.conf_state();
        let data = Bytes::from(self.machine.snapshot_v2_json());
        let snapshot = Snapshot { data, index, term, conf_state };
        self.wanted = Some(StateAt { snapshot, recorded: false });
        let delay = ctx.dice.below(20 * MS);
        self.after(ctx, delay, NodeEvent::Snapshot);
    }

    /// The db first, then `.snap`, then the log's record that makes it count, then what
    /// it makes superfluous.
    pub(super) fn snapshot_turn(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        let Some(StateAt { snapshot, recorded }) = self.wanted.take() else { return Ok(()) };
        self.tempt_fate(ctx, 30, 25);
        let again = |life: &mut Life, ctx: &mut Ctx, recorded| {
            life.wanted = Some(StateAt { snapshot: snapshot.clone(), recorded });
            life.after(ctx, SECOND, NodeEvent::Snapshot);
        };
        if !self.commit(ctx)? {
            again(self, ctx, recorded);
            return Ok(());
        }
        let (index, term) = (snapshot.index, snapshot.term);
        let mark = SnapshotMark { index, term, conf_state: Some(snapshot.conf_state.clone()) };
        if ctx.has(Bug::RecordBeforeSnap) && !recorded {
            self.log.push_back(LogOrder::Record(mark));
            self.log_soon(ctx);
            again(self, ctx, true);
            return Ok(());
        }
        match snap::save(&*self.disk, &snap_dir(), &snapshot) {
            Err(error) if error.is_full() => {
                again(self, ctx, recorded);
                return Ok(());
            }
            done => done.map_err(Death::disk)?,
        };
        if !recorded {
            self.log.push_back(LogOrder::Record(mark));
            self.log_soon(ctx);
        }
        Ok(())
    }
}

/// Everything that must be alike on members that have applied the same.
pub(crate) fn digest(machine: &Machine) -> Result<u64, mainstay_mvcc::MvccError> {
    let view = machine.view();
    let kv = view.hash_kv(0)?;
    let mut sum = crc32c::crc32c(&machine.snapshot_v2_json());
    for lease in machine.leases().leases() {
        sum = crc32c::crc32c_append(sum, &lease.id.0.to_le_bytes());
        sum = crc32c::crc32c_append(sum, &lease.ttl.to_le_bytes());
        for key in machine.leases().keys(lease.id) {
            sum = crc32c::crc32c_append(sum, key);
        }
    }
    for number in [kv.revision, kv.compact_revision, view.len() as i64] {
        sum = crc32c::crc32c_append(sum, &number.to_le_bytes());
    }
    Ok(u64::from(kv.hash) << 32 | u64::from(sum))
}

/// The events of one entry as watchers take them; `None` when there are none.
fn event_batch(events: Vec<mainstay_mvcc::Event>) -> Option<EventBatch> {
    let revision = events.first()?.revision.main;
    let events = events.into_iter().map(|event| Event {
        kind: if event.deleted { EventKind::Delete } else { EventKind::Put },
        key: event.key,
        kv: event.kv,
        prev: None,
    });
    Some(EventBatch { revision, events: events.collect() })
}
