//! Simple tokens: 16 random letters, a dot, and the index that the log had when the token
//! was made. Every member learns of one when it applies the entry, and forgets it when
//! nobody has shown it to this member for as long as `--auth-token-ttl` says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_types::limits::SIMPLE_TOKENS_MAX;
use parking_lot::RwLock;

/// The simple tokens that a member knows. "Now" is an argument: the member's clock, from
/// any beginning.
#[derive(Debug)]
pub struct SimpleTokens {
    ttl: Duration,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    tokens: HashMap<Box<str>, Entry>,
    /// How many each user has, so that a user without any costs nothing to void.
    of_user: BTreeMap<Arc<str>, usize>,
}

/// Never the tokens.
impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("tokens", &self.tokens.len()).finish()
    }
}

struct Entry {
    user: Arc<str>,
    /// Milliseconds of the member's clock until which it is good.
    until: AtomicU64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl SimpleTokens {
    /// Knows no token yet. A `ttl` of zero is etcd's default of 300 s.
    pub fn new(ttl: Duration) -> SimpleTokens {
        let ttl = if ttl.is_zero() { Duration::from_secs(300) } else { ttl };
        SimpleTokens { ttl, known: RwLock::default() }
    }

    /// A user has shown its password, and an entry has made this token.
    pub fn issue(&self, user: &str, token: &str, now: Duration) {
        let until = AtomicU64::new(millis(now.saturating_add(self.ttl)));
        let mut known = self.known.write();
        if known.tokens.len() >= SIMPLE_TOKENS_MAX {
            known.make_room(millis(now));
        }
        let held = known.of_user.get_key_value(user).map(|(user, _)| Arc::clone(user));
        let user = held.unwrap_or_else(|| user.into());
        if known.tokens.insert(token.into(), Entry { user: Arc::clone(&user), until }).is_none() {
            *known.of_user.entry(user).or_default() += 1;
        }
    }

    /// Whose token this is; from now on it is good for the whole time again. `None` for one
    /// that is not known, or not good any more.
    pub fn user_of(&self, token: &str, now: Duration) -> Option<Arc<str>> {
        let known = self.known.read();
        let entry = known.tokens.get(token)?;
        let now_ms = millis(now);
        if entry.until.load(Ordering::Relaxed) < now_ms {
            return None;
        }
        entry.until.store(millis(now.saturating_add(self.ttl)), Ordering::Relaxed);
        Some(Arc::clone(&entry.user))
    }

    /// The user's password was changed, or it is gone.
    pub fn void(&self, user: &str) {
        let mut known = self.known.write();
        if known.of_user.remove(user).is_some() {
            known.tokens.retain(|_, entry| *entry.user != *user);
        }
    }

    /// Authentication was turned off.
    pub fn void_all(&self) {
        *self.known.write() = Known::default();
    }

    /// Forgets what is not good any more.
    pub fn forget_old(&self, now: Duration) {
        let now = millis(now);
        // Most of the time there is nothing to forget, and readers need not wait.
        let is_old = |entry: &Entry| entry.until.load(Ordering::Relaxed) < now;
        if self.known.read().tokens.values().any(is_old) {
            self.known.write().keep(|entry| !is_old(entry));
        }
    }

    /// The users who have tokens.
    pub fn users(&self) -> Vec<Arc<str>> {
        self.known.read().of_user.keys().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.read().tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Known {
    fn keep(&mut self, good: impl Fn(&Entry) -> bool) {
        let of_user = &mut self.of_user;
        self.tokens.retain(|_, entry| {
            let keep = good(entry);
            if !keep && let Some(count) = of_user.get_mut(&*entry.user) {
                *count -= 1;
                if *count == 0 {
                    of_user.remove(&*entry.user);
                }
            }
            keep
        });
    }

    /// At the bound: what is old goes; else, of a user who has an eighth of all or more, the half
    /// that has not been shown for longest, so that nobody costs others their tokens by logging in
    /// again and again; else that eighth of all.
    fn make_room(&mut self, now: u64) {
        self.keep(|entry| entry.until.load(Ordering::Relaxed) >= now);
        if self.tokens.len() < SIMPLE_TOKENS_MAX {
            return;
        }
        let most = self.of_user.iter().max_by_key(|(_, count)| **count);
        let most = most.filter(|(_, count)| **count >= SIMPLE_TOKENS_MAX / 8);
        let most = most.map(|(user, _)| Arc::clone(user));
        let counts = |entry: &Entry| most.as_ref().is_none_or(|user| entry.user == *user);
        let counted = self.tokens.values().filter(|entry| counts(entry));
        let mut times: Vec<u64> =
            counted.map(|entry| entry.until.load(Ordering::Relaxed)).collect();
        let gone = times.len() / if most.is_some() { 2 } else { 8 };
        let (_, cut, _) = times.select_nth_unstable(gone);
        let cut = *cut;
        self.keep(|entry| !counts(entry) || entry.until.load(Ordering::Relaxed) > cut);
    }
}

/// The index that a member must have applied before it can know the token; `None` for what
/// is no simple token.
pub fn index_of(token: &str) -> Option<u64> {
    let (_, index) = token.split_once('.')?;
    // Go's parser takes digits only: no sign.
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    if digits { index.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_good_for_as_long_as_it_is_shown() {
        let tokens = SimpleTokens::new(at(10));
        tokens.issue("alice", "a.1", at(0));
        assert_eq!(tokens.user_of("a.1", at(10)).as_deref(), Some("alice"));
        assert_eq!(tokens.user_of("a.1", at(20)).as_deref(), Some("alice"), "it slid");
        assert_eq!(tokens.user_of("a.1", at(31)), None);
        assert_eq!(tokens.user_of("a.2", at(0)), None);
        tokens.forget_old(at(31));
        assert!(tokens.is_empty() && tokens.users().is_empty());
    }

    #[test]
    fn who_is_voided_loses_all_and_nobody_else_any() {
        let tokens = SimpleTokens::new(Duration::ZERO);
        for n in 0..10 {
            tokens.issue(if n % 2 == 0 { "even" } else { "odd" }, &format!("t.{n}"), at(0));
        }
        tokens.void("even");
        tokens.void("nobody");
        assert_eq!(tokens.len(), 5);
        assert_eq!(tokens.user_of("t.2", at(1)), None);
        assert_eq!(tokens.user_of("t.3", at(1)).as_deref(), Some("odd"));
        tokens.issue("even", "t.20", at(1));
        assert_eq!(tokens.users().len(), 2);
        tokens.void_all();
        assert!(tokens.is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let tokens = SimpleTokens::new(at(1000));
        for n in 0..=SIMPLE_TOKENS_MAX as u64 {
            tokens.issue("u", &format!("t.{n}"), Duration::from_millis(n));
        }
        assert!(tokens.len() <= SIMPLE_TOKENS_MAX);
        assert_eq!(tokens.user_of("t.0", at(1)), None, "the oldest went");
        assert!(tokens.user_of(&format!("t.{SIMPLE_TOKENS_MAX}"), at(1)).is_some());
        tokens.void("u");
        assert!(tokens.is_empty());
    }

    #[test]
    fn who_logs_in_again_and_again_costs_nobody_else_a_token() {
        let tokens = SimpleTokens::new(at(1000));
        tokens.issue("quiet", "q.1", at(0));
        for n in 0..3 * SIMPLE_TOKENS_MAX as u64 {
            tokens.issue("busy", &format!("t.{n}"), at(1) + Duration::from_micros(n));
        }
        assert!(tokens.len() <= SIMPLE_TOKENS_MAX);
        assert_eq!(tokens.user_of("q.1", at(2)).as_deref(), Some("quiet"));
        let last = format!("t.{}", 3 * SIMPLE_TOKENS_MAX - 1);
        assert_eq!(tokens.user_of(&last, at(2)).as_deref(), Some("busy"));
        // Also when nobody has much more than others.
        for n in 0..2 * SIMPLE_TOKENS_MAX as u64 {
            tokens.issue(
                &format!("u{}", n % 1000),
                &format!("v.{n}"),
                at(3) + Duration::from_micros(n),
            );
        }
        assert!(tokens.len() <= SIMPLE_TOKENS_MAX);
    }

    #[test]
    fn what_a_simple_token_looks_like() {
        for (token, index) in [
            ("abc.7", Some(7)),
            (".7", Some(7)),
            ("abc.18446744073709551615", Some(u64::MAX)),
            ("abc.18446744073709551616", None),
            ("abc", None),
            ("abc.", None),
            ("abc.+7", None),
            ("a.b.7", None),
            ("eyJ.eyJ.sig", None),
            ("", None),
        ] {
            assert_eq!(index_of(token), index, "{token:?}");
        }
    }
}
