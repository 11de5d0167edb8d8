//! When the db file is shrunk, and how fast: by itself beside the traffic, or
//! faster while a client that asked for it waits (`Defragment`).
//!
//! The work is the backend's, a slice with each commit. Nobody waits for it:
//! requests are answered from the log and from views, and a commit with a slice
//! takes a few milliseconds longer.

use std::time::Duration;

use mainstay_backend::bolt::{Goal, Shrinking};
use mainstay_failpoints::{fail_point, fail_value};
use mainstay_types::limits::DEFRAGMENTS_WAITING_MAX;

use super::{Committer, Failure, Orders, Slot, answer};
use crate::handle::RequestError;

/// Pages are moved beside the traffic at ten slices a second: 10 MiB/s, a tenth of what a slow
/// disk writes, moves the 200 MB that are left of 2 GB in half a minute.
const SLICE_BYTES: u64 = 1 << 20;
const SLICE_EVERY: Duration = Duration::from_millis(100);
/// A slice while a client waits for the end: as there is less pause between them it is smaller,
/// because the log's syncs wait behind it.
const ASKED_SLICE_BYTES: u64 = 512 << 10;
/// The shortest pause after one; it is at least as long as the slice took, so that the disk is
/// the log's half of the time.
const ASKED_PAUSE: Duration = Duration::from_millis(5);
/// Less free space than this is left alone.
const FREE_MIN: u64 = 16 << 20;
/// With more than this part free it begins soon: it is more than what a compaction leaves and
/// the next minutes fill again.
const SOON_FREE_PERCENT: u64 = 40;
/// With more than this part free it begins when that has lasted.
const LASTING_FREE_PERCENT: u64 = 20;
/// With this part of the quota taken it begins at once, and with less free.
const PRESSING_PERCENT: u64 = 80;
const PRESSING_FREE_PERCENT: u64 = 10;
const PRESSING_FREE_MIN: u64 = 256 << 10;
/// Longer than the time between two compactions (kube-apiserver: 5 minutes), so that what is
/// used again each time is not given away each time.
const LASTING: Duration = Duration::from_secs(600);
/// It does not begin while the part in use still falls: a compaction is under way.
const STEADY: Duration = Duration::from_secs(2);
/// How long a file is left alone that a pass has not made smaller.
const REST: Duration = Duration::from_secs(600);
/// Free space that is left in the file: a tenth of what is in use.
const ROOM_PART: u64 = 10;
/// The same for a client that asked: enough for the next commits.
const ASKED_ROOM_PART: u64 = 50;
const ASKED_ROOM_MIN: u64 = 64 << 10;
/// Passes for a client, as the first makes the part in use smaller, too.
const ASKED_PASSES_MAX: u32 = 4;
/// How often it is looked whether a snapshot that holds the file's end is still read.
const WAITING_EVERY: Duration = Duration::from_millis(200);
/// How long a client waits for such snapshots; the rest follows without it.
const ASKED_WAITING_MAX: Duration = Duration::from_secs(5);

/// What a turn did.
pub(super) enum Turn {
    /// Nothing was committed.
    Looked,
    /// Everything that waited was, or not.
    Committed(Result<(), Failure>),
}

/// A defragmentation that clients wait for.
struct Asked {
    slots: Vec<Slot>,
    passes: u32,
}

/// A shrinking under way.
struct Work {
    begun: Duration,
    /// Size and part in use before.
    before: (u64, u64),
    /// Size before the last pass.
    size: u64,
    waiting_since: Option<Duration>,
    /// Nothing is moved: the file only still has to be cut where a commit, or a crash, left it.
    only_cuts: bool,
    asked: Option<Asked>,
}

/// The state of the one who decides.
#[derive(Default)]
pub(crate) struct Shrinker {
    work: Option<Work>,
    /// When the next turn is due.
    pub(super) due: Option<Duration>,
    /// Since when more than the lasting part has been free.
    loose_since: Option<Duration>,
    /// The part in use when it last fell, and when that was.
    in_use: (u64, Duration),
    rest_until: Duration,
}

