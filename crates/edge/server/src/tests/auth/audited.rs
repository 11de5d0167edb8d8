//! What the audit log says of calls, and what it never says.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use mainstay_audit::{Policy, Settings, Trail};
use mainstay_proto::RPCS;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::prost::Message as _;
use mainstay_proto::v3electionpb::CampaignRequest;
use mainstay_types::limits::AUDIT_RECORDS_WAITING_MAX;
use serde_json::{Value, json};

use super::super::client::{Client, get, run};
use super::super::gateway::post;
use super::super::net::scratch;
use super::super::real::put;
use super::matrix::row;
use super::*;
use crate::audit::Noted;
use crate::call::Call;
use crate::errors::PERMISSION_DENIED;
use crate::method::Rpc;

/// What no line may hold.
const SECRET: &str = "hush-hush";

struct Audited {
    member: Member,
    trail: Trail,
    path: PathBuf,
}

/// A member that records everything.
fn audited(name: &str) -> Audited {
    let dir = scratch(&format!("{name}-log"));
    std::fs::create_dir_all(&dir).expect("a folder");
    let path = dir.join("audit.log");
    let calls: Vec<&str> = RPCS.iter().map(|path| &path[1..]).collect();
    let policy = Policy::read("rules: []", &calls).expect("a policy");
    let settings = Settings { path: path.clone(), rotation: None, policy };
    let trail = Trail::start(settings).expect("started");
    let (login, shared) = (Login::new(4), Some(trail.clone()));
    let member = Member::start_audited(name, Options::default(), local(), login, shared);
    Audited { member, trail, path }
}

impl Audited {
    async fn lines(&self) -> Vec<Value> {
        self.trail.flush().await;
        assert_eq!(self.trail.counts().lost, 0);
        let text = std::fs::read_to_string(&self.path).expect("the file");
        assert!(!text.contains(SECRET), "{text}");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.path.parent().expect("in a folder"));
    }
}

#[test]
fn every_call_of_every_kind_is_one_line() {
    let audited = audited("audit-all");
    let asked = run(async {
        let client = Client::connect(&audited.member.address).await;
        let root = enable(&client).await;
        add_user(&client, &root, "bob").await;
        let bob = log_in(&client, "bob").await;
        let mut asked = Vec::new();
        for path in RPCS.iter().filter(|path| **path != "/grpc.health.v1.Health/Watch") {
            let (_, message) = row(path, 1);
            if path.ends_with("Watch/Watch") {
                let mut stream = Stream::open(&client, &bob, path).await;
                stream.send(&message);
                stream.next().await.expect("an answer");
            } else {
                send(&client, &bob, path, message).await;
            }
            asked.push(&path[1..]);
        }
        asked
    });
    let lines = run(audited.lines());
    let by_bob = lines
        .iter()
        .filter(|line| line["user"] == "bob" || line["call"] == "etcdserverpb.Auth/Authenticate");
    for call in asked {
        let own: Vec<_> = lines.iter().filter(|line| line["call"] == call).collect();
        assert!(!own.is_empty(), "{call}");
        for line in own {
            for name in ["ts", "remote", "by", "door", "code", "took_us"] {
                assert!(!line[name].is_null(), "{name} of {line}");
            }
        }
    }
    assert!(by_bob.count() > 45);
    let denied =
        lines.iter().find(|line| line["call"] == "etcdserverpb.KV/Put" && line["user"] == "bob");
    let denied = denied.expect("bob's put");
    assert_eq!(denied["message"], PERMISSION_DENIED.text);
    assert_eq!(denied["code"], "PermissionDenied");
    assert_eq!(denied["items"], json!([{"op": "put", "key": "secret"}]));
    assert_eq!(denied["by"], "token");
}

fn secret() -> Bytes {
    Bytes::from_static(SECRET.as_bytes())
}

/// A transaction with secrets wherever there is a value, two levels deep.
fn txn() -> pb::TxnRequest {
    use pb::request_op::Request as Op;
    let op = |op| pb::RequestOp { request: Some(op) };
    let value = pb::compare::TargetUnion::Value(secret());
    let target = pb::compare::CompareTarget::Value.into();
    let compare =
        pb::Compare { key: "c".into(), target, target_union: Some(value), ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: "d".into(), range_end: "e".into(), prev_kv: true };
    let inner = pb::TxnRequest {
        success: vec![op(Op::RequestPut(put("inner", SECRET)))],
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Op::RequestPut(put("p", SECRET))), op(Op::RequestTxn(inner))],
        failure: vec![op(Op::RequestDeleteRange(delete))],
    }
}

