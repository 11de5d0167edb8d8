//! From values by name to the typed configuration, with etcd's replacements for zeros.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::Version;

use crate::config::{
    AuditConfig, AuthConfig, AutoCompaction, BackendConfig, ClusterState, CompactionConfig, Config,
    DiscoveryConfig, KeepaliveConfig, LogConfig, LogFormat, LogOutput, LogRotation, Password,
    TlsFiles, TlsVersion,
};
use crate::settings::{Settings, Value};
use crate::{Gates, Invalid, Notice, Url, ciphers, number, table};

/// Values, and whether they came from a file.
pub(crate) struct Source {
    pub(crate) settings: Settings,
    pub(crate) is_file: bool,
}

/// Answers with the address of this machine, when it has one.
type Host<'a> = &'a dyn Fn() -> Option<IpAddr>;

/// Builds the configuration.
///
/// # Errors
///
/// When a value has the right form but no meaning.
pub(crate) fn build(s: &Source, host: Host<'_>, told: &mut Vec<Notice>) -> Result<Config, Invalid> {
    let config = Config {
        name: s.text("name"),
        data_dir: data_dir(s, told),
        wal_dir: s.path("wal-dir"),
        snapshot_count: or_default(s.uint("snapshot-count"), 10_000),
        snapshot_catchup_entries: or_default(s.uint("snapshot-catchup-entries"), 5_000),
        heartbeat_interval: Duration::from_millis(s.uint("heartbeat-interval")),
        election_timeout: Duration::from_millis(s.uint("election-timeout")),
        initial_election_tick_advance: s.on("initial-election-tick-advance"),
        listen_peer_urls: s.urls("listen-peer-urls"),
        listen_client_urls: s.urls("listen-client-urls"),
        listen_client_http_urls: s.urls("listen-client-http-urls"),
        listen_metrics_urls: s.urls("listen-metrics-urls"),
        initial_advertise_peer_urls: s.urls("initial-advertise-peer-urls"),
        advertise_client_urls: s.urls("advertise-client-urls"),
        initial_cluster: initial_cluster(s),
        initial_cluster_state: cluster_state(s),
        discovery: discovery(s)?,
        discovery_url: s.text("discovery"),
        discovery_proxy: s.text("discovery-proxy"),
        discovery_srv: s.text("discovery-srv"),
        discovery_srv_name: s.text("discovery-srv-name"),
        force_new_cluster: s.on("force-new-cluster"),
        initial_cluster_token: s.text("initial-cluster-token"),
        initial_cluster_version: s.version()?,
        hold_cluster_version: s.on("hold-cluster-version"),
        peer_read_timeout: peer_timeout(s, "raft-read-timeout", told)?,
        peer_write_timeout: peer_timeout(s, "raft-write-timeout", told)?,
        max_snapshots: s.uint("max-snapshots"),
        max_wals: s.uint("max-wals"),
        backend: backend(s)?,
        max_txn_ops: s.uint("max-txn-ops"),
        max_request_bytes: s.uint("max-request-bytes"),
        max_concurrent_streams: s.uint32("max-concurrent-streams"),
        keepalive: keepalive(s)?,
        enable_grpc_gateway: s.on("enable-grpc-gateway"),
        gates: s.gates(),
        pre_vote: s.on("pre-vote"),
        strict_reconfig_check: s.on("strict-reconfig-check"),
        max_learners: s.count_or("max-learners", 0)?,
        compaction: compaction(s)?,
        watch_progress_notify_interval: s.duration_or("watch-progress-notify-interval", 600_000)?,
        corrupt_check_time: s.duration("corrupt-check-time")?,
        compact_hash_check_time: s.duration("compact-hash-check-time")?,
        downgrade_check_time: s.duration("downgrade-check-time")?,
        old_members_with_auth: s.on("unsafe-old-members-with-auth"),
        repair_from_peers: s.on("repair-from-peers"),
        scrub_period: s.duration("scrub-period")?,
        scrub_rate_megabytes: s.uint("scrub-rate"),
        lease_checkpoint_interval: s.duration("lease-checkpoint-interval")?,
        warning_apply_duration: s.duration("warning-apply-duration")?,
        warning_unary_request_duration: s.duration_or("warning-unary-request-duration", 300)?,
        client_tls: s.tls("", told),
        peer_tls: s.tls("peer-", told),
        self_signed_cert_validity: s.uint("self-signed-cert-validity"),
        cors: s.words("cors"),
        host_whitelist: hosts(s.words("host-whitelist")),
        tls_min_version: tls_version(&s.text("tls-min-version"))?.unwrap_or(TlsVersion::V12),
        tls_max_version: tls_version(&s.text("tls-max-version"))?,
        cipher_suites: cipher_suites(s)?,
        auth: auth(s, told),
        log: log(s)?,
        audit: audit(s)?,
        metrics_extensive: s.text("metrics") == "extensive",
        unsafe_no_fsync: s.on("unsafe-no-fsync"),
        all_defaults: s.settings.is_empty(),
    };
    Ok(place(config, s, host, told))
}

