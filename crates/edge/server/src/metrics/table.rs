//! The one table of metrics: names, kinds and where each value comes from.
//!
//! Names and labels are etcd 3.7.1's, which alerts and dashboards rely on; several
//! gauges of its end in `_total`.

mod peers;

use std::sync::atomic::{AtomicU64, Ordering};

use mainstay_apply::Op;
use mainstay_audit::Trail;
use mainstay_driver::stats::{Histogram, Stats};
use mainstay_proto::etcdserverpb::AlarmMember;
use mainstay_types::{MemberId, SPOKEN_VERSION};

use super::Registry;
use super::encode::{Family, Labels, Sample, Type};
use super::grpc::MethodCells;
use super::process;
use crate::member::Member;
use crate::method::{METHODS, Method};
use crate::status::Code;
use crate::tls::{Ends, Expiry};

/// The table as it is filled.
#[derive(Default)]
struct Table(Vec<Family>);

impl Table {
    fn add(&mut self, kind: Type, name: &'static str, help: &'static str, samples: Vec<Sample>) {
        self.0.push(Family { name, help, kind, samples });
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        let sample = Sample::Value(Vec::new(), value as f64);
        self.add(Type::Counter, name, help, vec![sample]);
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        let sample = Sample::Value(Vec::new(), value);
        self.add(Type::Gauge, name, help, vec![sample]);
    }

    fn histogram(&mut self, name: &'static str, help: &'static str, histogram: &Histogram) {
        let sample = Sample::of(Vec::new(), histogram);
        self.add(Type::Histogram, name, help, vec![sample]);
    }

    /// A gauge that says by a label what holds, and is always 1.
    fn fact(&mut self, name: &'static str, help: &'static str, label: &'static str, is: String) {
        let sample = Sample::Value(vec![(label, is)], 1.0);
        self.add(Type::Gauge, name, help, vec![sample]);
    }
}

/// Everything there is to show.
pub(super) fn families<M: Member>(
    registry: &Registry,
    member: &M,
    alarms: &[AlarmMember],
) -> Vec<Family> {
    let mut table = Table::default();
    server(&mut table, member);
    features(&mut table, registry);
    requests(&mut table, registry);
    audit(&mut table, registry);
    applied(&mut table, member.stats());
    disk(&mut table, member.stats());
    mvcc(&mut table, member);
    debugging(&mut table, member.stats());
    alarmed(&mut table, alarms);
    health(&mut table, registry);
    grpc(&mut table, registry);
    network(&mut table, registry);
    peers::show(&mut table, member, &registry.network);
    certificates(&mut table, &registry.expiry);
    operating_system(&mut table);
    table.0
}

fn server<M: Member>(t: &mut Table, member: &M) {
    let (standing, sizes, stats) = (member.standing(), member.sizes(), member.stats());
    let identity = member.identity();
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    t.gauge(
        "etcd_server_has_leader",
        "Whether this member knows a leader.",
        flag(standing.leader != MemberId::NONE),
    );
    t.gauge(
        "etcd_server_is_leader",
        "Whether this member leads.",
        flag(standing.leader == identity.member),
    );
    t.gauge("etcd_server_is_learner", "Whether this member is a learner.", flag(standing.learner));
    t.counter(
        "etcd_server_leader_changes_seen_total",
        "Leaders gained after another or none.",
        sizes.leader_changes,
    );
    t.counter(
        "etcd_server_heartbeat_send_failures_total",
        "Heartbeats that a leader sent late.",
        stats.heartbeat_failures.get(),
    );
    t.counter(
        "etcd_server_learner_promote_successes",
        "Learners promoted while this member led.",
        stats.learners_promoted.get(),
    );
    let failures = stats.learners_not_promoted.get();
    let by_reason = |(reason, count)| Sample::Value(vec![("Reason", reason)], count as f64);
    t.add(
        Type::Counter,
        "etcd_server_learner_promote_failures",
        "Learners that were not promoted while this member led.",
        failures.into_iter().map(by_reason).collect(),
    );
    t.gauge(
        "etcd_server_snapshot_apply_in_progress_total",
        "1 while a leader's snapshot is installed.",
        stats.snapshots_applying.get() as f64,
    );
    proposals(t, member);
    facts(t, member);
}

