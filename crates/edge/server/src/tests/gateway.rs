//! The JSON gateway, request by request.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::client::{eventually, get, http1, run};
use super::fake::{Running, local};
use super::real::Member;
use crate::server::ServerConfig;
use mainstay_driver::Options;

/// A POST that closes its connection.
pub(super) async fn post(address: &str, path: &str, body: &str) -> (u16, String, Value) {
    post_with(address, path, "", body).await
}

async fn post_with(address: &str, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
    let socket = TcpStream::connect(address).await.expect("the server listens");
    let len = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {len}\r\n\
         {headers}\r\n{body}"
    );
    let (status, head, body) = http1(socket, &request).await;
    let value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body:?}"));
    (status, head, value)
}

fn start(name: &str) -> Member {
    Member::start_with(name, Options::default(), local())
}

#[test]
fn calls_are_made_in_json() {
    let member = start("gateway-calls");
    run(async {
        let post = async |path: &str, body: &str| {
            let (status, head, mut answer) = post(&member.address, path, body).await;
            assert!(head.contains("content-type: application/json"), "{head}");
            // It differs from run to run.
            let header = answer.as_object_mut().and_then(|answer| answer.remove("header"));
            if status == 200 {
                let header = header.expect("every answer has one");
                assert!(header["cluster_id"].is_string() && header["revision"].is_string());
                assert!(head.contains("grpc-metadata-content-type: application/grpc"), "{head}");
            }
            (status, answer)
        };
        let put = post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#).await;
        assert_eq!(put, (200, json!({})));
        let kv = json!({
            "key": "Zm9v", "value": "YmFy", "create_revision": "2", "mod_revision": "2",
            "version": "1",
        });
        let range = json!({ "kvs": [kv], "count": "1" });
        for path in ["/v3/kv/range", "/v3beta/kv/range", "/v3/kv%2Frange?x=y"] {
            let answer = post(path, r#" {"key":"Zm9v","nope":[1]} trailing"#).await;
            assert_eq!(answer, (200, range.clone()), "{path}");
        }
        let txn = r#"{"compare":[{"target":"VALUE","key":"Zm9v","value":"YmFy"}],
                      "success":[{"requestRange":{"key":"Zm9v"}}]}"#;
        let (status, answer) = post("/v3/kv/txn", txn).await;
        assert_eq!((status, &answer["succeeded"]), (200, &json!(true)));
        assert_eq!(answer["responses"][0]["response_range"]["kvs"], range["kvs"]);
        let (status, answer) = post("/v3/lease/grant", r#"{"TTL":60,"ID":"7"}"#).await;
        assert_eq!((status, answer), (200, json!({ "ID": "7", "TTL": "60" })));
        for path in ["/v3/lease/leases", "/v3/kv/lease/leases"] {
            assert_eq!(post(path, "").await, (200, json!({ "leases": [{ "ID": "7" }] })));
        }
        let deleted = post("/v3/kv/deleterange", r#"{"key":"Zm9v","prev_kv":true}"#).await;
        assert_eq!(deleted, (200, json!({ "deleted": "1", "prev_kvs": range["kvs"] })));
    });
}

#[test]
fn what_fails_says_so_in_json() {
    let server = Running::plain();
    run(async {
        let refused = async |path: &str, body: &str| {
            let (status, _, answer) = post(&server.address(), path, body).await;
            let code = answer["code"].as_u64().expect("a code");
            (status, code, answer["message"].as_str().expect("a text").to_owned())
        };
        let empty = (400, 3, "etcdserver: key is not provided".to_owned());
        for body in ["", " \n", "{}", "{}{}", r#"{"key":""}"#, r#"{"key":null}"#] {
            assert_eq!(refused("/v3/kv/range", body).await, empty, "{body}");
        }
        let compacted = "etcdserver: mvcc: required revision has been compacted".to_owned();
        assert_eq!(refused("/v3/kv/compaction", "{}").await, (400, 11, compacted));
        let missing = "etcdserver: requested lease not found".to_owned();
        assert_eq!(refused("/v3/lease/revoke", "{}").await, (404, 5, missing));
        for body in ["x", "[]", "{", "{\"key\":\"!\"}", "{\"key\":1}", "{\"limit\":1e99}", "}"] {
            let (status, code, text) = refused("/v3/kv/range", body).await;
            assert_eq!((status, code), (400, 3), "{body}: {text}");
        }
        let unknown = (404, 5, "Not Found".to_owned());
        for path in ["/v3/", "/v3/kv/range/", "/v3//kv/range", "/v3/kv/rangestream"] {
            assert_eq!(refused(path, "{}").await, unknown, "{path}");
        }
        let (status, _, body) = get(&server.address(), "/v3/kv/range").await;
        let wanted = r#"{"code":12,"message":"Method Not Allowed"}"#;
        assert_eq!((status, body.as_str()), (501, wanted));
    });
}

#[test]
fn headers_become_metadata() {
    let server = Running::plain();
    let leaderless = "etcdserver: no leader";
    server.member.0.standing.lock().leader = mainstay_types::MemberId::NONE;
    run(async {
        let ask = async |headers: &str| {
            let body = r#"{"key":"YQ==","serializable":true}"#;
            post_with(&server.address(), "/v3/kv/range", headers, body).await
        };
        let (status, _, _) = ask("hasleader: true\r\n").await;
        assert_eq!(status, 200, "only headers with the prefix count");
        let (status, _, answer) = ask("Grpc-Metadata-hasleader: true\r\n").await;
        assert_eq!((status, &answer["message"]), (503, &json!(leaderless)));
        let (status, _, answer) = ask("Grpc-Timeout: soon\r\n").await;
        assert_eq!((status, &answer["message"]), (400, &json!("invalid grpc-timeout: soon")));
        let hang = r#"{"key":"aGFuZw=="}"#;
        let timeout = "Grpc-Timeout: 20m\r\n";
        let (status, _, answer) = post_with(&server.address(), "/v3/kv/put", timeout, hang).await;
        assert_eq!((status, &answer["code"]), (504, &json!(4)));
        eventually(|| server.member.hung() == 0).await;
    });
}

#[test]
fn a_client_that_goes_cancels_its_call() {
    let server = Running::plain();
    run(async {
        let mut socket = TcpStream::connect(server.address()).await.expect("it listens");
        let request = "POST /v3/kv/put HTTP/1.1\r\nhost: m\r\ncontent-length: 18\r\n\r\n\
                       {\"key\":\"aGFuZw==\"}";
        socket.write_all(request.as_bytes()).await.expect("sent");
        eventually(|| server.member.hung() == 1).await;
        drop(socket);
        eventually(|| server.member.hung() == 0).await;
    });
}

/// Reads chunks of a response until one holds a line.
async fn line(reader: &mut BufReader<TcpStream>) -> Value {
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).await.expect("the stream is whole");
        assert_ne!(read, 0, "the stream goes on");
        if line.starts_with('{') {
            return serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        }
    }
}

