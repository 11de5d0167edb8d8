//! A db file on its way in, from the leader.
//!
//! Its bytes are on the disk, synced and under their final name, before raft sees the
//! message they came with (disk.md 3; etcd, `snap.SaveDBFrom`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mainstay_env::{Clock, Disk, File, OpenMode};
use mainstay_types::Index;

use crate::stats::Stats;

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
        Ok(IncomingDb { disk, snap_dir, temporary, target, file, written: 0, counting: None })
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
    /// When the disk fails or is full.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.write_at(self.written, bytes)?;
        self.written += bytes.len() as u64;
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
    /// When the disk fails; the file is removed then.
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
