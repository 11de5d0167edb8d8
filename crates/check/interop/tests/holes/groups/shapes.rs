//! Requests of odd shapes, and what lies on the disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use mainstay_interop::Kind;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use pb::request_op::Request as Op;
use pb::watch_request::RequestUnion;

use super::note;
use crate::Holes;
use crate::client::{Client, framed, put, talk};
use crate::raw;
use crate::world::World;

const SOON: Duration = Duration::from_secs(20);

fn op(op: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(op) }
}

/// More than is allowed, at the top and inside.
pub(crate) fn large(kind: Kind) -> Holes {
    let world = World::open(kind, "large", &[]);
    talk(async {
        let mut holes = Vec::new();
        let client = world.client().await;
        let puts = |n: usize| -> Vec<_> {
            (0..n).map(|n| op(Op::RequestPut(put(&format!("k{n}"), "v")))).collect()
        };
        let inner = pb::TxnRequest { success: puts(129), ..Default::default() };
        let mut deep = pb::TxnRequest { success: puts(1), ..Default::default() };
        for _ in 0..200 {
            deep = pb::TxnRequest { success: vec![op(Op::RequestTxn(deep))], ..Default::default() };
        }
        let twice = pb::TxnRequest { success: [puts(1), puts(1)].concat(), ..Default::default() };
        let compares = pb::TxnRequest {
            compare: vec![pb::Compare { key: "k".into(), ..Default::default() }; 129],
            ..Default::default()
        };
        let txns = [
            ("129 puts", pb::TxnRequest { success: puts(129), ..Default::default() }),
            (
                "129 puts in a transaction inside",
                pb::TxnRequest { success: vec![op(Op::RequestTxn(inner))], ..Default::default() },
            ),
            ("129 compares", compares),
            ("a key twice", twice),
            ("two hundred levels", deep),
        ];
        for (what, txn) in &txns {
            let answer = client.call("/etcdserverpb.KV/Txn", txn).await;
            // As deep as etcd goes itself is no hole.
            let is_hole = answer.done() && *what != "two hundred levels";
            note(&mut holes, is_hole, || format!("{what} are done"));
        }
        for (what, key, value) in [
            ("a key of nothing", String::new(), "v".to_owned()),
            ("two megabytes", "k".to_owned(), "v".repeat(2 << 20)),
            ("a key of two megabytes", "k".repeat(2 << 20), "v".to_owned()),
        ] {
            let answer = client.put(&key, &value).await;
            note(&mut holes, answer.done(), || format!("{what} is put"));
        }
        holes.extend(world.lives("afterwards", SOON));
        holes
    })
}

