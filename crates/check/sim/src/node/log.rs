//! The log thread: everything that waits is one write and one sync.

use mainstay_env::{Dice as _, Disk as _};
use mainstay_member::Input;
use mainstay_raft::{Entry, HardState, Mark, Message, Snapshot};
use mainstay_types::Index;
use mainstay_wal::{SnapshotMark, WalError, snap};

use super::boot::snap_dir;
use super::{Death, Life, NodeEvent};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::node::apply::ApplyOrder;
use crate::plan::{MS, SECOND, Time};

/// More than the records of a snapshot take, with what may wait before them.
const RECORD_BYTES: u64 = 64 << 10;
/// More than a `.snap` file takes beside its data, and those records.
const SNAPSHOT_BYTES_MORE: u64 = 128 << 10;

/// Of a longer queue nothing is left for the next turn: a crowd of answers that wait for one
/// sync must not take thousands.
const SEEN_AT_ONCE: usize = 64;

/// What must be durable before its mark counts and its messages leave.
#[derive(Debug, Default)]
pub(crate) struct Persist {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) must_sync: bool,
    pub(crate) mark: Mark,
    pub(crate) then_send: Vec<Message>,
}

#[derive(Debug)]
pub(crate) enum LogOrder {
    Persist(Persist),
    /// A snapshot that replaces everything, and what comes with it.
    Install(Box<Snapshot>, Persist),
    /// The record of a snapshot that was taken here.
    Record(SnapshotMark),
}

impl Life {
    pub(super) fn log_soon(&mut self, ctx: &mut Ctx) {
        if !self.log_due && !self.log.is_empty() {
            self.log_due = true;
            let delay = self.sync_time(ctx) + self.install_time(ctx);
            self.after(ctx, delay, NodeEvent::Log);
        }
    }

    /// A disk that has just taken a whole db is busy: what the leader sends behind it waits
    /// with it, and becomes one write.
    fn install_time(&self, ctx: &mut Ctx) -> Time {
        let installs = self.log.iter().any(|order| matches!(order, LogOrder::Install(..)));
        if installs && ctx.dice.one_in(2) { ctx.dice.below(2 * SECOND) } else { 0 }
    }

    pub(super) fn log_turn(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        self.log_due = false;
        let mut gathered = Persist::default();
        let mut last = Mark(0);
        self.wal.grow_only(self.reserve.is_spent());
        while let Some(order) = self.log.pop_front() {
            if !matches!(order, LogOrder::Persist(_)) && !self.has_room(&order) {
                // The driver waits for room before each of its writes.
                self.log.push_front(order);
                ctx.stats.count("snapshots that waited for room");
                self.save(ctx, std::mem::take(&mut gathered)).map(|mark| last = mark.max(last))?;
                return self.log_waits(ctx, last);
            }
            match order {
                LogOrder::Persist(persist) => gather(&mut gathered, persist),
                LogOrder::Install(snapshot, persist) => {
                    last = self.save(ctx, std::mem::take(&mut gathered))?.max(last);
                    self.tempt_fate(ctx, 3, 10);
                    self.record_install(ctx, &snapshot, &persist)?;
                    let mut behind = persist;
                    // What waits behind it comes with it.
                    while let Some(LogOrder::Persist(_)) = self.log.front() {
                        let Some(LogOrder::Persist(next)) = self.log.pop_front() else { break };
                        gather(&mut behind, next);
                    }
                    if !behind.entries.is_empty() {
                        ctx.stats.count("entries written right behind a snapshot");
                        self.tempt_fate(ctx, 6, 2);
                    }
                    last = self.save(ctx, behind)?.max(last);
                    self.wal.release_to(snapshot.index).map_err(Death::disk)?;
                    self.apply.push_back(ApplyOrder::Install(snapshot.index));
                    self.apply_soon(ctx);
                }
                LogOrder::Record(mark) => {
                    last = self.save(ctx, std::mem::take(&mut gathered))?.max(last);
                    self.record_taken(ctx, &mark).map_err(Death::disk)?;
                }
            }
            // The driver takes all that waits; what has only just come it may not see yet.
            if self.log.len() < SEEN_AT_ONCE && ctx.dice.one_in(8) {
                break;
            }
        }
        last = self.save(ctx, gathered)?.max(last);
        if self.log_is_full {
            return self.log_waits(ctx, last);
        }
        self.log_soon(ctx);
        if self.log.is_empty() && ctx.dice.one_in(16) {
            self.prepare_next()?;
        }
        self.tell_persisted(ctx, last)
    }

    fn tell_persisted(&mut self, ctx: &mut Ctx, last: Mark) -> Result<(), Death> {
        if last > Mark(0) && !ctx.has(Bug::AckBeforeSync) {
            self.mind.feed(Input::Persisted(last));
        }
        self.turn_soon(ctx)
    }

    /// The disk has no room for the next of the log: it is tried again, and nothing of it is
    /// acknowledged until then.
    fn log_waits(&mut self, ctx: &mut Ctx, last: Mark) -> Result<(), Death> {
        self.log_is_full = false;
        self.log_due = true;
        self.after(ctx, SECOND, NodeEvent::Log);
        self.tell_persisted(ctx, last)
    }

