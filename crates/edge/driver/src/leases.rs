//! The leader's countdown of leases, shared by the shards that renew, the apply
//! thread that grants and revokes, and the thread that lets them expire.

use std::sync::Arc;
use std::time::Duration;

use mainstay_env::Clock;
use mainstay_failpoints::fail_point;
use mainstay_lease::{Checkpoint, Lease, Renewal, Timer, TimerOptions};
use mainstay_types::{LeaseId, Term};
use parking_lot::Mutex;

use crate::handle::LeaseTimes;

/// The timer behind its lock. Present only while this member leads.
pub(crate) struct Leases {
    clock: Arc<dyn Clock>,
    options: TimerOptions,
    /// With the term in which this member leads.
    timer: Mutex<Option<(Term, Timer)>>,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// It lives for this many seconds again.
    For(i64),
    /// It carries a checkpoint, which is to be cleared first.
    ClearFirst,
    /// It has expired and waits for its revocation.
    Expired,
    /// There is no such lease.
    Missing,
    /// This member does not lead.
    NotLeading,
}

impl Leases {
    pub(crate) fn new(clock: Arc<dyn Clock>, options: TimerOptions) -> Leases {
        Leases { clock, options, timer: Mutex::new(None) }
    }

    /// This member has become leader: every lease of the book starts again.
    pub(crate) fn promote(
        &self,
        term: Term,
        leases: impl IntoIterator<Item = Lease>,
        extend: Duration,
    ) {
        let timer = Timer::promote(self.options, self.clock.now(), extend, leases);
        *self.timer.lock() = Some((term, timer));
    }

    /// This member leads no more.
    pub(crate) fn demote(&self) {
        *self.timer.lock() = None;
    }

    pub(crate) fn granted(&self, lease: Lease) {
        let now = self.clock.now();
        if let Some((_, timer)) = self.timer.lock().as_mut() {
            timer.granted(now, lease);
        }
    }

    pub(crate) fn revoked(&self, id: LeaseId) {
        if let Some((_, timer)) = self.timer.lock().as_mut() {
            timer.revoked(id);
        }
    }

    pub(crate) fn checkpointed(&self, id: LeaseId, remaining: i64) {
        let now = self.clock.now();
        if let Some((_, timer)) = self.timer.lock().as_mut() {
            timer.checkpointed(now, id, remaining);
        }
    }

    pub(crate) fn renew(&self, id: LeaseId) -> Renewed {
        fail_point!("beforeCheckpointInLeaseRenew");
        let now = self.clock.now();
        let mut timer = self.timer.lock();
        let Some((_, timer)) = timer.as_mut() else { return Renewed::NotLeading };
        match timer.renew(now, id) {
            Renewal::Renewed(ttl) => Renewed::For(ttl),
            Renewal::ClearCheckpoint => Renewed::ClearFirst,
            Renewal::Missing => Renewed::Missing,
            Renewal::Expired => Renewed::Expired,
        }
    }

    pub(crate) fn times(&self, id: LeaseId) -> Option<LeaseTimes> {
        let now = self.clock.now();
        let (granted, remaining) = self.timer.lock().as_ref()?.1.time_to_live(now, id)?;
        Some(LeaseTimes { granted, remaining })
    }

    /// Leases by expiry, the first to expire first; `None` when this member does not lead.
    pub(crate) fn by_expiry(&self) -> Option<Vec<LeaseId>> {
        self.timer.lock().as_ref().map(|(_, timer)| timer.by_expiry())
    }

    /// Those that have expired and must be revoked through the log, by whoever still leads
    /// in this term and by nobody else: a later leader counts from its own start.
    pub(crate) fn expired(&self, limit: usize) -> (Term, Vec<LeaseId>) {
        let now = self.clock.now();
        match self.timer.lock().as_mut() {
            Some((term, timer)) => (*term, timer.expired(now, limit)),
            None => (Term(0), Vec::new()),
        }
    }

    /// What is left of leases and shall go through the log, at most `limit`, said only by
    /// whoever still leads in this term.
    pub(crate) fn due_checkpoints(&self, limit: usize) -> (Term, Vec<Checkpoint>) {
        let now = self.clock.now();
        match self.timer.lock().as_mut() {
            Some((term, timer)) => (*term, timer.due_checkpoints(now, limit)),
            None => (Term(0), Vec::new()),
        }
    }

    /// Leases that carry a checkpoint, at most `limit`, with the term in which this member
    /// leads; none when it does not.
    pub(crate) fn marked(&self, limit: usize) -> (Term, Vec<LeaseId>) {
        match self.timer.lock().as_ref() {
            Some((term, timer)) => (*term, timer.marked(limit)),
            None => (Term(0), Vec::new()),
        }
    }
}
