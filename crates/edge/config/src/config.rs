//! What a member runs with.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::Version;

use crate::{Gates, Url};

/// The whole configuration, checked. Zeros that etcd replaces are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of this member.
    pub name: String,
    /// Where everything is kept; never empty.
    pub data_dir: PathBuf,
    /// A dedicated place for the log, else it is below the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Applied entries between raft snapshots, at least 1.
    pub snapshot_count: u64,
    /// Entries kept after a snapshot for followers that lag, at least 1.
    pub snapshot_catchup_entries: u64,
    /// One raft tick.
    pub heartbeat_interval: Duration,
    /// At least five heartbeats.
    pub election_timeout: Duration,
    /// Whether the first election may come early.
    pub initial_election_tick_advance: bool,
    /// Where other members connect.
    pub listen_peer_urls: Vec<Url>,
    /// Where clients connect.
    pub listen_client_urls: Vec<Url>,
    /// Where clients connect for HTTP alone; when given, [`Config::listen_client_urls`] carry
    /// gRPC alone.
    pub listen_client_http_urls: Vec<Url>,
    /// Where only metrics and health are served.
    pub listen_metrics_urls: Vec<Url>,
    /// Peer URLs written to the membership at bootstrap.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// Client URLs published to the cluster.
    pub advertise_client_urls: Vec<Url>,
    /// `name=url,...`; counts only for a member without a log. Empty when a discovery names the
    /// members.
    pub initial_cluster: String,
    /// Whether a member without a log founds a cluster or joins one.
    pub initial_cluster_state: ClusterState,
    /// The discovery service of the v3 kind.
    pub discovery: DiscoveryConfig,
    /// The folder of the cluster at a discovery service of the old kind; empty for none.
    pub discovery_url: String,
    /// The proxy through which [`Config::discovery_url`] is reached; empty for none.
    pub discovery_proxy: String,
    /// The domain whose SRV records name the members; empty for none.
    pub discovery_srv: String,
    /// Put behind the names of the services that are asked for.
    pub discovery_srv_name: String,
    /// Whether a member that has a log becomes the only one of its cluster.
    pub force_new_cluster: bool,
    /// Mixed into cluster and member ids.
    pub initial_cluster_token: String,
    /// Cluster version that a bootstrap writes (ours, default 3.7).
    pub initial_cluster_version: Version,
    /// Whether the cluster version stays until an operator raises it (ours, default true); else the
    /// leader raises it to what all members can, as etcd does.
    pub hold_cluster_version: bool,
    /// Wait for bytes on a connection between members, at least 5 s.
    pub peer_read_timeout: Duration,
    /// Wait for room on a connection between members, at least 5 s.
    pub peer_write_timeout: Duration,
    /// `.snap` files kept, 0 all.
    pub max_snapshots: u64,
    /// Log files kept, 0 all.
    pub max_wals: u64,
    /// The database.
    pub backend: BackendConfig,
    /// Most operations in one list of a transaction.
    pub max_txn_ops: u64,
    /// Largest proposed request.
    pub max_request_bytes: u64,
    /// HTTP/2 streams per client connection.
    pub max_concurrent_streams: u32,
    /// Pings on client connections.
    pub keepalive: KeepaliveConfig,
    /// Whether the JSON gateway is served.
    pub enable_grpc_gateway: bool,
    /// Feature gates.
    pub gates: Gates,
    /// Whether raft asks before it stands for election.
    pub pre_vote: bool,
    /// Whether changes that would lose the quorum are refused.
    pub strict_reconfig_check: bool,
    /// Most learners.
    pub max_learners: u64,
    /// How history goes.
    pub compaction: CompactionConfig,
    /// Time between progress notices.
    pub watch_progress_notify_interval: Duration,
    /// Time between comparisons with other members; zero makes none.
    pub corrupt_check_time: Duration,
    /// Time between comparisons of compaction hashes.
    pub compact_hash_check_time: Duration,
    /// Time between looks at a downgrade; zero never looks.
    pub downgrade_check_time: Duration,
    /// Whether members are talked to, with authentication on, that decide some requests otherwise
    /// than 3.7.1 (ours).
    pub old_members_with_auth: bool,
    /// Whether a start fetches from another member what is damaged or missing here (ours, default
    /// true).
    pub repair_from_peers: bool,
    /// How often every page of the db is looked at (ours, default 24 h); zero is never.
    pub scrub_period: Duration,
    /// How fast, in MB/s (ours, default 16).
    pub scrub_rate_megabytes: u64,
    /// Time between two checkpoints of a lease, at least 1 s; counts with gate `LeaseCheckpoint`.
    pub lease_checkpoint_interval: Duration,
    /// Slower applies are logged.
    pub warning_apply_duration: Duration,
    /// Slower calls are logged.
    pub warning_unary_request_duration: Duration,
    /// TLS towards clients.
    pub client_tls: TlsFiles,
    /// TLS between members.
    pub peer_tls: TlsFiles,
    /// Years for which a certificate that this member makes is good, at least 1.
    pub self_signed_cert_validity: u64,
    /// Origins that browsers may call from; `*` is all.
    pub cors: Vec<String>,
    /// Hosts that plain HTTP requests may name; `*` is all. Never empty: a list that was given as
    /// an empty text holds the empty name, which is nobody's.
    pub host_whitelist: Vec<String>,
    /// Lowest TLS version, both sides.
    pub tls_min_version: TlsVersion,
    /// Highest TLS version; the newest when `None`.
    pub tls_max_version: Option<TlsVersion>,
    /// Suites of TLS 1.2 that are spoken, by IANA's names; `None` for all that there are. Those of
    /// TLS 1.3 are not to choose: when only such were named there is none of TLS 1.2.
    pub cipher_suites: Option<Vec<String>>,
    /// How clients log in.
    pub auth: AuthConfig,
    /// The log.
    pub log: LogConfig,
    /// The audit log (ours); there is none without it.
    pub audit: Option<AuditConfig>,
    /// Whether gRPC handling times are exported as histograms.
    pub metrics_extensive: bool,
    /// Whether nothing waits for the disk.
    pub unsafe_no_fsync: bool,
    /// Whether nothing at all was configured; see [`crate::greeting`].
    pub all_defaults: bool,
}

