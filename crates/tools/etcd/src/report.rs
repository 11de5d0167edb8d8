//! What the log says before the member runs, in the words and keys that etcd's tools know.

use std::time::Duration;

use mainstay_config::{
    AutoCompaction, Config, LogConfig, LogFormat, LogOutput, LogRotation, Notice, Url, number,
};
use mainstay_log::{Format, Output, Rotation, Settings, json_strings, level_named};
use mainstay_types::SPOKEN_VERSION;
use tracing::{info, warn};

/// The log's settings as `mainstay-log` takes them.
pub(crate) fn log_settings(log: &LogConfig) -> Settings {
    Settings {
        level: level_named(&log.level).expect("the configuration was checked"),
        format: match log.format {
            LogFormat::Json => Format::Json,
            LogFormat::Console => Format::Console,
        },
        outputs: log
            .outputs
            .iter()
            .map(|output| match output {
                LogOutput::Stderr => Output::Stderr,
                LogOutput::Stdout => Output::Stdout,
                LogOutput::File(path) => Output::File(path.clone()),
            })
            .collect(),
        rotation: log.rotation.map(rotation),
    }
}

/// When a file starts anew, as `mainstay-log` takes it.
pub(crate) fn rotation(rotation: LogRotation) -> Rotation {
    Rotation {
        bytes_max: rotation.bytes_max,
        backups_max: rotation.backups_max as usize,
        days_max: rotation.days_max,
    }
}

/// Logs what reading the configuration brought up.
pub(crate) fn notices(notices: &[Notice]) {
    for notice in notices {
        match notice {
            Notice::Info(message) => info!("{message}"),
            Notice::Warn(message) => warn!("{message}"),
            Notice::UsedVariable { name, value } => info!(
                "variable-name" = %name,
                "variable-value" = %value,
                "recognized and used environment variable"
            ),
            Notice::UnknownVariable { name, advice: None } => {
                warn!("environment-variable" = %name, "unrecognized environment variable");
            }
            Notice::UnknownVariable { name, advice: Some(advice) } => warn!(
                "environment-variable" = %name,
                advice,
                "unrecognized environment variable"
            ),
            Notice::UsedFile { path } => info!(
                path = %path,
                "loaded server configuration, other configuration command line flags and \
                 environment variables will be ignored if provided"
            ),
        }
    }
}

/// The lines of a start: notices, arguments, and the whole configuration.
pub(crate) fn started(config: &Config, args: &[String], noticed: &[Notice]) {
    notices(noticed);
    running(args);
    dump(config);
}

/// The line that says with which arguments the process runs.
pub(crate) fn running(args: &[String]) {
    let program = std::env::args_os().next().unwrap_or_default().to_string_lossy().into_owned();
    let shown = json_strings(std::iter::once(program).chain(without_passwords(args)));
    info!("args.json" = %shown, "Running: ");
}

/// The arguments without a password, which is for nobody who reads the log; it may stand behind
/// its flag or in an argument of its own.
fn without_passwords(args: &[String]) -> Vec<String> {
    let is_password = |name: &str| name.trim_start_matches('-') == "discovery-password";
    let mut value_follows = false;
    let shown = args.iter().map(|arg| {
        let hidden = std::mem::replace(&mut value_follows, is_password(arg));
        match arg.split_once('=') {
            _ if hidden => "...".to_owned(),
            Some((name, _)) if is_password(name) => format!("{name}=..."),
            _ => arg.clone(),
        }
    });
    shown.collect()
}

/// The line that says the whole configuration.
fn dump(config: &Config) {
    let (retention, mode) = match config.compaction.auto {
        AutoCompaction::Off => ("0s".to_owned(), "periodic"),
        AutoCompaction::Periodic(age) => (number::show(age), "periodic"),
        AutoCompaction::Revision(n) => (n.to_string(), "revision"),
    };
    // etcd prints -1 for no quota.
    let quota =
        config.backend.quota_bytes.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1);
    info!(
        "etcd-version" = %SPOKEN_VERSION,
        "mainstay-version" = env!("CARGO_PKG_VERSION"),
        name = %config.name,
        "data-dir" = %config.data_dir.display(),
        "wal-dir" = %config.wal_dir.as_deref().unwrap_or("".as_ref()).display(),
        "member-dir" = %config.data_dir.join("member").display(),
        "force-new-cluster" = config.force_new_cluster,
        "heartbeat-interval" = %number::show(config.heartbeat_interval),
        "election-timeout" = %number::show(config.election_timeout),
        "snapshot-count" = config.snapshot_count,
        "max-wals" = config.max_wals,
        "max-snapshots" = config.max_snapshots,
        "snapshot-catchup-entries" = config.snapshot_catchup_entries,
        "initial-advertise-peer-urls.json" = %urls(&config.initial_advertise_peer_urls),
        "listen-peer-urls.json" = %urls(&config.listen_peer_urls),
        "advertise-client-urls.json" = %urls(&config.advertise_client_urls),
        "listen-client-urls.json" = %urls(&config.listen_client_urls),
        "listen-client-http-urls.json" = %urls(&config.listen_client_http_urls),
        "listen-metrics-urls.json" = %urls(&config.listen_metrics_urls),
        "initial-cluster" = %config.initial_cluster,
        "initial-cluster-state" = %config.initial_cluster_state,
        "initial-cluster-token" = %config.initial_cluster_token,
        "initial-cluster-version" = %config.initial_cluster_version,
        "quota-backend-bytes" = quota,
        "max-request-bytes" = config.max_request_bytes,
        "max-concurrent-streams" = config.max_concurrent_streams,
        "pre-vote" = config.pre_vote,
        "feature-gates" = %config.gates,
        "auto-compaction-mode" = mode,
        "auto-compaction-retention" = %retention,
        "starting an etcd server"
    );
    tuning(config);
}

/// The rest of it; one event of `tracing` holds 32 fields.
fn tuning(config: &Config) {
    let show = |duration: Duration| number::show(duration);
    info!(
        "max-txn-ops" = config.max_txn_ops,
        "backend-batch-interval" = %show(config.backend.batch_interval),
        "backend-batch-limit" = config.backend.batch_limit,
        "compaction-batch-limit" = config.compaction.batch_limit,
        "compaction-sleep-interval" = %show(config.compaction.sleep_interval),
        "watch-progress-notify-interval" = %show(config.watch_progress_notify_interval),
        "warning-apply-duration" = %show(config.warning_apply_duration),
        "warning-unary-request-duration" = %show(config.warning_unary_request_duration),
        "grpc-keepalive-min-time" = %show(config.keepalive.min_time),
        "grpc-keepalive-interval" = %show(config.keepalive.interval),
        "grpc-keepalive-timeout" = %show(config.keepalive.timeout),
        "client-cert-auth" = config.client_tls.requires_caller_cert(),
        "peer-client-cert-auth" = config.peer_tls.requires_caller_cert(),
        "cors.json" = %json_strings(&config.cors),
        "host-whitelist.json" = %json_strings(&config.host_whitelist),
        "unsafe-no-fsync" = config.unsafe_no_fsync,
        "tuning of this member"
    );
}

fn urls(urls: &[Url]) -> String {
    json_strings(urls.iter().map(Url::as_str))
}
