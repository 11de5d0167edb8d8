//! What one writer's operations do, worked out without a server.
//!
//! A writer owns its keys and its leases and sends one operation at a time, so
//! what its keys hold follows from its own operations alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb;
use pb::request_op::Request;

/// A key's newest state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) value: Bytes,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
}

impl Row {
    /// As a server tells it.
    pub(crate) fn of(kv: &mvccpb::KeyValue) -> Row {
        Row {
            value: kv.value.clone(),
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        }
    }
}

/// One change as a watcher sees it; `None` is a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Bytes,
    pub(crate) row: Option<Row>,
}

/// What a writer sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Grant(i64),
    Revoke(i64),
}

/// A writer's keys and leases.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) rows: BTreeMap<Bytes, Row>,
    pub(crate) leases: Vec<i64>,
}

impl State {
    /// Does `op`, as the one whose changes carry `revision`; answers the changes in
    /// the order in which a watcher is told of them. Without changes the store's
    /// revision stays.
    pub(crate) fn apply(&mut self, op: &Op, revision: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        match op {
            Op::Put(put) => self.put(put, revision, &mut changes),
            Op::Delete(delete) => self.delete(delete, &mut changes),
            Op::Txn(txn) => self.txn(txn, revision, &mut changes),
            Op::Grant(id) => self.leases.push(*id),
            Op::Revoke(id) => self.revoke(*id, &mut changes),
        }
        changes
    }

    fn put(&mut self, put: &pb::PutRequest, revision: i64, changes: &mut Vec<Change>) {
        let before = self.rows.get(&put.key);
        let row = Row {
            value: put.value.clone(),
            created: before.map_or(revision, |row| row.created),
            modified: revision,
            version: before.map_or(0, |row| row.version) + 1,
            lease: put.lease,
        };
        self.rows.insert(put.key.clone(), row.clone());
        changes.push(Change { key: put.key.clone(), row: Some(row) });
    }

    fn delete(&mut self, delete: &pb::DeleteRangeRequest, changes: &mut Vec<Change>) {
        let inside = |key: &&Bytes| {
            if delete.range_end.is_empty() {
                **key == delete.key
            } else {
                **key >= delete.key && **key < delete.range_end
            }
        };
        let gone: Vec<Bytes> = self.rows.keys().filter(inside).cloned().collect();
        for key in gone {
            self.rows.remove(&key);
            changes.push(Change { key, row: None });
        }
    }

    /// Compares are on versions only.
    fn txn(&mut self, txn: &pb::TxnRequest, revision: i64, changes: &mut Vec<Change>) {
        let holds = txn.compare.iter().all(|compare| {
            let version = self.rows.get(&compare.key).map_or(0, |row| row.version);
            compare.target_union == Some(pb::compare::TargetUnion::Version(version))
        });
        for op in if holds { &txn.success } else { &txn.failure } {
            match &op.request {
                Some(Request::RequestPut(put)) => self.put(put, revision, changes),
                Some(Request::RequestDeleteRange(delete)) => self.delete(delete, changes),
                _ => {}
            }
        }
    }

    fn revoke(&mut self, id: i64, changes: &mut Vec<Change>) {
        self.leases.retain(|lease| *lease != id);
        let held = |row: &Row| row.lease == id;
        let gone: Vec<Bytes> =
            self.rows.iter().filter(|(_, row)| held(row)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.rows.remove(&key);
            changes.push(Change { key, row: None });
        }
    }
}
