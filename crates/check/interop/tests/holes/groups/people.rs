//! Who may call at all, by which door, and for how long.

use std::time::Duration;

use bytes::Bytes;
use mainstay_interop::Kind;
use mainstay_proto::Message;
use mainstay_proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;

use super::note;
use crate::Holes;
use crate::client::{Client, Stream, talk};
use crate::raw::{self, END_HEADERS, END_STREAM, kind};
use crate::world::{HIDDEN, LEASE, SECRET, World};

/// Within this a stream must have ended (etcd's never do).
const SOON: Duration = Duration::from_secs(2);

fn bytes(text: &str) -> Bytes {
    text.to_owned().into()
}

/// Calls that tell or change something: none is for a caller without credentials, nor for one
/// whose roles do not say so.
fn for_root() -> Vec<(&'static str, Vec<u8>)> {
    let hidden = || bytes(HIDDEN);
    let add = pb::AuthUserAddRequest { name: "mallory".into(), ..Default::default() };
    vec![
        ("KV/Range", pb::RangeRequest { key: hidden(), ..Default::default() }.encode_to_vec()),
        ("KV/Put", crate::client::put(HIDDEN, "changed").encode_to_vec()),
        (
            "KV/DeleteRange",
            pb::DeleteRangeRequest { key: bytes("k3"), ..Default::default() }.encode_to_vec(),
        ),
        ("KV/Compact", pb::CompactionRequest { revision: 2, physical: false }.encode_to_vec()),
        (
            "Lease/LeaseTimeToLive",
            pb::LeaseTimeToLiveRequest { id: LEASE, keys: true }.encode_to_vec(),
        ),
        ("Cluster/MemberRemove", pb::MemberRemoveRequest { id: 1 }.encode_to_vec()),
        ("Maintenance/Defragment", Vec::new()),
        ("Maintenance/Hash", Vec::new()),
        ("Maintenance/HashKV", Vec::new()),
        ("Maintenance/Snapshot", Vec::new()),
        ("Maintenance/MoveLeader", pb::MoveLeaderRequest { target_id: 1 }.encode_to_vec()),
        (
            "Maintenance/Alarm",
            pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Deactivate.into(),
                alarm: pb::AlarmType::Nospace.into(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        ("Auth/UserAdd", add.encode_to_vec()),
        ("Auth/UserList", Vec::new()),
        ("Auth/RoleList", Vec::new()),
        ("Auth/UserGet", pb::AuthUserGetRequest { name: "root".into() }.encode_to_vec()),
        ("Auth/RoleGet", pb::AuthRoleGetRequest { role: "carol".into() }.encode_to_vec()),
        ("Auth/AuthDisable", Vec::new()),
    ]
}

/// Calls for every user, and for nobody else.
fn for_users() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("Cluster/MemberList", Vec::new()),
        ("Lease/LeaseGrant", pb::LeaseGrantRequest { ttl: 60, id: 4711 }.encode_to_vec()),
        ("Lease/LeaseLeases", Vec::new()),
        ("Lease/LeaseRevoke", pb::LeaseRevokeRequest { id: 4711 }.encode_to_vec()),
        ("Maintenance/Alarm", Vec::new()),
    ]
}

pub(crate) fn calls(kind: Kind) -> Holes {
    let world = World::guarded(kind, "calls", &[]);
    talk(async {
        let mut holes = Vec::new();
        let nobody = world.client().await;
        let (alice, bob) = (world.user("alice").await, world.user("bob").await);
        let callers = [
            ("nobody", nobody.clone()),
            ("a made-up token", nobody.with("abcdefghijklmnop.9")),
            ("a token that is no text", nobody.with("\u{e9}")),
            ("bob, who has no role", bob),
            ("alice", alice),
        ];
        for (who, client) in &callers {
            for (call, message) in for_root() {
                try_call(&mut holes, client, who, call, message).await;
            }
        }
        for (who, client) in &callers[..3] {
            for (call, message) in for_users() {
                try_call(&mut holes, client, who, call, message).await;
            }
        }
        holes
    })
}

async fn try_call(holes: &mut Holes, client: &Client, who: &str, call: &str, message: Vec<u8>) {
    let path = format!("/etcdserverpb.{call}");
    let answer = client.send(&path, crate::client::framed(&message)).await;
    note(holes, answer.done(), || format!("{call} is done for {who}"));
}

