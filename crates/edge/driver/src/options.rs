//! What a member is started with.

use std::path::PathBuf;
use std::time::Duration;

use mainstay_membership::Member;
use mainstay_types::{ClusterId, MemberId, Version};

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
    /// How a directory without a log comes to life; not read when there is one.
    pub founding: Founding,
    /// `--force-new-cluster`: forget the other members of a directory's cluster.
    pub force_new_cluster: bool,
    /// `--advertise-client-urls`, sorted.
    pub client_urls: Vec<String>,
    /// `--initial-cluster-version`: the version a new cluster is born with.
    pub initial_cluster_version: Version,
    /// `--hold-cluster-version`: only `etcdctl upgrade finalize` raises the version of a
    /// cluster that has one.
    pub hold_cluster_version: bool,
    /// `--max-learners`.
    pub learners_max: usize,
    /// `--heartbeat-interval`: one raft tick.
    pub tick: Duration,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--initial-election-tick-advance`: the first election comes early once the others
    /// are there.
    pub initial_election_tick_advance: bool,
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
    /// `--corrupt-check-time`: how often a leader compares what all members hold.
    pub corrupt_check_every: Option<Duration>,
    /// Gate `CompactHashCheck` and `--compact-hash-check-time`: how often a leader compares
    /// what the members remember of compactions.
    pub compact_hash_check_every: Option<Duration>,
    /// Gate `InitialCorruptCheck`: compare with the others before serving.
    pub initial_corrupt_check: bool,
    /// `--downgrade-check-time`: how often a leader looks whether a downgrade has come to its
    /// end.
    pub downgrade_check_every: Option<Duration>,
    /// Gate `LeaseCheckpoint` and `--lease-checkpoint-interval`: how often what is left of a
    /// long lease is put through the log.
    pub lease_checkpoint_every: Option<Duration>,
    /// Gate `LeaseCheckpointPersist`: what the log says of that is stored below cluster
    /// version 3.6, too.
    pub persist_lease_checkpoints: bool,
    /// `--unsafe-old-members-with-auth`: with authentication on, members are talked to that
    /// decide some entries otherwise than 3.7.1.
    pub old_members_with_auth: bool,
    /// `--auth-token simple` and `--auth-token-ttl`: how long a token that entries make is good
    /// when nobody shows it; `None` when clients show tokens of another kind.
    pub simple_token_ttl: Option<Duration>,
    /// `--quota-auto-disarm-percent`: this member takes its NOSPACE alarm back once its db is at
    /// most so many percent of the quota; 0 never.
    pub quota_auto_disarm_percent: u64,
    /// `--disk-reserve-megabytes`: MiB kept for when the disk is full, and left free by
    /// refusing writes; 0 none.
    pub disk_reserve_mib: u64,
    /// `--bootstrap-defrag-threshold-megabytes`: a start rewrites the db when that frees so many
    /// MiB; 0 never.
    pub bootstrap_defrag_threshold_mib: u64,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
    /// `--warning-apply-duration`.
    pub warning_apply: Duration,
    /// `--repair-from-peers`: a start that finds its db damaged, missing or behind its log
    /// fetches that of another member, and this one gives its own.
    pub repair_from_peers: bool,
    /// `--scrub-period`: how often every page of the db is looked at; zero is never.
    pub scrub_period: Duration,
    /// `--scrub-rate`: how fast, in bytes per second.
    pub scrub_bytes_per_second: u64,
    /// How long the others are asked for one.
    pub repair_patience: Duration,
    /// The members of `--initial-cluster`: whom to ask when nothing else is left that tells.
    pub listed: Vec<Member>,
    /// `--unsafe-no-fsync`.
    pub no_fsync: bool,
}

/// How a directory without a log comes to life. Made from the flags, and from what other
/// members or a discovery service say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Founding {
    /// A first member of a new cluster; every one of them is told the same.
    New {
        /// Which of `members` this is.
        me: MemberId,
        /// All of them, with ids, names and peer URLs.
        members: Vec<Member>,
    },
    /// A member that was added to a cluster that runs.
    Join {
        /// The cluster.
        cluster: ClusterId,
        /// Which of `members` this is.
        me: MemberId,
        /// The members as the cluster has them.
        members: Vec<Member>,
    },
}

impl Founding {
    /// A new cluster of one.
    pub fn alone(name: &str, peer_urls: Vec<String>, token: &str) -> Founding {
        let me = mainstay_membership::member_id(&peer_urls, token, None);
        let member = Member { id: me, name: name.to_owned(), peer_urls, ..Member::default() };
        Founding::New { me, members: vec![member] }
    }

    /// The members that were named.
    pub fn members(&self) -> &[Member] {
        match self {
            Founding::New { members, .. } | Founding::Join { members, .. } => members,
        }
    }
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

    /// The checksums of its pages.
    pub fn sums_path(&self) -> PathBuf {
        self.member_dir().join("mainstay").join("pages")
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
            founding: Founding::alone(
                "default",
                vec!["http://localhost:2380".into()],
                "etcd-cluster",
            ),
            force_new_cluster: false,
            client_urls: vec!["http://localhost:2379".into()],
            initial_cluster_version: Version::line(3, 7),
            hold_cluster_version: true,
            learners_max: l::LEARNERS_DEFAULT,
            tick: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
            initial_election_tick_advance: true,
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
            corrupt_check_every: None,
            compact_hash_check_every: None,
            initial_corrupt_check: false,
            downgrade_check_every: Some(Duration::from_secs(5)),
            lease_checkpoint_every: None,
            persist_lease_checkpoints: false,
            old_members_with_auth: false,
            simple_token_ttl: Some(Duration::from_secs(300)),
            quota_auto_disarm_percent: 0,
            disk_reserve_mib: l::DISK_RESERVE_MIB_DEFAULT,
            bootstrap_defrag_threshold_mib: 0,
            watch_progress_interval: Duration::from_secs(600),
            warning_apply: Duration::from_millis(100),
            repair_from_peers: true,
            repair_patience: Duration::from_secs(60),
            scrub_period: Duration::from_secs(24 * 3600),
            scrub_bytes_per_second: 16 << 20,
            listed: Vec::new(),
            no_fsync: false,
        }
    }
}
