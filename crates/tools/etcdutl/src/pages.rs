//! The pages of a bolt file (disk.md 4), one by one and without believing any of them:
//! for inspection and repair of files that nothing else opens.

use std::path::{Path, PathBuf};

use mainstay_env::{File, OpenMode};

use crate::place::about;
use crate::{Failure, Run};

/// Page flags.
pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
pub(crate) const FREELIST: u16 = 0x10;
/// Flag of a leaf element whose value is a bucket.
const BUCKET: u32 = 1;
/// Bytes of the page header, and of an element.
const HEADER: usize = 16;
const ELEMENT: usize = 16;
/// Bytes of root and sequence in front of a bucket's inline page.
const BUCKET_HEADER: usize = 16;
const MAGIC: u32 = 0xED0C_DAED;
/// What is read of a node at most, first page and overflow: twice bbolt's largest value.
const NODE_BYTES_MAX: u64 = 1 << 32;

/// A db file, open for reading.
pub(crate) struct Pages {
    pub(crate) path: PathBuf,
    file: Box<dyn File>,
    pub(crate) len: u64,
    pub(crate) page_size: u64,
    /// The two metas; `None` for one that cannot be used.
    pub(crate) metas: [Option<Meta>; 2],
}

/// A meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) magic: u32,
    pub(crate) version: u32,
    pub(crate) page_size: u32,
    pub(crate) flags: u32,
    pub(crate) root: u64,
    pub(crate) sequence: u64,
    pub(crate) freelist: u64,
    pub(crate) high_water: u64,
    pub(crate) txid: u64,
    pub(crate) checksum: u64,
}

/// The header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u64,
    pub(crate) flags: u16,
    pub(crate) count: u16,
    pub(crate) overflow: u32,
}

/// A page with its overflow.
pub(crate) struct Node {
    pub(crate) header: Header,
    pub(crate) bytes: Vec<u8>,
}

/// An element of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) is_bucket: bool,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// What the value of a bucket's element says.
pub(crate) enum BucketValue<'a> {
    /// Its root page.
    Root { page: u64, sequence: u64 },
    /// The page itself.
    Inline { page: &'a [u8], sequence: u64 },
}

impl Meta {
    /// Reads what stands behind the page header.
    pub(crate) fn read(page: &[u8]) -> Option<Meta> {
        let bytes = page.get(HEADER..HEADER + 64)?;
        Some(Meta {
            magic: u32_at(bytes, 0)?,
            version: u32_at(bytes, 4)?,
            page_size: u32_at(bytes, 8)?,
            flags: u32_at(bytes, 12)?,
            root: u64_at(bytes, 16)?,
            sequence: u64_at(bytes, 24)?,
            freelist: u64_at(bytes, 32)?,
            high_water: u64_at(bytes, 40)?,
            txid: u64_at(bytes, 48)?,
            checksum: u64_at(bytes, 56)?,
        })
    }

    /// What is wrong with it, given its bytes.
    fn fault(&self, page: &[u8]) -> Option<&'static str> {
        let sum = fnv1a(page.get(HEADER..HEADER + 56).unwrap_or_default());
        let size = self.page_size;
        match () {
            () if self.magic != MAGIC => Some("invalid database"),
            () if self.version != 2 => Some("version mismatch"),
            () if self.checksum != sum => Some("checksum error"),
            () if !size.is_power_of_two() || !(1024..=1024 << 14).contains(&size) => {
                Some("a page size that none has")
            }
            () => None,
        }
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Header {
    pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
        let low = u32_at(bytes, 8)?;
        Some(Header {
            id: u64_at(bytes, 0)?,
            flags: low as u16,
            count: (low >> 16) as u16,
            overflow: u32_at(bytes, 12)?,
        })
    }

    /// What bbolt calls a page with these flags.
    pub(crate) fn kind(&self) -> String {
        match self.flags {
            BRANCH => "branch".to_owned(),
            LEAF => "leaf".to_owned(),
            META => "meta".to_owned(),
            FREELIST => "freelist".to_owned(),
            other => format!("unknown<{other:02x}>"),
        }
    }
}

impl Pages {
    /// Opens a db file. The page size comes from a meta that is sound, else from where a
    /// second meta page lies, else it is taken for 4096.
    pub(crate) fn open(run: &Run<'_>, path: &Path) -> Result<Pages, Failure> {
        let file = run.disk.open(path, OpenMode::Read).map_err(|e| about("open", path, &e))?;
        let len = file.len().map_err(|e| about("stat", path, &e))?;
        let mut pages =
            Pages { path: path.to_owned(), file, len, page_size: 4096, metas: [None; 2] };
        let sound = |pages: &Pages, at: u64| -> Result<Option<Meta>, Failure> {
            let bytes = pages.read(at, 80)?;
            Ok(Meta::read(&bytes).filter(|meta| meta.fault(&bytes).is_none()))
        };
        let first = sound(&pages, 0)?;
        let sizes = (0..15).map(|shift| 1024_u64 << shift);
        let mut second = None;
        for size in first.map_or(sizes.collect(), |meta| vec![u64::from(meta.page_size)]) {
            second = sound(&pages, size)?.filter(|meta| u64::from(meta.page_size) == size);
            if second.is_some() {
                break;
            }
        }
        pages.metas = [first, second];
        if let Some(meta) = first.or(second) {
            pages.page_size = u64::from(meta.page_size);
        }
        Ok(pages)
    }

    /// The metas that can be used, the current one first.
    pub(crate) fn sound_metas(&self) -> Vec<Meta> {
        let mut metas: Vec<Meta> = self.metas.iter().flatten().copied().collect();
        metas.sort_by_key(|meta| std::cmp::Reverse(meta.txid));
        metas
    }

