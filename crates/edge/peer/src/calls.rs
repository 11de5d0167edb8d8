//! Questions to a peer outside raft (http.md 3.3).

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use mainstay_driver::{About, CallError, PeerAnswer, PeerCall, PeerHash};
use mainstay_membership::Member;
use mainstay_proto::{etcdserverpb as pb, leasepb};
use mainstay_types::{LeaseId, Version};
use prost::Message as _;
use serde_json::Value;

use crate::client::{Answer, OutBody};
use crate::peer::Peer;
use crate::shared::Shared;
use crate::url::Origin;

/// How long one URL of a peer may take.
const URL_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a peer, one of its URLs after the other until one answers.
pub(crate) async fn ask(
    shared: &Shared,
    peer: &Peer,
    call: &PeerCall,
) -> Result<PeerAnswer, CallError> {
    let mut problem = "it has no URL".to_owned();
    for origin in peer.picker.all() {
        let request = || request(shared, &origin, call);
        let asking = peer.pool.ask(&shared.dialer, &origin, request);
        match tokio::time::timeout(URL_TIMEOUT, asking).await {
            Ok(Ok(answer)) => return understand(call, &answer),
            Ok(Err(error)) => problem = io::Error::from(error).to_string(),
            Err(_) => problem = format!("{origin}: no answer"),
        }
        peer.picker.unreachable(&origin);
    }
    Err(CallError::Unreachable(problem))
}

