//! Building the index from the rows of the db, in the pass that opens it.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_backend::{Backend, KeyValueRef};
use mainstay_types::{LeaseId, Revision};

use crate::changes::Changes;
use crate::compaction::Compacting;
use crate::error::MvccError;
use crate::index::KeyIndex;
use crate::item::Change;
use crate::store::Store;

/// Takes rows in order while the db is opened.
#[derive(Default)]
pub struct Loading {
    index: KeyIndex,
    newest: i64,
    leases: BTreeMap<Bytes, LeaseId>,
    damaged: Option<Revision>,
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
        self.newest = revision.main;
        let Some(kv) = KeyValueRef::decode(value) else {
            self.damaged.get_or_insert(revision);
            return;
        };
        // A bumped revision leaves a row without a key (disk.md 8.1).
        if kv.key.is_empty() {
            return;
        }
        if tombstone {
            self.index.insert(kv.key, Change { modified: revision, created: 0, version: 0 });
        } else {
            let (created, version) = (kv.create_revision, kv.version.max(1));
            self.index.insert(kv.key, Change { modified: revision, created, version });
        }
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
    pub fn finish(self, backend: &Backend) -> Result<Loaded, MvccError> {
        if let Some(revision) = self.damaged {
            return Err(MvccError::Row { revision, what: "not a key-value" });
        }
        let meta = backend.meta()?;
        let finished = meta.finished_compaction.unwrap_or(-1);
        let scheduled = meta.scheduled_compaction.unwrap_or(-1);
        let revision = self.newest.max(finished).max(scheduled).max(1);
        let store = Store {
            backend: backend.clone(),
            index: self.index,
            changes: Changes::new(revision),
            revision,
            compacted: finished.max(scheduled),
            compacting: (scheduled > finished).then(|| Compacting::new(scheduled)),
        };
        Ok(Loaded { store, attached: self.leases.into_iter().collect() })
    }
}