async fn stream(address: &str, path: &str, body: &str) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    let len = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nhost: m\r\ncontent-length: {len}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).await.expect("sent");
    BufReader::new(socket)
}

#[test]
fn a_watch_is_lines_and_lives_on_after_its_request() {
    let member = start("gateway-watch");
    run(async {
        let two = r#"{"create_request":{"key":"YQ=="}} {"create_request":{"key":"Yg=="}}"#;
        let mut watch = stream(&member.address, "/v3/watch", two).await;
        for id in [None, Some("1")] {
            let created = line(&mut watch).await;
            assert_eq!(created["result"]["created"], true);
            assert_eq!(created["result"]["watch_id"].as_str(), id);
        }
        post(&member.address, "/v3/kv/put", r#"{"key":"Yg==","value":"PCY+"}"#).await;
        let event = line(&mut watch).await;
        assert_eq!(event["result"]["watch_id"], "1");
        assert_eq!(event["result"]["events"][0]["kv"]["value"], "PCY+");
        // What cannot be read ends the requests, not the stream.
        let bad = "{\"create_request\":{\"key\":\"YQ==\"}} nonsense {\"create_request\":{}}";
        let mut watch = stream(&member.address, "/v3/watch", bad).await;
        assert_eq!(line(&mut watch).await["result"]["created"], true);
        post(&member.address, "/v3/kv/put", r#"{"key":"YQ=="}"#).await;
        assert!(line(&mut watch).await["result"]["events"].is_array());
    });
}

#[test]
fn keepalives_and_snapshots_end() {
    let member = start("gateway-streams");
    run(async {
        post(&member.address, "/v3/lease/grant", r#"{"TTL":60,"ID":"7"}"#).await;
        let mut alive =
            stream(&member.address, "/v3/lease/keepalive", r#"{"ID":7}{"ID":"8"}"#).await;
        assert_eq!(line(&mut alive).await["result"]["TTL"], "60");
        assert_eq!(line(&mut alive).await["result"]["TTL"], Value::Null);
        let mut rest = String::new();
        alive.read_line(&mut rest).await.expect("the end of the chunk");
        rest.clear();
        alive.read_line(&mut rest).await.expect("the last chunk");
        assert_eq!(rest, "0\r\n");
        let socket = TcpStream::connect(&member.address).await.expect("it listens");
        let request = "POST /v3/maintenance/snapshot HTTP/1.1\r\nhost: m\r\n\
                       connection: close\r\ncontent-length: 0\r\n\r\n";
        let (status, _, body) = http1(socket, request).await;
        let mut lines = body.lines().filter(|line| line.starts_with('{'));
        let last = lines.next_back().expect("lines");
        let last: Value = serde_json::from_str(last).expect("JSON");
        assert_eq!(status, 200);
        // The last blob is the SHA-256 of the others.
        assert_eq!(last["result"]["blob"].as_str().map(str::len), Some(44));
        assert_eq!(last["result"]["remaining_bytes"], Value::Null);
    });
}

#[test]
fn a_stream_that_fails_says_so_in_its_status_or_its_last_line() {
    let server = Running::plain();
    server.member.0.standing.lock().learner = true;
    run(async {
        let mut watch = stream(&server.address(), "/v3/watch", "").await;
        let mut status = String::new();
        watch.read_line(&mut status).await.expect("an answer");
        assert!(status.starts_with("HTTP/1.1 400"), "{status}");
        let text = "etcdserver: rpc not supported for learner";
        let answer = line(&mut watch).await;
        assert_eq!(answer, json!({ "error": { "code": 9, "message": text } }));
    });
}

#[test]
fn it_can_be_turned_off() {
    let server = Running::start(ServerConfig { gateway: false, ..local() });
    run(async {
        let (status, _, body) = get(&server.address(), "/v3/kv/range").await;
        assert_eq!((status, body.as_str()), (404, "404 page not found\n"));
    });
}

/// Sends a head and pieces of a body, whatever the server says meanwhile; its answer.
async fn push(address: &str, head: &str, piece: &[u8], times: usize) -> String {
    let socket = TcpStream::connect(address).await.expect("it listens");
    let (mut read, mut write) = socket.into_split();
    let head = format!("POST /v3/kv/range HTTP/1.1\r\nhost: m\r\n{head}\r\n");
    let (head, piece) = (head.into_bytes(), piece.to_vec());
    tokio::spawn(async move {
        // The server may stop listening at any time.
        let _ = write.write_all(&head).await;
        for _ in 0..times {
            if write.write_all(&piece).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_secs(20)).await;
    });
    let mut answer = vec![0; 4096];
    let read = read.read(&mut answer).await.unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[test]
fn bodies_are_bounded_before_they_are_held() {
    let server = Running::plain();
    let address = server.address();
    run(async {
        let lying = push(&address, "content-length: 99999999999\r\n", b"", 0).await;
        assert!(lying.contains("429 Too Many Requests"), "{lying}");
        assert!(lying.contains("larger than max (99999999999"), "{lying}");
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let endless = "transfer-encoding: chunked\r\n";
        let answer = push(&address, endless, chunk.as_bytes(), 10_000).await;
        assert!(answer.contains("429 Too Many Requests"), "{answer}");
        let absurd = push(&address, "content-length: 99999999999999999999999\r\n", b"", 0).await;
        assert!(absurd.contains("400 Bad Request"), "{absurd}");
        let deep = "[".repeat(1_000_000);
        let (status, _, answer) =
            post(&address, "/v3/kv/range", &format!("{{\"key\":{deep}")).await;
        assert_eq!((status, &answer["code"]), (400, &json!(3)));
        // A message that is short enough as text and too long for gRPC.
        let value = "A".repeat(2_900_000);
        let (status, _, answer) =
            post(&address, "/v3/kv/put", &format!("{{\"value\":\"{value}\"}}")).await;
        assert_eq!((status, &answer["code"]), (429, &json!(8)));
    });
}

#[test]
fn half_sent_bodies_share_the_room_that_there_is() {
    let server = Running::start(ServerConfig { shards: 1, ..local() });
    let address = server.address();
    run(async {
        let mut open = Vec::new();
        let mut refused = 0;
        let piece = "a".repeat(4_000_000);
        for _ in 0..12 {
            let mut socket = TcpStream::connect(&address).await.expect("it listens");
            let request = format!(
                "POST /v3/kv/range HTTP/1.1\r\nhost: m\r\ncontent-length: 4100000\r\n\r\n\
                 {{\"key\":\"{piece}"
            );
            // It may be refused half-way.
            let _ = socket.write_all(request.as_bytes()).await;
            open.push(socket);
        }
        for socket in &mut open {
            let mut answer = [0; 12];
            let answered =
                tokio::time::timeout(Duration::from_millis(300), socket.read(&mut answer));
            if matches!(answered.await, Ok(Ok(12)) if &answer[9..] == b"429") {
                refused += 1;
            }
        }
        // 32 MiB hold eight of them.
        assert!((3..=5).contains(&refused), "{refused}");
        drop(open);
        let mut ends = false;
        while !ends {
            let (status, ..) = post(&address, "/v3/kv/range", r#"{"key":"YQ=="}"#).await;
            ends = status == 200;
        }
    });
}
