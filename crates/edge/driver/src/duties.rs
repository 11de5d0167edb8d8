//! What a member does without being asked: it publishes itself; as leader it lets
//! leases expire, and compacts when told to by the flags.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_apply::quota::Quota;
use mainstay_failpoints::fail_point;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::membershippb;
use mainstay_types::limits::LEASE_REVOKES_PER_TURN;
use tokio::sync::watch;

use crate::checkpoints::Checkpoints;
use crate::consensus::{Command, ReadSlot};
use crate::corruption::Corruption;
use crate::options::AutoCompaction;
use crate::queue::{Nothing, Receiver};
use crate::shared::Shared;

/// How often leases are looked at (etcd, lessor's loop).
const TURN: Duration = Duration::from_millis(500);
/// How long a member waits for its own attributes before it proposes them again.
const PUBLISH_AGAIN: Duration = Duration::from_secs(2);
/// How long a proposal to raise an alarm may be under way.
const RAISING: Duration = Duration::from_secs(30);
/// How often the start looks for its leader and its entries.
const START_TURN: Duration = Duration::from_millis(2);
/// How long the others may take to make a start possible without a member that this one does
/// not talk to.
const SHUN_PATIENCE: Duration = Duration::from_secs(5);
/// Who may do everything.
const ROOT: &str = "root";
/// How often a revision is looked at in revision mode (etcd, `revInterval`).
const REVISION_EVERY: Duration = Duration::from_secs(300);

/// The thread's state.
pub(crate) struct Duties {
    pub(crate) shared: Arc<Shared>,
    /// Told once the member has published itself and serves.
    pub(crate) ready: watch::Sender<bool>,
}

impl Duties {
    /// Runs until the channel closes.
    pub(crate) fn run(self, stop: &Receiver<()>) {
        if !self.publish(stop) {
            return;
        }
        if self.shared.options.initial_corrupt_check
            && let Err(reason) = Corruption::initial_check(&self.shared)
        {
            tracing::error!("{reason}");
            return self.shared.stop.because(reason);
        }
        // Nobody may wait for it.
        let _ = self.ready.send(true);
        let mut compactor = self.shared.options.auto_compaction.map(Compactor::new);
        let mut told = self.shared.space.has_raised().then_some(Duration::ZERO);
        let mut checkpoints = Checkpoints::default();
        while let Err(Nothing::Timeout) = stop.recv_timeout(TURN) {
            self.shared.space.look();
            self.tell_space(&mut told);
            if let Some(tokens) = &self.shared.tokens {
                tokens.forget_old(self.shared.clock.now());
            }
            if !self.shared.leads() {
                checkpoints.stand_down(&self.shared);
                continue;
            }
            self.revoke_expired();
            checkpoints.turn(&self.shared);
            if let Some(compactor) = &mut compactor {
                compactor.turn(&self.shared);
            }
        }
    }

    /// Publishes name and client URLs, and waits until the cluster has a version (a
    /// leader's monitor sees to that). Answers `false` when the member stops before.
    fn publish(&self, stop: &Receiver<()>) -> bool {
        let clock = &self.shared.clock;
        let mut asked: Option<Duration> = None;
        let begun = clock.now();
        loop {
            if let Err(Nothing::Closed) | Ok(()) = stop.recv_timeout(START_TURN) {
                return false;
            }
            let published = self.is_published();
            let has_version = self.shared.membership.load().version().is_some();
            if published && has_version && self.is_up_to_date() {
                return true;
            }
            if clock.now() >= begun + SHUN_PATIENCE
                && let Some((_, why)) = self.shared.shunned.lock().pop_first()
            {
                tracing::error!("{why}");
                self.shared.stop.because(why);
                return false;
            }
            // A proposal may get lost on its way to a leader.
            let due = asked.is_none_or(|at| clock.now() >= at + PUBLISH_AGAIN);
            if !published && due && self.knows_itself() {
                asked = Some(clock.now());
                fail_point!("beforePublishing");
                self.propose_attributes();
            }
        }
    }

    /// Waits until this member's view shows what was acknowledged before; a member that has
    /// just started may be far behind. `false` when there was no answer to that.
    fn is_up_to_date(&self) -> bool {
        let shared = &self.shared;
        if shared.cells.lone_leader.load(Ordering::Acquire) {
            return true;
        }
        if shared.cells.leader.load(Ordering::Acquire) == 0 {
            return false;
        }
        let (slot, answer) = ReadSlot::here();
        // Answered in any case: also when the leader changes, or this member stops.
        shared.consensus.try_send(Command::Read { slot }).is_ok()
            && matches!(answer.blocking_recv(), Ok(Ok(())))
    }

    /// Whether there is a leader to take it, and the members know this one: attributes of
    /// an unknown member stop whoever applies them.
    fn knows_itself(&self) -> bool {
        let shared = &self.shared;
        let leader = shared.cells.leader.load(Ordering::Acquire);
        leader != 0 && shared.membership.load().member(shared.identity.member).is_some()
    }

    fn is_published(&self) -> bool {
        let options = &self.shared.options;
        let membership = self.shared.membership.load();
        membership.member(self.shared.identity.member).is_some_and(|member| {
            member.name == options.name && member.client_urls == options.client_urls
        })
    }

