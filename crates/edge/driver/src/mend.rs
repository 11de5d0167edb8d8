//! A start that finds its db damaged, missing or behind its log, and fetches another
//! member's.
//!
//! **Why that is safe.** What a member has promised is in its log: entries that it said are
//! durable here, its term, its vote. While the log is sound none of it is lost with the db,
//! which only holds what the log's committed entries have made. Any other member's db is
//! such a state, at the last entry which that member has applied: applied is committed, and
//! stays so whoever leads and whether or not there is a quorum. It may stand in the place of
//! ours when our log goes on from there: at or behind what the log begins with. Until it
//! does, the member takes no part in anything, as if it were down.
//!
//! **Where it goes.** Into a file of its own, of which every page and row is looked at, as a
//! restore does. When the log has the entry that the db ends with, the db takes its place, and
//! the entries behind are applied again. When it has not (the others have gone on), the db is
//! what a leader would have sent: it gets the name of a received one, a `.snap` file is made
//! of its members, the log notes it with a hard state that claims nothing behind it, and then
//! it takes its place. A crash between any two steps leaves a directory that the next start
//! mends, with what has arrived if that is whole.
//!
//! **A damaged log** that goes on behind the damage (see `wal::salvage`) has lost a few entries
//! and nothing else. A db that has them in it stands for them, this member's own if it has
//! got so far, and the log starts anew behind it. A log of which nobody knows what it has
//! lost, the vote perhaps, is left alone: who goes on with it may take back what it promised.
//!
//! The damaged file is kept as `db.broken`, the last one only. Nothing is fetched in a cluster
//! of one, and nothing of all this happens with `--repair-from-peers=false`, or with `--force-new-cluster`.

mod log;
mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_env::Disk;
use mainstay_types::Index;

use crate::boot::{BootError, Booted, Tuning, boot, disk_error};
use crate::damage::{Damage, Marker, clear_marker, marker_path, read_marker};
use crate::incoming::received_db;
use crate::transport::Transport;
use crate::{Identity, Options};
use log::{Ground, Way};
use source::Found;

/// What a start may mend before it gives up: more than one thing can be damaged, and a crash
/// between two steps leaves another.
const ROUNDS_MAX: u64 = 3;
/// Under this name a db arrives; a start removes what begins like this.
const ARRIVING: &str = "tmp.fetched.db";

/// How often something was mended on the way to a member that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Dbs that were fetched.
    pub dbs: u64,
    /// Logs that were started anew.
    pub logs: u64,
}

/// Where it happens.
pub(crate) struct Place<'a> {
    pub(crate) disk: &'a Arc<dyn Disk>,
    pub(crate) options: &'a Options,
    pub(crate) transport: &'a dyn Transport,
}

/// As [`boot`], with what another member gives where something is damaged here.
///
/// # Errors
/// As there, and [`BootError::NotMended`] when nobody gives it, or it is not to be asked for.
pub(crate) fn boot_mending(
    place: &Place<'_>,
    seed: u64,
    tuning: &mut dyn Tuning,
) -> Result<(Booted, Mended), BootError> {
    let mut mended = Mended::default();
    loop {
        let why = match place.noted()? {
            Some(why) => why,
            None => match boot(place.disk, place.options, seed, tuning) {
                Ok(booted) => return Ok((booted, mended)),
                Err(error) if error.is_of_db() || error.is_of_log() => error.to_string(),
                Err(error) => return Err(error),
            },
        };
        if mended.dbs + mended.logs >= ROUNDS_MAX {
            return Err(BootError::Directory(format!("{why}, and it comes back: check the disk")));
        }
        tracing::warn!(error = %why, "found damage at the start");
        place.mend(why, &mut mended)?;
    }
}

