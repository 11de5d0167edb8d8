//! A small model of the key space, independent of `mvcc` and `apply`: it executes
//! the committed entries once and knows what every answer must be.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainstay_apply::{ApplyError, Reply};
use mainstay_mvcc::RangeReply;
use mainstay_proto::mvccpb::KeyValue;
use mainstay_proto::{Message as _, etcdserverpb as pb};
use mainstay_raft::{Entry, EntryKind};
use mainstay_types::{KeyRange, MemberId};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Action;
use pb::response_op::Response;

use crate::ops::{Op, OpId, ReadError};

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) key: Bytes,
    pub(crate) deleted: bool,
    /// The pair after it; of a deletion key and revision only.
    pub(crate) kv: KeyValue,
    /// The pair before it.
    pub(crate) prev: Option<KeyValue>,
}

/// What an entry did.
pub(crate) struct Done {
    /// The request; 0 when nobody waits.
    pub(crate) id: OpId,
    /// The lease that it ended.
    pub(crate) revoked: Option<i64>,
}

type Outcome = Result<Reply, ApplyError>;

/// The key space and its past.
pub(crate) struct Model {
    revision: i64,
    compacted: i64,
    /// Every pair that a key ever had, by revision; `None` where it was deleted.
    keys: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
    /// The changes of each revision from 2 on.
    changes: Vec<Vec<Change>>,
    leases: BTreeMap<i64, BTreeSet<Bytes>>,
    pub(crate) lease_ttl_min: i64,
    outcomes: BTreeMap<OpId, Outcome>,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            revision: 1,
            compacted: -1,
            keys: BTreeMap::new(),
            changes: Vec::new(),
            leases: BTreeMap::new(),
            lease_ttl_min: 0,
            outcomes: BTreeMap::new(),
        }
    }
}