#[test]
fn values_passwords_and_tokens_stand_in_no_line() {
    let audited = audited("audit-secrets");
    run(async {
        let client = Client::connect(&audited.member.address).await;
        let put_there: pb::PutResponse =
            call(&client, "", "/etcdserverpb.KV/Put", &put("p", SECRET)).await.ok();
        let revision = put_there.header.expect("a header").revision;
        let _: pb::TxnResponse = call(&client, "", "/etcdserverpb.KV/Txn", &txn()).await.ok();
        let all =
            pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let _: pb::RangeResponse = call(&client, "", "/etcdserverpb.KV/Range", &all).await.ok();
        let user = pb::AuthUserAddRequest {
            name: "eve".into(),
            password: SECRET.into(),
            hashed_password: SECRET.into(),
            options: None,
        };
        call(&client, "", "/etcdserverpb.Auth/UserAdd", &user).await;
        let user = pb::AuthUserChangePasswordRequest {
            name: "eve".into(),
            password: SECRET.into(),
            hashed_password: SECRET.into(),
        };
        call(&client, "", "/etcdserverpb.Auth/UserChangePassword", &user).await;
        let login = pb::AuthenticateRequest { name: "eve".into(), password: SECRET.into() };
        call(&client, "", "/etcdserverpb.Auth/Authenticate", &login).await;
        call(&client, SECRET, "/etcdserverpb.KV/Put", &put("p", SECRET)).await;
        let campaign = CampaignRequest { name: "n".into(), lease: 0, value: secret() };
        call(&client, "", "/v3electionpb.Election/Campaign", &campaign).await;
        // What cannot be read may be a value.
        send(&client, "", "/etcdserverpb.KV/Put", [&b"\x12\x7f"[..], SECRET.as_bytes()].concat())
            .await;
        let body = format!("{{\"key\": \"Zw==\", \"value\": \"{SECRET}");
        post(&audited.member.address, "/v3/kv/put", &body).await;
        get(&audited.member.address, &format!("/v3/kv/{SECRET}")).await;
        assert_eq!(revision, 2);
    });
    let lines = run(audited.lines());
    let txn = lines.iter().find(|line| line["call"] == "etcdserverpb.KV/Txn").expect("the txn");
    let expected = json!([
        {"op": "compare", "key": "c"}, {"op": "then put", "key": "p"},
        {"op": "then put", "key": "inner"},
        {"op": "else delete_range", "key": "d", "range_end": "e"},
    ]);
    assert_eq!(txn["items"], expected);
    let first = &lines[0];
    assert_eq!((&first["revision"], &first["code"]), (&json!(2), &json!("OK")));
    let login = lines.iter().find(|line| line["call"] == "etcdserverpb.Auth/Authenticate");
    assert_eq!(login.expect("the login")["about_user"], "eve");
}

#[test]
fn a_call_that_is_given_up_is_recorded() {
    let audited = audited("audit-given-up");
    run(async {
        let client = Client::connect(&audited.member.address).await;
        // Somebody else holds the line.
        let lock =
            |name: &str| CampaignRequest { name: name.to_owned().into(), ..Default::default() };
        call(&client, "", "/v3electionpb.Election/Campaign", &lock("line")).await;
        let request = client.request("/v3electionpb.Election/Campaign");
        let (response, mut sending) = client.open(request).await;
        sending.send_data(frame(&lock("line").encode_to_vec()), true).expect("sent");
        // It waits once it has put its key.
        let behind = pb::RangeRequest {
            key: "line/".into(),
            range_end: "line0".into(),
            ..Default::default()
        };
        loop {
            let found = call(&client, "", "/etcdserverpb.KV/Range", &behind).await;
            if found.ok::<pb::RangeResponse>().count == 2 {
                break;
            }
        }
        sending.send_reset(h2::Reason::CANCEL);
        drop(response);
        let given_up =
            |line: &Value| line["code"] == "Canceled" && line["items"][0]["op"] == "campaign";
        while !audited.lines().await.iter().any(given_up) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// Somebody who only waits (a lock, a stream) must not use up what others are recorded in.
#[test]
fn calls_that_wait_take_no_room_from_others() {
    let audited = audited("audit-waiting");
    run(async {
        let call = Call {
            method: Rpc::HealthWatch.method(),
            metadata: http::HeaderMap::new(),
            peer: Rc::default(),
            timeout: None,
            keep: Cell::default(),
        };
        let mut waiting = Vec::new();
        for _ in 0..=AUDIT_RECORDS_WAITING_MAX {
            let begun = Noted::begin(Some(&audited.trail), &call, None);
            let begun = tokio::time::timeout(Duration::from_secs(20), begun).await;
            waiting.push(begun.expect("there is room").expect("it is recorded"));
        }
        let begun = waiting.len();
        for noted in waiting {
            noted.end(Ok(()), &[]).await;
        }
        assert_eq!(audited.lines().await.len(), begun);
    });
}
