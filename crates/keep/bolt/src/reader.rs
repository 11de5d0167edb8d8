//! Snapshots and what can be asked of them.

use std::path::Path;

use bytes::Bytes;
use mainstay_env::Disk;

use crate::Cursor;
use crate::error::{Error, Result};

/// An immutable snapshot of the file. Clones are cheap and share the pin; dropping the last one
/// lets the pages that only it can reach be written again.
#[derive(Clone)]
pub struct Reader {
    _private: (),
}

impl Reader {
    pub(crate) fn skeleton() -> Self {
        Self { _private: () }
    }

    /// Opens a file for reading only, without a lock: for files that nobody writes (`etcdutl`).
    /// Bytes behind the last page (the SHA-256 of a snapshot file) are ignored.
    pub fn open(_disk: &dyn Disk, path: &Path) -> Result<Self> {
        Err(Error::Stopped { path: path.to_owned() })
    }

    /// The transaction whose result this is.
    #[must_use]
    pub fn txid(&self) -> u64 {
        0
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> usize {
        4096
    }

    /// High water mark times page size, in bytes: what etcd reports as the db's size.
    #[must_use]
    pub fn size(&self) -> u64 {
        0
    }

    /// Bytes of the pages that this snapshot reaches, both metas included.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        0
    }

    /// Names of the top-level buckets in byte order.
    pub fn buckets(&self) -> Result<Vec<Bytes>> {
        Ok(Vec::new())
    }

    /// The top-level bucket of that name.
    pub fn bucket(&self, _name: &[u8]) -> Result<Option<Bucket>> {
        Ok(None)
    }

    /// The value of `key` in the top-level bucket `bucket`; `None` when either is missing.
    pub fn get(&self, _bucket: &[u8], _key: &[u8]) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// A cursor over the top-level bucket `bucket`; over nothing when it is missing.
    pub fn cursor(&self, bucket: &[u8]) -> Result<Cursor> {
        Err(Error::NoBucket { bucket: crate::error::text(bucket) })
    }

    /// The bytes that bbolt's `WriteTo` gives (disk.md 4.4). It pins the snapshot, nothing else.
    #[must_use]
    pub fn copy(&self) -> Copy {
        Copy { reader: self.clone() }
    }
}

/// One bucket of a snapshot.
#[derive(Clone)]
pub struct Bucket {
    _private: (),
}

impl Bucket {
    /// The bucket's sequence number (etcd leaves it 0).
    #[must_use]
    pub fn sequence(&self) -> u64 {
        0
    }

    /// The value of `key`; `None` when it is missing or names a nested bucket.
    pub fn get(&self, _key: &[u8]) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// A cursor over the bucket's rows.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor::skeleton()
    }

    /// The nested bucket of that name.
    pub fn bucket(&self, _name: &[u8]) -> Result<Option<Bucket>> {
        Ok(None)
    }

    /// Names of the nested buckets in byte order.
    pub fn buckets(&self) -> Result<Vec<Bytes>> {
        Ok(Vec::new())
    }
}

/// A snapshot's bytes as a file: see [`Reader::copy`].
pub struct Copy {
    reader: Reader,
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

    /// Fills `buf` from offset `at`; shorter only at the end. Returns the bytes filled.
    pub fn read_at(&self, _at: u64, _buf: &mut [u8]) -> Result<usize> {
        Ok(0)
    }
}
