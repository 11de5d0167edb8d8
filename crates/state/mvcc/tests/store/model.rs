//! The model: a list of everything that ever happened, asked the slow way. Its rules
//! are written from the words of the reference, not from the store.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainstay_backend::{Backend, Bucket, decode_revision};
use mainstay_proto::{etcdserverpb as pb, mvccpb::KeyValue};
use mainstay_types::{KeyRange, Revision};

use crate::support::hash_of;

/// One change; a deletion's pair has only its key.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) revision: Revision,
    pub(crate) deleted: bool,
    pub(crate) kv: KeyValue,
}

/// Every change ever, in order.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) records: Vec<Record>,
    /// The current revision.
    pub(crate) current: i64,
    /// The last compaction, or -1.
    pub(crate) compacted: i64,
}

/// Pairs, whether the limit cut something off, and the count; or how it is refused.
pub(crate) type Answer = Result<(Vec<KeyValue>, bool, i64), Refusal>;

#[derive(Debug)]
pub(crate) enum Refusal {
    Future,
    Compacted,
}

/// A row of the file: what its key says, and both its parts.
pub(crate) type Row = (Revision, bool, Bytes, Bytes);

impl Model {
    pub(crate) fn new() -> Model {
        Model { records: Vec::new(), current: 1, compacted: -1 }
    }

    /// What lived at main revision `at`.
    pub(crate) fn state(&self, at: i64) -> BTreeMap<Bytes, &Record> {
        let mut state = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.revision.main <= at) {
            match record.deleted {
                true => state.remove(&record.kv.key),
                false => state.insert(record.kv.key.clone(), record),
            };
        }
        state
    }

    /// What lives.
    pub(crate) fn live(&self) -> BTreeMap<Bytes, &Record> {
        self.state(i64::MAX)
    }

    /// The revision that a query means.
    pub(crate) fn meant(&self, query: &pb::RangeRequest) -> i64 {
        if query.revision <= 0 { self.current } else { query.revision }
    }

    /// Semantics 2, step by step.
    pub(crate) fn answer(&self, query: &pb::RangeRequest) -> Answer {
        let at = self.meant(query);
        if query.revision > self.current {
            return Err(Refusal::Future);
        }
        if at < self.compacted {
            return Err(Refusal::Compacted);
        }
        let range = KeyRange::from_wire(query.key.clone(), query.range_end.clone());
        let state = self.state(at).into_iter().filter(|(key, _)| range.contains(key));
        let mut kvs: Vec<KeyValue> = state.map(|(_, record)| record.kv.clone()).collect();
        let count = kvs.len() as i64;
        if query.count_only {
            return Ok((Vec::new(), false, count));
        }
        let filters = [
            query.min_mod_revision,
            query.max_mod_revision,
            query.min_create_revision,
            query.max_create_revision,
        ];
        let by_key = query.sort_order == 0 || (query.sort_order == 1 && query.sort_target == 0);
        if by_key && filters == [0; 4] && query.limit > 0 {
            kvs.truncate(query.limit.saturating_add(1) as usize);
        }
        filter(query, &mut kvs);
        sort(query, &mut kvs);
        let more = query.limit > 0 && kvs.len() as i64 > query.limit;
        if more {
            kvs.truncate(query.limit as usize);
        }
        if query.keys_only {
            kvs.iter_mut().for_each(|kv| strip(query, kv));
        }
        Ok((kvs, more, count))
    }

    /// disk.md 7.2 over the rows that are in the file.
    pub(crate) fn hash(&self, rows: &[Row], revision: i64) -> u32 {
        let until = if revision == 0 { self.current } else { revision };
        let alive = |at: i64| -> BTreeSet<Revision> {
            let deleted_then = |key: &Bytes| {
                let mut there = self.records.iter().filter(|r| r.revision.main == at);
                there.any(|r| r.deleted && r.kv.key == *key)
            };
            let state = self.state(at).into_iter().filter(|(key, _)| !deleted_then(key));
            state.map(|(_, record)| record.revision).collect()
        };
        let mut keep = alive(until);
        if keep.is_empty() {
            // Every row, in etcd: that is what a compaction has left once it is through.
            keep = alive(self.compacted);
        }
        let counts = |at: &Revision, tombstone: bool| {
            let superfluous = at.main <= self.compacted && !keep.contains(at);
            at.main <= until && !superfluous && !(at.main == self.compacted && tombstone)
        };
        let counted = rows.iter().filter(|(at, tombstone, _, _)| counts(at, *tombstone));
        hash_of(counted.map(|(_, _, key, value)| (key, value)))
    }

    /// The rows that a finished compaction leaves (disk.md 5.2).
    pub(crate) fn left(&self) -> Vec<Revision> {
        let mut newest = BTreeMap::new();
        for record in self.records.iter().filter(|r| r.revision.main <= self.compacted) {
            newest.insert(&record.kv.key, record.revision);
        }
        let stays = |record: &&Record| {
            let at = record.revision;
            match record.deleted {
                true => at.main >= self.compacted,
                false => at.main > self.compacted || newest[&record.kv.key] == at,
            }
        };
        self.records.iter().filter(stays).map(|record| record.revision).collect()
    }
}

fn filter(query: &pb::RangeRequest, kvs: &mut Vec<KeyValue>) {
    if query.max_mod_revision != 0 {
        kvs.retain(|kv| kv.mod_revision <= query.max_mod_revision);
    }
    if query.min_mod_revision != 0 {
        kvs.retain(|kv| kv.mod_revision >= query.min_mod_revision);
    }
    if query.max_create_revision != 0 {
        kvs.retain(|kv| kv.create_revision <= query.max_create_revision);
    }
    if query.min_create_revision != 0 {
        kvs.retain(|kv| kv.create_revision >= query.min_create_revision);
    }
}

/// Ties stay in the order of their keys, whichever way the rest is sorted.
fn sort(query: &pb::RangeRequest, kvs: &mut [KeyValue]) {
    if query.sort_order == 2 && query.sort_target != 0 {
        kvs.reverse();
    }
    match query.sort_target {
        1 => kvs.sort_by_key(|kv| kv.version),
        2 => kvs.sort_by_key(|kv| kv.create_revision),
        3 => kvs.sort_by_key(|kv| kv.mod_revision),
        4 => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
        _ => {}
    }
    if query.sort_order == 2 {
        kvs.reverse();
    }
}

/// Without its value; the lease is known only where the value was read for sorting.
pub(crate) fn strip(query: &pb::RangeRequest, kv: &mut KeyValue) {
    kv.value = Bytes::new();
    if query.sort_target != 4 {
        kv.lease = 0;
    }
}

/// All rows of the `key` bucket, after a commit.
pub(crate) fn rows_in(backend: &Backend) -> Vec<Row> {
    backend.commit().unwrap();
    let row = |(key, value): (Bytes, Bytes)| {
        let (revision, tombstone) = decode_revision(&key).unwrap();
        (revision, tombstone, key, value)
    };
    backend.rows_of(Bucket::Key).unwrap().into_iter().map(row).collect()
}