fn auth(source: &Source, told: &mut Vec<Notice>) -> AuthConfig {
    AuthConfig {
        bcrypt_cost: bcrypt_cost(source.uint("bcrypt-cost"), told),
        token: source.text("auth-token"),
        token_ttl: Duration::from_secs(source.uint("auth-token-ttl")),
    }
}

/// The directory that was named, else `NAME.etcd`.
fn data_dir(source: &Source, notices: &mut Vec<Notice>) -> PathBuf {
    match source.text("data-dir") {
        empty if empty.is_empty() => {
            let dir = format!("{}.etcd", source.text("name"));
            notices.push(Notice::warn(format!("'data-dir' was empty; using default {dir}")));
            dir.into()
        }
        dir => dir.into(),
    }
}

/// The list of members that was given, or the default; a default gives way to a discovery.
fn initial_cluster(source: &Source) -> String {
    let given = source.text("initial-cluster");
    let mut discoveries = vec!["discovery-srv", "discovery"];
    // etcd forgets this one in a file.
    if !source.is_file {
        discoveries.push("discovery-srv-name");
    }
    let discovers = discoveries.into_iter().any(|name| !source.text(name).is_empty())
        || !source.words("discovery-endpoints").is_empty();
    let is_default = if source.is_file {
        given == INITIAL_CLUSTER_DEFAULT
    } else {
        !source.settings.is_set("initial-cluster")
    };
    if discovers && is_default { String::new() } else { given }
}

fn cluster_state(source: &Source) -> ClusterState {
    match source.text("initial-cluster-state").as_str() {
        "existing" => ClusterState::Existing,
        _ => ClusterState::New,
    }
}

fn discovery(source: &Source) -> Result<DiscoveryConfig, Invalid> {
    Ok(DiscoveryConfig {
        endpoints: source.words("discovery-endpoints"),
        token: source.text("discovery-token"),
        dial_timeout: source.duration("discovery-dial-timeout")?,
        request_timeout: source.duration("discovery-request-timeout")?,
        keepalive_time: source.duration("discovery-keepalive-time")?,
        keepalive_timeout: source.duration("discovery-keepalive-timeout")?,
        insecure_transport: source.on("discovery-insecure-transport"),
        insecure_skip_verify: source.on("discovery-insecure-skip-tls-verify"),
        cert: source.path("discovery-cert"),
        key: source.path("discovery-key"),
        ca: source.path("discovery-cacert"),
        user: source.text("discovery-user"),
        password: Password::new(source.text("discovery-password")),
    })
}

/// Between members less than 5 s is never waited, as in etcd.
fn peer_timeout(
    source: &Source,
    name: &str,
    notices: &mut Vec<Notice>,
) -> Result<Duration, Invalid> {
    let given = source.duration(name)?;
    if given < PEER_TIMEOUT_MIN {
        let text = format!("{name} increased to minimum value: {}", number::show(PEER_TIMEOUT_MIN));
        notices.push(Notice::Info(text));
    }
    Ok(given.max(PEER_TIMEOUT_MIN))
}

/// As etcd has it, an empty text names one host, the nameless one.
fn hosts(given: Vec<String>) -> Vec<String> {
    if given.is_empty() { vec![String::new()] } else { given }
}

fn backend(source: &Source) -> Result<BackendConfig, Invalid> {
    Ok(BackendConfig {
        quota_bytes: match source.int("quota-backend-bytes") {
            0 => Some(QUOTA_BYTES_DEFAULT),
            bytes => u64::try_from(bytes).ok(),
        },
        batch_interval: source.duration_or("backend-batch-interval", 100)?,
        batch_limit: source.count_or("backend-batch-limit", 10_000)?,
        quota_auto_disarm_percent: source.uint("quota-auto-disarm-percent"),
        disk_reserve_megabytes: source.uint("disk-reserve-megabytes"),
        bootstrap_defrag_threshold_megabytes: source.uint("bootstrap-defrag-threshold-megabytes"),
    })
}

