//! Settings, and when to take snapshots and forget entries.

use std::collections::BTreeMap;

use mainstay_raft::Config;
use mainstay_types::{Index, MemberId, limits};

/// Applied entries between two compactions of the log in memory (etcd 3.7).
const COMPACTION_STEP: u64 = 100;

/// The settings of a member. Ticks are heartbeat intervals.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Raft's own.
    pub raft: Config,
    /// The index of the newest snapshot on disk.
    pub last_snapshot: Index,
    /// Applied entries between snapshots.
    pub snapshot_count: u64,
    /// Entries kept in memory behind what is applied, for slow followers.
    pub catchup_entries: u64,
    /// Committed entries that may wait for apply before proposals are refused.
    pub apply_backlog_max: u64,
    /// Proposals that may wait for a leader.
    pub proposals_waiting_max: usize,
    /// How long a proposal waits for a leader.
    pub proposal_patience_ticks: u64,
    /// How long a read round may take before it is asked for again (etcd: 500 ms).
    pub read_retry_ticks: u64,
    /// How long after a snapshot arrived its receiver may take to need the entries
    /// behind it (etcd: 30 s).
    pub compaction_hold_ticks: u64,
    /// Added to read contexts on the wire. Should differ from start to start, so that
    /// an answer to a former life of this member confirms nothing.
    pub read_epoch: u64,
}

impl MemberConfig {
    /// etcd's defaults, for ticks of 100 ms.
    pub fn new(id: MemberId) -> MemberConfig {
        MemberConfig {
            raft: Config { holds_echoes: true, asks_again: true, ..Config::new(id) },
            last_snapshot: Index(0),
            snapshot_count: limits::SNAPSHOT_COUNT_DEFAULT,
            catchup_entries: limits::SNAPSHOT_CATCHUP_ENTRIES_DEFAULT,
            apply_backlog_max: limits::APPLY_BACKLOG_ENTRIES_MAX,
            proposals_waiting_max: limits::PROPOSALS_WAITING_MAX,
            proposal_patience_ticks: 70,
            read_retry_ticks: 5,
            compaction_hold_ticks: 300,
            read_epoch: 0,
        }
    }
}

/// Decides about snapshots and compaction.
#[derive(Debug)]
pub(crate) struct SnapshotPolicy {
    snapshot_count: u64,
    catchup_entries: u64,
    hold_ticks: u64,
    last_snapshot: Index,
    /// A snapshot was asked for and not reported.
    taking: bool,
    last_compaction: Index,
    /// Snapshots on their way: nothing behind them is forgotten until their receivers
    /// had time to ask for it. The tick at which the hold ends, once delivered.
    sending: BTreeMap<MemberId, Option<u64>>,
}

impl SnapshotPolicy {
    pub(crate) fn new(config: &MemberConfig, applied: Index) -> SnapshotPolicy {
        SnapshotPolicy {
            snapshot_count: config.snapshot_count,
            catchup_entries: config.catchup_entries,
            hold_ticks: config.compaction_hold_ticks,
            last_snapshot: config.last_snapshot,
            taking: false,
            last_compaction: applied,
            sending: BTreeMap::new(),
        }
    }

    /// Whether a snapshot is to be taken now.
    pub(crate) fn wants_snapshot(&mut self, applied: Index) -> bool {
        let due = applied.0.saturating_sub(self.last_snapshot.0) > self.snapshot_count;
        let wants = due && !self.taking;
        self.taking |= wants;
        wants
    }

    pub(crate) fn snapshot_taken(&mut self, index: Index) {
        self.taking = false;
        self.last_snapshot = self.last_snapshot.max(index);
    }

    /// A leader's snapshot replaced everything.
    pub(crate) fn snapshot_installed(&mut self, index: Index) {
        self.last_snapshot = self.last_snapshot.max(index);
        self.last_compaction = self.last_compaction.max(index);
    }

    /// Up to where the log in memory is to be forgotten now.
    pub(crate) fn wants_compaction(&mut self, applied: Index) -> Option<Index> {
        if applied.0 < self.last_compaction.0 + COMPACTION_STEP || !self.sending.is_empty() {
            return None;
        }
        self.last_compaction = applied;
        applied.0.checked_sub(self.catchup_entries).map(Index)
    }

    pub(crate) fn sending(&mut self, to: MemberId) {
        self.sending.insert(to, None);
    }

    pub(crate) fn sent(&mut self, to: MemberId, ok: bool, now: u64) {
        if ok {
            self.sending.insert(to, Some(now + self.hold_ticks));
        } else {
            self.sending.remove(&to);
        }
    }

    pub(crate) fn tick(&mut self, now: u64) {
        self.sending.retain(|_, until| until.is_none_or(|until| until > now));
    }
}
