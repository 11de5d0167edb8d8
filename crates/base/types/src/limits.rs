//! Every bound, in one place, with where it comes from.
//!
//! "etcd" means the number is etcd's and clients rely on it; "ours" means we
//! chose it.

use std::time::Duration;

/// Size of a WAL segment before it is cut: 64,000,000 bytes (etcd, `wal.SegmentSizeBytes`).
pub const WAL_SEGMENT_BYTES: u64 = 64 * 1000 * 1000;
/// Largest WAL record that is read: a whole segment plus one largest request (ours).
pub const WAL_RECORD_BYTES_MAX: u64 = 512 << 20;

/// Default of `--max-request-bytes` (etcd).
pub const REQUEST_BYTES_DEFAULT: u64 = 1_572_864;
/// What gRPC may add to a request beyond `--max-request-bytes` (etcd, `grpcOverheadBytes`).
pub const GRPC_OVERHEAD_BYTES: u64 = 512 * 1024;
/// Default of `--max-txn-ops` (etcd).
pub const TXN_OPS_DEFAULT: usize = 128;
/// Deepest nesting of transactions that is accepted and read (ours): what etcd's default of
/// 128 operations comes to, each but the last with one nested transaction in it.
pub const TXN_DEPTH_MAX: usize = TXN_OPS_DEFAULT + 1;

/// Largest lease TTL in seconds (etcd).
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;
/// Leases revoked in one turn of the expiry loop (etcd, `leaseRevokeRate` / 2).
pub const LEASE_REVOKES_PER_TURN: usize = 500;
/// Checkpoints of leases in one entry of the log (etcd, `maxLeaseCheckpointBatchSize`).
pub const LEASE_CHECKPOINTS_PER_ENTRY: usize = 1000;
/// Such entries that a leader proposes per turn of its timer, half a second. etcd allows 500
/// (`leaseCheckpointRate`), but waits for each; this many are at most 1 MiB that nobody waits for.
pub const LEASE_CHECKPOINT_ENTRIES_PER_TURN: usize = 50;

/// Largest revision, sub revision or version of a key that is read from a db (ours): nobody gets
/// there by counting, so more is damage, and leaves no room for what follows.
pub const REVISION_MAX: i64 = 1 << 62;

/// Default quota of the backend in bytes (etcd).
pub const QUOTA_BYTES_DEFAULT: i64 = 2 * 1024 * 1024 * 1024;

/// Applied entries between raft snapshots (etcd 3.6).
pub const SNAPSHOT_COUNT_DEFAULT: u64 = 10_000;
/// Entries kept in memory behind a snapshot for slow followers (etcd).
pub const SNAPSHOT_CATCHUP_ENTRIES_DEFAULT: u64 = 5_000;

/// Committed entries that may wait for apply before proposals are refused (etcd, `maxGapBetweenApplyAndCommitIndex`).
pub const APPLY_BACKLOG_ENTRIES_MAX: u64 = 5_000;
/// Read rounds that a leader may hold unconfirmed before it drops new ones (ours).
pub const READS_UNCONFIRMED_MAX: usize = 65_536;
/// Proposals that may wait for the consensus thread (ours).
pub const PROPOSALS_WAITING_MAX: usize = 16_384;

/// Responses that may wait for one watch stream before its watchers turn to history (ours; etcd 128).
pub const WATCH_OUTBOX_RESPONSES_MAX: usize = 256;
/// Bytes that may wait for one watch stream (ours).
pub const WATCH_OUTBOX_BYTES_MAX: usize = 8 << 20;
/// Distinct revisions in one catch-up response (etcd, `watchBatchMaxRevs`).
pub const WATCH_CATCHUP_REVISIONS_MAX: usize = 1_000;
/// Watchers of one stream (ours).
pub const WATCHERS_PER_STREAM_MAX: usize = 1 << 20;