fn request(shared: &Shared, origin: &Origin, call: &PeerCall) -> Request<OutBody> {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf");
    let (get, post) = (Method::GET, Method::POST);
    let (method, path, body, kind) = match call {
        PeerCall::Version => (get, "/version".to_owned(), Bytes::new(), None),
        PeerCall::DowngradeEnabled => (get, "/downgrade/enabled".to_owned(), Bytes::new(), None),
        PeerCall::About => (get, ABOUT.to_owned(), Bytes::new(), None),
        PeerCall::Promote { member } => {
            (post, format!("/members/promote/{}", member.0), Bytes::new(), None)
        }
        PeerCall::HashKv { revision } => {
            // Go leaves out what is zero.
            let body = match revision {
                0 => "{}".to_owned(),
                revision => format!(r#"{{"revision":{revision}}}"#),
            };
            (get, "/members/hashkv".to_owned(), body.into(), Some(JSON))
        }
        PeerCall::LeaseRenew { lease } => {
            let body = pb::LeaseKeepAliveRequest { id: lease.0 }.encode_to_vec();
            (post, "/leases".to_owned(), body.into(), Some(PROTOBUF))
        }
        PeerCall::LeaseTimes { lease, keys } => {
            let asked = pb::LeaseTimeToLiveRequest { id: lease.0, keys: *keys };
            let body = leasepb::LeaseInternalRequest { lease_time_to_live_request: Some(asked) };
            let body = body.encode_to_vec();
            (post, "/leases/internal".to_owned(), body.into(), Some(PROTOBUF))
        }
    };
    let mut request = Peer::request(shared, origin, method, &path, OutBody::whole(body));
    if let Some(kind) = kind {
        request.headers_mut().insert(CONTENT_TYPE, kind);
    }
    request
}

/// Where a member of ours answers [`PeerCall::About`]; below `/raft/`, where a Go member
/// answers 404 to what it does not know.
pub(crate) const ABOUT: &str = "/raft/mainstay";

/// The answer there.
pub(crate) fn about_json(about: About) -> String {
    format!(r#"{{"lease_checkpoints":{}}}"#, about.lease_checkpoints)
}

const NO_LEASE: &str = "lease not found";

fn understand(call: &PeerCall, answer: &Answer) -> Result<PeerAnswer, CallError> {
    match (call, answer.status) {
        // etcd's peers say so by status; there is no lease of this id.
        (PeerCall::LeaseRenew { .. }, 404) if answer.text() == NO_LEASE => {
            Ok(PeerAnswer::LeaseRenewed(0))
        }
        (PeerCall::LeaseTimes { .. }, 404) if answer.text() == NO_LEASE => {
            Ok(PeerAnswer::LeaseTimes { ttl: -1, granted: 0, keys: Vec::new() })
        }
        (_, 200) => read(call, &answer.body).map_err(CallError::Malformed),
        (_, status) => Err(CallError::Refused { status, body: answer.text() }),
    }
}

fn read(call: &PeerCall, body: &Bytes) -> Result<PeerAnswer, String> {
    match call {
        PeerCall::Version => version(body),
        PeerCall::HashKv { .. } => hash(body),
        PeerCall::LeaseRenew { lease } => {
            let answer = pb::LeaseKeepAliveResponse::decode(body.clone()).map_err(text)?;
            same_lease(*lease, answer.id)?;
            Ok(PeerAnswer::LeaseRenewed(answer.ttl))
        }
        PeerCall::LeaseTimes { lease, .. } => {
            let answer = leasepb::LeaseInternalResponse::decode(body.clone()).map_err(text)?;
            let times = answer.lease_time_to_live_response.unwrap_or_default();
            same_lease(*lease, times.id)?;
            let (ttl, granted) = (times.ttl, times.granted_ttl);
            Ok(PeerAnswer::LeaseTimes { ttl, granted, keys: times.keys })
        }
        PeerCall::Promote { .. } => {
            let Value::Array(members) = serde_json::from_slice(body).map_err(text)? else {
                return Err("not a list of members".to_owned());
            };
            let member = |json: &Value| Member::from_json(json.to_string().as_bytes());
            let members: Result<Vec<Member>, _> = members.iter().map(member).collect();
            Ok(PeerAnswer::Promoted(members.map_err(text)?))
        }
        PeerCall::DowngradeEnabled => match &body[..] {
            b"true" => Ok(PeerAnswer::DowngradeEnabled(true)),
            b"false" => Ok(PeerAnswer::DowngradeEnabled(false)),
            _ => Err("neither true nor false".to_owned()),
        },
        PeerCall::About => {
            let json: Value = serde_json::from_slice(body).map_err(text)?;
            // What an older one of ours does not say it does not have.
            let on = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or_default();
            if !json.is_object() {
                return Err("not an object".to_owned());
            }
            Ok(PeerAnswer::About(About { lease_checkpoints: on("lease_checkpoints") }))
        }
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn same_lease(wanted: LeaseId, answered: i64) -> Result<(), String> {
    if wanted.0 == answered { Ok(()) } else { Err("lease: renew id mismatch".to_owned()) }
}

fn version(body: &Bytes) -> Result<PeerAnswer, String> {
    let json: Value = serde_json::from_slice(body).map_err(text)?;
    let field = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
    let server: Version = field("etcdserver").parse().map_err(text)?;
    Ok(PeerAnswer::Version { server, cluster: field("etcdcluster").parse().ok() })
}

fn hash(body: &Bytes) -> Result<PeerAnswer, String> {
    let json: Value = serde_json::from_slice(body).map_err(text)?;
    if !json.is_object() {
        return Err("not an object".to_owned());
    }
    // What is zero is left out.
    let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or_default();
    let hash = u32::try_from(number(json.get("hash"))).map_err(text)?;
    Ok(PeerAnswer::HashKv(PeerHash {
        hash,
        compact_revision: number(json.get("compact_revision")),
        hash_revision: number(json.get("hash_revision")),
        revision: number(json.get("header").and_then(|header| header.get("revision"))),
    }))
}

#[cfg(test)]
mod tests {
    use mainstay_types::MemberId;

    use super::*;

    fn understood(call: &PeerCall, status: u16, body: &[u8]) -> Result<PeerAnswer, CallError> {
        understand(call, &Answer { status, body: Bytes::copy_from_slice(body) })
    }

    #[test]
    fn versions_of_three_minors() {
        let ask = |body: &str| understood(&PeerCall::Version, 200, body.as_bytes());
        let server = |minor, patch| Version { major: 3, minor, patch };
        assert_eq!(
            ask(r#"{"etcdserver":"3.5.16","etcdcluster":"3.5.0"}"#),
            Ok(PeerAnswer::Version { server: server(5, 16), cluster: Some(server(5, 0)) })
        );
        assert_eq!(
            ask(r#"{"etcdserver":"3.7.1","etcdcluster":"not_decided","storage":"unknown"}"#),
            Ok(PeerAnswer::Version { server: server(7, 1), cluster: None })
        );
        assert!(matches!(ask("{}"), Err(CallError::Malformed(_))));
        assert!(matches!(ask("404 page not found\n"), Err(CallError::Malformed(_))));
    }

    #[test]
    fn hashes_of_old_and_new_members() {
        let call = PeerCall::HashKv { revision: 5 };
        let new =
            r#"{"header":{"revision":9},"hash":4294967295,"compact_revision":3,"hash_revision":5}"#;
        let hashed =
            PeerHash { hash: u32::MAX, compact_revision: 3, hash_revision: 5, revision: 9 };
        assert_eq!(understood(&call, 200, new.as_bytes()), Ok(PeerAnswer::HashKv(hashed)));
        let old = r#"{"header":{"revision":9},"hash":7,"compact_revision":-1}"#;
        let hashed = PeerHash { hash: 7, compact_revision: -1, hash_revision: 0, revision: 9 };
        assert_eq!(understood(&call, 200, old.as_bytes()), Ok(PeerAnswer::HashKv(hashed)));
        let refused = understood(&call, 400, b"mvcc: required revision has been compacted\n");
        let body = "mvcc: required revision has been compacted".to_owned();
        assert_eq!(refused, Err(CallError::Refused { status: 400, body }));
        assert!(matches!(understood(&call, 200, b"[]"), Err(CallError::Malformed(_))));
    }

    #[test]
    fn leases_that_are_there_and_not() {
        let call = PeerCall::LeaseRenew { lease: LeaseId(7) };
        let answer = pb::LeaseKeepAliveResponse { header: None, id: 7, ttl: 60 }.encode_to_vec();
        assert_eq!(understood(&call, 200, &answer), Ok(PeerAnswer::LeaseRenewed(60)));
        let gone = understood(&call, 404, b"lease not found\n");
        assert_eq!(gone, Ok(PeerAnswer::LeaseRenewed(0)));
        let other = understood(&PeerCall::LeaseRenew { lease: LeaseId(8) }, 200, &answer);
        assert!(matches!(other, Err(CallError::Malformed(_))));
        let times = PeerCall::LeaseTimes { lease: LeaseId(7), keys: true };
        let gone = understood(&times, 404, b"lease not found\n");
        assert_eq!(gone, Ok(PeerAnswer::LeaseTimes { ttl: -1, granted: 0, keys: vec![] }));
    }

    #[test]
    fn members_of_ours_say_what_they_are() {
        let ask = |status, body: &str| understood(&PeerCall::About, status, body.as_bytes());
        for lease_checkpoints in [true, false] {
            let about = About { lease_checkpoints };
            assert_eq!(ask(200, &about_json(about)), Ok(PeerAnswer::About(about)));
        }
        assert_eq!(ask(200, "{}"), Ok(PeerAnswer::About(About::default())));
        assert!(matches!(ask(200, "[]"), Err(CallError::Malformed(_))));
        let go = ask(404, "404 page not found\n");
        assert!(matches!(go, Err(CallError::Refused { status: 404, .. })), "{go:?}");
    }

    #[test]
    fn members_after_a_promotion() {
        let call = PeerCall::Promote { member: MemberId(1) };
        let body = br#"[{"id":18446744073709551615,"peerURLs":["http://a:1"],"name":"m"}]"#;
        let Ok(PeerAnswer::Promoted(members)) = understood(&call, 200, body) else {
            panic!("it is a list of members")
        };
        assert_eq!((members[0].id, members[0].name.as_str()), (MemberId(u64::MAX), "m"));
        let not_yet = "etcdserver: can only promote a learner member which is in sync with leader";
        let refused = understood(&call, 412, not_yet.as_bytes());
        assert_eq!(refused, Err(CallError::Refused { status: 412, body: not_yet.to_owned() }));
    }
}
