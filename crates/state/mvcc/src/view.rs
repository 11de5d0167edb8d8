//! An unchanging picture of the key space, for readers.

use bytes::Bytes;
use mainstay_backend::BackendView;
use mainstay_proto::{etcdserverpb as pb, mvccpb};
use mainstay_types::{KeyRange, Revision};

use crate::error::MvccError;
use crate::index::{KeyIndex, Step};
use crate::range::{self, RangeReply, Source};

/// The key space at a revision and everything before it down to the compaction.
/// Takes no lock that a writer holds for long; reads values from the disk.
#[derive(Clone)]
pub struct View {
    pub(crate) index: KeyIndex,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    pub(crate) rows: BackendView,
}

impl View {
    /// The revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The last compaction, or -1.
    pub fn compact_revision(&self) -> i64 {
        self.compacted
    }

    /// Live keys.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Answers a range request.
    ///
    /// # Errors
    /// A revision that cannot be asked for, or a disk that fails.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<RangeReply, MvccError> {
        range::range(self, request)
    }

    /// Live keys of the range now: what an answer without a limit would hold.
    pub fn count(&self, range: &KeyRange) -> usize {
        self.index.count(range)
    }

    /// The pair of a key now.
    ///
    /// # Errors
    /// When the disk fails or the row is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<mvccpb::KeyValue>, MvccError> {
        let Some(found) = self.index.get(key) else { return Ok(None) };
        crate::txn::decode(found.modified, self.value(found.modified)?).map(Some)
    }

    /// As [`View::get`], but without value and lease: what the index knows, and no look
    /// at the disk.
    pub fn get_revisions(&self, key: &[u8]) -> Option<mvccpb::KeyValue> {
        self.index.get(key).map(crate::txn::revisions_of)
    }

    /// Whether `holds` is true of every key in the range; `None` when there is none.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged.
    pub fn all(
        &self,
        range: &KeyRange,
        holds: &mut dyn FnMut(&mvccpb::KeyValue) -> bool,
    ) -> Result<Option<bool>, MvccError> {
        range::all(self, range, holds)
    }

    /// The encoded pair of a key at main revision `at`; `None` when it did not exist
    /// or the revision is compacted.
    ///
    /// # Errors
    /// When the disk fails or the row is damaged.
    pub fn previous(&self, key: &[u8], at: i64) -> Result<Option<Bytes>, MvccError> {
        if at < self.compacted {
            return Ok(None);
        }
        let Some(found) = self.index.get_at(key, at) else { return Ok(None) };
        self.value(found.modified).map(Some)
    }

    /// The encoded pair that was put at exactly this revision.
    ///
    /// # Errors
    /// When it is not there, or the disk fails.
    pub fn value_at(&self, revision: Revision) -> Result<Bytes, MvccError> {
        self.value(revision)
    }

    /// The store below, for hashes and copies of the whole.
    pub fn rows(&self) -> &BackendView {
        &self.rows
    }

    /// The revisions that a compaction at `at` would leave of what is at or below it,
    /// in order, as a hash counts them. A key whose newest change is a deletion has none.
    pub(crate) fn keep(&self, at: i64) -> Vec<Revision> {
        let mut keep = Vec::new();
        self.index.walk_items(b"", &mut |_, item| {
            keep.extend(item.hashed(at));
            Step::Go
        });
        keep.sort_unstable();
        keep
    }
}

impl Source for View {
    fn index(&self) -> &KeyIndex {
        &self.index
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn compacted(&self) -> i64 {
        self.compacted
    }

    fn value(&self, revision: Revision) -> Result<Bytes, MvccError> {
        self.rows.value(revision)?.ok_or(MvccError::Row { revision, what: "missing" })
    }
    fn values(&self, revisions: &[Revision]) -> Result<Vec<Bytes>, MvccError> {
        range::all_there(revisions, self.rows.values(revisions)?)
    }
}
