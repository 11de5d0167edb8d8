//! The services about the cluster: who may do what, who is asked, and what is said.

use std::time::Duration;

use bytes::Bytes;
use mainstay_driver::{CallError, PeerAnswer, PeerCall};
use mainstay_membership::Downgrade;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mainstaypb;
use mainstay_types::{Index, LeaseId, MemberId, Version};

use super::client::{Answer, Client, frame, get, run};
use super::fake::{Fake, MEMBER, Running, local};
use crate::errors::{self, Known};
use crate::member::Member as _;
use crate::status::Code;

#[track_caller]
fn assert_known(answer: &Answer, known: Known) {
    answer.assert_refused(known.code, known.text);
}

/// A member among others.
fn among(others: &[u64]) -> Running {
    let server = Running::plain();
    others.iter().for_each(|id| server.member.join(*id, false));
    server
}

/// A follower of member 0xb whose requests time out soon.
fn follower() -> Running {
    let server = Running::over(Fake::with_patience(Duration::from_millis(400)), local());
    server.member.join(0xb, false);
    server.member.0.standing.lock().leader = MemberId(0xb);
    server
}

fn refused(status: u16, body: &str) -> Result<PeerAnswer, CallError> {
    Err(CallError::Refused { status, body: body.to_owned() })
}

fn add(urls: &[&str], is_learner: bool) -> pb::MemberAddRequest {
    let peer_ur_ls = urls.iter().map(|url| (*url).to_owned()).collect();
    pb::MemberAddRequest { peer_ur_ls, is_learner }
}

const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
const UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
const PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";

#[test]
fn members_are_added_updated_and_removed() {
    let server = among(&[]);
    run(async {
        let client = Client::connect(&server.address()).await;
        let answer = client.call(ADD, &add(&["http://b:1", " http://a:1"], false)).await;
        let reply: pb::MemberAddResponse = answer.ok();
        let added = reply.member.expect("the member");
        assert_eq!(added.peer_ur_ls, ["http://a:1", "http://b:1"], "sorted");
        assert_eq!((added.name.as_str(), added.is_learner), ("", false));
        assert_eq!(reply.members.len(), 2);
        let header = reply.header.expect("a header");
        assert_eq!((header.revision, header.raft_term), (0, 2), "no revision in this service");
        // The same URLs again are somebody's already.
        *server.member.0.around.strict.lock() = false;
        let again = client.call(ADD, &add(&["http://a:1"], true)).await;
        assert_known(&again, errors::PEER_URL_EXIST);
        let update =
            pb::MemberUpdateRequest { id: added.id, peer_ur_ls: vec!["not a URL".to_owned()] };
        let reply: pb::MemberUpdateResponse = client.call(UPDATE, &update).await.ok();
        let updated = reply.members.iter().find(|member| member.id == added.id);
        assert_eq!(updated.expect("it is there").peer_ur_ls, ["not a URL"]);
        let remove = pb::MemberRemoveRequest { id: added.id };
        let reply: pb::MemberRemoveResponse = client.call(REMOVE, &remove).await.ok();
        assert_eq!(reply.members.len(), 1);
        assert_known(&client.call(REMOVE, &remove).await, errors::MEMBER_NOT_FOUND);
        assert_known(&client.call(UPDATE, &update).await, errors::MEMBER_NOT_FOUND);
        let learner = client.call(ADD, &add(&["http://l:1"], true)).await;
        let reply: pb::MemberAddResponse = learner.ok();
        assert!(reply.member.expect("the member").is_learner);
        let second = client.call(ADD, &add(&["http://l:2"], true)).await;
        assert_known(&second, errors::TOO_MANY_LEARNERS);
    });
}

#[test]
fn urls_that_are_none_are_refused_before_anything_else() {
    let server = among(&[0xb]);
    server.member.0.around.connected.lock().clear();
    run(async {
        let client = Client::connect(&server.address()).await;
        for urls in [&[][..], &["127.0.0.1:2380"], &["http://a:1/path"]] {
            assert_known(&client.call(ADD, &add(urls, false)).await, errors::MEMBER_BAD_URLS);
        }
    });
}

