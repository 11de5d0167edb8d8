//! A flip, and what becomes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use mainstay_apply::Machine;
use mainstay_backend::bolt::SumsFound;
use mainstay_backup::{Founders, Restore, restore};
use mainstay_driver::{Options, Tuning, boot};
use mainstay_env::{Dice as _, Disk};
use mainstay_env_sim::{SimDice, SimDisk};
use mainstay_raft::Entry;
use mainstay_types::Index;
use mainstay_wal::{Replay, WalOptions};

use crate::answers::{Answers, answers};
use crate::made::{DATA, Made, SEGMENT_BYTES, apply, founding};

/// Where a snapshot file lies, and where it is restored to.
const FILE: &str = "/backup/snapshot.db";
const RESTORED: &str = "/restored";
/// SHA-256 behind a snapshot.
const TRAILER_BYTES: usize = 32;

/// Where a bit flips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// In a segment of the log, before a start.
    Wal,
    /// In a `.snap` file, before a start.
    Snap,
    /// In the db, before a start.
    Db,
    /// In the db of a member that runs.
    DbInUse,
    /// In the checksums of the db's pages.
    Sums,
    /// In a snapshot file, before it is restored.
    Snapshot,
    /// In a copy of a db, which has no checksum, and is restored without asking for one.
    BareCopy,
}

impl Kind {
    /// All of them; the log and the db come more often.
    const DRAWN: [Kind; 10] = [
        Kind::Wal,
        Kind::Wal,
        Kind::Wal,
        Kind::Db,
        Kind::Db,
        Kind::DbInUse,
        Kind::Snap,
        Kind::Sums,
        Kind::Snapshot,
        Kind::BareCopy,
    ];

    /// What is on the command line.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        Kind::DRAWN.into_iter().find(|kind| format!("{kind:?}").eq_ignore_ascii_case(name))
    }
}

/// One bit of one file.
#[derive(Clone, Debug)]
pub struct Flip {
    /// What is done with it.
    pub kind: Kind,
    /// The file.
    pub path: String,
    /// Which byte.
    pub at: u64,
    /// Which bit of it.
    pub bit: u8,
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: bit {} of byte {} of {}", self.kind, self.bit, self.at, self.path)
    }
}

impl Flip {
    /// The flip that a number stands for; of one `kind` only, if one is given.
    #[must_use]
    pub fn draw(made: &Made, seed: u64, number: u64, kind: Option<Kind>) -> Flip {
        let mut dice = SimDice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        let drawn = Kind::DRAWN[dice.below(Kind::DRAWN.len() as u64) as usize];
        let kind = kind.unwrap_or(drawn);
        let named = |what: &str| -> Vec<String> {
            made.disk.paths().into_iter().filter(|path| path.contains(what)).collect()
        };
        let paths = match kind {
            Kind::Wal => named("/wal/"),
            Kind::Snap => named(".snap"),
            Kind::Db | Kind::DbInUse => named("/snap/db"),
            Kind::Sums => named("/mainstay/pages"),
            Kind::Snapshot | Kind::BareCopy => vec![FILE.to_owned()],
        };
        let path = paths[dice.below(paths.len() as u64) as usize].clone();
        let len = match kind {
            Kind::Snapshot => made.snapshot.len(),
            Kind::BareCopy => made.snapshot.len() - TRAILER_BYTES,
            _ => made.disk.contents(&path).map_or(0, |bytes| bytes.len()),
        };
        Flip { kind, at: dice.below(len as u64), bit: dice.below(8) as u8, path }
    }
}

/// What became of a flip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is answered as it would have been, and nobody noticed.
    Harmless,
    /// Noticed, put right, and everything is answered as it would have been.
    Healed,
    /// Refused, with words that name the file.
    Refused(String),
    /// A copy without any checksum is restored with something else in it: nobody can tell.
    Unprovable,
    /// Something else is answered, something acknowledged is lost, or the words name nothing.
    Wrong(String),
}

/// How many of each came out how.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<(Kind, &'static str), u64>);

impl Tally {
    /// Counts one.
    pub fn count(&mut self, kind: Kind, outcome: &Outcome) {
        let word = match outcome {
            Outcome::Harmless => "harmless",
            Outcome::Healed => "healed",
            Outcome::Refused(_) => "refused",
            Outcome::Unprovable => "unprovable",
            Outcome::Wrong(_) => "WRONG",
        };
        *self.0.entry((kind, word)).or_default() += 1;
    }

    /// How many were wrong.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.0.iter().filter(|((_, word), _)| *word == "WRONG").map(|(_, n)| n).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for ((kind, word), n) in &self.0 {
            match before == Some(*kind) {
                true => write!(f, ", {word} {n}")?,
                false => {
                    write!(f, "{}{kind:?}: {word} {n}", if before.is_some() { "\n" } else { "" })?
                }
            }
            before = Some(*kind);
        }
        Ok(())
    }
}

