//! Which transactions need the log (semantics 4.9).

use mainstay_mvcc::View;
use mainstay_proto::etcdserverpb as pb;
use pb::request_op::Request as Op;

use crate::{ApplyError, txn};

/// Answers a transaction that [`is_read_only`] from a view: no log, no writer's
/// lock. A linearizable one waits for its read index first.
///
/// # Errors
/// A revision that cannot be asked for, or a disk that fails.
///
/// # Panics
/// When the transaction does not only read.
pub fn read_only_txn(view: &View, request: &pb::TxnRequest) -> Result<pb::TxnResponse, ApplyError> {
    assert!(is_read_only(request), "a transaction that writes goes through the log");
    txn::read_only_txn(view, request)
}

/// Whether a transaction only reads, so that it needs no log entry: every
/// operation of both branches is a range. A nested transaction makes it a
/// write, whatever is inside (etcd, `IsTxnReadonly`).
pub fn is_read_only(txn: &pb::TxnRequest) -> bool {
    all_ranges(txn, |_| true)
}

/// Whether a transaction may be answered from local state without asking for
/// the leader's read index: all its operations are serializable ranges. An
/// empty one is (etcd, `IsTxnSerializable`).
pub fn is_serializable(txn: &pb::TxnRequest) -> bool {
    all_ranges(txn, |range| range.serializable)
}

fn all_ranges(txn: &pb::TxnRequest, holds: impl Fn(&pb::RangeRequest) -> bool) -> bool {
    txn.success.iter().chain(&txn.failure).all(|op| match &op.request {
        Some(Op::RequestRange(range)) => holds(range),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(serializable: bool) -> pb::RequestOp {
        let range = pb::RangeRequest { serializable, ..Default::default() };
        pb::RequestOp { request: Some(Op::RequestRange(range)) }
    }

    #[test]
    fn only_ranges_read() {
        let mut txn = pb::TxnRequest::default();
        assert!(is_read_only(&txn) && is_serializable(&txn));
        txn.success.push(range(true));
        assert!(is_read_only(&txn) && is_serializable(&txn));
        txn.failure.push(range(false));
        assert!(is_read_only(&txn) && !is_serializable(&txn));
        let nested = Op::RequestTxn(pb::TxnRequest::default());
        txn.failure.push(pb::RequestOp { request: Some(nested) });
        assert!(!is_read_only(&txn));
    }
}