#[test]
fn the_strict_check_protects_the_quorum() {
    let server = among(&[0xb, 0xc]);
    server.member.0.around.connected.lock().remove(&MemberId(0xc));
    run(async {
        let client = Client::connect(&server.address()).await;
        let joining = add(&["http://d:1"], false);
        assert_known(&client.call(ADD, &joining).await, errors::UNHEALTHY);
        let remove = |id| pb::MemberRemoveRequest { id };
        assert_known(&client.call(REMOVE, &remove(0xb)).await, errors::UNHEALTHY);
        // One that is away may go.
        let answer = client.call(REMOVE, &remove(0xc)).await;
        let _: pb::MemberRemoveResponse = answer.ok();
        let answer = client.call(ADD, &joining).await;
        let _: pb::MemberAddResponse = answer.ok();
        // The newcomer has not started: no second one, and this error travels as Unknown.
        let answer = client.call(ADD, &add(&["http://e:1"], false)).await;
        assert_eq!(answer.code, Code::Unknown as u8);
        assert_known(&answer, errors::MEMBER_NOT_ENOUGH_STARTED);
        *server.member.0.around.strict.lock() = false;
        let answer = client.call(ADD, &add(&["http://e:1"], false)).await;
        let _: pb::MemberAddResponse = answer.ok();
    });
}

#[test]
fn a_learner_is_promoted_when_it_is_in_sync() {
    let server = among(&[]);
    server.member.join(0xb, true);
    run(async {
        let client = Client::connect(&server.address()).await;
        let promote = |id| pb::MemberPromoteRequest { id };
        assert_known(&client.call(PROMOTE, &promote(0xb)).await, errors::MEMBER_NOT_FOUND);
        let matched = |index| {
            server.member.0.around.matched.lock().insert(MemberId(0xb), Index(index));
        };
        matched(89);
        assert_known(&client.call(PROMOTE, &promote(0xb)).await, errors::LEARNER_NOT_READY);
        // A lost quorum is told before a promotion is tried.
        matched(90);
        *server.member.0.read_error.lock() = Some(errors::TIMEOUT.status());
        assert_known(&client.call(PROMOTE, &promote(0xb)).await, errors::TIMEOUT);
        *server.member.0.read_error.lock() = None;
        let reply: pb::MemberPromoteResponse = client.call(PROMOTE, &promote(0xb)).await.ok();
        assert!(reply.members.iter().all(|member| !member.is_learner));
        assert_known(&client.call(PROMOTE, &promote(0xb)).await, errors::MEMBER_NOT_LEARNER);
        assert!(server.member.asked().is_empty(), "the leader asks nobody");
        let stats = server.member.stats();
        assert_eq!(stats.learners_promoted.get(), 1);
        let failures = stats.learners_not_promoted.get();
        let failures: Vec<(&str, u64)> =
            failures.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        let expected = [
            (errors::LEARNER_NOT_READY.text, 1),
            ("membership: ID not found", 1),
            ("membership: can only promote a learner member", 1),
        ];
        assert_eq!(failures, expected);
        let (_, _, text) = get(&server.address(), "/metrics").await;
        let line = "etcd_server_learner_promote_failures{Reason=\"membership: ID not found\"} 1\n";
        assert!(text.contains(line), "{text}");
    });
}