/// Flips the bit in a copy of the directory and looks what becomes of it.
#[must_use]
pub fn judge(made: &Made, flip: &Flip) -> Outcome {
    let tried = catch_unwind(AssertUnwindSafe(|| match flip.kind {
        Kind::Wal | Kind::Snap | Kind::Db | Kind::Sums => before_start(made, flip),
        Kind::DbInUse => in_use(made, flip),
        Kind::Snapshot | Kind::BareCopy => restored(made, flip),
    }));
    tried.unwrap_or_else(|_| Outcome::Wrong("it panicked".to_owned()))
}

/// What was read of the log while the member started.
#[derive(Default)]
struct Eye {
    entries: Vec<Entry>,
    noticed: bool,
    last: Index,
}

impl Tuning for Eye {
    fn log(&mut self, options: &mut WalOptions) {
        options.segment_bytes = SEGMENT_BYTES;
    }

    fn read(&mut self, from: Index, damaged: usize, replay: &mut Replay) {
        self.noticed = damaged > 0 || replay.torn_tail.is_some();
        self.last = replay.entries.last().map_or(from, |entry| entry.index);
        self.entries.clone_from(&replay.entries);
    }
}

/// A member that has applied all of its log, which is what a lone voter comes to.
struct Started {
    machine: Machine,
    noticed: bool,
    last: Index,
}

fn start(disk: &SimDisk, data_dir: &str) -> Result<Started, String> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = Options { data_dir: data_dir.into(), founding: founding(), ..Options::default() };
    let mut eye = Eye::default();
    let booted = boot(&disk, &options, 1, &mut eye).map_err(|error| error.to_string())?;
    let mut machine = booted.machine;
    let dropped = matches!(machine.backend().sums_found(), SumsFound::Dropped { .. });
    for entry in eye.entries.iter().filter(|entry| entry.index > booted.applied) {
        apply(&mut machine, entry)?;
    }
    Ok(Started { machine, noticed: eye.noticed || dropped, last: eye.last })
}

fn refused(flip: &Flip, why: String) -> Outcome {
    match why.contains(&flip.path) {
        true => Outcome::Refused(why),
        false => Outcome::Wrong(format!("the words do not name the file: {why}")),
    }
}

fn compare(found: &Answers, right: &Answers, noticed: bool) -> Outcome {
    match found == right {
        true if noticed => Outcome::Healed,
        true => Outcome::Harmless,
        false => Outcome::Wrong(format!("answered wrongly: {}", found.differ_from(right))),
    }
}

fn before_start(made: &Made, flip: &Flip) -> Outcome {
    let disk = made.disk.copy();
    disk.flip(&flip.path, flip.at, flip.bit);
    let started = match start(&disk, DATA) {
        Ok(started) => started,
        Err(why) => return refused(flip, why),
    };
    if started.last < made.acknowledged {
        let (last, acknowledged) = (started.last, made.acknowledged);
        return Outcome::Wrong(format!("the log ends at {last}, acknowledged is {acknowledged}"));
    }
    let Some(right) = made.right.get(&started.last) else {
        return Outcome::Wrong(format!("the log ends at {}, which nobody wrote", started.last));
    };
    match answers(&started.machine) {
        Ok(found) => compare(&found, right, started.noticed),
        Err(why) => refused(flip, why.0),
    }
}

fn in_use(made: &Made, flip: &Flip) -> Outcome {
    let disk = made.disk.copy();
    let started = start(&disk, DATA).expect("a sound directory starts");
    disk.flip(&flip.path, flip.at, flip.bit);
    let right = &made.right[&started.last];
    match answers(&started.machine) {
        Ok(found) => compare(&found, right, false),
        Err(why) => refused(flip, why.0),
    }
}

fn restored(made: &Made, flip: &Flip) -> Outcome {
    let bare = flip.kind == Kind::BareCopy;
    let len = made.snapshot.len() - if bare { TRAILER_BYTES } else { 0 };
    let mut bytes = made.snapshot[..len].to_vec();
    let right = restore_and_ask(&bytes, bare).expect("a sound file");
    bytes[flip.at as usize] ^= 1 << flip.bit;
    match restore_and_ask(&bytes, bare) {
        Ok(found) if bare && found != right => Outcome::Unprovable,
        Ok(found) => compare(&found, &right, false),
        // Which file it is was on the command line; some of the words are Go's.
        Err(why) => Outcome::Refused(why),
    }
}

fn restore_and_ask(bytes: &[u8], skip_hash_check: bool) -> Result<Answers, String> {
    let sim = SimDisk::new(1);
    sim.install(FILE, bytes);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let by_name =
        BTreeMap::from([("default".to_owned(), vec!["http://127.0.0.1:2380".to_owned()])]);
    let founders =
        Founders::new(&by_name, "token", "default").map_err(|error| error.to_string())?;
    let wanted = Restore {
        snapshot: Path::new(FILE),
        data_dir: Path::new(RESTORED),
        wal_dir: None,
        founders: &founders,
        skip_hash_check,
        bump_revision: 0,
        target_version: None,
        wal: WalOptions { segment_bytes: SEGMENT_BYTES, ..WalOptions::default() },
    };
    restore(&disk, &wanted, &mut |_| {}).map_err(|error| error.to_string())?;
    let started = start(&sim, RESTORED)?;
    answers(&started.machine).map_err(|why| why.0)
}
