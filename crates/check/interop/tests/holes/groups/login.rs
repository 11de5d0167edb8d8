//! Passwords and tokens.

use std::fs;
use std::time::{Duration, Instant};

use mainstay_interop::Kind;
use mainstay_proto::etcdserverpb as pb;
use rcgen::KeyPair;

use super::note;
use crate::Holes;
use crate::client::{Client, talk};
use crate::raw;
use crate::world::{HIDDEN, World, add_user, log_in, password};

const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// Base64 of URLs, without padding.
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for n in 0..=chunk.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * n)) as usize & 63]));
        }
    }
    text
}

fn token(header: &str, claims: &str, signature: impl FnOnce(&str) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let signature = base64url(&signature(&signed));
    format!("{signed}.{signature}")
}

fn hmac(secret: &str, text: &str) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    aws_lc_rs::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// Tokens that somebody else than the member has made, of a member that signs with a private key.
pub(crate) fn signed(kind: Kind) -> Holes {
    let folder = mainstay_interop::Folder::new("holes-keys");
    let pair = KeyPair::generate().expect("a key");
    let (public, private) = (folder.path().join("pub.pem"), folder.path().join("priv.pem"));
    fs::write(&public, pair.public_key_pem()).expect("a file");
    fs::write(&private, pair.serialize_pem()).expect("a file");
    let flag = format!(
        "--auth-token=jwt,sign-method=ES256,pub-key={},priv-key={},ttl=2s",
        public.display(),
        private.display()
    );
    let world = World::guarded(kind, "jwt", &[&flag]);
    let pem = pair.public_key_pem();
    talk(async {
        let mut holes = Vec::new();
        let root = world.user("root").await;
        let client = world.client().await;
        let claims =
            |exp: u64| format!(r#"{{"username":"root","revision":{},"exp":{exp}}}"#, REVISION);
        let (later, header) =
            (claims(4_102_444_800), |alg: &str| format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#));
        let forged = [
            ("alg none", token(&header("none"), &later, |_| Vec::new())),
            ("alg None", token(&header("None"), &later, |_| Vec::new())),
            ("no signature", token(&header("ES256"), &later, |_| Vec::new())),
            ("a signature of zeros", token(&header("ES256"), &later, |_| vec![0; 64])),
            ("HS256 with the public key", token(&header("HS256"), &later, |text| hmac(&pem, text))),
            (
                "HS256 with the trimmed key",
                token(&header("HS256"), &later, |text| hmac(pem.trim(), text)),
            ),
            ("HS256 without a key", token(&header("HS256"), &later, |text| hmac("", text))),
            ("a header that is none", token("[]", &later, |_| vec![0; 64])),
            ("claims that are none", token(&header("ES256"), "7", |_| vec![0; 64])),
            ("a token without end", "a".repeat(60_000)),
            ("dots", "..".to_owned()),
        ];
        for (what, token) in &forged {
            for token in [token.clone(), format!("Bearer {token}")] {
                let answer = client.with(&token).get(HIDDEN).await;
                note(&mut holes, answer.done(), || format!("{what} is taken for root"));
            }
        }
        assert!(root.get(HIDDEN).await.done(), "a sound token is good");
        // It is good for two seconds.
        let patience = Instant::now() + Duration::from_secs(30);
        let mut is_over = false;
        while Instant::now() < patience && !is_over {
            is_over = !root.get(HIDDEN).await.done();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        note(&mut holes, !is_over, || "a token that has expired is good".to_owned());
        holes
    })
}

/// What the auth revision is after [`World::guarded`] has made its users and roles: near it, so
/// that a forged token is not refused for its age alone.
const REVISION: u64 = 12;

/// A request with a bad token must not wait for longer.
const ANSWERED: Duration = Duration::from_secs(20);

/// Tokens that are guessed, cut, or shown again when they should be void.
pub(crate) fn simple(kind: Kind) -> Holes {
    let world = World::guarded(kind, "simple", &[]);
    talk(async {
        let mut holes = Vec::new();
        let root = world.user("root").await;
        let client = world.client().await;
        let good = root.shown().to_owned();
        let (random, index) = good.split_once('.').expect("a token and an index");
        let mut guesses: Vec<String> = vec![
            random.to_owned(),
            format!(".{index}"),
            format!("{random}."),
            format!("{random}.0"),
            format!("{random}.{}", u64::MAX),
            format!("{}.{index}", random.to_ascii_uppercase()),
            format!("{good} "),
            format!("{good}.1"),
        ];
        for n in 0..26 {
            let last = char::from(b'a' + n);
            guesses.push(format!("{}{last}.{index}", &random[..random.len() - 1]));
        }
        guesses.retain(|guess| *guess != good);
        let mut tokens = vec![random.to_owned()];
        for guess in guesses {
            let shown = client.with(&guess);
            let Ok(answer) = tokio::time::timeout(ANSWERED, shown.get(HIDDEN)).await else {
                holes.push(format!("{guess:?} is not answered within {ANSWERED:?}"));
                continue;
            };
            note(&mut holes, answer.done(), || format!("{guess:?} is taken for {good:?}"));
        }
        for _ in 0..20 {
            tokens.push(log_in(&client, "alice").await.shown().to_owned());
        }
        tokens.sort_unstable();
        tokens.dedup();
        note(&mut holes, tokens.len() != 21, || "a token was given out twice".to_owned());
        holes.extend(void(&root, &client).await);
        holes
    })
}

/// Tokens of a user whose password changes, and of one who is deleted and made again.
async fn void(root: &Client, client: &Client) -> Holes {
    let mut holes = Vec::new();
    for name in ["dave", "erin"] {
        add_user(root, name).await;
        let give = pb::AuthUserGrantRoleRequest { user: name.into(), role: "root".into() };
        let path = "/etcdserverpb.Auth/UserGrantRole";
        let _: pb::AuthUserGrantRoleResponse = root.ask(path, &give).await;
    }
    let (dave, erin) = (log_in(client, "dave").await, log_in(client, "erin").await);
    assert!(dave.get(HIDDEN).await.done() && erin.get(HIDDEN).await.done());
    let change = pb::AuthUserChangePasswordRequest {
        name: "dave".into(),
        password: "another".into(),
        ..Default::default()
    };
    let path = "/etcdserverpb.Auth/UserChangePassword";
    let _: pb::AuthUserChangePasswordResponse = root.ask(path, &change).await;
    let delete = pb::AuthUserDeleteRequest { name: "erin".into() };
    let _: pb::AuthUserDeleteResponse = root.ask("/etcdserverpb.Auth/UserDelete", &delete).await;
    add_user(root, "erin").await;
    for (client, when) in [(dave, "the password changed"), (erin, "the user was made again")] {
        let answer = client.get("k1").await;
        note(&mut holes, answer.done(), || format!("a token is good after {when}"));
    }
    holes
}

/// Logins of each kind whose times are compared.
const LOGINS: usize = 15;

/// Whoever measures a login must not learn whether there is such a user. The cost of passwords
/// is etcd's default here: that is what the difference would be.
pub(crate) fn time(kind: Kind) -> Holes {
    let world = World::guarded(kind, "time", &["--bcrypt-cost=10"]);
    talk(async {
        let mut holes = Vec::new();
        let client = world.client().await;
        let mut shortest = Vec::new();
        for name in ["alice", "nobody-of-this-name", ""] {
            let mut least = Duration::MAX;
            for n in 0..LOGINS {
                let wrong = format!("wrong {n}");
                let request = pb::AuthenticateRequest { name: name.into(), password: wrong };
                let begun = Instant::now();
                let answer = client.call(AUTHENTICATE, &request).await;
                least = least.min(begun.elapsed());
                note(&mut holes, answer.done(), || {
                    format!("{name:?} logs in with a wrong password")
                });
            }
            shortest.push(least);
        }
        // The shortest of many knows least of a busy machine; three times is far inside of what
        // comparing a password costs.
        let (known, unknown) = (shortest[0], shortest[1]);
        let differs = known > unknown * 3 || unknown > known * 3;
        note(&mut holes, differs, || {
            format!("a known user's wrong password takes {known:?}, an unknown user's {unknown:?}")
        });
        holes
    })
}

/// Secrets that go through a member and must not come out of it anywhere but where they belong.
pub(crate) fn outputs(kind: Kind) -> Holes {
    const PASSWORD: &str = "canary-password-41";
    const TOKEN: &str = "canarytokencanar.4";
    const VALUE: &str = "canary-value-41";
    let world = World::guarded(kind, "outputs", &["--log-level=debug"]);
    let mut logged = Vec::new();
    talk(async {
        let root = world.user("root").await;
        logged.push(root.shown().to_owned());
        let client = world.client().await;
        let user = pb::AuthUserAddRequest {
            name: "dave".into(),
            password: PASSWORD.into(),
            ..Default::default()
        };
        let _: pb::AuthUserAddResponse = root.ask("/etcdserverpb.Auth/UserAdd", &user).await;
        let change = pb::AuthUserChangePasswordRequest {
            name: "dave".into(),
            password: PASSWORD.into(),
            ..Default::default()
        };
        let path = "/etcdserverpb.Auth/UserChangePassword";
        let _: pb::AuthUserChangePasswordResponse = root.ask(path, &change).await;
        for name in ["dave", "root", "nobody"] {
            let request = pb::AuthenticateRequest { name: name.into(), password: PASSWORD.into() };
            client.call(AUTHENTICATE, &request).await;
        }
        for token in [TOKEN, "Bearer canary"] {
            client.with(token).get(HIDDEN).await;
        }
        assert!(root.put("canary", VALUE).await.done());
        // Too much of it, so that something is said.
        root.put("canary", &VALUE.repeat(150_000)).await;
    });
    let endpoint = world.member.endpoint();
    let body = format!(r#"{{"name":"dave","password":"{PASSWORD}"}}"#);
    raw::http(&endpoint, "POST /v3/auth/authenticate HTTP/1.1\r\nHost: 127.0.0.1", &body);
    let mut outputs = vec![("the log".to_owned(), world.member.log())];
    for path in ["/metrics", "/debug/vars", "/debug/requests", "/debug/pprof/cmdline", "/health"] {
        outputs.push((path.to_owned(), world.member.http_get(path).unwrap_or_default()));
    }
    let mut holes = Vec::new();
    let own = password("root");
    let secrets = [PASSWORD, TOKEN, VALUE, &own, &logged[0]];
    for (place, text) in outputs {
        for secret in secrets {
            note(&mut holes, text.contains(secret), || format!("{secret:?} stands in {place}"));
        }
    }
    holes
}
