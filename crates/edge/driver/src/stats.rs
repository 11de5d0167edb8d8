//! What the member's threads count, for `/metrics`.
//!
//! Atomics, but for what is rare: a thread records without a lock and without knowing who reads.
//! Names, labels and the text format belong to the server; each field names the
//! metric that it feeds (reference: etcd's metric names, 3.7.1).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use mainstay_apply::{ApplyError, LeaseChange, Op, Reply};
use mainstay_mvcc::Counts;
use mainstay_types::limits::METRIC_REASONS_MAX;
use parking_lot::Mutex;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of what happens seldom, by a text.
#[derive(Debug, Default)]
pub struct Reasons(Mutex<BTreeMap<String, u64>>);

impl Reasons {
    /// Adds one. Past [`METRIC_REASONS_MAX`] texts it is counted under `other`.
    pub fn inc(&self, reason: &str) {
        let mut counts = self.0.lock();
        let known = counts.contains_key(reason) || counts.len() < METRIC_REASONS_MAX;
        let reason = if known { reason } else { "other" };
        *counts.entry(reason.to_owned()).or_default() += 1;
    }

    /// What there is so far.
    pub fn get(&self) -> Vec<(String, u64)> {
        self.0.lock().iter().map(|(reason, count)| (reason.clone(), *count)).collect()
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A Prometheus histogram: counts per bucket, and the sum of all values.
///
/// Bounds are inclusive upper bounds that grow by a constant factor, as etcd's
/// are: `start * factor^i`.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, growing; values past the last land in one more bucket.
    bounds: Vec<f64>,
    /// Not cumulative; the reader adds up.
    counts: Vec<AtomicU64>,
    /// The bits of an f64.
    sum: AtomicU64,
}

impl Histogram {
    /// `count` buckets, the first at `start`, each `factor` times the one before.
    pub fn exponential(start: f64, factor: f64, count: usize) -> Histogram {
        let mut bounds = Vec::with_capacity(count);
        let mut bound = start;
        for _ in 0..count {
            bounds.push(bound);
            bound *= factor;
        }
        Histogram::with_bounds(bounds)
    }

