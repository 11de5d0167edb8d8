//! What is counted about other members, for `/metrics` (`etcd_network_*`).
//!
//! Counted by the `peer` crate, shown by `metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_driver::stats::{Counter, Gauge, Histogram};
use mainstay_types::MemberId;
use parking_lot::Mutex;

/// What is counted about one other member.
#[derive(Debug)]
pub struct PeerStats {
    /// `etcd_network_active_peers`: 1 while the last that was tried with it worked.
    pub active: Gauge,
    /// `etcd_network_disconnected_peers_total`.
    pub disconnected: Counter,
    /// `etcd_network_peer_sent_bytes_total`.
    pub sent_bytes: Counter,
    /// `etcd_network_peer_received_bytes_total`.
    pub received_bytes: Counter,
    /// `etcd_network_peer_sent_failures_total`.
    pub sent_failures: Counter,
    /// `etcd_network_peer_received_failures_total`.
    pub received_failures: Counter,
    /// `etcd_network_peer_round_trip_time_seconds`.
    pub round_trip: Histogram,
    /// `etcd_network_snapshot_send_success`, and so on.
    pub snapshots_sent: SnapshotStats,
    /// `etcd_network_snapshot_receive_success`, and so on.
    pub snapshots_received: SnapshotStats,
}

/// Snapshots in one direction.
#[derive(Debug)]
pub struct SnapshotStats {
    /// `*_success`.
    pub done: Counter,
    /// `*_failures`.
    pub failed: Counter,
    /// `*_inflights_total` (a gauge despite its name).
    pub under_way: Gauge,
    /// `*_total_duration_seconds`.
    pub duration: Histogram,
}

impl SnapshotStats {
    /// Counts one as under way, until what this returns is dropped: as failed, unless
    /// it was told that it is done.
    pub fn begin(&self) -> UnderWay<'_> {
        self.under_way.add(1);
        UnderWay { stats: self, done: false }
    }
}

/// A snapshot under way. Whoever carries it may be dropped at any point.
#[derive(Debug)]
pub struct UnderWay<'a> {
    stats: &'a SnapshotStats,
    done: bool,
}

impl UnderWay<'_> {
    /// It arrived, `elapsed` after it began.
    pub fn done(mut self, elapsed: Duration) {
        self.done = true;
        self.stats.done.inc();
        self.stats.duration.observe(elapsed);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.stats.under_way.add(-1);
        if !self.done {
            self.stats.failed.inc();
        }
    }
}

impl Default for SnapshotStats {
    fn default() -> SnapshotStats {
        SnapshotStats {
            done: Counter::default(),
            failed: Counter::default(),
            under_way: Gauge::default(),
            duration: Histogram::exponential(0.1, 2.0, 10),
        }
    }
}

impl Default for PeerStats {
    fn default() -> PeerStats {
        PeerStats {
            active: Gauge::default(),
            disconnected: Counter::default(),
            sent_bytes: Counter::default(),
            received_bytes: Counter::default(),
            sent_failures: Counter::default(),
            received_failures: Counter::default(),
            round_trip: Histogram::exponential(0.0001, 2.0, 16),
            snapshots_sent: SnapshotStats::default(),
            snapshots_received: SnapshotStats::default(),
        }
    }
}

/// What is counted about all of them. Numbers of a member that left stay.
#[derive(Debug, Default)]
pub struct NetworkStats {
    peers: Mutex<BTreeMap<MemberId, Arc<PeerStats>>>,
}

impl NetworkStats {
    /// The numbers about `member`, which begin at zero.
    pub fn of(&self, member: MemberId) -> Arc<PeerStats> {
        Arc::clone(self.peers.lock().entry(member).or_default())
    }

    /// Everyone there are numbers about, by identity.
    pub fn all(&self) -> Vec<(MemberId, Arc<PeerStats>)> {
        let peers = self.peers.lock();
        peers.iter().map(|(member, stats)| (*member, Arc::clone(stats))).collect()
    }
}
