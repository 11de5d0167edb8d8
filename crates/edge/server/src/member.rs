//! What the server asks of the member behind it.
//!
//! The services are written against this trait, so that they can be tested over
//! a member made of a few maps. The real one is `mainstay_driver::Handle`.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use mainstay_apply::{Auth, AuthRequest, Reply};
use mainstay_credentials::Origin;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::{ClusterId, Index, MemberId, Term, Version};
use tokio::sync::watch;

use crate::cluster::{Cluster, Led};
use crate::gate::Permitted;
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

/// Who decides what a watch stream's client may see.
pub trait Doorkeeper: 'static {
    /// Whether a watcher may be created; else the reason, as its client is told.
    fn admit(
        &mut self,
        create: pb::WatchCreateRequest,
    ) -> Result<Permitted<pb::WatchCreateRequest>, Cow<'static, str>>;

    /// Ready when users or roles have changed: then every watcher is asked about again. An
    /// error ends the stream.
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>>;

    /// Whether a watcher that was created may still see its range; else the reason.
    fn may_see(&self, key: &Bytes, range_end: &Bytes) -> Result<(), Cow<'static, str>>;

    /// Whether the ranges of watchers must be remembered for that.
    fn is_watched(&self) -> bool;
}

/// Who a token was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The user.
    pub user: String,
    /// The auth revision that the token says it was made at; `None` for one that does not,
    /// which is good at every revision.
    pub revision: Option<u64>,
}