    /// Whether a snapshot and its records find room, the reserve given up if need be.
    fn has_room(&self, order: &LogOrder) -> bool {
        let bytes = match order {
            LogOrder::Install(snapshot, _) => snapshot.data.len() as u64 + SNAPSHOT_BYTES_MORE,
            LogOrder::Persist(_) | LogOrder::Record(_) => RECORD_BYTES,
        };
        let fits = || self.sim.room(&snap_dir()).is_ok_and(|room| room.free >= bytes);
        self.sim.is_cut() || fits() || (self.reserve.give_up() > 0 && fits())
    }

    fn save(&mut self, ctx: &mut Ctx, persist: Persist) -> Result<Mark, Death> {
        let Persist { hard_state, entries, must_sync, mark, then_send } = persist;
        let skips = ctx.has(Bug::TermForgotten) && entries.is_empty();
        if mark > Mark(0) && !skips {
            let held = self.reserve.held();
            let saved = self.wal.save(hard_state.as_ref(), &entries, must_sync);
            if self.reserve.held() < held {
                ctx.stats.count("reserves given up by the log");
            }
            match saved {
                // The log has it, and writes it first when there is room.
                Err(error) if error.is_full() => {
                    ctx.stats.count("logs without room");
                    let again = Persist { must_sync: true, mark, then_send, ..Persist::default() };
                    self.log.push_front(LogOrder::Persist(again));
                    self.log_is_full = true;
                    return Ok(if ctx.has(Bug::AckWithoutRoom) { mark } else { Mark(0) });
                }
                done => done.map_err(Death::disk)?,
            }
        }
        self.send(ctx, then_send);
        Ok(mark)
    }

    fn prepare_next(&mut self) -> Result<(), Death> {
        match self.wal.prepare_next() {
            Err(error) if !error.is_full() => Err(Death::disk(error)),
            _ => Ok(()),
        }
    }

    /// The received db is on the disk and synced. Then the `.snap`; then the record that
    /// makes both count, behind it the commit index without which it does not (a crash
    /// between the two leaves the old log as it was); then what follows.
    fn record_install(
        &mut self,
        ctx: &mut Ctx,
        snapshot: &Snapshot,
        persist: &Persist,
    ) -> Result<(), Death> {
        if ctx.has(Bug::RenameBeforeRecord) {
            self.rename_received(snapshot.index)?;
        }
        let (index, term) = (snapshot.index, snapshot.term);
        let mark = SnapshotMark { index, term, conf_state: Some(snapshot.conf_state.clone()) };
        let together = ctx.has(Bug::StateWithEntries);
        let record = |life: &mut Life, ctx: &mut Ctx| -> Result<(), WalError> {
            life.tempt_fate(ctx, 8, 4);
            if together {
                return life.wal.save_snapshot(&mark);
            }
            life.wal.save_received(&mark, persist.hard_state)
        };
        let early = ctx.has(Bug::RecordBeforeSnap);
        if early {
            record(self, ctx).map_err(Death::disk)?;
        }
        snap::save(&*self.disk, &snap_dir(), snapshot).map_err(Death::disk)?;
        if !early {
            record(self, ctx).map_err(Death::disk)?;
        }
        Ok(())
    }

    /// As the driver's `record_snapshot`.
    fn record_taken(&mut self, ctx: &mut Ctx, mark: &SnapshotMark) -> Result<(), WalError> {
        let state = self.wal.hard_state();
        if state.commit < mark.index {
            let state = HardState { commit: mark.index, ..state };
            self.wal.save(Some(&state), &[], false)?;
        }
        self.wal.save_snapshot(mark)?;
        self.wal.release_to(mark.index)?;
        self.wal.purge(ctx.plan.max_wals)?;
        // Not before the record: the newest one that counts must stay.
        snap::purge(&*self.disk, &snap_dir(), mark.index, ctx.plan.max_snapshots)?;
        ctx.stats.count("snapshots taken");
        self.mind.feed(Input::SnapshotTaken { index: mark.index });
        Ok(())
    }

    /// The received db takes its place.
    pub(super) fn rename_received(&self, index: Index) -> Result<(), Death> {
        super::planted::rename_received(&*self.disk, index).map_err(Death::disk)
    }

    pub(super) fn apply_soon(&mut self, ctx: &mut Ctx) {
        if !self.apply_due && !self.apply.is_empty() {
            self.apply_due = true;
            let delay = MS / 20 + ctx.dice.below(ctx.plan.apply);
            self.after(ctx, delay, NodeEvent::Apply);
        }
    }
}

fn gather(gathered: &mut Persist, persist: Persist) {
    gathered.hard_state = persist.hard_state.or(gathered.hard_state.take());
    gathered.entries.extend(persist.entries);
    gathered.must_sync |= persist.must_sync;
    gathered.mark = persist.mark;
    gathered.then_send.extend(persist.then_send);
}
