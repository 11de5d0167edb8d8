//! Old events, for watchers that start in the past or lag.

use bytes::Bytes;
use mainstay_backend::{KeyValueRef, encode_key_value};
use mainstay_types::{KeyRange, Revision};

use crate::error::MvccError;
use crate::view::View;

/// Rows that one slice looks at before it rests, however few of them fit.
const ROWS_MAX: usize = 50_000;

/// An event that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastEvent {
    /// Whether the key was deleted.
    pub deleted: bool,
    /// When.
    pub revision: Revision,
    /// The key.
    pub key: Bytes,
    /// The encoded `KeyValue`; a deletion's has key and mod revision only.
    pub kv: Bytes,
}

/// A slice of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Events of the range, in order; of a revision all or none.
    pub events: Vec<PastEvent>,
    /// Every event of the range before this main revision is in `events`.
    pub next: i64,
}

impl View {
    /// Events in the range from main revision `from` on: at most `revisions_max`
    /// distinct revisions with events, no further one begun after `bytes_max` bytes.
    /// The slice ends early in a long stretch without events, so that its time is
    /// bounded.
    ///
    /// # Errors
    /// `Compacted` when `from` lies below the compaction; a disk that fails.
    pub fn history(
        &self,
        range: &KeyRange,
        from: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<History, MvccError> {
        if from < self.compacted {
            return Err(MvccError::Compacted);
        }
        let mut found = History { events: Vec::new(), next: self.revision + 1 };
        let (mut revisions, mut bytes, mut last) = (0, 0, 0);
        let mut rows = self.rows().rows(Revision::new(from, 0), self.revision)?;
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            let main = row.revision.main;
            looked_at += 1;
            let full = looked_at > ROWS_MAX || revisions >= revisions_max || bytes >= bytes_max;
            if main != last && full {
                found.next = main;
                break;
            }
            let damaged = MvccError::Row { revision: row.revision, what: "not a key-value" };
            let kv = KeyValueRef::decode(&row.value).ok_or(damaged)?;
            let fits = range.contains(kv.key);
            if main != last && fits {
                revisions += 1;
            }
            if fits {
                bytes += row.value.len();
                found.events.push(past_event(&row, &kv));
            }
            if fits || main != last {
                last = main;
            }
        }
        Ok(found)
    }
}

fn past_event(row: &mainstay_backend::KeyRow, kv: &KeyValueRef<'_>) -> PastEvent {
    let modified = row.revision.main;
    let encoded = match row.tombstone {
        true => encode_key_value(&KeyValueRef {
            key: kv.key,
            mod_revision: modified,
            ..Default::default()
        }),
        false => row.value.clone(),
    };
    PastEvent {
        deleted: row.tombstone,
        revision: row.revision,
        key: Bytes::copy_from_slice(kv.key),
        kv: encoded,
    }
}