/// What `--initial-cluster-state` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// The member founds a cluster.
    New,
    /// The member joins a cluster.
    Existing,
}

impl fmt::Display for ClusterState {
    /// As the flag has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClusterState::New => "new",
            ClusterState::Existing => "existing",
        })
    }
}

/// The discovery service of the v3 kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryConfig {
    /// Its endpoints; none when it is not used.
    pub endpoints: Vec<String>,
    /// What the cluster is called there; empty exactly if there are no endpoints.
    pub token: String,
    /// For a connection.
    pub dial_timeout: Duration,
    /// For a request.
    pub request_timeout: Duration,
    /// Silence after which the connection is probed.
    pub keepalive_time: Duration,
    /// Wait for the answer to a probe.
    pub keepalive_timeout: Duration,
    /// Whether TLS is left out when no file asks for it.
    pub insecure_transport: bool,
    /// Whether any certificate of the service is taken.
    pub insecure_skip_verify: bool,
    /// Our certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Authorities that vouch for the service, PEM.
    pub ca: Option<PathBuf>,
    /// Who we are there; empty for nobody.
    pub user: String,
    /// How we prove it.
    pub password: Password,
}

/// A password, which is for nobody who reads a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Keeps it.
    pub fn new(text: String) -> Password {
        Password(text)
    }

    /// What it is.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "..." })
    }
}

