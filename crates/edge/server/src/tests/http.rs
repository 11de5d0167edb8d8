//! The HTTP endpoints, body by body.

use mainstay_proto::etcdserverpb::AlarmMember;
use mainstay_types::MemberId;
use tokio::net::TcpStream;

use super::client::{get, http1, run};
use super::fake::{Running, host, local};
use crate::errors;
use crate::http::Access;
use crate::server::ServerConfig;

#[test]
fn version_is_one_line_without_an_end() {
    let server = Running::plain();
    let (status, head, body) = run(get(&server.address(), "/version"));
    assert_eq!(status, 200);
    assert!(head.contains("content-type: application/json"));
    assert_eq!(body, r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"unknown"}"#);
}

#[test]
fn health_tells_alarms_leader_and_read_in_that_order() {
    let server = Running::plain();
    let address = server.address();
    run(async {
        let good = (200, r#"{"health":"true","reason":""}"#.to_owned());
        let health = async |query: &str| {
            let (status, head, body) = get(&address, &format!("/health{query}")).await;
            assert!(head.contains("content-type: text/plain; charset=utf-8"));
            assert_eq!(head.contains("x-content-type-options: nosniff"), status != 200);
            (status, body)
        };
        let bad = |why: &str| (503, format!("{{\"health\":\"false\",\"reason\":\"{why}\"}}\n"));
        assert_eq!(health("").await, good);
        *server.member.0.read_error.lock() = Some(errors::TIMEOUT.status());
        assert_eq!(health("").await, bad("RANGE ERROR:etcdserver: request timed out"));
        assert_eq!(health("?serializable=true").await, good);
        server.member.0.standing.lock().leader = MemberId::NONE;
        assert_eq!(health("").await, bad("RAFT NO LEADER"));
        assert_eq!(health("?serializable=true").await, good);
        server.member.0.alarms.lock().push(AlarmMember { member_id: 1, alarm: 1 });
        assert_eq!(health("?serializable=true").await, bad("ALARM NOSPACE"));
        assert_eq!(health("?serializable=true&exclude=NOSPACE").await, good);
    });
}

#[test]
fn livez_and_readyz() {
    let server = Running::plain();
    let address = server.address();
    run(async {
        let at = async |path: &str| {
            let (status, _, body) = get(&address, path).await;
            (status, body)
        };
        assert_eq!(at("/livez").await, (200, "ok\n".into()));
        assert_eq!(at("/livez?verbose").await, (200, "[+]serializable_read ok\nok\n".into()));
        assert_eq!(at("/livez/serializable_read").await, (200, "ok\n".into()));
        assert_eq!(at("/livez/nope").await, (404, "404 page not found\n".into()));
        assert_eq!(at("/livezz").await, (404, "404 page not found\n".into()));
        let verbose = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
                       [+]non_learner ok\nok\n";
        assert_eq!(at("/readyz?verbose").await, (200, verbose.into()));
        server.member.0.standing.lock().learner = true;
        let failed = "[-]non_learner failed: not supported for learner\n\n";
        assert_eq!(at("/readyz/non_learner").await, (503, failed.into()));
        let all = "/readyz?exclude=non_learner&exclude=nope";
        assert_eq!(at(all).await, (200, "ok\n".into()));
        server.member.0.alarms.lock().push(AlarmMember { member_id: 1, alarm: 2 });
        let failed = "[-]data_corruption failed: alarm activated: CORRUPT\n\n";
        assert_eq!(at("/readyz/data_corruption").await, (503, failed.into()));
    });
}

#[test]
fn other_methods_and_other_paths() {
    let server = Running::plain();
    run(async {
        for path in ["/health", "/version", "/readyz", "/debug/vars"] {
            let socket = TcpStream::connect(server.address()).await.expect("it listens");
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: m\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let (status, head, body) = http1(socket, &request).await;
            assert_eq!((status, body.as_str()), (405, "Method Not Allowed\n"));
            assert!(head.contains("allow: get"), "{head}");
        }
        for path in ["/", "/nope", "/v3", "/v3alpha/kv/range", "/v2/keys", "/raft/probing"] {
            let (status, _, body) = get(&server.address(), path).await;
            assert_eq!((status, body.as_str()), (404, "404 page not found\n"), "{path}");
        }
    });
}

#[test]
fn debug_vars_is_json() {
    let server = Running::plain();
    let (status, _, body) = run(get(&server.address(), "/debug/vars"));
    assert_eq!(status, 200);
    let vars: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(vars["raft.status"]["id"], "a");
    assert_eq!(vars["raft.status"]["raftState"], "StateLeader");
    assert!(body.starts_with("{\n\"cmdline\": ["));
}

#[test]
fn browsers_are_let_in_by_default_and_options_is_answered() {
    let server = Running::plain();
    run(async {
        let socket = TcpStream::connect(server.address()).await.expect("it listens");
        let request = "OPTIONS /nope HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n";
        let (status, head, body) = http1(socket, request).await;
        assert_eq!((status, body.as_str()), (200, ""));
        assert!(head.contains("access-control-allow-origin: *"));
        assert!(head.contains("access-control-allow-methods: post, get, options, put, delete"));
    });
}

#[test]
fn a_host_that_is_not_listed_is_misdirected() {
    let access = Access { hosts: vec!["good".into()], origins: vec!["http://o".into()] };
    let server = Running::start(ServerConfig { access, ..local() });
    run(async {
        let ask = async |host: &str| {
            let socket = TcpStream::connect(server.address()).await.expect("it listens");
            let request = format!(
                "GET /version HTTP/1.1\r\nhost: {host}\r\norigin: http://o\r\nconnection: close\r\n\r\n"
            );
            http1(socket, &request).await
        };
        let (status, head, _) = ask("good:2379").await;
        assert_eq!(status, 200);
        assert!(head.contains("access-control-allow-origin: http://o"));
        let (status, _, body) = ask("evil.example").await;
        assert_eq!(status, 421);
        assert!(body.contains("evil.example") && body.contains("CVE-2018-5702"));
    });
}

#[test]
fn each_listener_has_its_own_paths() {
    let server = Running::start(ServerConfig {
        client_http_urls: vec!["http://127.0.0.1:0".into()],
        metrics_urls: vec!["http://127.0.0.1:0".into()],
        peer_urls: vec!["http://127.0.0.1:0".into()],
        ..local()
    });
    let (metrics, peer) = (host(&server.metrics[0]), host(&server.peer[0]));
    run(async {
        let status = async |address: &str, path: &str| get(address, path).await.0;
        assert_eq!(status(&metrics, "/metrics").await, 200);
        assert_eq!(status(&metrics, "/health").await, 200);
        assert_eq!(status(&metrics, "/version").await, 404);
        assert_eq!(status(&peer, "/version").await, 200);
        assert_eq!(status(&peer, "/metrics").await, 404);
        assert_eq!(status(&peer, "/raft").await, 404);
        assert_eq!(status(&server.address(), "/version").await, 404);
        let (status, head, body) = get(&peer, "/members").await;
        assert_eq!(status, 200);
        assert!(head.contains("x-etcd-cluster-id: c"));
        let expected = "[{\"id\":10,\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"m1\",\
                        \"clientURLs\":[\"http://localhost:2379\"]}]\n";
        assert_eq!(body, expected);
        let (_, _, body) = get(&peer, "/raft/probing").await;
        assert!(body.starts_with("{\"OK\":true,\"Now\":\"20"), "{body}");
    });
}
