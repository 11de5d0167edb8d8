//! Signed tokens, as etcd 3.7 makes and takes them (golang-jwt 5): claims `username`,
//! `revision` and `exp`; only the configured method; `exp` and `nbf` without leeway; `typ`,
//! `kid` and other claims are not looked at.
//!
//! Beyond etcd:
//! - A token of ours has one claim more, which tells the user's password from any other of
//!   its passwords. etcd does not look at it; we refuse the token once the password has been
//!   changed, or the user is another one of the same name. Tokens without it are etcd's.
//! - The key files are read again when they change. Tokens of the former key stay good until
//!   they expire, for one `ttl` at most. A restart forgets the former key at once.
//! - Tokens that were verified are remembered, so that a signature is checked once.

mod base64;
mod keys;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use mainstay_types::limits::{JWT_BYTES_MAX, JWTS_REMEMBERED_MAX};
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};

use crate::options::{JwtOptions, TokenOptionError};
use keys::Key;

pub use keys::Method;

/// The claim that only ours have.
const PASSWORD_CLAIM: &str = "mainstay_password";

/// Why a token was not taken (golang-jwt's words). Never the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtRefusal {
    /// Not three parts, or one of them cannot be read.
    #[error("token is malformed")]
    Malformed,
    /// Another method than `sign-method`.
    #[error("token is unverifiable: error while executing keyfunc: invalid signing method")]
    Method,
    /// Another key, or another text.
    #[error("token signature is invalid")]
    Signature,
    /// After `exp`.
    #[error("token has invalid claims: token is expired")]
    Expired,
    /// Before `nbf`.
    #[error("token has invalid claims: token is not valid yet")]
    NotYet,
    /// A claim of another type.
    #[error("token has invalid claims: invalid type for claim")]
    ClaimType,
    /// No `username`, or none that is a text.
    #[error("failed to obtain user claims from jwt token")]
    NoUser,
    /// No `revision`, or none that is a number.
    #[error("failed to obtain revision claims from jwt token")]
    NoRevision,
}

/// Why no token was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtUnsigned {
    /// There is only a public key.
    #[error("auth: token signing attempted with verify-only key")]
    VerifyOnly,
    /// The library refuses to.
    #[error("auth: token could not be signed")]
    Failed,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtClaims {
    /// The user.
    pub user: String,
    /// The auth revision it was made at.
    pub revision: u64,
    /// [`password_mark`] of the password that it was made for; `None` in tokens that others
    /// have made.
    pub password: Option<String>,
}

/// What tells a stored password from another, and nothing about it: stored passwords have
/// 128 random bits.
pub fn password_mark(hash: &[u8]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(b"mainstay: the password of a token\0");
    context.update(hash);
    base64::encode(&context.finish().as_ref()[..12])
}

/// Now, on the clock that tokens go by.
pub fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Makes tokens and looks at them. "Now" is an argument: the time since 1970.
pub struct Jwt {
    options: JwtOptions,
    keys: ArcSwap<Keys>,
    /// The second in which the files were last looked at.
    looked: AtomicU64,
    read: Mutex<Read>,
    remembered: RwLock<HashMap<Box<str>, Arc<Remembered>>>,
}

/// Neither keys nor tokens.
impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("method", &self.options.method).finish_non_exhaustive()
    }
}

struct Keys {
    current: Arc<Key>,
    /// The one before, and the second from which on nothing of it is good.
    former: Option<(Arc<Key>, u64)>,
}

/// The files as they were.
struct Read {
    taken: Vec<Option<Stamp>>,
    /// When they could not be used.
    refused: Vec<Option<Stamp>>,
}

/// What tells that a file has changed, a replaced symbolic link included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([u64; 2], [i64; 2]);

fn stamps(options: &JwtOptions) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some(Stamp([data.ino(), data.size()], [data.mtime(), data.mtime_nsec()]))
    };
    [&options.public, &options.private].into_iter().flatten().map(|path| stamp(path)).collect()
}

/// A token whose signature was right.
struct Remembered {
    claims: JwtClaims,
    /// From which second on.
    from: i64,
    /// Before which second; `None` is for ever.
    until: Option<i64>,
}

impl Remembered {
    fn at(&self, now: u64) -> Result<(), JwtRefusal> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if self.until.is_some_and(|until| now >= until) {
            return Err(JwtRefusal::Expired);
        }
        if now < self.from { Err(JwtRefusal::NotYet) } else { Ok(()) }
    }
}

impl Jwt {
    /// Reads the keys.
    ///
    /// # Errors
    /// A file cannot be read, or holds no such key; there is none; the two do not match.
    pub fn load(options: JwtOptions) -> Result<Jwt, TokenOptionError> {
        let taken = stamps(&options);
        let current = Arc::new(Key::load(&options)?);
        let keys = ArcSwap::from_pointee(Keys { current, former: None });
        let read = Mutex::new(Read { taken, refused: Vec::new() });
        Ok(Jwt { options, keys, looked: AtomicU64::new(0), read, remembered: RwLock::default() })
    }

    /// Whether it can make tokens at all.
    pub fn signs(&self) -> bool {
        self.keys.load().current.signs()
    }

    /// Whether making one takes so long that no thread that serves should.
    pub fn is_slow(&self) -> bool {
        self.keys.load().current.is_slow()
    }

