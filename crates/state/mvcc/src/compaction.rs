//! What follows a compaction: rows that nobody can ask for are deleted, in slices
//! beside the traffic.
//!
//! etcd walks the `key` bucket from its start; the index knows which revisions have
//! become superfluous, so we walk keys and delete just those rows. Rows lie in the file
//! by revision: they are gathered first and deleted in that order, so that a page is
//! written once and not for every key that has a row in it.

use mainstay_backend::{Batch, Bucket, encode_revision, meta};
use mainstay_types::Revision;

use crate::gone::Gone;
use crate::index::Stretch;
use crate::store::Store;

/// A deletion under way.
#[derive(Clone, Debug)]
pub(crate) struct Compacting {
    revision: i64,
    /// The next key to look at; `None` when all have been.
    from: Option<Vec<u8>>,
    /// Rows to be deleted. The index has forgotten them.
    gone: Gone,
    /// Rows are deleted until none is left; else keys are looked at.
    deleting: bool,
}

impl Compacting {
    /// Begins from the first key. What a compaction before has gathered is still to be
    /// deleted.
    pub(crate) fn new(revision: i64, before: Option<Compacting>) -> Compacting {
        let gone = before.map(|before| before.gone).unwrap_or_default();
        Compacting { revision, from: Some(Vec::new()), gone, deleting: false }
    }
}

/// Keys without a past that are looked at for each row that may be deleted.
const KEYS_PER_ROW: usize = 8;
/// Keys with a past that are compacted for each row that may be deleted.
const PASTS_PER_ROW: usize = 2;
/// What the gathered rows may take for each that may be deleted, before deleting begins.
const WEIGHT_PER_ROW: usize = 1 << 10;
/// The same in all, some 40 MB: what is deleted in two goes has its pages written twice.
const GONE_WEIGHT_MAX: usize = 1 << 20;

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

    /// Looks at some keys, or deletes up to `limit` rows. `None` when nothing is to be
    /// done. The batch carries the index and term that are applied already.
    pub fn compaction_slice(&mut self, limit: usize, batch: &mut Batch) -> Option<Slice> {
        let mut compacting = self.compacting.take()?;
        let limit = limit.max(1);
        if !compacting.deleting {
            self.gather(&mut compacting, limit);
        }
        let mut deleted = 0;
        while compacting.deleting && deleted < limit {
            let Some((revision, tombstone)) = compacting.gone.pop_first() else { break };
            batch.delete_revision(revision, tombstone);
            deleted += 1;
        }
        compacting.deleting = !compacting.gone.is_empty() && compacting.deleting;
        let revision = compacting.revision;
        let finished = compacting.from.is_none() && compacting.gone.is_empty();
        if finished {
            let value = encode_revision(Revision::new(revision, 0), false);
            batch.put(Bucket::Meta, meta::FINISHED_COMPACT_REV, value);
        } else {
            self.compacting = Some(compacting);
        }
        Some(Slice { revision, deleted, finished })
    }

    fn gather(&mut self, compacting: &mut Compacting, limit: usize) {
        let Compacting { revision, from, gone, deleting } = compacting;
        if let Some(key) = from {
            let slice = Stretch {
                keys: limit.saturating_mul(KEYS_PER_ROW),
                pasts: limit.saturating_mul(PASTS_PER_ROW),
            };
            let next = self.index.compact(key, slice, *revision, &mut |at, tombstone| {
                gone.insert(at, tombstone);
            });
            *from = next;
        }
        let enough = limit.saturating_mul(WEIGHT_PER_ROW).min(GONE_WEIGHT_MAX);
        *deleting = from.is_none() || gone.weight() >= enough;
    }
}