impl Committer {
    /// After a commit: decides whether to begin.
    pub(super) fn look_for_space(&mut self) {
        if self.shrinker.work.is_some() {
            return;
        }
        let now = self.clock.now();
        let (size, in_use) = (self.backend.size(), self.backend.size_in_use());
        let free = size.saturating_sub(in_use);
        // An error is the next commit's to tell.
        if matches!(self.backend.shrinking(), Ok(Shrinking::Settling | Shrinking::Waiting)) {
            let before = (size, in_use);
            let (waiting_since, asked) = (None, None);
            let work = Work { begun: now, before, size, waiting_since, only_cuts: true, asked };
            (self.shrinker.work, self.shrinker.due) = (Some(work), Some(now + SLICE_EVERY));
            return;
        }
        let shrinker = &mut self.shrinker;
        let pressing = self.quota.is_some_and(|quota| size >= quota / 100 * PRESSING_PERCENT);
        let (free_min, percent) = match pressing {
            true => (PRESSING_FREE_MIN, PRESSING_FREE_PERCENT),
            false => (FREE_MIN, LASTING_FREE_PERCENT),
        };
        if free < free_min || free * 100 <= size * percent {
            (shrinker.loose_since, shrinker.due) = (None, None);
            return;
        }
        let since = *shrinker.loose_since.get_or_insert(now);
        if in_use + in_use / 100 < shrinker.in_use.0 || shrinker.in_use.0 == 0 {
            shrinker.in_use = (in_use, now);
        }
        shrinker.in_use.0 = in_use.max(shrinker.in_use.0);
        let soon = pressing || free * 100 > size * SOON_FREE_PERCENT;
        let lasted = since + if soon { Duration::ZERO } else { LASTING };
        let begin = lasted.max(shrinker.in_use.1 + STEADY).max(shrinker.rest_until);
        shrinker.due = Some(begin);
    }

    /// Whether a turn is due. What is not asked for waits for the end of a compaction: pages
    /// that it will write again need not be moved.
    pub(super) fn shrinks_now(&mut self, orders: &Orders) -> bool {
        let now = self.clock.now();
        let is_due = self.shrinker.due.is_some_and(|due| due <= now);
        let work = self.shrinker.work.as_ref();
        let waits = work.is_none_or(|work| work.asked.is_none() && !work.only_cuts);
        if is_due && waits && orders.is_compacting() {
            self.shrinker.due = Some(now + STEADY);
            return false;
        }
        is_due
    }

    /// Begins, goes on or ends.
    pub(super) fn shrink(&mut self, orders: &Orders) -> Turn {
        let now = self.clock.now();
        if self.shrinker.work.is_none() {
            self.shrinker.loose_since = None;
            let (size, in_use) = (self.backend.size(), self.backend.size_in_use());
            tracing::info!(
                path = %self.db_path().display(),
                "current-db-size-bytes" = size,
                "current-db-size-in-use-bytes" = in_use,
                "giving unused space back"
            );
            return self.begin(None).map_or_else(|f| Turn::Committed(Err(f)), |()| Turn::Looked);
        }
        match self.backend.shrinking() {
            Err(error) => Turn::Committed(Err(Failure::of_commit(error))),
            Ok(Shrinking::No) => self.pass_ended(),
            Ok(Shrinking::Waiting) => {
                // Mine may be the snapshot: the view that is published.
                (self.refresh)();
                self.wait(now);
                Turn::Looked
            }
            Ok(Shrinking::Moving | Shrinking::Settling) => Turn::Committed(self.slice(orders, now)),
        }
    }