    fn propose_attributes(&self) {
        let options = &self.shared.options;
        let attributes = membershippb::Attributes {
            name: options.name.clone(),
            client_urls: options.client_urls.clone(),
        };
        self.shared.propose_blindly(pb::InternalRaftRequest {
            cluster_member_attr_set: Some(membershippb::ClusterMemberAttrSetRequest {
                member_id: self.shared.identity.member.0,
                member_attributes: Some(attributes),
            }),
            ..Default::default()
        });
    }

    /// Raises NOSPACE while the disk is full; takes the alarm back when there is room,
    /// if it stood for that and the quota allows, or if the db has become far smaller
    /// than the quota and that was asked for.
    ///
    /// `told` is when it was raised for the disk last.
    fn tell_space(&self, told: &mut Option<Duration>) {
        let shared = &self.shared;
        let now = shared.clock.now();
        let me = shared.identity.member.0;
        let alarms = shared.alarms.load().list(pb::AlarmType::Nospace as i32);
        let alarmed = alarms.iter().any(|alarm| alarm.member_id == me);
        if shared.space.is_full() {
            // Not if it stands already for something else: that is not ours to take back.
            if !alarmed {
                *told = Some(now);
                shared.space.set_raised(true);
                tracing::warn!(
                    path = %shared.options.data_dir.display(),
                    "free-bytes" = shared.space.free(),
                    "the disk is full: raising NOSPACE"
                );
                shared.raise_nospace();
            }
        } else if told.is_some() && alarmed {
            let quota = Quota::from_flag(shared.options.quota_bytes);
            if quota.allows(shared.backend.size(), 0) {
                tracing::info!(
                    "free-bytes" = shared.space.free(),
                    "the disk has room again: disarming NOSPACE"
                );
                shared.propose_nospace(pb::alarm_request::AlarmAction::Deactivate);
            }
        } else if alarmed && self.is_far_below_quota() {
            tracing::info!(
                "current-db-size-bytes" = shared.backend.size(),
                "the db is far below its quota again: disarming NOSPACE"
            );
            shared.propose_nospace(pb::alarm_request::AlarmAction::Deactivate);
        } else if !alarmed && told.is_some_and(|at| now >= at + RAISING) {
            *told = None;
            shared.space.set_raised(false);
        }
    }

    /// Whether the db is as small as `--quota-auto-disarm-percent` says.
    fn is_far_below_quota(&self) -> bool {
        let percent = self.shared.options.quota_auto_disarm_percent;
        let quota = Quota::from_flag(self.shared.options.quota_bytes).limit();
        let size = self.shared.backend.size();
        percent > 0 && quota.is_none_or(|quota| size <= quota / 100 * percent)
    }

    /// In whose name a leader acts while authentication is on (etcd, `WithRoot`).
    fn as_root(&self) -> Option<pb::RequestHeader> {
        let auth = self.shared.auth.load();
        let header = || pb::RequestHeader {
            id: 0,
            username: ROOT.to_owned(),
            auth_revision: auth.revision(),
        };
        auth.is_enabled().then(header)
    }

    fn revoke_expired(&self) {
        let (term, expired) = self.shared.leases.expired(LEASE_REVOKES_PER_TURN);
        let header = self.as_root();
        for id in expired {
            self.shared.stats.leases_expired.inc();
            let request = pb::InternalRaftRequest {
                header: header.clone(),
                lease_revoke: Some(pb::LeaseRevokeRequest { id: id.0 }),
                ..Default::default()
            };
            self.shared.propose_as_leader(term, request);
        }
    }
}

/// Automatic compaction (semantics 5.1).
struct Compactor {
    mode: AutoCompaction,
    /// When the next sample is due.
    due: Option<Duration>,
    /// Revisions, the oldest first.
    samples: VecDeque<i64>,
    last: i64,
}

impl Compactor {
    fn new(mode: AutoCompaction) -> Compactor {
        Compactor { mode, due: None, samples: VecDeque::new(), last: 0 }
    }

    fn turn(&mut self, shared: &Shared) {
        let now = shared.clock.now();
        if self.due.is_some_and(|due| due > now) {
            return;
        }
        let revision = shared.view.load().revision();
        let target = match self.mode {
            AutoCompaction::Periodic(period) => {
                let every = period.min(Duration::from_secs(3600)) / 10;
                self.due = Some(now + every);
                self.sample(revision, period, every)
            }
            AutoCompaction::Revision(keep) => {
                let first = self.due.is_none();
                self.due = Some(now + REVISION_EVERY);
                (!first).then_some(revision - keep)
            }
        };
        let Some(target) = target.filter(|target| *target > self.last && *target > 0) else {
            return;
        };
        self.last = target;
        tracing::info!(revision = target, "starting auto compaction");
        shared.propose_blindly(pb::InternalRaftRequest {
            compaction: Some(pb::CompactionRequest { revision: target, physical: false }),
            ..Default::default()
        });
    }

    /// Takes a sample; answers the oldest once a whole period is covered.
    fn sample(&mut self, revision: i64, period: Duration, every: Duration) -> Option<i64> {
        let keep = (period.as_nanos() / every.as_nanos().max(1)) as usize + 1;
        self.samples.push_back(revision);
        if self.samples.len() < keep {
            return None;
        }
        while self.samples.len() > keep {
            self.samples.pop_front();
        }
        self.samples.front().copied()
    }
}