#[test]
fn a_follower_asks_the_leader_to_promote() {
    let server = follower();
    run(async {
        let client = Client::connect(&server.address()).await;
        let promote = pb::MemberPromoteRequest { id: 7 };
        // What cannot be told apart from trouble is tried again.
        let member = &server.member;
        member.will_hear(Err(CallError::Unreachable("away".into())));
        member.will_hear(refused(500, r#"{"message":"Internal Server Error"}"#));
        member.will_hear(Ok(PeerAnswer::Promoted(Vec::new())));
        let _: pb::MemberPromoteResponse = client.call(PROMOTE, &promote).await.ok();
        let question = (MemberId(0xb), PeerCall::Promote { member: MemberId(7) });
        assert_eq!(member.asked(), vec![question; 3]);
        member.will_hear(refused(404, "membership: ID not found"));
        assert_known(&client.call(PROMOTE, &promote).await, errors::MEMBER_NOT_FOUND);
        member.will_hear(refused(412, "membership: can only promote a learner member"));
        assert_known(&client.call(PROMOTE, &promote).await, errors::MEMBER_NOT_LEARNER);
        member.will_hear(refused(412, errors::LEARNER_NOT_READY.text));
        assert_known(&client.call(PROMOTE, &promote).await, errors::LEARNER_NOT_READY);
        assert_known(&client.call(PROMOTE, &promote).await, errors::TIMEOUT);
        member.0.standing.lock().leader = MemberId::NONE;
        assert_known(&client.call(PROMOTE, &promote).await, errors::NO_LEADER);
    });
}

async fn keep_alive(client: &Client, id: i64) -> Answer {
    let body = frame(&pb::LeaseKeepAliveRequest { id }.encode_to_vec());
    client.send(client.request("/etcdserverpb.Lease/LeaseKeepAlive"), body).await
}

#[test]
fn a_follower_asks_the_leader_about_leases() {
    let server = follower();
    run(async {
        let client = Client::connect(&server.address()).await;
        let member = &server.member;
        let ttl = |answer: &Answer| answer.ok::<pb::LeaseKeepAliveResponse>().ttl;
        member.will_hear(refused(408, "waiting for node to catch up"));
        member.will_hear(Ok(PeerAnswer::LeaseRenewed(33)));
        assert_eq!(ttl(&keep_alive(&client, 5).await), 33);
        let question = (MemberId(0xb), PeerCall::LeaseRenew { lease: LeaseId(5) });
        assert_eq!(member.asked(), vec![question; 2]);
        member.will_hear(Ok(PeerAnswer::LeaseRenewed(0)));
        assert_eq!(ttl(&keep_alive(&client, 5).await), 0);
        member.will_hear(refused(404, "lease not found"));
        assert_eq!(ttl(&keep_alive(&client, 5).await), 0);
        assert_known(&keep_alive(&client, 5).await, errors::TIMEOUT);
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let ask = pb::LeaseTimeToLiveRequest { id: 5, keys: true };
        let keys = vec![Bytes::from_static(b"k")];
        member.will_hear(Ok(PeerAnswer::LeaseTimes { ttl: 8, granted: 60, keys: keys.clone() }));
        let times: pb::LeaseTimeToLiveResponse = client.call(path, &ask).await.ok();
        assert_eq!((times.id, times.ttl, times.granted_ttl, times.keys), (5, 8, 60, keys));
        assert!(times.header.is_some_and(|header| header.member_id == MEMBER));
        for missing in [
            Ok(PeerAnswer::LeaseTimes { ttl: -1, granted: 0, keys: Vec::new() }),
            refused(404, "lease not found"),
        ] {
            member.will_hear(missing);
            let times: pb::LeaseTimeToLiveResponse = client.call(path, &ask).await.ok();
            assert_eq!((times.id, times.ttl, times.granted_ttl), (5, -1, 0));
        }
        member.0.standing.lock().leader = MemberId::NONE;
        assert_known(&client.call(path, &ask).await, errors::NO_LEADER);
        assert_known(&keep_alive(&client, 5).await, errors::NO_LEADER);
    });
}

#[test]
fn a_lease_is_gone_only_when_everything_is_applied() {
    let server = among(&[0xb]);
    *server.member.0.read_error.lock() = Some(errors::LEADER_CHANGED.status());
    run(async {
        let client = Client::connect(&server.address()).await;
        let ttl = |answer: Answer| answer.ok::<pb::LeaseKeepAliveResponse>().ttl;
        assert_eq!(ttl(keep_alive(&client, 1).await), 60, "one that is known costs no round");
        assert_known(&keep_alive(&client, 2).await, errors::LEADER_CHANGED);
        let times = pb::LeaseTimeToLiveRequest { id: 1, keys: false };
        let times = client.call("/etcdserverpb.Lease/LeaseTimeToLive", &times).await;
        assert_known(&times, errors::LEADER_CHANGED);
        *server.member.0.read_error.lock() = None;
        assert_eq!(ttl(keep_alive(&client, 2).await), 0);
    });
}

#[test]
fn only_the_leader_hands_over_and_only_to_a_voter() {
    let server = among(&[0xb]);
    server.member.join(0xd, true);
    run(async {
        let client = Client::connect(&server.address()).await;
        let path = "/etcdserverpb.Maintenance/MoveLeader";
        let to = |target_id| pb::MoveLeaderRequest { target_id };
        for wrong in [99, 0xd, 0] {
            assert_known(&client.call(path, &to(wrong)).await, errors::BAD_LEADER_TRANSFEREE);
        }
        let moved = || server.member.0.around.moved.lock().clone();
        let reply: pb::MoveLeaderResponse = client.call(path, &to(MEMBER)).await.ok();
        assert_eq!((reply.header, moved()), (None, vec![]));
        let _: pb::MoveLeaderResponse = client.call(path, &to(0xb)).await.ok();
        assert_eq!(moved(), [MemberId(0xb)]);
        server.member.0.standing.lock().leader = MemberId(0xb);
        assert_known(&client.call(path, &to(0xb)).await, errors::NOT_LEADER);
    });
}

#[test]
fn a_downgrade_is_validated_begun_and_cancelled() {
    let server = among(&[]);
    run(async {
        let client = Client::connect(&server.address()).await;
        let path = "/etcdserverpb.Maintenance/Downgrade";
        let ask = async |action: i32, version: &str| {
            let request = pb::DowngradeRequest { action, version: version.to_owned() };
            client.call(path, &request).await
        };
        let version = |answer: Answer| answer.ok::<pb::DowngradeResponse>().version;
        let job = || server.member.0.around.membership.lock().downgrade().clone();
        for action in [0, 1] {
            assert_known(&ask(action, "3.x").await, errors::WRONG_DOWNGRADE_VERSION_FORMAT);
            assert_known(&ask(action, "3.5").await, errors::INVALID_DOWNGRADE_TARGET_VERSION);
        }
        // Nothing to cancel is a success.
        assert_eq!(version(ask(2, "").await), "3.7");
        assert_eq!(version(ask(0, "3.6.5").await), "3.7");
        assert_eq!(job(), Downgrade::default());
        assert_eq!(version(ask(1, "3.6").await), "3.7");
        assert_eq!(job(), Downgrade { target: "3.6.0".to_owned(), enabled: true });
        let answer = client.call("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await;
        let info = answer.ok::<pb::StatusResponse>().downgrade_info.expect("always set");
        assert_eq!((info.enabled, info.target_version.as_str()), (true, "3.6.0"));
        assert_known(&ask(0, "3.6").await, errors::DOWNGRADE_IN_PROCESS);
        assert_known(&ask(1, "3.6").await, errors::DOWNGRADE_IN_PROCESS);
        assert_eq!(version(ask(2, "").await), "3.7");
        assert_eq!(job(), Downgrade::default());
        let unknown = ask(3, "").await;
        unknown.assert_refused(Code::Unknown, "etcdserver: unknown method");
    });
}

#[test]
fn versions_are_told_and_finalized() {
    let server = among(&[0xb, 0xc]);
    let member = &server.member;
    member.0.around.membership.lock().set_version(Version::line(3, 5));
    let runs = |version: &str| {
        let server = version.parse().expect("a version");
        Ok(PeerAnswer::Version { server, cluster: Some(Version::line(3, 5)) })
    };
    run(async {
        let client = Client::connect(&server.address()).await;
        let (status, finalize) = ("/mainstaypb.Upgrade/Status", "/mainstaypb.Upgrade/Finalize");
        member.will_hear(runs("3.5.16"));
        member.will_hear(Err(CallError::Unreachable("away".into())));
        let answer = client.call(status, &mainstaypb::StatusRequest {}).await;
        let told: mainstaypb::StatusResponse = answer.ok();
        assert_eq!((told.cluster_version.as_str(), told.target_version.as_str()), ("3.5.0", ""));
        let servers: Vec<&str> =
            told.members.iter().map(|member| member.server_version.as_str()).collect();
        assert_eq!(servers, ["3.7.1", "3.5.16", ""]);
        assert_eq!(told.members[1].cluster_version, "3.5.0");
        assert_eq!(told.holds, ["member mc (c) does not answer", "member mb (b) runs 3.5.16"]);
        member.will_hear(runs("3.7.1"));
        let answer = client.call(finalize, &mainstaypb::FinalizeRequest {}).await;
        let text = "mainstay: the cluster version cannot be finalized: \
                    member mc (c) does not answer";
        answer.assert_refused(Code::FailedPrecondition, text);
        member.will_hear(runs("3.7.1"));
        member.will_hear(runs("3.6.4"));
        let answer = client.call(finalize, &mainstaypb::FinalizeRequest {}).await;
        let done: mainstaypb::FinalizeResponse = answer.ok();
        assert_eq!(
            (done.previous_version.as_str(), done.cluster_version.as_str()),
            ("3.5.0", "3.6.0")
        );
        let now = member.0.around.membership.lock().version();
        assert_eq!(now, Some(Version::line(3, 6)));
    });
}
