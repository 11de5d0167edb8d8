//! Writing the pages of one commit: neighbours in one call, room before bytes.

use std::io::ErrorKind;

use crate::error::{Error, Result};
use crate::page::{Elem, Kind, Page, encode};
use crate::pager::Pager;
use crate::sums::sum;

/// Bytes gathered before they are written: large enough that the call costs nothing next to
/// the bytes, small enough not to matter in memory.
const WRITE_BYTES: usize = 1 << 20;
/// Step by which a file grows once it is this long (bbolt, `DefaultAllocSize`).
const GROW_BYTES: u64 = 16 << 20;
/// But by no larger part of its length: a file that was shrunk stays small.
const GROW_PART: u64 = 16;
/// Shortest length given to a file (bbolt's smallest map).
const LENGTH_MIN: u64 = 32 << 10;

/// The pages of one commit on their way to the file.
pub(crate) struct Output<'a> {
    pager: &'a Pager,
    /// Length of the file, known room included.
    file_len: &'a mut u64,
    /// Set when a write fails: what the file holds is unknown from then on.
    stopped: &'a mut bool,
    /// Pages side by side, the first of which is `first`.
    buf: Vec<u8>,
    first: u64,
    pub(crate) pages: u64,
    /// Sums of what was written: first page, and one for each.
    pub(crate) sums: Vec<(u64, Vec<u32>)>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(pager: &'a Pager, file_len: &'a mut u64, stopped: &'a mut bool) -> Self {
        Self { pager, file_len, stopped, buf: Vec::new(), first: 0, pages: 0, sums: Vec::new() }
    }

    /// Encodes a node into `pages` pages from `id` on. A branch is returned, to be kept.
    pub(crate) fn node(
        &mut self,
        kind: Kind,
        id: u64,
        pages: u64,
        elems: &[Elem],
    ) -> Result<Option<Page>> {
        let size = self.pager.page_size;
        let next = self.first + (self.buf.len() / size) as u64;
        if next != id || self.buf.len() >= WRITE_BYTES {
            self.flush()?;
            self.first = id;
        }
        let start = self.buf.len();
        let overflow = u32::try_from(pages - 1).expect("a node is shorter than 4 GiB");
        encode(kind, id, overflow, elems, &mut self.buf);
        self.buf.resize(start + pages as usize * size, 0);
        self.pages += pages;
        if kind == Kind::Leaf {
            return Ok(None);
        }
        let bytes = bytes::Bytes::copy_from_slice(&self.buf[start..]);
        // A branch that cannot be read back must not reach the file.
        Ok(Some(Page::parse(id, bytes).expect("a page just encoded is well formed")))
    }

    /// Writes what is gathered.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.buf.is_empty() {
            return Ok(());
        }
        let at = self.pager.offset(self.first);
        self.grow(at + self.buf.len() as u64)?;
        let written = self.pager.file.write_at(at, &self.buf);
        let doing = || format!("write of {} bytes at offset {at}", self.buf.len());
        if let Err(source) = written {
            *self.stopped = true;
            return Err(self.pager.disk(doing(), source));
        }
        let pages = self.buf.chunks_exact(self.pager.page_size);
        let sums: Vec<u32> = (self.first..).zip(pages).map(|(id, page)| sum(id, page)).collect();
        (self.first..).zip(&sums).for_each(|(id, sum)| self.pager.sums.set(id, *sum));
        self.sums.push((self.first, sums));
        self.buf.clear();
        Ok(())
    }

    /// Makes room up to `end`, in steps, before anything is written there.
    fn grow(&mut self, end: u64) -> Result<()> {
        if end <= *self.file_len {
            return Ok(());
        }
        let size = self.pager.page_size as u64;
        let len = match end {
            small if small < GROW_BYTES => small.next_power_of_two().max(LENGTH_MIN),
            large => (large + GROW_BYTES.min(large / GROW_PART)).next_multiple_of(size),
        };
        self.pager.file.allocate(len).map_err(|source| match source.kind() {
            // Nothing was written: the same commit may be tried again.
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Error::Full { path: self.pager.path.clone(), bytes: len, source }
            }
            _ => {
                *self.stopped = true;
                self.pager.disk(format!("allocation of {len} bytes"), source)
            }
        })?;
        *self.file_len = len;
        Ok(())
    }
}
