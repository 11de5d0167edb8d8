//! What the peer listener answers, byte by byte (http.md 3.3).

use std::time::Duration;

use bytes::Bytes;
use mainstay_membership::Downgrade;
use mainstay_proto::Message as _;
use mainstay_proto::{etcdserverpb as pb, leasepb};
use mainstay_types::limits::PEER_QUESTION_BYTES_MAX;
use mainstay_types::{Index, MemberId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::run;
use super::fake::{Fake, MEMBER, Running, host, local};
use crate::errors;
use crate::server::ServerConfig;

struct Peer {
    server: Running,
    address: String,
}

/// An answer: status, headers in lower case, body.
type Told = (u16, String, Bytes);

impl Peer {
    fn start() -> Peer {
        Peer::over(Fake::default())
    }

    fn over(member: Fake) -> Peer {
        let peer_urls = vec!["http://127.0.0.1:0".to_owned()];
        let server = Running::over(member, ServerConfig { peer_urls, ..local() });
        let address = host(&server.peer[0]);
        Peer { server, address }
    }

    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> Told {
        self.ask_with(method, path, "", body).await
    }

    async fn ask_with(&self, method: &str, path: &str, header: &str, body: &[u8]) -> Told {
        let mut socket = TcpStream::connect(&self.address).await.expect("it listens");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\n{header}\
             content-length: {length}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.expect("sent");
        // Who refuses a long body need not read it.
        let _ = socket.write_all(body).await;
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes).await;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, head, Bytes::from(bytes.split_off(end + 4)))
    }
}

#[track_caller]
fn assert_text(told: &Told, status: u16, body: &str) {
    assert_eq!((told.0, &told.2[..]), (status, body.as_bytes()), "{}", told.1);
    assert!(told.1.contains("content-type: text/plain; charset=utf-8"), "{}", told.1);
    assert!(told.1.contains("x-content-type-options: nosniff"), "{}", told.1);
}

fn names_the_cluster(told: &Told) -> bool {
    told.1.contains("x-etcd-cluster-id: c\r\n") || told.1.ends_with("x-etcd-cluster-id: c")
}

#[test]
fn leases_are_renewed() {
    let peer = Peer::start();
    run(async {
        let renew = |id| pb::LeaseKeepAliveRequest { id }.encode_to_vec();
        let told = peer.ask("POST", "/leases", &renew(1)).await;
        assert_eq!(told.0, 200);
        assert!(told.1.contains("content-type: application/protobuf"), "{}", told.1);
        assert!(!names_the_cluster(&told));
        let reply = pb::LeaseKeepAliveResponse::decode(told.2).expect("a reply");
        assert_eq!(reply, pb::LeaseKeepAliveResponse { header: None, id: 1, ttl: 60 });
        assert_text(&peer.ask("POST", "/leases", &renew(2)).await, 404, "lease not found\n");
        assert_text(&peer.ask("GET", "/leases", b"").await, 405, "Method Not Allowed\n");
        let told = peer.ask("POST", "/leases", b"\xff").await;
        assert_text(&told, 400, "error unmarshalling request\n");
        let told = peer.ask("POST", "/leases", &vec![0; PEER_QUESTION_BYTES_MAX + 1]).await;
        assert_text(&told, 413, "request body too large\n");
        peer.server.member.0.standing.lock().leader = MemberId(0xb);
        let told = peer.ask("POST", "/leases", &renew(1)).await;
        assert_text(&told, 400, "not a primary lessor\n");
        *peer.server.member.0.read_error.lock() = Some(errors::TIMEOUT.status());
        let late = "waiting for node to catch up its applied index has timed out\n";
        assert_text(&peer.ask("POST", "/leases", &renew(1)).await, 408, late);
    });
}

#[test]
fn times_of_leases_are_told() {
    let peer = Peer::start();
    run(async {
        let path = "/leases/internal";
        let ask = |id, keys| {
            let request = pb::LeaseTimeToLiveRequest { id, keys };
            leasepb::LeaseInternalRequest { lease_time_to_live_request: Some(request) }
                .encode_to_vec()
        };
        let told = peer.ask("POST", path, &ask(1, true)).await;
        assert_eq!(told.0, 200);
        // An empty header is there, as etcd writes it.
        assert_eq!(told.2[..], *b"\x0a\x0b\x0a\x00\x10\x01\x18\x2a\x20\x3c\x2a\x01k");
        let told = peer.ask("POST", path, &ask(1, false)).await;
        let reply = leasepb::LeaseInternalResponse::decode(told.2).expect("a reply");
        assert!(reply.lease_time_to_live_response.expect("times").keys.is_empty());
        assert_text(&peer.ask("POST", path, &ask(2, false)).await, 404, "lease not found\n");
        assert_text(&peer.ask("POST", path, b"").await, 400, "error unmarshalling request\n");
        assert_text(&peer.ask("PUT", path, b"").await, 405, "Method Not Allowed\n");
        peer.server.member.0.standing.lock().leader = MemberId(0xb);
        let told = peer.ask("POST", path, &ask(1, false)).await;
        assert_text(&told, 500, "not a primary lessor\n");
        assert_text(&peer.ask("POST", "/leases/x", b"").await, 404, "404 page not found\n");
    });
}

