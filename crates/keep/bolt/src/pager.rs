//! Reading pages: positioned reads, checks, and the branch pages kept in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mainstay_env::File;
use parking_lot::{Mutex, RwLock};

use crate::error::{Error, Result};
use crate::page::{HEADER, Header, Kind, Page, View};
use crate::sums::{Sums, UNKNOWN, differs, sum};

/// Shards of the branch cache, so that readers on several threads do not queue for one lock.
const SHARDS: usize = 16;

/// Told of every damaged page that is met, with the error that whoever asked is given, on the thread
/// that met it.
pub type OnDamage = Arc<dyn Fn(&Error) + Send + Sync>;

/// The file, and what its writer and all readers share.
pub(crate) struct Pager {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn File>,
    pub(crate) page_size: usize,
    /// Branch pages by id. An id is immutable while any reader can reach it; the writer evicts
    /// it when the page becomes free, which is before it can be written again.
    branches: [RwLock<BTreeMap<u64, Page>>; SHARDS],
    pub(crate) readers: Mutex<Live>,
    /// What the pages that any snapshot reaches must be.
    pub(crate) sums: Sums,
    pub(crate) on_damage: OnceLock<OnDamage>,
}

/// Live snapshots by transaction id.
pub(crate) type Live = BTreeMap<u64, Pins>;

/// The live snapshots of one transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pins {
    /// How many there are.
    pub(crate) count: usize,
    /// Pages of the file as they see it: it is not cut below.
    pub(crate) high_water: u64,
}

impl Pager {
    pub(crate) fn new(path: PathBuf, file: Box<dyn File>, page_size: usize, sums: Sums) -> Self {
        Self {
            path,
            file,
            page_size,
            branches: Default::default(),
            readers: Mutex::new(BTreeMap::new()),
            sums,
            on_damage: OnceLock::new(),
        }
    }

    fn shard(&self, id: u64) -> &RwLock<BTreeMap<u64, Page>> {
        &self.branches[(id % SHARDS as u64) as usize]
    }

    /// Keeps a branch page that was just written, replacing what had its id.
    pub(crate) fn keep(&self, page: Page) {
        assert!(page.kind == Kind::Branch, "only branch pages are kept");
        self.shard(page.id).write().insert(page.id, page);
    }

    /// Forgets pages that nobody can reach any more, before they can be written again.
    pub(crate) fn evict(&self, first: u64, pages: u64) {
        self.sums.clear(first, pages);
        for id in first..first + pages {
            self.shard(id).write().remove(&id);
        }
    }

    /// Byte offset of a page.
    pub(crate) fn offset(&self, id: u64) -> u64 {
        // Ids are checked against the high water mark, whose product fits; a wild id in an
        // error message may not.
        id.saturating_mul(self.page_size as u64)
    }

    /// An error about one page.
    pub(crate) fn damaged(&self, page: u64, expected: impl Into<String>) -> Error {
        let error = Error::Damaged {
            path: self.path.clone(),
            page,
            offset: self.offset(page),
            expected: expected.into(),
        };
        if let Some(tell) = self.on_damage.get() {
            tell(&error);
        }
        error
    }

    /// An error of the disk.
    pub(crate) fn disk(&self, doing: impl Into<String>, source: io::Error) -> Error {
        Error::Disk { path: self.path.clone(), doing: doing.into(), source }
    }

    /// Reads exactly `buf.len()` bytes from the start of page `id`.
    pub(crate) fn read_raw(&self, id: u64, buf: &mut [u8]) -> Result<()> {
        let at = self.offset(id);
        self.file
            .read_exact_at(at, buf)
            .map_err(|e| self.disk(format!("read of {} bytes at offset {at}", buf.len()), e))
    }

    /// Compares pages from `first` on, which the asker's snapshot reaches, with their sums.
    pub(crate) fn verify(&self, first: u64, bytes: &[u8]) -> Result<()> {
        for (id, page) in (first..).zip(bytes.chunks_exact(self.page_size)) {
            let expected = self.sums.get(id);
            if expected == UNKNOWN {
                continue;
            }
            let found = sum(id, page);
            if found != expected {
                return Err(self.damaged(id, differs(expected, found)));
            }
        }
        Ok(())
    }

