//! Where the two may differ, and why: the whole list.
//!
//! The named peer is 3.5.16 and our specification is 3.7.1, so some differences are
//! ours on purpose. Whatever is not excused here by name is a fault.

use mainstay_proto::{etcdserverpb as pb, mvccpb};
use pb::request_op::Request;
use pb::response_op::Response;

use super::answer::{Answer, Outcome};
use super::op::Op;
use super::side::TOO_SLOW;

/// A difference that is no fault.
#[derive(Clone, Copy)]
pub struct Exception {
    /// What it is called.
    pub name: &'static str,
    /// Why it is no fault.
    pub reason: &'static str,
    apply: Apply,
}

#[derive(Clone, Copy)]
enum Apply {
    /// Makes both the same where they may differ.
    Level(fn(&Op, &mut Outcome, &mut Outcome)),
    /// Already done where the answer is taken.
    WhenTaken,
}

/// All of them, in the order in which they are tried.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "identity",
        reason: "header.cluster_id and member_id, and the ids and ports in a member list, come \
                 from the URLs; both sides must have some",
        apply: Apply::Level(identity),
    },
    Exception {
        name: "raft-term",
        reason: "how many elections a start takes is a matter of time; both sides must have one",
        apply: Apply::Level(raft_term),
    },
    Exception {
        name: "remaining-ttl",
        reason: "the seconds a lease has left depend on when it is asked for; within 120 of each \
                 other, or of the most that the lease may have",
        apply: Apply::Level(remaining_ttl),
    },
    Exception {
        name: "order-of-lease-keys",
        reason: "LeaseTimeToLive lists keys in the order of a Go map",
        apply: Apply::Level(order_of_lease_keys),
    },
    Exception {
        name: "order-of-leases",
        reason: "LeaseLeases sorts by the moment of expiry, and two leases may be granted or \
                 renewed closer to each other than the clocks tell",
        apply: Apply::Level(order_of_leases),
    },
    Exception {
        name: "chosen-lease-id",
        reason: "an id that the member chooses holds its own id and the time; both must choose one",
        apply: Apply::Level(chosen_lease_id),
    },
    Exception {
        name: "brief-lease",
        reason: "a lease of two seconds may have ended by itself when the machine was slow",
        apply: Apply::Level(brief_lease),
    },
    Exception {
        name: "keys-only-lease",
        reason: "3.7 answers keys_only from the index, which does not know leases; 3.5 tells them",
        apply: Apply::Level(keys_only_lease),
    },
    Exception {
        name: "hash-revision",
        reason: "HashKVResponse.hash_revision is new in 3.6",
        apply: Apply::Level(hash_revision),
    },
    Exception {
        name: "unknown-sort-option",
        reason: "3.7 refuses sort orders and targets without a name; 3.5 takes the orders and \
                 stops with a panic at a target, so it is asked without them",
        apply: Apply::Level(unknown_sort_option),
    },
    Exception {
        name: "ties",
        reason: "Go's sort is not stable above twelve elements: the order among equal versions or \
                 values, and which of them a limit cuts off, is not specified",
        apply: Apply::Level(ties),
    },
    Exception {
        name: "order-of-txn-checks",
        reason: "when several operations of a txn are refused at apply, 3.5 tells the first put's \
                 reason (key before lease) before a range's; 3.7 goes in order, lease before key",
        apply: Apply::Level(order_of_txn_checks),
    },
    Exception {
        name: "hash-while-compacting",
        reason: "when no key is left at the revision, etcd's HashKV takes in every row that the \
                 compaction behind the scenes has not deleted yet; so each side is given the \
                 time to finish it",
        apply: Apply::WhenTaken,
    },
    Exception {
        name: "cost-of-nested-puts",
        reason: "under a NOSPACE alarm 3.7 refuses a txn for puts in a txn inside it, 3.5 only \
                 for its own, and then both hold different keys; no such txn is sent while an \
                 alarm is up",
        apply: Apply::WhenTaken,
    },
    Exception {
        name: "negative-watch-start",
        reason: "3.7 refuses a watcher with a negative start; 3.5 makes one and treats it as \
                 compacted or as from the beginning, so only ours is asked",
        apply: Apply::WhenTaken,
    },
    Exception {
        name: "event-batches",
        reason: "how many revisions come in one response, and the revision in its header, depend \
                 on when the catch-up loop ran; each response is checked by itself instead",
        apply: Apply::WhenTaken,
    },
    Exception {
        name: "progress-answers",
        reason: "a progress request is not answered while a watcher lags, so it is repeated, and \
                 how often is a matter of time; 3.5 answers despite a watcher that starts in the \
                 future, so streams with such watchers are never asked",
        apply: Apply::WhenTaken,
    },
];