/// Spellings that are not a call's path, but may be taken for it by one part of a server and
/// not by another.
const SPELLINGS: &[&str] = &[
    "etcdserverpb.KV/Range",
    "//etcdserverpb.KV/Range",
    "/etcdserverpb.KV//Range",
    "/etcdserverpb.KV/Range/",
    "/etcdserverpb.KV/Range?a=b",
    "/etcdserverpb.KV%2FRange",
    "/etcdserverpb.kv/range",
    "/./etcdserverpb.KV/Range",
    "/v3/../etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Range",
];

pub(crate) fn paths(kind: Kind) -> Holes {
    let world = World::guarded(kind, "paths", &[]);
    let mut holes = Vec::new();
    let endpoint = world.member.endpoint();
    let range = pb::RangeRequest { key: bytes(HIDDEN), ..Default::default() }.encode_to_vec();
    for path in SPELLINGS {
        let mut socket = raw::open(&endpoint);
        let hello = [
            raw::preface(),
            raw::frame(kind::HEADERS, END_HEADERS, 1, &raw::call_headers(path)),
            raw::frame(kind::DATA, END_STREAM, 1, &crate::client::framed(&range)),
        ];
        // Refused before all was sent is as good.
        let _ = std::io::Write::write_all(&mut socket, &hello.concat());
        let answer = raw::drain(&mut socket, Duration::from_millis(300));
        let found = answer.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        note(&mut holes, found, || format!("{path} tells nobody the hidden value"));
    }
    // "k2secret", and the value, in base64.
    let body = r#"{"key":"azJzZWNyZXQ="}"#;
    let value = "dGhlLWhpZGRlbi12YWx1ZQ==";
    for path in
        ["/v3/kv/range", "/v3//kv/range", "/v3/kv/range/", "/V3/kv/range", "/v3beta/kv/range"]
    {
        for kind in ["application/json", "application/grpc-web", "text/plain"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n\
                 Grpcgateway-Authorization: x"
            );
            let answer = raw::http(&endpoint, &head, body);
            note(&mut holes, answer.contains(value), || {
                format!("POST {path} as {kind} tells nobody the hidden value")
            });
        }
    }
    holes
}

