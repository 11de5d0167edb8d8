//! What the server asks of the member behind it.
//!
//! The services are written against this trait, so that they can be tested over
//! a member made of a few maps. The real one is `mainstay_driver::Handle`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::{ClusterId, Index, MemberId, Term, Version};

use crate::call::Call;
use crate::cluster::{Cluster, Led};
use crate::status::Status;
use crate::stream::{RequestMessages, ResponseSink};

/// Who the member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
}

/// How the member stands right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Current term.
    pub term: Term,
    /// The leader, or [`MemberId::NONE`].
    pub leader: MemberId,
    /// Last committed entry.
    pub committed: Index,
    /// Last applied entry.
    pub applied: Index,
    /// Whether this member may not vote.
    pub learner: bool,
}

/// Settings of the member that the server acts on or shows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--max-request-bytes`.
    pub max_request_bytes: u64,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// How long a request may take before the member answers with a timeout.
    pub request_timeout: Duration,
    /// Quota of the backend in bytes; `None` is no quota.
    pub quota_bytes: Option<u64>,
}

/// The answer to a range read.
#[derive(Clone, Debug, Default)]
pub struct RangeAnswer {
    /// Encoded `mvccpb.KeyValue`s, in the order asked for.
    pub kvs: Vec<Bytes>,
    /// Whether the limit cut keys off.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: i64,
    /// The store's revision when it was read, for the header.
    pub revision: i64,
}

/// Sizes and counts of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the db that are allocated.
    pub db: u64,
    /// Bytes of the db that hold data.
    pub db_in_use: u64,
    /// Live keys.
    pub keys: u64,
    /// Current revision.
    pub revision: i64,
    /// Compacted revision; -1 before the first compaction.
    pub compacted: i64,
    /// Read transactions open.
    pub open_readers: u64,
    /// Proposals without an answer yet.
    pub proposals_pending: u64,
    /// Proposals that failed or timed out.
    pub proposals_failed: u64,
    /// Leaders seen.
    pub leader_changes: u64,
    /// Bytes that are free on the disk.
    pub disk_free: u64,
    /// Bytes of the disk that the member holds in reserve.
    pub disk_reserve: u64,
}

/// The answer to `HashKV`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKv {
    /// The hash.
    pub hash: u32,
    /// The compacted revision that it leaves out.
    pub compact_revision: i64,
    /// The revision that it covers.
    pub hash_revision: i64,
    /// The store's revision.
    pub revision: i64,
}

/// The bytes of a db file as one read transaction sees them.
pub trait SnapshotSource: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from offset `at`.
    ///
    /// # Errors
    /// The disk failed, or the range lies past the end.
    fn read_at(&self, at: u64, out: &mut [u8]) -> std::io::Result<()>;
}

