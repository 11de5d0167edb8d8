//! Every metric of a real member moves: one table says what each must show after a
//! life with everything in it, and a metric without a row is a failure.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use mainstay_driver::Options;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;

use super::client::{Client, frame, get, next_message, run};
use super::fake::local;
use super::real::{Member, all, put};
use crate::metrics::Feature;
use crate::server::ServerConfig;

/// What a metric must show in the end.
#[derive(Clone, Copy, Debug)]
enum Shows {
    /// Something above zero: a value, or observations.
    Something,
    /// This, which is zero for a reason: where it moves is said beside it.
    Zero,
    /// A number of its own.
    Exactly(f64),
}

use Shows::{Exactly, Something, Zero};

/// Every family of `/metrics`, by name.
const TABLE: &[(&str, Shows)] = &[
    ("etcd_cluster_version", Something),
    ("etcd_debugging_auth_revision", Something),
    ("etcd_debugging_lease_granted_total", Exactly(3.0)),
    ("etcd_debugging_lease_renewed_total", Exactly(1.0)),
    ("etcd_debugging_lease_revoked_total", Exactly(2.0)),
    ("etcd_debugging_lease_ttl_total", Exactly(3.0)),
    ("etcd_debugging_mvcc_compact_revision", Something),
    ("etcd_debugging_mvcc_current_revision", Something),
    ("etcd_debugging_mvcc_db_compaction_keys_total", Something),
    ("etcd_debugging_mvcc_db_compaction_last", Something),
    ("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", Something),
    ("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", Exactly(1.0)),
    ("etcd_debugging_mvcc_events_total", Something),
    ("etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", Exactly(1.0)),
    ("etcd_debugging_mvcc_keys_total", Something),
    // Nobody reads slowly here: watch_thread/tests.rs of the driver.
    ("etcd_debugging_mvcc_pending_events_total", Zero),
    ("etcd_debugging_mvcc_slow_watcher_total", Zero),
    // k0=v0..k9=v9, a txn's t1=v and t2=v, w=v, leased=v.
    ("etcd_debugging_mvcc_total_put_size_in_bytes", Exactly(40.0 + 6.0 + 2.0 + 7.0)),
    ("etcd_debugging_mvcc_watch_stream_total", Exactly(1.0)),
    ("etcd_debugging_mvcc_watcher_total", Exactly(1.0)),
    ("etcd_debugging_server_alarms", Exactly(1.0)),
    ("etcd_debugging_server_lease_expired_total", Exactly(1.0)),
    ("etcd_debugging_server_watch_send_loop_control_stream_duration_seconds", Something),
    ("etcd_debugging_server_watch_send_loop_progress_duration_seconds", Something),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds", Something),
    ("etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds", Something),
    ("etcd_debugging_snap_save_total_duration_seconds", Something),
    ("etcd_disk_backend_commit_duration_seconds", Something),
    ("etcd_disk_backend_defrag_duration_seconds", Exactly(1.0)),
    ("etcd_disk_backend_snapshot_duration_seconds", Exactly(1.0)),
    // The defragmentation is over.
    ("etcd_disk_defrag_inflight", Zero),
    ("etcd_disk_wal_fsync_duration_seconds", Something),
    ("etcd_disk_wal_write_bytes_total", Something),
    ("etcd_disk_wal_write_duration_seconds", Something),
    ("etcd_mvcc_db_open_read_transactions", Something),
    ("etcd_mvcc_db_total_size_in_bytes", Something),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", Something),
    // The client's, and the expired lease's; the revoked one has no key.
    ("etcd_mvcc_delete_total", Exactly(2.0)),
    ("etcd_mvcc_hash_duration_seconds", Exactly(1.0)),
    ("etcd_mvcc_hash_rev_duration_seconds", Exactly(1.0)),
    ("etcd_mvcc_put_total", Exactly(14.0)),
    // The range and the txn's.
    ("etcd_mvcc_range_total", Exactly(2.0)),
    ("etcd_mvcc_txn_total", Exactly(1.0)),
    ("etcd_network_client_grpc_received_bytes_total", Something),
    ("etcd_network_client_grpc_sent_bytes_total", Something),
    // Itself; tests/network.rs has others.
    ("etcd_network_known_peers", Exactly(1.0)),
    ("etcd_network_server_stream_failures_total", Exactly(1.0)),
    ("etcd_server_apply_duration_seconds", Something),
    ("etcd_server_client_requests_total", Something),
    ("etcd_server_feature_enabled", Exactly(1.0)),
    ("etcd_server_go_version", Exactly(1.0)),
    ("etcd_server_has_leader", Exactly(1.0)),
    ("etcd_server_health_failures", Exactly(1.0)),
    ("etcd_server_health_success", Exactly(1.0)),
    ("etcd_server_healthcheck", Something),
    ("etcd_server_healthchecks_total", Something),
    // A lone member has nobody to send to.
    ("etcd_server_heartbeat_send_failures_total", Zero),
    ("etcd_server_id", Exactly(1.0)),
    ("etcd_server_is_leader", Exactly(1.0)),
    // It votes, and has no learners.
    ("etcd_server_is_learner", Zero),
    ("etcd_server_leader_changes_seen_total", Something),
    ("etcd_server_learner_promote_successes", Zero),
    ("etcd_server_proposals_applied_total", Something),
    ("etcd_server_proposals_committed_total", Something),
    // All of them were answered.
    ("etcd_server_proposals_failed_total", Zero),
    ("etcd_server_proposals_pending", Zero),
    ("etcd_server_quota_backend_bytes", Something),
    ("etcd_server_range_duration_seconds", Something),
    // A lone leader asks nobody.
    ("etcd_server_read_indexes_failed_total", Zero),
    ("etcd_server_request_duration_seconds", Something),
    // --warning-apply-duration is 0 here.
    ("etcd_server_slow_apply_total", Something),
    ("etcd_server_slow_read_indexes_total", Zero),
    // Snapshots come from other members' leaders.
    ("etcd_server_snapshot_apply_in_progress_total", Zero),
    ("etcd_snap_db_fsync_duration_seconds", Zero),
    ("etcd_snap_db_save_total_duration_seconds", Zero),
    ("etcd_server_version", Exactly(1.0)),
    ("etcd_snap_fsync_duration_seconds", Something),
    ("grpc_server_handled_total", Something),
    ("grpc_server_handling_seconds", Something),
    ("grpc_server_msg_received_total", Something),
    ("grpc_server_msg_sent_total", Something),
    ("grpc_server_started_total", Something),
    ("os_fd_limit", Something),
    ("os_fd_used", Something),
    ("process_cpu_seconds_total", Something),
    ("process_max_fds", Something),
    ("process_network_receive_bytes_total", Something),
    ("process_network_transmit_bytes_total", Something),
    ("process_open_fds", Something),
    ("process_resident_memory_bytes", Something),
    ("process_start_time_seconds", Something),
    ("process_virtual_memory_bytes", Something),
    ("process_virtual_memory_max_bytes", Something),
    ("promhttp_metric_handler_requests_in_flight", Exactly(1.0)),
    ("promhttp_metric_handler_requests_total", Something),
    // Nothing is damaged here: the driver's and interop's tests of damage and of full disks.
    ("mainstay_databases_refetched_total", Zero),
    ("mainstay_audit_lost_total", Zero),
    ("mainstay_audit_records_total", Zero),
    ("mainstay_db_damaged_pages_total", Zero),
    // Once a day.
    ("mainstay_db_scrub_last_end_seconds", Zero),
    ("mainstay_db_scrubbed_pages_total", Zero),
    ("mainstay_db_scrubs_total", Zero),
    ("mainstay_disk_free_bytes", Something),
    ("mainstay_disk_full", Zero),
    ("mainstay_disk_reserve_bytes", Something),
    ("mainstay_logs_restarted_total", Zero),
];

