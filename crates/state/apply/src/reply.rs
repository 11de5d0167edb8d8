//! What comes out of an applied entry.

use std::fmt;

use mainstay_backend::Batch;
use mainstay_lease::Lease;
use mainstay_membership::{Member, ValidateError};
use mainstay_mvcc::Counts;
use mainstay_proto::etcdserverpb as pb;
use mainstay_raft::{ConfChange, ConfState};
use mainstay_types::{LeaseId, MemberId};

use crate::{ApplyError, Op};

/// The answer to an applied request. Headers carry the revision; cluster,
/// member and term are the server's to fill.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the response of that name")]
pub enum Reply {
    Range(pb::RangeResponse),
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    /// With `physical` asked for, the server holds it back until the compaction
    /// named in [`Applied::compaction`] has finished.
    Compaction(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    LeaseCheckpoint(pb::LeaseCheckpointResponse),
    Alarm(pb::AlarmResponse),
    AuthEnable(pb::AuthEnableResponse),
    AuthDisable(pb::AuthDisableResponse),
    AuthStatus(pb::AuthStatusResponse),
    Authenticate(pb::AuthenticateResponse),
    AuthUserAdd(pb::AuthUserAddResponse),
    AuthUserDelete(pb::AuthUserDeleteResponse),
    AuthUserGet(pb::AuthUserGetResponse),
    AuthUserChangePassword(pb::AuthUserChangePasswordResponse),
    AuthUserGrantRole(pb::AuthUserGrantRoleResponse),
    AuthUserRevokeRole(pb::AuthUserRevokeRoleResponse),
    AuthUserList(pb::AuthUserListResponse),
    AuthRoleList(pb::AuthRoleListResponse),
    AuthRoleAdd(pb::AuthRoleAddResponse),
    AuthRoleDelete(pb::AuthRoleDeleteResponse),
    AuthRoleGet(pb::AuthRoleGetResponse),
    AuthRoleGrantPermission(pb::AuthRoleGrantPermissionResponse),
    AuthRoleRevokePermission(pb::AuthRoleRevokePermissionResponse),
    /// A configuration change was accepted; these are the members after it.
    Members(Vec<Member>),
    /// The request has no response of its own.
    Done,
}

/// A token of `--auth-token simple`. It is a secret, so it has no `Debug` to speak of.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What an entry does to the tokens that this member knows. Tokens are no replicated
/// state: they are forgotten when a member stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// A user has shown its password to some member.
    Issued {
        /// The user.
        user: String,
        /// What it presents from now on, to any member. With another kind of tokens
        /// than simple ones the proposer answers with its own.
        token: Token,
    },
    /// All tokens of a user are void: its password was changed, or it is gone.
    Void(String),
    /// All tokens are void: authentication was turned off.
    AllVoid,
}

/// A change of the book of leases, for the leader's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease was granted.
    Granted(Lease),
    /// A lease and its keys are gone.
    Revoked(LeaseId),
    /// A lease's remaining time was set, in seconds; 0 clears it.
    Checkpointed(LeaseId, i64),
}

/// A compaction whose logical half has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Revisions below are gone for readers; their deletion is now due.
    pub revision: i64,
    /// Whether the client waits for the deletion.
    pub physical: bool,
}

/// An applied configuration change.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfEffect {
    /// What raft must be told now: the change, or for a refused one a change of
    /// nobody, which frees its slot.
    pub raft: ConfChange,
    /// The configuration after it; `None` when it was refused.
    pub conf_state: Option<ConfState>,
    /// What happened to the membership, for the connections to peers.
    pub outcome: Result<MemberChange, ValidateError>,
}

/// What a configuration change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A member joined.
    Added(Member),
    /// A learner votes now.
    Promoted(MemberId),
    /// A member left. If it is this one it stops, after telling its clients.
    Removed(MemberId),
    /// A member has other peer URLs.
    PeerUrls(MemberId, Vec<String>),
}

/// Everything that follows from one entry.
#[derive(Debug)]
pub struct Applied {
    /// The proposer's id of the request; 0 when nobody can wait for it.
    pub request_id: u64,
    /// The rows, with the entry's index and term. `None` only for an entry
    /// that the store had applied before the start.
    pub batch: Option<Batch>,
    /// The answer for the proposer's client.
    pub outcome: Result<Reply, ApplyError>,
    /// Events of one revision, in the order of their sub revisions.
    pub events: Vec<mainstay_mvcc::Event>,
    /// Changes for the leader's timer, in order.
    pub leases: Vec<LeaseChange>,
    /// What kind of request it was, for metrics; `None` for an entry without one.
    pub op: Option<Op>,
    /// What was done to the keys, for metrics.
    pub counts: Counts,
    /// The rest, which most entries do not have.
    pub effects: Effects,
}

/// The rarer consequences of an entry, for the driver.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effects {
    /// The entry is a leader's first: if this member leads, its lease timer
    /// starts and waiting reads are sent again.
    pub first_of_term: bool,
    /// A configuration change.
    pub conf_change: Option<Box<ConfEffect>>,
    /// The membership, cluster version or downgrade job changed.
    pub membership_changed: bool,
    /// The alarms changed.
    pub alarms_changed: bool,
    /// Users, roles, permissions, or whether authentication is on: `Machine::auth` is
    /// to be published.
    pub auth_changed: bool,
    /// This entry turned authentication on, and its rows are in the batch. A member
    /// that serves clients without checking who they are must stop serving them
    /// before it does anything else, and say why; what its store holds is right, and
    /// a member that checks can take over the directory (`LoadError::AuthEnabled`).
    pub auth_enabled: bool,
    /// What happens to tokens.
    pub tokens: Option<Box<TokenChange>>,
    /// A compaction to carry out.
    pub compaction: Option<Compaction>,
    /// This member is over its quota: it proposes a NOSPACE alarm for itself.
    pub raise_nospace: bool,
    /// The cluster version went down: a snapshot is due now (disk.md 9).
    pub snapshot_now: bool,
}

impl Applied {
    pub(crate) fn before_start(request_id: u64) -> Applied {
        Applied {
            request_id,
            batch: None,
            outcome: Ok(Reply::Done),
            events: Vec::new(),
            leases: Vec::new(),
            op: None,
            counts: Counts::default(),
            effects: Effects::default(),
        }
    }
}
