//! The lock and election services over a real member.

use bytes::Bytes;
use mainstay_driver::Options;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::v3electionpb::{CampaignRequest, CampaignResponse, LeaderRequest};
use mainstay_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};

use super::client::{Client, answer, frame, run};
use super::fake::local;
use super::real::Member;
use crate::status::Code;

const LOCK: &str = "/v3lockpb.Lock/Lock";
const UNLOCK: &str = "/v3lockpb.Lock/Unlock";
const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
const LEADER: &str = "/v3electionpb.Election/Leader";

fn start(name: &str) -> Member {
    Member::start_with(name, Options::default(), local())
}

fn named(name: &'static str) -> LockRequest {
    LockRequest { name: Bytes::from_static(name.as_bytes()), lease: 0 }
}

/// The keys of a line.
async fn line(client: &Client, prefix: &'static str) -> Vec<Bytes> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a slash") += 1;
    let range =
        pb::RangeRequest { key: prefix.into(), range_end: end.into(), ..Default::default() };
    let found: pb::RangeResponse = client.call("/etcdserverpb.KV/Range", &range).await.ok();
    found.kvs.into_iter().map(|kv| kv.key).collect()
}

async fn until_so_many(client: &Client, prefix: &'static str, wanted: usize) {
    while line(client, prefix).await.len() != wanted {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[test]
fn a_lock_goes_from_hand_to_hand_and_past_who_has_gone() {
    let member = start("lock-hands");
    run(async {
        let client = Client::connect(&member.address).await;
        let first: LockResponse = client.call(LOCK, &named("l")).await.ok();
        assert!(first.key.starts_with(b"l/"));
        let (_gone, mut goes) = client.open(client.request(LOCK)).await;
        goes.send_data(frame(&named("l").encode_to_vec()), true).expect("sent");
        until_so_many(&client, "l/", 2).await;
        let (response, mut stays) = client.open(client.request(LOCK)).await;
        stays.send_data(frame(&named("l").encode_to_vec()), true).expect("sent");
        until_so_many(&client, "l/", 3).await;
        goes.send_reset(h2::Reason::CANCEL);
        until_so_many(&client, "l/", 2).await;
        let unlock = UnlockRequest { key: first.key };
        let _: UnlockResponse = client.call(UNLOCK, &unlock).await.ok();
        let second: LockResponse = answer(response).await.ok();
        assert_eq!(line(&client, "l/").await, [second.key]);
    });
}

#[test]
fn who_goes_while_it_enters_leaves_nothing() {
    let member = start("lock-entering");
    run(async {
        let client = Client::connect(&member.address).await;
        let held: LockResponse = client.call(LOCK, &named("l")).await.ok();
        for turn in 0..60 {
            // A connection each: one that resets so much is closed.
            let client = Client::connect(&member.address).await;
            let (_gone, mut goes) = client.open(client.request(LOCK)).await;
            goes.send_data(frame(&named("l").encode_to_vec()), true).expect("sent");
            // At another moment each time.
            for _ in 0..turn {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(std::time::Duration::from_micros(turn * 40)).await;
            goes.send_reset(h2::Reason::CANCEL);
        }
        // A call that is answered after all of them has entered after them.
        let other: LockResponse = client.call(LOCK, &named("m")).await.ok();
        assert!(other.header.is_some());
        until_so_many(&client, "l/", 1).await;
        assert_eq!(line(&client, "l/").await, [held.key]);
    });
}

#[test]
fn one_session_has_one_place() {
    let member = start("lock-session");
    run(async {
        let client = Client::connect(&member.address).await;
        let grant = pb::LeaseGrantRequest { ttl: 600, id: 0x7f };
        let _: pb::LeaseGrantResponse =
            client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await.ok();
        let lock = LockRequest { lease: 0x7f, ..named("l") };
        for _ in 0..2 {
            let held: LockResponse = client.call(LOCK, &lock).await.ok();
            assert_eq!(&held.key[..], b"l/7f");
        }
        let nobodys = LockRequest { lease: 5, ..named("l") };
        let refused = client.call(LOCK, &nobodys).await;
        refused.assert_refused(Code::Unknown, "etcdserver: requested lease not found");
        // Who waits is told when its lease, and with it its key, ends.
        let grant = pb::LeaseGrantRequest { ttl: 600, id: 0x80 };
        let _: pb::LeaseGrantResponse =
            client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await.ok();
        let (response, mut waits) = client.open(client.request(LOCK)).await;
        let waiting = LockRequest { lease: 0x80, ..named("l") };
        waits.send_data(frame(&waiting.encode_to_vec()), true).expect("sent");
        until_so_many(&client, "l/", 2).await;
        for id in [0x80, 0x7f] {
            let revoke = pb::LeaseRevokeRequest { id };
            let _: pb::LeaseRevokeResponse =
                client.call("/etcdserverpb.Lease/LeaseRevoke", &revoke).await.ok();
        }
        answer(response).await.assert_refused(Code::Unknown, "mutex: session is expired");
        until_so_many(&client, "l/", 0).await;
    });
}

#[test]
fn candidates_follow_each_other() {
    let member = start("election");
    run(async {
        let client = Client::connect(&member.address).await;
        let name = Bytes::from_static(b"e");
        let leader = LeaderRequest { name: name.clone() };
        let none = client.call(LEADER, &leader).await;
        none.assert_refused(Code::Unknown, "election: no leader");
        let campaign = CampaignRequest { name, lease: 0, value: "v".into() };
        let first: CampaignResponse = client.call(CAMPAIGN, &campaign).await.ok();
        let first = first.leader.expect("a leader");
        assert_eq!(first.key, [&b"e/"[..], format!("{:x}", first.lease).as_bytes()].concat());
        let (_gone, mut goes) = client.open(client.request(CAMPAIGN)).await;
        goes.send_data(frame(&campaign.encode_to_vec()), true).expect("sent");
        until_so_many(&client, "e/", 2).await;
        goes.send_reset(h2::Reason::CANCEL);
        until_so_many(&client, "e/", 1).await;
        assert_eq!(line(&client, "e/").await, [first.key]);
    });
}
