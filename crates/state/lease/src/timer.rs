//! When each lease runs out. Only the leader has one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use mainstay_types::LeaseId;

use crate::Lease;

/// Leases that etcd revokes per second at most; from this many on, a new
/// leader spreads the expiries (etcd, `defaultLeaseRevokeRate`).
const REVOKES_PER_SECOND: usize = 1000;
/// Expiries per second after spreading, fewer than the revoke rate so that
/// the pile does not consume all of it (etcd, `3 * leaseRevokeRate / 4`).
const SPREAD_PER_SECOND: usize = REVOKES_PER_SECOND * 3 / 4;

/// How a [`Timer`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct TimerOptions {
    /// When a lease that was reported as expired is reported again, if it has
    /// not been revoked by then (etcd: the request timeout).
    pub retry: Duration,
    /// How often a lease's remaining time is put through the log, if at all
    /// (etcd, gate `LeaseCheckpoint`, 5 minutes).
    pub checkpoint_every: Option<Duration>,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives for its whole time to live again: this many seconds.
    Renewed(i64),
    /// It carries a checkpoint, which must be cleared through the log before it can be
    /// renewed: the next leader would count from it.
    ClearCheckpoint,
    /// It has expired and waits for its revocation; the caller waits too.
    Expired,
    /// There is no such lease.
    Missing,
}

/// What is left of a lease's time, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The lease.
    pub id: LeaseId,
    /// Seconds left, rounded up.
    pub remaining: i64,
}

#[derive(Clone, Copy, Debug)]
struct Clock {
    ttl: i64,
    remaining: i64,
    expiry: Duration,
    /// When what is left shall go through the log; entries of the heap that say another
    /// time do not count.
    checkpoint_at: Option<Duration>,
}

impl Clock {
    fn new(lease: &Lease, expiry: Duration) -> Clock {
        Clock { ttl: lease.ttl, remaining: lease.remaining, expiry, checkpoint_at: None }
    }

    fn countdown(&self) -> i64 {
        if self.remaining > 0 { self.remaining } else { self.ttl }
    }
}

/// The leader's countdown of every lease. A member makes one when it has
/// applied the first entry of its term as leader and drops it when it steps
/// down; in between it is told of every grant, revocation and checkpoint.
///
/// The heap holds exactly one alarm per lease (plus those of leases revoked
/// since). A renewal only moves the expiry; the alarm that then rings early is
/// set again for the real time, so renewing costs one map lookup.
#[derive(Debug)]
pub struct Timer {
    options: TimerOptions,
    clocks: BTreeMap<LeaseId, Clock>,
    alarms: BinaryHeap<Reverse<(Duration, LeaseId)>>,
    checkpoints: BinaryHeap<Reverse<(Duration, LeaseId)>>,
    /// Leases that carry a checkpoint.
    marked: BTreeSet<LeaseId>,
}

impl Timer {
    /// Starts counting down all leases of the book: each has what is left of
    /// it plus `extend` (etcd: one election timeout). From 1000 leases on the
    /// expiries are spread to 750 per second.
    pub fn promote(
        options: TimerOptions,
        now: Duration,
        extend: Duration,
        leases: impl IntoIterator<Item = Lease>,
    ) -> Timer {
        let mut clocks: BTreeMap<LeaseId, Clock> = BTreeMap::new();
        for lease in leases {
            let expiry = now + extend + seconds(lease.countdown());
            clocks.insert(lease.id, Clock::new(&lease, expiry));
        }
        if clocks.len() >= REVOKES_PER_SECOND {
            spread(now, extend, &mut clocks);
        }
        let alarms = clocks.iter().map(|(id, clock)| Reverse((clock.expiry, *id))).collect();
        let carry = clocks.iter().filter(|(_, clock)| clock.remaining > 0);
        let marked = carry.map(|(id, _)| *id).collect();
        let mut timer = Timer { options, clocks, alarms, checkpoints: BinaryHeap::new(), marked };
        if options.checkpoint_every.is_some() {
            let ids: Vec<LeaseId> = timer.clocks.keys().copied().collect();
            ids.into_iter().for_each(|id| timer.schedule_checkpoint(now, id));
        }
        timer
    }