#[test]
fn learners_are_promoted_for_other_members() {
    let peer = Peer::over(Fake::with_patience(Duration::from_millis(200)));
    let member = &peer.server.member;
    member.join(0xb, true);
    run(async {
        let promote = async |id: &str| {
            let told = peer.ask("POST", &format!("/members/promote/{id}"), b"").await;
            assert!(names_the_cluster(&told), "{}", told.1);
            told
        };
        for wrong in ["x", "", "+11", "18446744073709551616", "0xb"] {
            let text = format!("member {wrong} not found in cluster\n");
            assert_text(&promote(wrong).await, 404, &text);
        }
        assert_text(&promote("77").await, 404, "membership: ID not found\n");
        let progress = |index| {
            member.0.around.matched.lock().insert(MemberId(0xb), Index(index));
        };
        progress(10);
        let text = "etcdserver: can only promote a learner member which is in sync with leader\n";
        assert_text(&promote("11").await, 412, text);
        progress(100);
        let told = promote("11").await;
        assert_eq!(told.0, 200);
        let expected = "[{\"id\":10,\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"m1\",\
                        \"clientURLs\":[\"http://localhost:2379\"]},\
                        {\"id\":11,\"peerURLs\":[\"http://mb:2380\"],\"name\":\"mb\"}]\n";
        assert_eq!(told.2[..], *expected.as_bytes());
        let text = "membership: can only promote a learner member\n";
        assert_text(&promote("11").await, 412, text);
        // Anything else is nobody's business.
        *member.0.read_error.lock() = Some(errors::TIMEOUT.status());
        let told = promote("11").await;
        assert_eq!((told.0, &told.2[..]), (500, &b"{\"message\":\"Internal Server Error\"}"[..]));
        assert!(told.1.contains("content-type: application/json"), "{}", told.1);
        let told = peer.ask("GET", "/members/promote/11", b"").await;
        assert_text(&told, 405, "Method Not Allowed\n");
        assert!(told.1.contains("allow: post"), "{}", told.1);
    });
}

#[test]
fn hashes_are_told_to_members_of_this_cluster() {
    let peer = Peer::start();
    run(async {
        let path = "/members/hashkv";
        let told = peer.ask("GET", path, b"{\"revision\":7}").await;
        assert_eq!(told.0, 200);
        assert!(names_the_cluster(&told), "{}", told.1);
        let body = "{\"header\":{\"revision\":1},\"hash\":5,\"compact_revision\":-1,\
                    \"hash_revision\":7}";
        assert_eq!(told.2[..], *body.as_bytes());
        for newest in ["{}", "null", "{\"revision\":0}"] {
            let told = peer.ask("GET", path, newest.as_bytes()).await;
            assert!(told.2.ends_with(b"\"hash_revision\":1}"), "{newest}: {told:?}");
        }
        for wrong in ["", "x", "[1]", "{\"revision\":\"7\"}", "{\"revision\":1.5}"] {
            let told = peer.ask("GET", path, wrong.as_bytes()).await;
            assert_text(&told, 400, "error unmarshalling request\n");
        }
        let told = peer.ask_with("GET", path, "x-etcd-cluster-id: c\r\n", b"{}").await;
        assert_eq!(told.0, 200);
        let told = peer.ask_with("GET", path, "x-etcd-cluster-id: d\r\n", b"{}").await;
        assert_text(&told, 412, "cluster ID mismatch\n");
        assert_text(&peer.ask("POST", path, b"{}").await, 405, "Method Not Allowed\n");
        let told = peer.ask("GET", path, &vec![b' '; PEER_QUESTION_BYTES_MAX + 1]).await;
        assert_text(&told, 400, "error reading body\n");
        let told = peer.ask("GET", path, b"{\"revision\":1000}").await;
        assert_text(&told, 400, "mvcc: required revision is a future revision\n");
    });
}

#[test]
fn a_downgrade_under_way_is_told() {
    let peer = Peer::start();
    let member = &peer.server.member;
    run(async {
        let path = "/downgrade/enabled";
        let told = peer.ask("GET", path, b"").await;
        assert_eq!((told.0, &told.2[..]), (200, &b"false"[..]));
        assert!(told.1.contains("content-type: text/plain\r\n"), "{}", told.1);
        assert!(names_the_cluster(&told), "{}", told.1);
        let job = Downgrade { target: "3.6.0".to_owned(), enabled: true };
        member.0.around.membership.lock().set_downgrade(job);
        assert_eq!(peer.ask("GET", path, b"").await.2, Bytes::from_static(b"true"));
        let told = peer.ask("POST", path, b"").await;
        assert_text(&told, 405, "Method Not Allowed\n");
        *member.0.read_error.lock() = Some(errors::LEADER_CHANGED.status());
        let told = peer.ask("GET", path, b"").await;
        assert_text(&told, 500, "failed linearized read: etcdserver: leader changed\n");
        assert!(names_the_cluster(&told), "{}", told.1);
    });
}

#[test]
fn members_are_listed_as_go_writes_them() {
    let peer = Peer::start();
    peer.server.member.join(u64::MAX, true);
    run(async {
        let told = peer.ask("GET", "/members", b"").await;
        assert!(names_the_cluster(&told), "{}", told.1);
        assert!(told.1.contains("content-type: application/json"), "{}", told.1);
        let expected = format!(
            "[{{\"id\":{MEMBER},\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"m1\",\
             \"clientURLs\":[\"http://localhost:2379\"]}},{{\"id\":18446744073709551615,\
             \"peerURLs\":[\"http://mffffffffffffffff:2380\"],\"isLearner\":true,\
             \"name\":\"mffffffffffffffff\"}}]\n"
        );
        assert_eq!(told.2[..], *expected.as_bytes());
        let told = peer.ask("DELETE", "/members", b"").await;
        assert_text(&told, 405, "Method Not Allowed\n");
        assert!(!names_the_cluster(&told), "{}", told.1);
    });
}
