//! Building the index from the rows of the db, in the pass that opens it.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_backend::{Backend, KeyValueRef};
use mainstay_types::limits::REVISION_MAX;
use mainstay_types::{LeaseId, Revision};

use crate::compaction::Compacting;
use crate::error::MvccError;
use crate::index::KeyIndex;
use crate::item::Change;
use crate::sorting::Sorting;
use crate::store::Store;

const NOT_A_PAIR: &str = "not a key-value";
const TOO_LARGE: &str = "beyond what a store can have counted to";

/// Takes rows in order while the db is opened.
#[derive(Default)]
pub struct Loading {
    index: KeyIndex,
    sorting: Sorting,
    newest: Revision,
    leases: BTreeMap<Bytes, LeaseId>,
    damaged: Option<(Revision, &'static str)>,
}

/// A store as the db has it.
pub struct Loaded {
    /// The store.
    pub store: Store,
    /// Keys that hang on a lease: the last put of a key decides.
    pub attached: Vec<(Bytes, LeaseId)>,
}

impl Loading {
    /// Takes the next row of bucket `key`; the visitor of `Backend::open`.
    pub fn row(&mut self, revision: Revision, tombstone: bool, value: &[u8]) {
        if revision <= self.newest {
            // One revision as a put and as a deletion: nobody writes that.
            self.damaged.get_or_insert((revision, "there twice"));
            return;
        }
        self.newest = revision;
        let Some(kv) = KeyValueRef::decode(value) else {
            self.damaged.get_or_insert((revision, NOT_A_PAIR));
            return;
        };
        if revision.main.max(revision.sub).max(kv.version) > REVISION_MAX {
            self.damaged.get_or_insert((revision, TOO_LARGE));
            return;
        }
        // A bumped revision leaves a row without a key (disk.md 8.1). No request can name
        // that key, but compaction and hashes count it as one, as etcd's index does.
        let change = match tombstone {
            true => Change { modified: revision, created: 0, version: 0 },
            false => Change {
                modified: revision,
                created: kv.create_revision,
                version: kv.version.max(1),
            },
        };
        self.sorting.push(kv.key, change, &mut self.index);
        if !tombstone && kv.lease != 0 {
            self.leases.insert(Bytes::copy_from_slice(kv.key), LeaseId(kv.lease));
        } else if !self.leases.is_empty() {
            self.leases.remove(kv.key);
        }
    }

    /// Ends the pass: current and compacted revision as at boot (disk.md 5.1), and an
    /// unfinished compaction goes on.
    ///
    /// # Errors
    /// When a row could not be read, or the meta bucket cannot.
    pub fn finish(mut self, backend: &Backend) -> Result<Loaded, MvccError> {
        if let Some((revision, what)) = self.damaged {
            return Err(MvccError::Row { revision, what });
        }
        self.sorting.flush(&mut self.index);
        let meta = backend.meta()?;
        let finished = meta.finished_compaction.unwrap_or(-1);
        let scheduled = meta.scheduled_compaction.unwrap_or(-1);
        let compaction = finished.max(scheduled);
        if compaction > REVISION_MAX {
            return Err(MvccError::Row { revision: Revision::new(compaction, 0), what: TOO_LARGE });
        }
        let revision = self.newest.main.max(compaction).max(1);
        let store = Store {
            backend: backend.clone(),
            index: self.index,
            revision,
            compacted: compaction,
            compacting: (scheduled > finished).then(|| Compacting::new(scheduled, None)),
        };
        Ok(Loaded { store, attached: self.leases.into_iter().collect() })
    }
}