    /// A defragmentation was asked for. Who asks while one is under way gets its answer.
    pub(super) fn defragment(&mut self, orders: &Orders, slot: Slot) -> Result<(), Failure> {
        if let Some(asked) = self.shrinker.work.as_mut().and_then(|work| work.asked.as_mut()) {
            if asked.slots.len() < DEFRAGMENTS_WAITING_MAX {
                asked.slots.push(slot);
            } else {
                // The client may have gone.
                let _ = slot.send(Err(RequestError::TooManyRequests));
            }
            return Ok(());
        }
        if let Err(failure) = self.commit(orders) {
            return answer(slot, Err(failure));
        }
        if let Some(text) = fail_value!("defragOpenFileError") {
            // The client may have gone.
            let _ = slot.send(Err(RequestError::Storage(text)));
            return Ok(());
        }
        let (size, in_use) = (self.backend.size(), self.backend.size_in_use());
        tracing::info!(
            path = %self.db_path().display(),
            "current-db-size-bytes" = size,
            "current-db-size" = humanized(size),
            "current-db-size-in-use-bytes" = in_use,
            "current-db-size-in-use" = humanized(in_use),
            "defragmenting"
        );
        fail_point!("defragBeforeCopy");
        self.stats.defrag_inflight.set(1);
        self.begin(Some(Asked { slots: vec![slot], passes: 1 }))
    }

    /// Answers whoever waits, as the thread ends.
    pub(super) fn end_shrinking(&mut self) {
        self.shrinker.work = None;
        self.stats.defrag_inflight.set(0);
    }

    fn db_path(&self) -> std::path::PathBuf {
        self.snap_dir.join("db")
    }

    fn begin(&mut self, asked: Option<Asked>) -> Result<(), Failure> {
        let now = self.clock.now();
        let (size, in_use) = (self.backend.size(), self.backend.size_in_use());
        let goal = match &asked {
            None => Goal { bytes: in_use + in_use / ROOM_PART, pack: false },
            Some(asked) => Goal {
                bytes: in_use + (in_use / ASKED_ROOM_PART).max(ASKED_ROOM_MIN),
                pack: asked.passes == 1,
            },
        };
        self.backend.shrink(goal).map_err(Failure::of_commit)?;
        let (begun, before) = match &self.shrinker.work {
            Some(work) if asked.as_ref().is_some_and(|asked| asked.passes > 1) => {
                (work.begun, work.before)
            }
            _ => (now, (size, in_use)),
        };
        self.shrinker.work =
            Some(Work { begun, before, size, waiting_since: None, only_cuts: false, asked });
        self.shrinker.due = Some(now);
        Ok(())
    }

    /// Commits what waits and moves pages on the way.
    fn slice(&mut self, orders: &Orders, now: Duration) -> Result<(), Failure> {
        let asked = self.shrinker.work.as_ref().is_some_and(|work| work.asked.is_some());
        let bytes = if asked { ASKED_SLICE_BYTES } else { SLICE_BYTES };
        let written = self.commit_moving(orders, bytes);
        let ended = self.clock.now();
        let due = match (&written, asked) {
            (Err(_), _) => ended + super::RETRY,
            (Ok(_), true) => ended + ended.saturating_sub(now).max(ASKED_PAUSE),
            (Ok(_), false) => (now + SLICE_EVERY).max(ended + ended.saturating_sub(now)),
        };
        self.shrinker.due = Some(due);
        if let Some(work) = &mut self.shrinker.work {
            work.waiting_since = None;
        }
        if written? == 0 {
            // Nothing else publishes a view of the newest commit.
            (self.refresh)();
        }
        Ok(())
    }

    /// A snapshot is still read; nobody is made to hurry.
    fn wait(&mut self, now: Duration) {
        let Some(work) = &mut self.shrinker.work else { return };
        self.shrinker.due = Some(now + WAITING_EVERY);
        let since = *work.waiting_since.get_or_insert(now);
        if work.asked.is_some() && now >= since + ASKED_WAITING_MAX {
            tracing::info!("a snapshot that is still read holds the rest; it follows by itself");
            self.tell_asked(Ok(()));
        }
    }