/// Bytes and bodies that no peer would send.
pub(crate) fn peers(kind: Kind) -> Holes {
    let world = World::open(kind, "nonsense", &[]);
    let endpoint = format!("127.0.0.1:{}", world.member.start().ports.1);
    let members = world.member.http_get("/v3/cluster/member/list").unwrap_or_default();
    drop(members);
    let mut noise = vec![0_u8; 100_000];
    let mut state = 88_172_645_463_325_252_u64;
    for byte in &mut noise {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    let noise: String = noise.iter().map(|byte| char::from(byte & 127)).collect();
    let cluster = cluster_id(&world);
    for path in [
        "/raft",
        "/raft/snapshot",
        "/raft/stream/msgapp/1",
        "/raft/stream/message/1",
        "/leases",
        "/leases/internal",
        "/members/hashkv",
        "/members/promote/1",
        "/downgrade/enabled",
        "/raft/probing",
        "/raft/mainstay/db",
    ] {
        for id in ["1", cluster.as_str()] {
            for verb in ["POST", "GET", "PUT"] {
                let head = format!(
                    "{verb} {path} HTTP/1.1\r\nHost: m\r\nX-Etcd-Cluster-ID: {id}\r\n\
                     X-Server-From: 1\r\nX-Raft-To: 1\r\nX-Server-Version: 3.5.0\r\n\
                     X-Min-Cluster-Version: 3.0.0"
                );
                raw::http(&endpoint, &head, &noise);
            }
        }
    }
    let mut holes = Vec::new();
    holes.extend(world.lives("after nonsense on the peer port", SOON));
    note(&mut holes, world.member.log().contains("panic"), || "it has panicked".to_owned());
    holes
}

fn cluster_id(world: &World) -> String {
    talk(async {
        let client = world.client().await;
        let list = pb::MemberListRequest::default();
        let answer: pb::MemberListResponse =
            client.ask("/etcdserverpb.Cluster/MemberList", &list).await;
        format!("{:x}", answer.header.expect("a header").cluster_id)
    })
}

/// Names that are no UTF-8, where the protocol says that they are.
pub(crate) fn text(kind: Kind) -> Holes {
    let world = World::guarded(kind, "text", &[]);
    talk(async {
        let mut holes = Vec::new();
        let root = world.user("root").await;
        for (call, message) in [
            // Field 1, three bytes, none of which is a letter.
            ("Auth/UserAdd", vec![0x0a, 3, 0xff, 0xfe, 0x80]),
            ("Auth/RoleAdd", vec![0x0a, 3, 0xff, 0xfe, 0x80]),
            ("Auth/Authenticate", vec![0x0a, 3, 0xff, 0xfe, 0x80]),
            ("Cluster/MemberAdd", vec![0x0a, 3, 0xff, 0xfe, 0x80]),
        ] {
            let answer = root.send(&format!("/etcdserverpb.{call}"), framed(&message)).await;
            note(&mut holes, answer.done(), || format!("{call} takes a name that is no text"));
        }
        let user = pb::AuthUserAddRequest { name: "a\0b".into(), ..Default::default() };
        root.call("/etcdserverpb.Auth/UserAdd", &user).await;
        let list = root.call("/etcdserverpb.Auth/UserList", &pb::AuthUserListRequest {}).await;
        note(&mut holes, !list.done(), || format!("the list of users is broken: {list:?}"));
        holes.extend(world.lives("afterwards", SOON));
        holes
    })
}

/// Numbers at both ends of their range.
pub(crate) fn numbers(kind: Kind) -> Holes {
    let world = World::open(kind, "numbers", &[]);
    talk(async {
        let mut holes = Vec::new();
        let client = world.client().await;
        assert!(client.put("k", "v").await.done());
        let (kv, lease) = ("/etcdserverpb.KV", "/etcdserverpb.Lease");
        for n in [i64::MIN, -1, 0, 1, i64::MAX] {
            let range =
                pb::RangeRequest { key: "k".into(), revision: n, limit: n, ..Default::default() };
            let answer = client.call(&format!("{kv}/Range"), &range).await;
            // Revisions below 1 are the newest one.
            note(&mut holes, answer.done() && n == i64::MAX, || format!("a range at revision {n}"));
            let compact = pb::CompactionRequest { revision: n, physical: true };
            let answer = client.call(&format!("{kv}/Compact"), &compact).await;
            note(&mut holes, answer.done() && n > 2, || format!("a compaction at {n}"));
            let hash = pb::HashKvRequest { revision: n };
            let answer = client.call("/etcdserverpb.Maintenance/HashKV", &hash).await;
            note(&mut holes, answer.done() && n > 2, || format!("a hash at {n}"));
            for ttl in [i64::MIN, -1, 0, i64::MAX] {
                let grant = pb::LeaseGrantRequest { ttl, id: n };
                let answer = client.call(&format!("{lease}/LeaseGrant"), &grant).await;
                note(&mut holes, answer.done() && ttl == i64::MAX, || {
                    format!("a lease of {ttl} s")
                });
            }
            let twice = pb::LeaseGrantRequest { ttl: 60, id: 4711 };
            client.call(&format!("{lease}/LeaseGrant"), &twice).await;
            let answer = client.call(&format!("{lease}/LeaseGrant"), &twice).await;
            note(&mut holes, answer.done(), || "a lease is granted twice".to_owned());
            let revoke = pb::LeaseRevokeRequest { id: n };
            client.call(&format!("{lease}/LeaseRevoke"), &revoke).await;
            holes.extend(watch(&client, n).await);
        }
        holes.extend(world.lives("afterwards", SOON));
        holes
    })
}

/// Watches from odd revisions and with odd ids; each must be answered.
async fn watch(client: &Client, n: i64) -> Option<String> {
    let create = |start_revision, watch_id| pb::WatchCreateRequest {
        key: "k".into(),
        start_revision,
        watch_id,
        ..Default::default()
    };
    let request =
        |create| pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let first = request(create(n, 0));
    let mut stream = client.stream("/etcdserverpb.Watch/Watch", &first).await;
    let answered = stream.next(SOON).await;
    if answered.is_none() {
        return Some(format!("a watch from revision {n} is not answered"));
    }
    let second = framed(&request(create(0, n)).encode_to_vec());
    // A stream that has ended is answered, too.
    let _ = stream.sending.send_data(Bytes::from(second), false);
    stream.next(SOON).await;
    None
}

/// What other users of the machine can read or change below the data directory.
pub(crate) fn files(kind: Kind) -> Holes {
    let world = World::open(kind, "files", &["--snapshot-count=5"]);
    talk(async {
        let client = world.client().await;
        for n in 0..40 {
            assert!(client.put(&format!("k{n}"), "v").await.done());
        }
    });
    let mut holes = Vec::new();
    let top = world.member.start().data_dir.clone();
    // Whoever cannot go into the directory reads nothing in it; but backups keep modes of files.
    open_to_others(&top, &mut holes);
    holes
}

fn open_to_others(path: &Path, holes: &mut Holes) {
    let found = fs::symlink_metadata(path).expect("it is there");
    let mode = found.permissions().mode() & 0o077;
    note(holes, mode != 0, || format!("{} has {mode:03o} for others", path.display()));
    if found.is_dir() {
        let entries = fs::read_dir(path).expect("readable");
        entries.for_each(|entry| open_to_others(&entry.expect("an entry").path(), holes));
    }
}
