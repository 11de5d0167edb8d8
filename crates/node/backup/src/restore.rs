//! From a snapshot file to a member's directory.

use std::path::Path;
use std::sync::Arc;

use mainstay_env::Disk;
use mainstay_types::{Revision, Version};
use mainstay_wal::{Metadata, WalOptions};

use crate::copy::copy_db;
use crate::db::{Rewrite, rewrite};
use crate::error::BackupError;
use crate::founders::Founders;
use crate::log;
use crate::place::Place;

/// What is restored, and to where.
#[derive(Clone, Copy, Debug)]
pub struct Restore<'a> {
    /// The snapshot file, or a copy of a db.
    pub snapshot: &'a Path,
    /// The directory to make: it must not be there, or be empty.
    pub data_dir: &'a Path,
    /// The folder to make for the log, which must not be there; `None` for the usual one inside.
    pub wal_dir: Option<&'a Path>,
    /// The members of the new cluster, and which one this is.
    pub founders: &'a Founders,
    /// Take a file without a checksum, and do not look at one that is there.
    pub skip_hash_check: bool,
    /// By how much the revision rises, everything below then being compacted; 0 for not at all.
    pub bump_revision: u64,
    /// The version whose schema is wanted, and which the cluster then has; `None` to leave both.
    pub target_version: Option<Version>,
    /// How the log is written.
    pub wal: WalOptions,
}

/// How far a restore has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many bytes of the db are copied, of so many.
    Copied {
        /// Bytes.
        done: u64,
        /// Bytes.
        total: u64,
    },
    /// The db is complete; all of it is looked at, and the rows of the old cluster exchanged.
    Exchanging,
    /// That is done.
    Exchanged(Restored),
    /// The log and the `.snap` file are written.
    Logged,
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The newest revision of the snapshot.
    pub latest: Revision,
    /// Rows of bucket `key` in it.
    pub rows: u64,
    /// The revision that it was raised to.
    pub bumped: Option<i64>,
    /// The version of the schema before.
    pub schema_before: Version,
    /// The version of the schema now.
    pub schema: Version,
}

/// Makes a member's directory from a snapshot file. When it returns, everything was verified, is
/// durable, and has its name; until then nothing is there that could be taken for a member's
/// directory, wherever it is interrupted.
///
/// # Errors
/// When the file is damaged, incomplete or not etcd's, a directory is in the way, or the disk
/// fails. What was built is removed then.
pub fn restore(
    disk: &Arc<dyn Disk>,
    wanted: &Restore<'_>,
    told: &mut dyn FnMut(Event),
) -> Result<Restored, BackupError> {
    let metadata = Metadata { member: wanted.founders.me(), cluster: wanted.founders.cluster() };
    let mut place = Place::take(&**disk, wanted.data_dir, wanted.wal_dir, metadata)?;
    match build(disk, wanted, &mut place, told) {
        Ok(restored) => {
            place.clear_away();
            Ok(restored)
        }
        Err(error) => {
            place.give_up();
            Err(error)
        }
    }
}

fn build(
    disk: &Arc<dyn Disk>,
    wanted: &Restore<'_>,
    place: &mut Place<'_>,
    told: &mut dyn FnMut(Event),
) -> Result<Restored, BackupError> {
    let snap_dir = place.snap_dir();
    let db = snap_dir.join("db");
    copy_db(&**disk, wanted.snapshot, &db, wanted.skip_hash_check, &mut |done, total| {
        told(Event::Copied { done, total });
    })?;
    told(Event::Exchanging);
    let changes = Rewrite {
        members: wanted.founders.members(),
        bump_revision: wanted.bump_revision,
        target: wanted.target_version,
    };
    let restored = rewrite(&**disk, &db, &changes)?;
    told(Event::Exchanged(restored));
    log::write(disk, &place.wal_dir()?, &snap_dir, wanted.founders, wanted.wal)?;
    told(Event::Logged);
    place.give_name()?;
    Ok(restored)
}