/// One member, as the server sees it. What reads or changes its store takes
/// [`Permitted`] requests: see `gate`.
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

    /// Users and roles, as of the last applied entry.
    fn auth(&self) -> Arc<Auth>;

    /// Changes whenever [`Member::auth`] does.
    fn auth_changes(&self) -> watch::Receiver<u64>;

    /// Whose token this is, as far as this member knows; `None` for one that is not good.
    fn bearer_of(&self, token: &str) -> Option<Bearer>;

    /// Whether tokens are simple ones, which entries make.
    fn has_simple_tokens(&self) -> bool;

    /// Checks a password, and makes a token. Nobody has to show who they are for it; `from`
    /// is who waits for whom.
    ///
    /// # Errors
    /// Authentication is off, the password is not the user's, or why it was not checked.
    fn authenticate(
        &self,
        request: pb::AuthenticateRequest,
        from: Origin,
    ) -> impl Future<Output = Result<pb::AuthenticateResponse, Status>>;

    /// Proposes a request about users and roles. Passwords in it are replaced by hashes
    /// before.
    fn change_auth(
        &self,
        request: Permitted<AuthRequest>,
    ) -> impl Future<Output = Result<Reply, Status>>;

    /// The keys that hang on a lease here.
    fn lease_keys(&self, lease: i64) -> impl Future<Output = Result<Vec<Bytes>, Status>>;

    /// The storage's version; 3.5 files have none.
    fn storage_version(&self) -> Option<Version>;

    /// Returns once reads see every write acknowledged before the call.
    fn linearizable(&self) -> impl Future<Output = Result<(), Status>>;

    /// Reads at the newest view. Blocks as long as the disk does.
    ///
    /// # Errors
    /// A compacted or future revision, or a failed disk.
    fn range(&self, request: &Permitted<pb::RangeRequest>) -> Result<RangeAnswer, Status>;

    /// Evaluates a transaction that only reads, at the newest view. Blocks.
    ///
    /// # Errors
    /// As [`Member::range`].
    fn read_txn(&self, request: &Permitted<pb::TxnRequest>) -> Result<pb::TxnResponse, Status>;

    /// Runs `work` away from the shards.
    fn on_read_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, Status>>;

    /// Proposes a put and waits until it is applied here.
    fn put(
        &self,
        request: Permitted<pb::PutRequest>,
    ) -> impl Future<Output = Result<pb::PutResponse, Status>>;

    /// Proposes a deletion.
    fn delete_range(
        &self,
        request: Permitted<pb::DeleteRangeRequest>,
    ) -> impl Future<Output = Result<pb::DeleteRangeResponse, Status>>;

    /// Proposes a transaction.
    fn txn(
        &self,
        request: Permitted<pb::TxnRequest>,
    ) -> impl Future<Output = Result<pb::TxnResponse, Status>>;

    /// Proposes a compaction; a physical one is answered when its rows are gone.
    fn compact(
        &self,
        request: Permitted<pb::CompactionRequest>,
    ) -> impl Future<Output = Result<pb::CompactionResponse, Status>>;

    /// Proposes a lease; id 0 asks for one to be chosen.
    fn lease_grant(
        &self,
        request: Permitted<pb::LeaseGrantRequest>,
    ) -> impl Future<Output = Result<pb::LeaseGrantResponse, Status>>;

    /// Proposes the end of a lease.
    fn lease_revoke(
        &self,
        request: Permitted<pb::LeaseRevokeRequest>,
    ) -> impl Future<Output = Result<pb::LeaseRevokeResponse, Status>>;

    /// Extends a lease if this member leads; its TTL in seconds, `None` when there is
    /// no such lease as far as this member knows: whoever must be sure asks again after
    /// [`Member::linearizable`].
    fn lease_renew(
        &self,
        request: &Permitted<pb::LeaseKeepAliveRequest>,
    ) -> impl Future<Output = Result<Led<Option<i64>>, Status>>;

    /// Times of a lease and, if asked for, its keys, if this member leads. A TTL of -1
    /// with nothing granted means that there is no such lease; the header is not filled.
    /// The caller has asked for [`Member::linearizable`] before.
    fn lease_time_to_live(
        &self,
        request: &Permitted<pb::LeaseTimeToLiveRequest>,
    ) -> impl Future<Output = Result<Led<pb::LeaseTimeToLiveResponse>, Status>>;

    /// Ids of all leases, soonest to expire first.
    fn leases(
        &self,
        request: &Permitted<pb::LeaseLeasesRequest>,
    ) -> impl Future<Output = Result<Vec<i64>, Status>>;

    /// Proposes an alarm change, or lists alarms.
    fn alarm(
        &self,
        request: Permitted<pb::AlarmRequest>,
    ) -> impl Future<Output = Result<pb::AlarmResponse, Status>>;

    /// The alarms that are raised.
    fn alarms(&self) -> impl Future<Output = Result<Vec<pb::AlarmMember>, Status>>;

    /// The members, by id.
    fn members(
        &self,
        request: &Permitted<pb::MemberListRequest>,
    ) -> impl Future<Output = Result<Vec<pb::Member>, Status>>;

    /// CRC-32 (Castagnoli) over the whole backend.
    fn hash(
        &self,
        request: &Permitted<pb::HashRequest>,
    ) -> impl Future<Output = Result<u32, Status>>;

    /// Hash of the key space at a revision; 0 is the newest.
    fn hash_kv(
        &self,
        request: &Permitted<pb::HashKvRequest>,
    ) -> impl Future<Output = Result<HashKv, Status>>;

    /// Rewrites the db without its free pages.
    fn defragment(
        &self,
        request: &Permitted<pb::DefragmentRequest>,
    ) -> impl Future<Output = Result<(), Status>>;

    /// The db with everything applied so far.
    fn snapshot(
        &self,
        request: &Permitted<pb::SnapshotRequest>,
    ) -> impl Future<Output = Result<Arc<dyn SnapshotSource>, Status>>;

    /// Serves a watch stream until the client goes; `doorkeeper` is asked about every
    /// watcher, and again when users or roles change.
    fn watch(
        &self,
        doorkeeper: impl Doorkeeper,
        requests: impl RequestMessages,
        responses: impl ResponseSink,
    ) -> impl Future<Output = Result<(), Status>>;
}