fn keepalive(source: &Source) -> Result<KeepaliveConfig, Invalid> {
    Ok(KeepaliveConfig {
        min_time: source.duration("grpc-keepalive-min-time")?,
        interval: source.duration("grpc-keepalive-interval")?,
        timeout: source.duration("grpc-keepalive-timeout")?,
    })
}

fn compaction(source: &Source) -> Result<CompactionConfig, Invalid> {
    let (mode, retention) =
        (source.text("auto-compaction-mode"), source.text("auto-compaction-retention"));
    Ok(CompactionConfig {
        auto: auto_compaction(&mode, &retention)?,
        batch_limit: source.count_or("compaction-batch-limit", 1_000)?,
        sleep_interval: source.duration_or("compaction-sleep-interval", 10)?,
    })
}

/// The replacements among URLs that etcd makes: a machine's address for a default advertise URL
/// of a member that listens everywhere, the name in the default initial cluster, and no default
/// advertise URL for explicit listeners.
fn place(
    mut config: Config,
    source: &Source,
    default_host: &dyn Fn() -> Option<IpAddr>,
    notices: &mut Vec<Notice>,
) -> Config {
    let set = |name| source.settings.is_set(name);
    if !source.is_file && set("listen-client-urls") && !set("advertise-client-urls") {
        config.advertise_client_urls.clear();
    }
    let mut host = None;
    for (listen, advertise, default) in [
        (&config.listen_peer_urls, &mut config.initial_advertise_peer_urls, PEER_URL_DEFAULT),
        (&config.listen_client_urls, &mut config.advertise_client_urls, CLIENT_URL_DEFAULT),
    ] {
        let everywhere = listen.first().filter(|url| url.host() == "0.0.0.0");
        if let (Some(listen), [only]) = (everywhere, advertise.as_slice())
            && only.as_str() == default
            && let Some(found) = *host.get_or_insert_with(default_host)
        {
            // The scheme stays that of the advertised URL, the port becomes the listener's.
            let text = format!("http://{found}:{}", listen.port());
            *advertise = Url::parse_list(&text).unwrap_or_else(|_| advertise.clone());
        }
    }
    if let Some(Some(found)) = host {
        notices.push(Notice::Info(format!("detected default host for advertise: {found}")));
    }
    if config.name != NAME_DEFAULT && config.initial_cluster == INITIAL_CLUSTER_DEFAULT {
        let name = if config.name.is_empty() { NAME_DEFAULT } else { &config.name };
        let own = config.initial_advertise_peer_urls.iter().map(|url| format!("{name}={url}"));
        config.initial_cluster = own.collect::<Vec<_>>().join(",");
    }
    config
}

