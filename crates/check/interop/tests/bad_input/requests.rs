//! What clients send: every call with messages that are none, lengths that lie, numbers
//! at the edge. The member answers each with an error and serves the next client.

use std::fs;

use mainstay_interop::{Folder, Kind, Member, Start};
use mainstay_proto::{Message as _, etcdserverpb as pb};

use crate::raw::{Answer, Raw, framed, talk};

/// What a member may take at its peak, in KiB: it starts with a tenth of that, and the
/// largest single request is 2 MiB.
const PEAK_KIB_MAX: u64 = 300 * 1024;

const CALLS: &[&str] = &[
    "KV/Range",
    "KV/RangeStream",
    "KV/Put",
    "KV/DeleteRange",
    "KV/Txn",
    "KV/Compact",
    "Watch/Watch",
    "Lease/LeaseGrant",
    "Lease/LeaseRevoke",
    "Lease/LeaseKeepAlive",
    "Lease/LeaseTimeToLive",
    "Cluster/MemberAdd",
    "Cluster/MemberRemove",
    "Cluster/MemberUpdate",
    "Cluster/MemberPromote",
    "Maintenance/Alarm",
    "Maintenance/HashKV",
    "Maintenance/MoveLeader",
    "Maintenance/Downgrade",
    "Auth/Authenticate",
    "Auth/UserAdd",
    "Auth/UserGrantRole",
    "Auth/RoleGrantPermission",
];

fn path(call: &str) -> String {
    format!("/etcdserverpb.{call}")
}

struct Victim {
    member: Member,
    _folder: Folder,
}

impl Victim {
    fn start(name: &str) -> Victim {
        let folder = Folder::new(name);
        let start = Start::new(Kind::Ours, &folder.path().join("m.etcd"));
        let member = start.run().expect("ours is never missing");
        Victim { member, _folder: folder }
    }

    async fn connect(&self) -> Raw {
        Raw::connect(&self.member.endpoint()).await
    }