impl Model {
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted
    }

    pub(crate) fn leases(&self) -> impl Iterator<Item = i64> {
        self.leases.keys().copied()
    }

    pub(crate) fn changes(&self, revision: i64) -> &[Change] {
        self.changes.get((revision - 2) as usize).map_or(&[], Vec::as_slice)
    }

    /// Executes the next committed entry.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Option<Done> {
        if entry.kind != EntryKind::Normal {
            let change = mainstay_raft::ConfChange::decode(&entry.data).expect("it was proposed");
            return Some(Done { id: change.id, revoked: None });
        }
        if entry.data.is_empty() {
            return None;
        }
        let request = pb::InternalRaftRequest::decode(entry.data.clone()).expect("it was proposed");
        let id = request.id;
        let mut txn = Txn { changes: Vec::new(), main: self.revision + 1 };
        let mut revoked = None;
        let outcome = if let Some(put) = request.put {
            self.put(&mut txn, &put).map(Reply::Put)
        } else if let Some(delete) = request.delete_range {
            Ok(Reply::DeleteRange(self.delete(&mut txn, &delete)))
        } else if let Some(request) = request.txn {
            self.txn(&mut txn, &request).map(Reply::Txn)
        } else if let Some(request) = request.compaction {
            self.compact(request.revision).map(Reply::Compaction)
        } else if let Some(grant) = request.lease_grant {
            self.grant(grant).map(Reply::LeaseGrant)
        } else if let Some(revoke) = request.lease_revoke {
            let done = self.revoke(&mut txn, revoke.id);
            revoked = done.is_ok().then_some(revoke.id);
            done.map(Reply::LeaseRevoke)
        } else {
            Ok(Reply::Done)
        };
        if !txn.changes.is_empty() {
            self.revision = txn.main;
            self.changes.push(txn.changes);
        }
        let outcome = outcome.map(|reply| with_header(reply, self.revision));
        self.outcomes.insert(id, outcome);
        Some(Done { id, revoked })
    }

    fn put(&mut self, txn: &mut Txn, put: &pb::PutRequest) -> Result<pb::PutResponse, ApplyError> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        let prev = self.now(&put.key);
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: prev.as_ref().map_or(txn.main, |prev| prev.create_revision),
            mod_revision: txn.main,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            value: put.value.clone(),
            lease: put.lease,
        };
        self.detach(prev.as_ref());
        if let Some(keys) = self.leases.get_mut(&put.lease) {
            keys.insert(put.key.clone());
        }
        self.write(txn, put.key.clone(), Some(kv), prev.clone());
        Ok(pb::PutResponse { header: None, prev_kv: prev.filter(|_| put.prev_kv) })
    }

    fn delete(
        &mut self,
        txn: &mut Txn,
        delete: &pb::DeleteRangeRequest,
    ) -> pb::DeleteRangeResponse {
        let range = KeyRange::from_wire(delete.key.clone(), delete.range_end.clone());
        let found = self.found(&range, txn.main);
        for kv in &found {
            self.detach(Some(kv));
            self.write(txn, kv.key.clone(), None, Some(kv.clone()));
        }
        let deleted = found.len() as i64;
        let prev_kvs = if delete.prev_kv { found } else { Vec::new() };
        pb::DeleteRangeResponse { header: None, deleted, prev_kvs }
    }

    fn txn(
        &mut self,
        txn: &mut Txn,
        request: &pb::TxnRequest,
    ) -> Result<pb::TxnResponse, ApplyError> {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        let actions = if succeeded { &request.success } else { &request.failure };
        for action in actions {
            if let Some(Action::RequestPut(put)) = &action.request
                && put.lease != 0
                && !self.leases.contains_key(&put.lease)
            {
                return Err(ApplyError::LeaseNotFound);
            }
        }
        let mut responses = Vec::new();
        for action in actions {
            let response = match action.request.as_ref().expect("clients send whole requests") {
                Action::RequestPut(put) => Response::ResponsePut(self.put(txn, put)?),
                Action::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(self.delete(txn, delete))
                }
                Action::RequestRange(range) => Response::ResponseRange(self.read(range, txn.main)),
                Action::RequestTxn(_) => unreachable!("clients send no nested transactions"),
            };
            responses.push(pb::ResponseOp { response: Some(response) });
        }
        Ok(pb::TxnResponse { header: None, succeeded, responses })
    }

    fn holds(&self, compare: &pb::Compare) -> bool {
        let kv = self.now(&compare.key);
        let kv = kv.unwrap_or_default();
        let order = match (compare.target(), compare.target_union.as_ref()) {
            (CompareTarget::Version, Some(TargetUnion::Version(n))) => kv.version.cmp(n),
            (CompareTarget::Create, Some(TargetUnion::CreateRevision(n))) => {
                kv.create_revision.cmp(n)
            }
            (CompareTarget::Mod, Some(TargetUnion::ModRevision(n))) => kv.mod_revision.cmp(n),
            (CompareTarget::Value, Some(TargetUnion::Value(value))) => {
                if kv.version == 0 {
                    return false;
                }
                kv.value.cmp(value)
            }
            other => unreachable!("clients do not compare {other:?}"),
        };
        match compare.result() {
            CompareResult::Equal => order.is_eq(),
            CompareResult::NotEqual => order.is_ne(),
            CompareResult::Less => order.is_lt(),
            CompareResult::Greater => order.is_gt(),
        }
    }

    fn compact(&mut self, revision: i64) -> Result<pb::CompactionResponse, ApplyError> {
        if revision <= self.compacted {
            return Err(ApplyError::Compacted);
        }
        if revision > self.revision {
            return Err(ApplyError::FutureRevision);
        }
        self.compacted = revision;
        Ok(pb::CompactionResponse { header: None })
    }

    fn grant(
        &mut self,
        grant: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, ApplyError> {
        if self.leases.contains_key(&grant.id) {
            return Err(ApplyError::LeaseExists);
        }
        self.leases.insert(grant.id, BTreeSet::new());
        let ttl = grant.ttl.max(self.lease_ttl_min);
        Ok(pb::LeaseGrantResponse { id: grant.id, ttl, ..Default::default() })
    }

    fn revoke(&mut self, txn: &mut Txn, lease: i64) -> Result<pb::LeaseRevokeResponse, ApplyError> {
        let keys = self.leases.remove(&lease).ok_or(ApplyError::LeaseNotFound)?;
        for key in keys {
            let prev = self.now(&key);
            self.write(txn, key, None, prev);
        }
        Ok(pb::LeaseRevokeResponse { header: None })
    }

    fn detach(&mut self, kv: Option<&KeyValue>) {
        if let Some(kv) = kv
            && let Some(keys) = self.leases.get_mut(&kv.lease)
        {
            keys.remove(&kv.key);
        }
    }

    fn write(&mut self, txn: &mut Txn, key: Bytes, kv: Option<KeyValue>, prev: Option<KeyValue>) {
        self.keys.entry(key.clone()).or_default().push((txn.main, kv.clone()));
        let deleted = kv.is_none();
        let mod_revision = txn.main;
        let kv = kv.unwrap_or_else(|| KeyValue {
            key: key.clone(),
            mod_revision,
            ..KeyValue::default()
        });
        txn.changes.push(Change { key, deleted, kv, prev });
    }

    fn now(&self, key: &Bytes) -> Option<KeyValue> {
        self.keys.get(key)?.last()?.1.clone()
    }

    /// The pairs of a range as of a revision.
    fn found(&self, range: &KeyRange, at: i64) -> Vec<KeyValue> {
        let within = self.keys.range(range.start.clone()..).filter(|(key, _)| range.contains(key));
        let state = |(_, pairs): (&Bytes, &Vec<(i64, Option<KeyValue>)>)| {
            pairs.iter().rev().find(|(revision, _)| *revision <= at)?.1.clone()
        };
        within.filter_map(state).collect()
    }

    fn read(&self, request: &pb::RangeRequest, at: i64) -> pb::RangeResponse {
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let mut kvs = self.found(&range, at);
        let count = kvs.len() as i64;
        let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        pb::RangeResponse { header: None, kvs, more, count }
    }

    /// The answer to an applied request; answers its revision.
    pub(crate) fn check_outcome(&mut self, id: OpId, op: &Op, got: &Outcome) -> Option<i64> {
        let known = self.outcomes.remove(&id).expect("an answered request was applied");
        let got = got.clone().map(without_inner_headers);
        assert_eq!(got, known, "{} answers request {id} otherwise than it must", op.node);
        let revision = got.as_ref().ok().and_then(revision_of)?;
        assert!(
            revision >= op.floor,
            "request {id} is answered with revision {revision}; before it was asked, {} was seen",
            op.floor
        );
        Some(revision)
    }

    /// The answer to a read; answers its revision.
    pub(crate) fn check_range(
        &self,
        from: MemberId,
        op: &Op,
        request: &pb::RangeRequest,
        serializable: bool,
        got: &Result<RangeReply, ReadError>,
    ) -> Option<i64> {
        let got = match got {
            Ok(got) => got,
            Err(ReadError::Compacted) => {
                assert!(request.revision < self.compacted, "{from} takes a revision for compacted");
                return None;
            }
            Err(ReadError::Future) => {
                let known = request.revision <= op.floor;
                assert!(serializable || !known, "{from} takes a revision for the future");
                return None;
            }
        };
        assert!(got.revision <= self.revision, "{from} answers from the future");
        assert!(
            serializable || got.revision >= op.floor,
            "stale: {from} answers a linearizable read at {}; before it was asked, {} was seen",
            got.revision,
            op.floor
        );
        let at = if request.revision > 0 { request.revision } else { got.revision };
        let must = self.read(request, at);
        let kvs: Vec<KeyValue> = got
            .kvs
            .iter()
            .map(|raw| KeyValue::decode(raw.clone()).expect("a stored pair"))
            .collect();
        assert_eq!(kvs, must.kvs, "{from} answers a read at {at} otherwise than it must");
        assert_eq!(
            (got.count, got.more),
            (must.count, must.more),
            "{from}: count of a read at {at}"
        );
        (!serializable).then_some(got.revision)
    }
}

