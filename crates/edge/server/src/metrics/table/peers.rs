//! `etcd_network_*` about other members.

use std::sync::Arc;

use mainstay_driver::stats::Histogram;
use mainstay_types::MemberId;

use super::Table;
use crate::member::Member;
use crate::metrics::encode::{Labels, Sample, Type};
use crate::network::{NetworkStats, PeerStats, SnapshotStats};

type Peers = [(MemberId, Arc<PeerStats>)];

/// Adds the families about other members; those without a peer stay empty.
pub(super) fn show<M: Member>(t: &mut Table, member: &M, network: &NetworkStats) {
    let (me, peers) = (member.identity().member, network.all());
    let both = |remote: MemberId| vec![("Local", me.to_string()), ("Remote", remote.to_string())];
    let membership = member.membership();
    let known = membership.members().map(|member| Sample::Value(both(member.id), 1.0));
    let help = "Members that are known, this one among them.";
    t.add(Type::Gauge, "etcd_network_known_peers", help, known.collect());
    // Whoever was never connected has no connection to count.
    let met = |(_, stats): &&(MemberId, Arc<PeerStats>)| {
        stats.active.get() > 0 || stats.disconnected.get() > 0
    };
    let active = peers.iter().filter(met);
    let active = active.map(|(id, stats)| Sample::Value(both(*id), stats.active.get() as f64));
    let help = "Peers with which the last that was tried worked.";
    t.add(Type::Gauge, "etcd_network_active_peers", help, active.collect());
    let lost = peers.iter().filter(|(_, stats)| stats.disconnected.get() > 0);
    let lost = lost.map(|(id, stats)| Sample::Value(both(*id), stats.disconnected.get() as f64));
    let help = "Peers that became inactive.";
    t.add(Type::Counter, "etcd_network_disconnected_peers_total", help, lost.collect());
    traffic(t, &peers);
    snapshots(
        t,
        &peers,
        "To",
        |stats| &stats.snapshots_sent,
        [
            "etcd_network_snapshot_send_success",
            "etcd_network_snapshot_send_failures",
            "etcd_network_snapshot_send_inflights_total",
            "etcd_network_snapshot_send_total_duration_seconds",
        ],
    );
    snapshots(
        t,
        &peers,
        "From",
        |stats| &stats.snapshots_received,
        [
            "etcd_network_snapshot_receive_success",
            "etcd_network_snapshot_receive_failures",
            "etcd_network_snapshot_receive_inflights_total",
            "etcd_network_snapshot_receive_total_duration_seconds",
        ],
    );
}

fn traffic(t: &mut Table, peers: &Peers) {
    let sent = |pick| counts(peers, "To", pick);
    let received = |pick| counts(peers, "From", pick);
    t.add(
        Type::Counter,
        "etcd_network_peer_sent_bytes_total",
        "Bytes sent to peers.",
        sent(|stats| stats.sent_bytes.get()),
    );
    t.add(
        Type::Counter,
        "etcd_network_peer_received_bytes_total",
        "Bytes received from peers.",
        received(|stats| stats.received_bytes.get()),
    );
    t.add(
        Type::Counter,
        "etcd_network_peer_sent_failures_total",
        "Messages that could not be sent to peers.",
        sent(|stats| stats.sent_failures.get()),
    );
    t.add(
        Type::Counter,
        "etcd_network_peer_received_failures_total",
        "Messages from peers that could not be taken.",
        received(|stats| stats.received_failures.get()),
    );
    t.add(
        Type::Histogram,
        "etcd_network_peer_round_trip_time_seconds",
        "How long peers take to answer a probe.",
        histograms(peers, "To", |stats| &stats.round_trip),
    );
}

/// The four families of one direction: done, failed, under way, how long.
fn snapshots(
    t: &mut Table,
    peers: &Peers,
    label: &'static str,
    pick: fn(&PeerStats) -> &SnapshotStats,
    names: [&'static str; 4],
) {
    let [done, failed, under_way, duration] = names;
    let values = |pick_one: fn(&SnapshotStats) -> u64| {
        let of = peers.iter().map(|(id, stats)| (*id, pick_one(pick(stats))));
        samples(label, of.filter(|(_, count)| *count > 0))
    };
    t.add(Type::Counter, done, "Snapshots that arrived whole.", values(|s| s.done.get()));
    t.add(Type::Counter, failed, "Snapshots that did not.", values(|s| s.failed.get()));
    let open = peers.iter().filter(|(_, stats)| {
        let stats = pick(stats);
        stats.under_way.get() + (stats.done.get() + stats.failed.get()) as i64 > 0
    });
    let open = open.map(|(id, stats)| {
        let value = pick(stats).under_way.get() as f64;
        Sample::Value(vec![(label, name(*id))], value)
    });
    t.add(Type::Gauge, under_way, "Snapshots under way.", open.collect());
    let long = peers.iter().filter(|(_, stats)| is_used(&pick(stats).duration));
    let long = long.map(|(id, s)| Sample::of(vec![(label, name(*id))], &pick(s).duration));
    t.add(Type::Histogram, duration, "How long whole snapshots took.", long.collect());
}

fn counts(peers: &Peers, label: &'static str, pick: fn(&PeerStats) -> u64) -> Vec<Sample> {
    let of = peers.iter().map(|(id, stats)| (*id, pick(stats)));
    samples(label, of.filter(|(_, count)| *count > 0))
}

fn samples(label: &'static str, of: impl Iterator<Item = (MemberId, u64)>) -> Vec<Sample> {
    of.map(|(id, count)| Sample::Value(vec![(label, name(id))], count as f64)).collect()
}

fn histograms(
    peers: &Peers,
    label: &'static str,
    pick: fn(&PeerStats) -> &Histogram,
) -> Vec<Sample> {
    let used = peers.iter().filter(|(_, stats)| is_used(pick(stats)));
    let labels = |id: MemberId| -> Labels { vec![(label, name(id))] };
    used.map(|(id, stats)| Sample::of(labels(*id), pick(stats))).collect()
}

/// Go's vectors have a child once something was counted.
fn is_used(histogram: &Histogram) -> bool {
    histogram.counts().iter().any(|count| *count > 0)
}

/// How etcd names a sender that it could not make out.
fn name(peer: MemberId) -> String {
    if peer == MemberId::NONE { "UNKNOWN_SNAPSHOT_SENDER".to_owned() } else { peer.to_string() }
}
