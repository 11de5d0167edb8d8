//! Bytes of a file as sparse pages that copies share.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one page.
pub(crate) const PAGE: u64 = 4096;

pub(crate) type Page = [u8; PAGE as usize];

/// Bytes of a file. A page that is absent reads as zeros; a clone shares pages
/// until one side writes to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Pages {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Pages {
        let mut pages = Pages::default();
        pages.write(0, bytes);
        pages
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads what is there; returns how many bytes that was.
    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) -> usize {
        let wanted = (buf.len() as u64).min(self.len.saturating_sub(at)) as usize;
        for (page, within, part) in parts(at, wanted) {
            match self.pages.get(&page) {
                Some(bytes) => buf[part.clone()].copy_from_slice(&bytes[within..][..part.len()]),
                None => buf[part].fill(0),
            }
        }
        wanted
    }

    /// Writes, extending the file when needed. Answers the pages when these are whole ones,
    /// so that others can share them.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Option<Vec<Arc<Page>>> {
        self.len = self.len.max(at + bytes.len() as u64);
        if at.is_multiple_of(PAGE) && (bytes.len() as u64).is_multiple_of(PAGE) {
            let whole = bytes.chunks_exact(PAGE as usize);
            let pages: Vec<Arc<Page>> =
                whole.map(|page| Arc::new(page.try_into().expect("chunks of a page"))).collect();
            self.pages.extend((at / PAGE..).zip(pages.iter().cloned()));
            return Some(pages);
        }
        for (page, within, part) in parts(at, bytes.len()) {
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[within..][..part.len()].copy_from_slice(&bytes[part]);
        }
        None
    }

    /// Writes whole pages, from `first` on, extending the file when needed.
    pub(crate) fn take(&mut self, first: u64, pages: Vec<Arc<Page>>) {
        self.len = self.len.max((first + pages.len() as u64) * PAGE);
        self.pages.extend((first..).zip(pages));
    }

    /// Cuts or extends with zeros.
    pub(crate) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            let within = (len % PAGE) as usize;
            if within > 0
                && let Some(page) = self.pages.get_mut(&(len / PAGE))
            {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// All bytes, zeros included.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }
}

/// Splits `len` bytes at `at` by page: (page, offset in it, range of the bytes).
fn parts(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = at + done as u64;
        let within = (position % PAGE) as usize;
        let part = done..len.min(done + PAGE as usize - within);
        done = part.end;
        Some((position / PAGE, within, part))
    })
}