impl Source {
    pub(crate) fn value(&self, name: &str) -> Value {
        self.settings.value(table::find(name).expect("a test builds from every name asked for"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            other => unreachable!("{name} is a text, not {other:?}"),
        }
    }

    pub(crate) fn on(&self, name: &str) -> bool {
        self.value(name) == Value::Bool(true)
    }

    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Value::Words(words) => words,
            other => unreachable!("{name} is a list, not {other:?}"),
        }
    }

    pub(crate) fn urls(&self, name: &str) -> Vec<Url> {
        match self.value(name) {
            Value::Urls(urls) => urls,
            other => unreachable!("{name} is a list of URLs, not {other:?}"),
        }
    }

    fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(n) => n,
            other => unreachable!("{name} is unsigned, not {other:?}"),
        }
    }

    fn uint32(&self, name: &str) -> u32 {
        u32::try_from(self.uint(name)).expect("the parser bounds it")
    }

    pub(crate) fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(n) => n,
            other => unreachable!("{name} is signed, not {other:?}"),
        }
    }

    fn gates(&self) -> Gates {
        match self.value("feature-gates") {
            Value::Gates(gates) => gates,
            other => unreachable!("gates, not {other:?}"),
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    fn duration(&self, name: &str) -> Result<Duration, Invalid> {
        let Value::Duration(nanos) = self.value(name) else { unreachable!("{name} is a duration") };
        let least = i64::from(name == "compact-hash-check-time");
        match u64::try_from(nanos) {
            Ok(size) if nanos >= least => Ok(Duration::from_nanos(size)),
            _ => {
                let bound = if least > 0 { ">0" } else { ">=0" };
                let shown = number::format_duration(nanos);
                Err(Invalid(format!("--{name} must be {bound} (set to {shown})")))
            }
        }
    }

    fn duration_or(&self, name: &str, default_millis: u64) -> Result<Duration, Invalid> {
        let given = self.duration(name)?;
        Ok(if given.is_zero() { Duration::from_millis(default_millis) } else { given })
    }

    fn count_or(&self, name: &str, default: u64) -> Result<u64, Invalid> {
        let given = self.int(name);
        let count = u64::try_from(given)
            .map_err(|_| Invalid(format!("--{name} must be >=0 (set to {given})")))?;
        Ok(or_default(count, default))
    }

    fn version(&self) -> Result<Version, Invalid> {
        let text = self.text("initial-cluster-version");
        text.parse().map_err(|e| Invalid(format!("--initial-cluster-version: {e}")))
    }

    fn tls(&self, prefix: &str, notices: &mut Vec<Notice>) -> TlsFiles {
        let path = |name: &str| self.path(&format!("{prefix}{name}"));
        let (cert, key) = (path("cert-file"), path("key-file"));
        let wants_own = self.on(&format!("{prefix}auto-tls"));
        let given = cert.is_some() || key.is_some();
        // The flag of clients is not named like their others.
        let side = if prefix.is_empty() { "client" } else { "peer" };
        if wants_own && given {
            let text = format!("ignoring {side} auto TLS since certs given");
            notices.push(Notice::warn(text));
        }
        let files = TlsFiles {
            cert,
            key,
            crl: self.path(&format!("{side}-crl-file")),
            auto: wants_own && !given,
            trusted_ca: path("trusted-ca-file"),
            cert_auth: self.on(&format!("{prefix}client-cert-auth")),
            allowed_hostnames: self.words(&format!("{side}-cert-allowed-hostname")),
            ..TlsFiles::default()
        };
        if prefix.is_empty() {
            return files;
        }
        TlsFiles {
            client_cert: path("client-cert-file"),
            client_key: path("client-key-file"),
            allowed_cns: self.words("peer-cert-allowed-cn"),
            skip_client_san_verification: self.on("peer-skip-client-san-verification"),
            ..files
        }
    }
}

/// `--auto-compaction-retention` by server-flags 1: a bare number counts hours or revisions, else
/// it is a duration, whose nanoseconds are the revisions in revision mode.
fn auto_compaction(mode: &str, retention: &str) -> Result<AutoCompaction, Invalid> {
    let retention = if retention.is_empty() { "0" } else { retention };
    let bare = retention.parse::<i64>().ok().filter(|n| *n >= 0);
    let given = |nanos: Option<i64>| {
        nanos.ok_or_else(|| {
            Invalid(format!(
                "error parsing CompactionRetention: time: invalid duration {retention:?}"
            ))
        })
    };
    let number = match (bare, mode) {
        (Some(hours), "periodic") => given(hours.checked_mul(3_600_000_000_000))?,
        (Some(revisions), _) => revisions,
        (None, _) => given(number::parse_duration(retention).ok())?,
    };
    match (mode, u64::try_from(number)) {
        ("", _) => Err(Invalid("undefined auto-compaction-mode".to_owned())),
        ("periodic" | "revision", Err(_) | Ok(0)) => Ok(AutoCompaction::Off),
        ("periodic", Ok(nanos)) => Ok(AutoCompaction::Periodic(Duration::from_nanos(nanos))),
        ("revision", Ok(_)) => Ok(AutoCompaction::Revision(number)),
        _ => Err(Invalid(format!("unknown auto-compaction-mode {mode:?}"))),
    }
}

fn tls_version(text: &str) -> Result<Option<TlsVersion>, Invalid> {
    match text {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(TlsVersion::V12)),
        "TLS1.3" => Ok(Some(TlsVersion::V13)),
        _ => Err(Invalid(format!(
            "unexpected TLS version {text:?} (must be one of: TLS1.2, TLS1.3)"
        ))),
    }
}

/// `None` when nothing was named. As in etcd the version is looked at before the names.
fn cipher_suites(source: &Source) -> Result<Option<Vec<String>>, Invalid> {
    let names = source.words("cipher-suites");
    if names.iter().all(String::is_empty) {
        return Ok(None);
    }
    if source.text("tls-min-version") == "TLS1.3" {
        let text = "cipher suites cannot be configured when only TLS1.3 is enabled";
        return Err(Invalid(text.to_owned()));
    }
    ciphers::of_tls12(&names).map(Some)
}

fn bcrypt_cost(cost: u64, notices: &mut Vec<Notice>) -> u32 {
    match u32::try_from(cost) {
        Ok(cost @ 4..=31) => cost,
        _ => {
            notices.push(Notice::warn(format!(
                "use default bcrypt cost instead of the invalid given cost {cost}"
            )));
            10
        }
    }
}