    /// What is wrong with a meta page; `None` when it is sound.
    pub(crate) fn meta_fault(&self, slot: u64) -> Result<Option<&'static str>, Failure> {
        let bytes = self.read(slot * self.page_size, 80)?;
        Ok(match Meta::read(&bytes) {
            None => Some("the file ends before it"),
            Some(meta) => meta.fault(&bytes),
        })
    }

    /// Whole pages in the file.
    pub(crate) fn count(&self) -> u64 {
        self.len / self.page_size
    }

    /// Pages that the current meta counts, as far as the file has them.
    pub(crate) fn high_water(&self) -> u64 {
        let says = self.sound_metas().first().map_or(u64::MAX, |meta| meta.high_water);
        says.min(self.count())
    }

    /// Up to `len` bytes; fewer at the end of the file.
    pub(crate) fn read(&self, at: u64, len: u64) -> Result<Vec<u8>, Failure> {
        let len = len.min(self.len.saturating_sub(at));
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(at, &mut bytes).map_err(|e| about("read", &self.path, &e))?;
        Ok(bytes)
    }

    /// The header of a page, when the file is long enough.
    pub(crate) fn header(&self, id: u64) -> Result<Option<Header>, Failure> {
        let Some(at) = id.checked_mul(self.page_size) else { return Ok(None) };
        Ok(Header::read(&self.read(at, HEADER as u64)?))
    }

    /// A page with its overflow, or what is wrong with it. The overflow of a page that is
    /// not its own (its header has another id) is not read.
    pub(crate) fn node(&self, id: u64) -> Result<Result<Node, String>, Failure> {
        let Some(header) = self.header(id)? else {
            return Ok(Err("the file ends before it".to_owned()));
        };
        if header.id != id {
            return Ok(Err(format!("unexpected page id: {}, wanted: {id}", header.id)));
        }
        let len = (u64::from(header.overflow) + 1) * self.page_size;
        if id * self.page_size + len > self.len || len > NODE_BYTES_MAX {
            return Ok(Err(format!("{} overflow pages, more than there are", header.overflow)));
        }
        Ok(Ok(Node { header, bytes: self.read(id * self.page_size, len)? }))
    }
}

impl Node {
    /// An inline page, as it stands in a bucket's value.
    pub(crate) fn inline(bytes: &[u8]) -> Option<Node> {
        Some(Node { header: Header::read(bytes)?, bytes: bytes.to_vec() })
    }

    /// Where the key of an element begins and how long key and value are.
    fn extent(&self, i: usize) -> Option<(usize, usize, usize)> {
        let at = HEADER + ELEMENT * i;
        let (pos, key, value) = match self.header.flags {
            LEAF => (at + 4, at + 8, u32_at(&self.bytes, at + 12)? as usize),
            _ => (at, at + 4, 0),
        };
        let start = at.checked_add(u32_at(&self.bytes, pos)? as usize)?;
        Some((start, u32_at(&self.bytes, key)? as usize, value))
    }

    /// Element `i` of a leaf; `None` when it does not lie within the page.
    pub(crate) fn row(&self, i: usize) -> Option<Row<'_>> {
        let (start, key, value) = self.extent(i)?;
        let middle = start.checked_add(key)?;
        Some(Row {
            is_bucket: u32_at(&self.bytes, HEADER + ELEMENT * i)? & BUCKET != 0,
            key: self.bytes.get(start..middle)?,
            value: self.bytes.get(middle..middle.checked_add(value)?)?,
        })
    }

    /// Element `i` of a branch: the smallest key of a child, and its page.
    pub(crate) fn child(&self, i: usize) -> Option<(&[u8], u64)> {
        let (start, key, _) = self.extent(i)?;
        let page = u64_at(&self.bytes, HEADER + ELEMENT * i + 8)?;
        Some((self.bytes.get(start..start.checked_add(key)?)?, page))
    }

    /// What is wrong with the elements of a branch or leaf, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        let header = &self.header;
        if header.flags != BRANCH && header.flags != LEAF {
            return Some(format!("a branch or leaf page expected, flags {:#06x}", header.flags));
        }
        if header.flags == BRANCH && header.count == 0 {
            return Some("a branch page without children".to_owned());
        }
        let data = HEADER + ELEMENT * usize::from(header.count);
        let mut before: &[u8] = &[];
        for i in 0..usize::from(header.count) {
            let key = match header.flags {
                LEAF => self.row(i).map(|row| row.key),
                _ => self.child(i).map(|(key, _)| key),
            };
            let starts = self.extent(i).map_or(0, |(start, ..)| start);
            let Some(key) = key.filter(|_| starts >= data) else {
                return Some(format!("element {i} lies outside of the page"));
            };
            if key.is_empty() || before >= key {
                return Some(format!("the key of element {i} is not above the one before it"));
            }
            before = key;
        }
        None
    }

    /// The ids of a free list's page.
    pub(crate) fn free_ids(&self) -> Vec<u64> {
        let mut ids = self.bytes[HEADER..].chunks_exact(8).filter_map(|id| u64_at(id, 0));
        let count = match self.header.count {
            0xFFFF => ids.next().unwrap_or(0),
            count => u64::from(count),
        };
        ids.take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
    }
}

impl Row<'_> {
    /// What the value of a bucket says.
    pub(crate) fn bucket(&self) -> Option<BucketValue<'_>> {
        let (root, sequence) = (u64_at(self.value, 0)?, u64_at(self.value, 8)?);
        Some(match root {
            0 => BucketValue::Inline { page: self.value.get(BUCKET_HEADER..)?, sequence },
            page => BucketValue::Root { page, sequence },
        })
    }
}
