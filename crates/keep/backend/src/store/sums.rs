//! Checksums of pages: what became of them, and looking at all of them.

use std::sync::Arc;

use mainstay_bolt::{Scrubbed, SumsAt, SumsFound};
use mainstay_env::Disk;

use super::{Backend, BackendError, Inner, OpenOptions};

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
    /// Another file takes the place of the one that they belong to. They would be found not to
    /// fit; so nobody has to rely on that.
    pub(super) fn forget_sums(&self) {
        if let Some(place) = &self.options.sums {
            // Not there, or found not to fit.
            let _ = self.disk.remove_file(&place.path);
        }
    }
}

impl Backend {
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

    /// Compares about `most` pages from `from` on with their checksums, beside everything else.
    ///
    /// # Errors
    /// When the disk fails, or with the first page that is damaged.
    pub fn scrub(&self, from: u64, most: u64) -> Result<Scrubbed, BackendError> {
        Ok(self.snapshot().reader.scrub(from, most)?)
    }
}
