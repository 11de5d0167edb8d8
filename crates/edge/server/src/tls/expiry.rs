//! When certificates and lists of revoked ones end: shown as metrics, and warned about
//! before it is too late. Ours; etcd tells nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A warning comes this long before the end, or [`WARNED_PART`] of the whole life if
/// that is shorter: who has certificates for a day has them renewed by a machine.
const WARNED_SECONDS: i64 = 30 * DAY;
const WARNED_PART: i64 = 4;
/// And again after so long.
const DAY: i64 = 24 * 3600;

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A certificate that this member shows, with its chain.
    Certificate,
    /// Authorities whose certificates it trusts.
    Authority,
    /// A list of revoked certificates, which was to be replaced by then.
    Revocations,
}

impl What {
    /// As the metric's label has it.
    pub fn name(self) -> &'static str {
        match self {
            What::Certificate => "certificate",
            What::Authority => "authority",
            What::Revocations => "crl",
        }
    }
}

/// From when until when something is good, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) from: i64,
    pub(super) until: i64,
}

impl Term {
    /// The one that ends first.
    pub(super) fn first(known: Option<Term>, other: Term) -> Option<Term> {
        Some(known.filter(|known| known.until <= other.until).unwrap_or(other))
    }

    /// That of the certificate that ends first. Of authorities those that have ended are
    /// left out, as long as another has not: files keep old ones beside the new.
    pub(super) fn of(certs: &[CertificateDer<'_>], what: What) -> Option<Term> {
        let now = now();
        let mut terms: Vec<Term> = certs.iter().filter_map(Term::of_one).collect();
        if what == What::Authority && terms.iter().any(|term| term.until > now) {
            terms.retain(|term| term.until > now);
        }
        terms.into_iter().fold(None, Term::first)
    }

    fn of_one(cert: &CertificateDer<'_>) -> Option<Term> {
        let (_, parsed) = X509Certificate::from_der(cert).ok()?;
        let validity = parsed.validity();
        let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Some(Term { from, until })
    }

    /// How long before its end a warning is due.
    fn warned(self) -> i64 {
        WARNED_SECONDS.min(self.until.saturating_sub(self.from) / WARNED_PART)
    }
}

/// Whose file it is, what is in it, and where it lies.
type Key = (&'static str, What, PathBuf);

/// One file's end, and when it was last warned about.
#[derive(Clone, Copy, Debug)]
struct Known {
    term: Term,
    warned: Option<i64>,
}

/// Everything of a member that ends; one for all of its listeners and what it dials with.
#[derive(Debug, Default)]
pub struct Expiry {
    known: Mutex<BTreeMap<Key, Known>>,
    /// New files that could not be used, by side.
    failures: Mutex<BTreeMap<&'static str, u64>>,
}

/// What a file's metric shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// `client` or `peer`.
    pub side: &'static str,
    /// What is in the file.
    pub what: What,
    /// The file.
    pub path: PathBuf,
    /// When, in seconds since 1970.
    pub at: i64,
}

impl Expiry {
    /// Takes note of what was read from a file.
    pub(super) fn tell(&self, side: &'static str, what: What, path: &Path, term: Option<Term>) {
        let mut known = self.known.lock();
        let key = (side, what, path.to_owned());
        match term {
            None => drop(known.remove(&key)),
            // The same again, read for another listener, was warned about already.
            Some(term) if known.get(&key).is_some_and(|before| before.term == term) => {}
            Some(term) => drop(known.insert(key, Known { term, warned: None })),
        }
        drop(known);
        self.failures.lock().entry(side).or_default();
    }

    /// Counts a new file that could not be used.
    pub(super) fn failed(&self, side: &'static str) {
        *self.failures.lock().entry(side).or_default() += 1;
    }

    /// All that ends.
    pub fn all(&self) -> Vec<Ends> {
        let ends = |(&(side, what, ref path), known): (&Key, &Known)| Ends {
            side,
            what,
            path: path.clone(),
            at: known.term.until,
        };
        self.known.lock().iter().map(ends).collect()
    }

    /// How many new files could not be used, by side.
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        self.failures.lock().iter().map(|(side, count)| (*side, *count)).collect()
    }

    /// Warns about what ends soon, at most daily for each, and once more when it has ended.
    pub fn warn(&self) {
        for (side, what, path, left) in self.due(now()) {
            let (shown, seconds) = (path.display(), left.max(0));
            let days = seconds / DAY;
            match (what, left > 0) {
                (What::Revocations, true) => tracing::warn!(
                    side, path = %shown, days, seconds,
                    "list of revoked certificates is to be replaced soon"
                ),
                (What::Revocations, false) => tracing::warn!(
                    side, path = %shown,
                    "list of revoked certificates should have been replaced; it goes on to count"
                ),
                (_, true) => tracing::warn!(
                    side, path = %shown, kind = what.name(), days, seconds,
                    "certificate expires soon"
                ),
                (_, false) => tracing::warn!(
                    side, path = %shown, kind = what.name(),
                    "certificate has expired"
                ),
            }
        }
    }

    /// What is to be warned about now, and how many seconds it has left; noted as warned.
    fn due(&self, now: i64) -> Vec<(&'static str, What, PathBuf, i64)> {
        let mut due = Vec::new();
        for ((side, what, path), Known { term, warned }) in self.known.lock().iter_mut() {
            let left = term.until.saturating_sub(now);
            let again = warned.is_none_or(|last| {
                let ended_since = last < term.until && now >= term.until;
                now.saturating_sub(last) >= DAY || ended_since
            });
            if left < term.warned().max(1) && again {
                *warned = Some(now);
                due.push((*side, *what, path.clone(), left));
            }
        }
        due
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soon_is_told_daily_and_when_it_has_ended() {
        let expiry = Expiry::default();
        let year = Term { from: 0, until: 365 * DAY };
        expiry.tell("client", What::Certificate, Path::new("a"), Some(year));
        let due = |now: i64| expiry.due(now).into_iter().map(|one| one.3).collect::<Vec<_>>();
        let end = year.until;
        assert_eq!(due(end - 30 * DAY), [0_i64; 0]);
        assert_eq!(due(end - 30 * DAY + 1), [30 * DAY - 1]);
        assert_eq!(due(end - 29 * DAY), [0_i64; 0], "told within a day");
        assert_eq!(due(end - 28 * DAY), [28 * DAY]);
        assert_eq!(due(end - 10), [10]);
        assert_eq!(due(end - 1), [0_i64; 0]);
        assert_eq!(due(end), [0], "its end is told at once");
        assert_eq!(due(end + 1), [0_i64; 0]);
        // Read again for another listener: told already. A new one is not.
        expiry.tell("client", What::Certificate, Path::new("a"), Some(year));
        assert_eq!(due(end + 2), [0_i64; 0]);
        let day = Term { from: end, until: end + DAY };
        expiry.tell("client", What::Certificate, Path::new("a"), Some(day));
        assert_eq!(due(end + DAY / 2), [0_i64; 0], "a short life has a short warning");
        assert_eq!(due(end + DAY - 1), [1]);
    }

    #[test]
    fn the_first_end_counts() {
        let (early, late) = (Term { from: 0, until: 5 }, Term { from: 1, until: 7 });
        assert_eq!(Term::first(None, late), Some(late));
        assert_eq!(Term::first(Some(late), early), Some(early));
        assert_eq!(Term::first(Some(early), late), Some(early));
    }
}
