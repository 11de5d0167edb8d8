//! Whether the disk has room, as its writers find it.
//!
//! A full disk is not a broken one. Who finds it full says so here and tries again
//! later; the `duties` thread raises NOSPACE meanwhile, so that clients get a clear
//! error and what is already promised still fits, and takes the alarm back when
//! there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by the writers and the one who tells.
#[derive(Clone, Default)]
pub(crate) struct Space(Arc<Cells>);

#[derive(Default)]
struct Cells {
    db: AtomicBool,
    log: AtomicBool,
}

impl Space {
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

    /// Whether either has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.is_db_full() || self.0.log.load(Ordering::Acquire)
    }
}