/// Bytes of one blob of a snapshot stream (etcd, `snapshotSendBufferSize`).
pub const SNAPSHOT_BLOB_BYTES: usize = 32 * 1024;

/// Revisions deleted in one slice of a compaction (etcd, `--compaction-batch-limit`).
pub const COMPACTION_BATCH_DEFAULT: usize = 1_000;
/// Operations between commits of the backend (etcd, `--backend-batch-limit`).
pub const BACKEND_BATCH_OPS_DEFAULT: usize = 10_000;

/// Key size limit of the bolt format in bytes (bbolt, `MaxKeySize`).
pub const BOLT_KEY_BYTES_MAX: usize = 32_768;
/// Value size limit of the bolt format in bytes (bbolt, `MaxValueSize`).
pub const BOLT_VALUE_BYTES_MAX: usize = (1 << 31) - 2;

/// Default of `--max-learners` (etcd).
pub const LEARNERS_DEFAULT: usize = 1;

/// Bytes of responses that one streaming call may hold before its handler waits (ours).
pub const SINK_BYTES_MAX: usize = 64 * 1024;
/// Bytes that a connection gathers before it writes in the middle of a turn (ours).
pub const CONNECTION_GATHER_BYTES_MAX: usize = 128 * 1024;
/// Bytes of JSON that all shards together hold for clients of the gateway whose requests are
/// not complete (ours; etcd has no bound).
pub const GATEWAY_TEXT_BYTES_MAX: usize = 32 << 20;
/// Bytes of an answer (etcd, `maxSendBytes`).
pub const RESPONSE_BYTES_MAX: usize = i32::MAX as usize;
/// Bytes of gRPC messages that all shards together hold for clients that have not sent all of
/// them (ours; etcd has no bound).
pub const MESSAGES_UNFINISHED_BYTES_MAX: usize = 256 << 20;
/// Largest header block of a request in bytes (ours; Go: 1 MiB for HTTP, 16 MiB for gRPC).
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Versions that `client-api-version` may name before they are counted as `other` (ours).
pub const CLIENT_API_VERSIONS_MAX: usize = 64;
/// Bytes of a question from another member: of `/leases`, `/leases/internal` (etcd,
/// `maxLeaseHTTPRequestSize`) and `/members/hashkv` (ours).
pub const PEER_QUESTION_BYTES_MAX: usize = 64 * 1024;
/// File descriptors kept back from connections of clients (etcd, `reservedInternalFDNum`):
/// the log, the db, connections to other members, and [`PEER_CONNECTIONS_MIN`] from them.
pub const RESERVED_FDS: u64 = 150;
/// Connections from other members at the same time, where descriptors are few (ours; etcd has
/// no bound): of six members three each for streams and questions, four for POSTs, and some
/// that have not noticed yet that they ended.
pub const PEER_CONNECTIONS_MIN: u64 = 64;
/// And where there are many (ours).
pub const PEER_CONNECTIONS_MAX: u64 = 1_024;

