//! The loads: what one request of each kind is.

use std::fmt;

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;
use prost::Message as _;

use crate::fan::Fan;
use crate::wire::{Call, Connection, Endpoint, WireError, frame};

/// Kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Put of a random key.
    Put,
    /// Linearizable read of one key.
    Range,
    /// Serializable read of one key.
    RangeSerializable,
    /// A page from a random place to the end of the prefix.
    Page(i64),
    /// The same at an older revision.
    PagePinned(i64),
    /// Count of the whole prefix.
    Count,
    /// Kubernetes' update: compare the mod revision, put, else read.
    Txn,
    /// Keepalives on a stream of the client's own, for a lease of its own.
    KeepAlive,
    /// Events to many watchers; see [`crate::fan`].
    Watch(Fan),
}

impl Kind {
    /// Reads a name as the command line has it.
    pub(crate) fn parse(name: &str) -> Option<Kind> {
        Some(match name {
            "put" => Kind::Put,
            "range" => Kind::Range,
            "range-serializable" => Kind::RangeSerializable,
            "page500" => Kind::Page(500),
            "page1000" => Kind::Page(1000),
            "page500-pinned" => Kind::PagePinned(500),
            "count" => Kind::Count,
            "txn" => Kind::Txn,
            "keepalive" => Kind::KeepAlive,
            _ => {
                let fan = match name.strip_prefix("watchkeys") {
                    Some(fan) => Fan::parse(fan, true),
                    None => Fan::parse(name.strip_prefix("watch")?, false),
                };
                Kind::Watch(fan?)
            }
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Put => f.write_str("put"),
            Kind::Range => f.write_str("range"),
            Kind::RangeSerializable => f.write_str("range-serializable"),
            Kind::Page(n) => write!(f, "page{n}"),
            Kind::PagePinned(n) => write!(f, "page{n}-pinned"),
            Kind::Count => f.write_str("count"),
            Kind::Txn => f.write_str("txn"),
            Kind::KeepAlive => f.write_str("keepalive"),
            Kind::Watch(fan) => {
                let name = if fan.own_key { "watchkeys" } else { "watch" };
                write!(f, "{name}{}s{}", fan.watchers, fan.streams)
            }
        }
    }
}

/// The key space a load works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    /// Keys, `k` and 17 digits.
    pub(crate) keys: u64,
    /// Bytes of a value.
    pub(crate) value_bytes: usize,
    /// The revision that pinned pages read at: all keys are there, and later changed.
    pub(crate) pinned: i64,
}

/// The prefix of all keys.
pub(crate) const PREFIX: &[u8] = b"k";
/// The end of the prefix.
pub(crate) const PREFIX_END: &[u8] = b"l";

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// The key with number `n`: 18 bytes.
pub(crate) fn key(n: u64) -> Bytes {
    Bytes::from(format!("k{n:017}"))
}

/// One client's own state.
pub(crate) struct Client {
    connection: Connection,
    kind: Kind,
    space: Space,
    dice: Dice,
    value: Vec<u8>,
    /// The keys that only this client updates, with their last known mod revision.
    own: Vec<(u64, i64)>,
    turn: usize,
    /// Its keepalive stream, once it is open, and its lease.
    lease: Option<(Call, i64)>,
}

/// Seconds that a lease of the keepalive load lives: longer than a run.
const LEASE_SECONDS: i64 = 600;

impl Client {
    /// Client `number` of `of`.
    pub(crate) fn new(
        connection: Connection,
        kind: Kind,
        space: Space,
        number: u64,
        of: u64,
    ) -> Client {
        let mut dice = Dice(number + 1);
        let value = (0..space.value_bytes).map(|_| dice.roll() as u8).collect();
        let own = (0..64).map(|i| ((number + i * of) % space.keys, 0)).collect();
        Client { connection, kind, space, dice, value, own, turn: 0, lease: None }
    }

    /// One request, answered.
    pub(crate) async fn one(&mut self) -> Result<(), WireError> {
        match self.kind {
            Kind::Put => self.put().await,
            Kind::Range => self.range(false).await,
            Kind::RangeSerializable => self.range(true).await,
            Kind::Page(limit) => self.page(limit, 0).await,
            Kind::PagePinned(limit) => self.page(limit, self.space.pinned).await,
            Kind::Count => self.count().await,
            Kind::Txn => self.txn().await,
            Kind::KeepAlive => self.keep_alive().await,
            Kind::Watch(_) => Err(WireError::Malformed("a watch is no request".into())),
        }
    }

    async fn put(&mut self) -> Result<(), WireError> {
        let n = self.dice.below(self.space.keys);
        let request =
            pb::PutRequest { key: key(n), value: self.fresh_value(), ..Default::default() };
        self.connection.unary_bytes(PUT, frame(&request)).await.map(drop)
    }

