//! What a member runs with.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::Version;

use crate::{Gates, Invalid, Url};

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
    /// `name=url,...` as given; counts only at bootstrap, see [`Config::initial_members`].
    pub initial_cluster: String,
    /// Mixed into cluster and member ids.
    pub initial_cluster_token: String,
    /// Cluster version that a bootstrap writes (ours, default 3.7).
    pub initial_cluster_version: Version,
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
    /// Slower applies are logged.
    pub warning_apply_duration: Duration,
    /// Slower calls are logged.
    pub warning_unary_request_duration: Duration,
    /// TLS towards clients.
    pub client_tls: TlsFiles,
    /// TLS between members.
    pub peer_tls: TlsFiles,
    /// Origins that browsers may call from; `*` is all.
    pub cors: Vec<String>,
    /// Hosts that plain HTTP requests may name; `*` is all. Never empty: a list that was given as
    /// an empty text holds the empty name, which is nobody's.
    pub host_whitelist: Vec<String>,
    /// Lowest TLS version, both sides.
    pub tls_min_version: TlsVersion,
    /// Highest TLS version; the newest when `None`.
    pub tls_max_version: Option<TlsVersion>,
    /// Work for hashing a password, 4 to 31.
    pub bcrypt_cost: u32,
    /// Life of a simple token.
    pub auth_token_ttl: Duration,
    /// The log.
    pub log: LogConfig,
    /// Whether gRPC handling times are exported as histograms.
    pub metrics_extensive: bool,
    /// Whether nothing waits for the disk.
    pub unsafe_no_fsync: bool,
    /// Why a new member cannot be made of this, though etcd could: a flag that only counts then
    /// asks for what this release does not have. `None` when it can.
    pub new_member_obstacle: Option<String>,
    /// Whether nothing at all was configured; see [`crate::greeting`].
    pub all_defaults: bool,
}

/// The database's size and rhythm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendConfig {
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

impl Config {
    /// Whether this member and name are known to `--initial-cluster`, with which URLs.
    ///
    /// Call it before founding a cluster; a member that has data never looks at the flag again.
    ///
    /// # Errors
    ///
    /// In etcd's words, when the list cannot be read, names this member not at all or with other
    /// URLs than `--initial-advertise-peer-urls`, or has a URL twice. URLs with names are the
    /// same as those with the addresses that `resolve` gives for them.
    pub fn initial_members(
        &self,
        resolve: &dyn Fn(&Url) -> Result<IpAddr, String>,
    ) -> Result<Vec<(String, Vec<Url>)>, Invalid> {
        let mut members: Vec<(String, Vec<Url>)> = Vec::new();
        for part in self.initial_cluster.split(',').filter(|part| !part.is_empty()) {
            let (name, url) = part.split_once('=').unwrap_or((part, ""));
            let url = Url::parse(url)
                .map_err(|e| Invalid(format!("error setting up initial cluster: {e}")))?;
            match members.iter_mut().find(|(known, _)| known == name) {
                Some((_, urls)) => urls.push(url),
                None => members.push((name.to_owned(), vec![url])),
            }
        }
        let mut seen: Vec<&Url> = members.iter().flat_map(|(_, urls)| urls).collect();
        seen.sort();
        if seen.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Invalid(format!(
                "initial cluster {} has duplicate url",
                self.initial_cluster
            )));
        }
        members.iter_mut().for_each(|(_, urls)| urls.sort());
        self.check_own(&members, resolve)?;
        Ok(members)
    }

    fn check_own(
        &self,
        members: &[(String, Vec<Url>)],
        resolve: &dyn Fn(&Url) -> Result<IpAddr, String>,
    ) -> Result<(), Invalid> {
        let Some((_, own)) = members.iter().find(|(name, _)| *name == self.name) else {
            return Err(Invalid(format!(
                "couldn't find local name {:?} in the initial cluster configuration",
                self.name
            )));
        };
        let advertised = &self.initial_advertise_peer_urls;
        let Err(why) = same_places(own, advertised, resolve) else { return Ok(()) };
        let pairs = |urls: &mut dyn Iterator<Item = &Url>| {
            urls.map(|url| format!("{}={url}", self.name)).collect::<Vec<_>>().join(",")
        };
        let list = |urls: &[Url]| urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
        let lacks = |list: &[Url], url: &&Url| !list.contains(url);
        let extra = pairs(&mut own.iter().filter(|url| lacks(advertised, url)));
        let missing = pairs(&mut advertised.iter().filter(|url| lacks(own, url)));
        Err(Invalid(if extra.is_empty() {
            format!(
                "--initial-advertise-peer-urls has {missing} but missing from \
                 --initial-cluster={}",
                self.initial_cluster
            )
        } else {
            format!(
                "--initial-cluster has {extra} but missing from \
                 --initial-advertise-peer-urls={} ({why})",
                list(advertised)
            )
        }))
    }
}

/// Whether two lists name the same places (etcd's `URLStringsEqual`): as they stand, else after
/// names were resolved. `localhost` and sockets are never resolved.
fn same_places(
    a: &[Url],
    b: &[Url],
    resolve: &dyn Fn(&Url) -> Result<IpAddr, String>,
) -> Result<(), String> {
    let quoted = |urls: &[Url]| {
        let texts: Vec<String> = urls.iter().map(|url| format!("{:?}", url.as_str())).collect();
        format!("[{}]", texts.join(" "))
    };
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", quoted(b), quoted(a)));
    }
    // Two spellings of an address are one.
    let plain = |url: &Url| match url.host().parse::<IpAddr>() {
        Ok(address) => url.with_host(&address.to_string()),
        Err(_) => url.clone(),
    };
    if a.iter().map(plain).eq(b.iter().map(plain)) {
        return Ok(());
    }
    let resolved = |urls: &[Url]| -> Result<Vec<Url>, String> {
        let one = |url: &Url| {
            if url.socket_path().is_some() || url.host() == "localhost" {
                return Ok(url.clone());
            }
            let address = match url.host().parse() {
                Ok(address) => address,
                Err(_) => resolve(url)
                    .map_err(|e| format!("failed to resolve {:?} ({e})", url.as_str()))?,
            };
            Ok(url.with_host(&address.to_string()))
        };
        let mut urls = urls.iter().map(one).collect::<Result<Vec<Url>, String>>()?;
        urls.sort();
        Ok(urls)
    };
    let (a, b) = (resolved(a)?, resolved(b)?);
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        None => Ok(()),
        Some((a, b)) => Err(format!("resolved urls: {:?} != {:?}", b.as_str(), a.as_str())),
    }
}