/// Connections of clients, and as many of peers, that have not made a successful call yet (ours;
/// etcd has no bound).
pub const LOBBY_CONNECTIONS_MAX: usize = 2_048;
/// Bytes that they may cost together, as far as they are counted (ours).
pub const LOBBY_BYTES_MAX: usize = 40 << 20;
/// What one of them is counted as when it comes, in bytes (ours): its socket, and half a
/// handshake.
pub const LOBBY_CONNECTION_BYTES: usize = 8 << 10;
/// What one of its calls is counted as, in bytes (ours).
pub const LOBBY_STREAM_BYTES: usize = 4 << 10;
/// What a byte of compressed headers may come to (ours): one names an entry of the table, which
/// takes a hundred bytes in a map of headers.
pub const LOBBY_HEADERS_FACTOR: usize = 64;
/// Calls under way on one connection (ours), where `--max-concurrent-streams` says no less:
/// etcd's default is as many as there are numbers.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 32_768;
/// Frames that carry nothing (PING, SETTINGS, PRIORITY, empty DATA, RST_STREAM, unknown ones) that
/// a connection may send at once (ours), beyond as many as there are frames that carry something.
pub const EMPTY_FRAMES_AT_ONCE: u32 = 1_000;
/// And what it may save up with those that do.
pub const EMPTY_FRAMES_EARNED_MAX: u32 = 100_000;
/// And how many more each second (ours).
pub const EMPTY_FRAMES_PER_SECOND: u32 = 500;
/// Bytes of a range up to which it is read on the connection's own thread (ours), as far as
/// they are known before.
pub const SHARD_RANGE_BYTES_MAX: usize = 1 << 20;
/// Bytes of an answer from which on it takes of the room that large answers share (ours).
pub const LARGE_ANSWER_BYTES: usize = 1 << 20;
/// Bytes of large answers under way on all connections together (ours; etcd has no bound).
pub const ANSWERS_BYTES_MAX: usize = 512 << 20;
/// Keys of a range up to which it is read on the connection's own thread (ours).
pub const SHARD_RANGE_KEYS_MAX: i64 = 1_000;

/// Room in the last segment of the log below which writes are refused while the disk has
/// none for another: deletions, compactions and alarms must still fit (ours).
pub const LOG_RESERVE_BYTES: u64 = 16 << 20;
/// Room that a disk found full must show before writes are taken again (ours).
pub const ROOM_PROBE_BYTES: u64 = 16 << 20;
/// Head of the file that keeps room on the disk in reserve, in bytes (ours).
pub const RESERVE_HEADER_BYTES: u64 = 4096;
/// The reserve is at most this part of the file system (ours).
pub const RESERVE_SHARE: u64 = 16;
/// MiB that a member keeps in reserve on its disk (ours): a segment of the log, or a few
/// commits of the db.
pub const DISK_RESERVE_MIB_DEFAULT: u64 = 64;

const _: () = assert!(LOBBY_CONNECTIONS_MAX * LOBBY_CONNECTION_BYTES <= LOBBY_BYTES_MAX / 2);
const _: () = assert!(PEER_CONNECTIONS_MIN < RESERVED_FDS / 2);
const _: () = assert!(LOG_RESERVE_BYTES < WAL_SEGMENT_BYTES / 2);
const _: () = assert!(WAL_RECORD_BYTES_MAX > REQUEST_BYTES_DEFAULT);
const _: () = assert!(SNAPSHOT_BLOB_BYTES.is_multiple_of(512));

/// Watchers that one catch-up read serves (etcd, `maxWatchersPerSync`).
pub const WATCH_CATCHUP_WATCHERS_MAX: usize = 512;
/// Bytes of events in one catch-up slice, give or take its last revision (ours).
pub const WATCH_CATCHUP_BYTES_MAX: usize = 2 << 20;
/// Catch-up reads under way at once (ours).
pub const WATCH_HISTORY_READS_MAX: usize = 4;
/// Newest revisions that the watch hub keeps at hand while a watcher lags (ours).
pub const WATCH_RECENT_REVISIONS_MAX: usize = 4_096;
/// Bytes of events that the watch hub keeps at hand while a watcher lags (ours).
pub const WATCH_RECENT_BYTES_MAX: usize = 4 << 20;
/// Requests of one watch stream that may wait for the hub before its reader stops (etcd, `ctrlStreamBufLen`).
pub const WATCH_COMMANDS_WAITING_MAX: usize = 16;
/// Batches of events that may wait for the hub before it is told to read them back (ours).
pub const WATCH_BATCHES_WAITING_MAX: usize = 16_384;

