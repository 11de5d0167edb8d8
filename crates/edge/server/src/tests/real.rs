//! The server over a real member on a real disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mainstay_audit::Trail;
use mainstay_driver::{Alone, Driver, Options};
use mainstay_env_os::{OsClock, OsDice, OsDisk};
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use sha2::{Digest as _, Sha256};

use super::client::{Client, frame, get, next_message, run};
use super::fake::{host, local};
use super::net::scratch;
use crate::bridge::{Bridge, Login};
use crate::errors;
use crate::server::{Server, ServerConfig, Serving};

pub(super) struct Member {
    dir: PathBuf,
    driver: Option<Driver>,
    serving: Option<Serving>,
    pub(super) address: String,
}

impl Member {
    fn start(name: &str) -> Member {
        Member::start_with(name, Options::default(), local())
    }

    pub(super) fn start_with(name: &str, options: Options, config: ServerConfig) -> Member {
        Member::start_logging_in(name, options, config, Login::default())
    }

    pub(super) fn start_logging_in(
        name: &str,
        options: Options,
        config: ServerConfig,
        login: Login,
    ) -> Member {
        Member::start_audited(name, options, config, login, None)
    }

    pub(super) fn start_audited(
        name: &str,
        options: Options,
        config: ServerConfig,
        login: Login,
        trail: Option<Trail>,
    ) -> Member {
        let dir = scratch(name);
        let options = Options { data_dir: dir.join("data"), ..options };
        let clock = Arc::new(OsClock::new());
        let mut driver =
            Driver::start(options, Arc::new(OsDisk), clock, &mut OsDice::new(), Arc::new(Alone))
                .expect("the member boots");
        run(driver.ready());
        let bridge = Bridge::new(driver.handle()).with_login(login);
        let server = Server::bind(config, bridge).expect("the listeners bind");
        let server = server.with_audit(trail);
        let address = host(&server.client_urls()[0]);
        let serving = server.serve().expect("the shards start");
        Member { dir, driver: Some(driver), serving: Some(serving), address }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.shutdown(Duration::from_millis(200));
        }
        if let Some(driver) = self.driver.take() {
            driver.stop();
        }
        // A directory that stays is no failure of the test.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(super) fn put(key: &str, value: &str) -> pb::PutRequest {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    pb::PutRequest { key, value, ..Default::default() }
}

pub(super) fn all() -> pb::RangeRequest {
    pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() }
}

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";

#[test]
fn keys_of_a_real_member() {
    let member = Member::start("real-keys");
    run(async {
        let client = Client::connect(&member.address).await;
        for n in 0..5 {
            let reply: pb::PutResponse = client.call(PUT, &put(&format!("k{n}"), "v")).await.ok();
            let header = reply.header.expect("a header");
            assert_eq!(header.revision, n + 2);
            assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
        }
        let reply: pb::RangeResponse = client.call(RANGE, &all()).await.ok();
        assert_eq!((reply.count, reply.kvs.len(), reply.more), (5, 5, false));
        let page = pb::RangeRequest { limit: 2, ..all() };
        let reply: pb::RangeResponse = client.call(RANGE, &page).await.ok();
        assert_eq!((reply.count, reply.kvs.len(), reply.more), (5, 2, true));
        let future = pb::RangeRequest { revision: 99, ..all() };
        let answer = client.call(RANGE, &future).await;
        answer.assert_refused(errors::FUTURE_REV.code, errors::FUTURE_REV.text);
        let compact = pb::CompactionRequest { revision: 4, physical: true };
        let answer = client.call("/etcdserverpb.KV/Compact", &compact).await;
        let _: pb::CompactionResponse = answer.ok();
        let old = pb::RangeRequest { revision: 3, ..all() };
        let answer = client.call(RANGE, &old).await;
        answer.assert_refused(errors::COMPACTED.code, errors::COMPACTED.text);
        let delete =
            pb::DeleteRangeRequest { key: "k0".into(), range_end: "k2".into(), prev_kv: true };
        let answer = client.call("/etcdserverpb.KV/DeleteRange", &delete).await;
        let reply: pb::DeleteRangeResponse = answer.ok();
        assert_eq!((reply.deleted, reply.prev_kvs.len()), (2, 2));
    });
}

#[test]
fn transactions_of_a_real_member() {
    let member = Member::start("real-txn");
    run(async {
        let client = Client::connect(&member.address).await;
        let op = |request| pb::RequestOp { request: Some(request) };
        let write = pb::TxnRequest {
            success: vec![
                op(pb::request_op::Request::RequestPut(put("k", "v"))),
                op(pb::request_op::Request::RequestRange(all())),
            ],
            ..Default::default()
        };
        let reply: pb::TxnResponse = client.call(TXN, &write).await.ok();
        assert_eq!((reply.succeeded, reply.responses.len()), (true, 2));
        assert_eq!(reply.header.expect("a header").revision, 2);
        let read = pb::TxnRequest {
            compare: vec![pb::Compare {
                key: "k".into(),
                target: pb::compare::CompareTarget::Version.into(),
                target_union: Some(pb::compare::TargetUnion::Version(1)),
                ..Default::default()
            }],
            success: vec![op(pb::request_op::Request::RequestRange(all()))],
            ..Default::default()
        };
        let reply: pb::TxnResponse = client.call(TXN, &read).await.ok();
        assert!(reply.succeeded);
        let Some(pb::response_op::Response::ResponseRange(range)) = &reply.responses[0].response
        else {
            panic!("the range's answer");
        };
        assert_eq!(range.kvs[0].value, "v");
        let lease = pb::PutRequest { lease: 77, ..put("k", "v") };
        let answer = client.call(PUT, &lease).await;
        answer.assert_refused(errors::LEASE_NOT_FOUND.code, errors::LEASE_NOT_FOUND.text);
    });
}