fn proposals<M: Member>(t: &mut Table, member: &M) {
    let (standing, sizes, stats) = (member.standing(), member.sizes(), member.stats());
    t.gauge(
        "etcd_server_proposals_committed_total",
        "Index of the last committed entry.",
        standing.committed.0 as f64,
    );
    t.gauge(
        "etcd_server_proposals_applied_total",
        "Index of the last applied entry.",
        standing.applied.0 as f64,
    );
    t.gauge(
        "etcd_server_proposals_pending",
        "Proposals without an answer yet.",
        sizes.proposals_pending as f64,
    );
    t.counter(
        "etcd_server_proposals_failed_total",
        "Proposals that failed or were given up.",
        sizes.proposals_failed,
    );
    t.counter(
        "etcd_server_slow_read_indexes_total",
        "Read rounds that took too long.",
        stats.slow_read_indexes.get(),
    );
    t.counter(
        "etcd_server_read_indexes_failed_total",
        "Read rounds that failed.",
        stats.read_indexes_failed.get(),
    );
    let quota = member.settings().quota_bytes.unwrap_or(0) as f64;
    t.gauge("etcd_server_quota_backend_bytes", "Quota of the backend in bytes.", quota);
    let sizes = member.sizes();
    t.gauge(
        "mainstay_disk_free_bytes",
        "Bytes that are free on the disk of the data directory.",
        sizes.disk_free as f64,
    );
    t.gauge(
        "mainstay_disk_reserve_bytes",
        "Bytes that this member holds on its disk for when it is full.",
        sizes.disk_reserve as f64,
    );
    t.gauge(
        "mainstay_disk_full",
        "1 while this member refuses writes because its disk lacks room.",
        f64::from(u8::from(member.lacks_room())),
    );
}

/// What ends of what this member shows and trusts; nothing without TLS.
fn certificates(t: &mut Table, expiry: &Expiry) {
    let end = |ends: Ends| {
        let file = ends.path.display().to_string();
        let labels = vec![
            ("side", ends.side.to_owned()),
            ("what", ends.what.name().to_owned()),
            ("file", file),
        ];
        Sample::Value(labels, ends.at as f64)
    };
    t.add(
        Type::Gauge,
        "mainstay_tls_not_after_timestamp_seconds",
        "When the first certificate in a file expires, or a list of revoked ones is due, in seconds since 1970.",
        expiry.all().into_iter().map(end).collect(),
    );
    let count =
        |(side, count): (&str, u64)| Sample::Value(vec![("side", side.to_owned())], count as f64);
    t.add(
        Type::Counter,
        "mainstay_tls_reload_failures_total",
        "Changed certificates, keys or lists of revoked ones that could not be used: the old ones were kept.",
        expiry.failures().into_iter().map(count).collect(),
    );
}

fn audit(t: &mut Table, registry: &Registry) {
    let audited = registry.trail.as_ref().map(Trail::counts).unwrap_or_default();
    t.counter(
        "mainstay_audit_records_total",
        "Calls that stand in the audit log.",
        audited.written,
    );
    t.counter(
        "mainstay_audit_lost_total",
        "Calls that should stand in the audit log and do not.",
        audited.lost,
    );
}

fn facts<M: Member>(t: &mut Table, member: &M) {
    let version = SPOKEN_VERSION.to_string();
    t.fact("etcd_server_version", "The version spoken.", "server_version", version);
    let rust = option_env!("CARGO_PKG_RUST_VERSION").unwrap_or("unknown");
    t.fact(
        "etcd_server_go_version",
        "What the server was built with; not Go.",
        "server_go_version",
        format!("rust{rust}"),
    );
    let identity = member.identity();
    t.fact("etcd_server_id", "The member's id.", "server_id", identity.member.to_string());
    if let Some(version) = member.cluster_version() {
        let line = format!("{}.{}", version.major, version.minor);
        t.fact("etcd_cluster_version", "The cluster's version.", "cluster_version", line);
    }
}