/// The changes of one request under way.
struct Txn {
    main: i64,
    changes: Vec<Change>,
}

fn with_header(reply: Reply, revision: i64) -> Reply {
    let header = Some(pb::ResponseHeader { revision, ..Default::default() });
    match reply {
        Reply::Put(r) => Reply::Put(pb::PutResponse { header, ..r }),
        Reply::DeleteRange(r) => Reply::DeleteRange(pb::DeleteRangeResponse { header, ..r }),
        Reply::Txn(r) => Reply::Txn(pb::TxnResponse { header, ..r }),
        Reply::Compaction(_) => Reply::Compaction(pb::CompactionResponse { header }),
        Reply::LeaseGrant(r) => Reply::LeaseGrant(pb::LeaseGrantResponse { header, ..r }),
        Reply::LeaseRevoke(_) => Reply::LeaseRevoke(pb::LeaseRevokeResponse { header }),
        other => other,
    }
}

fn revision_of(reply: &Reply) -> Option<i64> {
    let header = match reply {
        Reply::Put(r) => &r.header,
        Reply::DeleteRange(r) => &r.header,
        Reply::Txn(r) => &r.header,
        Reply::Compaction(r) => &r.header,
        Reply::LeaseGrant(r) => &r.header,
        Reply::LeaseRevoke(r) => &r.header,
        _ => return None,
    };
    header.as_ref().map(|header| header.revision)
}

/// The headers inside a transaction's answer carry nothing that the outer one does not.
fn without_inner_headers(mut reply: Reply) -> Reply {
    if let Reply::Txn(txn) = &mut reply {
        for response in &mut txn.responses {
            match &mut response.response {
                Some(Response::ResponsePut(r)) => r.header = None,
                Some(Response::ResponseDeleteRange(r)) => r.header = None,
                Some(Response::ResponseRange(r)) => r.header = None,
                Some(Response::ResponseTxn(r)) => r.header = None,
                None => {}
            }
        }
    }
    reply
}
