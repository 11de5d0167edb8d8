//! The two meta pages: which state is current.

use std::path::Path;

use bytes::BufMut;
use mainstay_env::File;

use crate::error::{Error, MetaFault, Result};
use crate::page::{HEADER, Header, META, u32_at, u64_at};

/// First four bytes of a meta (bbolt, `Magic`).
const MAGIC: u32 = 0xED0C_DAED;
/// Format version (bbolt, `Version`).
const VERSION: u32 = 2;
/// Bytes of a meta, checksum included.
const META_BYTES: usize = 64;
/// Free list page id that says "not stored" (bbolt, `PgidNoFreelist`).
pub(crate) const NO_FREELIST: u64 = u64::MAX;
/// Page sizes at which meta page 1 is looked for when page 0 is bad: 1024 << 0..=14 (bbolt).
const PAGE_SIZE_SHIFTS: u32 = 15;

/// One state of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    /// Root page of the bucket of buckets.
    pub(crate) root: u64,
    pub(crate) sequence: u64,
    pub(crate) freelist: u64,
    /// First page id that was never used.
    pub(crate) high_water: u64,
    pub(crate) txid: u64,
}

impl Meta {
    /// Reads the meta that follows the page header in `page`.
    pub(crate) fn read(page: &[u8]) -> std::result::Result<Self, MetaFault> {
        let bytes = page.get(HEADER..HEADER + META_BYTES).ok_or(MetaFault::Invalid)?;
        if u32_at(bytes, 0) != MAGIC {
            return Err(MetaFault::Invalid);
        }
        if u32_at(bytes, 4) != VERSION {
            return Err(MetaFault::Version);
        }
        if u64_at(bytes, 56) != fnv1a(&bytes[..56]) {
            return Err(MetaFault::Checksum);
        }
        Ok(Self {
            page_size: u32_at(bytes, 8),
            root: u64_at(bytes, 16),
            sequence: u64_at(bytes, 24),
            freelist: u64_at(bytes, 32),
            high_water: u64_at(bytes, 40),
            txid: u64_at(bytes, 48),
        })
    }

    /// The whole page with this meta, to be written as page `id`.
    pub(crate) fn page(&self, id: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.page_size as usize);
        Header { id, flags: META, count: 0, overflow: 0 }.write(&mut out);
        out.put_u32_le(MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.page_size);
        out.put_u32_le(0);
        out.put_u64_le(self.root);
        out.put_u64_le(self.sequence);
        out.put_u64_le(self.freelist);
        out.put_u64_le(self.high_water);
        out.put_u64_le(self.txid);
        let sum = fnv1a(&out[HEADER..]);
        out.put_u64_le(sum);
        out.resize(self.page_size as usize, 0);
        out
    }

    /// Its checksum, as it stands in its page.
    pub(crate) fn sum(&self) -> u64 {
        u64_at(&self.page(self.slot()), HEADER + META_BYTES - 8)
    }

    /// The page id that this meta is written to.
    pub(crate) fn slot(&self) -> u64 {
        self.txid % 2
    }

    /// What no valid checksum excuses: a page size, root or end that cannot be.
    fn check(&self, path: &Path, file_len: u64) -> Result<()> {
        let damaged = |expected: String| Error::Damaged {
            path: path.to_owned(),
            page: self.slot(),
            offset: self.slot() * u64::from(self.page_size),
            expected,
        };
        let size = u64::from(self.page_size);
        if !self.page_size.is_power_of_two() || !(1024..=1024 << 14).contains(&self.page_size) {
            return Err(damaged(format!("page size {size} is not a power of two from 1 KiB")));
        }
        if self.high_water < 2 || self.high_water.checked_mul(size).is_none_or(|n| n > file_len) {
            let pages = self.high_water;
            return Err(damaged(format!("{pages} pages of {size} bytes, {file_len} bytes there")));
        }
        if self.root < 2 || self.root >= self.high_water {
            return Err(damaged(format!("root page {} of {}", self.root, self.high_water)));
        }
        if self.txid > TXID_MAX {
            return Err(damaged(format!("transaction {}, which no file gets to", self.txid)));
        }
        let freelist = self.freelist;
        if freelist != NO_FREELIST && !(2..self.high_water).contains(&freelist) {
            return Err(damaged(format!("free list page {freelist} of {}", self.high_water)));
        }
        Ok(())
    }
}

/// A million transactions a second for a thousand years: a larger id is damage, and leaves no
/// room for those that follow.
const TXID_MAX: u64 = 1 << 55;

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The meta in the other slot than the one of `meta`, when it can be read.
pub(crate) fn other(file: &dyn File, meta: &Meta) -> Option<Meta> {
    let mut buf = [0; HEADER + META_BYTES];
    let at = (1 - meta.slot()) * u64::from(meta.page_size);
    let n = file.read_at(at, &mut buf).ok()?;
    Meta::read(&buf[..n]).ok()
}

/// Reads both metas and takes the valid one with the larger transaction id (disk.md 4.2).
pub(crate) fn choose(file: &dyn File, path: &Path) -> Result<Meta> {
    let disk = |source| Error::Disk { path: path.to_owned(), doing: "read metas".into(), source };
    let len = file.len().map_err(disk)?;
    let read = |at: u64| -> Result<std::result::Result<Meta, MetaFault>> {
        let mut buf = [0; HEADER + META_BYTES];
        let n = file.read_at(at, &mut buf).map_err(disk)?;
        Ok(Meta::read(&buf[..n]))
    };
    let first = read(0)?;
    let second = match first {
        Ok(meta) => read(u64::from(meta.page_size))?,
        Err(_) => {
            // A page of another size could hold the bytes of a meta: place and size must agree.
            let mut found = Err(MetaFault::Invalid);
            for at in (0..PAGE_SIZE_SHIFTS).map(|shift| 1024 << shift) {
                found = read(at)?.and_then(|meta| match u64::from(meta.page_size) == at {
                    true => Ok(meta),
                    false => Err(MetaFault::Invalid),
                });
                if found.is_ok() {
                    break;
                }
            }
            found
        }
    };
    let meta = match (first, second) {
        (Ok(a), Ok(b)) if b.txid > a.txid && a.page_size == b.page_size => b,
        (Ok(a), _) => a,
        (Err(_), Ok(b)) => b,
        (Err(reason), Err(_)) => return Err(Error::NotBolt { path: path.to_owned(), reason }),
    };
    meta.check(path, len)?;
    Ok(meta)
}