fn features(t: &mut Table, registry: &Registry) {
    let samples = registry.features.iter().map(|feature| {
        let labels = vec![("name", feature.name.to_owned()), ("stage", feature.stage.to_owned())];
        Sample::Value(labels, if feature.on { 1.0 } else { 0.0 })
    });
    t.add(
        Type::Gauge,
        "etcd_server_feature_enabled",
        "Whether a feature gate is on.",
        samples.collect(),
    );
}

fn requests(t: &mut Table, registry: &Registry) {
    let kinds = registry.requests.kinds().map(|(kind, success, histogram)| {
        let labels = vec![("success", success.to_string()), ("type", kind.to_owned())];
        Sample::of(labels, histogram)
    });
    t.add(
        Type::Histogram,
        "etcd_server_request_duration_seconds",
        "How long requests took, proposals and reads.",
        kinds.collect(),
    );
    let ranges = registry
        .requests
        .ranges()
        .map(|(success, histogram)| Sample::of(vec![("success", success.to_string())], histogram));
    t.add(
        Type::Histogram,
        "etcd_server_range_duration_seconds",
        "How long reads of the key space took.",
        ranges.collect(),
    );
    let mut calls = Vec::new();
    for (version, counts) in registry.clients.all() {
        for (kind, count) in [("stream", counts.stream.get()), ("unary", counts.unary.get())] {
            if count > 0 {
                let labels =
                    vec![("client_api_version", version.clone()), ("type", kind.to_owned())];
                calls.push(Sample::Value(labels, count as f64));
            }
        }
    }
    t.add(
        Type::Counter,
        "etcd_server_client_requests_total",
        "Calls by the version that the client names.",
        calls,
    );
}

fn applied(t: &mut Table, stats: &Stats) {
    let mut samples = Vec::new();
    for (op, outcomes) in Op::ALL.iter().zip(&stats.apply) {
        for (success, histogram) in [("false", &outcomes.failure), ("true", &outcomes.success)] {
            if histogram.counts().iter().any(|count| *count > 0) {
                let labels = vec![
                    ("op", op.name().to_owned()),
                    ("success", success.to_owned()),
                    ("version", "v3".to_owned()),
                ];
                samples.push(Sample::of(labels, histogram));
            }
        }
    }
    t.add(
        Type::Histogram,
        "etcd_server_apply_duration_seconds",
        "How long entries took to apply.",
        samples,
    );
    t.counter(
        "etcd_server_slow_apply_total",
        "Entries that took longer than --warning-apply-duration.",
        stats.slow_apply.get(),
    );
}

fn disk(t: &mut Table, stats: &Stats) {
    t.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "How long syncs of the WAL took.",
        &stats.wal_fsync,
    );
    t.histogram(
        "etcd_disk_wal_write_duration_seconds",
        "How long writes to the WAL took.",
        &stats.wal_write,
    );
    t.gauge(
        "etcd_disk_wal_write_bytes_total",
        "Bytes written to the WAL.",
        stats.wal_write_bytes.get() as f64,
    );
    t.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        "How long commits of the backend took.",
        &stats.backend_commit,
    );
    t.histogram(
        "etcd_disk_backend_defrag_duration_seconds",
        "How long defragmentations took.",
        &stats.backend_defrag,
    );
    t.histogram(
        "etcd_disk_backend_snapshot_duration_seconds",
        "How long snapshots of the backend took.",
        &stats.backend_snapshot,
    );
    t.gauge(
        "etcd_disk_defrag_inflight",
        "Whether a defragmentation runs.",
        stats.defrag_inflight.get() as f64,
    );
    t.histogram(
        "etcd_snap_fsync_duration_seconds",
        "How long syncs of .snap files took.",
        &stats.snap_fsync,
    );
    t.histogram(
        "etcd_snap_db_fsync_duration_seconds",
        "How long syncs of a db that a leader sent took.",
        &stats.snap_db_fsync,
    );
    t.histogram(
        "etcd_snap_db_save_total_duration_seconds",
        "How long receiving and storing a db that a leader sent took.",
        &stats.snap_db_save,
    );
}

