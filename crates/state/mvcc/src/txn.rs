//! A write transaction: one main revision, its changes numbered from 0.

use std::cell::Cell;

use bytes::Bytes;
use mainstay_backend::{KeyRow, KeyValueRef, encode_key_value};
use mainstay_proto::{Message as _, mvccpb};
use mainstay_types::{KeyRange, LeaseId, Revision};

use crate::error::MvccError;
use crate::index::Step;
use crate::item::Found;
use crate::range::{self, RangeReply, Source};
use crate::store::Store;

/// One change of one key, for watchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether the key was deleted.
    pub deleted: bool,
    /// When; `sub` counts within the request.
    pub revision: Revision,
    /// The key.
    pub key: Bytes,
    /// The encoded `KeyValue`; a deletion's has key and mod revision only.
    pub kv: Bytes,
    /// Where the pair was put that this change replaced; `None` when the key did not
    /// exist. [`crate::View::value_at`] reads it, if somebody wants it.
    pub prev: Option<Revision>,
}

/// A deleted key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The key.
    pub key: Bytes,
    /// The pair that was deleted, when it was asked for.
    pub prev: Option<mvccpb::KeyValue>,
}

/// What a transaction has done, as etcd counts it for its metrics (mvcc, `metricsTxnWrite`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads of a key or a range, those for comparisons and previous pairs included.
    pub ranges: u64,
    /// Keys put.
    pub puts: u64,
    /// Ranges deleted, whether or not there was a key in them.
    pub deletes: u64,
    /// Bytes of the keys and values that were put.
    pub put_bytes: u64,
    /// Transactions of more than one of these operations.
    pub txns: u64,
}

/// What a transaction has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnEnd {
    /// The revision after it; the one before when nothing changed.
    pub revision: i64,
    /// Rows for the batch.
    pub rows: Vec<KeyRow>,
    /// Events, in the order of their sub revisions.
    pub events: Vec<Event>,
    /// What was done.
    pub counts: Counts,
}

/// A transaction under way; sees its own changes.
pub struct WriteTxn<'s> {
    store: &'s mut Store,
    main: i64,
    rows: Vec<KeyRow>,
    events: Vec<Event>,
    /// Reads since [`WriteTxn::decided`].
    ranges: Cell<u64>,
    /// All else, and what was read to decide.
    counts: Counts,
}

impl<'s> WriteTxn<'s> {
    pub(crate) fn new(store: &'s mut Store) -> WriteTxn<'s> {
        let main = store.revision + 1;
        let (rows, events) = (Vec::new(), Vec::new());
        WriteTxn { store, main, rows, events, ranges: Cell::new(0), counts: Counts::default() }
    }

    /// The revision that reads see: one more than before once something changed.
    pub fn revision(&self) -> i64 {
        if self.rows.is_empty() { self.main - 1 } else { self.main }
    }

    /// The last compaction, or -1.
    pub fn compact_revision(&self) -> i64 {
        self.store.compacted
    }

    /// What was read so far was to decide what to do, which etcd counts as a transaction
    /// of its own.
    pub fn decided(&mut self) {
        let ranges = self.ranges.take();
        self.counts.ranges += ranges;
        self.counts.txns += u64::from(ranges > 1);
    }

    fn count_read(&self) {
        self.ranges.set(self.ranges.get() + 1);
    }

    /// The pair of a key now.
    ///
    /// # Errors
    /// When the disk fails or the row is damaged.
    pub fn get(&self, key: &[u8]) -> Result<Option<mvccpb::KeyValue>, MvccError> {
        self.count_read();
        let Some(found) = self.store.index.get(key) else { return Ok(None) };
        decode(found.modified, self.value(found.modified)?).map(Some)
    }

    /// As [`WriteTxn::get`], but without value and lease: what the index knows, and no
    /// look at the disk.
    pub fn get_revisions(&self, key: &[u8]) -> Option<mvccpb::KeyValue> {
        self.count_read();
        self.store.index.get(key).map(revisions_of)
    }

    /// Whether `holds` is true of every key in the range now; `None` when there is no
    /// key. Stops at the first for which it is not.
    ///
    /// # Errors
    /// When the disk fails or a row is damaged.
    pub fn all(
        &self,
        range: &KeyRange,
        holds: &mut dyn FnMut(&mvccpb::KeyValue) -> bool,
    ) -> Result<Option<bool>, MvccError> {
        self.count_read();
        range::all(self, range, holds)
    }

    /// Answers a range request.
    ///
    /// # Errors
    /// A revision that cannot be asked for, or a disk that fails.
    pub fn range(
        &self,
        request: &mainstay_proto::etcdserverpb::RangeRequest,
    ) -> Result<RangeReply, MvccError> {
        self.count_read();
        range::range(self, request)
    }

    /// Writes a key; answers it as it is now.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Found {
        self.counts.puts += 1;
        self.counts.put_bytes += (key.len() + value.len()) as u64;
        let modified = self.next_revision();
        let (prev, found) = self.store.index.put(key, modified);
        let kv = encode_key_value(&KeyValueRef {
            key,
            create_revision: found.created,
            mod_revision: modified.main,
            version: found.version,
            value,
            lease: lease.0,
        });
        self.rows.push(KeyRow { revision: modified, tombstone: false, value: kv.clone() });
        self.events.push(Event {
            deleted: false,
            revision: modified,
            key: key_within(&kv, key),
            kv,
            prev: prev.map(|p| p.modified),
        });
        found
    }

