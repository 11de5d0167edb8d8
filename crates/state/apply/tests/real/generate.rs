//! Random requests over a small key space, so that they meet each other.

use mainstay_proto::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request as Op;

/// A small generator of random numbers (xorshift64*), seeded and repeatable.
pub(crate) struct Dice {
    state: u64,
    in_txn: bool,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, in_txn: false }
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn key(&mut self) -> bytes::Bytes {
        let len = 1 + self.below(2);
        (0..len).map(|_| b'a' + self.below(5) as u8).collect()
    }

    fn range_end(&mut self, key: &[u8]) -> bytes::Bytes {
        match self.below(6) {
            // A transaction that deletes "from a key on" and then ignores the
            // value of such a key crashes the real etcd.
            0 if !self.in_txn => bytes::Bytes::from_static(b"\0"),
            1 | 2 => {
                let mut end = key.to_vec();
                *end.last_mut().expect("keys are not empty") += 1 + self.below(2) as u8;
                end.into()
            }
            _ => bytes::Bytes::new(),
        }
    }

    /// `leases` are the identities granted so far, dead ones included.
    pub(crate) fn put(&mut self, leases: &[i64]) -> pb::PutRequest {
        let ignore_value = self.chance(12);
        let ignore_lease = self.chance(12);
        let lease = match leases.len() as u64 {
            0 => 0,
            _ if ignore_lease || !self.chance(3) => 0,
            count => leases[self.below(count) as usize],
        };
        let value = if ignore_value { String::new() } else { format!("v{}", self.below(4)) };
        pb::PutRequest {
            key: self.key(),
            value: value.into(),
            lease,
            prev_kv: self.chance(2),
            ignore_value,
            ignore_lease,
        }
    }

    pub(crate) fn delete(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        pb::DeleteRangeRequest { range_end, key, prev_kv: self.chance(2) }
    }

    fn range(&mut self, revision: i64) -> pb::RangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let revision = match self.below(8) {
            0 => revision + 3 - self.below(12) as i64,
            _ => 0,
        };
        // Only orders without ties: Go's sort is not stable.
        let (sort_order, sort_target) = match self.below(4) {
            0 => (2, 0),
            1 => (1, 0),
            2 => (self.below(3) as i32, 3 - 3 * self.below(2) as i32),
            _ => (0, 0),
        };
        pb::RangeRequest {
            key,
            range_end,
            revision,
            limit: if self.chance(3) { 1 + self.below(4) as i64 } else { 0 },
            sort_order,
            // Two keys of one revision tie in "mod".
            sort_target: if sort_target == 3 { 0 } else { sort_target },
            // Not keys_only: 3.5 answers the lease too, 3.7 does not (semantics 2.8).
            count_only: self.chance(8),
            min_mod_revision: if self.chance(6) { 1 + self.below(20) as i64 } else { 0 },
            max_create_revision: if self.chance(8) { 1 + self.below(60) as i64 } else { 0 },
            ..Default::default()
        }
    }

    fn compare(&mut self, revision: i64) -> pb::Compare {
        let key = self.key();
        let range_end = if self.chance(3) { self.range_end(&key) } else { bytes::Bytes::new() };
        let target = self.below(5) as i32;
        let near = (revision - self.below(20) as i64).max(0);
        let target_union = match target {
            _ if self.chance(10) => None,
            0 => Some(TargetUnion::Version(self.below(3) as i64)),
            1 => Some(TargetUnion::CreateRevision(if self.chance(2) { 0 } else { near })),
            2 => Some(TargetUnion::ModRevision(if self.chance(2) { 0 } else { near })),
            3 => Some(TargetUnion::Value(format!("v{}", self.below(4)).into())),
            _ => Some(TargetUnion::Lease(0)),
        };
        pb::Compare { result: self.below(4) as i32, target, key, range_end, target_union }
    }

    pub(crate) fn txn(&mut self, leases: &[i64], revision: i64, depth: u64) -> pb::TxnRequest {
        let outermost = !std::mem::replace(&mut self.in_txn, true);
        let compares = self.below(3);
        let compare = (0..compares).map(|_| self.compare(revision)).collect();
        let branch = |dice: &mut Dice| {
            let ops = dice.below(4);
            (0..ops).map(|_| dice.op(leases, revision, depth)).collect()
        };
        let txn = pb::TxnRequest { compare, success: branch(self), failure: branch(self) };
        if outermost {
            self.in_txn = false;
        }
        txn
    }

    fn op(&mut self, leases: &[i64], revision: i64, depth: u64) -> pb::RequestOp {
        let request = match self.below(if depth > 0 { 6 } else { 5 }) {
            0 | 1 => Op::RequestPut(self.put(leases)),
            2 => Op::RequestDeleteRange(self.delete()),
            3 | 4 => Op::RequestRange(self.range(revision)),
            _ => Op::RequestTxn(self.txn(leases, revision, depth - 1)),
        };
        pb::RequestOp { request: Some(request) }
    }
}
