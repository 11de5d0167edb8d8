//! Every call of the `.proto` files and every kind of caller.

use mainstay_proto::RPCS;
use mainstay_proto::authpb::permission::Type;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::prost::Message as _;
use mainstay_proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use mainstay_proto::v3lockpb::{LockRequest, UnlockRequest};

use super::super::client::{Client, run};
use super::super::real::put;
use super::*;
use crate::errors::{INVALID_AUTH_TOKEN, PERMISSION_DENIED, USER_EMPTY};

/// Whom etcd lets in (semantics 11.13 to 11.15), written down once more by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Everybody,
    /// But a token that is shown must be good.
    Honest,
    Users,
    Root,
    /// A watch: refused by a message instead of a status.
    Watchers,
    /// It is not served.
    Nobody,
}

/// A call on what is root's alone, and who may make it.
pub(super) fn row(path: &str, lease: i64) -> (For, Vec<u8>) {
    let (_, method) = path.rsplit_once('/').expect("a path");
    let secret = || Bytes::from_static(b"secret");
    let user = || "other".to_owned();
    let of_key = pb::RangeRequest { key: secret(), ..Default::default() }.encode_to_vec();
    match (path.split('.').next().expect("a package"), method) {
        ("/v3lockpb" | "/v3electionpb", _) => (For::Root, contest(method, lease)),
        (_, "Check" | "List" | "Authenticate") => (For::Everybody, Vec::new()),
        ("/grpc", "Watch") => (For::Nobody, Vec::new()),
        (_, "AuthStatus") => (For::Honest, Vec::new()),
        ("/mainstaypb", "Status") | (_, "Status" | "MemberList" | "Alarm") => {
            (For::Users, Vec::new())
        }
        (_, "LeaseGrant") => (For::Users, pb::LeaseGrantRequest { ttl: 60, id: 0 }.encode_to_vec()),
        (_, "Range" | "RangeStream" | "DeleteRange") => (For::Root, of_key),
        (_, "Put") => (For::Root, put("secret", "v").encode_to_vec()),
        (_, "Txn") => {
            let put = pb::request_op::Request::RequestPut(put("secret", "v"));
            let success = vec![pb::RequestOp { request: Some(put) }];
            (For::Root, pb::TxnRequest { success, ..Default::default() }.encode_to_vec())
        }
        (_, "Watch") => {
            let create = pb::WatchCreateRequest { key: secret(), ..Default::default() };
            let union = pb::watch_request::RequestUnion::CreateRequest(create);
            let watch = pb::WatchRequest { request_union: Some(union) };
            (For::Watchers, watch.encode_to_vec())
        }
        (_, "LeaseKeepAlive") => {
            (For::Root, pb::LeaseKeepAliveRequest { id: lease }.encode_to_vec())
        }
        (_, "LeaseRevoke") => (For::Root, pb::LeaseRevokeRequest { id: lease }.encode_to_vec()),
        (_, "LeaseTimeToLive") => {
            let request = pb::LeaseTimeToLiveRequest { id: lease, keys: true };
            (For::Root, request.encode_to_vec())
        }
        (_, "UserGet") => (For::Root, pb::AuthUserGetRequest { name: user() }.encode_to_vec()),
        (_, "RoleGet") => (For::Root, pb::AuthRoleGetRequest { role: user() }.encode_to_vec()),
        // Without a name its refusal would be one of those that are looked for.
        (_, "UserAdd") => (
            For::Root,
            pb::AuthUserAddRequest { name: "x".into(), ..Default::default() }.encode_to_vec(),
        ),
        // All others, in whatever words; what is new is root's until it is looked at.
        (_, _) => (For::Root, Vec::new()),
    }
}

/// A request of the lock and election services about the line below the secret key.
fn contest(method: &str, lease: i64) -> Vec<u8> {
    let name = Bytes::from_static(b"secret");
    let leader = LeaderKey { name: name.clone(), key: name.clone(), rev: 1, lease };
    let (leader, value) = (Some(leader), Bytes::new());
    match method {
        "Lock" => LockRequest { name, lease }.encode_to_vec(),
        "Unlock" => UnlockRequest { key: name }.encode_to_vec(),
        "Campaign" => CampaignRequest { name, lease, value }.encode_to_vec(),
        "Proclaim" => ProclaimRequest { leader, value }.encode_to_vec(),
        "Resign" => ResignRequest { leader }.encode_to_vec(),
        _ => LeaderRequest { name }.encode_to_vec(),
    }
}

