//! The applier, which owns the replicated state, and the thread that drives it.
//!
//! Per turn: apply every committed entry in order, append its rows, publish the
//! view, offer the events to the watchers, and only then fill the reply slots. So
//! whoever got a reply finds what it says in any view loaded afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainstay_apply::{
    Applied, Compaction, ConfEffect, Effects, LeaseChange, Machine, MemberChange,
};
use mainstay_backend::Batch;
use mainstay_failpoints::fail_point;
use mainstay_raft::{Entry, EntryKind, Snapshot};
use mainstay_types::{Index, Term};
use mainstay_watch::{Event, EventBatch, EventKind};
use parking_lot::Mutex;

use crate::boot::take_membership;
use crate::committer::StateAt;
use crate::consensus::desk::Place;
use crate::handle::{RequestError, refused};
use crate::incoming::received_db;
use crate::notes::Note;
use crate::queue::{Nothing, Receiver, Refused, Sender, bounded};
use crate::shared::Shared;
use crate::stats::Stats;
use crate::waiters::Answer;

/// Turns that may wait. The consensus thread blocks past it; this thread never waits
/// for that one.
const QUEUE_MAX: usize = 1024;
/// Questions among them: the rest of the room is for what must not be refused, so that
/// nobody who works on raft waits for it.
const QUESTIONS_MAX: usize = QUEUE_MAX / 2;
/// Revisions that a compaction deletes in a second, at most: their pages are written again beside
/// the log, of which nobody should have to wait for more than a slice.
const COMPACTED_A_SECOND: u32 = 20_000;
/// Entries of a turn, so that the first reply of many does not wait for the last.
const TURN_ENTRIES_MAX: usize = 256;

/// A question to the machine, asked between two entries.
pub(crate) type Question = Box<dyn FnOnce(&Machine) + Send>;

pub(crate) enum Order {
    Apply(Vec<Entry>),
    Ask(Question),
    TakeSnapshot,
    /// A snapshot of the leader is on the disk: go on from it.
    Install(Snapshot),
    /// Nothing to apply: a slice of a compaction may be due.
    Look,
    /// The rows of the published view may be in the file by now: publish one that says so.
    Refresh,
    Stop,
}

/// The front of the apply thread.
#[derive(Clone)]
pub(crate) struct ApplyHandle {
    orders: Sender<Order>,
    /// Orders that are queued or being carried out: nothing may overtake them.
    queued: Arc<AtomicUsize>,
    /// Questions that are queued.
    asked: Arc<AtomicUsize>,
}

impl ApplyHandle {
    pub(crate) fn new() -> (ApplyHandle, Receiver<Order>) {
        let (orders, queue) = bounded(QUEUE_MAX);
        (ApplyHandle { orders, queued: Arc::default(), asked: Arc::default() }, queue)
    }

    /// Orders that are queued or being carried out.
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    pub(crate) fn apply(&self, entries: Vec<Entry>) {
        self.queued.fetch_add(1, Ordering::AcqRel);
        // A closed queue means the thread has stopped, with its reason told.
        let _ = self.orders.send(Order::Apply(entries));
    }

    /// Applies on the caller's thread; queues instead when others wait or the applier
    /// is busy.
    pub(crate) fn apply_here(&self, applier: &Mutex<Applier>, entries: Vec<Entry>) {
        let free = self.queued.load(Ordering::Acquire) == 0;
        let Some(mut applier) = free.then(|| applier.try_lock()).flatten() else {
            return self.apply(entries);
        };
        applier.apply(&entries);
        if applier.slice_due.is_some() {
            // A full queue means that the thread is awake and will look by itself.
            let _ = self.orders.try_send(Order::Look);
        }
    }

    pub(crate) fn install(&self, snapshot: Snapshot) {
        self.queued.fetch_add(1, Ordering::AcqRel);
        // As above.
        let _ = self.orders.send(Order::Install(snapshot));
    }

    pub(crate) fn take_snapshot(&self) {
        // As above.
        let _ = self.orders.send(Order::TakeSnapshot);
    }

