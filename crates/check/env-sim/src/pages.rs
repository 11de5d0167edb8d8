//! Bytes of a file as sparse pages that copies share.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one page.
pub(crate) const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

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

    /// Writes, extending the file when needed.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len = self.len.max(at + bytes.len() as u64);
        for (page, within, part) in parts(at, bytes.len()) {
            if let Ok(whole) = <Page>::try_from(&bytes[part.clone()]) {
                self.pages.insert(page, Arc::new(whole));
                continue;
            }
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[within..][..part.len()].copy_from_slice(&bytes[part]);
        }
    }

    /// Makes a write that `other` has made: whole pages are shared, and of others only the
    /// bytes are copied, so that neither side has to copy the page at its next write.
    /// What `other` did to whole pages since comes with them.
    pub(crate) fn follow(&mut self, other: &Pages, at: u64, bytes: &[u8]) {
        self.len = self.len.max(at + bytes.len() as u64);
        for (page, within, part) in parts(at, bytes.len()) {
            match other.pages.get(&page) {
                Some(theirs) if part.len() == PAGE as usize => {
                    self.pages.insert(page, Arc::clone(theirs));
                }
                _ => {
                    let page =
                        self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize]));
                    Arc::make_mut(page)[within..][..part.len()].copy_from_slice(&bytes[part]);
                }
            }
        }
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