    /// Deletes every key of the range, in order.
    ///
    /// # Errors
    /// When previous pairs are asked for and the disk fails.
    pub fn delete_range(
        &mut self,
        range: &KeyRange,
        want_prev: bool,
    ) -> Result<Vec<Deleted>, MvccError> {
        self.counts.deletes += 1;
        if want_prev {
            self.count_read();
        }
        let mut keys = Vec::new();
        self.store.index.walk(range, None, &mut |key, found| {
            keys.push((Bytes::copy_from_slice(key), found));
            Step::Go
        });
        let mut deleted = Vec::with_capacity(keys.len());
        for (key, found) in keys {
            let prev = match want_prev {
                true => Some(decode(found.modified, self.value(found.modified)?)?),
                false => None,
            };
            self.delete(&key, found);
            deleted.push(Deleted { key, prev });
        }
        Ok(deleted)
    }

    fn delete(&mut self, key: &Bytes, found: Found) {
        let modified = self.next_revision();
        self.store.index.delete(key, modified);
        // On disk a deletion has only its key; an event also says when.
        let row = encode_key_value(&KeyValueRef { key, ..Default::default() });
        let event = KeyValueRef { key, mod_revision: modified.main, ..Default::default() };
        self.rows.push(KeyRow { revision: modified, tombstone: true, value: row });
        self.events.push(Event {
            deleted: true,
            revision: modified,
            key: key.clone(),
            kv: encode_key_value(&event),
            prev: Some(found.modified),
        });
    }

    /// Ends the transaction. What it changed is in the index; its rows are the
    /// caller's to append to the backend before anything else is asked.
    pub fn end(self) -> TxnEnd {
        let revision = self.revision();
        self.store.revision = revision;
        let mut counts = self.counts;
        let ranges = self.ranges.get();
        counts.ranges += ranges;
        counts.txns += u64::from(ranges + counts.puts + counts.deletes > 1);
        TxnEnd { revision, rows: self.rows, events: self.events, counts }
    }

    fn next_revision(&self) -> Revision {
        Revision::new(self.main, self.rows.len() as i64)
    }
}

impl Source for WriteTxn<'_> {
    fn index(&self) -> &crate::KeyIndex {
        &self.store.index
    }

    fn revision(&self) -> i64 {
        WriteTxn::revision(self)
    }

    fn compacted(&self) -> i64 {
        self.store.compacted
    }

    fn value(&self, revision: Revision) -> Result<Bytes, MvccError> {
        let missing = MvccError::Row { revision, what: "missing" };
        if revision.main == self.main {
            let row = self.rows.get(revision.sub as usize);
            return row.map(|row| row.value.clone()).ok_or(missing);
        }
        self.store.backend.value(revision)?.ok_or(missing)
    }

    fn values(&self, revisions: &[Revision]) -> Result<Vec<Bytes>, MvccError> {
        let before: Vec<_> = revisions.iter().copied().filter(|r| r.main != self.main).collect();
        let found = self.store.backend.snapshot().values(&before)?;
        let mut found = range::all_there(&before, found)?.into_iter();
        let value = |revision: &Revision| match revision.main == self.main {
            true => self.value(*revision),
            false => Ok(found.next().expect("one for each revision before")),
        };
        revisions.iter().map(value).collect()
    }
}

pub(crate) fn decode(revision: Revision, value: Bytes) -> Result<mvccpb::KeyValue, MvccError> {
    mvccpb::KeyValue::decode(value)
        .map_err(|_| MvccError::Row { revision, what: "not a key-value" })
}

/// The key as a slice of the encoded pair, which begins with it.
fn key_within(kv: &Bytes, key: &[u8]) -> Bytes {
    let mut at = 1;
    while kv.get(at).is_some_and(|byte| byte & 0x80 != 0) {
        at += 1;
    }
    let slice = kv.slice(at + 1..at + 1 + key.len());
    assert!(slice == key, "a pair begins with its key");
    slice
}

/// A key's revisions and version, and nothing else of it.
pub(crate) fn revisions_of(found: Found) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        create_revision: found.created,
        mod_revision: found.modified.main,
        version: found.version,
        ..Default::default()
    }
}