    /// Counts down a lease that was just granted.
    pub fn granted(&mut self, now: Duration, lease: Lease) {
        let expiry = now + seconds(lease.countdown());
        self.clocks.insert(lease.id, Clock::new(&lease, expiry));
        self.alarms.push(Reverse((expiry, lease.id)));
        self.schedule_checkpoint(now, lease.id);
    }

    /// Forgets a lease that was just revoked.
    pub fn revoked(&mut self, id: LeaseId) {
        self.clocks.remove(&id);
        self.marked.remove(&id);
        // A burst of leases that live for days and are revoked at once would
        // otherwise leave its alarms behind.
        let most = 2 * self.clocks.len() + REVOKES_PER_SECOND;
        let clocks = &self.clocks;
        if self.alarms.len() > most {
            self.alarms.retain(|Reverse((_, id))| clocks.contains_key(id));
        }
        if self.checkpoints.len() > most {
            let counts =
                |at, id: &LeaseId| clocks.get(id).is_some_and(|c| c.checkpoint_at == Some(at));
            self.checkpoints.retain(|Reverse((at, id))| counts(*at, id));
        }
    }

    /// Takes note of a checkpoint that was just applied. It does not move the
    /// expiry: only the next leader counts from it.
    pub fn checkpointed(&mut self, now: Duration, id: LeaseId, remaining: i64) {
        let Some(clock) = self.clocks.get_mut(&id) else { return };
        clock.remaining = remaining;
        if remaining > 0 {
            self.marked.insert(id);
        } else {
            self.marked.remove(&id);
        }
        self.schedule_checkpoint(now, id);
    }

    /// Leases that carry a checkpoint, at most `limit`. Who may not make any clears
    /// these: a leader that knows nothing of checkpoints would renew such a lease for
    /// what is left of it, and answer that it is all of it.
    pub fn marked(&self, limit: usize) -> Vec<LeaseId> {
        self.marked.iter().take(limit).copied().collect()
    }

    /// Gives a lease its whole time to live again.
    pub fn renew(&mut self, now: Duration, id: LeaseId) -> Renewal {
        let Some(clock) = self.clocks.get_mut(&id) else { return Renewal::Missing };
        if clock.expiry <= now {
            return Renewal::Expired;
        }
        if clock.remaining > 0 {
            // Also with checkpoints off. etcd then renews for what is left, and the lease
            // ends early for whoever keeps it alive by the answer.
            return Renewal::ClearCheckpoint;
        }
        clock.expiry = clock.expiry.max(now + seconds(clock.ttl));
        Renewal::Renewed(clock.ttl)
    }

    /// The granted and the remaining seconds of a lease. The remainder is cut
    /// toward zero and can be negative just before the revocation.
    pub fn time_to_live(&self, now: Duration, id: LeaseId) -> Option<(i64, i64)> {
        let clock = self.clocks.get(&id)?;
        let left = match clock.expiry.checked_sub(now) {
            Some(left) => as_seconds(left),
            None => -as_seconds(now - clock.expiry),
        };
        Some((clock.ttl, left))
    }