/// Messages that may wait for one stream to a peer; more are dropped (etcd, `streamBufSize`).
pub const PEER_STREAM_QUEUE_MAX: usize = 4_096;
/// Messages that may wait for POSTs to a peer; more are dropped (etcd, `pipelineBufSize`).
pub const PEER_PIPELINE_QUEUE_MAX: usize = 64;
/// POSTs of messages to one peer at the same time (etcd, `connPerPipeline`).
pub const PEER_PIPELINE_POSTS: usize = 4;
/// Bytes of one raft message from a peer (etcd, `readBytesLimit`).
pub const PEER_MESSAGE_BYTES_MAX: usize = 512 << 20;
/// Entries of one raft message from a peer (ours): what a leader sends at once is a megabyte.
pub const PEER_MESSAGE_ENTRIES_MAX: usize = 1 << 20;
/// Bytes of the message in front of a snapshot (etcd 3.7.1, `snapshotLimitByte`).
pub const PEER_SNAPSHOT_MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Snapshots that are received at the same time; more are refused (ours).
pub const PEER_SNAPSHOTS_RECEIVED_MAX: usize = 4;
/// Room that a snapshot which arrives must leave on the disk (ours).
pub const PEER_SNAPSHOT_ROOM_LEFT_BYTES: u64 = 256 << 20;
/// Bytes of a snapshot that must arrive each second, on average, once [`PEER_SNAPSHOT_GRACE_SECONDS`]
/// are over (ours): whoever is slower keeps others out.
pub const PEER_SNAPSHOT_BYTES_PER_SECOND_MIN: u64 = 16 << 10;
/// How long a snapshot may be as slow as it likes (ours).
pub const PEER_SNAPSHOT_GRACE_SECONDS: u64 = 60;
/// Bytes of messages that have not arrived whole, of all peers together (ours): one that is as
/// large as can be, and some more.
pub const PEER_UNFINISHED_BYTES_MAX: usize = PEER_MESSAGE_BYTES_MAX + (64 << 20);
/// Bytes of a snapshot that are read from the disk at once (ours).
pub const PEER_SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
/// Chunks of a snapshot between the disk and the network (ours).
pub const PEER_SNAPSHOT_CHUNKS_WAITING_MAX: usize = 4;
/// Encoded bytes that a stream hands to its connection at once, give or take a message (ours).
pub const PEER_STREAM_GATHER_BYTES: usize = 256 << 10;
/// Members outside the known cluster that are answered (ours; etcd has no bound).
pub const PEER_REMOTES_MAX: usize = 64;
/// Bytes of an answer from a peer (etcd, what it takes for one of `/leases`).
pub const PEER_ANSWER_BYTES_MAX: usize = 100 << 20;
/// Questions to peers without an answer yet (ours).
pub const PEER_CALLS_WAITING_MAX: usize = 1_024;
/// Idle connections kept to one peer (ours): as many as there are POSTs, and two for questions.
pub const PEER_IDLE_CONNECTIONS_MAX: usize = PEER_PIPELINE_POSTS + 2;

/// Longest password in bytes (etcd): bcrypt looks at no more.
pub const PASSWORD_BYTES_MAX: usize = 72;
/// Default of `--bcrypt-cost` (etcd).
pub const BCRYPT_COST_DEFAULT: u32 = 10;

/// Bytes of an answer that a member reads before it has a log: a list of members, a folder of a
/// discovery service (ours).
pub const BOOTSTRAP_ANSWER_BYTES_MAX: usize = 4 << 20;
/// Members that a discovery service may name (ours).
pub const DISCOVERY_MEMBERS_MAX: usize = 1_024;
/// Bytes of a DNS answer over UDP; what is cut off is asked for over TCP (ours).
pub const DNS_UDP_ANSWER_BYTES_MAX: usize = 4_096;
/// Name servers that are asked (as in resolv.conf).
pub const DNS_SERVERS_MAX: usize = 3;
/// Suffixes that are tried (as in resolv.conf).
pub const DNS_SEARCH_MAX: usize = 6;

/// Bytes of messages from other members that wait for the consensus thread. What comes
/// beyond is dropped, which raft makes good.
pub const PEER_INBOX_BYTES_MAX: usize = 256 << 20;

