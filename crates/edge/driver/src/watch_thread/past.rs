//! The store as the watch threads see it.

use bytes::Bytes;
use mainstay_watch::{HistoryError, HistoryRead, HistorySlice};

/// Reads of the newest published view. Calls may block as long as the disk does.
pub(crate) trait Past: Send + Sync + 'static {
    /// The view's revision.
    fn revision(&self) -> i64;

    /// The view's compact revision; 0 or less when nothing was ever compacted.
    fn compact_revision(&self) -> i64;

    /// The encoded `mvccpb.KeyValue` of `key` at `revision`; `None` when the key was
    /// not there or the revision is compacted.
    ///
    /// # Errors
    /// The disk failed, or what it holds is damaged.
    fn previous(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, String>;

    /// Reads a slice of history. Its previous values are filled in for the keys of
    /// `read.prev`, creates left out.
    ///
    /// # Errors
    /// The first revision is compacted, or the disk failed.
    fn read(&self, read: &HistoryRead) -> Result<HistorySlice, HistoryError>;
}