    async fn range(&mut self, serializable: bool) -> Result<(), WireError> {
        let n = self.dice.below(self.space.keys);
        let request = pb::RangeRequest { key: key(n), serializable, ..Default::default() };
        self.connection.unary_bytes(RANGE, frame(&request)).await.map(drop)
    }

    async fn page(&mut self, limit: i64, revision: i64) -> Result<(), WireError> {
        // As a lister walks: from any page's start to the end of the prefix.
        let n = self.dice.below(self.space.keys);
        let request = pb::RangeRequest {
            key: key(n),
            range_end: Bytes::from_static(PREFIX_END),
            limit,
            revision,
            ..Default::default()
        };
        self.connection.unary_bytes(RANGE, frame(&request)).await.map(drop)
    }

    async fn count(&mut self) -> Result<(), WireError> {
        let request = pb::RangeRequest {
            key: Bytes::from_static(PREFIX),
            range_end: Bytes::from_static(PREFIX_END),
            count_only: true,
            ..Default::default()
        };
        self.connection.unary_bytes(RANGE, frame(&request)).await.map(drop)
    }

    async fn txn(&mut self) -> Result<(), WireError> {
        self.turn = (self.turn + 1) % self.own.len();
        let (n, known) = self.own[self.turn];
        let request = guaranteed_update(key(n), self.fresh_value(), known);
        let answer = self.connection.unary_bytes(TXN, frame(&request)).await?;
        let answer =
            pb::TxnResponse::decode(answer).map_err(|e| WireError::Malformed(e.to_string()))?;
        self.own[self.turn].1 = mod_revision_after(&answer);
        Ok(())
    }

    async fn keep_alive(&mut self) -> Result<(), WireError> {
        // After an error the next turn begins with a stream and a lease anew.
        let (mut call, id) = match self.lease.take() {
            Some(open) => open,
            None => {
                let grant = pb::LeaseGrantRequest { ttl: LEASE_SECONDS, ..Default::default() };
                let granted: pb::LeaseGrantResponse = self.connection.unary(GRANT, &grant).await?;
                (self.connection.stream(KEEP_ALIVE).await?, granted.id)
            }
        };
        call.send(frame(&pb::LeaseKeepAliveRequest { id }), false)?;
        let answer = call.next().await?;
        let answer = answer.ok_or_else(|| WireError::Malformed("the stream ended".into()))?;
        let answer = pb::LeaseKeepAliveResponse::decode(answer)
            .map_err(|e| WireError::Malformed(e.to_string()))?;
        if answer.ttl <= 0 {
            return Err(WireError::Malformed(format!("lease {id:x} is gone")));
        }
        self.lease = Some((call, id));
        Ok(())
    }

    fn fresh_value(&mut self) -> Bytes {
        let fresh = self.dice.roll().to_be_bytes();
        let n = fresh.len().min(self.value.len());
        self.value[..n].copy_from_slice(&fresh[..n]);
        Bytes::copy_from_slice(&self.value)
    }
}

/// The server's revision now.
pub(crate) async fn revision(endpoint: &Endpoint) -> Result<i64, WireError> {
    let connection = Connection::open(endpoint).await?;
    let request = pb::RangeRequest { key: key(0), ..Default::default() };
    let answer: pb::RangeResponse = connection.unary(RANGE, &request).await?;
    Ok(answer.header.map_or(0, |h| h.revision))
}

/// kube-apiserver's GuaranteedUpdate.
fn guaranteed_update(key: Bytes, value: Bytes, known: i64) -> pb::TxnRequest {
    use pb::{compare, request_op};
    let compare = pb::Compare {
        result: compare::CompareResult::Equal as i32,
        target: compare::CompareTarget::Mod as i32,
        key: key.clone(),
        target_union: Some(compare::TargetUnion::ModRevision(known)),
        ..Default::default()
    };
    let put = pb::PutRequest { key: key.clone(), value, ..Default::default() };
    let get = pb::RangeRequest { key, ..Default::default() };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
        failure: vec![pb::RequestOp { request: Some(request_op::Request::RequestRange(get)) }],
    }
}

fn mod_revision_after(answer: &pb::TxnResponse) -> i64 {
    if answer.succeeded {
        return answer.header.as_ref().map_or(0, |h| h.revision);
    }
    let read = answer.responses.first().and_then(|r| r.response.as_ref());
    match read {
        Some(pb::response_op::Response::ResponseRange(range)) => {
            range.kvs.first().map_or(0, |kv| kv.mod_revision)
        }
        _ => 0,
    }
}

/// splitmix64: the same requests in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// The next number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.roll()) * u128::from(bound)) >> 64) as u64
    }
}
