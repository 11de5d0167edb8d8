//! The key space as transactions see it: mvcc with leases hung on it.

use bytes::Bytes;
use mainstay_lease::Book;
use mainstay_mvcc::{MvccError, RangeReply, TxnEnd, View, WriteTxn};
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb::KeyValue;
use mainstay_types::{KeyRange, LeaseId};

use crate::ApplyError;
use crate::txn::{Reads, Writes, header};

impl From<MvccError> for ApplyError {
    fn from(error: MvccError) -> ApplyError {
        match error {
            MvccError::Compacted => ApplyError::Compacted,
            MvccError::FutureRevision => ApplyError::FutureRevision,
            damage @ (MvccError::Backend(_) | MvccError::Row { .. }) => {
                ApplyError::Storage(damage.to_string())
            }
        }
    }
}

/// A write transaction that keeps the book of leases in step with the keys.
pub(crate) struct Keys<'a> {
    txn: WriteTxn<'a>,
    leases: &'a mut Book,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(txn: WriteTxn<'a>, leases: &'a mut Book) -> Keys<'a> {
        Keys { txn, leases }
    }

    pub(crate) fn end(self) -> TxnEnd {
        self.txn.end()
    }
}

impl Reads for Keys<'_> {
    fn revision(&self) -> i64 {
        self.txn.revision()
    }

    fn compact_revision(&self) -> i64 {
        self.txn.compact_revision()
    }

    fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApplyError> {
        respond(self.txn.range(request)?)
    }

    fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.contains(lease)
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ApplyError> {
        Ok(self.txn.get(key)?)
    }

    fn get_revisions(&self, key: &[u8]) -> Result<Option<KeyValue>, ApplyError> {
        Ok(self.txn.get_revisions(key))
    }

    fn all(
        &self,
        range: &KeyRange,
        holds: &mut dyn FnMut(&KeyValue) -> bool,
    ) -> Result<Option<bool>, ApplyError> {
        Ok(self.txn.all(range, holds)?)
    }
}

impl Writes for Keys<'_> {
    fn put(&mut self, key: Bytes, value: Bytes, lease: LeaseId) -> Result<(), ApplyError> {
        self.txn.put(&key, &value, lease);
        if lease == LeaseId::NONE {
            self.leases.detach(&key);
        } else {
            let there = self.leases.attach(lease, &key);
            assert!(there, "a put was checked for lease {lease} and the lease is gone");
        }
        Ok(())
    }

    fn delete_range(
        &mut self,
        range: &KeyRange,
        prev: bool,
    ) -> Result<(i64, Vec<KeyValue>), ApplyError> {
        let deleted = self.txn.delete_range(range, prev)?;
        let count = deleted.len() as i64;
        let mut prev_kvs = Vec::with_capacity(if prev { deleted.len() } else { 0 });
        for pair in deleted {
            self.leases.detach(&pair.key);
            prev_kvs.extend(pair.prev);
        }
        Ok((count, prev_kvs))
    }

    fn decided(&mut self) {
        self.txn.decided();
    }
}

impl Reads for View {
    fn revision(&self) -> i64 {
        View::revision(self)
    }

    fn compact_revision(&self) -> i64 {
        View::compact_revision(self)
    }

    fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApplyError> {
        respond(View::range(self, request)?)
    }

    /// Nothing that only reads puts.
    fn has_lease(&self, _lease: LeaseId) -> bool {
        false
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ApplyError> {
        Ok(View::get(self, key)?)
    }

    fn get_revisions(&self, key: &[u8]) -> Result<Option<KeyValue>, ApplyError> {
        Ok(View::get_revisions(self, key))
    }

    fn all(
        &self,
        range: &KeyRange,
        holds: &mut dyn FnMut(&KeyValue) -> bool,
    ) -> Result<Option<bool>, ApplyError> {
        Ok(View::all(self, range, holds)?)
    }
}

/// Decodes the pairs, which are slices of what was read.
pub(crate) fn respond(reply: RangeReply) -> Result<pb::RangeResponse, ApplyError> {
    let kvs: Result<Vec<KeyValue>, _> = reply.kvs.into_iter().map(KeyValue::decode).collect();
    let kvs = kvs.map_err(|error| ApplyError::Storage(format!("a row is damaged: {error}")))?;
    let header = header(reply.revision);
    Ok(pb::RangeResponse { header, kvs, more: reply.more, count: reply.count })
}
