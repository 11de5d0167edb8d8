//! What a writer sends next, and what became of what it sent.

use bytes::Bytes;
use mainstay_client::Client;
use mainstay_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;

use super::model::{Op, State};

/// Keys of a writer.
const KEYS: u64 = 24;
/// Leases live longer than any test.
const LEASE_SECONDS: i64 = 36_000;
/// Leases that a writer holds at most.
const LEASES: usize = 4;

/// Numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// An operation that was sent, and the revision it was acknowledged with.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) op: Op,
    /// `None` when no answer came: it may or may not have happened.
    pub(crate) acknowledged: Option<i64>,
}

/// One sequential client.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) number: usize,
    pub(crate) state: State,
    pub(crate) sent: Vec<Sent>,
    numbers: Numbers,
    sequence: u64,
}

impl Writer {
    pub(crate) fn new(number: usize, seed: u64) -> Writer {
        let numbers = Numbers::new(seed ^ (number as u64) << 32);
        Writer { number, state: State::default(), sent: Vec::new(), numbers, sequence: 0 }
    }

    /// What all its keys begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("{}{:03}/", super::PREFIX, self.number)
    }

    /// The prefix's last byte is `/`, so this is the first key behind it.
    fn behind(&self) -> String {
        format!("{}{:03}0", super::PREFIX, self.number)
    }

    /// Decides, before it is known what becomes of it. The state already holds what
    /// was acknowledged.
    pub(crate) fn next_op(&mut self) -> Op {
        self.sequence += 1;
        match self.numbers.below(100) {
            0..60 => Op::Put(self.put()),
            60..70 => Op::Delete(pb::DeleteRangeRequest { key: self.key(), ..Default::default() }),
            70..72 => Op::Delete(pb::DeleteRangeRequest {
                key: self.key(),
                range_end: self.behind().into(),
                ..Default::default()
            }),
            72..88 => Op::Txn(self.txn()),
            88..95 if self.state.leases.len() < LEASES => Op::Grant(self.lease_id()),
            95..100 if !self.state.leases.is_empty() => Op::Revoke(self.some_lease()),
            _ => Op::Put(self.put()),
        }
    }

    fn key(&mut self) -> Bytes {
        format!("{}{:02}", self.prefix(), self.numbers.below(KEYS)).into()
    }

    /// Says who wrote it as what, so that no two are alike; now and then large.
    fn value(&mut self) -> Bytes {
        let mut value = format!("{}-{}-", self.number, self.sequence).into_bytes();
        let size = match self.numbers.below(100) {
            0..2 => 60_000,
            2..10 => 4_000,
            _ => 40,
        };
        let len = self.numbers.below(size) as usize;
        value.resize(value.len() + len, b'x');
        value.into()
    }

    fn lease_id(&self) -> i64 {
        ((self.number as i64 + 1) << 40) | self.sequence as i64
    }

    fn some_lease(&mut self) -> i64 {
        let held = self.state.leases.len() as u64;
        self.state.leases[self.numbers.below(held) as usize]
    }

    fn put(&mut self) -> pb::PutRequest {
        let leased = !self.state.leases.is_empty() && self.numbers.below(5) == 0;
        let lease = if leased { self.some_lease() } else { 0 };
        pb::PutRequest { key: self.key(), value: self.value(), lease, ..Default::default() }
    }

    /// Compares one key's version, with what it is or with what it is not.
    fn txn(&mut self) -> pb::TxnRequest {
        let key = self.key();
        let version = self.state.rows.get(&key).map_or(0, |row| row.version);
        let expected = if self.numbers.below(4) == 0 { version + 1 } else { version };
        let compare = pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Version as i32,
            key,
            target_union: Some(TargetUnion::Version(expected)),
            ..Default::default()
        };
        let success = self.txn_ops();
        let failure = self.txn_ops();
        pb::TxnRequest { compare: vec![compare], success, failure }
    }

    /// A deletion and a few puts, of different keys.
    fn txn_ops(&mut self) -> Vec<pb::RequestOp> {
        let mut keys: Vec<Bytes> = (0..self.numbers.below(5)).map(|_| self.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut ops = Vec::new();
        for (at, key) in keys.into_iter().enumerate() {
            let request = if at == 0 {
                Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() })
            } else {
                Request::RequestPut(pb::PutRequest { key, ..self.put() })
            };
            ops.push(pb::RequestOp { request: Some(request) });
        }
        ops
    }

    /// Sends one operation and notes the outcome. `false` when no answer came: what
    /// became of it is not known, and nothing more is sent.
    pub(crate) async fn step(&mut self, client: &Client) -> bool {
        let op = self.next_op();
        let answer = send(client, &op).await;
        if let Ok(revision) = &answer {
            self.state.apply(&op, *revision);
        }
        let acknowledged = answer.ok();
        self.sent.push(Sent { op, acknowledged });
        acknowledged.is_some()
    }
}

async fn send(client: &Client, op: &Op) -> Result<i64, tonic::Status> {
    let header = match op.clone() {
        Op::Put(put) => client.kv().put(put).await?.into_inner().header,
        Op::Delete(delete) => client.kv().delete_range(delete).await?.into_inner().header,
        Op::Txn(txn) => client.kv().txn(txn).await?.into_inner().header,
        Op::Grant(id) => {
            let grant = pb::LeaseGrantRequest { id, ttl: LEASE_SECONDS };
            client.lease().lease_grant(grant).await?.into_inner().header
        }
        Op::Revoke(id) => {
            client.lease().lease_revoke(pb::LeaseRevokeRequest { id }).await?.into_inner().header
        }
    };
    header.map(|header| header.revision).ok_or_else(|| tonic::Status::internal("no header"))
}
