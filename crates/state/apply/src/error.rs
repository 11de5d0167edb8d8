//! Why an applied request fails, and what stops a member.

use mainstay_auth::AuthError;
use mainstay_membership::{ChangeError, UpdateAttributesError, ValidateError};
use mainstay_types::{Index, Version};

/// A request that was applied and refused, on every member alike (quota
/// excepted: there the state changes all the same). Texts are etcd's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A revision below the compaction.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// A revision above the current one.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// `ignore_value` or `ignore_lease` for a key that does not exist.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// No such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease with this identity exists.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A time to live above 9,000,000,000 s.
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The NOSPACE alarm is raised, or this member is over its quota.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// The CORRUPT alarm is raised.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// A configuration change that does not fit the membership.
    #[error(transparent)]
    Membership(#[from] ValidateError),
    /// Who asks may not, or the request about users or roles is none.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The disk failed under a read; the state is unharmed.
    #[error("etcdserver: storage failed: {0}")]
    Storage(String),
}

/// An entry that this member cannot apply as every other member does, or
/// rows that it cannot read. Going on would let members differ, so the member
/// stops and says which entry.
#[derive(Debug, thiserror::Error)]
#[error("cannot apply entry {index}: {why}")]
pub struct StopError {
    /// The entry.
    pub index: Index,
    /// What is wrong with it.
    #[source]
    pub why: StopReason,
}

/// See [`StopError`].
#[derive(Debug, thiserror::Error)]
pub enum StopReason {
    /// The data is no request.
    #[error("its data is neither an InternalRaftRequest nor a v2 request: {0}")]
    Undecodable(String),
    /// No request that we know is in it.
    #[error("it holds no request known to {ours}; its fields are {fields:?}")]
    UnknownRequest {
        /// The version spoken.
        ours: Version,
        /// The numbers of the fields found.
        fields: Vec<u32>,
    },
    /// A v2 request other than the two that 3.5 writes at every start.
    #[error(
        "v2 request {method} {path:?} is not supported; only a member's attributes and the cluster version are"
    )]
    V2Request {
        /// Its method.
        method: String,
        /// Its path.
        path: String,
    },
    /// The value of one of the two v2 requests.
    #[error("v2 request PUT {path:?} has an unusable value {value:?}")]
    V2Value {
        /// Its path.
        path: String,
        /// Its value.
        value: String,
    },
    /// A joint configuration change, which etcd never writes.
    #[error("it is a ConfChangeV2, which etcd does not use")]
    ConfChangeV2,
    /// A configuration change that cannot be read.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Attributes of nobody.
    #[error(transparent)]
    Attributes(#[from] UpdateAttributesError),
    /// A cluster version that is none.
    #[error("cluster version {0:?} is not a version")]
    ClusterVersion(String),
    /// A cluster version above what this member speaks.
    #[error(
        "invalid downgrade: the cluster version becomes {cluster} and this member speaks {ours}"
    )]
    InvalidDowngrade {
        /// The cluster version in the entry.
        cluster: Version,
        /// The version spoken.
        ours: Version,
    },
    /// The store failed or its rows are damaged.
    #[error("the store failed: {0}")]
    Storage(String),
}