fn log(source: &Source) -> Result<LogConfig, Invalid> {
    let wrong = |text: String| Err(Invalid(text));
    match source.text("logger").as_str() {
        "zap" => {}
        "capnslog" => return wrong("--logger=capnslog is removed in v3.5".to_owned()),
        other => return wrong(format!("unknown logger option {other:?}")),
    }
    let level = source.text("log-level");
    if !matches!(level.as_str(), "debug" | "info" | "warn" | "error" | "dpanic" | "panic" | "fatal")
    {
        return wrong(format!("unrecognized level: {level:?} (--log-level)"));
    }
    let format = match source.text("log-format").as_str() {
        "json" => LogFormat::Json,
        "console" => LogFormat::Console,
        other => {
            return wrong(format!("unknown log format: {other}, supported values json, console"));
        }
    };
    let mut names = source.words("log-outputs");
    if names.is_empty() {
        names.push("default".to_owned());
    }
    if names.len() > 1 {
        for alone in ["default", "systemd/journal"] {
            if names.iter().any(|name| name == alone) {
                return wrong(format!("multi logoutput for {alone:?} is not supported yet"));
            }
        }
    }
    let outputs: Vec<LogOutput> = names
        .iter()
        .map(|name| match name.as_str() {
            "default" | "stderr" | "systemd/journal" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            path => LogOutput::File(path.into()),
        })
        .collect();
    let rotation = match source.on("enable-log-rotation") {
        false => None,
        true if outputs.iter().filter(|out| matches!(out, LogOutput::File(_))).count() == 1 => {
            Some(rotation(&source.text("log-rotation-config-json"))?)
        }
        true => {
            return wrong(
                "--log-outputs requires a single file path when --log-rotate-config-json is \
                 defined"
                    .to_owned(),
            );
        }
    };
    Ok(LogConfig { level, format, outputs, rotation })
}

fn audit(source: &Source) -> Result<Option<AuditConfig>, Invalid> {
    let text = |name| Some(source.text(name)).filter(|text| !text.is_empty());
    let Some(path) = text("audit-log-path") else {
        let tuned = table::all().filter(|flag| flag.name.starts_with("audit-"));
        if let Some(flag) = tuned.into_iter().find(|flag| source.settings.is_set(flag.name)) {
            return Err(Invalid(format!("--{} needs --audit-log-path", flag.name)));
        }
        return Ok(None);
    };
    let bytes_max = source.uint("audit-log-maxsize").saturating_mul(1 << 20);
    let backups = source.uint("audit-log-maxbackup");
    let rotation = (bytes_max > 0).then_some(LogRotation {
        bytes_max,
        days_max: source.uint32("audit-log-maxage"),
        backups_max: u32::try_from(backups).unwrap_or(u32::MAX),
    });
    let policy = text("audit-policy-file").map(PathBuf::from);
    Ok(Some(AuditConfig { path: path.into(), policy, rotation }))
}

/// The JSON that lumberjack takes: MiB (0 means 100), days, count. Local time and compression are
/// not here.
fn rotation(text: &str) -> Result<LogRotation, Invalid> {
    let wrong = |why: String| Invalid(format!("invalid log rotation configuration: {why}"));
    let json: serde_json::Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let map = json.as_object().ok_or_else(|| wrong("not an object".to_owned()))?;
    let get = |name: &str| match map.get(name) {
        None | Some(serde_json::Value::Null) => Ok(0),
        Some(value) => value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| wrong(format!("{name} is not a whole number, 0 or more"))),
    };
    for name in ["localtime", "compress"] {
        if map.get(name).and_then(serde_json::Value::as_bool) == Some(true) {
            return Err(wrong(format!("{name} is not supported in this release")));
        }
    }
    Ok(LogRotation {
        bytes_max: or_default(u64::from(get("maxsize")?), 100) << 20,
        days_max: get("maxage")?,
        backups_max: get("maxbackups")?,
    })
}

fn or_default(given: u64, default: u64) -> u64 {
    if given == 0 { default } else { given }
}

/// etcd's `DefaultConnReadTimeout` and `DefaultConnWriteTimeout`.
const PEER_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// etcd's quota when none is given.
const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;
/// etcd's name when none is given.
pub(crate) const NAME_DEFAULT: &str = "default";
const INITIAL_CLUSTER_DEFAULT: &str = "default=http://localhost:2380";
const PEER_URL_DEFAULT: &str = "http://localhost:2380";
const CLIENT_URL_DEFAULT: &str = "http://localhost:2379";
