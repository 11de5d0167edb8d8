//! Tokens of every method, ours and others', right and wrong.

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use aws_lc_rs::encoding::{AsDer as _, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{hmac, rsa, signature};

use super::*;
use crate::options::TokenKind;

/// 2026, when this was written.
const NOW: Duration = Duration::from_secs(1_795_000_000);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("mainstay-jwt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        // A new file each time, as tools that replace keys do.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut text = base64::encode(der).replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A private key in PEM, and its public half.
struct Pair {
    private: String,
    public: String,
}

fn spki(key: &impl aws_lc_rs::encoding::AsDer<PublicKeyX509Der<'static>>) -> String {
    pem("PUBLIC KEY", key.as_der().expect("DER").as_ref())
}

fn rsa_pair() -> Pair {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("a key");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("DER");
    Pair { private: pem("PRIVATE KEY", der.as_ref()), public: spki(pair.public_key()) }
}

fn ec_pair(method: Method) -> Pair {
    let curve = match method {
        Method::Es256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        Method::Es384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
    };
    let pair = EcdsaKeyPair::generate(curve).expect("a key");
    let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().expect("DER");
    let private = pem("EC PRIVATE KEY", der.as_ref());
    Pair { private, public: spki(pair.public_key()) }
}

fn ed_pair() -> Pair {
    let pair = Ed25519KeyPair::generate().expect("a key");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("DER");
    Pair { private: pem("PRIVATE KEY", der.as_ref()), public: spki(pair.public_key()) }
}

fn pair_for(method: Method) -> Pair {
    match method {
        Method::Hs256 | Method::Hs384 | Method::Hs512 => {
            Pair { private: "a secret".into(), public: String::new() }
        }
        Method::Es256 | Method::Es384 | Method::Es512 => ec_pair(method),
        Method::EdDsa => ed_pair(),
        _ => rsa_pair(),
    }
}

fn options(text: &str) -> JwtOptions {
    match TokenKind::parse(text, |_| Some(60_000_000_000)).expect(text) {
        (TokenKind::Jwt(options), _) => options,
        other => panic!("{other:?}"),
    }
}

fn load(text: &str) -> Result<Jwt, String> {
    Jwt::load(options(text)).map_err(|error| error.to_string())
}

fn testdata(name: &str) -> String {
    format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn tokens_of_golang_jwt_are_taken_and_no_changed_ones() {
    let folder = Folder::new();
    let secret = folder.put("secret", "a secret of the tests of mainstay\n");
    let tokens = std::fs::read_to_string(testdata("golang-jwt.txt")).expect("tokens");
    let tokens = tokens.lines().filter_map(|line| line.split_once(' '));
    let tokens: Vec<_> = tokens.filter(|(name, _)| *name != "#").collect();
    assert_eq!(tokens.len(), Method::ALL.len());
    for (name, token) in &tokens {
        let key = match &name[..2] {
            "HS" => format!("priv-key={secret}"),
            "RS" => format!("pub-key={}", testdata("rsa.pub")),
            "PS" => format!("pub-key={}", testdata("rsa-pkcs1.pub")),
            _ => format!("pub-key={}", testdata(&format!("{name}.pub"))),
        };
        let jwt = load(&format!("jwt,sign-method={name},{key},ttl=1m")).expect(name);
        let claims = jwt.verify(token, NOW);
        let alice = JwtClaims { user: "alice".into(), revision: 7, password: None };
        assert_eq!(claims, Ok(alice), "{name}");
        for (_, other) in tokens.iter().filter(|(other, _)| other != name) {
            assert_eq!(jwt.verify(other, NOW), Err(JwtRefusal::Method), "{name}");
        }
        assert_changes_are_seen(&jwt, token);
        let late = Duration::from_secs(4_102_444_800);
        assert_eq!(jwt.verify(token, late), Err(JwtRefusal::Expired), "{name}");
        let unable = jwt.sign("alice", 7, b"", NOW);
        assert_eq!(jwt.signs(), name.starts_with("HS"));
        assert_eq!(unable.is_err(), !jwt.signs(), "{name}");
    }
}

/// One other letter anywhere, and it is not good any more.
fn assert_changes_are_seen(jwt: &Jwt, token: &str) {
    for at in (0..token.len()).step_by(7) {
        let mut changed = token.to_owned().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert!(jwt.verify(&changed, NOW).is_err(), "{at}: {changed}");
    }
    for cut in [0, 1, token.len() / 2, token.len() - 1] {
        assert!(jwt.verify(&token[..cut], NOW).is_err());
    }
    assert!(jwt.verify(&format!("{token}.e30"), NOW).is_err());
    assert_eq!(jwt.verify(&format!("Bearer {token}"), NOW), Err(JwtRefusal::Malformed));
}

#[test]
fn what_is_signed_here_is_good_here() {
    for method in Method::ALL {
        let (folder, pair, name) = (Folder::new(), pair_for(method), method.name());
        let private = folder.put("private", &pair.private);
        let jwt = load(&format!("jwt,sign-method={name},priv-key={private},ttl=1m")).expect(name);
        let token = jwt.sign("älice \"&\"", 1 << 40, b"$2a$hash", NOW).expect(name);
        let claims = jwt.verify(&token, NOW).expect(name);
        assert_eq!((&*claims.user, claims.revision), ("älice \"&\"", 1 << 40));
        assert_eq!(claims.password, Some(password_mark(b"$2a$hash")));
        let minute = Duration::from_secs(60);
        assert!(jwt.verify(&token, NOW + minute - Duration::from_secs(1)).is_ok());
        assert_eq!(jwt.verify(&token, NOW + minute), Err(JwtRefusal::Expired), "remembered or not");
        jwt.remembered.write().clear();
        assert_eq!(jwt.verify(&token, NOW + minute), Err(JwtRefusal::Expired));
        if pair.public.is_empty() {
            continue;
        }
        let public = folder.put("public", &pair.public);
        let other = load(&format!("jwt,sign-method={name},pub-key={public}")).expect(name);
        assert_eq!(other.verify(&token, NOW), Ok(claims), "{name}: where only the public half is");
        assert_eq!(other.sign("a", 1, b"", NOW), Err(JwtUnsigned::VerifyOnly));
        let both = format!("jwt,sign-method={name},pub-key={public},priv-key={private}");
        assert!(load(&both).expect(name).signs());
        folder.put("public", &pair_for(method).public);
        let error = load(&both).expect_err("another one's half");
        assert_eq!(error, "auth: public and private keys don't match", "{name}");
    }
}

#[test]
fn keys_that_are_none_are_refused() {
    let folder = Folder::new();
    let path = |name: &str, text: &str| folder.put(name, text);
    let (rsa, ec, ed) = (rsa_pair(), ec_pair(Method::Es256), ed_pair());
    let refused = |text: String| load(&text).expect_err(&text);
    for method in Method::ALL.map(Method::name) {
        assert_eq!(refused(format!("jwt,sign-method={method}")), "auth: missing key data");
        let none = refused(format!("jwt,sign-method={method},priv-key=/does/not/exist"));
        assert_eq!(none, "auth: invalid auth options");
    }
    let secret = path("secret", "x");
    let only_public = refused(format!("jwt,sign-method=HS256,pub-key={secret}"));
    assert_eq!(only_public, "auth: missing key data");
    let of_ec = path("ec", &ec.private);
    for (method, file, what) in [
        ("RS256", &secret, NO_PEM),
        ("RS256", &of_ec, "key is not a valid RSA private key"),
        ("ES384", &of_ec, "key is not a valid ECDSA private key"),
        ("EdDSA", &of_ec, "key is not a valid Ed25519 private key"),
        ("ES256", &path("rsa", &rsa.private), "key is not a valid ECDSA private key"),
        ("RS256", &path("ed", &ed.private), "key is not a valid RSA private key"),
    ] {
        let error = refused(format!("jwt,sign-method={method},priv-key={file}"));
        assert!(error.starts_with(what), "{method} {file}: {error}");
        let public = refused(format!("jwt,sign-method={method},pub-key={file}"));
        assert!(public.contains("key"), "{public}");
    }
    let with_parameters = format!("{}{}", pem("EC PARAMETERS", &[6, 1, 1]), ec.private);
    let with_parameters = path("parameters", &with_parameters);
    assert!(load(&format!("jwt,sign-method=ES256,priv-key={with_parameters}")).is_ok());
}

const NO_PEM: &str = "invalid key: Key must be a PEM encoded PKCS1 or PKCS8 key";

/// A token of any content, signed with a secret.
fn signed(secret: &[u8], header: &str, claims: &str) -> String {
    let text =
        format!("{}.{}", base64::encode(header.as_bytes()), base64::encode(claims.as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", base64::encode(signature.as_ref()))
}

const HS: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const ALICE: &str = r#"{"username":"alice","revision":7,"exp":4102444800}"#;

#[test]
fn no_other_method_gets_to_the_key() {
    let (folder, pair) = (Folder::new(), rsa_pair());
    let public = folder.put("public", &pair.public);
    let rs = load(&format!("jwt,sign-method=RS256,pub-key={public}")).expect("a key");
    // The public key as the secret of another method: once a hole in many libraries.
    for secret in [pair.public.as_bytes(), pair.public.trim_end().as_bytes()] {
        assert_eq!(rs.verify(&signed(secret, HS, ALICE), NOW), Err(JwtRefusal::Method));
        let lying = signed(secret, r#"{"alg":"RS256"}"#, ALICE);
        assert_eq!(rs.verify(&lying, NOW), Err(JwtRefusal::Signature));
    }
    let secret = folder.put("secret", "s");
    let hs = load(&format!("jwt,sign-method=HS256,priv-key={secret}")).expect("a key");
    for alg in ["none", "None", "NONE", "nOnE", "hs256", "HS384", "", "HS256 "] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        for jwt in [&rs, &hs] {
            assert_eq!(jwt.verify(&signed(b"s", &header, ALICE), NOW), Err(JwtRefusal::Method));
            let text = signed(b"s", &header, ALICE);
            let (text, _) = text.rsplit_once('.').expect("three parts");
            assert_eq!(jwt.verify(&format!("{text}."), NOW), Err(JwtRefusal::Method), "{alg}");
            assert!(jwt.verify(text, NOW).is_err());
        }
    }
    for header in ["{}", r#"{"alg":1}"#, r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#] {
        assert_eq!(hs.verify(&signed(b"s", header, ALICE), NOW), Err(JwtRefusal::Method));
    }
    let (text, _) =
        hs_token(ALICE).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("three");
    for signature in ["", "AA", &base64::encode(&[0; 32])] {
        let unsigned = format!("{text}.{signature}");
        assert_eq!(hs.verify(&unsigned, NOW), Err(JwtRefusal::Signature), "{signature:?}");
    }
}

fn hs_token(claims: &str) -> String {
    signed(b"s", HS, claims)
}

#[test]
fn headers_and_claims_count_as_in_etcd() {
    let folder = Folder::new();
    let secret = folder.put("secret", "s");
    let jwt = load(&format!("jwt,sign-method=HS256,priv-key={secret}")).expect("a key");
    for header in [
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        r#"{"alg":"HS256","typ":7,"kid":"../../etc/passwd","jku":"http://evil.example"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
    ] {
        assert!(jwt.verify(&signed(b"s", header, ALICE), NOW).is_ok(), "{header}");
    }
    let now = NOW.as_secs();
    let at = |claims: String| {
        let base = r#""username":"alice","revision":7"#;
        jwt.verify(&hs_token(&format!("{{{base}{claims}}}")), NOW).map(|claims| claims.revision)
    };
    assert_eq!(at(String::new()), Ok(7), "etcd asks for no end");
    assert_eq!(at(r#","exp":0"#.into()), Ok(7), "nor does golang-jwt of zero");
    for (name, seconds, expected) in [
        ("exp", now, Err(JwtRefusal::Expired)),
        ("exp", now - 1, Err(JwtRefusal::Expired)),
        ("exp", now + 1, Ok(7)),
        ("nbf", now, Ok(7)),
        ("nbf", now + 1, Err(JwtRefusal::NotYet)),
        ("iat", now + 1000, Ok(7)),
    ] {
        assert_eq!(at(format!(r#","{name}":{seconds}"#)), expected, "{name} {seconds}");
        assert_eq!(at(format!(r#","{name}":{seconds}.4"#)), expected, "{name} {seconds}.4");
    }
    assert_eq!(at(r#","exp":"4102444800""#.into()), Err(JwtRefusal::ClaimType));
    assert_eq!(at(r#","nbf":null"#.into()), Err(JwtRefusal::ClaimType));
    assert_eq!(at(r#","exp":-5"#.into()), Err(JwtRefusal::Expired));
    for (claims, expected) in [
        (r#"{"revision":7}"#, Err(JwtRefusal::NoUser)),
        (r#"{"username":7,"revision":7}"#, Err(JwtRefusal::NoUser)),
        (r#"{"username":"a"}"#, Err(JwtRefusal::NoRevision)),
        (r#"{"username":"a","revision":"7"}"#, Err(JwtRefusal::NoRevision)),
        (r#"{"username":"a","revision":-1}"#, Ok(0)),
        (r#"{"username":"a","revision":1e300}"#, Ok(u64::MAX)),
        (r#"{"username":"a","revision":7.9}"#, Ok(7)),
        ("[]", Err(JwtRefusal::Malformed)),
        ("", Err(JwtRefusal::Malformed)),
        ("null", Err(JwtRefusal::Malformed)),
    ] {
        let found = jwt.verify(&hs_token(claims), NOW).map(|claims| claims.revision);
        assert_eq!(found, expected, "{claims}");
    }
}

#[test]
fn huge_and_deep_ones_are_malformed() {
    let folder = Folder::new();
    let secret = folder.put("secret", "s");
    let jwt = load(&format!("jwt,sign-method=HS256,priv-key={secret}")).expect("a key");
    let name = "a".repeat(JWT_BYTES_MAX);
    let huge = hs_token(&format!(r#"{{"username":"{name}","revision":1}}"#));
    assert_eq!(jwt.verify(&huge, NOW), Err(JwtRefusal::Malformed));
    let deep = format!(r#"{{"username":"a","revision":1,"x":{}}}"#, "[".repeat(2000));
    assert_eq!(jwt.verify(&hs_token(&deep), NOW), Err(JwtRefusal::Malformed));
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30.", "\u{0}.\u{0}.\u{0}"] {
        assert!(jwt.verify(text, NOW).is_err(), "{text:?}");
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let folder = Folder::new();
    let secret = folder.put("secret", "s");
    let jwt = load(&format!("jwt,sign-method=HS256,priv-key={secret}")).expect("a key");
    for n in 0..2 * JWTS_REMEMBERED_MAX {
        let token = hs_token(&format!(r#"{{"username":"a","revision":{n}}}"#));
        assert_eq!(jwt.verify(&token, NOW).map(|claims| claims.revision), Ok(n as u64));
    }
    assert!(jwt.remembered.read().len() <= JWTS_REMEMBERED_MAX);
}

#[test]
fn keys_are_read_again_and_former_tokens_last_their_time() {
    let (folder, first, second) = (Folder::new(), ec_pair(Method::Es256), ec_pair(Method::Es256));
    let private = folder.put("private", &first.private);
    let public = folder.put("public", &first.public);
    let text = format!("jwt,sign-method=ES256,pub-key={public},priv-key={private},ttl=1m");
    let jwt = load(&text).expect("keys");
    let second_on = |n| NOW + Duration::from_secs(n);
    let old = jwt.sign("alice", 7, b"", NOW).expect("signed");
    // One half of two: kept as they were.
    folder.put("private", &second.private);
    assert!(jwt.verify(&old, second_on(1)).is_ok());
    folder.put("public", &second.public);
    let new = jwt.sign("alice", 8, b"", second_on(2)).expect("signed");
    assert!(jwt.verify(&old, second_on(3)).is_ok(), "tokens that were given stay good");
    assert_eq!(load(&text).expect("keys").verify(&old, second_on(3)), Err(JwtRefusal::Signature));
    assert!(load(&text).expect("keys").verify(&new, second_on(3)).is_ok());
    assert!(jwt.verify(&new, second_on(3)).is_ok());
    assert_eq!(jwt.verify(&old, second_on(60)), Err(JwtRefusal::Expired));
    // What the former key signs now is good for no longer than what it has signed.
    let thief = folder.put("thief", &first.private);
    let thief = load(&format!("jwt,sign-method=ES256,priv-key={thief},ttl=1m")).expect("a key");
    let forged = thief.sign("root", 9, b"", second_on(30)).expect("signed");
    assert_eq!(jwt.verify(&forged, second_on(30)), Err(JwtRefusal::Signature));
    let short = thief.sign("root", 9, b"", second_on(2)).expect("signed");
    assert!(jwt.verify(&short, second_on(4)).is_ok());
    assert!(jwt.verify(&short, second_on(63)).is_err());
    // A file that is touched and says the same changes nothing.
    folder.put("public", &second.public);
    assert!(jwt.verify(&new, second_on(5)).is_ok());
    assert!(
        jwt.keys.load().former.as_ref().is_some_and(|(_, end)| *end == second_on(63).as_secs())
    );
}
