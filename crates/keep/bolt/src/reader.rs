//! Snapshots and what can be asked of them.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mainstay_env::{Disk, File, OpenMode};

use crate::Cursor;
use crate::error::{Error, Result};
use crate::meta::{self, Meta};
use crate::page::{BucketHeader, DEPTH_MAX, FLAG_BUCKET, Kind, Page};
use crate::pager::{Pager, Pins};
use crate::sums::Sums;

/// What the clones of a [`Reader`] share; dropping it ends the pin.
struct Snapshot {
    pager: Arc<Pager>,
    meta: Meta,
    /// Pages reached, metas included.
    pages_used: u64,
    /// The root page of the bucket of buckets: every call starts there.
    root: OnceLock<Page>,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut readers = self.pager.readers.lock();
        if let Some(pins) = readers.get_mut(&self.meta.txid) {
            pins.count -= 1;
            if pins.count == 0 {
                readers.remove(&self.meta.txid);
            }
        }
    }
}

/// An immutable snapshot of the file. Clones are cheap and share the pin; dropping the last one
/// lets the pages that only it can reach be written again.
#[derive(Clone)]
pub struct Reader(Arc<Snapshot>);

impl Reader {
    /// A snapshot of `meta`, registered before anything it reaches can be released.
    pub(crate) fn new(pager: Arc<Pager>, meta: Meta, pages_used: u64) -> Self {
        let none = Pins { count: 0, high_water: meta.high_water };
        pager.readers.lock().entry(meta.txid).or_insert(none).count += 1;
        Self(Arc::new(Snapshot { pager, meta, pages_used, root: OnceLock::new() }))
    }

    /// Snapshots of this file that are open; the newest, which the writer holds, is one.
    pub fn open_snapshots(&self) -> usize {
        self.0.pager.readers.lock().values().map(|pins| pins.count).sum()
    }

    /// Opens a file for reading only, without a lock: for files that nobody writes (`etcdutl`).
    /// Bytes behind the last page (the SHA-256 of a snapshot file) are ignored, and the tree is
    /// not walked, so [`Reader::in_use`] is the whole size.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let file = disk.open(path, OpenMode::Read).map_err(|source| Error::Disk {
            path: path.to_owned(),
            doing: "open".into(),
            source,
        })?;
        let meta = meta::choose(&*file, path)?;
        Ok(Self::of_file(path, file, meta, Sums::default()))
    }

    /// A snapshot of a file that nobody writes.
    pub(crate) fn of_file(path: &Path, file: Box<dyn File>, meta: Meta, sums: Sums) -> Self {
        let pager = Pager::new(path.to_owned(), file, meta.page_size as usize, sums);
        Self::new(Arc::new(pager), meta, meta.high_water)
    }

    pub(crate) fn pager(&self) -> &Pager {
        &self.0.pager
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.0.meta
    }

    pub(crate) fn pages_used(&self) -> u64 {
        self.0.pages_used
    }

    /// The transaction whose result this is.
    #[must_use]
    pub fn txid(&self) -> u64 {
        self.0.meta.txid
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.0.pager.page_size
    }

    /// High water mark times page size, in bytes: what etcd reports as the db's size.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pager().offset(self.0.meta.high_water)
    }

    /// Bytes of the pages that this snapshot reaches, both metas included.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.pager().offset(self.0.pages_used)
    }

    /// Names of the top-level buckets in byte order.
    pub fn buckets(&self) -> Result<Vec<Bytes>> {
        self.top()?.buckets()
    }

    /// The top-level bucket of that name.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>> {
        self.top()?.bucket(name)
    }

    /// The value of `key` in the top-level bucket `bucket`; `None` when either is missing.
    pub fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>> {
        match self.bucket(bucket)? {
            Some(bucket) => bucket.get(key),
            None => Ok(None),
        }
    }

    /// A cursor over the top-level bucket `bucket`; over nothing when it is missing.
    pub fn cursor(&self, bucket: &[u8]) -> Result<Cursor> {
        Ok(match self.bucket(bucket)? {
            Some(bucket) => bucket.cursor(),
            None => Cursor::new(self.clone(), None),
        })
    }

    /// The bytes that bbolt's `WriteTo` gives (disk.md 4.4). It pins the snapshot, nothing else.
    #[must_use]
    pub fn copy(&self) -> Copy {
        let meta = *self.meta();
        let before = Meta { txid: meta.txid.wrapping_sub(1), ..meta };
        Copy { reader: self.clone(), metas: [meta.page(0), before.page(1)].concat() }
    }

    /// The bucket of buckets.
    pub(crate) fn top(&self) -> Result<Bucket> {
        let page = match self.0.root.get() {
            Some(page) => page.clone(),
            None => {
                let page = self.pager().page(self.0.meta.root, self.0.meta.high_water)?;
                self.0.root.get_or_init(|| page).clone()
            }
        };
        Ok(Bucket { reader: self.clone(), root: page, sequence: self.0.meta.sequence })
    }
}