/// The sum of a family's values, or of its observations.
fn families(text: &str) -> BTreeMap<&str, f64> {
    let mut families = BTreeMap::new();
    let (mut name, mut counted) = ("", String::new());
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (family, kind) = typed.split_once(' ').expect("a name and a type");
            name = family;
            counted = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
            families.insert(name, 0.0);
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            if sample.split('{').next() == Some(&counted) {
                let value: f64 = value.parse().expect("a number");
                *families.get_mut(name).expect("its type came before") += value;
            }
        }
    }
    families
}

#[test]
fn every_metric_shows_what_has_happened() {
    let options = Options {
        // Leases may be as short as a second.
        election_timeout: Duration::from_millis(300),
        snapshot_count: 5,
        warning_apply: Duration::ZERO,
        ..Options::default()
    };
    let feature = Feature { name: "AllAlpha", stage: "ALPHA", on: true };
    let config = ServerConfig { extensive_metrics: true, features: vec![feature], ..local() };
    let member = Member::start_with("real-metrics", options, config);
    let text = run(live(&member.address));
    let found = families(&text);
    let mut wrong = Vec::new();
    for (name, value) in &found {
        match TABLE.iter().find(|row| row.0 == *name).map(|row| row.1) {
            None => wrong.push(format!("{name} has no row: what must it show?")),
            Some(Something) if *value <= 0.0 => wrong.push(format!("{name} has not moved")),
            Some(Zero) if *value != 0.0 => wrong.push(format!("{name} is {value}, not 0")),
            Some(Exactly(wanted)) if *value != wanted => {
                wrong.push(format!("{name} is {value}, not {wanted}"));
            }
            Some(_) => {}
        }
    }
    let missing = TABLE.iter().filter(|row| !found.contains_key(row.0));
    wrong.extend(missing.map(|row| format!("{} is not there", row.0)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Does everything once and returns what `/metrics` says then.
async fn live(address: &str) -> String {
    let client = Client::connect(address).await;
    let _watching = watch(&client).await;
    keys(&client).await;
    leases(&client, address).await;
    maintenance(&client).await;
    unreadable(&client).await;
    assert_eq!(get(address, "/health").await.0, 200);
    get(address, "/readyz").await;
    let alarm = pb::AlarmRequest { action: 1, member_id: 7, alarm: 1 };
    let _: pb::AlarmResponse = client.call("/etcdserverpb.Maintenance/Alarm", &alarm).await.ok();
    assert_eq!(get(address, "/health").await.0, 503);
    // What goes on by itself: snapshots of the log, commits of the backend.
    let due = ["etcd_snap_fsync_duration_seconds", "etcd_disk_backend_commit_duration_seconds"];
    loop {
        let (_, _, text) = get(address, "/metrics").await;
        let shown = families(&text);
        if due.iter().all(|name| shown.get(name).is_some_and(|value| *value > 0.0)) {
            return text;
        }
    }
}

/// A watcher of `w` that has got an event and a progress notification. It stays.
async fn watch(client: &Client) -> (h2::SendStream<bytes::Bytes>, h2::RecvStream) {
    use pb::watch_request::RequestUnion;
    let (response, mut stream) = client.open(client.request("/etcdserverpb.Watch/Watch")).await;
    let mut ask = |union| {
        let request = pb::WatchRequest { request_union: Some(union) };
        stream.send_data(frame(&request.encode_to_vec()), false).expect("sent");
    };
    let create = pb::WatchCreateRequest { key: "w".into(), ..Default::default() };
    ask(RequestUnion::CreateRequest(create));
    let mut body = response.await.expect("a response").into_body();
    let mut held = BytesMut::new();
    let mut next = async || {
        let message = next_message(&mut body, &mut held).await.expect("a message");
        pb::WatchResponse::decode(message).expect("a watch response")
    };
    assert!(next().await.created);
    let _: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &put("w", "v")).await.ok();
    assert_eq!(next().await.events.len(), 1);
    ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    assert!(next().await.events.is_empty());
    (stream, body)
}

async fn keys(client: &Client) {
    for n in 0..10 {
        let put = put(&format!("k{n}"), &format!("v{n}"));
        let _: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &put).await.ok();
    }
    let _: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &all()).await.ok();
    let op = |request| pb::RequestOp { request: Some(request) };
    let txn = pb::TxnRequest {
        success: vec![
            op(pb::request_op::Request::RequestPut(put("t1", "v"))),
            op(pb::request_op::Request::RequestPut(put("t2", "v"))),
            op(pb::request_op::Request::RequestRange(all())),
        ],
        ..Default::default()
    };
    let _: pb::TxnResponse = client.call("/etcdserverpb.KV/Txn", &txn).await.ok();
    let delete = pb::DeleteRangeRequest { key: "k0".into(), ..Default::default() };
    let answer = client.call("/etcdserverpb.KV/DeleteRange", &delete).await;
    let deleted: pb::DeleteRangeResponse = answer.ok();
    let revision = deleted.header.expect("a header").revision;
    let compact = pb::CompactionRequest { revision, physical: true };
    let answer = client.call("/etcdserverpb.KV/Compact", &compact).await;
    let _: pb::CompactionResponse = answer.ok();
}

