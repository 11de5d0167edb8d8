//! What the services add to the member: checks, headers, errors.

use bytes::Bytes;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::health;
use mainstay_types::MemberId;
use sha2::{Digest as _, Sha256};

use super::client::{Answer, Client, frame, run};
use super::fake::{MEMBER, Running};
use crate::errors::{self, Known};
use crate::method::{Kind, METHODS, Rpc};
use crate::status::Code;

#[track_caller]
fn assert_known(answer: &Answer, known: Known) {
    answer.assert_refused(known.code, known.text);
}

#[test]
fn requests_are_checked_before_they_are_proposed() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let range = "/etcdserverpb.KV/Range";
        assert_known(&client.call(range, &pb::RangeRequest::default()).await, errors::EMPTY_KEY);
        let wrong = pb::RangeRequest { key: "k".into(), sort_order: 9, ..Default::default() };
        assert_known(&client.call(range, &wrong).await, errors::INVALID_SORT_OPTION);
        let future = pb::RangeRequest { key: "k".into(), revision: 99, ..Default::default() };
        assert_known(&client.call(range, &future).await, errors::FUTURE_REV);
        let put = pb::PutRequest {
            key: "k".into(),
            value: "v".into(),
            ignore_value: true,
            ..Default::default()
        };
        let answer = client.call("/etcdserverpb.KV/Put", &put).await;
        assert_known(&answer, errors::VALUE_PROVIDED);
        let compares = vec![pb::Compare { key: "k".into(), ..Default::default() }; 129];
        let txn = pb::TxnRequest { compare: compares, ..Default::default() };
        let answer = client.call("/etcdserverpb.KV/Txn", &txn).await;
        assert_known(&answer, errors::TOO_MANY_OPS);
    });
}

#[test]
fn a_header_without_a_revision_gets_the_current_one() {
    let server = Running::plain();
    server.member.set("k", "v");
    run(async {
        let client = Client::connect(&server.address()).await;
        let request = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
        let answer = client.call("/etcdserverpb.KV/DeleteRange", &request).await;
        let reply: pb::DeleteRangeResponse = answer.ok();
        assert_eq!((reply.deleted, reply.header.expect("a header").revision), (1, 2));
        let answer = client
            .call("/etcdserverpb.Cluster/MemberList", &pb::MemberListRequest { linearizable: true })
            .await;
        let reply: pb::MemberListResponse = answer.ok();
        assert_eq!(reply.header.expect("a header").revision, 0);
        assert_eq!(reply.members[0].id, MEMBER);
        let answer =
            client.call("/etcdserverpb.Maintenance/Defragment", &pb::DefragmentRequest {}).await;
        assert_eq!(answer.ok::<pb::DefragmentResponse>().header, None);
    });
}

#[test]
fn an_error_of_the_member_keeps_its_code_and_text() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let compact = pb::CompactionRequest { revision: 1, physical: false };
        let answer = client.call("/etcdserverpb.KV/Compact", &compact).await;
        assert_known(&answer, errors::COMPACTED);
        let answer =
            client.call("/etcdserverpb.Lease/LeaseRevoke", &pb::LeaseRevokeRequest { id: 5 }).await;
        assert_known(&answer, errors::LEASE_NOT_FOUND);
        *server.member.0.read_error.lock() = Some(errors::LEADER_CHANGED.status());
        let request = pb::RangeRequest { key: "k".into(), ..Default::default() };
        let answer = client.call("/etcdserverpb.KV/Range", &request).await;
        assert_known(&answer, errors::LEADER_CHANGED);
        let request = pb::RangeRequest { serializable: true, ..request };
        let _: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &request).await.ok();
    });
}

#[test]
fn a_full_store_refuses_puts_and_raises_the_alarm() {
    let server = Running::plain();
    *server.member.0.db_size.lock() = 2 << 30;
    run(async {
        let client = Client::connect(&server.address()).await;
        let put = pb::PutRequest { key: "k".into(), ..Default::default() };
        assert_known(&client.call("/etcdserverpb.KV/Put", &put).await, errors::NO_SPACE);
        let alarms = server.member.0.alarms.lock().clone();
        assert_eq!((alarms.len(), alarms[0].member_id, alarms[0].alarm), (1, MEMBER, 1));
        // Deleting is how room is made.
        let delete = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
        let answer = client.call("/etcdserverpb.KV/DeleteRange", &delete).await;
        let _: pb::DeleteRangeResponse = answer.ok();
    });
}

/// The one who finds the disk full raises the alarm.
#[test]
fn a_disk_without_room_refuses_what_makes_the_store_grow() {
    let server = Running::plain();
    server.member.0.lacks_room.store(true, std::sync::atomic::Ordering::SeqCst);
    run(async {
        let client = Client::connect(&server.address()).await;
        let put = pb::PutRequest { key: "k".into(), ..Default::default() };
        assert_known(&client.call("/etcdserverpb.KV/Put", &put).await, errors::NO_SPACE);
        let grant = pb::LeaseGrantRequest { ttl: 60, ..Default::default() };
        assert_known(
            &client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await,
            errors::NO_SPACE,
        );
        assert!(server.member.0.alarms.lock().is_empty());
        let delete = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
        let answer = client.call("/etcdserverpb.KV/DeleteRange", &delete).await;
        let _: pb::DeleteRangeResponse = answer.ok();
    });
}

