//! How much a request may grow the store (semantics 9).

use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::QUOTA_BYTES_DEFAULT;
use pb::request_op::Request as Op;

/// What a key is estimated to cost beside its own bytes (etcd, `kvOverhead`).
const KEY_OVERHEAD: u64 = 256;
/// What a lease is estimated to cost (etcd, `leaseOverhead`).
const LEASE_COST: u64 = 64;

/// The estimated cost of a put in bytes.
pub fn put_cost(request: &pb::PutRequest) -> u64 {
    KEY_OVERHEAD + request.key.len() as u64 + request.value.len() as u64
}

/// The estimated cost of a transaction: that of its costlier branch. Reads and
/// deletes cost nothing.
pub fn txn_cost(request: &pb::TxnRequest) -> u64 {
    let branch = |ops: &[pb::RequestOp]| ops.iter().map(op_cost).sum::<u64>();
    branch(&request.success).max(branch(&request.failure))
}

/// The estimated cost of a new lease.
pub fn lease_cost() -> u64 {
    LEASE_COST
}

fn op_cost(op: &pb::RequestOp) -> u64 {
    match &op.request {
        Some(Op::RequestPut(request)) => put_cost(request),
        Some(Op::RequestTxn(request)) => txn_cost(request),
        Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => 0,
    }
}

/// The limit of the store's size, from `--quota-backend-bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    limit: Option<u64>,
}

impl Quota {
    /// 0 means etcd's default, a negative number no limit.
    pub fn from_flag(bytes: i64) -> Quota {
        let bytes = if bytes == 0 { QUOTA_BYTES_DEFAULT } else { bytes };
        Quota { limit: u64::try_from(bytes).ok() }
    }

    /// Whether a request of this cost fits into a store of this size. What
    /// costs nothing always does. `size` counts allocated pages, free ones
    /// included.
    pub fn allows(&self, size: u64, cost: u64) -> bool {
        cost == 0 || self.limit.is_none_or(|limit| size.saturating_add(cost) < limit)
    }

    /// The limit in bytes, or `None` for no limit.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &'static [u8], value: &'static [u8]) -> pb::RequestOp {
        let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        pb::RequestOp { request: Some(Op::RequestPut(put)) }
    }

    #[test]
    fn a_transaction_costs_its_costlier_branch() {
        let nested = pb::TxnRequest { success: vec![put_op(b"k", b"vv")], ..Default::default() };
        let delete = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
        let txn = pb::TxnRequest {
            success: vec![pb::RequestOp { request: Some(Op::RequestDeleteRange(delete)) }],
            failure: vec![
                put_op(b"a", b""),
                pb::RequestOp { request: Some(Op::RequestTxn(nested)) },
            ],
            ..Default::default()
        };
        assert_eq!(txn_cost(&txn), 257 + 259);
    }

    #[test]
    fn the_flag_means_what_it_means_in_etcd() {
        assert_eq!(Quota::from_flag(0).limit(), Some(2 << 30));
        assert_eq!(Quota::from_flag(-1).limit(), None);
        let quota = Quota::from_flag(1000);
        assert!(quota.allows(900, 99));
        assert!(!quota.allows(900, 100));
        assert!(quota.allows(2000, 0));
        assert!(Quota::from_flag(-1).allows(u64::MAX, 10));
    }
}