fn mvcc<M: Member>(t: &mut Table, member: &M) {
    let (sizes, stats) = (member.sizes(), member.stats());
    t.gauge(
        "etcd_mvcc_db_total_size_in_bytes",
        "Bytes of the db that are allocated.",
        sizes.db as f64,
    );
    t.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of the db that hold data.",
        sizes.db_in_use as f64,
    );
    t.gauge(
        "etcd_mvcc_db_open_read_transactions",
        "Read transactions open on the db.",
        sizes.open_readers as f64,
    );
    t.counter(
        "mainstay_db_damaged_pages_total",
        "Pages of the db that were found to be damaged, each counted once.",
        stats.damaged_pages.get(),
    );
    t.counter(
        "mainstay_db_scrubbed_pages_total",
        "Pages of the db that were compared with their checksums without being asked for.",
        stats.scrubbed_pages.get(),
    );
    t.counter(
        "mainstay_db_scrubs_total",
        "Passes over all pages of the db.",
        stats.scrub_passes.get(),
    );
    t.gauge(
        "mainstay_db_scrub_last_end_seconds",
        "When the last pass over all pages of the db ended, since 1970; 0 before the first.",
        stats.scrub_ended.get() as f64,
    );
    t.counter(
        "mainstay_databases_refetched_total",
        "Databases that a start has fetched from another member, because its own was damaged, missing or behind.",
        stats.mended_dbs.get(),
    );
    t.counter(
        "mainstay_logs_restarted_total",
        "Logs that a start has begun anew, because part of them was damaged.",
        stats.mended_logs.get(),
    );
    t.counter("etcd_mvcc_range_total", "Reads of a range.", stats.ranges.get());
    t.counter("etcd_mvcc_put_total", "Keys put.", stats.puts.get());
    t.counter("etcd_mvcc_delete_total", "Keys deleted.", stats.deletes.get());
    t.counter("etcd_mvcc_txn_total", "Transactions of more than one operation.", stats.txns.get());
    t.histogram("etcd_mvcc_hash_duration_seconds", "How long hashing the db took.", &stats.hash);
    t.histogram(
        "etcd_mvcc_hash_rev_duration_seconds",
        "How long hashing the key space took.",
        &stats.hash_rev,
    );
    t.gauge("etcd_debugging_mvcc_keys_total", "Live keys.", sizes.keys as f64);
    t.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.", sizes.revision as f64);
    t.gauge(
        "etcd_debugging_mvcc_compact_revision",
        "The revision compacted to.",
        sizes.compacted as f64,
    );
    t.gauge(
        "etcd_debugging_auth_revision",
        "The revision of the auth store.",
        member.auth().revision() as f64,
    );
}

fn debugging(t: &mut Table, stats: &Stats) {
    t.gauge(
        "etcd_debugging_mvcc_watch_stream_total",
        "Watch streams.",
        stats.watch_streams.get() as f64,
    );
    t.gauge("etcd_debugging_mvcc_watcher_total", "Watchers.", stats.watchers.get() as f64);
    t.gauge(
        "etcd_debugging_mvcc_slow_watcher_total",
        "Watchers that read history.",
        stats.slow_watchers.get() as f64,
    );
    t.gauge(
        "etcd_debugging_mvcc_pending_events_total",
        "Events that wait to be sent.",
        stats.pending_events.get() as f64,
    );
    t.counter("etcd_debugging_mvcc_events_total", "Events sent.", stats.events.get());
    t.gauge(
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "Bytes of keys and values put.",
        stats.put_bytes.get() as f64,
    );
    t.histogram(
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "How long compactions held the index.",
        &stats.index_compaction_pause_ms,
    );
    t.histogram(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "How long a slice of a compaction took.",
        &stats.compaction_pause_ms,
    );
    t.histogram(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "How long compactions took.",
        &stats.compaction_total_ms,
    );
    t.gauge(
        "etcd_debugging_mvcc_db_compaction_last",
        "When the last compaction ended, in unix seconds.",
        stats.compaction_last.get() as f64,
    );
    t.counter(
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "Revisions removed by compactions.",
        stats.compaction_keys.get(),
    );
    t.counter("etcd_debugging_lease_granted_total", "Leases granted.", stats.leases_granted.get());
    t.counter("etcd_debugging_lease_revoked_total", "Leases revoked.", stats.leases_revoked.get());
    t.counter("etcd_debugging_lease_renewed_total", "Leases renewed.", stats.leases_renewed.get());
    t.histogram("etcd_debugging_lease_ttl_total", "TTLs granted, in seconds.", &stats.lease_ttl);
    t.counter(
        "etcd_debugging_server_lease_expired_total",
        "Leases expired.",
        stats.leases_expired.get(),
    );
    t.histogram(
        "etcd_debugging_snap_save_total_duration_seconds",
        "How long saving .snap files took.",
        &stats.snap_save,
    );
    watch_send_loop(t, stats);
}

