//! An unchanging view of the `key` bucket: a bolt snapshot and the overlay over it.

use std::collections::VecDeque;

use bytes::Bytes;
use mainstay_bolt::{Cursor, Reader};
use mainstay_types::Revision;

use crate::batch::KeyRow;
use crate::chunk::Overlay;
use crate::codec::{decode_revision, encode_revision, revision_key};
use crate::store::BackendError;

/// Every row up to the moment it was made is in the snapshot or in the overlay.
/// Rows appended later may show in the overlay: whoever asks knows the newest
/// revision that it means.
#[derive(Clone)]
pub struct BackendView {
    pub(crate) reader: Reader,
    pub(crate) keys: mainstay_bolt::Bucket,
    pub(crate) overlay: Overlay,
}

impl BackendView {
    /// The encoded `KeyValue` that was put at exactly this revision.
    ///
    /// # Errors
    /// When the disk fails or a page is damaged.
    pub fn value(&self, revision: Revision) -> Result<Option<Bytes>, BackendError> {
        if let Some(value) = self.overlay.value(revision) {
            return Ok(Some(value));
        }
        Ok(self.keys.get(&revision_key(revision))?)
    }

    /// As [`BackendView::value`] of many revisions in any order, answered in the same: rows
    /// that lie side by side in the file are read together.
    ///
    /// # Errors
    /// When the disk fails or a page is damaged.
    pub fn values(&self, revisions: &[Revision]) -> Result<Vec<Option<Bytes>>, BackendError> {
        let mut found = vec![None; revisions.len()];
        let overlay_from = self.overlay.first();
        let mut in_file = Vec::with_capacity(revisions.len());
        for (at, revision) in revisions.iter().enumerate() {
            if overlay_from.is_some_and(|first| *revision >= first) {
                found[at] = self.overlay.value(*revision);
            }
            if found[at].is_none() {
                in_file.push((revision_key(*revision), at));
            }
        }
        in_file.sort_unstable();
        let (keys, places): (Vec<_>, Vec<_>) = in_file.into_iter().unzip();
        for (value, at) in self.keys.get_many(&keys)?.into_iter().zip(places) {
            found[at] = value;
        }
        Ok(found)
    }

    /// Rows of the `key` bucket from `from` on, in order, while `main <= until`.
    ///
    /// # Errors
    /// When the disk fails or a page is damaged.
    pub fn rows(&self, from: Revision, until: i64) -> Result<Rows, BackendError> {
        let mut cursor = self.keys.cursor();
        let next = cursor.seek(&encode_revision(from, false))?;
        Ok(Rows {
            view: self.clone(),
            cursor,
            next,
            until,
            last: from,
            fresh: true,
            buffer: VecDeque::new(),
        })
    }

    /// The committed state, for the other buckets, hashes and copies.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

/// Rows in ascending order; see [`BackendView::rows`].
pub struct Rows {
    view: BackendView,
    cursor: Cursor,
    next: Option<(Bytes, Bytes)>,
    until: i64,
    /// The last row given, or where to begin.
    last: Revision,
    /// Nothing was given yet.
    fresh: bool,
    buffer: VecDeque<KeyRow>,
}

/// Overlay rows taken at a time, so that no lock is held while they are used.
const OVERLAY_ROWS: usize = 256;

impl Rows {
    /// The next row.
    ///
    /// # Errors
    /// When the disk fails, a page is damaged, or a key is no revision.
    #[expect(clippy::should_implement_trait, reason = "it can fail at every step")]
    pub fn next(&mut self) -> Result<Option<KeyRow>, BackendError> {
        let row = match self.next.take() {
            Some((key, value)) => {
                let (revision, tombstone) = decode_revision(&key)?;
                self.next = self.cursor.next()?;
                Some(KeyRow { revision, tombstone, value })
            }
            None => self.next_of_overlay(),
        };
        let Some(row) = row.filter(|row| row.revision.main <= self.until) else { return Ok(None) };
        self.last = row.revision;
        self.fresh = false;
        Ok(Some(row))
    }

    fn next_of_overlay(&mut self) -> Option<KeyRow> {
        if self.buffer.is_empty() {
            let from = match self.fresh {
                true => self.last,
                false => Revision::new(self.last.main, self.last.sub + 1),
            };
            for chunk in self.view.overlay.chunks_from(from) {
                self.buffer.extend(chunk.rows_from(from, OVERLAY_ROWS));
                if !self.buffer.is_empty() {
                    break;
                }
            }
        }
        self.buffer.pop_front()
    }
}
