//! Whether the disk has room, as its writers and a look at the file system find it.
//!
//! A full disk is not a broken one. Who finds it full says so here, gives up what is held
//! in [reserve](crate::reserve) and tries again; the `duties` thread raises NOSPACE
//! meanwhile, so that clients get a clear error and what is already promised still fits,
//! and takes the alarm back when there is room. Before it comes to that, less than a
//! low-water mark does the same.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mainstay_env::{Disk, Room};

use crate::reserve::Reserve;

/// Shared by the writers and the one who tells. By default it only knows what it is told.
#[derive(Clone, Default)]
pub(crate) struct Space(Arc<Cells>);

#[derive(Default)]
struct Cells {
    place: Option<Place>,
    db: AtomicBool,
    log: AtomicBool,
    waits: AtomicBool,
    low: AtomicBool,
    spent: AtomicBool,
    /// What the last look found.
    free: AtomicU64,
}

/// Where the member's files lie.
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) reserve: Reserve,
    /// The folder of the db, on the reserve's file system.
    pub(crate) folder: PathBuf,
    /// That of the log, when it may lie on another one.
    pub(crate) log_folder: Option<PathBuf>,
}

/// Who found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    Db,
    Log,
}

impl Space {
    /// Of a member that has just started.
    pub(crate) fn new(place: Place) -> Space {
        // Used up before a restart, which does not make the disk any larger.
        let spent = place.reserve.is_spent() && place.reserve.has_raised();
        let cells = Cells { spent: AtomicBool::new(spent), place: Some(place), ..Cells::default() };
        let space = Space(Arc::new(cells));
        space.look();
        space
    }

    /// The db cannot grow, or can again. Answers whether that is news.
    pub(crate) fn db_full(&self, full: bool) -> bool {
        self.0.db.swap(full, Ordering::AcqRel) != full
    }

    /// Whether the db could not grow.
    pub(crate) fn is_db_full(&self) -> bool {
        self.0.db.load(Ordering::Acquire)
    }

    /// The log is about to have no room, or has again. Answers whether that is news.
    pub(crate) fn log_full(&self, full: bool) -> bool {
        self.0.log.swap(full, Ordering::AcqRel) != full
    }

    /// Records of the log wait for room, or no longer. Answers whether that is news.
    pub(crate) fn log_waits(&self, waits: bool) -> bool {
        // Asked for every write: a look is cheaper.
        self.0.waits.load(Ordering::Acquire) != waits
            && self.0.waits.swap(waits, Ordering::AcqRel) != waits
    }

    /// The reserve is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.0.spent.load(Ordering::Acquire)
    }

    /// Whether what makes the store grow has to be refused.
    pub(crate) fn is_full(&self) -> bool {
        let cells = &*self.0;
        [&cells.db, &cells.log, &cells.waits, &cells.low, &cells.spent]
            .iter()
            .any(|cell| cell.load(Ordering::Acquire))
    }

    /// Bytes that were free at the last look.
    pub(crate) fn free(&self) -> u64 {
        self.0.free.load(Ordering::Relaxed)
    }

    /// Bytes in reserve.
    pub(crate) fn held(&self) -> u64 {
        self.0.place.as_ref().map_or(0, |place| place.reserve.held())
    }

    /// Somebody found no room: whether the reserve has just made some.
    pub(crate) fn give_up_reserve(&self, writing: Writing) -> bool {
        let Some(place) = &self.0.place else { return false };
        if writing == Writing::Log && place.log_folder.is_some() {
            return false;
        }
        let freed = place.reserve.give_up();
        if freed > 0 {
            self.0.spent.store(true, Ordering::Release);
            tracing::warn!(
                path = %place.reserve.path().display(),
                "freed-bytes" = freed,
                "the disk is full: gave up the reserve"
            );
        }
        freed > 0
    }

    /// Looks how much room there is; takes the reserve again when there is enough.
    pub(crate) fn look(&self) {
        let Some(place) = &self.0.place else { return };
        let Some(room) = place.room(&place.folder) else { return };
        self.0.free.store(room.free, Ordering::Relaxed);
        self.look_at_marks(place, room);
        if !place.reserve.is_spent() {
            return;
        }
        if place.reserve.refill(room) && self.0.spent.swap(false, Ordering::AcqRel) {
            tracing::info!(
                path = %place.reserve.path().display(),
                bytes = place.reserve.held(),
                "there is room on the disk again: took the reserve back"
            );
        }
    }

    fn look_at_marks(&self, place: &Place, room: Room) {
        let Some(marks) = place.reserve.marks(room) else { return };
        let mut found = vec![(&place.folder, room, marks)];
        if let Some(folder) = &place.log_folder
            && let Some(room) = place.room(folder)
            && let Some(marks) = place.reserve.marks(room)
        {
            found.push((folder, room, marks));
        }
        let low = &self.0.low;
        if let Some((folder, room, marks)) = found.iter().find(|(_, r, m)| r.free < m.low) {
            if !low.swap(true, Ordering::AcqRel) {
                tracing::warn!(
                    path = %folder.display(),
                    "free-bytes" = room.free,
                    "low-water-bytes" = marks.low,
                    "the disk is nearly full: refusing writes that make the store grow"
                );
            }
        } else if found.iter().all(|(_, room, marks)| room.free >= marks.high)
            && low.swap(false, Ordering::AcqRel)
        {
            tracing::info!(
                path = %place.folder.display(),
                "free-bytes" = room.free,
                "the disk is no longer nearly full"
            );
        }
    }

    /// Whether this member has raised NOSPACE for its disk.
    pub(crate) fn has_raised(&self) -> bool {
        self.0.place.as_ref().is_some_and(|place| place.reserve.has_raised())
    }

    /// Notes that it has, or that it has taken it back.
    pub(crate) fn set_raised(&self, raised: bool) {
        if let Some(place) = &self.0.place {
            place.reserve.set_raised(raised);
        }
    }
}

impl Place {
    fn room(&self, folder: &Path) -> Option<Room> {
        // A file system that does not say has no marks; its writers still find it full.
        self.disk.room(folder).ok()
    }
}