    pub(crate) fn ask(&self, question: Question) -> Result<(), RequestError> {
        let asked = if self.asked.fetch_add(1, Ordering::AcqRel) < QUESTIONS_MAX {
            self.orders.try_send(Order::Ask(question))
        } else {
            Err(Refused::Full)
        };
        asked.map_err(|error| {
            self.asked.fetch_sub(1, Ordering::AcqRel);
            refused(error)
        })
    }

    /// Has a view of the newest commit published; older ones hold pages of the file.
    pub(crate) fn refresh(&self) {
        // A full queue means that entries wait, whose view comes soon.
        let _ = self.orders.try_send(Order::Refresh);
    }

    pub(crate) fn stop(&self) {
        // As above.
        let _ = self.orders.send(Order::Stop);
    }
}

/// The state machine and what follows from its outcomes.
pub(crate) struct Applier {
    shared: Arc<Shared>,
    machine: Machine,
    applied: (Index, Term),
    /// When the next slice of a compaction is due.
    slice_due: Option<Duration>,
    compaction: Option<Running>,
    /// An entry could not be applied: nothing may follow it.
    failed: bool,
    /// The compacted revision.
    compacted: i64,
}

/// A compaction whose rows are being deleted.
struct Running {
    begun: Duration,
    deleted: u64,
    /// How long the index was held by slices that only looked at keys.
    at_the_index: Duration,
    /// Clients that wait for the end (`physical`), with their answers.
    waiting: Vec<(u64, Answer)>,
}

/// What a turn has to give out once its view is published.
#[derive(Default)]
struct Turn {
    answers: Vec<(u64, Answer)>,
    events: Vec<Arc<EventBatch>>,
    compacted: Option<i64>,
}

/// Carries out orders until stopped, or until an entry cannot be applied.
pub(crate) fn run(shared: &Shared, applier: &Mutex<Applier>, orders: &Receiver<Order>) {
    loop {
        let due = applier.lock().slice_due;
        let order = match due {
            None => orders.recv(),
            Some(due) => orders.recv_timeout(due.saturating_sub(shared.clock.now())),
        };
        match order {
            Ok(Order::Apply(entries)) => {
                applier.lock().apply(&entries);
                shared.apply.queued.fetch_sub(1, Ordering::AcqRel);
                shared.consensus.work_here(Place::Apply);
            }
            Ok(Order::Install(snapshot)) => {
                applier.lock().install(&snapshot);
                shared.apply.queued.fetch_sub(1, Ordering::AcqRel);
                shared.consensus.work_here(Place::Apply);
            }
            Ok(Order::Ask(question)) => {
                shared.apply.asked.fetch_sub(1, Ordering::AcqRel);
                question(&applier.lock().machine);
            }
            Ok(Order::TakeSnapshot) => applier.lock().take_snapshot(),
            Ok(Order::Refresh) => applier.lock().refresh(),
            Ok(Order::Look) | Err(Nothing::Timeout) => {}
            Ok(Order::Stop) | Err(Nothing::Closed) => return,
        }
        let mut applier = applier.lock();
        applier.compact_when_due();
        if applier.failed {
            return;
        }
    }
}

impl Applier {
    pub(crate) fn new(shared: Arc<Shared>, machine: Machine) -> Applier {
        let applied = machine.applied();
        let compacted = machine.view().compact_revision();
        let mut applier = Applier {
            compacted,
            shared,
            machine,
            applied,
            slice_due: None,
            compaction: None,
            failed: false,
        };
        if applier.machine.is_compacting() {
            applier.begin_compaction();
        }
        applier
    }

    /// Applies and gives out; an entry that cannot be applied stops the member, and
    /// nothing is applied after it.
    fn apply(&mut self, entries: &[Entry]) {
        for part in entries.chunks(TURN_ENTRIES_MAX) {
            if self.failed {
                return;
            }
            let mut turn = Turn::default();
            for entry in part {
                if let Err(reason) = self.apply_one(entry, &mut turn) {
                    tracing::error!(%reason, "failed to apply");
                    self.shared.stop.because(reason);
                    self.failed = true;
                    return;
                }
            }
            self.give_out(turn);
        }
    }