impl Place<'_> {
    fn marker(&self) -> PathBuf {
        marker_path(&self.options.member_dir())
    }

    /// What a member that ran here before has found.
    fn noted(&self) -> Result<Option<String>, BootError> {
        let path = self.marker();
        let wal = self.options.wal_path();
        let found =
            read_marker(&**self.disk, &path).map_err(disk_error("read the note at", &path))?;
        // Without a log it is nobody's directory, and what the start says is clearer.
        if found == Marker::None || !mainstay_wal::exists(&**self.disk, &wal)? {
            return Ok(None);
        }
        let damage = match found {
            Marker::None => return Ok(None),
            Marker::Unreadable(why) => {
                let path = path.display();
                return Ok(Some(format!("{path} says that something is damaged ({why})")));
            }
            Marker::Damage(damage) => damage,
        };
        let is = log::metadata(self.disk, self.options)?;
        if is.is_some_and(|is| is != (Identity { cluster: damage.cluster, member: damage.member }))
        {
            tracing::info!(path = %path.display(), "dropped a note about another member's damage");
            clear_marker(&**self.disk, &path).map_err(disk_error("remove", &path))?;
            return Ok(None);
        }
        let Damage { file, offset, what, .. } = damage;
        let path = path.display();
        Ok(Some(format!(
            "{file} is damaged at offset {offset}: {what} (found by an earlier life, which says so in \
             {path}; remove that once the file is mended by hand)"
        )))
    }

    /// Puts another member's db in the place of this one.
    fn mend(&self, why: String, mended: &mut Mended) -> Result<(), BootError> {
        let mut ground = Ground::open(self).map_err(|error| match error {
            BootError::Wal(error) if error.is_corrupt() => self.refusal(
                why.as_str(),
                "entries, or this member's vote, may be in what cannot be read, and it must not \
                 go on without them",
            ),
            error => error,
        })?;
        let (is_log, found) = (ground.is_damaged(), self.source(&ground, &why)?);
        let (index, term) = (found.index.0, found.term.0);
        self.install(&mut ground, &found)?;
        drop(ground);
        if is_log {
            mended.logs += 1;
            let kept = self.options.wal_path().join("*.wal.broken");
            tracing::warn!(
                "snapshot-index" = index,
                "snapshot-term" = term,
                kept = %kept.display(),
                "the damaged log has begun anew; nothing of it was lost"
            );
        }
        if found.is_own(self) {
            return Ok(());
        }
        let marker = self.marker();
        clear_marker(&**self.disk, &marker).map_err(disk_error("remove", &marker))?;
        mended.dbs += 1;
        tracing::warn!(
            "applied-index" = index,
            "applied-term" = term,
            from = %found.from,
            kept = %self.broken().display(),
            "another member's database is in the place of the damaged one"
        );
        Ok(())
    }

    /// Where the damaged db is kept.
    fn broken(&self) -> PathBuf {
        self.options.snap_path().join("db.broken")
    }

    fn install(&self, ground: &mut Ground, found: &Found) -> Result<(), BootError> {
        let way = ground
            .way(found.index, found.term)
            .map_err(|why| self.refusal(why, "it does not fit the log of this member"))?;
        match way {
            Way::Behind => self.exchange(&found.path),
            Way::Anew if found.is_own(self) => ground.take_over(self, &found.snapshot),
            Way::Anew => {
                let received = received_db(&self.options.snap_path(), found.index);
                if found.path != received {
                    self.rename(&found.path, &received)?;
                }
                ground.take_over(self, &found.snapshot)?;
                self.exchange(&received)
            }
        }
    }

    /// The old db is kept, and the new one takes its name.
    fn exchange(&self, new: &Path) -> Result<(), BootError> {
        let (db, broken) = (self.options.db_path(), self.broken());
        let sums = self.options.sums_path();
        if self.is_there(&sums)? {
            // They are the old one's.
            self.disk.remove_file(&sums).map_err(disk_error("remove", &sums))?;
            let folder = sums.parent().expect("they lie in the member's folder");
            self.disk.sync_dir(folder).map_err(disk_error("sync", folder))?;
        }
        if self.is_there(&db)? {
            self.rename(&db, &broken)?;
        }
        self.rename(new, &db)
    }

    fn is_there(&self, path: &Path) -> Result<bool, BootError> {
        Ok(self.disk.metadata(path).map_err(disk_error("look at", path))?.is_some())
    }

    /// Within the folder of the db.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), BootError> {
        let folder = self.options.snap_path();
        self.disk.rename(from, to).map_err(disk_error("rename", from))?;
        self.disk.sync_dir(&folder).map_err(disk_error("sync", &folder))
    }

    /// What is said when nothing is mended.
    fn refusal(&self, found: impl Into<String>, why: impl Into<String>) -> BootError {
        let dir = self.options.data_dir.display();
        let advice = format!(
            "`etcdutl repair --data-dir {dir}` says what can be saved here; in a cluster of several, \
             remove this member (`etcdctl member remove ID`), set the directory aside, add it again \
             (`etcdctl member add {} --peer-urls=URLS`) and start it with --initial-cluster-state=existing",
            self.options.name
        );
        BootError::NotMended { found: found.into(), why: why.into(), advice }
    }
}

/// What a db must have in it at least.
fn least(base: Index) -> Index {
    base.max(Index(1))
}