    /// Buckets with these inclusive upper bounds, which must grow.
    pub fn with_bounds(bounds: Vec<f64>) -> Histogram {
        assert!(bounds.is_sorted(), "bucket bounds grow");
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    /// Records a duration, in seconds.
    pub fn observe(&self, elapsed: Duration) {
        self.observe_value(elapsed.as_secs_f64());
    }

    /// Records a value in the histogram's own unit.
    pub fn observe_value(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure always gives a value, so this cannot fail.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// The bucket bounds.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// Counts per bucket, not cumulative; one more than there are bounds.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// The sum of all values.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

/// Duration of applying one kind of request.
#[derive(Debug)]
pub struct ApplyStats {
    /// Those that succeeded (a compacted revision counts as success, as in etcd).
    pub success: Histogram,
    /// Those that failed.
    pub failure: Histogram,
}

/// Everything the member's threads record.
#[derive(Debug)]
pub struct Stats {
    /// `etcd_disk_wal_fsync_duration_seconds`.
    pub wal_fsync: Histogram,
    /// `etcd_disk_wal_write_duration_seconds`.
    pub wal_write: Histogram,
    /// `etcd_disk_wal_write_bytes_total` (a gauge despite its name).
    pub wal_write_bytes: Gauge,
    /// `etcd_disk_backend_commit_duration_seconds`.
    pub backend_commit: Histogram,
    /// `etcd_disk_backend_defrag_duration_seconds`.
    pub backend_defrag: Histogram,
    /// `etcd_disk_backend_snapshot_duration_seconds`.
    pub backend_snapshot: Histogram,
    /// `etcd_disk_defrag_inflight`.
    pub defrag_inflight: Gauge,
    /// `etcd_snap_fsync_duration_seconds`.
    pub snap_fsync: Histogram,
    /// `etcd_debugging_snap_save_total_duration_seconds`.
    pub snap_save: Histogram,
    /// `etcd_snap_db_save_total_duration_seconds`: a leader's db received and stored.
    pub snap_db_save: Histogram,
    /// `etcd_snap_db_fsync_duration_seconds`.
    pub snap_db_fsync: Histogram,
    /// `etcd_server_snapshot_apply_in_progress_total`.
    pub snapshots_applying: Gauge,
    /// `etcd_server_learner_promote_successes`.
    pub learners_promoted: Counter,
    /// `etcd_server_learner_promote_failures`, by why.
    pub learners_not_promoted: Reasons,
    /// `etcd_server_apply_duration_seconds`, by the number of the [`Op`].
    pub apply: [ApplyStats; Op::ALL.len()],
    /// `etcd_server_slow_apply_total`.
    pub slow_apply: Counter,
    /// `etcd_server_slow_read_indexes_total`.
    pub slow_read_indexes: Counter,
    /// `etcd_server_read_indexes_failed_total`.
    pub read_indexes_failed: Counter,
    /// `etcd_server_heartbeat_send_failures_total`.
    pub heartbeat_failures: Counter,
    /// `mainstay_db_damaged_pages_total`: pages of the db that were found to be damaged, each once.
    pub damaged_pages: Counter,
    /// `mainstay_db_scrubbed_pages_total`: pages that were looked at without being asked for.
    pub scrubbed_pages: Counter,
    /// `mainstay_db_scrubs_total`: passes over all of them.
    pub scrub_passes: Counter,
    /// `mainstay_db_scrub_last_end_seconds`: when the last one ended, since 1970; 0 before.
    pub scrub_ended: Gauge,
    /// `mainstay_databases_refetched_total`: dbs that starts have fetched from other members.
    pub mended_dbs: Counter,
    /// `mainstay_logs_restarted_total`: damaged logs that starts have begun anew.
    pub mended_logs: Counter,
    /// `etcd_mvcc_put_total`: keys put, those of transactions included.
    pub puts: Counter,
    /// `etcd_mvcc_delete_total`: keys deleted, those of transactions included.
    pub deletes: Counter,
    /// `etcd_mvcc_txn_total`: transactions with more than one operation.
    pub txns: Counter,
    /// `etcd_mvcc_range_total`: range reads.
    pub ranges: Counter,
    /// `etcd_mvcc_hash_duration_seconds`.
    pub hash: Histogram,
    /// `etcd_mvcc_hash_rev_duration_seconds`.
    pub hash_rev: Histogram,
    /// `etcd_debugging_mvcc_events_total`: events sent to watchers.
    pub events: Counter,
    /// `etcd_debugging_mvcc_watch_stream_total`.
    pub watch_streams: Gauge,
    /// `etcd_debugging_mvcc_watcher_total`.
    pub watchers: Gauge,
    /// `etcd_debugging_mvcc_slow_watcher_total`: watchers that read history.
    pub slow_watchers: Gauge,
    /// `etcd_debugging_mvcc_pending_events_total`.
    pub pending_events: Gauge,
    /// `etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds`; this and the
    /// next three are recorded by the server.
    pub watch_send: Histogram,
    /// `etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds`.
    pub watch_send_per_event: Histogram,
    /// `etcd_debugging_server_watch_send_loop_control_stream_duration_seconds`.
    pub watch_send_control: Histogram,
    /// `etcd_debugging_server_watch_send_loop_progress_duration_seconds`.
    pub watch_send_progress: Histogram,
    /// `etcd_debugging_mvcc_total_put_size_in_bytes`.
    pub put_bytes: Gauge,
    /// `etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds`.
    pub compaction_pause_ms: Histogram,
    /// `etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds`.
    pub index_compaction_pause_ms: Histogram,
    /// `etcd_debugging_mvcc_db_compaction_total_duration_milliseconds`.
    pub compaction_total_ms: Histogram,
    /// `etcd_debugging_mvcc_db_compaction_last`: unix seconds.
    pub compaction_last: Gauge,
    /// `etcd_debugging_mvcc_db_compaction_keys_total`.
    pub compaction_keys: Counter,
    /// `etcd_debugging_lease_granted_total`.
    pub leases_granted: Counter,
    /// `etcd_debugging_lease_revoked_total`.
    pub leases_revoked: Counter,
    /// `etcd_debugging_lease_renewed_total`.
    pub leases_renewed: Counter,
    /// `etcd_debugging_server_lease_expired_total`.
    pub leases_expired: Counter,
    /// `etcd_debugging_lease_ttl_total`: granted TTLs in seconds.
    pub lease_ttl: Histogram,
}

impl Stats {
    /// Records an entry that was applied within `took`.
    pub(crate) fn applied(
        &self,
        op: Option<Op>,
        outcome: &Result<Reply, ApplyError>,
        counts: Counts,
        leases: &[LeaseChange],
        took: Duration,
    ) {
        let Some(op) = op else { return };
        let outcomes = &self.apply[op as usize];
        // That a revision is compacted is an answer, not a failure (etcd, `dispatch`).
        let success = matches!(outcome, Ok(_) | Err(ApplyError::Compacted));
        let histogram = if success { &outcomes.success } else { &outcomes.failure };
        histogram.observe(took);
        self.counted(counts);
        for change in leases {
            match change {
                LeaseChange::Granted(lease) => {
                    self.leases_granted.inc();
                    self.lease_ttl.observe_value(lease.ttl as f64);
                }
                LeaseChange::Revoked(_) => self.leases_revoked.inc(),
                LeaseChange::Checkpointed(..) => {}
            }
        }
    }

    /// Records what a transaction did to the keys.
    fn counted(&self, counts: Counts) {
        let Counts { ranges, puts, deletes, put_bytes, txns } = counts;
        for (counter, n) in [
            (&self.ranges, ranges),
            (&self.puts, puts),
            (&self.deletes, deletes),
            (&self.txns, txns),
        ] {
            if n > 0 {
                counter.add(n);
            }
        }
        if put_bytes > 0 {
            self.put_bytes.add(i64::try_from(put_bytes).unwrap_or(i64::MAX));
        }
    }
}

impl Default for Stats {
    fn default() -> Stats {
        let exp = Histogram::exponential;
        let apply = || ApplyStats { success: exp(1e-4, 2.0, 20), failure: exp(1e-4, 2.0, 20) };
        Stats {
            wal_fsync: exp(0.001, 2.0, 14),
            wal_write: exp(0.001, 2.0, 14),
            wal_write_bytes: Gauge::default(),
            backend_commit: exp(0.001, 2.0, 14),
            backend_defrag: exp(0.1, 2.0, 13),
            backend_snapshot: exp(0.01, 2.0, 17),
            defrag_inflight: Gauge::default(),
            snap_fsync: exp(0.001, 2.0, 14),
            snap_save: exp(0.001, 2.0, 14),
            snap_db_save: exp(0.1, 2.0, 10),
            snap_db_fsync: exp(0.001, 2.0, 14),
            snapshots_applying: Gauge::default(),
            learners_promoted: Counter::default(),
            learners_not_promoted: Reasons::default(),
            apply: std::array::from_fn(|_| apply()),
            slow_apply: Counter::default(),
            slow_read_indexes: Counter::default(),
            read_indexes_failed: Counter::default(),
            heartbeat_failures: Counter::default(),
            damaged_pages: Counter::default(),
            scrubbed_pages: Counter::default(),
            scrub_passes: Counter::default(),
            scrub_ended: Gauge::default(),
            mended_dbs: Counter::default(),
            mended_logs: Counter::default(),
            puts: Counter::default(),
            deletes: Counter::default(),
            txns: Counter::default(),
            ranges: Counter::default(),
            hash: exp(0.01, 2.0, 15),
            hash_rev: exp(0.01, 2.0, 15),
            events: Counter::default(),
            watch_streams: Gauge::default(),
            watchers: Gauge::default(),
            slow_watchers: Gauge::default(),
            pending_events: Gauge::default(),
            watch_send: exp(0.001, 2.0, 14),
            watch_send_per_event: exp(0.001, 2.0, 14),
            watch_send_control: exp(0.001, 2.0, 14),
            watch_send_progress: exp(0.001, 2.0, 14),
            put_bytes: Gauge::default(),
            compaction_pause_ms: exp(1.0, 2.0, 13),
            index_compaction_pause_ms: exp(0.5, 2.0, 14),
            compaction_total_ms: exp(100.0, 2.0, 14),
            compaction_last: Gauge::default(),
            compaction_keys: Counter::default(),
            leases_granted: Counter::default(),
            leases_revoked: Counter::default(),
            leases_renewed: Counter::default(),
            leases_expired: Counter::default(),
            lease_ttl: exp(1.0, 2.0, 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_lies_in_its_bucket() {
        let histogram = Histogram::exponential(1.0, 2.0, 3);
        for value in [0.5, 1.0, 1.5, 4.0, 4.1] {
            histogram.observe_value(value);
        }
        assert_eq!(histogram.counts(), [2, 1, 1, 1]);
        assert!((histogram.sum() - 11.1).abs() < 1e-9);
    }
}
