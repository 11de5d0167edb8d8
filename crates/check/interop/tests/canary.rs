//! Secrets that can be recognized go in by every door of a real member, and everything that
//! comes out of it is searched for them: the log at its most talkative, the audit log, metrics,
//! debug pages, answers, what etcdctl prints, and (passwords) the data folder.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mainstay_interop::{Folder, Kind, Member, Start, our};
use serde_json::json;

const ROOT: &str = "canary-password-of-root-4f1d";
const ALICE: &str = "canary-password-of-alice-9b2e";
const CHANGED: &str = "canary-password-changed-77aa";
const WRONG: &str = "canary-password-wrong-c0de";
const SECRET: &str = "canary-secret-of-tokens-51ab-and-more-of-it";
const VALUE: &str = "canary-value-e5e5";
const FORGED: &str = "canaryletterssss.999999999";
/// What is no secret, and must be found: else nothing is searched.
const NAME: &str = "canary-name-of-nobody";

/// Everything that came out, with where it did.
#[derive(Default)]
struct Outputs(Vec<(String, Vec<u8>)>);

impl Outputs {
    fn add(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.into(), bytes.into()));
    }

    /// Where one of the forms of a secret is.
    fn find(&self, secret: &str) -> Vec<String> {
        let mut places = self.places(secret);
        // Whoever sends a value that is no number, say, is told which.
        places.retain(|place| secret != VALUE || !place.starts_with("answer of"));
        places
    }

    fn places(&self, secret: &str) -> Vec<String> {
        let forms = forms(secret);
        let has = |bytes: &[u8], form: &[u8]| bytes.windows(form.len()).any(|at| at == form);
        let found = self.0.iter().filter(|(_, bytes)| forms.iter().any(|form| has(bytes, form)));
        found.map(|(place, _)| place.clone()).collect()
    }
}