#[test]
fn hasleader_is_refused_without_a_leader() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let body =
            frame(&pb::RangeRequest { key: "k".into(), ..Default::default() }.encode_to_vec());
        let request = |path: &str| {
            let mut request = client.request(path);
            request.headers_mut().insert("hasleader", "true".parse().expect("a value"));
            request
        };
        // A stream that is open loses its leader.
        let (response, mut stream) = client.open(request("/etcdserverpb.Watch/Watch")).await;
        stream.send_data(frame(b"x"), false).expect("sent");
        let response = response.await.expect("a response");
        server.member.0.standing.lock().leader = MemberId::NONE;
        let mut body_of = response.into_body();
        while body_of.data().await.is_some() {}
        let trailers = body_of.trailers().await.expect("readable").expect("trailers");
        assert_eq!(trailers["grpc-status"], "14");
        assert_eq!(trailers["grpc-message"], "etcdserver: no leader");
        // New calls are refused at once, unless they do not mind.
        let answer = client.send(request("/etcdserverpb.KV/Range"), body.clone()).await;
        assert_known(&answer, errors::NO_LEADER);
        let answer = client.send(client.request("/etcdserverpb.KV/Range"), body).await;
        let _: pb::RangeResponse = answer.ok();
    });
}

#[test]
fn a_client_version_that_is_no_text_is_refused() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let mut request = client.request("/etcdserverpb.Maintenance/Status");
        let value = http::HeaderValue::from_bytes(b"\xff").expect("a value");
        request.headers_mut().insert("client-api-version", value);
        let answer = client.send(request, frame(b"")).await;
        assert_known(&answer, errors::INVALID_CLIENT_API_VERSION);
    });
}

#[test]
fn a_learner_answers_little() {
    let server = Running::plain();
    server.member.0.standing.lock().learner = true;
    run(async {
        let client = Client::connect(&server.address()).await;
        for method in METHODS {
            let range = pb::RangeRequest {
                key: "k".into(),
                serializable: method.name() == "Range",
                ..Default::default()
            };
            let body =
                if method.name() == "Range" { frame(&range.encode_to_vec()) } else { frame(b"") };
            let answer = client.send(client.request(method.path), body).await;
            match method.rpc {
                Rpc::Range | Rpc::Status | Rpc::Snapshot => {
                    assert_eq!(answer.code, 0, "{}", method.path);
                }
                _ => assert_known(&answer, errors::NOT_SUPPORTED_FOR_LEARNER),
            }
        }
        let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
        let answer = client.call("/etcdserverpb.KV/Range", &range).await;
        assert_known(&answer, errors::NOT_SUPPORTED_FOR_LEARNER);
    });
}

#[test]
fn every_method_of_the_table_answers() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        for method in METHODS.iter().filter(|method| method.kind == Kind::Unary) {
            let answer = client.send(client.request(method.path), frame(b"")).await;
            assert_ne!(answer.text, "routed to the wrong place", "{}", method.path);
            if answer.code == Code::Unimplemented as u8 {
                assert!(answer.text.starts_with("mainstay: "), "{}", answer.text);
            }
        }
    });
}

#[test]
fn auth_is_off_and_says_so() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let answer = client.call("/etcdserverpb.Auth/AuthStatus", &pb::AuthStatusRequest {}).await;
        let reply: pb::AuthStatusResponse = answer.ok();
        assert_eq!((reply.enabled, reply.auth_revision), (false, 1));
        let answer = client
            .call("/etcdserverpb.Auth/Authenticate", &pb::AuthenticateRequest::default())
            .await;
        assert_known(&answer, errors::AUTH_NOT_ENABLED);
    });
}

#[test]
fn keepalive_answers_before_and_after_a_lease_is_gone() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let mut body = Vec::new();
        for id in [1, 2] {
            body.extend_from_slice(&frame(&pb::LeaseKeepAliveRequest { id }.encode_to_vec()));
        }
        let request = client.request("/etcdserverpb.Lease/LeaseKeepAlive");
        let answer = client.send(request, Bytes::from(body)).await;
        assert_eq!(answer.code, 0);
        let replies: Vec<(i64, i64)> = answer
            .messages
            .iter()
            .map(|message| pb::LeaseKeepAliveResponse::decode(message.clone()).expect("a reply"))
            .map(|reply| (reply.id, reply.ttl))
            .collect();
        assert_eq!(replies, [(1, 60), (2, 0)]);
    });
}

