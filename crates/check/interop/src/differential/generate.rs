//! Operations from a seed: few keys, so that they meet; every option, so that none
//! is forgotten; and now and then what no client would send.

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request;

use super::dice::Dice;
use super::op::{FUTURE_STREAM, Op, STREAMS, relative};

/// Leases that may be granted for long; one is negative, one is the largest.
const LEASES: [i64; 8] = [1, 2, 3, 4, 5, 0x7fff, -2, i64::MAX];

/// The member that alarms are raised for; there is none with this id.
const ALARMED: u64 = 7;

/// The depth at which no txn is put into a txn.
const NO_DEEPER: u32 = 3;

/// Makes the operations of one episode.
#[derive(Debug)]
pub struct Generator {
    dice: Dice,
    keys: Vec<Bytes>,
    burst: u64,
    reads: bool,
    waiting: Vec<(u64, Op)>,
}

impl Generator {
    /// The operations of this seed.
    pub fn new(seed: u64) -> Generator {
        let mut keys: Vec<Bytes> = Vec::new();
        for folder in ["a/", "b/", "b/c/"] {
            keys.extend((0..8).map(|n| Bytes::from(format!("{folder}{n}"))));
        }
        for key in ["a", "b", "a/", "z"] {
            keys.push(Bytes::from_static(key.as_bytes()));
        }
        for key in [&b"\0"[..], b"\0\0", b"\xff", b"\xff\xff", b"a\0", b"\x80\xfe"] {
            keys.push(Bytes::from_static(key));
        }
        keys.push(Bytes::from(vec![b'k'; 300]));
        Generator { dice: Dice::new(seed), keys, burst: 0, reads: false, waiting: Vec::new() }
    }

    /// The next `n` operations.
    pub fn take(&mut self, n: usize) -> Vec<Op> {
        (0..n).map(|_| self.op()).collect()
    }

    fn op(&mut self) -> Op {
        for (patience, _) in &mut self.waiting {
            *patience = patience.saturating_sub(1);
        }
        if let Some(at) = self.waiting.iter().position(|(patience, _)| *patience == 0) {
            return self.waiting.remove(at).1;
        }
        if self.burst == 0 {
            self.reads = !self.reads;
            self.burst = if self.reads { 4 + self.dice.below(16) } else { 1 + self.dice.below(6) };
        }
        self.burst -= 1;
        if self.reads { self.read() } else { self.write() }
    }

