//! Checksums of pages, in memory: the format itself has none.
//!
//! One table serves the writer and every snapshot, because a page that a live
//! snapshot reaches is never written. Its entries follow a page's life:
//!
//! - *unknown* while the page is free: entries are cleared when a page is let
//!   go, which is after its last reader and before it can be written again;
//! - *known* from the moment its bytes are in the file, which is before the
//!   snapshot exists that reaches it;
//! - so a page that is reached has the sum of what was written to it, by whoever
//!   asks and at whatever transaction; and whoever reads bytes of pages that may
//!   be free (a copy of the whole file, a scrub) sees the entry change when they
//!   were written meanwhile.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Nothing is known of the page.
pub(crate) const UNKNOWN: u32 = 0;

/// Entries of the first chunk; each one behind it has twice as many.
const FIRST: u64 = 1 << 10;
/// Chunks. Pages behind them (2^41) are in no file, and stay unknown.
const CHUNKS: usize = 32;

/// The sum of a page, never [`UNKNOWN`]. Its id is part of it, so that the bytes of another page
/// do not fit.
pub(crate) fn sum(id: u64, page: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), page).max(1)
}

/// Sums by page id, without a lock.
#[derive(Default)]
pub(crate) struct Sums {
    chunks: [OnceLock<Box<[AtomicU32]>>; CHUNKS],
}

impl Sums {
    /// Chunk, its length, and the place in it.
    fn place(id: u64) -> Option<(usize, u64, usize)> {
        let at = id.checked_add(FIRST)?;
        let top = 1 << at.ilog2();
        let chunk = (top / FIRST).ilog2() as usize;
        (chunk < CHUNKS).then_some((chunk, top, (at - top) as usize))
    }

    /// The sum of a page, or [`UNKNOWN`].
    pub(crate) fn get(&self, id: u64) -> u32 {
        let Some((chunk, _, at)) = Self::place(id) else { return UNKNOWN };
        self.chunks[chunk].get().map_or(UNKNOWN, |sums| sums[at].load(Ordering::Acquire))
    }

    /// Enters what a page that was written has.
    pub(crate) fn set(&self, id: u64, sum: u32) {
        let Some((chunk, len, at)) = Self::place(id) else { return };
        let make = || (0..len).map(|_| AtomicU32::new(UNKNOWN)).collect();
        self.chunks[chunk].get_or_init(make)[at].store(sum, Ordering::Release);
    }

    /// Forgets pages that are free from now on.
    pub(crate) fn clear(&self, first: u64, pages: u64) {
        for id in first..first.saturating_add(pages) {
            let Some((chunk, _, at)) = Self::place(id) else { return };
            if let Some(sums) = self.chunks[chunk].get() {
                sums[at].store(UNKNOWN, Ordering::Release);
            }
        }
    }
}

/// What a page should have been and was.
pub(crate) fn differs(expected: u32, found: u32) -> String {
    format!("checksum {expected:08x} expected, {found:08x} found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_its_own_place() {
        let sums = Sums::default();
        let ids = [0, 1, 2, 1023, 1024, 3071, 3072, 100_000, (1 << 20) + 1, u64::MAX, 1 << 60];
        let entry = |id: u64| (id as u32).wrapping_mul(7) | 1;
        assert!(ids.iter().all(|id| sums.get(*id) == UNKNOWN));
        ids.iter().for_each(|id| sums.set(*id, entry(*id)));
        for id in ids {
            let expected = if id < 1 << 40 { entry(id) } else { UNKNOWN };
            assert_eq!(sums.get(id), expected, "page {id}");
        }
        sums.clear(1023, 2);
        assert_eq!((sums.get(1023), sums.get(1024)), (UNKNOWN, UNKNOWN));
        assert_ne!(sums.get(3071), UNKNOWN);
    }

    #[test]
    fn the_page_number_is_part_of_the_sum() {
        let page = [7; 4096];
        assert_ne!(sum(2, &page), sum(3, &page));
        let mut flipped = page;
        flipped[4095] ^= 0x80;
        assert_ne!(sum(2, &page), sum(2, &flipped));
    }
}