/// The secret as it is, in hexadecimal, and what is common to its base64 whatever stands
/// before it.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut forms = vec![bytes.to_vec(), hex.into_bytes(), numbers.join(", ").into_bytes()];
    for shift in 0..3 {
        let whole = (bytes.len() - shift) / 3 * 3;
        forms.push(base64(&bytes[shift..shift + whole]).into_bytes());
    }
    forms
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for n in 0..4 {
            let letter = char::from(LETTERS[(bits >> (18 - 6 * n) & 63) as usize]);
            text.push(if n <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

/// A request as bytes; the answer as bytes.
fn send(member: &Member, request: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(member.endpoint()).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    // A websocket does not end by itself; what came until then counts.
    let _ = socket.read_to_end(&mut answer);
    answer
}

fn post(member: &Member, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    send(
        member,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn done(member: &Member, path: &str, token: &str, body: &serde_json::Value) -> String {
    let headers =
        if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
    let answer = post(member, path, &headers, &body.to_string());
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

fn token_of(answer: &str) -> String {
    let (_, rest) = answer.split_once(r#""token":""#).expect("a token");
    rest.split('"').next().expect("its end").to_owned()
}

/// Users, and authentication on; root's token and alice's.
fn set_up(member: &Member) -> [String; 2] {
    for (name, password) in [("root", ROOT), ("alice", ALICE)] {
        done(member, "/v3/auth/user/add", "", &json!({"name": name, "password": password}));
    }
    done(member, "/v3/auth/user/grant", "", &json!({"user": "root", "role": "root"}));
    done(member, "/v3/auth/enable", "", &json!({}));
    [("root", ROOT), ("alice", ALICE)].map(|(name, password)| {
        let login = json!({"name": name, "password": password});
        token_of(&done(member, "/v3/auth/authenticate", "", &login))
    })
}

/// By HTTP: what is right, what is wrong, and what can hardly be read.
fn by_http(member: &Member, [root, alice]: &[String; 2], outputs: &mut Outputs) {
    let value = base64(VALUE.as_bytes());
    let put = json!({"key": "a2V5", "value": value}).to_string();
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (name, wrong) = (NAME, WRONG);
    let login = "/v3/auth/authenticate";
    let forged = FORGED.to_owned();
    let other = format!("{alice}x");
    let half = format!("{{\"name\":\"root\",\"password\":\"{ROOT}");
    for (path, headers, body) in [
        (login, String::new(), json!({"name": name, "password": wrong}).to_string()),
        (login, String::new(), json!({"name": "alice", "password": wrong}).to_string()),
        (login, String::new(), format!(r#"{{"name":"alice","password":{{"a":"{ROOT}"}}}}"#)),
        (login, String::new(), format!(r#"{{"name":7,"password":"{ROOT}"}}"#)),
        (login, String::new(), format!(r#"{{"name":"root","{ROOT}":1}}"#)),
        (login, String::new(), half),
        ("/v3/kv/put", bearer(root), put.clone()),
        ("/v3/kv/put", bearer(alice), put.clone()),
        ("/v3/kv/put", bearer(&forged), put.clone()),
        ("/v3/kv/put", bearer(&other), put.clone()),
        ("/v3/kv/put", bearer(root), format!(r#"{{"key":"a2V5","value":"{value}!"}}"#)),
        ("/v3/kv/put", bearer(root), format!(r#"{{"key":"a2V5","lease":"{value}"}}"#)),
        ("/v3/kv/nothing", bearer(root), put.clone()),
        ("/v3/auth/user/add", bearer(alice), json!({"name": "x", "password": ALICE}).to_string()),
        ("/v3/auth/user/add", bearer(root), json!({"name": "root", "password": ROOT}).to_string()),
        (
            "/v3/auth/user/changepw",
            bearer(root),
            json!({"name": "nobody", "password": CHANGED}).to_string(),
        ),
        ("/v3/auth/user/add", bearer(root), json!({"name": "", "password": CHANGED}).to_string()),
    ] {
        outputs.add(format!("answer of {path}"), post(member, path, &headers, &body));
    }
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for token in [root, &forged] {
        let request = format!(
            "GET /v3/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}\
             Sec-WebSocket-Protocol: Bearer, {token}\r\n\r\n"
        );
        outputs.add("websocket", send(member, &request));
    }
    // Bytes that are nobody's protocol.
    outputs.add("nonsense", send(member, &format!("{ROOT}\r\n{root}\r\n\r\n")));
    let http2 = format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{ROOT}{root}{ROOT}{root}");
    outputs.add("nonsense in HTTP/2", send(member, &http2));
}

/// By gRPC, and what etcdctl prints.
fn by_etcdctl(member: &Member, [root, _]: &[String; 2], outputs: &mut Outputs) {
    let user = |name: &str, password: &str| format!("--user={name}:{password}");
    let (root_user, alice) = (user("root", ROOT), user("alice", ALICE));
    let passwd = format!("user add bob:{CHANGED}");
    for (who, line) in [
        (&root_user, "put key other"),
        (&root_user, "del key"),
        (&root_user, &*passwd),
        (&root_user, "user get bob"),
        (&root_user, "endpoint status -w json"),
        (&root_user, "role list"),
        (&alice, "get key"),
        (&alice, "auth disable"),
        (&user("alice", WRONG), "get key"),
        (&user(NAME, WRONG), "get key"),
        (&format!("--auth-jwt-token={FORGED}"), "get key"),
        (&format!("--auth-jwt-token={root}"), "get missing"),
    ] {
        let said = Command::new(our("etcdctl"))
            .arg(format!("--endpoints={}", member.endpoint()))
            .arg(who)
            .args(line.split(' '))
            .output()
            .expect("it runs");
        outputs.add(format!("etcdctl {line}"), [said.stdout, said.stderr].concat());
    }
    let change = json!({"name": "alice", "password": CHANGED});
    done(member, "/v3/auth/user/changepw", root, &change);
}

const PAGES: &[&str] = &[
    "/metrics",
    "/health",
    "/livez?verbose",
    "/readyz?verbose",
    "/version",
    "/debug/vars",
    "/debug/requests",
    "/debug/events",
    "/debug/pprof/",
    "/debug/pprof/goroutine?debug=2",
    "/debug/pprof/heap?debug=1",
    "/debug/pprof/cmdline",
    "/config/local/log",
];

fn files(folder: &Path, outputs: &mut Outputs) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, outputs);
        } else if let Ok(mut bytes) = fs::read(&path) {
            // A segment of the log is 64 MB, most of it zeros.
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(end);
            outputs.add(path.display().to_string(), bytes);
        }
    }
}

fn nothing_comes_out(mode: &str, auth_token: &str, folder: &Folder) {
    let data = folder.path().join(format!("{mode}.etcd"));
    let audit = folder.path().join(format!("{mode}.audit"));
    let start = Start::new(Kind::Ours, &data)
        .flag("--bcrypt-cost=4")
        .flag(auth_token)
        .flag("--log-level=debug")
        .flag("--metrics=extensive")
        .flag("--enable-pprof")
        .flag("--warning-unary-request-duration=1ns")
        .flag("--warning-apply-duration=1ns")
        .flag(&format!("--audit-log-path={}", audit.display()));
    let member = start.run().expect("ours is never missing");
    let tokens = set_up(&member);
    let mut outputs = Outputs::default();
    by_http(&member, &tokens, &mut outputs);
    by_etcdctl(&member, &tokens, &mut outputs);
    for page in PAGES {
        let headers =
            format!("GET {page} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        outputs.add(*page, send(&member, &headers));
    }
    outputs.add("the log while it runs", member.log());
    let log = data.with_extension("Ours.log");
    member.stop();
    outputs.add("the log", fs::read(&log).expect("a log"));
    outputs.add("the audit log", fs::read(&audit).expect("an audit log"));
    for secret in [ROOT, ALICE, CHANGED, WRONG, SECRET, VALUE, FORGED, &tokens[0], &tokens[1]] {
        assert_eq!(outputs.find(secret), Vec::<String>::new(), "{mode}: {secret} comes out");
    }
    for token in &tokens {
        // What makes a token: its letters, or its signature.
        let part = token.split('.').max_by_key(|part| part.len()).expect("parts");
        assert_eq!(outputs.find(part), Vec::<String>::new(), "{mode}: a part of a token comes out");
    }
    let named = outputs.find(NAME);
    assert!(named.contains(&"the log".to_owned()), "{mode}: nothing was searched: {named:?}");
    let mut kept = Outputs::default();
    files(&data, &mut kept);
    for secret in [ROOT, ALICE, CHANGED, WRONG, SECRET] {
        assert_eq!(kept.find(secret), Vec::<String>::new(), "{mode}: {secret} is kept");
    }
    assert!(!kept.find(VALUE).is_empty(), "{mode}: values are kept, or nothing was searched");
}

#[test]
fn no_secret_comes_out_with_simple_tokens() {
    let folder = Folder::new("canary-simple");
    nothing_comes_out("simple", "--auth-token=simple", &folder);
}

#[test]
fn no_secret_comes_out_with_signed_tokens() {
    let folder = Folder::new("canary-jwt");
    let key = folder.path().join("key");
    fs::write(&key, SECRET).expect("written");
    let flag = format!("--auth-token=jwt,sign-method=HS256,priv-key={}", key.display());
    nothing_comes_out("jwt", &flag, &folder);
}

#[test]
fn what_is_searched_for_is_found_in_every_form() {
    let mut outputs = Outputs::default();
    outputs.add("plain", format!("x{ROOT}y"));
    for before in ["", "a", "ab"] {
        outputs.add(format!("base64 {before}"), base64(format!("{before}{ROOT}--").as_bytes()));
    }
    outputs.add("debug", format!("{:?}", ROOT.as_bytes()));
    outputs.add("other", ALICE);
    assert_eq!(outputs.find(ROOT).len(), 5, "{:?}", outputs.find(ROOT));
    assert_eq!(outputs.find(CHANGED).len(), 0);
}

/// That the search can find a leak: etcd 3.5.16 writes tokens to its log.
#[test]
fn the_real_etcd_tells_tokens() {
    let folder = Folder::new("canary-real");
    let data = folder.path().join("real.etcd");
    let Some(member) = Start::new(Kind::Real, &data).flag("--bcrypt-cost=4").run() else { return };
    set_up(&member);
    let mut outputs = Outputs::default();
    post(&member, "/v3/kv/put", "Authorization: canary.token\r\n", r#"{"key":"YQ=="}"#);
    outputs.add("the log", member.log());
    member.stop();
    assert_eq!(outputs.find("canary.token"), ["the log"]);
}
