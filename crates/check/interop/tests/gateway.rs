//! The JSON gateway, the lock and the election service: the same requests to ours and to
//! the real etcd, statuses and bodies compared. Debian builds its 3.5.16 with the same major
//! version of grpc-gateway as etcd 3.7; where the two differ all the same, ours is 3.7's.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Member, Start, tool};
use serde_json::{Value, json};

/// A POST on a connection of its own: the status, and each line of the body.
fn post(member: &Member, path: &str, body: &str) -> (u16, Vec<String>) {
    ask(member, "POST", path, body)
}

fn ask(member: &Member, verb: &str, path: &str, body: &str) -> (u16, Vec<String>) {
    let mut socket = open(member, verb, path, body);
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("the answer ends");
    let text = String::from_utf8(answer).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    // Chunks end with lines of their own; their lengths stand in lines that are no JSON.
    let lines = body.lines().filter(|line| !chunked || line.contains(['{', ' ']));
    (status, lines.map(str::to_owned).collect())
}

fn open(member: &Member, verb: &str, path: &str, body: &str) -> TcpStream {
    let mut socket = TcpStream::connect(member.endpoint()).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let len = body.len();
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Length: {len}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).expect("sent");
    socket
}

/// Without what differs from member to member.
fn plain(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["cluster_id", "member_id", "raft_term"] {
                if let Some(id) = fields.get_mut(name) {
                    assert!(
                        id.as_str().is_some_and(|id| id.parse::<u64>().is_ok()),
                        "{name}: {id}"
                    );
                    *id = json!("?");
                }
            }
            fields.values_mut().for_each(plain);
        }
        Value::Array(values) => values.iter_mut().for_each(plain),
        _ => {}
    }
}

/// What is compared of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum As {
    /// Everything.
    Same,
    /// Status and code of an error; its text is that of a parser.
    Code,
    /// Our status, which 3.5.16 does not give, and why.
    Newer(u16, &'static str),
}

fn shown(lines: &[String], how: As) -> Vec<Value> {
    let parse = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| json!(line));
    let mut values: Vec<Value> = lines.iter().map(parse).collect();
    for value in &mut values {
        plain(value);
        if how == As::Code
            && let Some(fields) = value.as_object_mut()
        {
            fields.retain(|name, _| name == "code");
        }
    }
    values
}

