//! Snapshot files: what one holds ([`status`]), and a member's directory made from one
//! ([`restore`]).
//!
//! A snapshot file is a bolt file with a SHA-256 behind it (disk.md 8); a bare copy of
//! `member/snap/db` is one without. Nothing is ever held in memory as a whole.
//!
//! **Restore verifies everything.** The checksum, every page, every revision and every row of the
//! other buckets are looked at before anything gets its name, and the pages once more after the
//! rows of the old cluster were exchanged.
//!
//! **Restore is whole or not there.** It builds in a folder of its own beside (or, when the data
//! directory is there and empty, in) the data directory, syncs all of it, and gives it its name by
//! one rename. What an interrupted run leaves has a name that says so, and the next run removes
//! it; see `place.rs`.

mod copy;
mod db;
mod error;
mod founders;
mod log;
mod migrate;
mod place;
mod restore;
mod rows;
mod status;

pub use db::{Verified, verify};
pub use error::BackupError;
pub use founders::{Founders, FoundersError};
pub use migrate::{TargetError, target_version};
pub use place::{INSIDE, SUFFIX};
pub use restore::{Event, Restore, Restored, restore};
pub use status::{Status, revision, status};