#[test]
fn a_real_watch_sees_a_real_put() {
    let member = Member::start("real-watch");
    run(async {
        let client = Client::connect(&member.address).await;
        let (response, mut stream) = client.open(client.request("/etcdserverpb.Watch/Watch")).await;
        let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        stream.send_data(frame(&request.encode_to_vec()), false).expect("sent");
        let mut body = response.await.expect("a response").into_body();
        let mut held = BytesMut::new();
        let mut next = async || {
            let message = next_message(&mut body, &mut held).await.expect("a message");
            pb::WatchResponse::decode(message).expect("a watch response")
        };
        assert!(next().await.created);
        let _: pb::PutResponse = client.call(PUT, &put("k", "v")).await.ok();
        let response = next().await;
        assert_eq!(response.header.expect("a header").revision, 2);
        assert_eq!(response.events[0].kv.as_ref().expect("a pair").value, "v");
    });
}

#[test]
fn leases_of_a_real_member() {
    let member = Member::start("real-leases");
    run(async {
        let client = Client::connect(&member.address).await;
        let grant = pb::LeaseGrantRequest { id: 0, ttl: 60 };
        let answer = client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await;
        let granted: pb::LeaseGrantResponse = answer.ok();
        assert!(granted.id > 0);
        let attached = pb::PutRequest { lease: granted.id, ..put("k", "v") };
        let _: pb::PutResponse = client.call(PUT, &attached).await.ok();
        let ask = pb::LeaseTimeToLiveRequest { id: granted.id, keys: true };
        let answer = client.call("/etcdserverpb.Lease/LeaseTimeToLive", &ask).await;
        let times: pb::LeaseTimeToLiveResponse = answer.ok();
        assert_eq!((times.granted_ttl, times.keys.len()), (60, 1));
        let request = client.request("/etcdserverpb.Lease/LeaseKeepAlive");
        let alive = pb::LeaseKeepAliveRequest { id: granted.id };
        let answer = client.send(request, frame(&alive.encode_to_vec())).await;
        assert_eq!(answer.ok::<pb::LeaseKeepAliveResponse>().ttl, 60);
        let revoke = pb::LeaseRevokeRequest { id: granted.id };
        let answer = client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await;
        let _: pb::LeaseRevokeResponse = answer.ok();
        let reply: pb::RangeResponse = client.call(RANGE, &all()).await.ok();
        assert_eq!(reply.count, 0);
        let answer = client.call("/etcdserverpb.Lease/LeaseTimeToLive", &ask).await;
        assert_eq!(answer.ok::<pb::LeaseTimeToLiveResponse>().ttl, -1);
    });
}

#[test]
fn a_real_member_is_looked_after() {
    let member = Member::start("real-maintenance");
    run(async {
        let client = Client::connect(&member.address).await;
        let _: pb::PutResponse = client.call(PUT, &put("k", "v")).await.ok();
        let path = "/etcdserverpb.Maintenance/Status";
        let status: pb::StatusResponse = client.call(path, &pb::StatusRequest {}).await.ok();
        assert!(status.leader != 0 && status.raft_applied_index > 0 && status.db_size > 0);
        assert_eq!(status.errors, Vec::<String>::new());
        let path = "/etcdserverpb.Maintenance/HashKV";
        let hashed: pb::HashKvResponse =
            client.call(path, &pb::HashKvRequest { revision: 0 }).await.ok();
        assert_eq!(hashed.hash_revision, 2);
        let path = "/etcdserverpb.Maintenance/Hash";
        let _: pb::HashResponse = client.call(path, &pb::HashRequest {}).await.ok();
        let path = "/etcdserverpb.Maintenance/Defragment";
        let _: pb::DefragmentResponse = client.call(path, &pb::DefragmentRequest {}).await.ok();
        let path = "/etcdserverpb.Maintenance/Snapshot";
        let answer = client.call(path, &pb::SnapshotRequest {}).await;
        assert_eq!((answer.code, answer.text.as_str()), (0, ""));
        let mut db = Vec::new();
        for message in &answer.messages {
            let part = pb::SnapshotResponse::decode(message.clone()).expect("a blob");
            db.extend_from_slice(&part.blob);
        }
        let sum = db.split_off(db.len() - 32);
        assert_eq!(sum, Sha256::digest(&db)[..]);
        assert!(db.len().is_multiple_of(4096), "whole pages");
        let alarm = pb::AlarmRequest { action: 1, member_id: 7, alarm: 1 };
        let path = "/etcdserverpb.Maintenance/Alarm";
        let raised: pb::AlarmResponse = client.call(path, &alarm).await.ok();
        assert_eq!(raised.alarms.len(), 1);
        let (status, _, body) = get(&member.address, "/health").await;
        assert_eq!(status, 503);
        assert_eq!(body, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n");
        assert_eq!(get(&member.address, "/readyz").await.0, 200);
        let answer = client.call(PUT, &put("k", "v")).await;
        answer.assert_refused(errors::NO_SPACE.code, errors::NO_SPACE.text);
    });
}
