//! What goes on ends soon after its permission does.

use std::time::Duration;

use mainstay_proto::authpb::permission::Type;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::prost::Message as _;

use super::super::client::{Client, run};
use super::super::real::put;
use super::*;
use crate::errors::{INVALID_AUTH_TOKEN, PERMISSION_DENIED, USER_EMPTY};

/// Within this everything must have ended.
const SOON: Duration = Duration::from_secs(1);

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("within a second")
}

async fn watching(client: &Client, token: &str, key: &'static str) -> Stream {
    let mut stream = Stream::open(client, token, WATCH).await;
    watch_more(&mut stream, key).await;
    stream
}

async fn watch_more(stream: &mut Stream, key: &'static str) {
    let create = pb::WatchCreateRequest { key: key.into(), ..Default::default() };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    stream.send(&pb::WatchRequest { request_union: Some(union) }.encode_to_vec());
    let created = next(stream).await;
    assert!(created.created && !created.canceled, "{created:?}");
}

async fn next(stream: &mut Stream) -> pb::WatchResponse {
    let message = soon(stream.next()).await.expect("a message");
    pb::WatchResponse::decode(message).expect("a response")
}

/// Bob, who may read and write b, and c by another role; root's token and bob's.
async fn bob(client: &Client) -> (String, String) {
    let root = enable(client).await;
    add_user(client, &root, "bob").await;
    for role in ["b", "c"] {
        change(client, &root, "RoleAdd", &pb::AuthRoleAddRequest { name: role.into() }).await;
        grant(client, &root, role, permission(Type::Readwrite, role, "")).await;
        give(client, &root, "bob", role).await;
    }
    let token = log_in(client, "bob").await;
    (root, token)
}

async fn take_role_b(client: &Client, root: &str) {
    let revoke = pb::AuthUserRevokeRoleRequest { name: "bob".into(), role: "b".into() };
    change(client, root, "UserRevokeRole", &revoke).await;
}

#[test]
fn a_watcher_ends_with_its_permission_and_others_go_on() {
    let member = member("auth-revoked-watch");
    run(async {
        let client = Client::connect(&member.address).await;
        let (root, bob) = bob(&client).await;
        let mut stream = watching(&client, &bob, "b").await;
        watch_more(&mut stream, "c").await;
        take_role_b(&client, &root).await;
        let ended = next(&mut stream).await;
        let reason =
            format!("rpc error: code = PermissionDenied desc = {}", PERMISSION_DENIED.text);
        assert!(ended.canceled && ended.watch_id == 0, "{ended:?}");
        assert_eq!(ended.cancel_reason, reason);
        for key in ["b", "c"] {
            let put = put(key, "v");
            let _: pb::PutResponse = call(&client, &root, "/etcdserverpb.KV/Put", &put).await.ok();
        }
        let seen = next(&mut stream).await;
        assert_eq!((seen.watch_id, seen.events.len()), (1, 1), "{seen:?}");
        assert_eq!(seen.events[0].kv.as_ref().expect("a pair").key, "c");
    });
}

#[test]
fn streams_of_a_deleted_user_and_of_one_with_another_password_end() {
    let member = member("auth-revoked-user");
    run(async {
        let client = Client::connect(&member.address).await;
        let (root, bob) = bob(&client).await;
        let mut watch = watching(&client, &bob, "b").await;
        let mut unrelated = watching(&client, &root, "b").await;
        let change_password = pb::AuthUserChangePasswordRequest {
            name: "bob".into(),
            password: "bob's".into(),
            ..Default::default()
        };
        change(&client, &root, "UserChangePassword", &change_password).await;
        assert_eq!(soon(watch.end()).await, INVALID_AUTH_TOKEN.text);
        let bob = log_in(&client, "bob").await;
        let mut watch = watching(&client, &bob, "b").await;
        let mut alive = Stream::open(&client, &bob, KEEP_ALIVE).await;
        alive.send(&pb::LeaseKeepAliveRequest { id: 77 }.encode_to_vec());
        soon(alive.next()).await.expect("no such lease, and no refusal");
        let delete = pb::AuthUserDeleteRequest { name: "bob".into() };
        change(&client, &root, "UserDelete", &delete).await;
        assert_eq!(soon(watch.end()).await, INVALID_AUTH_TOKEN.text);
        assert_eq!(soon(alive.end()).await, INVALID_AUTH_TOKEN.text);
        let put = put("b", "v");
        let _: pb::PutResponse = call(&client, &root, "/etcdserverpb.KV/Put", &put).await.ok();
        assert_eq!(next(&mut unrelated).await.events.len(), 1, "root's goes on");
    });
}

#[test]
fn a_keepalive_ends_when_a_key_of_its_lease_is_not_its_clients_any_more() {
    let member = member("auth-revoked-lease");
    run(async {
        let client = Client::connect(&member.address).await;
        let (root, bob) = bob(&client).await;
        let lease = pb::LeaseGrantRequest { ttl: 600, id: 9 };
        let answer = call(&client, &bob, "/etcdserverpb.Lease/LeaseGrant", &lease).await;
        assert_eq!(answer.code, 0);
        let attached = pb::PutRequest { lease: 9, ..put("b", "v") };
        let _: pb::PutResponse = call(&client, &bob, "/etcdserverpb.KV/Put", &attached).await.ok();
        let mut alive = Stream::open(&client, &bob, KEEP_ALIVE).await;
        alive.send(&pb::LeaseKeepAliveRequest { id: 9 }.encode_to_vec());
        let renewed = soon(alive.next()).await.expect("renewed");
        let renewed = pb::LeaseKeepAliveResponse::decode(renewed).expect("a response");
        assert_eq!(renewed.ttl, 600);
        take_role_b(&client, &root).await;
        assert_eq!(soon(alive.end()).await, PERMISSION_DENIED.text);
    });
}

#[test]
fn streams_that_nobody_was_asked_about_end_when_authentication_goes_on() {
    let member = member("auth-revoked-enable");
    run(async {
        let client = Client::connect(&member.address).await;
        let mut watch = watching(&client, "", "b").await;
        let mut alive = Stream::open(&client, "", KEEP_ALIVE).await;
        alive.send(&pb::LeaseKeepAliveRequest { id: 77 }.encode_to_vec());
        soon(alive.next()).await.expect("an answer");
        let root = enable(&client).await;
        assert_eq!(soon(watch.end()).await, USER_EMPTY.text);
        assert_eq!(soon(alive.end()).await, USER_EMPTY.text);
        // Off again, and nobody needs a token.
        change(&client, &root, "AuthDisable", &pb::AuthDisableRequest {}).await;
        let put = put("b", "v");
        let _: pb::PutResponse = call(&client, "", "/etcdserverpb.KV/Put", &put).await.ok();
    });
}