/// Watches `a/`.
async fn watch(client: &Client) -> Stream {
    let create =
        pb::WatchCreateRequest { key: bytes("a/"), range_end: bytes("a0"), ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let mut stream = client.stream("/etcdserverpb.Watch/Watch", &request).await;
    let created = stream.next(Duration::from_secs(20)).await.expect("a watch is created");
    assert!(pb::WatchResponse::decode(created).expect("a response").created);
    stream
}

/// Whether a stream that should have ended tells of this put.
async fn still_tells(stream: &mut Stream, root: &Client, key: &str) -> bool {
    assert!(root.put(key, SECRET).await.done());
    while let Some(message) = stream.next(SOON).await {
        let response = pb::WatchResponse::decode(message).expect("a response");
        if response
            .events
            .iter()
            .any(|event| event.kv.as_ref().is_some_and(|kv| kv.key == key.as_bytes()))
        {
            return true;
        }
    }
    false
}

pub(crate) fn revoked(kind: Kind) -> Holes {
    let world = World::guarded(kind, "revoked", &[]);
    talk(async {
        let mut holes = Vec::new();
        let root = world.user("root").await;
        // The permission last: it is that of all of them.
        for (name, what) in [
            ("dave", "a role is revoked"),
            ("erin", "a password changes"),
            ("frank", "the user is deleted"),
            ("grace", "a permission is revoked"),
        ] {
            crate::world::add_user(&root, name).await;
            let give = pb::AuthUserGrantRoleRequest { user: name.into(), role: "alice".into() };
            let path = "/etcdserverpb.Auth/UserGrantRole";
            let _: pb::AuthUserGrantRoleResponse = root.ask(path, &give).await;
            let user = world.user(name).await;
            let mut watching = watch(&user).await;
            assert!(still_tells(&mut watching, &root, "a/before").await, "{what}: a watch works");
            take_away(&root, what, name).await;
            let tells = still_tells(&mut watching, &root, "a/behind").await;
            note(&mut holes, tells, || format!("{what}, and a watch goes on"));
        }
        holes
    })
}

async fn take_away(root: &Client, what: &str, name: &str) {
    let answer = match what {
        "a role is revoked" => {
            let revoke = pb::AuthUserRevokeRoleRequest { name: name.into(), role: "alice".into() };
            root.call("/etcdserverpb.Auth/UserRevokeRole", &revoke).await
        }
        "a permission is revoked" => {
            let (key, range_end) = (bytes("a/"), bytes("a0"));
            let revoke =
                pb::AuthRoleRevokePermissionRequest { role: "alice".into(), key, range_end };
            let path = "/etcdserverpb.Auth/RoleRevokePermission";
            root.call(path, &revoke).await
        }
        "a password changes" => {
            let change = pb::AuthUserChangePasswordRequest {
                name: name.into(),
                password: "another".into(),
                ..Default::default()
            };
            root.call("/etcdserverpb.Auth/UserChangePassword", &change).await
        }
        _ => {
            let delete = pb::AuthUserDeleteRequest { name: name.into() };
            root.call("/etcdserverpb.Auth/UserDelete", &delete).await
        }
    };
    assert!(answer.done(), "{what}: {answer:?}");
}

/// Whoever had a right that was taken away has not got it any more from the answer on, with the
/// token of before.
pub(crate) fn old_tokens(kind: Kind) -> Holes {
    let world = World::guarded(kind, "old-tokens", &[]);
    talk(async {
        let mut holes = Vec::new();
        let root = world.user("root").await;
        let (alice, carol) = (world.user("alice").await, world.user("carol").await);
        assert!(alice.get("a/1").await.done() && carol.put("a/2", "v").await.done());
        for name in ["alice", "carol"] {
            let revoke = pb::AuthUserRevokeRoleRequest { name: name.into(), role: name.into() };
            let path = "/etcdserverpb.Auth/UserRevokeRole";
            let _: pb::AuthUserRevokeRoleResponse = root.ask(path, &revoke).await;
        }
        let range = |serializable| pb::RangeRequest {
            key: bytes("a/1"),
            serializable,
            ..Default::default()
        };
        for serializable in [false, true] {
            let answer = alice.call("/etcdserverpb.KV/Range", &range(serializable)).await;
            note(&mut holes, answer.done(), || {
                format!("a read (serializable: {serializable}) after the role was revoked")
            });
        }
        let put = carol.put("a/2", "w").await;
        note(&mut holes, put.done(), || "a put after the role was revoked".to_owned());
        holes
    })
}

pub(crate) fn restarts(kind: Kind) -> Holes {
    let world = World::guarded(kind, "restarts", &[]);
    let mut holes = Vec::new();
    let World { member, folder } = world;
    let mut start = member.start().clone();
    member.kill();
    for flag in ["", "--force-new-cluster"] {
        if !flag.is_empty() {
            start = start.flag(flag);
        }
        let member = start.run().expect("the binary is there");
        let endpoint = member.endpoint();
        talk(async {
            let client = Client::connect(&endpoint).await;
            let answer = client.get(HIDDEN).await;
            note(&mut holes, answer.done(), || format!("nobody reads after a start {flag}"));
            let alice = crate::world::log_in(&client, "alice").await;
            let answer = alice.get(HIDDEN).await;
            note(&mut holes, answer.done(), || format!("alice reads after a start {flag}"));
        });
        member.kill();
    }
    drop(folder);
    holes
}

/// A page in a browser that was told that its own name is this machine (CVE-2018-5702).
pub(crate) fn hosts(kind: Kind) -> Holes {
    let flags = ["--host-whitelist=good.example,127.0.0.1", "--cors=https://good.example:443"];
    let world = World::open(kind, "hosts", &flags);
    let mut holes = Vec::new();
    let endpoint = world.member.endpoint();
    for (path, verb) in
        [("/v3/kv/range", "POST"), ("/health", "GET"), ("/version", "GET"), ("/metrics", "GET")]
    {
        let ask = |host: &str| {
            let head = format!("{verb} {path} HTTP/1.1\r\nHost: {host}");
            raw::http(&endpoint, &head, r#"{"key":"az=="}"#)
        };
        let good = ask("good.example");
        assert!(!good.contains(" 403 ") && !good.contains(" 421 "), "{path}: {good}");
        let evil = ask("evil.example");
        let refused = evil.is_empty() || evil.contains(" 403 ") || evil.contains(" 421 ");
        note(&mut holes, !refused, || format!("{verb} {path} for evil.example"));
    }
    let head =
        "OPTIONS /v3/kv/range HTTP/1.1\r\nHost: good.example\r\nOrigin: https://evil.example";
    let answer = raw::http(&endpoint, head, "").to_ascii_lowercase();
    let allowed = answer.contains("access-control-allow-origin: https://evil.example")
        || answer.contains("access-control-allow-origin: *");
    note(&mut holes, allowed, || "a page of evil.example may call".to_owned());
    holes
}
