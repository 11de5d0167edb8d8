//! Looking at pages that nobody asks for, so that damage is found while there are others to mend
//! it from.

use std::path::Path;

use mainstay_env::{Disk, OpenMode};

use crate::Reader;
use crate::error::{Error, Result};
use crate::ledger::{self, Identity, SumsAt, SumsFound};
use crate::meta;
use crate::sums::UNKNOWN;

/// Pages read at once.
const RUN_PAGES: u64 = 64;

/// What [`Reader::scrub`] looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Pages that were compared with their sums.
    pub pages: u64,
    /// Where to go on; `None` at the end of the file.
    pub next: Option<u64>,
}

impl Reader {
    /// Compares pages from `from` on with their sums, as the disk has them now: `most` of them at
    /// most, and all that any snapshot reaches. Pages that were written meanwhile are not judged.
    ///
    /// # Errors
    /// [`Error::Damaged`] names the first page that differs; it may be gone on behind that.
    pub fn scrub(&self, from: u64, most: u64) -> Result<Scrubbed> {
        let (pager, end) = (self.pager(), self.meta().high_water);
        let known = |id: &u64| pager.sums.get(*id) != UNKNOWN;
        let mut pages = 0;
        let mut at = from.max(2);
        let mut buf = Vec::new();
        while pages < most {
            let Some(first) = (at..end).find(known) else {
                return Ok(Scrubbed { pages, next: None });
            };
            let longest = end.min(first + RUN_PAGES.min(most - pages));
            let run = (first..longest).take_while(known).count();
            if run == 0 {
                // It was let go meanwhile.
                at = first + 1;
                continue;
            }
            buf.resize(run * pager.page_size, 0);
            pager.read_stable(first, &mut buf)?;
            pages += run as u64;
            at = first + run as u64;
        }
        Ok(Scrubbed { pages, next: Some(at) })
    }

    /// What is wrong with the bytes of a page and those behind it, as their sums know it; `None`
    /// when they are right, or nothing is known. For who reads pages by other means.
    #[must_use]
    pub fn compare(&self, first: u64, bytes: &[u8]) -> Option<String> {
        match self.pager().verify(first, bytes) {
            Err(Error::Damaged { page, expected, .. }) => Some(format!("page {page}: {expected}")),
            _ => None,
        }
    }

    /// As [`Reader::open`], with the page sums that a member keeps of this file, when they fit.
    ///
    /// # Errors
    /// As [`Reader::open`], and when the newest meta page is lost.
    pub fn open_summed(disk: &dyn Disk, path: &Path, sums: &SumsAt) -> Result<(Self, SumsFound)> {
        let file = disk.open(path, OpenMode::Read).map_err(|source| Error::Disk {
            path: path.to_owned(),
            doing: "open".into(),
            source,
        })?;
        let meta = meta::choose(&*file, path)?;
        let identity = Identity::new(&meta, meta::other(&*file, &meta).as_ref());
        let kept = ledger::kept(Some(sums), &meta, identity, path)?;
        Ok((Self::of_file(path, file, meta, kept.sums), kept.found))
    }
}
