//! Signed tokens: those of ours at the real etcd 3.5.16 with the same keys, and the other way
//! round; options that both refuse; and what happens when passwords and keys change.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Member, Start};
use serde_json::{Value, json};

/// A POST with a token, or without: the status and the body.
fn post(member: &Member, token: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let token =
        if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
    let request = format!(
        "POST /v3/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{token}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(member.endpoint()).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    socket.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

fn done(member: &Member, token: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = post(member, token, path, body);
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

fn put(member: &Member, token: &str) -> (u16, Value) {
    let (status, mut answer) =
        post(member, token, "kv/put", &json!({"key": "YQ==", "value": "MQ=="}));
    if let Some(answer) = answer.as_object_mut() {
        answer.remove("header");
    }
    (status, answer)
}

fn log_in(member: &Member, name: &str, password: &str) -> (u16, Value) {
    post(member, "", "auth/authenticate", &json!({"name": name, "password": password}))
}

fn token_of(member: &Member, name: &str, password: &str) -> String {
    let (status, answer) = log_in(member, name, password);
    assert_eq!(status, 200, "{answer}");
    answer["token"].as_str().expect("a token").to_owned()
}

/// The same users in the same order, so that auth revisions are the same, too.
fn set_up(member: &Member) {
    for name in ["root", "alice"] {
        done(member, "", "auth/user/add", &json!({"name": name, "password": format!("{name}'s")}));
    }
    done(member, "", "auth/user/grant", &json!({"user": "root", "role": "root"}));
    done(member, "", "auth/enable", &json!({}));
}

/// A private key that both take, and its public half.
fn key_pair(folder: &Path, method: &str) -> [String; 2] {
    let [private, public] =
        ["private", "public"].map(|half| folder.join(format!("{method}.{half}")));
    let algorithm = match method {
        "ES256" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "ES384" => &rcgen::PKCS_ECDSA_P384_SHA384,
        "EdDSA" => &rcgen::PKCS_ED25519,
        _ => &rcgen::PKCS_RSA_SHA256,
    };
    if method.starts_with("HS") {
        std::fs::write(&private, "a secret of forty bytes or so, no newline").expect("written");
    } else {
        let pair = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        std::fs::write(&private, pair.serialize_pem()).expect("written");
        std::fs::write(&public, pair.public_key_pem()).expect("written");
    }
    [private, public].map(|path| path.display().to_string())
}

fn flag(method: &str, keys: &str) -> String {
    format!("--auth-token=jwt,sign-method={method},{keys},ttl=10m")
}

#[test]
fn tokens_are_good_on_both_sides() {
    let folder = Folder::new("jwt-both");
    let base = |kind| {
        Start::new(kind, &folder.path().join(format!("{kind:?}.etcd"))).flag("--bcrypt-cost=4")
    };
    let (ours, theirs) = (base(Kind::Ours), base(Kind::Real));
    let mut fresh = true;
    for method in ["HS256", "HS512", "RS256", "RS512", "PS256", "PS384", "ES256", "ES384"] {
        let [private, _] = key_pair(folder.path(), method);
        let flag = flag(method, &format!("priv-key={private}"));
        let Some(real) = theirs.clone().flag(&flag).run() else { return };
        let own = ours.clone().flag(&flag).run().expect("ours is never missing");
        if fresh {
            [&own, &real].iter().for_each(|member| set_up(member));
            fresh = false;
        }
        let tokens = [&own, &real].map(|member| token_of(member, "root", "root's"));
        for (maker, token) in ["ours", "theirs"].into_iter().zip(&tokens) {
            for (reader, member) in [("ours", &own), ("theirs", &real)] {
                assert_eq!(put(member, token).0, 200, "{method}: of {maker} at {reader}");
            }
            // 3.5.16 does not know that word yet.
            assert_eq!(put(&own, &format!("Bearer {token}")).0, 200, "{method}: of {maker}");
            let broken = format!("{}{}", &token[..token.len() - 4], "AAAA");
            let refusals = [&own, &real].map(|member| put(member, &broken));
            assert_eq!(refusals[0], refusals[1], "{method}: of {maker}, broken");
            assert_eq!(refusals[0].0, 401);
        }
        [own, real].into_iter().for_each(Member::stop);
    }
}

#[test]
fn a_change_makes_tokens_old_on_both_sides() {
    let folder = Folder::new("jwt-old");
    let [private, public] = key_pair(folder.path(), "ES256");
    let start = |kind: Kind, keys: &str| {
        let data = folder.path().join(format!("{kind:?}.etcd"));
        Start::new(kind, &data).flag("--bcrypt-cost=4").flag(&flag("ES256", keys))
    };
    let keys = format!("priv-key={private},pub-key={public}");
    let Some(real) = start(Kind::Real, &keys).run() else { return };
    let own = start(Kind::Ours, &keys).run().expect("ours is never missing");
    let both = [&own, &real];
    both.iter().for_each(|member| set_up(member));
    let old = both.map(|member| token_of(member, "root", "root's"));
    for member in both {
        done(member, &old[0], "auth/role/add", &json!({"name": "r"}));
    }
    let refused = both.map(|member| put(member, &old[1]));
    assert_eq!(refused[0], refused[1]);
    assert_eq!(refused[0].0, 400, "{:?}", refused[0]);
    assert!(refused[0].1.to_string().contains("revision of auth store is old"), "{:?}", refused[0]);
    // What root does with users is not held against the revision, on both sides.
    for member in both {
        done(member, &old[0], "auth/role/list", &json!({}));
    }
    // Unless it is root's no more: another password, and etcd goes on taking the token.
    let change = json!({"name": "root", "password": "another"});
    for member in both {
        done(member, &old[0], "auth/user/changepw", &change);
    }
    let list = both.map(|member| post(member, &old[0], "auth/role/list", &json!({})).0);
    assert_eq!(list, [401, 200], "a token of ours goes with the password that it was given for");
    let theirs = post(&own, &old[1], "auth/role/list", &json!({})).0;
    assert_eq!(theirs, 200, "of etcd's tokens nobody knows");
    assert_eq!(log_in(&own, "root", "root's").0, 400);
    let new = token_of(&own, "root", "another");
    assert_eq!(put(&own, &new).0, 200);
    // A member without the private key takes tokens and gives none.
    own.stop();
    let readers = start(Kind::Ours, &format!("pub-key={public}"));
    let own = readers.run().expect("ours is never missing");
    assert_eq!(put(&own, &new).0, 200);
    let (status, answer) = log_in(&own, "root", "another");
    assert_eq!(answer["message"], "auth: token signing attempted with verify-only key");
    assert_eq!(status, 500);
    [own, real].into_iter().for_each(Member::stop);
}

#[test]
fn options_that_are_wrong_stop_both() {
    let folder = Folder::new("jwt-options");
    let [private, _] = key_pair(folder.path(), "ES256");
    let [other, public] = key_pair(folder.path(), "RS256");
    for (n, (options, words)) in [
        ("jwt", "auth: invalid auth options"),
        ("jwt,sign-method=RS257", "auth: invalid auth options"),
        ("jwt,sign-method=ES256", "auth: missing key data"),
        ("jwt,sign-method=HS256", "auth: missing key data"),
        ("jwt,sign-method=none", "unsupported signing method: *jwt.signingMethodNone"),
        ("jwt,sign-method=ES256,priv-key=/does/not/exist", "auth: invalid auth options"),
        ("jwt,sign-method=ES256,priv-key", "auth: invalid auth options"),
        ("jwt,sign-method=ES256,ttl=x", "auth: invalid auth options"),
        (&format!("jwt,sign-method=RS256,priv-key={private}"), ""),
        (&format!("jwt,sign-method=ES256,priv-key={other}"), ""),
        (&format!("jwt,sign-method=ES256,pub-key={public}"), ""),
        ("basic", "auth: invalid auth options"),
        ("simple,a", "auth: invalid auth options"),
    ]
    .into_iter()
    .enumerate()
    {
        for kind in [Kind::Ours, Kind::Real] {
            let data = folder.path().join(format!("{n}-{kind:?}"));
            let start = Start::new(kind, &data).flag(&format!("--auth-token={options}"));
            let Some(mut command) = start.command() else { return };
            let output = command.output().expect("it starts");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{kind:?} {options}");
            assert!(told.contains(words), "{kind:?} {options}: {told}");
            let secret = std::fs::read_to_string(&private).expect("a key");
            let line = secret.lines().nth(1).expect("a line of the key");
            assert!(!told.contains(line), "{kind:?} {options}: {told}");
            assert!(kind == Kind::Real || !data.join("member").exists(), "{options}: founded");
        }
    }
}

#[test]
fn keys_change_while_it_runs() {
    let folder = Folder::new("jwt-keys");
    let [private, public] = key_pair(folder.path(), "ES256");
    let keys = format!("priv-key={private},pub-key={public}");
    let member = Start::new(Kind::Ours, &folder.path().join("m.etcd"))
        .flag("--bcrypt-cost=4")
        .flag(&flag("ES256", &keys))
        .run()
        .expect("ours is never missing");
    set_up(&member);
    let old = token_of(&member, "root", "root's");
    key_pair(folder.path(), "ES256");
    let patience = Instant::now() + Duration::from_secs(20);
    while !member.log().contains("the keys of tokens have changed") {
        assert!(Instant::now() < patience, "not read again:\n{}", member.log());
        token_of(&member, "root", "root's");
    }
    let new = token_of(&member, "root", "root's");
    for token in [&old, &new] {
        assert_eq!(put(&member, token).0, 200, "tokens that were given stay good");
    }
    let start = member.start().clone();
    member.stop();
    let member = start.run().expect("it ran before");
    assert_eq!(put(&member, &old).0, 401, "a restart forgets the key that is gone");
    assert_eq!(put(&member, &new).0, 200);
    member.stop();
}

#[test]
fn nobody_logs_in_without_tokens() {
    let folder = Folder::new("jwt-none");
    for kind in [Kind::Ours, Kind::Real] {
        let start = Start::new(kind, &folder.path().join(format!("{kind:?}.etcd")));
        let start = start.flag("--auth-token=").flag("--bcrypt-cost=4");
        let Some(member) = start.run() else { return };
        set_up(&member);
        let (status, answer) = log_in(&member, "root", "root's");
        let said = answer["message"].as_str().unwrap_or_default();
        assert_eq!(
            (status, said),
            (400, "etcdserver: authentication failed, invalid user ID or password"),
            "{kind:?}"
        );
        assert_eq!(put(&member, "abcdefghijklmnop.1").0, 401, "{kind:?}");
        member.stop();
    }
}

/// Simple tokens: who guesses passwords is slowed down and locks out nobody; who guesses
/// tokens finds none; and one that was given goes with its password.
#[test]
fn guessing_gets_nobody_in_and_locks_nobody_out() {
    let folder = Folder::new("guessing");
    let start = Start::new(Kind::Ours, &folder.path().join("m.etcd")).flag("--bcrypt-cost=4");
    let member = start.run().expect("ours is never missing");
    set_up(&member);
    let (token, alice) =
        (token_of(&member, "root", "root's"), token_of(&member, "alice", "alice's"));
    let mut guesses = 0;
    let refused = loop {
        let (status, answer) = log_in(&member, "alice", &format!("guess {guesses}"));
        guesses += 1;
        assert!(guesses < 1000, "nobody slows it down");
        if status != 400 {
            break (status, answer["message"].as_str().unwrap_or_default().to_owned());
        }
    };
    let words = "etcdserver: too many failed logins from this address, try again later";
    assert_eq!(refused, (429, words.to_owned()));
    assert!(guesses > 20, "{guesses} guesses are what a person needs");
    assert_eq!(log_in(&member, "root", "root's").0, 200, "others log in");
    assert_eq!(put(&member, &token).0, 200);
    let patience = Instant::now() + Duration::from_secs(20);
    while log_in(&member, "alice", "alice's").0 != 200 {
        assert!(Instant::now() < patience, "after a while its owner gets in");
    }
    let (letters, index) = token.split_once('.').expect("letters and an index");
    for guess in [
        format!("{}a.{index}", &letters[..15]),
        format!("{}.{index}", letters.to_uppercase()),
        format!("{letters}.{}", index.parse::<u64>().expect("a number") - 1),
        format!(".{index}"),
        format!("{letters}."),
        format!("{letters}.{index}.{index}"),
    ] {
        // One of them may be the token itself.
        if guess != token {
            assert_eq!(put(&member, &guess).0, 401, "{guess}");
        }
    }
    let change = json!({"name": "alice", "password": "alice's"});
    assert_eq!(post(&member, &alice, "auth/user/get", &json!({"name": "alice"})).0, 200);
    done(&member, &token, "auth/user/changepw", &change);
    let reused = post(&member, &alice, "auth/user/get", &json!({"name": "alice"})).0;
    assert_eq!(reused, 401, "even if the password is the same again");
    member.stop();
}
