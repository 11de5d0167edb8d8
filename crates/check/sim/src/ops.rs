//! What clients ask and how they are answered.

use mainstay_apply::ApplyError;
use mainstay_membership::Change;
use mainstay_mvcc::RangeReply;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::MemberId;

use crate::plan::Time;

/// An operation; also the id of the request that it proposes.
pub(crate) type OpId = u64;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A request for the log.
    Propose(Box<pb::InternalRaftRequest>),
    /// A change of members for the log.
    Change(Change),
    /// A read.
    Range { request: pb::RangeRequest, serializable: bool },
    /// Keep a lease alive.
    KeepAlive(i64),
}

/// A request on its way to a node.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) op: OpId,
    pub(crate) what: What,
    /// Passed on by another node already.
    pub(crate) forwarded: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// The entry was applied.
    Applied(Result<mainstay_apply::Reply, ApplyError>),
    /// A range was read.
    Range(Result<RangeReply, ReadError>),
    /// The lease lives for that many seconds.
    Alive(i64),
    /// There is no such lease.
    LeaseGone,
    /// It has had, and will have, no effect.
    Refused,
}

/// Why a range was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    Compacted,
    Future,
}

/// An operation without an answer.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) what: What,
    pub(crate) node: MemberId,
    pub(crate) client: Option<usize>,
    pub(crate) invoked: Time,
    /// The newest revision that anybody had been answered with when it was asked.
    pub(crate) floor: i64,
}
