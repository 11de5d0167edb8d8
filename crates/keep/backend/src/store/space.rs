//! Giving space back: beside the traffic, or by a rewritten file.

use std::io;

use mainstay_bolt::{Bolt, Goal, Options, Shrinking, write_compacted};
use mainstay_failpoints::{fail_point, fail_value};

use super::{Backend, BackendError, CommitStats, bolt_options, fail, folder_of, key_bucket};

/// The name of a rewritten file on its way, as etcd has it.
const DEFRAGMENTED: &str = "db.tmp.0";

impl Backend {
    /// Begins to shrink the file beside everything else: each [`Backend::commit_moving`] goes on
    /// with it. What was begun before is replaced.
    ///
    /// # Errors
    /// When the file was exchanged and could not be taken up.
    pub fn shrink(&self, goal: Goal) -> Result<(), BackendError> {
        self.open_writer(&mut self.0.writer.lock())?.shrink(goal);
        Ok(())
    }

    /// How far that is. Cuts from the file what nothing reaches any more.
    ///
    /// # Errors
    /// When the disk fails; nothing more can be committed then.
    pub fn shrinking(&self) -> Result<Shrinking, BackendError> {
        Ok(self.open_writer(&mut self.0.writer.lock())?.shrinking()?)
    }

    /// Why the shrinking ended before its time, once: a damaged page, which is left where it is
    /// for reads to complain about.
    pub fn shrinking_failed(&self) -> Option<BackendError> {
        self.0.writer.lock().as_mut()?.shrinking_failed().map(BackendError::Bolt)
    }

    /// [`Backend::commit`], which also moves about `bytes` of the file while it is being shrunk,
    /// and may write when nothing was appended.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    pub fn commit_moving(&self, bytes: u64) -> Result<CommitStats, BackendError> {
        let mut writer = self.0.writer.lock();
        self.commit_locked(self.open_writer(&mut writer)?, bytes)
    }

    /// Rewrites the file without its free pages and goes on with the new one. Appends
    /// and reads go on meanwhile; commits wait. Views keep reading the old file. For a start:
    /// beside traffic a file is [shrunk](Backend::shrink).
    ///
    /// # Errors
    /// When the disk fails. Until the rename the old file is the one in use; when
    /// something fails after it, nothing more can be committed: what went into the old
    /// file would be lost with it.
    pub fn defragment(&self) -> Result<(), BackendError> {
        let mut writer = self.0.writer.lock();
        let bolt = self.open_writer(&mut writer)?;
        self.commit_locked(bolt, 0)?;
        let reader = bolt.reader();
        let inner = &*self.0;
        let next = inner.path.with_file_name(DEFRAGMENTED);
        if inner.disk.metadata(&next).map_err(|e| fail("look for", &next, e))?.is_some() {
            inner.disk.remove_file(&next).map_err(|e| fail("remove", &next, e))?;
        }
        // What a test says went wrong is told as a lack of room is: the old file stays.
        let injected =
            |text| fail("write", &next, io::Error::new(io::ErrorKind::StorageFull, text));
        if let Some(text) = fail_value!("defragOpenFileError") {
            return Err(injected(text));
        }
        fail_point!("defragBeforeCopy");
        let options = Options { page_size: reader.page_size(), ..bolt_options(&inner.options) };
        write_compacted(&reader, &*inner.disk, &next, options)?;
        if let Some(text) = fail_value!("defragdbFail") {
            return Err(injected(text));
        }
        fail_point!("defragBeforeRename");
        inner.forget_sums()?;
        inner.disk.rename(&next, &inner.path).map_err(|e| fail("rename", &next, e))?;
        // From here on the old file has no name.
        *writer = None;
        let folder = folder_of(&inner.path);
        inner.disk.sync_dir(folder).map_err(|e| fail("sync", folder, e))?;
        let (options, sums) = (bolt_options(&inner.options), inner.options.sums_at(&inner.disk));
        let visit = &mut |_: &[u8], _: &[u8]| {};
        let bolt = Bolt::open_summed(&*inner.disk, &inner.path, options, sums, b"", visit)?;
        inner.tell_of_damage(&bolt);
        let reader = bolt.reader();
        let keys = key_bucket(&reader)?;
        inner.sizes.set(&reader);
        let mut front = inner.front.lock();
        front.reader = reader;
        front.keys = keys;
        *writer = Some(bolt);
        Ok(())
    }
}