impl std::fmt::Debug for Exception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Whether the two are the same, but for exceptions; both are changed to be so. With
/// the last exception that it took.
pub(crate) fn same(op: &Op, ours: &mut Outcome, real: &mut Outcome) -> Option<&'static str> {
    for exception in EXCEPTIONS {
        if let Apply::Level(level) = exception.apply {
            level(op, ours, real);
            if ours == real {
                return Some(exception.name);
            }
        }
    }
    None
}

fn parts<'a>(
    ours: &'a mut Outcome,
    real: &'a mut Outcome,
) -> Vec<(&'a mut Answer, &'a mut Answer)> {
    ours.answer.parts_mut().into_iter().zip(real.answer.parts_mut()).collect()
}

fn level_some<T: PartialEq + Default>(left: &mut T, right: &mut T) {
    if *left != T::default() && *right != T::default() {
        (*left, *right) = (T::default(), T::default());
    }
}

fn identity(_: &Op, ours: &mut Outcome, real: &mut Outcome) {
    for (left, right) in parts(ours, real) {
        if let (Some(left), Some(right)) = (left.header_mut(), right.header_mut()) {
            level_some(&mut left.cluster_id, &mut right.cluster_id);
            level_some(&mut left.member_id, &mut right.member_id);
        }
        if let (Answer::Members(left), Answer::Members(right)) = (left, right) {
            for (left, right) in left.members.iter_mut().zip(&mut right.members) {
                level_some(&mut left.id, &mut right.id);
            }
            for member in left.members.iter_mut().chain(&mut right.members) {
                for url in member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls) {
                    *url = url.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
                }
            }
        }
    }
}

fn raft_term(_: &Op, ours: &mut Outcome, real: &mut Outcome) {
    for (left, right) in parts(ours, real) {
        if let (Some(left), Some(right)) = (left.header_mut(), right.header_mut()) {
            level_some(&mut left.raft_term, &mut right.raft_term);
        }
    }
}

fn remaining_ttl(_: &Op, ours: &mut Outcome, real: &mut Outcome) {
    for (left, right) in parts(ours, real) {
        if let (Answer::TimeToLive(left), Answer::TimeToLive(right)) = (left, right) {
            let alive = left.ttl >= 0 && right.ttl >= 0 && left.granted_ttl == right.granted_ttl;
            if alive && left.ttl.abs_diff(right.ttl) <= 120 && left.ttl <= left.granted_ttl {
                right.ttl = left.ttl;
            }
        }
    }
}

fn order_of_lease_keys(_: &Op, ours: &mut Outcome, real: &mut Outcome) {
    for (left, right) in parts(ours, real) {
        if let (Answer::TimeToLive(left), Answer::TimeToLive(right)) = (left, right) {
            left.keys.sort();
            right.keys.sort();
        }
    }
}

fn order_of_leases(_: &Op, ours: &mut Outcome, real: &mut Outcome) {
    if let (Answer::Leases(left), Answer::Leases(right)) = (&mut ours.answer, &mut real.answer) {
        left.leases.sort_by_key(|lease| lease.id);
        right.leases.sort_by_key(|lease| lease.id);
    }
}

fn chosen_lease_id(op: &Op, ours: &mut Outcome, real: &mut Outcome) {
    if !matches!(op, Op::BriefLease(request) if request.id == 0) {
        return;
    }
    for (left, right) in parts(ours, real) {
        match (left, right) {
            (Answer::Grant(left), Answer::Grant(right)) if left.id > 0 && right.id > 0 => {
                level_some(&mut left.id, &mut right.id);
            }
            (Answer::TimeToLive(left), Answer::TimeToLive(right)) => {
                level_some(&mut left.id, &mut right.id);
            }
            _ => {}
        }
    }
}

fn brief_lease(op: &Op, ours: &mut Outcome, real: &mut Outcome) {
    if !matches!(op, Op::BriefLease(_)) {
        return;
    }
    if let (Answer::Several(left), Answer::Several(right)) = (&mut ours.answer, &mut real.answer) {
        let slow = Answer::Missing(TOO_SLOW.to_owned());
        if left.last() == Some(&slow) || right.last() == Some(&slow) {
            left.truncate(1);
            right.truncate(1);
        }
    }
}

/// Every range in the operation with both answers to it.
fn ranges(
    op: &Op,
    ours: &mut Outcome,
    real: &mut Outcome,
    level: fn(&pb::RangeRequest, &mut pb::RangeResponse, &mut pb::RangeResponse),
) {
    match (op, &mut ours.answer, &mut real.answer) {
        (Op::Range(request), Answer::Range(left), Answer::Range(right)) => {
            level(request, left, right);
        }
        (Op::Txn(request), Answer::Txn(left), Answer::Txn(right)) => {
            txn_ranges(request, left, right, level);
        }
        _ => {}
    }
}