/// The database's size and rhythm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendConfig {
    /// Percentage of the quota at which this member takes its NOSPACE alarm back, at most 95; 0
    /// never (ours).
    pub quota_auto_disarm_percent: u64,
    /// MiB held in reserve for when the disk is full, at most 1/16 of it; 0 none (ours).
    pub disk_reserve_megabytes: u64,
    /// A start rewrites the db when that frees so many MiB; 0 never.
    pub bootstrap_defrag_threshold_megabytes: u64,
    /// Bytes the database may reach; `None` sets no limit.
    pub quota_bytes: Option<u64>,
    /// Longest time between commits.
    pub batch_interval: Duration,
    /// Most operations between commits.
    pub batch_limit: u64,
}

/// Pings on client connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepaliveConfig {
    /// A client that pings faster is cut off.
    pub min_time: Duration,
    /// Time between the server's pings; zero sends none.
    pub interval: Duration,
    /// Wait for the answer to a ping; zero waits for ever.
    pub timeout: Duration,
}

/// How history goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionConfig {
    /// What is compacted without being asked.
    pub auto: AutoCompaction,
    /// Revisions deleted in one step, at least 1.
    pub batch_limit: u64,
    /// Rest between two steps.
    pub sleep_interval: Duration,
}

/// Files of one side's TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// Certificate chain, PEM. Present exactly if the key is.
    pub cert: Option<PathBuf>,
    /// Private key, PEM.
    pub key: Option<PathBuf>,
    /// Authorities that vouch for callers, PEM.
    pub trusted_ca: Option<PathBuf>,
    /// Whether callers were explicitly asked for a certificate.
    pub cert_auth: bool,
    /// Certificates that do not count any more, DER or PEM.
    pub crl: Option<PathBuf>,
    /// Whether this member makes its own certificate, because none was given; members then take
    /// any of each other.
    pub auto: bool,
    /// Certificate chain for calls that this side makes, PEM, when it is another. Present exactly
    /// if its key is. Only between members.
    pub client_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub client_key: Option<PathBuf>,
    /// Common names, one of which a caller's certificate has to carry; empty allows all. Only
    /// between members.
    pub allowed_cns: Vec<String>,
    /// Host names, one of which a caller's certificate has to be for; empty allows all. Never
    /// together with [`TlsFiles::allowed_cns`].
    pub allowed_hostnames: Vec<String>,
    /// Whether a caller's address is not held against its certificate. Only between members.
    pub skip_client_san_verification: bool,
}

impl TlsFiles {
    /// Whether callers have to show a certificate: asked for, or implied by naming authorities.
    pub fn requires_caller_cert(&self) -> bool {
        self.cert_auth || self.trusted_ca.is_some()
    }
}

/// TLS versions that etcd speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// What history is compacted without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// None.
    Off,
    /// Everything older.
    Periodic(Duration),
    /// Everything but this many revisions.
    Revision(i64),
}

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `debug`, `info`, `warn`, `error`, `dpanic`, `panic` or `fatal`.
    pub level: String,
    /// Look of a line.
    pub format: LogFormat,
    /// Every line goes to each.
    pub outputs: Vec<LogOutput>,
    /// When the one file among the outputs starts anew.
    pub rotation: Option<LogRotation>,
}

/// Look of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// For eyes.
    Console,
}

/// Where a log line goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error; also for the journal, which systemd makes of it.
    Stderr,
    /// Standard output.
    Stdout,
    /// This file.
    File(PathBuf),
}

/// When a log file is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRotation {
    /// Size at which a new file is started.
    pub bytes_max: u64,
    /// Days for which old files are kept, 0 for ever.
    pub days_max: u32,
    /// Old files that are kept, 0 all.
    pub backups_max: u32,
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// The file.
    pub path: PathBuf,
    /// The file with its policy; `None` for the one that is built in.
    pub policy: Option<PathBuf>,
    /// When the file starts anew; never when `None`.
    pub rotation: Option<LogRotation>,
}

/// How clients log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthConfig {
    /// Work for hashing a password, 4 to 31.
    pub bcrypt_cost: u32,
    /// Kind of tokens and their options, as they were given: whoever makes tokens reads them.
    pub token: String,
    /// Life of a simple token.
    pub token_ttl: Duration,
}