/// One lease is kept alive, one revoked, and one expires with its key.
async fn leases(client: &Client, address: &str) {
    let grant = async |id, ttl| {
        let grant = pb::LeaseGrantRequest { id, ttl };
        let answer = client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await;
        let _: pb::LeaseGrantResponse = answer.ok();
    };
    grant(1, 600).await;
    grant(2, 600).await;
    grant(3, 1).await;
    let leased = pb::PutRequest { lease: 3, ..put("leased", "v") };
    let _: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &leased).await.ok();
    let request = client.request("/etcdserverpb.Lease/LeaseKeepAlive");
    let alive = pb::LeaseKeepAliveRequest { id: 1 };
    let answer = client.send(request, frame(&alive.encode_to_vec())).await;
    let _: pb::LeaseKeepAliveResponse = answer.ok();
    let revoke = pb::LeaseRevokeRequest { id: 2 };
    let answer = client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await;
    let _: pb::LeaseRevokeResponse = answer.ok();
    while !get(address, "/metrics").await.2.contains("etcd_debugging_lease_revoked_total 2\n") {}
}

async fn maintenance(client: &Client) {
    let path = |name: &str| format!("/etcdserverpb.Maintenance/{name}");
    let hash = pb::HashKvRequest { revision: 0 };
    let _: pb::HashKvResponse = client.call(&path("HashKV"), &hash).await.ok();
    let _: pb::HashResponse = client.call(&path("Hash"), &pb::HashRequest {}).await.ok();
    let defragment = pb::DefragmentRequest {};
    let _: pb::DefragmentResponse = client.call(&path("Defragment"), &defragment).await.ok();
    let answer = client.call(&path("Snapshot"), &pb::SnapshotRequest {}).await;
    assert_eq!((answer.code, answer.text.as_str()), (0, ""));
}

/// A watch stream that says what cannot be read.
async fn unreadable(client: &Client) {
    let request = client.request("/etcdserverpb.Watch/Watch");
    let answer = client.send(request, frame(&[0xff])).await;
    assert_ne!(answer.code, 0);
}