    /// Everything that could be moved has been, or a page could not be read.
    fn pass_ended(&mut self) -> Turn {
        let now = self.clock.now();
        let Some(mut work) = self.shrinker.work.take() else { return Turn::Looked };
        let (size, in_use) = (self.backend.size(), self.backend.size_in_use());
        if let Some(error) = self.backend.shrinking_failed() {
            tracing::error!(%error, "a page of the db cannot be read; the file is not made smaller");
            self.shrinker.rest_until = now + REST;
            self.shrinker.work = Some(work);
            self.tell_asked(Err(RequestError::Storage(error.to_string())));
            self.shrinker.work = None;
            self.look_for_space();
            return Turn::Looked;
        }
        let smaller = size + size / 16 < work.size;
        let loose = in_use + (in_use / ASKED_ROOM_PART * 2).max(2 * ASKED_ROOM_MIN) < size;
        if let Some(asked) = work.asked.take_if(|asked| {
            loose && asked.passes < ASKED_PASSES_MAX && (smaller || asked.passes == 1)
        }) {
            let asked = Asked { passes: asked.passes + 1, ..asked };
            self.shrinker.work = Some(work);
            return self
                .begin(Some(asked))
                .map_or_else(|f| Turn::Committed(Err(f)), |()| Turn::Looked);
        }
        if work.asked.is_none() && !work.only_cuts {
            tracing::info!(
                "current-db-size-bytes-diff" = size as i64 - work.before.0 as i64,
                "current-db-size-bytes" = size,
                "current-db-size-in-use-bytes" = in_use,
                took = ?now.saturating_sub(work.begun),
                "gave unused space back"
            );
        }
        if !smaller && !work.only_cuts {
            self.shrinker.rest_until = now + REST;
        } else if smaller && size.saturating_sub(in_use) * 100 > size * LASTING_FREE_PERCENT {
            // What was in the way is not any more, or more has become free meanwhile.
            self.shrinker.work = Some(work);
            self.tell_asked(Ok(()));
            return self.begin(None).map_or_else(|f| Turn::Committed(Err(f)), |()| Turn::Looked);
        }
        self.shrinker.work = Some(work);
        self.tell_asked(Ok(()));
        self.shrinker.work = None;
        self.look_for_space();
        Turn::Looked
    }

    /// Ends the defragmentation for those who asked for it; what is under way goes on without
    /// them.
    fn tell_asked(&mut self, result: Result<(), RequestError>) {
        let Some(work) = &mut self.shrinker.work else { return };
        let Some(asked) = work.asked.take() else { return };
        let took = self.clock.now().saturating_sub(work.begun);
        let (size, in_use) = (self.backend.size(), self.backend.size_in_use());
        let before = work.before;
        self.stats.defrag_inflight.set(0);
        let result = match fail_value!("defragdbFail") {
            Some(text) => Err(RequestError::Storage(text)),
            None => result,
        };
        if result.is_ok() {
            fail_point!("defragBeforeRename");
            self.stats.backend_defrag.observe(took);
            tracing::info!(
                path = %self.db_path().display(),
                "current-db-size-bytes-diff" = size as i64 - before.0 as i64,
                "current-db-size-bytes" = size,
                "current-db-size" = humanized(size),
                "current-db-size-in-use-bytes-diff" = in_use as i64 - before.1 as i64,
                "current-db-size-in-use-bytes" = in_use,
                "current-db-size-in-use" = humanized(in_use),
                took = ?took,
                "finished defragmenting directory"
            );
        }
        for slot in asked.slots {
            // The client may have gone.
            let _ = slot.send(result.clone());
        }
    }
}

/// Bytes in powers of 1000, as etcd's lines show them.
pub(crate) fn humanized(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = (bytes.ilog10() / 3).min(6);
    let value = (bytes as f64 / 1000f64.powi(exponent as i32) * 10.0).round() / 10.0;
    let unit = UNITS[exponent as usize];
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}