    fn apply_one(&mut self, entry: &Entry, turn: &mut Turn) -> Result<(), String> {
        match entry.kind {
            EntryKind::Normal => fail_point!("beforeApplyOneEntryNormal"),
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => {
                fail_point!("beforeApplyOneConfChange");
            }
        }
        let begun = self.shared.clock.now();
        let waiters = &self.shared.waiters;
        let is_local = |id: u64| waiters.is_expected(id);
        let applied = self.machine.apply(entry, is_local).map_err(|e| e.to_string())?;
        self.applied = (entry.index, entry.term);
        let Applied { request_id, batch, outcome, events, leases, op, counts, effects } = applied;
        self.watch_duration(begun, entry, |stats, took| {
            stats.applied(op, &outcome, counts, &leases, took);
        });
        let compacts = effects.compaction.is_some();
        if compacts {
            fail_point!("compactBeforeCommitScheduledCompact");
        }
        if let Some(batch) = batch {
            self.shared.backend.append(batch);
        }
        if compacts {
            fail_point!("compactAfterCommitScheduledCompact");
        }
        self.change_leases(&leases);
        if let Some(batch) = event_batch(events) {
            turn.events.push(Arc::new(batch));
        }
        let answer = outcome.map_err(RequestError::from);
        match effects.compaction {
            Some(compaction) => self.compacted(compaction, request_id, answer, turn),
            None => turn.answers.push((request_id, answer)),
        }
        self.follow(effects);
        Ok(())
    }

    /// What an entry asks of other threads.
    fn follow(&mut self, effects: Effects) {
        let shared = &*self.shared;
        if effects.first_of_term && shared.leads() {
            // Leases start to count down on a new leader as it applies its first entry.
            let extend = shared.options.election_timeout;
            let term = self.applied.1;
            shared.leases.promote(term, self.machine.leases().leases(), extend);
        }
        if effects.membership_changed {
            shared.membership.store(Arc::clone(self.machine.membership()));
        }
        if let Some(change) = effects.conf_change {
            self.membership_changed(*change);
        }
        if effects.alarms_changed {
            shared.alarms.store(Arc::clone(self.machine.alarms()));
        }
        if effects.raise_nospace {
            shared.raise_nospace();
        }
        if let Some(change) = effects.tokens {
            shared.change_tokens(&change);
        }
        if effects.auth_changed {
            shared.take_auth(self.machine.auth());
        }
        if effects.snapshot_now {
            self.take_snapshot();
        }
    }

    fn membership_changed(&self, change: ConfEffect) {
        let shared = &*self.shared;
        shared.note(Note::ConfChanged(change.raft));
        match change.outcome {
            Ok(MemberChange::Removed(id)) => {
                tracing::info!("removed-remote-peer-id" = %id, "removed member");
                if id == shared.identity.member {
                    shared.stop.removed();
                }
            }
            Ok(MemberChange::Added(member)) => tracing::info!(
                "added-peer-id" = %member.id,
                "added-peer-is-learner" = member.is_learner,
                "added member"
            ),
            Ok(MemberChange::Promoted(id)) => {
                tracing::info!("promoted-member-id" = %id, "promote member");
            }
            Ok(MemberChange::PeerUrls(id, _)) => {
                tracing::info!("updated-remote-peer-id" = %id, "updated member");
            }
            Err(error) => {
                tracing::warn!(%error, "refused a configuration change");
                return;
            }
        }
        shared.tell_transport();
    }

    fn watch_duration(
        &self,
        begun: Duration,
        entry: &Entry,
        record: impl FnOnce(&Stats, Duration),
    ) {
        let took = self.shared.clock.now().saturating_sub(begun);
        record(&self.shared.stats, took);
        if took > self.shared.options.warning_apply {
            self.shared.stats.slow_apply.inc();
            tracing::warn!(
                took = ?took,
                index = entry.index.0,
                bytes = entry.data.len(),
                "apply request took too long"
            );
        }
    }

