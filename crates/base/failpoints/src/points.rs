//! The points of this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::terms::{Action, Chain};

/// Every point there is, by name (etcd's, 3.7).
pub const NAMES: [&str; 39] = [
    "afterCommit",
    "afterStartDBTxn",
    "afterWritebackBuf",
    "applyAfterOpenSnapshot",
    "applyBeforeOpenSnapshot",
    "beforeApplyOneConfChange",
    "beforeApplyOneEntryNormal",
    "beforeCheckpointInLeaseRenew",
    "beforeCommit",
    "beforeSendWatchResponse",
    "beforeStartDBTxn",
    "beforeWritebackBuf",
    "commitAfterPreCommitHook",
    "commitBeforePreCommitHook",
    "compactAfterAcquiredBatchTxLock",
    "compactAfterCommitBatch",
    "compactAfterCommitScheduledCompact",
    "compactAfterSetFinishedCompact",
    "compactBeforeCommitBatch",
    "compactBeforeCommitScheduledCompact",
    "compactBeforeSetFinishedCompact",
    "defragBeforeCopy",
    "defragBeforeRename",
    "defragOpenFileError",
    "defragdbFail",
    "raftAfterApplySnap",
    "raftAfterSave",
    "raftAfterSaveSnap",
    "raftAfterWALRelease",
    "raftBeforeApplySnap",
    "raftBeforeFollowerSend",
    "raftBeforeLeaderSend",
    "raftBeforeSave",
    "raftBeforeSaveSnap",
    "raftBeforeAdvance",
    "walAfterSync",
    "walBeforeSync",
    "beforePublishing",
    "raftBeforeWALSaveSnaphot",
];

/// Why a point cannot be set or asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailPointError {
    /// There is no point of this name.
    Unknown(String),
    /// It is off.
    Disabled(String),
    /// These are no terms.
    Terms(String),
}

impl std::fmt::Display for FailPointError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FailPointError::Unknown(_) => f.write_str("failpoint: failpoint does not exist"),
            FailPointError::Disabled(_) => f.write_str("failpoint: failpoint is disabled"),
            FailPointError::Terms(text) => write!(f, "failpoint: could not parse {text:?}"),
        }
    }
}

impl std::error::Error for FailPointError {}

struct Point {
    terms: String,
    chain: Chain,
    count: u64,
}

static POINTS: Mutex<BTreeMap<&'static str, Point>> = Mutex::new(BTreeMap::new());
/// How many are set: without any, a point looks no further.
static SET: AtomicUsize = AtomicUsize::new(0);
/// Where the dice are; any start will do.
static DICE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
/// Held by who must not be killed half-way: see [`quiet`].
static PANICS: Mutex<()> = Mutex::new(());

fn points() -> MutexGuard<'static, BTreeMap<&'static str, Point>> {
    POINTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn named(name: &str) -> Result<&'static str, FailPointError> {
    let found = NAMES.into_iter().find(|known| *known == name);
    found.ok_or_else(|| FailPointError::Unknown(name.to_owned()))
}