fn watch_send_loop(t: &mut Table, stats: &Stats) {
    for (name, help, histogram) in [
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
            "How long sending events to a watcher took.",
            &stats.watch_send,
        ),
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
            "How long sending events to a watcher took, by event.",
            &stats.watch_send_per_event,
        ),
        (
            "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
            "How long sending that a watcher was created or cancelled took.",
            &stats.watch_send_control,
        ),
        (
            "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
            "How long sending a progress notification took.",
            &stats.watch_send_progress,
        ),
    ] {
        t.histogram(name, help, histogram);
    }
}

fn alarmed(t: &mut Table, alarms: &[AlarmMember]) {
    let samples = alarms.iter().map(|alarm| {
        let labels = vec![
            ("alarm_type", alarm.alarm().as_str_name().to_owned()),
            ("server_id", MemberId(alarm.member_id).to_string()),
        ];
        Sample::Value(labels, 1.0)
    });
    t.add(
        Type::Gauge,
        "etcd_debugging_server_alarms",
        "Alarms that are raised.",
        samples.collect(),
    );
}

fn health(t: &mut Table, registry: &Registry) {
    let health = &registry.health;
    t.counter("etcd_server_health_success", "/health answers of true.", health.success.get());
    t.counter("etcd_server_health_failures", "/health answers of false.", health.failures.get());
    let (mut last, mut totals) = (Vec::new(), Vec::new());
    for count in health.counts() {
        let labels = |status: Option<&str>| -> Labels {
            let both = [("name", count.check.to_owned()), ("type", count.endpoint.to_owned())];
            let [name, kind] = both;
            let status = status.map(|status| ("status", status.to_owned()));
            [Some(name), status, Some(kind)].into_iter().flatten().collect()
        };
        last.push(Sample::Value(labels(None), count.last as f64));
        for (status, n) in [("error", count.failures), ("success", count.success)] {
            if n > 0 {
                totals.push(Sample::Value(labels(Some(status)), n as f64));
            }
        }
    }
    t.add(Type::Gauge, "etcd_server_healthcheck", "1 when a check last succeeded.", last);
    t.add(Type::Counter, "etcd_server_healthchecks_total", "Runs of a check.", totals);
}

fn grpc(t: &mut Table, registry: &Registry) {
    let sum = |pick: &dyn Fn(&MethodCells) -> &AtomicU64, method: &Method| -> f64 {
        let cells = registry.shards.iter().map(|shard| &shard.methods[method.rpc as usize]);
        cells.map(|cells| pick(cells).load(Ordering::Relaxed)).sum::<u64>() as f64
    };
    let labels = |method: &'static Method| -> Labels {
        vec![
            ("grpc_method", method.name().to_owned()),
            ("grpc_service", method.service().to_owned()),
            ("grpc_type", method.kind.label().to_owned()),
        ]
    };
    type Pick = fn(&MethodCells) -> &AtomicU64;
    let plain: [(&'static str, &'static str, Pick); 3] = [
        ("grpc_server_started_total", "Calls started.", |cells| &cells.started),
        ("grpc_server_msg_received_total", "Messages received.", |cells| &cells.received),
        ("grpc_server_msg_sent_total", "Messages sent.", |cells| &cells.sent),
    ];
    for (name, help, pick) in plain {
        let samples =
            METHODS.iter().map(|method| Sample::Value(labels(method), sum(&pick, method)));
        t.add(Type::Counter, name, help, samples.collect());
    }
    let mut handled = Vec::new();
    for method in METHODS {
        for code in Code::ALL {
            let mut labels = labels(method);
            labels.insert(0, ("grpc_code", code.name().to_owned()));
            let count = sum(&|cells| &cells.handled[code as usize], method);
            handled.push(Sample::Value(labels, count));
        }
    }
    t.add(Type::Counter, "grpc_server_handled_total", "Calls ended, by code.", handled);
    let handling = METHODS.iter().filter_map(|method| handling(registry, method, labels(method)));
    t.add(
        Type::Histogram,
        "grpc_server_handling_seconds",
        "How long calls took until their end.",
        handling.collect(),
    );
}