    /// Order matters: view, events, answers, then how far we are.
    fn give_out(&mut self, turn: Turn) {
        let shared = &*self.shared;
        shared.view.store(self.machine.view());
        for batch in turn.events {
            shared.watch.publish(batch);
        }
        if let Some(revision) = turn.compacted {
            shared.watch.compacted(revision);
        }
        shared.cells.applied.store(self.applied.0.0, Ordering::Release);
        shared.waiters.fill_all(turn.answers);
        shared.committer.gathered(shared.backend.pending_ops());
    }

    /// Publishes the same state as it lies in the file now.
    fn refresh(&self) {
        if !self.failed {
            self.shared.view.store(self.machine.view());
        }
    }

    /// Replaces all state by that of a snapshot, as a start from its files would.
    fn install(&mut self, snapshot: &Snapshot) {
        let shared = Arc::clone(&self.shared);
        if snapshot.index <= self.applied.0 {
            return;
        }
        tracing::info!(
            "current-applied-index" = self.applied.0.0,
            "incoming-leader-snapshot-index" = snapshot.index.0,
            "applying snapshot"
        );
        let received = received_db(&shared.options.snap_path(), snapshot.index);
        fail_point!("applyBeforeOpenSnapshot");
        shared.stats.snapshots_applying.add(1);
        let installed = self.machine.install(&received);
        shared.stats.snapshots_applying.add(-1);
        fail_point!("applyAfterOpenSnapshot");
        if let Err(error) = installed {
            let file = received.display();
            let reason = format!("failed to install the leader's snapshot from {file}: {error}");
            tracing::error!("{reason}");
            shared.stop.because(reason);
            self.failed = true;
            return;
        }
        if let Err(error) = take_membership(&mut self.machine, Some(snapshot), &[]) {
            shared.stop.because(format!("failed to install the leader's snapshot: {error}"));
            self.failed = true;
            return;
        }
        self.applied = self.machine.applied();
        if self.applied.0 != snapshot.index {
            let reason = format!(
                "the leader's snapshot says index {}, and the db that came with it {}",
                snapshot.index, self.applied.0
            );
            shared.stop.because(reason);
            self.failed = true;
            return;
        }
        self.publish_installed();
        tracing::info!(
            "current-applied-index" = self.applied.0.0,
            "incoming-leader-snapshot-index" = snapshot.index.0,
            "applied snapshot"
        );
    }

    fn publish_installed(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.slice_due = None;
        shared.committer.compacting(false);
        if let Some(running) = self.compaction.take() {
            // The leader's file may have it done or not; who waits is told to ask again.
            let stopped = || Err(RequestError::Timeout);
            shared
                .waiters
                .fill_all(running.waiting.into_iter().map(|(id, _)| (id, stopped())).collect());
        }
        if self.machine.is_compacting() {
            self.begin_compaction();
        }
        shared.membership.store(Arc::clone(self.machine.membership()));
        shared.alarms.store(Arc::clone(self.machine.alarms()));
        shared.void_tokens_of_others(self.machine.auth());
        shared.take_auth(self.machine.auth());
        // A follower's: only a leader counts leases down.
        shared.leases.demote();
        let view = self.machine.view();
        let (revision, compacted) = (view.revision(), view.compact_revision());
        self.compacted = compacted;
        shared.hashes.clear();
        shared.view.store(view);
        shared.watch.skip_to(revision);
        if compacted > 0 {
            shared.watch.compacted(compacted);
        }
        shared.cells.applied.store(self.applied.0.0, Ordering::Release);
        shared.tell_transport();
    }

    fn change_leases(&self, changes: &[LeaseChange]) {
        let leases = &self.shared.leases;
        for change in changes {
            match change {
                LeaseChange::Granted(lease) => leases.granted(*lease),
                LeaseChange::Revoked(id) => leases.revoked(*id),
                LeaseChange::Checkpointed(id, remaining) => leases.checkpointed(*id, *remaining),
            }
        }
    }

    fn compacted(&mut self, compaction: Compaction, id: u64, answer: Answer, turn: &mut Turn) {
        turn.compacted = Some(compaction.revision);
        // None of its rows is deleted yet.
        let before = std::mem::replace(&mut self.compacted, compaction.revision);
        self.shared.hashes.compute(self.machine.view(), before, compaction.revision);
        self.begin_compaction();
        match &mut self.compaction {
            Some(running) if compaction.physical => running.waiting.push((id, answer)),
            _ => turn.answers.push((id, answer)),
        }
    }