    /// Leases that have run out, earliest first, at most `limit`. Each is
    /// reported again after the retry time, until it is revoked.
    pub fn expired(&mut self, now: Duration, limit: usize) -> Vec<LeaseId> {
        let mut ids = Vec::new();
        while ids.len() < limit {
            match self.alarms.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => break,
            }
            let Some(Reverse((_, id))) = self.alarms.pop() else { break };
            let Some(clock) = self.clocks.get(&id) else { continue };
            if clock.expiry > now {
                self.alarms.push(Reverse((clock.expiry, id)));
            } else {
                self.alarms.push(Reverse((now + self.options.retry, id)));
                ids.push(id);
            }
        }
        ids
    }

    /// When [`Timer::expired`] next has work, if ever. May be early.
    pub fn next_alarm(&self) -> Option<Duration> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    /// Leases whose remaining time is due to go through the log, at most
    /// `limit` (etcd batches 1000). Empty when checkpoints are off. One that gets lost on
    /// its way is due again after the interval.
    pub fn due_checkpoints(&mut self, now: Duration, limit: usize) -> Vec<Checkpoint> {
        let mut due = Vec::new();
        while due.len() < limit {
            match self.checkpoints.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => break,
            }
            let Some(Reverse((at, id))) = self.checkpoints.pop() else { break };
            let Some(clock) = self.clocks.get(&id) else { continue };
            if clock.checkpoint_at != Some(at) {
                continue;
            }
            let Some(left) = clock.expiry.checked_sub(now).filter(|left| !left.is_zero()) else {
                continue;
            };
            let remaining = as_seconds(left) + i64::from(left.subsec_nanos() > 0);
            if remaining < clock.ttl {
                due.push(Checkpoint { id, remaining });
            }
            self.schedule_checkpoint(now, id);
        }
        due
    }

    /// All leases, the first to expire first (etcd's order of `LeaseLeases`).
    pub fn by_expiry(&self) -> Vec<LeaseId> {
        let mut order: Vec<(Duration, LeaseId)> =
            self.clocks.iter().map(|(id, clock)| (clock.expiry, *id)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, id)| id).collect()
    }

    /// How many leases are counted down.
    pub fn len(&self) -> usize {
        self.clocks.len()
    }

    /// Whether no lease is counted down.
    pub fn is_empty(&self) -> bool {
        self.clocks.is_empty()
    }

    /// One time for each lease: etcd adds one for every checkpoint and every clearing, so
    /// that they double with each interval in which a lease is renewed.
    fn schedule_checkpoint(&mut self, now: Duration, id: LeaseId) {
        let Some(every) = self.options.checkpoint_every else { return };
        let Some(clock) = self.clocks.get_mut(&id) else { return };
        if clock.countdown() > as_seconds(every) {
            let at = now + every;
            if clock.checkpoint_at.replace(at) != Some(at) {
                self.checkpoints.push(Reverse((at, id)));
            }
        } else {
            clock.checkpoint_at = None;
        }
    }
}

/// Moves expiries apart so that at most [`SPREAD_PER_SECOND`] fall into one
/// second (etcd, `lessor.Promote`): a window opens at a lease's remaining time;
/// every lease past the target inside it is pushed back in proportion.
fn spread(now: Duration, extend: Duration, clocks: &mut BTreeMap<LeaseId, Clock>) {
    let mut order: Vec<(Duration, LeaseId)> =
        clocks.iter().map(|(id, clock)| (clock.expiry, *id)).collect();
    order.sort_unstable();
    let second = Duration::from_secs(1);
    let mut window = order.first().map_or(Duration::ZERO, |(expiry, _)| *expiry);
    let mut window_end = window + second;
    let mut expiring: u32 = 0;
    for (expiry, id) in order {
        if expiry > window_end {
            window = expiry;
            window_end = window + second;
            expiring = 1;
            continue;
        }
        expiring += 1;
        if expiring as usize <= SPREAD_PER_SECOND {
            continue;
        }
        let share = second.mul_f64(f64::from(expiring) / SPREAD_PER_SECOND as f64);
        let delay = share.saturating_sub(expiry.saturating_sub(window));
        window_end = window + delay;
        let clock = clocks.get_mut(&id).expect("the order was made from these clocks");
        clock.expiry = now + extend + delay + seconds(clock.countdown());
    }
}

/// Whole seconds; a time to live is never negative once it is in the book.
fn seconds(count: i64) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

fn as_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