fn txn_ranges(
    request: &pb::TxnRequest,
    ours: &mut pb::TxnResponse,
    real: &mut pb::TxnResponse,
    level: fn(&pb::RangeRequest, &mut pb::RangeResponse, &mut pb::RangeResponse),
) {
    if ours.succeeded != real.succeeded {
        return;
    }
    let taken = if ours.succeeded { &request.success } else { &request.failure };
    for ((op, left), right) in taken.iter().zip(&mut ours.responses).zip(&mut real.responses) {
        match (&op.request, &mut left.response, &mut right.response) {
            (
                Some(Request::RequestRange(request)),
                Some(Response::ResponseRange(left)),
                Some(Response::ResponseRange(right)),
            ) => level(request, left, right),
            (
                Some(Request::RequestTxn(request)),
                Some(Response::ResponseTxn(left)),
                Some(Response::ResponseTxn(right)),
            ) => txn_ranges(request, left, right, level),
            _ => {}
        }
    }
}

fn keys_only_lease(op: &Op, ours: &mut Outcome, real: &mut Outcome) {
    ranges(op, ours, real, |request, left, right| {
        let by_value = pb::range_request::SortTarget::Value as i32;
        if request.keys_only && request.sort_target != by_value {
            for (left, right) in left.kvs.iter().zip(&mut right.kvs) {
                if left.lease == 0 {
                    right.lease = 0;
                }
            }
        }
    });
}

fn hash_revision(op: &Op, ours: &mut Outcome, real: &mut Outcome) {
    let Op::HashKv(request) = op else { return };
    if let (Answer::HashKv(left), Answer::HashKv(right)) = (&mut ours.answer, &mut real.answer) {
        let current = left.header.as_ref().map_or(0, |header| header.revision);
        let wanted = if request.revision == 0 { current } else { request.revision };
        if right.hash_revision == 0 && left.hash_revision == wanted {
            left.hash_revision = 0;
        }
    }
}

fn unknown_sort_option(op: &Op, ours: &mut Outcome, real: &mut Outcome) {
    if !op.has_unknown_sort() {
        return;
    }
    let refused = Answer::Failed {
        code: tonic::Code::InvalidArgument.into(),
        message: "etcdserver: invalid sort option".to_owned(),
    };
    // The real one may have another reason, and tell only that.
    if ours.answer == refused {
        real.answer = refused;
    }
}

fn ties(op: &Op, ours: &mut Outcome, real: &mut Outcome) {
    ranges(op, ours, real, |request, left, right| {
        if request.sort_target == 0 || left.count <= 12 || left.kvs.len() != right.kvs.len() {
            return;
        }
        for response in [left, right] {
            level_ties(request, response);
        }
    });
}

fn level_ties(request: &pb::RangeRequest, response: &mut pb::RangeResponse) {
    let target = request.sort_target;
    response.kvs.chunk_by_mut(|a, b| sorted_by(target, a) == sorted_by(target, b)).for_each(
        |tie| {
            tie.sort_by(|a, b| a.key.cmp(&b.key));
        },
    );
    let Some(last) = response.kvs.last().cloned().filter(|_| response.more) else { return };
    for kv in &mut response.kvs {
        if sorted_by(target, kv) == sorted_by(target, &last) {
            let whole = std::mem::take(kv);
            match target {
                1 => kv.version = whole.version,
                2 => kv.create_revision = whole.create_revision,
                3 => kv.mod_revision = whole.mod_revision,
                _ => kv.value = whole.value,
            }
        }
    }
}

/// What the range is sorted by; create revisions tie within a txn.
fn sorted_by(target: i32, kv: &mvccpb::KeyValue) -> (i64, &[u8]) {
    match target {
        1 => (kv.version, b""),
        2 => (kv.create_revision, b""),
        3 => (kv.mod_revision, b""),
        _ => (0, &kv.value),
    }
}

fn order_of_txn_checks(op: &Op, ours: &mut Outcome, real: &mut Outcome) {
    let reasons = [
        "etcdserver: requested lease not found",
        "etcdserver: key not found",
        "etcdserver: mvcc: required revision has been compacted",
        "etcdserver: mvcc: required revision is a future revision",
    ];
    let at_apply = |answer: &Answer| matches!(answer, Answer::Failed { message, .. } if reasons.contains(&message.as_str()));
    if matches!(op, Op::Txn(_)) && at_apply(&ours.answer) && at_apply(&real.answer) {
        real.answer = ours.answer.clone();
    }
}