/// Messages with proposals of followers that a leader keeps while it hands over; what comes
/// beyond is dropped.
pub const PROPOSALS_HELD_MAX: usize = 1_024;
/// Bytes of their entries.
pub const PROPOSALS_HELD_BYTES_MAX: usize = 64 << 20;

/// Different texts that one label of a metric may have (ours).
pub const METRIC_REASONS_MAX: usize = 32;

/// Bytes of a snapshot file that a restore holds at once (ours).
pub const RESTORE_PIECE_BYTES: usize = 1 << 20;

/// Clients that may wait for one defragmentation; one more is told to try again (ours).
pub const DEFRAGMENTS_WAITING_MAX: usize = 1024;

/// Dbs that a member hands at the same time to members that have lost theirs (ours).
pub const PEER_DB_OFFERS_MAX: usize = 2;

/// Simple tokens that a member remembers; at the bound those that were not shown for longest
/// are forgotten (ours).
pub const SIMPLE_TOKENS_MAX: usize = 100_000;

/// Logins that wait to be looked at; one more is told to try again, or one of the origin of which
/// most wait (ours).
pub const PASSWORDS_WAITING_MAX: usize = 256;
/// Passwords to be hashed and tokens to be signed that wait; one more is told to try again (ours).
pub const OWN_JOBS_WAITING_MAX: usize = 1_024;
/// Logins with the same name and password that wait for one answer; one more is told to try
/// again (ours).
pub const LOGINS_JOINED_MAX: usize = 4_096;
/// Threads that compare passwords; half of the cores, if that is fewer (ours).
pub const PASSWORD_THREADS_MAX: usize = 4;
/// The bcrypt cost up to which a wrong login takes as long as one of the dearest user (ours).
pub const BCRYPT_PADDED_COST_MAX: u32 = 14;

/// Wrong passwords that one origin may show for one user at once, before it has to wait (ours).
pub const GUESSES_BURST: u32 = 30;
/// After which time it may show another one.
pub const GUESSES_INTERVAL: Duration = Duration::from_secs(1);
/// Wrong passwords that one origin may show at once, whoever's, before it has to wait (ours).
pub const GUESSES_OF_ORIGIN_BURST: u32 = 300;
/// After which time it may show another one.
pub const GUESSES_OF_ORIGIN_INTERVAL: Duration = Duration::from_millis(100);
/// Origins, and users of origins, whose wrong passwords are remembered; at the bound the half
/// that has shown the fewest is forgotten (ours).
pub const GUESSES_REMEMBERED_MAX: usize = 20_000;

/// Users whose last right login is remembered; at the bound those that were not asked for
/// longest are forgotten (ours).
pub const LOGINS_REMEMBERED_MAX: usize = 10_000;
/// For how long a right login is remembered (ours).
pub const LOGIN_REMEMBERED_FOR: Duration = Duration::from_secs(3_600);
/// For how long without being asked for (ours).
pub const LOGIN_IDLE_MAX: Duration = Duration::from_secs(600);

/// Bytes of a signed token; a longer one is not looked at (ours).
pub const JWT_BYTES_MAX: usize = 8 << 10;
/// Signed tokens that are remembered as verified; at the bound all are verified again (ours).
pub const JWTS_REMEMBERED_MAX: usize = 4_096;

/// Leases that one keepalive stream is looked after for when permissions change (ours): of
/// more, those beyond are looked at when they are next renewed.
pub const STREAM_LEASES_MAX: usize = 1_024;

/// Bytes of one key that a line of the audit log shows (ours).
pub const AUDIT_KEY_BYTES_MAX: usize = 1024;
/// Bytes of all keys that a line of the audit log shows (ours).
pub const AUDIT_KEYS_BYTES_MAX: usize = 8 * 1024;
/// Records that wait for the audit log's file before calls wait for room (ours).
pub const AUDIT_RECORDS_WAITING_MAX: usize = 4096;
