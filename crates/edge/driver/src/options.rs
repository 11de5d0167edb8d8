//! What a member is started with.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_types::Version;

/// Everything that decides how a member boots and runs. Made by the binary from
/// the flag table; times and sizes are checked there.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--name`.
    pub name: String,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--wal-dir`, or `member/wal` of the data directory.
    pub wal_dir: Option<PathBuf>,
    /// `--initial-advertise-peer-urls`, sorted.
    pub peer_urls: Vec<String>,
    /// `--advertise-client-urls`, sorted.
    pub client_urls: Vec<String>,
    /// `--initial-cluster-token`.
    pub cluster_token: String,
    /// `--initial-cluster-version`: the version a new cluster is born with.
    pub initial_cluster_version: Version,
    /// `--heartbeat-interval`: one raft tick.
    pub tick: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--snapshot-count`: applied entries between raft snapshots.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`: entries kept behind a snapshot.
    pub snapshot_catchup_entries: u64,
    /// `--max-snapshots`; 0 keeps all.
    pub max_snapshots: usize,
    /// `--max-wals`; 0 keeps all.
    pub max_wals: usize,
    /// `--quota-backend-bytes` as given: 0 is etcd's default, negative no quota.
    pub quota_bytes: i64,
    /// `--backend-batch-interval`.
    pub backend_batch_interval: Duration,
    /// `--backend-batch-limit`: operations.
    pub backend_batch_ops: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-request-bytes`.
    pub max_request_bytes: u64,
    /// `--compaction-batch-limit`: revisions deleted per slice.
    pub compaction_batch: usize,
    /// `--compaction-sleep-interval`.
    pub compaction_pause: Duration,
    /// `--auto-compaction-mode` and `-retention`; `None` is off.
    pub auto_compaction: Option<AutoCompaction>,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
    /// `--warning-apply-duration`.
    pub warning_apply: Duration,
    /// `--unsafe-no-fsync`.
    pub no_fsync: bool,
}

/// How old revisions are compacted without being asked (semantics 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Keep what changed within this time.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(i64),
}

impl Options {
    /// 5 s for the request itself, and two elections (etcd, `ReqTimeout`).
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// Ticks of an election timeout (etcd divides and rounds down).
    pub fn election_ticks(&self) -> usize {
        (self.election_timeout.as_millis() / self.tick.as_millis().max(1)).max(1) as usize
    }

    /// The smallest lease TTL in seconds: 1.5 election timeouts, rounded up.
    pub fn min_lease_ttl(&self) -> i64 {
        let millis = self.election_timeout.as_millis() as i64 * 3 / 2;
        (millis + 999) / 1000
    }

    /// `member/` of the data directory.
    pub fn member_dir(&self) -> PathBuf {
        self.data_dir.join("member")
    }

    /// Where the WAL lies.
    pub fn wal_path(&self) -> PathBuf {
        self.wal_dir.clone().unwrap_or_else(|| self.member_dir().join("wal"))
    }

    /// Where `.snap` files and the db lie.
    pub fn snap_path(&self) -> PathBuf {
        self.member_dir().join("snap")
    }

    /// The db file.
    pub fn db_path(&self) -> PathBuf {
        self.snap_path().join("db")
    }
}

impl Default for Options {
    /// etcd's defaults, with the data in `default.etcd`.
    fn default() -> Options {
        use mainstay_types::limits as l;
        Options {
            name: "default".into(),
            data_dir: "default.etcd".into(),
            wal_dir: None,
            peer_urls: vec!["http://localhost:2380".into()],
            client_urls: vec!["http://localhost:2379".into()],
            cluster_token: "etcd-cluster".into(),
            initial_cluster_version: Version::line(3, 7),
            tick: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
            snapshot_count: l::SNAPSHOT_COUNT_DEFAULT,
            snapshot_catchup_entries: l::SNAPSHOT_CATCHUP_ENTRIES_DEFAULT,
            max_snapshots: 5,
            max_wals: 5,
            quota_bytes: 0,
            backend_batch_interval: Duration::from_millis(100),
            backend_batch_ops: l::BACKEND_BATCH_OPS_DEFAULT,
            max_txn_ops: l::TXN_OPS_DEFAULT,
            max_request_bytes: l::REQUEST_BYTES_DEFAULT,
            compaction_batch: l::COMPACTION_BATCH_DEFAULT,
            compaction_pause: Duration::from_millis(10),
            auto_compaction: None,
            watch_progress_interval: Duration::from_secs(600),
            warning_apply: Duration::from_millis(100),
            no_fsync: false,
        }
    }
}
