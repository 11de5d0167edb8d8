//! The hashes of the last compactions (etcd, `hashStorage`): what members compare when
//! they check each other, because by then the rows are gone (semantics 13.3).
//!
//! A compaction is hashed beside the traffic, from the view of the moment it was applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_mvcc::{HashKv, MvccError, View};
use parking_lot::{Condvar, Mutex};

/// How many are remembered (etcd, `hashStorageMaxSize`).
const REMEMBERED: usize = 10;
/// Compactions that may be hashed at the same time, each with its view pinned; what
/// comes beyond is not remembered.
const AT_ONCE_MAX: usize = REMEMBERED;

#[derive(Clone, Copy)]
enum Known {
    /// Being computed.
    Soon,
    Hash(HashKv),
}

/// Hashes by the revision of the compaction; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Hashes(Arc<Inner>);

#[derive(Default)]
struct Inner {
    known: Mutex<BTreeMap<i64, Known>>,
    done: Condvar,
}

impl Hashes {
    /// Hashes the compaction at `revision` that `view` shows, `before` being the
    /// compacted revision until then, on a thread that ends with it.
    pub(crate) fn compute(&self, view: Arc<View>, before: i64, revision: i64) {
        {
            let mut known = self.0.known.lock();
            let under_way = known.values().filter(|hash| matches!(hash, Known::Soon)).count();
            if under_way >= AT_ONCE_MAX {
                tracing::info!(
                    revision,
                    "compactions follow too fast; this one's hash is not stored"
                );
                return;
            }
            known.insert(revision, Known::Soon);
            // Now, and not when it is computed: whoever asks after the compaction must not
            // find what it has pushed out.
            forget_oldest(&mut known);
        }
        let this = self.clone();
        let work = move || this.finish(revision, view.hash_compaction(before, revision));
        let spawned = std::thread::Builder::new().name("compact-hash".into()).spawn(work);
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to hash a compaction");
            self.forget(revision);
        }
    }

    fn finish(&self, revision: i64, result: Result<HashKv, MvccError>) {
        match result {
            Ok(hash) => {
                tracing::info!(
                    hash = hash.hash,
                    revision,
                    "compact-revision" = hash.compact_revision,
                    "storing new hash"
                );
                let mut known = self.0.known.lock();
                known.insert(revision, Known::Hash(hash));
                forget_oldest(&mut known);
                drop(known);
                self.0.done.notify_all();
            }
            Err(error) => {
                tracing::warn!(%error, revision, "failed to hash a compaction");
                self.forget(revision);
            }
        }
    }

    fn forget(&self, revision: i64) {
        self.0.known.lock().remove(&revision);
        self.0.done.notify_all();
    }

    /// All are of a store that was replaced by another member's.
    pub(crate) fn clear(&self) {
        self.0.known.lock().retain(|_, known| matches!(known, Known::Soon));
    }

    /// The hash of the compaction at exactly `revision`, if one is remembered; waits for
    /// one that is being computed. Not for a thread that must answer.
    pub(crate) fn of(&self, revision: i64) -> Option<HashKv> {
        let mut known = self.0.known.lock();
        loop {
            match known.get(&revision)? {
                Known::Hash(hash) => return Some(*hash),
                Known::Soon => self.0.done.wait(&mut known),
            }
        }
    }

    /// All that are computed, the oldest first.
    pub(crate) fn all(&self) -> Vec<HashKv> {
        let known = self.0.known.lock();
        let hash = |known: &Known| match known {
            Known::Hash(hash) => Some(*hash),
            Known::Soon => None,
        };
        known.values().filter_map(hash).collect()
    }
}

fn forget_oldest(known: &mut BTreeMap<i64, Known>) {
    while known.len() > REMEMBERED {
        known.pop_first();
    }
}