fn roll() -> u64 {
    let mut mixed = DICE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The process has come to the point `name`. Does what was set for it, and gives the value
/// of a `return`.
///
/// # Panics
/// When there is no such point.
pub fn hit(name: &'static str) -> Option<String> {
    match decide(name)? {
        Action::Sleep(time) => {
            #[expect(clippy::disallowed_methods, reason = "it is there to stop whoever comes by")]
            std::thread::sleep(time);
            None
        }
        Action::Return(value) => Some(value),
        Action::Off | Action::Panic => None,
    }
}

/// As [`hit`], but gives the time of a `sleep` instead of sleeping.
///
/// # Panics
/// When there is no such point.
pub fn delay(name: &'static str) -> Option<Duration> {
    match decide(name)? {
        Action::Sleep(time) => Some(time),
        Action::Off | Action::Panic | Action::Return(_) => None,
    }
}

/// What is to be done now. A `panic` is done here.
fn decide(name: &'static str) -> Option<Action> {
    if SET.load(Ordering::Acquire) == 0 {
        return None;
    }
    assert!(NAMES.contains(&name), "{name} is in the list of names");
    let action = {
        let mut points = points();
        let point = points.get_mut(name)?;
        let action = point.chain.next(roll())?;
        point.count += 1;
        action
    };
    if action == Action::Panic { end(name) } else { Some(action) }
}

/// Ends the process as a panic of Go's does: at once, status 2.
fn end(name: &str) -> ! {
    let _guard = quiet();
    eprintln!("panic: failpoint panic: {name}");
    std::process::exit(2)
}

/// While this is held no point ends the process: an answer can leave first.
pub fn quiet() -> MutexGuard<'static, ()> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets what a point does; its count begins anew.
///
/// # Errors
/// No such point, or no such terms.
pub fn set(name: &str, terms: &str) -> Result<(), FailPointError> {
    let name = named(name)?;
    let terms = terms.trim().to_owned();
    let chain = Chain::parse(&terms).ok_or_else(|| FailPointError::Terms(terms.clone()))?;
    let mut points = points();
    points.insert(name, Point { terms, chain, count: 0 });
    SET.store(points.len(), Ordering::Release);
    Ok(())
}

/// Switches a point off.
///
/// # Errors
/// No such point, or it is off already.
pub fn clear(name: &str) -> Result<(), FailPointError> {
    let name = named(name)?;
    let mut points = points();
    let there = points.remove(name).is_some();
    SET.store(points.len(), Ordering::Release);
    if there { Ok(()) } else { Err(FailPointError::Disabled(name.to_owned())) }
}

/// Every point with its terms, empty when it is off; by name.
pub fn list() -> Vec<(&'static str, String)> {
    let points = points();
    let mut names = NAMES;
    names.sort_unstable();
    let terms = |name| points.get(name).map_or(String::new(), |point| point.terms.clone());
    names.into_iter().map(|name| (name, terms(name))).collect()
}

/// What is set for a point.
///
/// # Errors
/// No such point, or it is off.
pub fn terms(name: &str) -> Result<String, FailPointError> {
    let name = named(name)?;
    let disabled = || FailPointError::Disabled(name.to_owned());
    points().get(name).map(|point| point.terms.clone()).ok_or_else(disabled)
}

/// How often a point has done something since it was set.
///
/// # Errors
/// No such point, or it is off.
pub fn count(name: &str) -> Result<u64, FailPointError> {
    let name = named(name)?;
    let disabled = || FailPointError::Disabled(name.to_owned());
    points().get(name).map(|point| point.count).ok_or_else(disabled)
}

/// Sets several: `a=terms;b=terms`.
///
/// # Errors
/// As [`set`]; then those before the wrong one are set.
pub fn parse_many(text: &str) -> Result<(), FailPointError> {
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = || FailPointError::Terms(part.to_owned());
        let (name, terms) = part.split_once('=').ok_or_else(wrong)?;
        set(name.trim(), terms)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_set_counted_and_cleared() {
        assert_eq!(hit("beforeCommit"), None);
        parse_many("beforeCommit=2*return(\"x\"); afterCommit=off").unwrap();
        assert_eq!(hit("beforeCommit"), Some("x".into()));
        assert_eq!(hit("beforeCommit"), Some("x".into()));
        assert_eq!(hit("beforeCommit"), None);
        assert_eq!(hit("afterCommit"), None);
        assert_eq!((count("beforeCommit"), count("afterCommit")), (Ok(2), Ok(1)));
        assert_eq!(terms("beforeCommit"), Ok("2*return(\"x\")".into()));
        assert_eq!(list().iter().filter(|(_, terms)| !terms.is_empty()).count(), 2);
        assert_eq!(clear("beforeCommit"), Ok(()));
        assert_eq!(clear("beforeCommit"), Err(FailPointError::Disabled("beforeCommit".into())));
        assert_eq!(set("nowhere", "off"), Err(FailPointError::Unknown("nowhere".into())));
        assert_eq!(set("afterCommit", "bang"), Err(FailPointError::Terms("bang".into())));
        assert!(parse_many("afterCommit").is_err());
    }

    #[test]
    fn no_name_is_twice_in_the_list() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }
}