#[rustfmt::skip]
const REQUESTS: &[(&str, &str, As)] = &[
    ("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#, As::Same),
    ("/v3/kv/put", r#"{"key":"YQ","value":"-_8","prev_kv":true}"#, As::Code),
    ("/v3/kv/put", r#"{"key":"YQ==","value":"Mg==","prevKv":true}"#, As::Same),
    ("/v3beta/kv/put", r#"{"key":"Yg==","value":"","nope":{"a":[1,null]}}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"YQ==","range_end":"Yw=="}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"YQ==","rangeEnd":"Yw==","limit":"1","sort_order":"DESCEND"}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"YQ==","range_end":"Yw==","limit":1,"sort_order":2,"sort_target":"MOD"}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"YQ==","count_only":true} and more"#, As::Same),
    ("/v3/kv/range", r#"{"key":"YQ==","keys_only":true,"revision":"3"}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"eg=="}"#, As::Same),
    ("/v3/kv/range?key=eg==", r#"{"key":"YQ=="}"#, As::Same),
    ("/v3/kv%2Frange", r#"{"key":"YQ=="}"#, As::Same),
    ("/v3/kv/range", "", As::Same),
    ("/v3/kv/range", "  ", As::Same),
    ("/v3/kv/range", "{}", As::Same),
    ("/v3/kv/range", r#"{"key":null,"limit":null}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"YQ==","revision":"999"}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"YQ==","sort_order":9}"#, As::Newer(400, "3.7 refuses orders that it does not know")),
    ("/v3/kv/range", r#"{"key":"YQ==","limit":"x"}"#, As::Code),
    ("/v3/kv/range", r#"{"key":"YQ==","limit":9223372036854775808}"#, As::Code),
    ("/v3/kv/range", r#"{"key":"YQ==","limit":1.5}"#, As::Code),
    ("/v3/kv/range", r#"{"key":"!"}"#, As::Code),
    ("/v3/kv/range", r#"{"key":1}"#, As::Code),
    ("/v3/kv/range", r#"{"key":"YQ==","keys_only":"true"}"#, As::Code),
    ("/v3/kv/range", "{", As::Code),
    ("/v3/kv/range", "]", As::Code),
    ("/v3/kv/range", "[]", As::Code),
    ("/v3/kv/range", "\"x\"", As::Code),
    ("/v3/kv/txn", r#"{"compare":[{"key":"YQ==","target":"VALUE","value":"Mg=="}],"success":[{"request_put":{"key":"Yw==","value":"Mw=="}},{"requestRange":{"key":"YQ=="}}],"failure":[]}"#, As::Same),
    ("/v3/kv/txn", r#"{"compare":[{"key":"eg==","target":"VERSION","version":"0"},{"key":"eg==","target":"CREATE","create_revision":0}],"success":[{"request_delete_range":{"key":"Yw==","prev_kv":true}}]}"#, As::Same),
    ("/v3/kv/txn", r#"{"compare":[{"key":"YQ==","target":"MOD","result":"LESS","mod_revision":"1"}],"failure":[{"request_txn":{"success":[{"request_put":{"key":"ZA=="}}]}}]}"#, As::Same),
    ("/v3/kv/txn", r#"{"success":[{}]}"#, As::Same),
    ("/v3/kv/deleterange", r#"{"key":"ZA==","prev_kv":true}"#, As::Same),
    ("/v3/kv/deleterange", r#"{"key":"ZA=="}"#, As::Same),
    ("/v3/kv/compaction", r#"{"revision":"3"}"#, As::Same),
    ("/v3/kv/compaction", r#"{"revision":"3"}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"YQ==","revision":1}"#, As::Same),
    ("/v3/lease/grant", r#"{"ID":"7587","TTL":"600"}"#, As::Same),
    ("/v3/lease/grant", r#"{"ID":7587,"TTL":600}"#, As::Same),
    ("/v3/lease/leases", "{}", As::Same),
    ("/v3/kv/lease/leases", "", As::Same),
    ("/v3/kv/put", r#"{"key":"bA==","lease":"7587"}"#, As::Same),
    ("/v3/kv/put", r#"{"key":"bA==","lease":"1"}"#, As::Same),
    ("/v3/lease/timetolive", r#"{"ID":"1","keys":true}"#, As::Same),
    ("/v3/kv/lease/timetolive", r#"{"ID":"1"}"#, As::Same),
    ("/v3/lease/keepalive", r#"{"ID":"7587"}{"ID":"5"}"#, As::Same),
    ("/v3/lease/keepalive", "", As::Same),
    ("/v3/lease/keepalive", "nonsense", As::Same),
    ("/v3/lease/revoke", r#"{"ID":"7587"}"#, As::Same),
    ("/v3/kv/lease/revoke", r#"{"ID":"7587"}"#, As::Same),
    ("/v3/cluster/member/remove", r#"{"ID":"1"}"#, As::Same),
    ("/v3/cluster/member/promote", r#"{"ID":"18446744073709551615"}"#, As::Same),
    ("/v3/cluster/member/add", r#"{"peerURLs":["nonsense"]}"#, As::Same),
    ("/v3/maintenance/alarm", r#"{"action":"GET"}"#, As::Same),
    ("/v3/maintenance/alarm", r#"{"action":"DEACTIVATE","memberID":"1","alarm":"NOSPACE"}"#, As::Same),
    ("/v3/maintenance/defragment", "", As::Same),
    ("/v3/maintenance/transfer-leadership", r#"{"targetID":"1"}"#, As::Same),
    ("/v3/auth/status", "", As::Same),
    ("/v3/auth/enable", "", As::Same),
    ("/v3/auth/authenticate", r#"{"name":"a","password":"b"}"#, As::Same),
    ("/v3/auth/user/add", r#"{"name":"u","password":"p"}"#, As::Same),
    ("/v3/auth/user/add", r#"{"name":"u","password":"p"}"#, As::Same),
    ("/v3/auth/user/add", r#"{"name":"v","options":{"no_password":true}}"#, As::Same),
    ("/v3/auth/user/list", "", As::Same),
    ("/v3/auth/role/add", r#"{"name":"r"}"#, As::Same),
    ("/v3/auth/role/grant", r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}"#, As::Same),
    ("/v3/auth/role/get", r#"{"role":"r"}"#, As::Same),
    ("/v3/auth/user/grant", r#"{"user":"u","role":"r"}"#, As::Same),
    ("/v3/auth/user/get", r#"{"name":"u"}"#, As::Same),
    ("/v3/auth/user/revoke", r#"{"name":"u","role":"nobody"}"#, As::Same),
    ("/v3/auth/role/delete", r#"{"role":"nobody"}"#, As::Same),
    ("/v3/lock/lock", r#"{"name":"bA==","lease":"5"}"#, As::Same),
    ("/v3/lease/grant", r#"{"ID":"77","TTL":"600"}"#, As::Same),
    ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"77"}"#, As::Same),
    ("/v3/lock/lock", r#"{"name":"bG9jaw==","lease":"77"}"#, As::Same),
    ("/v3/kv/range", r#"{"key":"bG9jaw==","range_end":"bG9jbA=="}"#, As::Same),
    ("/v3/lock/unlock", r#"{"key":"bG9jay80ZA=="}"#, As::Same),
    ("/v3/lock/unlock", r#"{"key":"bG9jay80ZA=="}"#, As::Same),
    ("/v3/lock/unlock", "", As::Same),
    ("/v3/election/leader", r#"{"name":"ZQ=="}"#, As::Same),
    ("/v3/election/campaign", r#"{"name":"ZQ==","lease":"77","value":"MQ=="}"#, As::Same),
    ("/v3/election/campaign", r#"{"name":"ZQ==","lease":"77","value":"Mg=="}"#, As::Same),
    ("/v3/election/leader", r#"{"name":"ZQ=="}"#, As::Same),
    ("/v3/election/proclaim", r#"{"leader":{"name":"ZQ==","key":"ZS80ZA==","rev":"1","lease":"77"},"value":"Mw=="}"#, As::Same),
    ("/v3/election/proclaim", r#"{"value":"Mw=="}"#, As::Same),
    ("/v3/election/resign", r#"{"leader":{"key":"ZS80ZA==","rev":"1","lease":"77"}}"#, As::Same),
    ("/v3/election/resign", "", As::Same),
    ("/v3/nowhere", "{}", As::Same),
    ("/v3/kv/range/", "{}", As::Same),
    ("/v3alpha/kv/range", "{}", As::Same),
];

#[test]
fn the_same_requests_get_the_same_answers() {
    let folder = Folder::new("gateway");
    let real = Start::new(Kind::Real, &folder.path().join("real.etcd")).run();
    let Some(real) = real else { return };
    let ours = Start::new(Kind::Ours, &folder.path().join("ours.etcd"));
    let ours = ours.flag("--initial-cluster-version=3.5").run().expect("ours is always there");
    let mut wrong = Vec::new();
    for (path, body, how) in REQUESTS {
        let (mine, theirs) = (post(&ours, path, body), post(&real, path, body));
        if let As::Newer(status, why) = how {
            assert!(mine.0 == *status && theirs.0 != *status, "{path}: {why}: {mine:?}");
            continue;
        }
        let (a, b) = (shown(&mine.1, *how), shown(&theirs.1, *how));
        if (mine.0, &a) != (theirs.0, &b) {
            wrong.push(format!("{path} {body}: {} {a:?}\n   beside {} {b:?}", mine.0, theirs.0));
        }
    }
    for verb in ["GET", "PUT", "OPTIONS"] {
        let ask = |member: &Member| {
            let (status, lines) = ask(member, verb, "/v3/kv/range", "");
            (status, shown(&lines, As::Same))
        };
        assert_eq!(ask(&ours), ask(&real), "{verb}");
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    ours.stop();
    real.stop();
}

fn keys_below(member: &Member, prefix: &str) -> Vec<String> {
    let prefix = base64(prefix);
    let end = base64("z");
    let body = format!(r#"{{"key":"{prefix}","range_end":"{end}","keys_only":true}}"#);
    let (_, lines) = post(member, "/v3/kv/range", &body);
    let answer: Value = serde_json::from_str(&lines[0]).expect("JSON");
    let kvs = answer["kvs"].as_array().cloned().unwrap_or_default();
    kvs.iter().map(|kv| kv["key"].as_str().expect("a key").to_owned()).collect()
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let piece = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let word = piece(0) << 16 | piece(1) << 8 | piece(2);
        for digit in 0..4 {
            let at = (word >> (18 - 6 * digit)) & 63;
            out.push(if digit <= chunk.len() { char::from(DIGITS[at as usize]) } else { '=' });
        }
    }
    out
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < patience, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who waits for a lock and goes leaves no key behind, and who holds it lets the next in.
fn locks_are_handed_on(kind: Kind) {
    let folder = Folder::new("gateway-locks");
    let Some(member) = Start::new(kind, &folder.path().join("m.etcd")).run() else { return };
    let lock = |member: &Member| {
        let (status, lines) = post(member, "/v3/lock/lock", r#"{"name":"bG9jaw=="}"#);
        assert_eq!(status, 200, "{lines:?}");
        let answer: Value = serde_json::from_str(&lines[0]).expect("JSON");
        answer["key"].as_str().expect("a key").to_owned()
    };
    let held = lock(&member);
    let waiting = open(&member, "POST", "/v3/lock/lock", r#"{"name":"bG9jaw=="}"#);
    eventually("the second waits", || keys_below(&member, "lock/").len() == 2);
    drop(waiting);
    eventually("it has gone", || keys_below(&member, "lock/") == [held.clone()]);
    std::thread::scope(|scope| {
        let next = scope.spawn(|| lock(&member));
        eventually("the third waits", || keys_below(&member, "lock/").len() == 2);
        let (status, _) = post(&member, "/v3/lock/unlock", &format!(r#"{{"key":"{held}"}}"#));
        assert_eq!(status, 200);
        let next = next.join().expect("it holds the lock now");
        assert_eq!(keys_below(&member, "lock/"), [next]);
    });
    member.stop();
}

#[test]
fn locks_are_handed_on_by_ours() {
    locks_are_handed_on(Kind::Ours);
}

#[test]
fn locks_are_handed_on_by_the_real_etcd() {
    locks_are_handed_on(Kind::Real);
}

/// Observers see every leader and value; candidates follow each other.
fn leaders_are_observed(kind: Kind) {
    let folder = Folder::new("gateway-elections");
    let Some(member) = Start::new(kind, &folder.path().join("m.etcd")).run() else { return };
    for lease in ["16", "17"] {
        post(&member, "/v3/lease/grant", &format!(r#"{{"ID":"{lease}","TTL":"600"}}"#));
    }
    let mut seen = open(&member, "POST", "/v3/election/observe", r#"{"name":"ZQ=="}"#);
    let mut text = String::new();
    let mut value = |wanted: &str| {
        let mut bytes = [0; 4096];
        let wanted = format!("\"value\":\"{wanted}\"");
        while !text.replace(' ', "").contains(&wanted) {
            let read = seen.read(&mut bytes).expect("the stream goes on");
            assert_ne!(read, 0, "the stream goes on after {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    let campaign = |lease: &str, value: &str| {
        let body = format!(r#"{{"name":"ZQ==","lease":"{lease}","value":"{value}"}}"#);
        let (status, lines) = post(&member, "/v3/election/campaign", &body);
        assert_eq!(status, 200, "{lines:?}");
        let answer: Value = serde_json::from_str(&lines[0]).expect("JSON");
        answer["leader"].clone()
    };
    let first = campaign("16", "MQ==");
    value("MQ==");
    let body = json!({ "leader": first, "value": "Mg==" }).to_string();
    assert_eq!(post(&member, "/v3/election/proclaim", &body).0, 200);
    value("Mg==");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| campaign("17", "Mw=="));
        eventually("the second stands", || keys_below(&member, "e/").len() == 2);
        let body = json!({ "leader": first }).to_string();
        assert_eq!(post(&member, "/v3/election/resign", &body).0, 200);
        let next = next.join().expect("it leads now");
        assert_eq!(next["key"], "ZS8xMQ==");
    });
    value("Mw==");
    // A candidate who goes does not stand any more.
    let waiting = open(&member, "POST", "/v3/election/campaign", r#"{"name":"ZQ==","lease":"16"}"#);
    eventually("the first stands again", || keys_below(&member, "e/").len() == 2);
    drop(waiting);
    eventually("it has gone", || keys_below(&member, "e/") == ["ZS8xMQ=="]);
    member.stop();
}

#[test]
fn leaders_are_observed_on_ours() {
    leaders_are_observed(Kind::Ours);
}

#[test]
fn leaders_are_observed_on_the_real_etcd() {
    leaders_are_observed(Kind::Real);
}

/// What a page in a browser does: Node's own `WebSocket` and `fetch`, nothing installed.
const PAGE: &str = r"
const endpoint = process.env.INTEROP_ENDPOINT;
const socket = new WebSocket(`ws://${endpoint}/v3/watch`, ['Bearer', 'nobody']);
socket.onopen = () => {
  console.log('protocol', socket.protocol);
  socket.send(JSON.stringify({ create_request: { key: 'dw==' } }));
};
let put;
socket.onmessage = async (message) => {
  const { result } = JSON.parse(message.data);
  if (result.created) {
    const body = JSON.stringify({ key: 'dw==', value: 'MQ==' });
    put = fetch(`http://${endpoint}/v3/kv/put`, { method: 'POST', body });
  } else {
    const done = await put;
    console.log('put', done.status, done.headers.get('access-control-allow-origin'));
    console.log('event', result.events[0].kv.value);
    socket.close();
  }
};
socket.onclose = (event) => console.log('closed', event.wasClean);
socket.onerror = (event) => console.log('failed', event.message);
";

fn a_page_watches(kind: Kind) {
    let Some(node) = tool("node", "--version") else { return };
    let folder = Folder::new("gateway-page");
    let Some(member) = Start::new(kind, &folder.path().join("m.etcd")).run() else { return };
    let page = Command::new(node)
        .args(["--experimental-websocket", "--no-warnings", "-e", PAGE])
        .env("INTEROP_ENDPOINT", member.endpoint())
        .output()
        .expect("node runs");
    let told = String::from_utf8_lossy(&page.stdout);
    let wanted = "protocol Bearer\nput 200 *\nevent MQ==\nclosed true\n";
    assert_eq!(told, wanted, "{}", String::from_utf8_lossy(&page.stderr));
    member.stop();
}

#[test]
fn a_page_watches_ours() {
    a_page_watches(Kind::Ours);
}

#[test]
fn a_page_watches_the_real_etcd() {
    a_page_watches(Kind::Real);
}
