//! Which keys a user gets at, whatever the request looks like.

use std::time::Duration;

use bytes::Bytes;
use mainstay_interop::Kind;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;
use pb::watch_request::RequestUnion;

use super::note;
use crate::Holes;
use crate::client::{Client, put, talk};
use crate::world::{HIDDEN, LEASE, LEASED, SECRET, World};

const RANGE: &str = "/etcdserverpb.KV/Range";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";

fn bytes(text: &str) -> Bytes {
    text.to_owned().into()
}

fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false }
}

/// A transaction that does `op`, inside of `depth` others, in one of the branches. It compares a
/// key below `a/`, unless whoever asks may not: then only the first branch is gone into.
fn inside(op: Op, depth: usize, then: bool, may_read: bool) -> pb::TxnRequest {
    let ops = |op| vec![pb::RequestOp { request: Some(op) }];
    // Holds for a key that is not there; the other branch is taken when it must not.
    let compare = pb::Compare {
        result: if then { CompareResult::Equal } else { CompareResult::NotEqual } as i32,
        target: CompareTarget::Version as i32,
        key: bytes("a/absent"),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let branch = |ops| if then { (ops, vec![]) } else { (vec![], ops) };
    let (success, failure) = branch(ops(op));
    let compare = if may_read { vec![compare] } else { Vec::new() };
    let mut txn = pb::TxnRequest { compare, success, failure };
    for _ in 0..depth {
        let (success, failure) = branch(ops(Op::RequestTxn(txn.clone())));
        txn = pb::TxnRequest { compare: txn.compare.clone(), success, failure };
    }
    txn
}

/// What alice, who may read and write below `a/` and read `k1`, tries.
fn alices() -> Vec<(&'static str, Op)> {
    vec![
        ("a read", Op::RequestRange(range(HIDDEN, ""))),
        ("a read of everything", Op::RequestRange(range("\0", "\0"))),
        ("a put", Op::RequestPut(put("k3", "changed"))),
        ("a put over what may be read", Op::RequestPut(put("k1", "changed"))),
        ("a deletion", Op::RequestDeleteRange(delete("k3", ""))),
        ("a deletion up to another's key", Op::RequestDeleteRange(delete("a/", "k4"))),
        (
            "a put on root's lease",
            Op::RequestPut(pb::PutRequest { lease: LEASE, ..put("a/l", "v") }),
        ),
    ]
}

/// What carol, who may write below `a/` and read nothing, tries.
fn carols() -> Vec<(&'static str, Op)> {
    let before = pb::PutRequest { prev_kv: true, ..put("a/1", "v") };
    let deleted = pb::DeleteRangeRequest { prev_kv: true, ..delete("a/1", "") };
    let kept = pb::PutRequest { ignore_value: true, ..pb::PutRequest::default() };
    vec![
        ("a put that tells the value before", Op::RequestPut(before)),
        ("a deletion that tells the value before", Op::RequestDeleteRange(deleted)),
        ("a put of another's value", Op::RequestPut(pb::PutRequest { key: bytes(HIDDEN), ..kept })),
    ]
}

pub(crate) fn nested(kind: Kind) -> Holes {
    let world = World::guarded(kind, "nested", &[]);
    talk(async {
        let mut holes = Vec::new();
        let (alice, carol) = (world.user("alice").await, world.user("carol").await);
        for (who, client, ops) in [("alice", &alice, alices()), ("carol", &carol, carols())] {
            for (what, op) in ops {
                for depth in 0..4 {
                    for then in [true, false] {
                        let txn = inside(op.clone(), depth, then, who == "alice");
                        let answer = client.call(TXN, &txn).await;
                        // An empty answer to a read with no right is as good as a refusal.
                        note(&mut holes, answer.done(), || {
                            format!("{who}: {what}, {depth} transactions deep, then: {then}")
                        });
                    }
                }
            }
        }
        for depth in 0..3 {
            holes.extend(guess(&alice, depth).await);
        }
        holes
    })
}

/// Comparing a value is reading it bit by bit.
async fn guess(alice: &Client, depth: usize) -> Option<String> {
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Value as i32,
        key: bytes(HIDDEN),
        target_union: Some(TargetUnion::Value(bytes(SECRET))),
        ..Default::default()
    };
    let op = Op::RequestRange(range("a/1", ""));
    let mut txn = inside(op, 0, true, true);
    txn.compare = vec![compare];
    for _ in 0..depth {
        txn = pb::TxnRequest {
            success: vec![pb::RequestOp { request: Some(Op::RequestTxn(txn)) }],
            ..Default::default()
        };
    }
    let answer = alice.call(TXN, &txn).await;
    answer.done().then(|| format!("alice compares a hidden value, {depth} transactions deep"))
}

/// Ranges that begin where alice may read, or nearly.
const RANGES: &[(&str, &str)] = &[
    ("k1", "\0"),
    ("k1", "k9"),
    ("k1", "k2secret\0"),
    ("", "\0"),
    ("\0", "\0"),
    ("a/", "\0"),
    ("a/", "k4"),
    ("a/", "b"),
    ("a", "a0"),
    (HIDDEN, ""),
    (HIDDEN, "\0"),
    (HIDDEN, "k3"),
    // The other way round.
    ("k9", "k1"),
];

