//! What one log entry writes.

use bytes::Bytes;
use mainstay_types::{Index, Revision, Term};

use crate::bucket::Bucket;

/// A row of the `key` bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its key.
    pub revision: Revision,
    /// Whether it marks a deletion.
    pub tombstone: bool,
    /// The encoded `KeyValue`.
    pub value: Bytes,
}

/// A row of another bucket, or the deletion of any row; `None` deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherRow {
    pub(crate) bucket: Bucket,
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

/// The rows of one log entry. It cannot be made without the index and term that
/// they came from, so rows and applied index are never committed apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub(crate) applied: (Index, Term),
    pub(crate) rows: Vec<KeyRow>,
    pub(crate) others: Vec<OtherRow>,
}

impl Batch {
    /// An empty batch for the entry at this index and term.
    pub fn new(applied: (Index, Term)) -> Batch {
        Batch { applied, rows: Vec::new(), others: Vec::new() }
    }

    /// The entry's index and term.
    pub fn applied(&self) -> (Index, Term) {
        self.applied
    }

    /// Adds a row of the `key` bucket. Revisions ascend.
    pub fn put_revision(&mut self, row: KeyRow) {
        assert!(
            self.rows.last().is_none_or(|last| last.revision < row.revision),
            "revisions ascend"
        );
        self.rows.push(row);
    }

    /// Deletes a row of the `key` bucket that compaction has made superfluous.
    pub fn delete_revision(&mut self, revision: Revision, tombstone: bool) {
        let key = crate::encode_revision(revision, tombstone);
        self.others.push(OtherRow { bucket: Bucket::Key, key, value: None });
    }

    /// Writes a row of any bucket but `key`.
    pub fn put(&mut self, bucket: Bucket, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        assert!(bucket != Bucket::Key, "rows of the key bucket have revisions");
        self.others.push(OtherRow { bucket, key: key.into(), value: Some(value.into()) });
    }

    /// Deletes a row of any bucket but `key`.
    pub fn delete(&mut self, bucket: Bucket, key: impl Into<Bytes>) {
        assert!(bucket != Bucket::Key, "rows of the key bucket have revisions");
        self.others.push(OtherRow { bucket, key: key.into(), value: None });
    }

    /// Rows and deletions.
    pub fn len(&self) -> usize {
        self.rows.len() + self.others.len()
    }

    /// Whether only the applied index changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