/// What goes over the connections of clients, and who scrapes.
fn network(t: &mut Table, registry: &Registry) {
    let bytes = |pick: fn(&super::grpc::ShardCells) -> &AtomicU64| -> u64 {
        registry.shards.iter().map(|shard| pick(shard).load(Ordering::Relaxed)).sum()
    };
    t.counter(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes of messages from clients.",
        bytes(|shard| &shard.received_bytes),
    );
    t.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes of messages to clients.",
        bytes(|shard| &shard.sent_bytes),
    );
    let failures = registry.unreadable.iter().filter(|(_, count)| count.get() > 0);
    let failures = failures.map(|(api, count)| {
        let labels = vec![("API", (*api).to_owned()), ("Type", "receive".to_owned())];
        Sample::Value(labels, count.get() as f64)
    });
    t.add(
        Type::Counter,
        "etcd_network_server_stream_failures_total",
        "Streams that ended because a message could not be read.",
        failures.collect(),
    );
    t.gauge("promhttp_metric_handler_requests_in_flight", "Scrapes under way.", 1.0);
    let code = vec![("code", "200".to_owned())];
    t.add(
        Type::Counter,
        "promhttp_metric_handler_requests_total",
        "Scrapes by status.",
        vec![Sample::Value(code, registry.scrapes.get() as f64)],
    );
}

/// The handling times of a method on all shards; `None` unless they are counted.
fn handling(registry: &Registry, method: &Method, labels: Labels) -> Option<Sample> {
    let shards = registry.shards.iter().filter_map(|shard| shard.handling.as_ref());
    let mut shards = shards.map(|handling| &handling[method.rpc as usize]);
    let first = shards.next()?;
    let (mut counts, mut sum) = (first.counts(), first.sum());
    for shard in shards {
        counts.iter_mut().zip(shard.counts()).for_each(|(total, count)| *total += count);
        sum += shard.sum();
    }
    Some(Sample::Buckets { labels, bounds: first.bounds().to_vec(), counts, sum })
}

fn operating_system(t: &mut Table) {
    let limit = process::fd_limit() as f64;
    t.gauge("os_fd_limit", "Descriptors that may be open.", limit);
    t.gauge("process_max_fds", "Descriptors that may be open.", limit);
    let Some(process) = process::read() else { return };
    t.gauge("os_fd_used", "Descriptors that are open.", process.open_fds as f64);
    t.gauge("process_open_fds", "Descriptors that are open.", process.open_fds as f64);
    let cpu = Sample::Value(Vec::new(), process.cpu_seconds);
    t.add(
        Type::Counter,
        "process_cpu_seconds_total",
        "User and system CPU time in seconds.",
        vec![cpu],
    );
    t.gauge(
        "process_resident_memory_bytes",
        "Resident memory in bytes.",
        process.resident_bytes as f64,
    );
    t.gauge(
        "process_virtual_memory_bytes",
        "Virtual memory in bytes.",
        process.virtual_bytes as f64,
    );
    t.gauge(
        "process_virtual_memory_max_bytes",
        "Virtual memory that may be used, in bytes.",
        process.virtual_bytes_max,
    );
    t.gauge(
        "process_start_time_seconds",
        "When the process started, in unix seconds.",
        process.start_seconds,
    );
    t.counter(
        "process_network_receive_bytes_total",
        "Bytes received over the network.",
        process.received_bytes,
    );
    t.counter(
        "process_network_transmit_bytes_total",
        "Bytes sent over the network.",
        process.transmitted_bytes,
    );
}