/// One member, as the server sees it.
pub trait Member: Cluster + Clone + Send + Sync + 'static {
    /// Runs on every shard for as long as it serves, to carry what its calls send to
    /// the member and get from it.
    fn attend(&self) -> impl Future<Output = ()> {
        std::future::pending()
    }

    /// Who it is.
    fn identity(&self) -> Identity;

    /// How it stands.
    fn standing(&self) -> Standing;

    /// What it runs with.
    fn settings(&self) -> &Settings;

    /// Revision of the newest published view.
    fn revision(&self) -> i64;

    /// Live keys in a range of the newest view; takes the time of a few look-ups.
    fn keys_in(&self, key: &Bytes, range_end: &Bytes) -> u64;

    /// Bytes of the db that are allocated; asked for every write.
    fn db_size(&self) -> u64;

    /// Whether the disk lacks room for a store that grows; asked for every write.
    fn lacks_room(&self) -> bool;

    /// Sizes and counts.
    fn sizes(&self) -> Sizes;

    /// What the member's threads have counted.
    fn stats(&self) -> &mainstay_driver::stats::Stats;

    /// The cluster's version, once decided.
    fn cluster_version(&self) -> Option<Version>;

    /// Whether authentication is on. Asked for every call.
    fn auth_enabled(&self) -> bool;

    /// How often users, roles and that were changed.
    fn auth_revision(&self) -> u64;

    /// The storage's version; 3.5 files have none.
    fn storage_version(&self) -> Option<Version>;

    /// Returns once reads see every write acknowledged before the call.
    fn linearizable(&self) -> impl Future<Output = Result<(), Status>>;

    /// Reads at the newest view. Blocks as long as the disk does.
    ///
    /// # Errors
    /// A compacted or future revision, or a failed disk.
    fn range(&self, request: &pb::RangeRequest) -> Result<RangeAnswer, Status>;

    /// Evaluates a transaction that only reads, at the newest view. Blocks.
    ///
    /// # Errors
    /// As [`Member::range`].
    fn read_txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Status>;

    /// Runs `work` away from the shards.
    fn on_read_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, Status>>;

    /// Proposes a put and waits until it is applied here.
    fn put(&self, request: pb::PutRequest)
    -> impl Future<Output = Result<pb::PutResponse, Status>>;

    /// Proposes a deletion.
    fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> impl Future<Output = Result<pb::DeleteRangeResponse, Status>>;

    /// Proposes a transaction.
    fn txn(&self, request: pb::TxnRequest)
    -> impl Future<Output = Result<pb::TxnResponse, Status>>;

    /// Proposes a compaction; a physical one is answered when its rows are gone.
    fn compact(
        &self,
        request: pb::CompactionRequest,
    ) -> impl Future<Output = Result<pb::CompactionResponse, Status>>;

    /// Proposes a lease; id 0 asks for one to be chosen.
    fn lease_grant(
        &self,
        request: pb::LeaseGrantRequest,
    ) -> impl Future<Output = Result<pb::LeaseGrantResponse, Status>>;

    /// Proposes the end of a lease.
    fn lease_revoke(
        &self,
        request: pb::LeaseRevokeRequest,
    ) -> impl Future<Output = Result<pb::LeaseRevokeResponse, Status>>;

    /// Extends a lease if this member leads; its TTL in seconds, `None` when there is
    /// no such lease as far as this member knows: whoever must be sure asks again after
    /// [`Member::linearizable`].
    fn lease_renew(&self, lease: i64) -> impl Future<Output = Result<Led<Option<i64>>, Status>>;

    /// Times of a lease and, if asked for, its keys, if this member leads. A TTL of -1
    /// with nothing granted means that there is no such lease; the header is not filled.
    /// The caller has asked for [`Member::linearizable`] before.
    fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> impl Future<Output = Result<Led<pb::LeaseTimeToLiveResponse>, Status>>;

    /// Ids of all leases, soonest to expire first.
    fn leases(&self) -> impl Future<Output = Result<Vec<i64>, Status>>;

    /// Proposes an alarm change, or lists alarms.
    fn alarm(
        &self,
        request: pb::AlarmRequest,
    ) -> impl Future<Output = Result<pb::AlarmResponse, Status>>;

    /// The alarms that are raised.
    fn alarms(&self) -> impl Future<Output = Result<Vec<pb::AlarmMember>, Status>>;

    /// The members, by id.
    fn members(&self) -> impl Future<Output = Result<Vec<pb::Member>, Status>>;

    /// CRC-32 (Castagnoli) over the whole backend.
    fn hash(&self) -> impl Future<Output = Result<u32, Status>>;

    /// Hash of the key space at a revision; 0 is the newest.
    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<HashKv, Status>>;

    /// Rewrites the db without its free pages.
    fn defragment(&self) -> impl Future<Output = Result<(), Status>>;

    /// The db with everything applied so far.
    fn snapshot(&self) -> impl Future<Output = Result<Arc<dyn SnapshotSource>, Status>>;

    /// Serves a watch stream until the client goes.
    fn watch(
        &self,
        call: Call,
        requests: impl RequestMessages,
        responses: impl ResponseSink,
    ) -> impl Future<Output = Result<(), Status>>;
}
