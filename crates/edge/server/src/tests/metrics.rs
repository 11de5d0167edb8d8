//! `/metrics` after some calls.

use mainstay_proto::etcdserverpb as pb;

use super::client::{Client, eventually, frame, get, run};
use super::fake::Running;
use crate::method::METHODS;
use crate::status::Code;

#[test]
fn calls_are_counted_by_method_and_code() {
    let server = Running::plain();
    let text = run(async {
        let client = Client::connect(&server.address()).await;
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        for _ in 0..3 {
            let _: pb::PutResponse = client.call("/etcdserverpb.KV/Put", &put).await.ok();
        }
        client.call("/etcdserverpb.KV/Range", &pb::RangeRequest::default()).await;
        let (_response, mut stream) =
            client.open(client.request("/etcdserverpb.Watch/Watch")).await;
        stream.send_data(frame(b"hang"), false).expect("sent");
        eventually(|| server.member.hung() == 1).await;
        stream.send_reset(h2::Reason::CANCEL);
        eventually(|| server.member.hung() == 0).await;
        get(&server.address(), "/health").await;
        get(&server.address(), "/readyz").await;
        let (status, head, body) = get(&server.address(), "/metrics").await;
        assert_eq!(status, 200);
        assert!(head.contains("text/plain; version=0.0.4; charset=utf-8"));
        body
    });
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
    let kv = r#"grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    has(&format!(r#"grpc_server_started_total{{grpc_method="Put",{kv}}} 3"#));
    has(&format!(r#"grpc_server_handled_total{{grpc_code="OK",grpc_method="Put",{kv}}} 3"#));
    let refused = r#"grpc_code="InvalidArgument",grpc_method="Range""#;
    has(&format!("grpc_server_handled_total{{{refused},{kv}}} 1"));
    let watch = r#"grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream""#;
    has(&format!("grpc_server_started_total{{{watch}}} 1"));
    has(&format!(r#"grpc_server_handled_total{{grpc_code="Canceled",{watch}}} 1"#));
    has(r#"etcd_server_client_requests_total{client_api_version="unknown",type="unary"} 4"#);
    has(r#"etcd_server_request_duration_seconds_count{success="true",type="Put"} 3"#);
    has("etcd_network_client_grpc_received_bytes_total 22");
    has("etcd_server_has_leader 1");
    has("etcd_server_is_leader 1");
    has(r#"etcd_server_version{server_version="3.7.1"} 1"#);
    has(r#"etcd_server_id{server_id="a"} 1"#);
    has(r#"etcd_cluster_version{cluster_version="3.7"} 1"#);
    has("etcd_server_health_success 1");
    has(r#"etcd_server_healthcheck{name="linearizable_read",type="readyz"} 1"#);
    has("etcd_mvcc_db_total_size_in_bytes 20480");
    has("etcd_server_quota_backend_bytes 2.147483648e+09");
    has("# TYPE etcd_disk_wal_write_bytes_total gauge");
    has(r#"etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 0"#);
    has(r#"etcd_disk_wal_fsync_duration_seconds_bucket{le="8.192"} 0"#);
    let handled = text.lines().filter(|l| l.starts_with("grpc_server_handled_total{")).count();
    assert_eq!(handled, METHODS.len() * Code::ALL.len(), "every method and code from the start");
}

#[test]
fn families_are_sorted_and_typed_once() {
    let server = Running::plain();
    let (_, _, text) = run(get(&server.address(), "/metrics"));
    let names: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("# TYPE "))
        .map(|l| l.split(' ').next().unwrap_or(""))
        .collect();
    assert!(names.is_sorted());
    let mut unique = names.clone();
    unique.dedup();
    assert_eq!(unique, names);
    // What alerts and dashboards name must be there before it happens.
    for name in [
        "etcd_server_has_leader",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_failed_total",
        "etcd_server_proposals_pending",
        "etcd_disk_wal_fsync_duration_seconds",
        "etcd_disk_backend_commit_duration_seconds",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_network_client_grpc_sent_bytes_total",
        "grpc_server_started_total",
        "grpc_server_handled_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "os_fd_limit",
    ] {
        assert!(names.contains(&name), "{name}");
    }
}
