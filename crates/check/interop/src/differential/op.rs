//! What is sent, in words that mean the same on a shorter list.
//!
//! An operation names revisions relative to the newest one the member told, so that
//! a list from which operations were taken out still asks about "three revisions
//! ago" and not about a number that meant something once.

use std::fmt;

use mainstay_proto::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request;

use crate::Kind;

/// Revisions from here on, by this distance on both sides, mean "relative to now".
const NOW: i64 = 1 << 40;
const NOW_REACH: i64 = 1 << 20;

/// How many watch streams an episode has.
pub(crate) const STREAMS: usize = 3;

/// The stream whose watchers all start in the future.
pub(crate) const FUTURE_STREAM: usize = 2;

/// `distance` revisions from the newest one known when the operation is sent.
pub(crate) fn relative(distance: i64) -> i64 {
    NOW + distance
}

fn absolute(revision: &mut i64, now: i64) {
    let distance = revision.saturating_sub(NOW);
    if (-NOW_REACH..NOW_REACH).contains(&distance) {
        *revision = now.saturating_add(distance);
    }
}

/// One operation, or a few that only make sense together.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `KV/Range`.
    Range(pb::RangeRequest),
    /// `KV/Put`.
    Put(pb::PutRequest),
    /// `KV/DeleteRange`.
    Delete(pb::DeleteRangeRequest),
    /// `KV/Txn`.
    Txn(pb::TxnRequest),
    /// `KV/Compact`, when every watcher is in step.
    Compact(pb::CompactionRequest),
    /// `Lease/LeaseGrant` of a lease that outlives the episode.
    Grant(pb::LeaseGrantRequest),
    /// Grants a lease that could end within the episode, or one with an id of the
    /// member's choice, looks at it and revokes it.
    BriefLease(pb::LeaseGrantRequest),
    /// `Lease/LeaseRevoke`.
    Revoke(pb::LeaseRevokeRequest),
    /// `Lease/LeaseTimeToLive`.
    TimeToLive(pb::LeaseTimeToLiveRequest),
    /// `Lease/LeaseLeases`.
    Leases,
    /// One request on a `Lease/LeaseKeepAlive` stream.
    KeepAlive(pb::LeaseKeepAliveRequest),
    /// `Maintenance/HashKV`.
    HashKv(pb::HashKvRequest),
    /// `Cluster/MemberList`.
    Members(pb::MemberListRequest),
    /// `Maintenance/Alarm`.
    Alarm(pb::AlarmRequest),
    /// A watcher on one of the streams.
    Watch(usize, pb::WatchCreateRequest),
    /// A watcher with a negative start, on a stream of its own.
    WatchBeforeAll(pb::WatchCreateRequest),
    /// Cancels a watcher, when every watcher is in step.
    CancelWatch(usize, i64),
    /// Closes a stream, when every watcher is in step, and opens a new one.
    CloseStream(usize),
    /// Waits until every watcher is in step.
    Settle,
}

impl Op {
    /// The same with the revisions that are meant when `now` is the newest one.
    #[must_use]
    pub(crate) fn at(&self, now: i64) -> Op {
        let mut op = self.clone();
        match &mut op {
            Op::Range(request) => range_at(request, now),
            Op::Txn(request) => txn_at(request, now),
            Op::Compact(request) => absolute(&mut request.revision, now),
            Op::HashKv(request) => absolute(&mut request.revision, now),
            Op::Watch(stream, request) => {
                // A negative start is another operation, and one behind the next
                // revision belongs to its own stream: see `progress-answers`.
                absolute(&mut request.start_revision, now);
                let last = if *stream == FUTURE_STREAM { i64::MAX } else { now + 1 };
                request.start_revision = request.start_revision.clamp(0, last);
            }
            _ => {}
        }
        op
    }

    /// What a member of this kind is asked; see `unknown-sort-option` in
    /// [`super::exceptions`].
    #[must_use]
    pub(crate) fn as_asked(&self, kind: Kind) -> Op {
        let mut op = self.clone();
        if kind == Kind::Real {
            match &mut op {
                Op::Range(request) => known_sort(request),
                Op::Txn(request) => txn_ranges(request, &mut known_sort),
                _ => {}
            }
        }
        op
    }

    /// Whether a sort order or target in it has no name.
    pub(crate) fn has_unknown_sort(&self) -> bool {
        self.as_asked(Kind::Real) != *self
    }

    /// Whether it changes nothing, so that its place among others of the kind does
    /// not matter.
    pub(crate) fn is_read(&self) -> bool {
        match self {
            Op::Range(_) | Op::TimeToLive(_) | Op::Leases | Op::HashKv(_) | Op::Members(_) => true,
            Op::Txn(request) => {
                let range =
                    |op: &pb::RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
                request.success.iter().chain(&request.failure).all(range)
            }
            _ => false,
        }
    }

    /// Whether every watcher must be in step before it.
    pub(crate) fn needs_settled(&self) -> bool {
        matches!(self, Op::Compact(_) | Op::CancelWatch(..) | Op::CloseStream(_) | Op::Settle)
    }
}

fn range_at(request: &mut pb::RangeRequest, now: i64) {
    for revision in [
        &mut request.revision,
        &mut request.min_mod_revision,
        &mut request.max_mod_revision,
        &mut request.min_create_revision,
        &mut request.max_create_revision,
    ] {
        absolute(revision, now);
    }
}

fn txn_at(request: &mut pb::TxnRequest, now: i64) {
    txn_ranges(request, &mut |range| range_at(range, now));
    txn_compares(request, now);
}

fn txn_compares(request: &mut pb::TxnRequest, now: i64) {
    for compare in &mut request.compare {
        if let Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) =
            &mut compare.target_union
        {
            absolute(revision, now);
        }
    }
    for op in request.success.iter_mut().chain(&mut request.failure) {
        if let Some(Request::RequestTxn(inner)) = &mut op.request {
            txn_compares(inner, now);
        }
    }
}

fn txn_ranges(request: &mut pb::TxnRequest, change: &mut dyn FnMut(&mut pb::RangeRequest)) {
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => change(range),
            Some(Request::RequestTxn(inner)) => txn_ranges(inner, change),
            _ => {}
        }
    }
}

fn known_sort(request: &mut pb::RangeRequest) {
    if pb::range_request::SortOrder::try_from(request.sort_order).is_err() {
        request.sort_order = 0;
    }
    if pb::range_request::SortTarget::try_from(request.sort_target).is_err() {
        request.sort_target = 0;
    }
}

/// Big values are told by their length.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shortened(&format!("{self:?}")))
    }
}

/// `text` with the middle of long quoted parts left out.
pub(crate) fn shortened(text: &str) -> String {
    let mut short = String::new();
    for (at, part) in text.split('"').enumerate() {
        if at > 0 {
            short.push('"');
        }
        if part.len() > if at % 2 == 1 { 80 } else { 1500 } {
            let head: String = part.chars().take(24).collect();
            short.push_str(&format!("{head}..({} characters)", part.len()));
        } else {
            short.push_str(part);
        }
    }
    short
}
