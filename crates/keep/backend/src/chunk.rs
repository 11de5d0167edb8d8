//! The overlay: rows of the `key` bucket that wait for a commit.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_types::Revision;
use parking_lot::RwLock;

use crate::batch::KeyRow;

/// Rows of one chunk; more chunks make a snapshot dearer, bigger ones a lookup.
const CHUNK_ROWS: usize = 1024;

/// Rows in ascending order. Only the newest chunk of an overlay grows, and what is
/// in a chunk never changes, so whoever holds one may read it at any time.
#[derive(Debug)]
pub(crate) struct Chunk {
    first: Revision,
    rows: RwLock<Vec<KeyRow>>,
}

impl Chunk {
    /// The value of a put at exactly this revision.
    fn value(&self, revision: Revision) -> Option<Bytes> {
        let rows = self.rows.read();
        let at = rows.binary_search_by_key(&revision, |row| row.revision).ok()?;
        Some(rows[at].value.clone())
    }

    /// Up to `max` rows from `from` on.
    pub(crate) fn rows_from(&self, from: Revision, max: usize) -> Vec<KeyRow> {
        let rows = self.rows.read();
        let at = rows.partition_point(|row| row.revision < from);
        rows[at..].iter().take(max).cloned().collect()
    }

    /// All rows.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&KeyRow)) {
        self.rows.read().iter().for_each(&mut each);
    }
}

/// Chunks, the oldest first; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay(Arc<Vec<Arc<Chunk>>>);

impl Overlay {
    /// The value of a put at exactly this revision, when it is here.
    pub(crate) fn value(&self, revision: Revision) -> Option<Bytes> {
        let behind = self.0.partition_point(|chunk| chunk.first <= revision);
        self.0[..behind].last()?.value(revision)
    }

    /// The oldest revision that may be here.
    pub(crate) fn first(&self) -> Option<Revision> {
        self.0.first().map(|chunk| chunk.first)
    }

    /// The chunks that may hold rows from `from` on, the oldest first.
    pub(crate) fn chunks_from(&self, from: Revision) -> &[Arc<Chunk>] {
        let behind = self.0.partition_point(|chunk| chunk.first <= from);
        &self.0[behind.saturating_sub(1)..]
    }

    /// Adds rows behind all others. `open` says whether the newest chunk may grow.
    pub(crate) fn append(&mut self, rows: Vec<KeyRow>, open: bool) {
        let Some(first) = rows.first().map(|row| row.revision) else { return };
        if let Some(last) = self.0.last().filter(|_| open) {
            let mut held = last.rows.write();
            let newest = held.last().map(|row| row.revision);
            assert!(newest.is_none_or(|newest| newest < first), "revisions ascend");
            if held.len() < CHUNK_ROWS {
                held.extend(rows);
                return;
            }
        }
        let chunk = Arc::new(Chunk { first, rows: RwLock::new(rows) });
        Arc::make_mut(&mut self.0).push(chunk);
    }

    /// How many chunks there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Drops the oldest `count` chunks: their rows are in the file.
    pub(crate) fn forget(&mut self, count: usize) {
        Arc::make_mut(&mut self.0).drain(..count);
    }

    /// The oldest `count` chunks.
    pub(crate) fn oldest(&self, count: usize) -> &[Arc<Chunk>] {
        &self.0[..count]
    }
}
