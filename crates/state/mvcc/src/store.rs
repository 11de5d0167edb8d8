//! The apply thread's side: the index and what moves it.

use bytes::Bytes;
use mainstay_backend::{Backend, Batch, Bucket, encode_revision, meta};
use mainstay_types::Revision;

use crate::compaction::Compacting;
use crate::error::MvccError;
use crate::index::KeyIndex;
use crate::txn::WriteTxn;
use crate::view::View;

/// The key space, writable. One thread owns it.
pub struct Store {
    pub(crate) backend: Backend,
    pub(crate) index: KeyIndex,
    pub(crate) revision: i64,
    /// Below this nothing can be asked for; -1 before the first compaction.
    pub(crate) compacted: i64,
    /// The deletion that follows a compaction.
    pub(crate) compacting: Option<Compacting>,
}

impl Store {
    /// The current revision; a fresh store is at 1.
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

    /// A view of the store as it is. Rows of the transactions so far must have been
    /// appended to the backend.
    pub fn view(&self) -> View {
        View {
            index: self.index.clone(),
            revision: self.revision,
            compacted: self.compacted,
            rows: self.backend.snapshot(),
        }
    }

    /// Begins a write transaction. Until it is ended nothing else may happen to the
    /// store.
    pub fn write(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// Compacts at `revision`: from now on nothing below can be asked for. What is to
    /// be deleted is found by [`Store::compaction_slice`].
    ///
    /// # Errors
    /// `Compacted` at or below the last compaction, `FutureRevision` above the
    /// current revision.
    pub fn compact(&mut self, revision: i64, batch: &mut Batch) -> Result<(), MvccError> {
        if revision <= self.compacted {
            return Err(MvccError::Compacted);
        }
        if revision > self.revision {
            return Err(MvccError::FutureRevision);
        }
        self.compacted = revision;
        self.compacting = Some(Compacting::new(revision, self.compacting.take()));
        let value: Bytes = encode_revision(Revision::new(revision, 0), false);
        batch.put(Bucket::Meta, meta::SCHEDULED_COMPACT_REV, value);
        Ok(())
    }
}
