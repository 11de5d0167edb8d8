//! Logins that were right, so that the next ones cost next to nothing.
//!
//! What is kept is a keyed hash over the user, its stored password and the password that was
//! shown; the key is this process's own. A password that was changed is another stored one,
//! with other random bits in it, so nothing has to be forgotten for that.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use mainstay_types::limits::{LOGIN_IDLE_MAX, LOGIN_REMEMBERED_FOR, LOGINS_REMEMBERED_MAX};

/// What stands for a user, its stored password and a shown one.
pub(crate) type Sum = [u8; 32];

/// A key of this process, for sums that nobody else can make.
pub(crate) struct Sums(hmac::Key);

impl Sums {
    pub(crate) fn new(key: &[u8; 32]) -> Sums {
        Sums(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub(crate) fn of(&self, user: &str, stored: &[u8], shown: &str) -> Sum {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [user.as_bytes(), stored, shown.as_bytes()] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut sum = [0; 32];
        sum.copy_from_slice(context.sign().as_ref());
        sum
    }
}

/// The last right login of each user. "Now" is an argument.
#[derive(Default)]
pub(crate) struct Known(HashMap<Box<str>, Right>);

struct Right {
    sum: Sum,
    /// When bcrypt said so.
    since: Duration,
    /// When it was last asked for.
    used: Duration,
}

impl Right {
    fn is_good(&self, now: Duration) -> bool {
        now.saturating_sub(self.since) < LOGIN_REMEMBERED_FOR
            && now.saturating_sub(self.used) < LOGIN_IDLE_MAX
    }
}

impl Known {
    /// bcrypt says that it is right.
    pub(crate) fn add(&mut self, user: &str, sum: Sum, now: Duration) {
        if self.0.len() >= LOGINS_REMEMBERED_MAX && !self.0.contains_key(user) {
            self.forget_old(now);
            if self.0.len() >= LOGINS_REMEMBERED_MAX {
                let mut times: Vec<Duration> = self.0.values().map(|right| right.used).collect();
                let eighth = times.len() / 8;
                let (_, cut, _) = times.select_nth_unstable(eighth);
                let cut = *cut;
                self.0.retain(|_, right| right.used > cut);
            }
        }
        self.0.insert(user.into(), Right { sum, since: now, used: now });
    }

    /// Whether it was right before, and not long ago.
    pub(crate) fn is_right(&mut self, user: &str, sum: &Sum, now: Duration) -> bool {
        let Some(right) = self.0.get_mut(user).filter(|right| right.is_good(now)) else {
            return false;
        };
        let same = constant_time::verify_slices_are_equal(&right.sum, sum).is_ok();
        if same {
            right.used = now;
        }
        same
    }

    /// Forgets what does not count any more.
    pub(crate) fn forget_old(&mut self, now: Duration) {
        self.0.retain(|_, right| right.is_good(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_in_everything_is_right() {
        let (sums, mut known) = (Sums::new(&[7; 32]), Known::default());
        let at = Duration::from_secs;
        known.add("alice", sums.of("alice", b"hash", "secret"), at(1));
        assert!(known.is_right("alice", &sums.of("alice", b"hash", "secret"), at(2)));
        for (user, stored, shown) in [
            ("alice", "hash", "Secret"),
            ("alice", "other", "secret"),
            ("alice", "hashs", "ecret"),
            ("bob", "hash", "secret"),
        ] {
            let sum = sums.of(user, stored.as_bytes(), shown);
            assert!(!known.is_right(user, &sum, at(2)), "{user} {stored} {shown}");
            assert!(!known.is_right("alice", &sum, at(2)), "{user} {stored} {shown}");
        }
        assert_ne!(Sums::new(&[8; 32]).of("a", b"h", "s"), sums.of("a", b"h", "s"));
    }

    #[test]
    fn it_is_asked_anew_after_a_while() {
        let (sums, mut known) = (Sums::new(&[7; 32]), Known::default());
        let sum = sums.of("alice", b"hash", "secret");
        let mut now = Duration::from_secs(1);
        known.add("alice", sum, now);
        assert!(!known.is_right("alice", &sum, now + LOGIN_IDLE_MAX), "not used for long");
        let mut asked = 0;
        while known.is_right("alice", &sum, now) {
            now += LOGIN_IDLE_MAX / 2;
            asked += 1;
        }
        assert!(asked > 1 && now >= LOGIN_REMEMBERED_FOR, "{asked} times until {now:?}");
    }

    #[test]
    fn there_is_a_bound() {
        let (sums, mut known) = (Sums::new(&[7; 32]), Known::default());
        let sum = sums.of("x", b"h", "s");
        for n in 0..2 * LOGINS_REMEMBERED_MAX as u64 {
            known.add(&format!("user{n}"), sum, Duration::from_micros(n));
        }
        assert!(known.0.len() <= LOGINS_REMEMBERED_MAX);
        let last = format!("user{}", 2 * LOGINS_REMEMBERED_MAX - 1);
        assert!(known.is_right(&last, &sum, Duration::from_secs(1)));
    }
}