    /// Reads whole pages from `first` on, any of which may be free: one that differs from its sum
    /// is damaged only if it was not written meanwhile. The asker's snapshot ends behind them.
    pub(crate) fn read_stable(&self, first: u64, buf: &mut [u8]) -> Result<()> {
        let pages = (buf.len() / self.page_size) as u64;
        let before: Vec<u32> = (first..first + pages).map(|id| self.sums.get(id)).collect();
        self.read_raw(first, buf)?;
        for ((id, page), expected) in (first..).zip(buf.chunks_exact(self.page_size)).zip(before) {
            if expected == UNKNOWN {
                continue;
            }
            let found = sum(id, page);
            if found != expected && self.sums.get(id) == expected {
                return Err(self.damaged(id, differs(expected, found)));
            }
        }
        Ok(())
    }

    /// Checks that a node lies below the high water mark and behind the metas.
    pub(crate) fn check_span(&self, id: u64, overflow: u32, high_water: u64) -> Result<()> {
        let end = id.saturating_add(u64::from(overflow));
        if id < 2 || end >= high_water {
            let expected = format!("pages 2 to {high_water} expected, {id} to {end} named");
            return Err(self.damaged(id, expected));
        }
        Ok(())
    }

    /// A branch page in memory.
    pub(crate) fn kept(&self, id: u64) -> Option<Page> {
        self.shard(id).read().get(&id).cloned()
    }

    /// The checked branch or leaf page `id`, from memory when it is a branch seen before.
    pub(crate) fn page(&self, id: u64, high_water: u64) -> Result<Page> {
        if let Some(page) = self.kept(id) {
            return Ok(page);
        }
        let page = self.page_from_disk(id, high_water)?;
        self.keep_branch(&page);
        Ok(page)
    }

    fn keep_branch(&self, page: &Page) {
        if page.kind == Kind::Branch {
            self.shard(page.id).write().insert(page.id, page.clone());
        }
    }

    /// The checked page `id` as the disk has it now.
    pub(crate) fn page_from_disk(&self, id: u64, high_water: u64) -> Result<Page> {
        self.check_span(id, 0, high_water)?;
        let mut buf = vec![0; self.page_size];
        self.read_raw(id, &mut buf)?;
        self.verify(id, &buf)?;
        self.complete(id, high_water, &mut buf)?;
        Page::parse(id, Bytes::from(buf)).map_err(|expected| self.damaged(id, expected))
    }

    /// Reads the overflow pages of the node whose first page `buf` holds.
    pub(crate) fn complete(&self, id: u64, high_water: u64, buf: &mut Vec<u8>) -> Result<()> {
        let header = Header::read(&buf[..HEADER]).expect("a page is longer than its header");
        if header.overflow == 0 {
            return Ok(());
        }
        // Other checks follow; these two must hold before the number is used as a length.
        if header.id != id {
            return Err(self.damaged(id, format!("page id {id} expected, {} found", header.id)));
        }
        self.check_span(id, header.overflow, high_water)?;
        buf.resize(self.page_size * (header.overflow as usize + 1), 0);
        self.read_raw(id + 1, &mut buf[self.page_size..])?;
        self.verify(id + 1, &buf[self.page_size..])
    }

    /// Child `i` of a branch, checked against the branch's keys.
    pub(crate) fn child(&self, parent: &Page, i: usize, high_water: u64) -> Result<Page> {
        let id = parent.view().child(i);
        // A branch in memory was checked when it was read, or is our own.
        if let Some(page) = self.kept(id) {
            return Ok(page);
        }
        let page = self.page_from_disk(id, high_water)?;
        self.check_place(&page.view(), id, &parent.view(), i)?;
        self.keep_branch(&page);
        Ok(page)
    }

    /// Checks a child against the keys around its place in the parent.
    pub(crate) fn check_place(
        &self,
        view: &View<'_>,
        id: u64,
        parent: &View<'_>,
        i: usize,
    ) -> Result<()> {
        view.check_place(parent, i).map_err(|expected| self.damaged(id, expected))
    }
}
