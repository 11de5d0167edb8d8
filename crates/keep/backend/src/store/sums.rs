//! Checksums of pages: what became of them, and looking at all of them.

use std::sync::Arc;

use mainstay_bolt::{Bolt, OnDamage, Scrubbed, SumsAt, SumsFound};
use mainstay_env::Disk;

use super::{Backend, BackendError, Inner, OpenOptions, SumsPlace, fail, folder_of};

impl OpenOptions {
    pub(super) fn sums_at(&self, disk: &Arc<dyn Disk>) -> Option<SumsAt> {
        let place = self.sums.as_ref()?;
        Some(SumsAt {
            disk: Arc::clone(disk),
            path: place.path.clone(),
            cluster: place.cluster.0,
            member: place.member.0,
        })
    }
}

impl Inner {
    /// Another file is about to take the place of the one that they belong to. It has other
    /// transactions, but a rewritten file begins to count anew, and so may come to look like the one
    /// that was rewritten before it: they are gone for good when this returns.
    pub(super) fn forget_sums(&self) -> Result<(), BackendError> {
        let Some(SumsPlace { path, .. }) = &self.options.sums else { return Ok(()) };
        if self.disk.metadata(path).map_err(|e| fail("look for", path, e))?.is_none() {
            return Ok(());
        }
        self.disk.remove_file(path).map_err(|e| fail("remove", path, e))?;
        let folder = folder_of(path);
        self.disk.sync_dir(folder).map_err(|e| fail("sync", folder, e))
    }
}

impl Inner {
    pub(super) fn tell_of_damage(&self, bolt: &Bolt) {
        if let Some(tell) = self.on_damage.get() {
            bolt.on_damage(Arc::clone(tell));
        }
    }
}

impl Backend {
    /// Has `tell` told of every damaged page that is met from now on, by whomever, on the thread
    /// that met it and with the error that it is given. It must not ask the backend anything. The
    /// first such call counts.
    pub fn on_damage(&self, tell: OnDamage) {
        // A second one changes nothing.
        let _ = self.0.on_damage.set(tell);
        if let Some(bolt) = self.0.writer.lock().as_ref() {
            self.0.tell_of_damage(bolt);
        }
    }

    /// What the last opening of the file found of the checksums of its pages.
    pub fn sums_found(&self) -> SumsFound {
        let writer = self.0.writer.lock();
        writer.as_ref().map(|bolt| bolt.sums_found().clone()).unwrap_or_default()
    }

    /// Why checksums could not be kept lately, once. The file itself is not concerned: they are
    /// tried again later, and dropped by the next start if that is sooner.
    pub fn sums_failed(&self) -> Option<String> {
        self.0.writer.lock().as_mut()?.sums_failed()
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> u64 {
        self.snapshot().reader.page_size() as u64
    }

    /// Compares about `most` pages from `from` on with their checksums, beside everything else.
    ///
    /// # Errors
    /// When the disk fails, or with the first page that is damaged.
    pub fn scrub(&self, from: u64, most: u64) -> Result<Scrubbed, BackendError> {
        Ok(self.snapshot().reader.scrub(from, most)?)
    }
}
