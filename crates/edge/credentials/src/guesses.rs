//! How often somebody may be wrong about a password.
//!
//! Two bounds, of the one who guesses: for each user from each [`Origin`], and from each origin.
//! None for a user alone: whoever guesses elsewhere would lock that user out. What is right
//! costs nothing, and is not asked for when it is known to be right already (only the first
//! bound is, else that would be a way around it).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::time::Duration;

use mainstay_types::limits::{
    GUESSES_BURST, GUESSES_INTERVAL, GUESSES_OF_ORIGIN_BURST, GUESSES_OF_ORIGIN_INTERVAL,
    GUESSES_REMEMBERED_MAX,
};

use crate::origin::Origin;

/// Who has been wrong lately. "Now" is an argument.
#[derive(Default)]
pub(crate) struct Guesses {
    names: RandomState,
    /// By origin and a hash of the user's name, which can be long.
    of_user: Debts<(Origin, u64)>,
    of_origin: Debts<Origin>,
}

/// Each guess puts its debtor further into the future; who is too far ahead has to wait.
struct Debts<K> {
    paid_at: HashMap<K, Duration>,
}

impl<K> Default for Debts<K> {
    fn default() -> Self {
        Debts { paid_at: HashMap::new() }
    }
}

impl<K: Hash + Eq> Debts<K> {
    fn may(&self, who: &K, (burst, interval): (u32, Duration), now: Duration) -> bool {
        let paid_at = self.paid_at.get(who).copied().unwrap_or_default();
        paid_at.saturating_sub(now) + interval <= interval * burst
    }

    fn add(&mut self, who: K, interval: Duration, now: Duration) {
        if self.paid_at.len() >= GUESSES_REMEMBERED_MAX && !self.paid_at.contains_key(&who) {
            self.make_room(now);
        }
        let paid_at = self.paid_at.entry(who).or_insert(now);
        *paid_at = (*paid_at).max(now) + interval;
    }

    fn take_back(&mut self, who: &K, interval: Duration, now: Duration) {
        if let Some(paid_at) = self.paid_at.get_mut(who) {
            *paid_at = paid_at.saturating_sub(interval);
            if *paid_at <= now {
                self.paid_at.remove(who);
            }
        }
    }

    /// Who owes nothing is forgotten, else the half that owes least.
    fn make_room(&mut self, now: Duration) {
        self.paid_at.retain(|_, paid_at| *paid_at > now);
        if self.paid_at.len() < GUESSES_REMEMBERED_MAX {
            return;
        }
        let mut times: Vec<Duration> = self.paid_at.values().copied().collect();
        let half = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(half);
        let median = *median;
        self.paid_at.retain(|_, paid_at| *paid_at > median);
    }
}

const OF_USER: (u32, Duration) = (GUESSES_BURST, GUESSES_INTERVAL);
const OF_ORIGIN: (u32, Duration) = (GUESSES_OF_ORIGIN_BURST, GUESSES_OF_ORIGIN_INTERVAL);

impl Guesses {
    fn key(&self, from: Origin, user: &str) -> (Origin, u64) {
        (from, self.names.hash_one(user))
    }

    /// Whether this user's password may be guessed once more from there.
    pub(crate) fn may_ask(&self, from: Origin, user: &str, now: Duration) -> bool {
        self.of_user.may(&self.key(from, user), OF_USER, now)
    }

    /// Counts a guess, before it is known to be one; not if there were too many.
    pub(crate) fn begin(&mut self, from: Origin, user: &str, now: Duration) -> bool {
        let key = self.key(from, user);
        if !self.of_user.may(&key, OF_USER, now) || !self.of_origin.may(&from, OF_ORIGIN, now) {
            return false;
        }
        self.of_user.add(key, GUESSES_INTERVAL, now);
        self.of_origin.add(from, GUESSES_OF_ORIGIN_INTERVAL, now);
        true
    }

    /// It was none: the password was right, or nobody has looked at it.
    pub(crate) fn was_none(&mut self, from: Origin, user: &str, now: Duration) {
        let key = self.key(from, user);
        self.of_user.take_back(&key, GUESSES_INTERVAL, now);
        self.of_origin.take_back(&from, GUESSES_OF_ORIGIN_INTERVAL, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Origin = Origin::V4([10, 0, 0, 1]);
    const THERE: Origin = Origin::V4([10, 0, 0, 2]);

    #[test]
    fn who_guesses_locks_out_nobody_else() {
        let (mut guesses, now) = (Guesses::default(), Duration::from_secs(5));
        for n in 0..GUESSES_BURST {
            assert!(guesses.begin(HERE, "alice", now), "{n}");
        }
        assert!(!guesses.begin(HERE, "alice", now));
        assert!(!guesses.may_ask(HERE, "alice", now));
        assert!(guesses.may_ask(THERE, "alice", now) && guesses.begin(THERE, "alice", now));
        assert!(guesses.may_ask(HERE, "bob", now) && guesses.begin(HERE, "bob", now));
        let later = now + GUESSES_INTERVAL;
        assert!(guesses.begin(HERE, "alice", later), "one more as time goes by");
        assert!(!guesses.begin(HERE, "alice", later), "and no other");
    }

    #[test]
    fn many_names_from_one_place_are_bounded_too() {
        let (mut guesses, now) = (Guesses::default(), Duration::from_secs(5));
        let counted = (0..10 * GUESSES_OF_ORIGIN_BURST)
            .filter(|n| guesses.begin(HERE, &format!("user{n}"), now));
        assert_eq!(counted.count(), GUESSES_OF_ORIGIN_BURST as usize);
        assert!(guesses.may_ask(HERE, "alice", now), "a password known to be right passes");
        assert!(!guesses.begin(HERE, "alice", now));
        assert!(guesses.begin(THERE, "alice", now));
    }

    #[test]
    fn what_is_right_costs_nothing() {
        let (mut guesses, now) = (Guesses::default(), Duration::from_secs(5));
        for _ in 0..10 * GUESSES_OF_ORIGIN_BURST {
            assert!(guesses.begin(HERE, "alice", now));
            guesses.was_none(HERE, "alice", now);
        }
        assert!(guesses.of_user.paid_at.is_empty() && guesses.of_origin.paid_at.is_empty());
    }

    #[test]
    fn there_is_a_bound_and_the_worst_are_remembered() {
        let (mut guesses, now) = (Guesses::default(), Duration::from_secs(5));
        for _ in 0..GUESSES_BURST {
            assert!(guesses.begin(HERE, "alice", now));
        }
        for n in 0..2 * GUESSES_REMEMBERED_MAX as u32 {
            assert!(guesses.begin(Origin::V4(n.to_be_bytes()), "alice", now), "{n}");
        }
        assert!(guesses.of_user.paid_at.len() <= GUESSES_REMEMBERED_MAX);
        assert!(guesses.of_origin.paid_at.len() <= GUESSES_REMEMBERED_MAX);
        assert!(!guesses.begin(HERE, "alice", now));
    }
}