/// A caller: what it shows, and which refusals it meets.
struct Who {
    name: &'static str,
    token: String,
    /// What keeps it from what users may do.
    unknown: Option<&'static str>,
    is_root: bool,
}

fn who(name: &'static str, token: &str, unknown: Option<&'static str>) -> Who {
    Who { name, token: token.to_owned(), unknown, is_root: name == "root" }
}

impl Who {
    /// The refusal that etcd would give.
    fn expected(&self, rule: For) -> Option<&'static str> {
        let shows = !self.token.is_empty();
        match rule {
            For::Nobody | For::Everybody => None,
            For::Honest => self.unknown.filter(|_| shows),
            For::Users => self.unknown,
            For::Root | For::Watchers if self.is_root => None,
            For::Root | For::Watchers => Some(self.unknown.unwrap_or(PERMISSION_DENIED.text)),
        }
    }
}

async fn callers(client: &Client) -> (Vec<Who>, i64) {
    let root = enable(client).await;
    for name in ["alice", "bob", "gone", "changed"] {
        add_user(client, &root, name).await;
    }
    change(client, &root, "RoleAdd", &pb::AuthRoleAddRequest { name: "b".into() }).await;
    grant(client, &root, "b", permission(Type::Readwrite, "b", "c")).await;
    give(client, &root, "bob", "b").await;
    let (gone, changed) = (log_in(client, "gone").await, log_in(client, "changed").await);
    change(client, &root, "UserDelete", &pb::AuthUserDeleteRequest { name: "gone".into() }).await;
    let change_password = pb::AuthUserChangePasswordRequest {
        name: "changed".into(),
        password: "other".into(),
        ..Default::default()
    };
    change(client, &root, "UserChangePassword", &change_password).await;
    let lease = pb::LeaseGrantRequest { ttl: 600, id: 0 };
    let lease = call(client, &root, "/etcdserverpb.Lease/LeaseGrant", &lease).await;
    let lease = lease.ok::<pb::LeaseGrantResponse>().id;
    let attached = pb::PutRequest { lease, ..put("secret", "v") };
    let _: pb::PutResponse = call(client, &root, "/etcdserverpb.KV/Put", &attached).await.ok();
    let invalid = Some(INVALID_AUTH_TOKEN.text);
    let (alice, bob) = (log_in(client, "alice").await, log_in(client, "bob").await);
    let callers = vec![
        who("nobody", "", Some(USER_EMPTY.text)),
        who("garbage", "garbage", invalid),
        who("a forger", "abcdefghijklmnop.1", invalid),
        who("deleted", &gone, invalid),
        who("with an old password", &changed, invalid),
        who("without a role", &alice, None),
        who("of another range", &bob, None),
        who("root", &root, None),
    ];
    (callers, lease)
}

const REFUSALS: [&str; 3] = [PERMISSION_DENIED.text, USER_EMPTY.text, INVALID_AUTH_TOKEN.text];

/// The refusal in an answer, as far as it is about who asks.
fn refusal(answer: &Answer) -> Option<String> {
    REFUSALS.iter().find(|text| answer.text == **text).map(|text| (*text).to_owned())
}

#[test]
fn every_call_and_every_caller() {
    let member = member("auth-matrix");
    run(async {
        let client = Client::connect(&member.address).await;
        let (callers, lease) = callers(&client).await;
        let mut asked = 0;
        for caller in &callers {
            for path in RPCS {
                let (rule, message) = row(path, lease);
                // What would end the test.
                let ends = ["AuthDisable", "MoveLeader", "LeaseRevoke", "Observe"];
                if rule == For::Nobody
                    || caller.is_root && ends.iter().any(|method| path.ends_with(method))
                {
                    continue;
                }
                let found = if rule == For::Watchers {
                    watch_refusal(&client, &caller.token, path, &message).await
                } else {
                    refusal(&send(&client, &caller.token, path, message).await)
                };
                assert_eq!(found.as_deref(), caller.expected(rule), "{path} by {}", caller.name);
                asked += 1;
            }
        }
        assert!(asked > 8 * 45, "{asked} questions");
    });
}

/// Opens a watch and takes the first response: the refusal in it.
async fn watch_refusal(client: &Client, token: &str, path: &str, message: &[u8]) -> Option<String> {
    let mut stream = Stream::open(client, token, path).await;
    stream.send(message);
    let first = stream.next().await.expect("a watch is answered");
    let first = pb::WatchResponse::decode(first).expect("a response");
    assert!(first.created, "a refused watch is one that was created and cancelled");
    let reason = first.cancel_reason;
    reason.split_once("desc = ").map(|(_, text)| text.to_owned())
}
