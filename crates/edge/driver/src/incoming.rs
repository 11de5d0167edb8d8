//! A db file on its way in, from the leader.
//!
//! Its bytes are on the disk, synced and under their final name, before raft sees the
//! message they came with (disk.md 3; etcd, `snap.SaveDBFrom`).

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_backend::{Bucket, meta};
use mainstay_env::{Clock, Disk, File, OpenMode};
use mainstay_types::Index;
use mainstay_types::limits::{PEER_SNAPSHOT_ROOM_LEFT_BYTES, RESERVE_SHARE};

use crate::stats::Stats;

/// How much is written between two looks at the disk's room.
const LOOK_EVERY_BYTES: u64 = 1 << 20;

/// The name under which the db of the snapshot at `index` waits to be installed.
pub fn received_db(snap_dir: &Path, index: Index) -> PathBuf {
    snap_dir.join(format!("{:016x}.snap.db", index.0))
}

/// The file being received. Dropped before [`IncomingDb::finish`], it is removed.
pub struct IncomingDb {
    disk: Arc<dyn Disk>,
    snap_dir: PathBuf,
    temporary: PathBuf,
    target: PathBuf,
    file: Option<Box<dyn File>>,
    written: u64,
    /// What `written` was when the disk's room was last looked at.
    looked: Option<u64>,
    /// What the db must be of, if anybody looks at it.
    of: Option<Index>,
    counting: Option<Counting>,
}

/// Where it is counted how long a db took.
struct Counting {
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    begun: Duration,
}

impl IncomingDb {
    /// Makes the file. `serial` tells those that arrive at the same time apart.
    ///
    /// # Errors
    /// When the disk fails, or the same one is being received.
    pub fn create(
        disk: Arc<dyn Disk>,
        snap_dir: PathBuf,
        index: Index,
        serial: u64,
    ) -> io::Result<IncomingDb> {
        // A start removes what begins like this.
        let temporary = snap_dir.join(format!("tmp.{:016x}.{serial}", index.0));
        let target = received_db(&snap_dir, index);
        let file = disk.open(&temporary, OpenMode::CreateNew)?;
        let file = Some(file);
        let (written, looked, of, counting) = (0, None, None, None);
        Ok(IncomingDb { disk, snap_dir, temporary, target, file, written, looked, of, counting })
    }

    /// Lets [`IncomingDb::finish`] look at every page and row before the file gets its name:
    /// what is installed ends the member when it cannot be read.
    pub(crate) fn verified(mut self, of: Index) -> IncomingDb {
        self.of = Some(of);
        self
    }

    /// Counts from now on how long it takes.
    pub(crate) fn counted(mut self, clock: Arc<dyn Clock>, stats: Arc<Stats>) -> IncomingDb {
        let begun = clock.now();
        self.counting = Some(Counting { clock, stats, begun });
        self
    }

    /// Appends bytes. Blocks as long as the disk does.
    ///
    /// # Errors
    /// When the disk fails, is full, or would be nearly so.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.looked.is_none_or(|looked| self.written - looked >= LOOK_EVERY_BYTES) {
            self.looked = Some(self.written);
            self.check_room()?;
        }
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.write_at(self.written, bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Nobody says how long a file will be: it must not take the room of the log.
    fn check_room(&self) -> io::Result<()> {
        let room = self.disk.room(&self.snap_dir)?;
        let left = PEER_SNAPSHOT_ROOM_LEFT_BYTES.min(room.total / RESERVE_SHARE);
        if room.free < left + LOOK_EVERY_BYTES {
            let text = format!("it would leave less than {left} bytes on the disk");
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        Ok(())
    }

    /// Whether it is a sound db, and of the entry that it should be.
    fn verify(&self, of: Index) -> io::Result<()> {
        let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        mainstay_backup::verify(&*self.disk, &self.temporary).map_err(|e| wrong(e.to_string()))?;
        let told = |e: mainstay_bolt::Error| wrong(e.to_string());
        let reader = mainstay_bolt::Reader::open(&*self.disk, &self.temporary).map_err(told)?;
        let row = reader.get(Bucket::Meta.name(), meta::CONSISTENT_INDEX).map_err(told)?;
        let found = row.and_then(|row| Some(u64::from_be_bytes(*row.first_chunk()?)));
        if found != Some(of.0) {
            let found = found.unwrap_or_default();
            return Err(wrong(format!("it is of entry {found}, and its message of {of}")));
        }
        Ok(())
    }

    /// How many bytes have arrived.
    pub fn len(&self) -> u64 {
        self.written
    }

    /// Whether none have.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Syncs the file and gives it its name. Blocks as long as the disk does.
    ///
    /// # Errors
    /// When the disk fails, or it is not what it should be; the file is removed then.
    pub fn finish(mut self) -> io::Result<()> {
        let counting = self.counting.take();
        let before = counting.as_ref().map(|counting| counting.clock.now());
        if let Some(file) = &self.file {
            file.sync()?;
        }
        if let Some((Counting { clock, stats, begun }, before)) = counting.as_ref().zip(before) {
            let now = clock.now();
            stats.snap_db_fsync.observe(now.saturating_sub(before));
            stats.snap_db_save.observe(now.saturating_sub(*begun));
        }
        if let Some(of) = self.of {
            self.verify(of)?;
        }
        self.disk.rename(&self.temporary, &self.target)?;
        self.file = None;
        self.disk.sync_dir(&self.snap_dir)
    }
}

impl Drop for IncomingDb {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What stays is removed by the next start.
            let _ = self.disk.remove_file(&self.temporary);
        }
    }
}