#[test]
fn a_snapshot_is_blobs_and_their_sum() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let answer =
            client.call("/etcdserverpb.Maintenance/Snapshot", &pb::SnapshotRequest {}).await;
        assert_eq!(answer.code, 0);
        let blobs: Vec<pb::SnapshotResponse> = answer
            .messages
            .iter()
            .map(|message| pb::SnapshotResponse::decode(message.clone()).expect("a blob"))
            .collect();
        let (sum, data) = blobs.split_last().expect("a sum");
        let sizes: Vec<(usize, u64)> =
            data.iter().map(|blob| (blob.blob.len(), blob.remaining_bytes)).collect();
        assert_eq!(sizes, [(32768, 67232), (32768, 34464), (32768, 1696), (1696, 0)]);
        assert_eq!(sum.blob[..], Sha256::digest(vec![0; 100_000])[..]);
        assert_eq!(sum.remaining_bytes, 0);
    });
}

#[test]
fn a_range_stream_ends_with_its_header() {
    let server = Running::plain();
    for n in 0..100 {
        server.member.set(format!("k{n:03}"), "v");
    }
    run(async {
        let client = Client::connect(&server.address()).await;
        let chunks = async |limit: i64| {
            let request = pb::RangeRequest {
                key: "k".into(),
                range_end: "l".into(),
                limit,
                ..Default::default()
            };
            let answer = client.call("/etcdserverpb.KV/RangeStream", &request).await;
            assert_eq!(answer.code, 0, "{}", answer.text);
            let parts = answer.messages.iter().map(|message| {
                let part = pb::RangeStreamResponse::decode(message.clone()).expect("a chunk");
                part.range_response.expect("a response")
            });
            parts.collect::<Vec<pb::RangeResponse>>()
        };
        let all = chunks(0).await;
        let sizes: Vec<usize> = all.iter().map(|chunk| chunk.kvs.len()).collect();
        assert_eq!(sizes, [10, 20, 40, 30]);
        let (last, rest) = all.split_last().expect("chunks");
        assert!(rest.iter().all(|chunk| chunk.header.is_none() && chunk.count == 0 && !chunk.more));
        assert_eq!((last.count, last.more), (100, false));
        assert_eq!(last.header.expect("a header").revision, 101);
        let keys: Vec<&Bytes> = all.iter().flat_map(|chunk| &chunk.kvs).map(|kv| &kv.key).collect();
        assert!(keys.is_sorted() && keys.len() == 100);
        let cut = chunks(15).await;
        let last = cut.last().expect("chunks");
        assert_eq!((cut.len(), last.count, last.more), (2, 100, true));
        let sorted = pb::RangeRequest {
            key: "k".into(),
            sort_order: 2,
            sort_target: 3,
            ..Default::default()
        };
        let answer = client.call("/etcdserverpb.KV/RangeStream", &sorted).await;
        let text = "RangeStream does not support custom sort orders";
        answer.assert_refused(Code::Unimplemented, text);
    });
}

#[test]
fn long_reads_go_to_the_pool() {
    use std::sync::atomic::Ordering::SeqCst;
    let server = Running::plain();
    for n in 0..1001 {
        server.member.set(format!("k{n:04}"), "v");
    }
    run(async {
        let client = Client::connect(&server.address()).await;
        let read = async |limit: i64, end: &'static str| {
            let before = server.member.0.pool_jobs.load(SeqCst);
            let request = pb::RangeRequest {
                key: "k0000".into(),
                range_end: end.into(),
                limit,
                ..Default::default()
            };
            let answer = client.call("/etcdserverpb.KV/Range", &request).await;
            let reply: pb::RangeResponse = answer.ok();
            (reply.kvs.len(), server.member.0.pool_jobs.load(SeqCst) - before)
        };
        assert_eq!(read(0, "l").await, (1001, 1));
        assert_eq!(read(500, "l").await, (500, 0));
        assert_eq!(read(0, "k0100").await, (100, 0));
        assert_eq!(read(0, "").await, (1, 0));
    });
}

#[test]
fn health_is_served() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let check = |service: &str| health::HealthCheckRequest { service: service.to_owned() };
        let answer = client.call("/grpc.health.v1.Health/Check", &check("")).await;
        assert_eq!(answer.ok::<health::HealthCheckResponse>().status, 1);
        let answer = client.call("/grpc.health.v1.Health/Check", &check("nope")).await;
        answer.assert_refused(Code::NotFound, "unknown service");
        let answer = client.call("/grpc.health.v1.Health/List", &check("")).await;
        assert_eq!(answer.ok::<health::HealthListResponse>().statuses.len(), 1);
    });
}

#[test]
fn a_lone_member_cannot_hand_over_or_step_down() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let path = "/etcdserverpb.Maintenance/MoveLeader";
        let answer = client.call(path, &pb::MoveLeaderRequest { target_id: 99 }).await;
        assert_known(&answer, errors::BAD_LEADER_TRANSFEREE);
        let path = "/etcdserverpb.Maintenance/Downgrade";
        let ask = |version: &str| pb::DowngradeRequest { action: 0, version: version.to_owned() };
        let answer = client.call(path, &ask("x")).await;
        assert_known(&answer, errors::WRONG_DOWNGRADE_VERSION_FORMAT);
        let answer = client.call(path, &ask("3.5")).await;
        assert_known(&answer, errors::INVALID_DOWNGRADE_TARGET_VERSION);
    });
}