    /// It serves, took no more memory than it may, and nothing in it broke.
    async fn assert_well(&self) {
        let raw = self.connect().await;
        let put = pb::PutRequest { key: "well".into(), value: "1".into(), ..Default::default() };
        let _: pb::PutResponse = raw.ask(&path("KV/Put"), &put).await;
        let range = pb::RangeRequest { key: "well".into(), ..Default::default() };
        let read: pb::RangeResponse = raw.ask(&path("KV/Range"), &range).await;
        assert_eq!(read.kvs.len(), 1);
        let log = self.member.log();
        assert!(!log.contains("panicked"), "{log}");
        let status = fs::read_to_string(format!("/proc/{}/status", self.member.pid()));
        let status = status.expect("the member runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse().ok());
        let peak: u64 = peak.expect("the system says it");
        assert!(peak < PEAK_KIB_MAX, "peak {peak} KiB");
    }
}

fn assert_refused(answer: &Answer, code: u32, words: &str, what: &str) {
    assert_eq!(answer.code, Some(code), "{what}: {answer:?}");
    assert!(answer.text.contains(words), "{what}: {answer:?}");
}

#[test]
fn messages_that_are_none_are_refused_by_every_call() {
    let victim = Victim::start("bad-messages");
    talk(async {
        let raw = victim.connect().await;
        let lengths_lie = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, b'x'];
        let endless_number = [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        let cut = [0x0a, 5, b'a'];
        let no_wire_type = [0x0f];
        let field_zero = [0x00, 0x01];
        for call in CALLS {
            let bodies = [&lengths_lie[..], &endless_number, &cut, &no_wire_type, &field_zero];
            for body in bodies {
                let answer = raw.call(&path(call), framed(body)).await;
                let what = format!("{call} {body:02x?}");
                if ["KV", "Lease", "Watch"].iter().any(|service| call.starts_with(service)) {
                    assert_refused(&answer, 13, "unmarshal", &what);
                } else {
                    // Calls that are not served, or not now, need not look at the message.
                    assert!(answer.code.is_some_and(|code| code != 0), "{what}: {answer:?}");
                }
            }
        }
        victim.assert_well().await;
    });
    victim.member.stop();
}

#[test]
fn frames_that_lie_are_refused_by_every_call() {
    let victim = Victim::start("bad-frames");
    talk(async {
        let raw = victim.connect().await;
        for call in CALLS {
            let path = path(call);
            let huge = [0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3].to_vec();
            let answer = raw.call(&path, huge).await;
            assert_refused(&answer, 8, "larger than max", call);
            let answer = raw.call(&path, vec![1, 0, 0, 0, 1, 0]).await;
            assert_refused(&answer, 13, "compressed flag", call);
            let answer = raw.call(&path, vec![7, 0, 0, 0, 1, 0]).await;
            assert_refused(&answer, 13, "payload format", call);
            for short in [&[0][..], &[0, 0, 0], &[0, 0, 0, 0, 9, 1]] {
                let answer = raw.call(&path, short.to_vec()).await;
                assert_refused(&answer, 13, "", call);
            }
        }
        for path in
            ["etcdserverpb.KV/Range", "/", "//", "/etcdserverpb.KV/", "/etcdserverpb.KV%2FRange"]
        {
            // A path that is no path at all may also cost the stream.
            let answer = raw.call(path, framed(&[])).await;
            assert!(answer.code.is_none_or(|code| code == 12), "{path}: {answer:?}");
        }
        victim.assert_well().await;
    });
    victim.member.stop();
}

#[test]
fn requests_that_are_too_large_are_refused() {
    let victim = Victim::start("too-large");
    talk(async {
        let raw = victim.connect().await;
        let put = |bytes: usize| {
            let value = vec![7; bytes].into();
            pb::PutRequest { key: "k".into(), value, ..Default::default() }.encode_to_vec()
        };
        let max = 1_572_864;
        let answer = raw.call(&path("KV/Put"), framed(&put(max))).await;
        assert_refused(&answer, 3, "etcdserver: request is too large", "above max-request-bytes");
        // Above what gRPC takes: `--max-request-bytes` and half a MiB.
        let answer = raw.call(&path("KV/Put"), framed(&put(max + 512 * 1024))).await;
        assert_refused(&answer, 8, "larger than max", "above gRPC's bound");
        let fits: pb::PutResponse =
            raw.call(&path("KV/Put"), framed(&put(max - 1000))).await.message();
        assert!(fits.header.is_some());
        victim.assert_well().await;
    });
    victim.member.stop();
}

/// A request with one text that is no UTF-8.
fn no_text(field: u8) -> Vec<u8> {
    vec![field << 3 | 2, 2, 0xc3, 0x28]
}

#[test]
fn texts_that_are_none_are_refused() {
    let victim = Victim::start("bad-texts");
    talk(async {
        let raw = victim.connect().await;
        for (call, field) in [
            ("Cluster/MemberAdd", 1),
            ("Cluster/MemberUpdate", 2),
            ("Auth/UserAdd", 1),
            ("Auth/Authenticate", 2),
        ] {
            let answer = raw.call(&path(call), framed(&no_text(field))).await;
            // As above: 9 says that users are not in use, 12 that the call is not served.
            assert!(matches!(answer.code, Some(9 | 12 | 13)), "{call}: {answer:?}");
        }
        victim.assert_well().await;
    });
    victim.member.stop();
}

#[test]
fn numbers_at_the_edge_are_answered() {
    let victim = Victim::start("bad-numbers");
    talk(async {
        let raw = victim.connect().await;
        let edges = [0, 1, -1, 2, i64::MAX, i64::MIN, i64::MAX - 1, 1 << 32];
        let mut seen = std::collections::BTreeSet::new();
        for a in edges {
            for b in edges {
                let (key, range_end) = ("k".into(), "\0".into());
                let range = pb::RangeRequest {
                    key,
                    range_end,
                    limit: a,
                    revision: b,
                    min_mod_revision: b,
                    max_create_revision: a,
                    sort_order: a as i32,
                    sort_target: b as i32,
                    ..Default::default()
                };
                let grant = pb::LeaseGrantRequest { id: a, ttl: b };
                let put = pb::PutRequest { key: "k".into(), lease: a, ..Default::default() };
                let alarm =
                    pb::AlarmRequest { action: a as i32, member_id: b as u64, alarm: b as i32 };
                for (call, request) in [
                    ("KV/Range", range.encode_to_vec()),
                    ("KV/RangeStream", range.encode_to_vec()),
                    ("Lease/LeaseGrant", grant.encode_to_vec()),
                    ("Lease/LeaseRevoke", pb::LeaseRevokeRequest { id: a }.encode_to_vec()),
                    (
                        "Lease/LeaseTimeToLive",
                        pb::LeaseTimeToLiveRequest { id: a, keys: true }.encode_to_vec(),
                    ),
                    ("KV/Put", put.encode_to_vec()),
                    ("Maintenance/HashKV", pb::HashKvRequest { revision: a }.encode_to_vec()),
                    (
                        "Maintenance/MoveLeader",
                        pb::MoveLeaderRequest { target_id: a as u64 }.encode_to_vec(),
                    ),
                    (
                        "Cluster/MemberRemove",
                        pb::MemberRemoveRequest { id: b as u64 }.encode_to_vec(),
                    ),
                    (
                        "KV/Compact",
                        pb::CompactionRequest { revision: b, physical: true }.encode_to_vec(),
                    ),
                ] {
                    let answer = raw.call(&path(call), framed(&request)).await;
                    let code = answer.code.unwrap_or_else(|| panic!("{call} {a} {b}: {answer:?}"));
                    seen.insert((call, code));
                }
                // An alarm that exists would stop writes, as it should.
                if alarm.action != 1 || !(1..=2).contains(&alarm.alarm) {
                    let answer =
                        raw.call(&path("Maintenance/Alarm"), framed(&alarm.encode_to_vec())).await;
                    assert!(answer.code.is_some(), "{answer:?}");
                }
            }
        }
        eprintln!("{seen:?}");
        assert!(
            seen.iter().all(|(_, code)| ![2, 13].contains(code)),
            "no unknown or internal errors: {seen:?}"
        );
        victim.assert_well().await;
    });
    victim.member.stop();
}