/// One bucket of a snapshot.
#[derive(Clone)]
pub struct Bucket {
    reader: Reader,
    root: Page,
    sequence: u64,
}

impl Bucket {
    pub(crate) fn pager(&self) -> &Pager {
        self.reader.pager()
    }

    pub(crate) fn high_water(&self) -> u64 {
        self.reader.meta().high_water
    }

    pub(crate) fn root(&self) -> &Page {
        &self.root
    }

    /// The bucket's sequence number (etcd leaves it 0).
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The value of `key`; `None` when it is missing or names a nested bucket.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(match self.find(key)? {
            Some((0, value)) => Some(value),
            _ => None,
        })
    }

    /// A cursor over the bucket's rows.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.reader.clone(), Some(self.root.clone()))
    }

    /// The nested bucket of that name.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>> {
        let Some((FLAG_BUCKET, value)) = self.find(name)? else { return Ok(None) };
        let header = BucketHeader::read(&value);
        let root = match header.root {
            0 => Page::parse_inline(&value)
                .map_err(|expected| self.reader.pager().damaged(self.root.id, expected))?,
            id => self.reader.pager().page(id, self.reader.meta().high_water)?,
        };
        Ok(Some(Self { reader: self.reader.clone(), root, sequence: header.sequence }))
    }

    /// Names of the nested buckets in byte order.
    pub fn buckets(&self) -> Result<Vec<Bytes>> {
        let mut names = Vec::new();
        let mut cursor = self.cursor();
        let mut at = cursor.first_element()?;
        while let Some((flags, name, _)) = at {
            if flags == FLAG_BUCKET {
                names.push(name);
            }
            at = cursor.next_element()?;
        }
        Ok(names)
    }

    /// Flags and value of an element.
    fn find(&self, key: &[u8]) -> Result<Option<(u32, Bytes)>> {
        find(self.reader.pager(), self.reader.meta().high_water, &self.root, key)
    }
}

/// Flags and value of the element `key` in the tree below `root`.
pub(crate) fn find(
    pager: &Pager,
    high_water: u64,
    root: &Page,
    key: &[u8],
) -> Result<Option<(u32, Bytes)>> {
    let mut page = root.clone();
    for _ in 0..DEPTH_MAX {
        let view = page.view();
        match view.kind {
            Kind::Branch => page = pager.child(&page, view.child_for(key), high_water)?,
            Kind::Leaf => {
                return Ok(view.search(key).ok().map(|i| (view.flags(i), page.value(i))));
            }
        }
    }
    Err(pager.damaged(root.id, format!("a tree at most {DEPTH_MAX} pages deep")))
}

/// A snapshot's bytes as a file: see [`Reader::copy`].
pub struct Copy {
    reader: Reader,
    metas: Vec<u8>,
}

impl Copy {
    /// Length in bytes: exactly [`Reader::size`].
    #[must_use]
    pub fn len(&self) -> u64 {
        self.reader.size()
    }

    /// Never: the two meta pages are always there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from offset `at`; shorter only at the end. Returns the bytes filled. Pages are
    /// copied as they are, free ones too, but those that any snapshot reaches are compared with
    /// their sums first: a damaged one is an error, and `buf` then holds nothing to be used.
    pub fn read_at(&self, at: u64, buf: &mut [u8]) -> Result<usize> {
        let len = self.len();
        let n = buf.len().min(usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX));
        let buf = &mut buf[..n];
        let metas = self.metas.len();
        let head = match usize::try_from(at) {
            Ok(at) if at < metas => n.min(metas - at),
            _ => 0,
        };
        if head > 0 {
            let at = at as usize;
            buf[..head].copy_from_slice(&self.metas[at..at + head]);
        }
        self.pages(at + head as u64, &mut buf[head..])?;
        Ok(n)
    }

    /// Whole pages go into `buf` directly, the two that may be cut at its ends through a buffer.
    fn pages(&self, mut at: u64, mut buf: &mut [u8]) -> Result<()> {
        let pager = self.reader.pager();
        let size = pager.page_size;
        while !buf.is_empty() {
            let (id, skip) = (at / size as u64, (at % size as u64) as usize);
            let whole = if skip == 0 { buf.len() / size * size } else { 0 };
            let n = if whole > 0 {
                pager.read_stable(id, &mut buf[..whole])?;
                whole
            } else {
                let mut page = vec![0; size];
                pager.read_stable(id, &mut page)?;
                let n = buf.len().min(size - skip);
                buf[..n].copy_from_slice(&page[skip..skip + n]);
                n
            };
            at += n as u64;
            buf = &mut buf[n..];
        }
        Ok(())
    }
}
