//! What follows a compaction: rows that nobody can ask for are deleted, in slices
//! beside the traffic.
//!
//! etcd walks the `key` bucket from its start; the index knows which revisions have
//! become superfluous, so we walk keys and delete just those rows.

use mainstay_backend::{Batch, Bucket, encode_revision, meta};
use mainstay_types::Revision;

use crate::store::Store;

/// A deletion under way.
#[derive(Clone, Debug)]
pub(crate) struct Compacting {
    revision: i64,
    /// The next key to look at.
    from: Vec<u8>,
}

impl Compacting {
    pub(crate) fn new(revision: i64) -> Compacting {
        Compacting { revision, from: Vec::new() }
    }
}

/// Keys without a past that are looked at for each row that may be deleted.
const KEYS_PER_ROW: usize = 8;

/// What a slice did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The compaction.
    pub revision: i64,
    /// Rows deleted.
    pub deleted: usize,
    /// Whether that was the last.
    pub finished: bool,
}

impl Store {
    /// Whether rows wait to be deleted.
    pub fn is_compacting(&self) -> bool {
        self.compacting.is_some()
    }

    /// Deletes the rows of up to about `limit` keys. `None` when nothing is to be
    /// done. The batch carries the index and term that are applied already.
    pub fn compaction_slice(&mut self, limit: usize, batch: &mut Batch) -> Option<Slice> {
        let Compacting { revision, from } = self.compacting.take()?;
        let mut deleted = 0;
        let mut gone = |at: Revision, tombstone: bool| {
            deleted += 1;
            batch.delete_revision(at, tombstone);
        };
        let keys = limit.max(1) * KEYS_PER_ROW;
        let next = self.index.compact(&from, keys, revision, &mut gone);
        let finished = next.is_none();
        match next {
            Some(from) => self.compacting = Some(Compacting { revision, from }),
            None => {
                let value = encode_revision(Revision::new(revision, 0), false);
                batch.put(Bucket::Meta, meta::FINISHED_COMPACT_REV, value);
            }
        }
        Some(Slice { revision, deleted, finished })
    }
}