    fn begin_compaction(&mut self) {
        let now = self.shared.clock.now();
        self.shared.committer.compacting(true);
        self.slice_due = Some(now);
        self.compaction.get_or_insert(Running {
            begun: now,
            deleted: 0,
            at_the_index: Duration::ZERO,
            waiting: Vec::new(),
        });
    }

    /// One slice, when its time has come; entries go first in between.
    fn compact_when_due(&mut self) {
        let now = self.shared.clock.now();
        if self.slice_due.is_none_or(|due| due > now) {
            return;
        }
        fail_point!("compactAfterAcquiredBatchTxLock");
        let limit = self.shared.options.compaction_batch;
        let Some((batch, slice)) = self.machine.compaction_slice(limit) else {
            self.slice_due = None;
            self.shared.committer.compacting(false);
            return;
        };
        self.append_slice(batch, slice.finished);
        let took = self.shared.clock.now().saturating_sub(now);
        if let Some(running) = &mut self.compaction {
            running.deleted += slice.deleted as u64;
            if slice.deleted == 0 && !slice.finished {
                running.at_the_index += took;
            } else {
                self.shared.stats.compaction_pause_ms.observe_value(millis(took));
            }
        }
        if slice.finished {
            self.end_compaction(slice.revision);
        } else {
            let rest = Duration::from_secs(slice.deleted as u64) / COMPACTED_A_SECOND;
            self.slice_due = Some(now + rest.max(self.shared.options.compaction_pause));
        }
    }

    fn append_slice(&self, batch: Batch, is_last: bool) {
        if is_last {
            fail_point!("compactBeforeSetFinishedCompact");
        }
        if !is_last {
            fail_point!("compactBeforeCommitBatch");
        }
        self.shared.backend.append(batch);
        self.shared.committer.gathered(self.shared.backend.pending_ops());
        if is_last {
            fail_point!("compactAfterSetFinishedCompact");
        }
        if !is_last {
            fail_point!("compactAfterCommitBatch");
        }
    }

    fn end_compaction(&mut self, revision: i64) {
        self.slice_due = None;
        self.shared.committer.compacting(false);
        // Views from now on no longer carry what was compacted.
        self.shared.view.store(self.machine.view());
        let Some(running) = self.compaction.take() else { return };
        let took = self.shared.clock.now().saturating_sub(running.begun);
        let stats = &self.shared.stats;
        stats.compaction_keys.add(running.deleted);
        stats.compaction_total_ms.observe_value(millis(took));
        stats.index_compaction_pause_ms.observe_value(millis(running.at_the_index));
        let wall = self.shared.clock.wall().as_secs();
        stats.compaction_last.set(i64::try_from(wall).unwrap_or(i64::MAX));
        tracing::info!(
            compact_revision = revision,
            took = ?took,
            deleted = running.deleted,
            "finished scheduled compaction"
        );
        self.shared.waiters.fill_all(running.waiting);
    }

    /// The membership exactly at the applied index, for a `.snap` file.
    fn take_snapshot(&mut self) {
        let (index, term) = self.applied;
        self.shared.committer.snapshot(StateAt {
            index,
            term,
            conf_state: self.machine.conf_state(),
            data: Bytes::from(self.machine.snapshot_v2_json()),
        });
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::ORDERS_BEHIND_MAX;

    /// Who works on raft may be the apply thread: if questions could fill its queue, it
    /// would wait for room that only itself makes.
    #[test]
    fn questions_leave_room_for_entries() {
        let (handle, queue) = ApplyHandle::new();
        let ask = || handle.ask(Box::new(|_| {}));
        let answered = (0..2 * QUEUE_MAX).filter(|_| ask().is_ok()).count();
        assert_eq!(answered, QUESTIONS_MAX);
        for _ in 0..ORDERS_BEHIND_MAX {
            assert_eq!(handle.orders.try_send(Order::Look), Ok(()), "there is room for entries");
        }
        assert!(matches!(queue.recv(), Ok(Order::Ask(_))));
    }
}
