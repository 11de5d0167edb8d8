//! What `/metrics` shows about other members.

use std::sync::Arc;
use std::time::Duration;

use mainstay_types::MemberId;

use super::client::{get, run};
use super::fake::{Fake, host, local};
use crate::network::NetworkStats;
use crate::server::Server;

#[test]
fn what_was_counted_is_shown_and_the_rest_is_not() {
    let network = Arc::new(NetworkStats::default());
    let peer = network.of(MemberId(0xb));
    peer.active.set(1);
    peer.sent_bytes.add(100);
    peer.round_trip.observe(Duration::from_micros(150));
    drop(peer.snapshots_sent.begin());
    network.of(MemberId::NONE).snapshots_received.failed.inc();
    let server = Server::bind(local(), Fake::default()).expect("bound").with_network(network);
    let address = host(&server.client_urls()[0]);
    let serving = server.serve().expect("it serves");
    let (status, _, text) = run(get(&address, "/metrics"));
    serving.shutdown(Duration::from_secs(1));
    assert_eq!(status, 200);
    for line in [
        "etcd_network_active_peers{Local=\"a\",Remote=\"b\"} 1\n",
        "etcd_network_peer_sent_bytes_total{To=\"b\"} 100\n",
        "etcd_network_peer_round_trip_time_seconds_count{To=\"b\"} 1\n",
        "etcd_network_snapshot_send_failures{To=\"b\"} 1\n",
        "etcd_network_snapshot_send_inflights_total{To=\"b\"} 0\n",
        "etcd_network_snapshot_receive_failures{From=\"UNKNOWN_SNAPSHOT_SENDER\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    for name in ["peer_received_bytes", "disconnected_peers", "snapshot_send_success"] {
        assert!(!text.contains(name), "{name} in\n{text}");
    }
}