    /// A token for a user whose password, as it is stored, is `hash`.
    ///
    /// # Errors
    /// There is no private key.
    pub fn sign(
        &self,
        user: &str,
        revision: u64,
        hash: &[u8],
        now: Duration,
    ) -> Result<String, JwtUnsigned> {
        self.look_again(now.as_secs());
        let keys = self.keys.load();
        if !keys.current.signs() {
            return Err(JwtUnsigned::VerifyOnly);
        }
        let header = json!({ "alg": self.options.method.name(), "typ": "JWT" });
        let claims = json!({
            "username": user,
            "revision": revision,
            "exp": now.saturating_add(self.options.ttl).as_secs(),
            (PASSWORD_CLAIM): password_mark(hash),
        });
        let part = |value: Value| base64::encode(value.to_string().as_bytes());
        let text = format!("{}.{}", part(header), part(claims));
        let signature = keys.current.sign(text.as_bytes()).ok_or(JwtUnsigned::Failed)?;
        Ok(format!("{text}.{}", base64::encode(&signature)))
    }

    /// What a token says, if it is good now.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, token: &str, now: Duration) -> Result<JwtClaims, JwtRefusal> {
        let now = now.as_secs();
        self.look_again(now);
        if let Some(known) = self.remembered.read().get(token).map(Arc::clone) {
            return known.at(now).map(|()| known.claims.clone());
        }
        let keys = self.keys.load_full();
        let verified = self.read(token, &keys, now)?;
        verified.at(now)?;
        let verified = Arc::new(verified);
        let mut remembered = self.remembered.write();
        if remembered.len() >= JWTS_REMEMBERED_MAX {
            remembered.retain(|_, known| known.at(now).is_ok());
            if remembered.len() >= JWTS_REMEMBERED_MAX {
                remembered.clear();
            }
        }
        // What a key has verified that is gone meanwhile would be remembered without it.
        if Arc::ptr_eq(&keys, &self.keys.load()) {
            remembered.insert(token.into(), Arc::clone(&verified));
        }
        Ok(verified.claims.clone())
    }

    /// Checks the method before anything is done with the key, then the signature, and only
    /// then reads what it is about.
    fn read(&self, token: &str, keys: &Keys, now: u64) -> Result<Remembered, JwtRefusal> {
        if token.len() > JWT_BYTES_MAX {
            return Err(JwtRefusal::Malformed);
        }
        let (text, signature) = token.rsplit_once('.').ok_or(JwtRefusal::Malformed)?;
        let (header, claims) = text.split_once('.').ok_or(JwtRefusal::Malformed)?;
        let header = object(header)?;
        if header.get("alg").and_then(Value::as_str) != Some(self.options.method.name()) {
            return Err(JwtRefusal::Method);
        }
        let signature = base64::decode(signature).ok_or(JwtRefusal::Malformed)?;
        let verifies = |key: &Key| key.verifies(text.as_bytes(), &signature);
        let mut until = None;
        if !verifies(&keys.current) {
            let former = keys.former.as_ref().filter(|(key, end)| now < *end && verifies(key));
            let (_, end) = former.ok_or(JwtRefusal::Signature)?;
            until = Some(*end);
        }
        let read = claims_of(&object(claims)?)?;
        // Whoever has the former key may still sign what is good for longer than any that was
        // given.
        let lasts = |end: u64| read.until.is_none_or(|until| until > end.cast_signed());
        if until.is_some_and(lasts) { Err(JwtRefusal::Signature) } else { Ok(read) }
    }

    /// Reads the keys again if their files have changed; looks once a second at most.
    fn look_again(&self, now: u64) {
        if self.looked.swap(now, Ordering::Relaxed) == now {
            return;
        }
        let Some(mut read) = self.read.try_lock() else { return };
        let stamps = stamps(&self.options);
        if stamps == read.taken {
            return;
        }
        match Key::load(&self.options) {
            Ok(key) => {
                let before = self.keys.load_full();
                read.taken = stamps;
                if key.is_same(&before.current) {
                    return;
                }
                // Of what its tokens say in whole seconds, none lasts longer.
                let end = now.saturating_add(self.options.ttl.as_secs()).saturating_add(1);
                let former = Some((Arc::clone(&before.current), end));
                let mut remembered = self.remembered.write();
                self.keys.store(Arc::new(Keys { current: Arc::new(key), former }));
                remembered.clear();
                tracing::info!("the keys of tokens have changed");
            }
            Err(error) if stamps != read.refused => {
                let detail = error.detail().unwrap_or_default();
                tracing::warn!(%error, detail, "the keys of tokens have changed and cannot be used; those before them are kept");
                read.refused = stamps;
            }
            Err(_) => {}
        }
    }
}

/// A part of a token.
fn object(part: &str) -> Result<Map<String, Value>, JwtRefusal> {
    let bytes = base64::decode(part).ok_or(JwtRefusal::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| JwtRefusal::Malformed)
}

/// What is said, whenever that may be.
fn claims_of(claims: &Map<String, Value>) -> Result<Remembered, JwtRefusal> {
    let until = seconds(claims, "exp")?;
    let from = seconds(claims, "nbf")?.unwrap_or(i64::MIN);
    let text = |name| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let user = text("username").ok_or(JwtRefusal::NoUser)?;
    let revision = claims.get("revision").and_then(Value::as_f64);
    let revision = revision.ok_or(JwtRefusal::NoRevision)?;
    // What is no text is nobody's mark.
    let mark = |mark: &Value| mark.as_str().unwrap_or_default().to_owned();
    let password = claims.get(PASSWORD_CLAIM).map(mark);
    // As casts saturate, what is below zero is revision 0, at which nobody may do anything.
    Ok(Remembered { claims: JwtClaims { user, revision: revision as u64, password }, from, until })
}

/// A time in whole seconds. Zero is none at all, as in golang-jwt.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, JwtRefusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().ok_or(JwtRefusal::ClaimType)?;
    Ok(if seconds == 0.0 { None } else { Some(seconds.floor() as i64) })
}

#[cfg(test)]
mod tests;