    fn read(&mut self) -> Op {
        match self.dice.below(1000) {
            0..760 => Op::Range(self.range(true)),
            760..860 => Op::Txn(self.read_txn()),
            860..920 => Op::TimeToLive(pb::LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.dice.chance(2, 3),
            }),
            920..950 => Op::Leases,
            950..990 => Op::HashKv(pb::HashKvRequest { revision: self.revision() }),
            _ => Op::Members(pb::MemberListRequest { linearizable: self.dice.chance(1, 2) }),
        }
    }

    fn write(&mut self) -> Op {
        match self.dice.below(1000) {
            0..430 => {
                let careless = true;
                Op::Put(self.put(careless))
            }
            430..570 => Op::Delete(self.delete(true)),
            570..790 => Op::Txn(self.txn()),
            790..810 => Op::Compact(self.compaction()),
            810..850 => Op::Grant(pb::LeaseGrantRequest { id: self.lease(), ttl: self.long_ttl() }),
            850..854 => Op::BriefLease(self.brief_lease()),
            854..880 => Op::Revoke(pb::LeaseRevokeRequest { id: self.lease_or_none() }),
            880..915 => Op::KeepAlive(pb::LeaseKeepAliveRequest { id: self.lease_or_none() }),
            915..930 => self.alarm(),
            930..965 => self.watch(),
            965..968 => Op::WatchBeforeAll(self.watch_before_all()),
            968..990 => {
                let id = self.dice.between(-1, 8);
                Op::CancelWatch(self.stream(), id)
            }
            990..996 => Op::CloseStream(self.stream()),
            _ => Op::Settle,
        }
    }

    fn stream(&mut self) -> usize {
        usize::try_from(self.dice.below(STREAMS as u64)).expect("a small number")
    }

    fn key(&mut self) -> Bytes {
        if self.dice.chance(1, 120) {
            return Bytes::new();
        }
        self.dice.pick(&self.keys)
    }

    /// A key and an end: one key, all keys, from a key on, a prefix, any two keys, and
    /// an end that is not after the key.
    fn span(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        match self.dice.below(16) {
            0..6 => (key, Bytes::new()),
            6 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            7 => (key, Bytes::from_static(b"\0")),
            8..12 => {
                let start = self.dice.pick(&[&b"a/"[..], b"b/", b"b/c/", b"a", b"\xff"]);
                (Bytes::from_static(start), prefix_end(start))
            }
            12 => (key.clone(), key),
            _ => (key, self.key()),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.dice.below(4000) {
            0 => Bytes::from(vec![b'x'; 1_500_000]),
            1 => Bytes::from(vec![b'x'; 1_600_000]),
            2..12 => {
                let len = 10_000 + self.dice.below(150_000);
                Bytes::from(vec![b'y'; usize::try_from(len).expect("a small number")])
            }
            12..300 => Bytes::new(),
            300..1000 => {
                let raw = self.dice.next().to_be_bytes();
                Bytes::copy_from_slice(&raw[..usize::from(raw[0] % 8)])
            }
            _ => Bytes::from(format!("v{}", self.dice.below(6))),
        }
    }

    fn lease(&mut self) -> i64 {
        self.dice.pick(&LEASES)
    }

    fn lease_or_none(&mut self) -> i64 {
        if self.dice.chance(1, 12) { self.dice.pick(&[0, 99, i64::MIN]) } else { self.lease() }
    }

    fn long_ttl(&mut self) -> i64 {
        let huge = [9_000_000_000, 9_000_000_001, i64::MAX, 1 << 32];
        if self.dice.chance(1, 8) { self.dice.pick(&huge) } else { self.dice.between(5000, 90_000) }
    }

    fn brief_lease(&mut self) -> pb::LeaseGrantRequest {
        if self.dice.chance(1, 3) {
            return pb::LeaseGrantRequest { id: 0, ttl: self.long_ttl() };
        }
        pb::LeaseGrantRequest { id: 777, ttl: self.dice.pick(&[0, 1, 2, -1, i64::MIN]) }
    }

    /// Mostly near now, sometimes long ago, in the future, or no revision at all.
    fn revision(&mut self) -> i64 {
        match self.dice.below(20) {
            0..9 => 0,
            9..15 => relative(-self.dice.between(0, 12)),
            15..17 => relative(-self.dice.between(0, 200)),
            17 => relative(self.dice.between(1, 4)),
            18 => self.dice.pick(&[1, 2, 0, i64::MAX]),
            _ => self.dice.pick(&[-1, -7, i64::MIN]),
        }
    }

    fn filter(&mut self) -> i64 {
        match self.dice.below(24) {
            0 => relative(-self.dice.between(0, 60)),
            1 if self.dice.chance(1, 8) => -1,
            _ => 0,
        }
    }

    fn range(&mut self, any_sort: bool) -> pb::RangeRequest {
        let (key, range_end) = self.span();
        let sorted = self.dice.chance(1, 4);
        let mut request = pb::RangeRequest {
            key,
            range_end,
            limit: match self.dice.below(12) {
                0..8 => 0,
                8..10 => self.dice.between(1, 4),
                10 => self.dice.between(5, 30),
                _ => self.dice.pick(&[-1, i64::MIN, i64::MAX, 1]),
            },
            revision: if self.dice.chance(1, 2) { self.revision() } else { 0 },
            sort_order: if sorted { self.dice.pick(&[0, 1, 2]) } else { 0 },
            sort_target: if sorted { self.dice.pick(&[0, 1, 2, 3, 4]) } else { 0 },
            serializable: self.dice.chance(1, 3),
            keys_only: self.dice.chance(1, 6),
            count_only: self.dice.chance(1, 8),
            min_mod_revision: self.filter(),
            max_mod_revision: self.filter(),
            min_create_revision: self.filter(),
            max_create_revision: self.filter(),
        };
        if any_sort && self.dice.chance(1, 80) {
            request.sort_order = self.dice.pick(&[0, 3, -1, 99]);
            request.sort_target = self.dice.pick(&[0, 5, -1, 99]);
        }
        request
    }

    fn put(&mut self, careless: bool) -> pb::PutRequest {
        let ignore_value = careless && self.dice.chance(1, 10);
        let ignore_lease = careless && self.dice.chance(1, 10);
        let stray = self.dice.chance(1, 10);
        let leased = self.dice.chance(1, 4) && (!ignore_lease || stray);
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value && !stray { Bytes::new() } else { self.value() },
            lease: if leased { self.lease() } else { 0 },
            prev_kv: self.dice.chance(1, 3),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self, from_key: bool) -> pb::DeleteRangeRequest {
        let (key, mut range_end) = self.span();
        if &range_end[..] == b"\0" && (!from_key || self.dice.chance(4, 5)) {
            range_end = Bytes::new();
        }
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.dice.chance(1, 3) }
    }

    fn compare(&mut self) -> pb::Compare {
        let mut target = self.dice.below(5);
        let given = if self.dice.chance(1, 20) { self.dice.below(6) } else { target };
        let small = self.dice.between(0, 3);
        let target_union = match given {
            0 => Some(TargetUnion::Version(small)),
            1 => Some(TargetUnion::CreateRevision(self.compared_revision())),
            2 => Some(TargetUnion::ModRevision(self.compared_revision())),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.lease_or_none())),
            _ => None,
        };
        let mut result = i32::try_from(self.dice.below(4)).expect("a small number");
        if self.dice.chance(1, 60) {
            target = 5 + self.dice.below(3);
        }
        if self.dice.chance(1, 60) {
            result = self.dice.pick(&[4, 17, -1]);
        }
        let (key, mut range_end) = self.span();
        if self.dice.chance(2, 3) {
            range_end = Bytes::new();
        }
        let target = i32::try_from(target).expect("a small number");
        pb::Compare { result, target, key, range_end, target_union }
    }

    fn compared_revision(&mut self) -> i64 {
        if self.dice.chance(1, 3) { 0 } else { relative(-self.dice.between(0, 40)) }
    }

    fn read_txn(&mut self) -> pb::TxnRequest {
        let many = |dice: &mut Dice| dice.below(4);
        let (compares, success, failure) =
            (many(&mut self.dice), many(&mut self.dice), many(&mut self.dice));
        let range = |this: &mut Generator| pb::RequestOp {
            request: Some(Request::RequestRange(this.range(true))),
        };
        pb::TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..success).map(|_| range(self)).collect(),
            failure: (0..failure).map(|_| range(self)).collect(),
        }
    }

    fn txn(&mut self) -> pb::TxnRequest {
        // A put that ignores its value after a delete up to the end stops etcd itself:
        // its check of overlaps does not know that "\0" as an end is no key.
        let careless = self.dice.chance(1, 2);
        // See `cost-of-nested-puts` among the exceptions.
        let depth = if self.waiting.is_empty() { 0 } else { NO_DEEPER };
        self.txn_level(depth, careless)
    }

    fn txn_level(&mut self, depth: u32, careless: bool) -> pb::TxnRequest {
        let mut request = pb::TxnRequest::default();
        for _ in 0..self.dice.below(3) {
            request.compare.push(self.compare());
        }
        for branch in [&mut request.success, &mut request.failure] {
            for _ in 0..self.dice.below(4) {
                branch.push(self.request_op(depth, careless));
            }
        }
        if depth == 0 && self.dice.chance(1, 150) {
            let op = self.request_op(NO_DEEPER, careless);
            request.success = vec![op; self.dice.pick(&[127, 128, 129])];
        }
        request
    }

    fn request_op(&mut self, depth: u32, careless: bool) -> pb::RequestOp {
        let request = match self.dice.below(100) {
            0..2 => None,
            2..45 => Some(Request::RequestPut(self.put(careless))),
            45..65 => Some(Request::RequestDeleteRange(self.delete(!careless))),
            65..85 if depth < NO_DEEPER => {
                Some(Request::RequestTxn(self.txn_level(depth + 1, careless)))
            }
            _ => Some(Request::RequestRange(self.range(false))),
        };
        pb::RequestOp { request }
    }

    fn compaction(&mut self) -> pb::CompactionRequest {
        let revision = match self.dice.below(12) {
            0..9 => relative(-self.dice.between(0, 80)),
            9 => relative(0),
            10 => relative(self.dice.between(1, 3)),
            _ => self.dice.pick(&[0, -1, 1, 2]),
        };
        pb::CompactionRequest { revision, physical: self.dice.chance(1, 3) }
    }

    /// Mostly reads; an alarm that is raised is soon cleared.
    fn alarm(&mut self) -> Op {
        let request = |action, member_id, alarm| pb::AlarmRequest { action, member_id, alarm };
        let alarm = self.dice.pick(&[0, 1, 2]);
        match self.dice.below(8) {
            0 => Op::Alarm(request(2, ALARMED, alarm)),
            1 => {
                let patience = 1 + self.dice.below(12);
                self.waiting.push((patience, Op::Alarm(request(2, ALARMED, alarm))));
                Op::Alarm(request(1, ALARMED, alarm))
            }
            _ => Op::Alarm(request(0, self.dice.pick(&[0, ALARMED]), alarm)),
        }
    }

    fn watch_request(&mut self) -> pb::WatchCreateRequest {
        let (key, range_end) = self.span();
        let mut filters = Vec::new();
        if self.dice.chance(1, 4) {
            filters = self.dice.pick(&[vec![0], vec![1], vec![0, 1], vec![7], vec![1, 1]]);
        }
        pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: 0,
            progress_notify: self.dice.chance(1, 3),
            filters,
            prev_kv: self.dice.chance(1, 2),
            watch_id: if self.dice.chance(1, 4) { self.dice.between(1, 6) } else { 0 },
            fragment: self.dice.chance(1, 2),
        }
    }

    fn watch(&mut self) -> Op {
        let stream = self.stream();
        let mut request = self.watch_request();
        request.start_revision = match self.dice.below(10) {
            _ if stream == FUTURE_STREAM => relative(self.dice.between(1, 15)),
            0..4 => 0,
            4..8 => relative(-self.dice.between(0, 60)),
            8 => relative(1),
            _ => self.dice.between(1, 3),
        };
        // A start after the next revision belongs to the stream of such watchers.
        if stream != FUTURE_STREAM && request.start_revision == relative(1) {
            request.start_revision = relative(0);
        }
        Op::Watch(stream, request)
    }

    fn watch_before_all(&mut self) -> pb::WatchCreateRequest {
        let mut request = self.watch_request();
        request.start_revision = self.dice.pick(&[-1, i64::MIN]);
        request
    }
}

fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(b"\0")
}