pub(crate) fn ranges(kind: Kind) -> Holes {
    let world = World::guarded(kind, "ranges", &[]);
    talk(async {
        let mut holes = Vec::new();
        let (root, alice) = (world.user("root").await, world.user("alice").await);
        for (key, end) in RANGES {
            let answer = alice.call(RANGE, &range(key, end)).await;
            let tells = answer.holds(SECRET.as_bytes());
            note(&mut holes, tells, || format!("a range from {key:?} to {end:?}"));
            let counts = pb::RangeRequest { count_only: true, ..range(key, end) };
            let answer = alice.call(RANGE, &counts).await;
            let counted = answer.done() && answer.message::<pb::RangeResponse>().count > 1;
            note(&mut holes, counted, || format!("a count from {key:?} to {end:?}"));
            let answer = alice.call(DELETE, &delete(key, end)).await;
            let deleted = answer.done() && answer.message::<pb::DeleteRangeResponse>().deleted > 0;
            note(&mut holes, deleted, || format!("a deletion from {key:?} to {end:?}"));
            holes.extend(watch(&root, &alice, (key, end)).await);
        }
        assert!(root.get(HIDDEN).await.holds(SECRET.as_bytes()), "it is still there");
        holes
    })
}

/// Whether alice hears of a change of the hidden key.
async fn watch(root: &Client, alice: &Client, (key, end): (&str, &str)) -> Option<String> {
    let create =
        pb::WatchCreateRequest { key: bytes(key), range_end: bytes(end), ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut stream = alice.stream("/etcdserverpb.Watch/Watch", &request).await;
    let created = stream.next(Duration::from_secs(20)).await?;
    let created = pb::WatchResponse::decode(created).expect("a response");
    if created.canceled {
        return None;
    }
    assert!(root.put(HIDDEN, SECRET).await.done());
    while let Some(message) = stream.next(Duration::from_millis(300)).await {
        if message.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
            return Some(format!("a watch from {key:?} to {end:?}"));
        }
    }
    None
}

/// While the alarm is on, etcd 3.5 has another way from a request to the store.
pub(crate) fn without_space(kind: Kind) -> Holes {
    let world = World::guarded(kind, "nospace", &["--quota-backend-bytes=4194304"]);
    talk(async {
        let mut holes = Vec::new();
        let root = world.user("root").await;
        let (alice, bob) = (world.user("alice").await, world.user("bob").await);
        let value = "x".repeat(100_000);
        let mut filled = false;
        for n in 0..200 {
            if !alice.put(&format!("a/fill{n}"), &value).await.done() {
                filled = true;
                break;
            }
        }
        assert!(filled, "the quota is used up");
        let raised = pb::AlarmRequest::default();
        let alarms: pb::AlarmResponse = root.ask("/etcdserverpb.Maintenance/Alarm", &raised).await;
        assert_eq!(alarms.alarms.len(), 1, "{alarms:?}");
        for (who, client) in [("alice", &alice), ("bob", &bob)] {
            let answer = client.call(RANGE, &range(HIDDEN, "")).await;
            note(&mut holes, answer.done(), || format!("{who} reads the hidden key"));
            let answer = client.call(DELETE, &delete("k3", "")).await;
            note(&mut holes, answer.done(), || format!("{who} deletes another's key"));
            let txn = inside(Op::RequestDeleteRange(delete(LEASED, "")), 0, true, false);
            let answer = client.call(TXN, &txn).await;
            note(&mut holes, answer.done(), || format!("{who} deletes it in a transaction"));
            let revoke = pb::LeaseRevokeRequest { id: LEASE };
            let answer = client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await;
            note(&mut holes, answer.done(), || format!("{who} revokes root's lease"));
        }
        let path = "/etcdserverpb.Auth/AuthDisable";
        let answer = bob.call(path, &pb::AuthDisableRequest {}).await;
        note(&mut holes, answer.done(), || "bob turns authentication off".to_owned());
        let answer = bob.with("").get(HIDDEN).await;
        note(&mut holes, answer.done(), || "then nobody reads the hidden key".to_owned());
        holes
    })
}

pub(crate) fn leases(kind: Kind) -> Holes {
    let world = World::guarded(kind, "leases", &[]);
    talk(async {
        let mut holes = Vec::new();
        let (root, alice) = (world.user("root").await, world.user("alice").await);
        let nobody = world.client().await;
        for (who, client) in [("nobody", &nobody), ("alice", &alice)] {
            let times = pb::LeaseTimeToLiveRequest { id: LEASE, keys: true };
            let answer = client.call("/etcdserverpb.Lease/LeaseTimeToLive", &times).await;
            let tells = answer.holds(LEASED.as_bytes());
            note(&mut holes, tells, || format!("{who} is told the keys of root's lease"));
            let attach = pb::PutRequest { lease: LEASE, ..put("a/lease", "v") };
            let answer = client.call("/etcdserverpb.KV/Put", &attach).await;
            note(&mut holes, answer.done(), || format!("{who} attaches a key to root's lease"));
            let keep = pb::LeaseKeepAliveRequest { id: LEASE };
            let path = "/etcdserverpb.Lease/LeaseKeepAlive";
            holes.extend(
                renew(client, path, &keep).await.then(|| format!("{who} keeps root's lease alive")),
            );
            let revoke = pb::LeaseRevokeRequest { id: LEASE };
            let answer = client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await;
            note(&mut holes, answer.done(), || format!("{who} revokes root's lease"));
        }
        let leased: pb::RangeResponse = root.ask(RANGE, &range(LEASED, "")).await;
        note(&mut holes, leased.kvs.is_empty(), || "root's leased key is gone".to_owned());
        holes
    })
}

/// Whether a keepalive is answered with time.
async fn renew(client: &Client, path: &str, keep: &pb::LeaseKeepAliveRequest) -> bool {
    let mut stream = client.stream(path, keep).await;
    let Some(answer) = stream.next(Duration::from_secs(2)).await else { return false };
    pb::LeaseKeepAliveResponse::decode(answer).expect("a response").ttl > 0
}
