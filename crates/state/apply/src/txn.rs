//! Transactions (semantics 4): decide, check, execute.
//!
//! All comparisons are decided on the state before the transaction, nested
//! ones included; then everything on the chosen path is checked, so that the
//! execution cannot fail half way; then it runs, and sees its own writes.

use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb::KeyValue;
use mainstay_types::{KeyRange, LeaseId};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;
use pb::response_op::Response;

use crate::ApplyError;

/// What a transaction reads from: an unchanging view, or the write
/// transaction itself, which sees its own changes.
pub(crate) trait Reads {
    /// The revision that reads see; in a write transaction one more once it
    /// has changed something.
    fn revision(&self) -> i64;
    /// The compaction, -1 when there was none.
    fn compact_revision(&self) -> i64;
    /// Answers a range request.
    fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApplyError>;
    /// Whether there is such a lease. Only asked about puts.
    fn has_lease(&self, lease: LeaseId) -> bool;
    /// One key now.
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ApplyError>;
    /// One key now, with its revisions and version; value and lease may be missing.
    fn get_revisions(&self, key: &[u8]) -> Result<Option<KeyValue>, ApplyError>;
    /// Whether `holds` is true of every key in the range now; `None` when there
    /// is no key.
    fn all(
        &self,
        range: &KeyRange,
        holds: &mut dyn FnMut(&KeyValue) -> bool,
    ) -> Result<Option<bool>, ApplyError>;
}

/// What a transaction writes to. Leases follow: a put hangs its key on the
/// lease given or takes it off, a delete takes it off.
pub(crate) trait Writes: Reads {
    /// Writes a key.
    fn put(
        &mut self,
        key: bytes::Bytes,
        value: bytes::Bytes,
        lease: LeaseId,
    ) -> Result<(), ApplyError>;
    /// Deletes a range; `prev` asks for what was deleted.
    fn delete_range(
        &mut self,
        range: &KeyRange,
        prev: bool,
    ) -> Result<(i64, Vec<KeyValue>), ApplyError>;
    /// What was read so far was to decide; only counted.
    fn decided(&mut self) {}
}

/// Checks and performs a put.
pub(crate) fn put(
    writes: &mut impl Writes,
    request: pb::PutRequest,
    local: bool,
) -> Result<pb::PutResponse, ApplyError> {
    check_lease(writes, &request)?;
    let prev = previous(writes, &request, local)?;
    if prev.is_none() && (request.ignore_value || request.ignore_lease) {
        return Err(ApplyError::KeyNotFound);
    }
    execute_put(writes, request, prev)
}

/// Performs a delete.
pub(crate) fn delete_range(
    writes: &mut impl Writes,
    request: pb::DeleteRangeRequest,
    local: bool,
) -> Result<pb::DeleteRangeResponse, ApplyError> {
    let range = KeyRange::from_wire(request.key, request.range_end);
    let (deleted, prev_kvs) = writes.delete_range(&range, request.prev_kv && local)?;
    Ok(pb::DeleteRangeResponse { header: header(writes.revision()), deleted, prev_kvs })
}

/// Performs a transaction; only the proposer (`local`) needs what its ranges
/// read, other members skip them.
pub(crate) fn txn(
    writes: &mut impl Writes,
    request: pb::TxnRequest,
    local: bool,
) -> Result<pb::TxnResponse, ApplyError> {
    let mut path = Vec::new();
    decide(writes, &request, &mut path)?;
    check(writes, &request, &mut path.iter())?;
    writes.decided();
    let mut response = execute(writes, request, &mut path.iter(), local)?;
    response.header = header(writes.revision());
    Ok(response)
}

/// Answers a transaction that [`crate::classify::is_read_only`] from a view.
pub(crate) fn read_only_txn(
    reads: &impl Reads,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, ApplyError> {
    let mut path = Vec::new();
    decide(reads, request, &mut path)?;
    check(reads, request, &mut path.iter())?;
    let succeeded = path[0];
    let ops = if succeeded { &request.success } else { &request.failure };
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let Some(Op::RequestRange(range)) = &op.request else {
            unreachable!("the caller has made sure that it only reads");
        };
        responses.push(respond(Response::ResponseRange(reads.range(range)?)));
    }
    Ok(pb::TxnResponse { header: header(reads.revision()), succeeded, responses })
}

/// A header with its revision; the rest is the server's to fill.
pub(crate) fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn respond(response: Response) -> pb::ResponseOp {
    pb::ResponseOp { response: Some(response) }
}

fn branch(txn: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// Appends the outcome of the comparisons of `txn`, then of the nested
/// transactions on the chosen branch, in the order in which they will run.
fn decide(
    reads: &impl Reads,
    txn: &pb::TxnRequest,
    path: &mut Vec<bool>,
) -> Result<(), ApplyError> {
    let mut succeeded = true;
    for compare in &txn.compare {
        if !compare_holds(reads, compare)? {
            succeeded = false;
            break;
        }
    }
    path.push(succeeded);
    for op in branch(txn, succeeded) {
        if let Some(Op::RequestTxn(nested)) = &op.request {
            decide(reads, nested, path)?;
        }
    }
    Ok(())
}

fn compare_holds(reads: &impl Reads, compare: &pb::Compare) -> Result<bool, ApplyError> {
    if compare.range_end.is_empty() {
        let of_the_index = [CompareTarget::Create, CompareTarget::Mod, CompareTarget::Version];
        let found = match CompareTarget::try_from(compare.target) {
            Ok(target) if of_the_index.contains(&target) => reads.get_revisions(&compare.key)?,
            _ => reads.get(&compare.key)?,
        };
        return Ok(match found {
            Some(kv) => kv_matches(compare, &kv),
            None => missing_matches(compare),
        });
    }
    let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
    let all = reads.all(&range, &mut |kv| kv_matches(compare, kv))?;
    Ok(all.unwrap_or_else(|| missing_matches(compare)))
}

/// A missing key has no value to compare with, and zeros for the rest.
fn missing_matches(compare: &pb::Compare) -> bool {
    compare.target != CompareTarget::Value as i32 && kv_matches(compare, &KeyValue::default())
}

fn kv_matches(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.as_ref();
    // A union that does not go with the target counts as zero or empty.
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => match union {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.as_ref().cmp(b""),
        },
        Ok(CompareTarget::Create) => match union {
            Some(TargetUnion::CreateRevision(revision)) => kv.create_revision.cmp(revision),
            _ => kv.create_revision.cmp(&0),
        },
        Ok(CompareTarget::Mod) => match union {
            Some(TargetUnion::ModRevision(revision)) => kv.mod_revision.cmp(revision),
            _ => kv.mod_revision.cmp(&0),
        },
        Ok(CompareTarget::Version) => match union {
            Some(TargetUnion::Version(version)) => kv.version.cmp(version),
            _ => kv.version.cmp(&0),
        },
        Ok(CompareTarget::Lease) => match union {
            Some(TargetUnion::Lease(lease)) => kv.lease.cmp(lease),
            _ => kv.lease.cmp(&0),
        },
        // etcd compares nothing for a target that it does not know.
        Err(_) => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Checks what is on the path.
fn check<'p>(
    reads: &impl Reads,
    txn: &pb::TxnRequest,
    path: &mut impl Iterator<Item = &'p bool>,
) -> Result<(), ApplyError> {
    let succeeded = *path.next().expect("the path has one step per transaction on it");
    for op in branch(txn, succeeded) {
        match &op.request {
            Some(Op::RequestRange(range)) => check_revision(reads, range.revision)?,
            Some(Op::RequestPut(put)) => {
                check_lease(reads, put)?;
                if (put.ignore_value || put.ignore_lease) && reads.get(&put.key)?.is_none() {
                    return Err(ApplyError::KeyNotFound);
                }
            }
            Some(Op::RequestTxn(nested)) => check(reads, nested, path)?,
            Some(Op::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// As etcd's `checkRange`: below the compaction also when negative, although a
/// range alone would take a negative revision for the current one.
fn check_revision(reads: &impl Reads, revision: i64) -> Result<(), ApplyError> {
    if revision == 0 {
        return Ok(());
    }
    if revision > reads.revision() {
        return Err(ApplyError::FutureRevision);
    }
    if revision < reads.compact_revision() {
        return Err(ApplyError::Compacted);
    }
    Ok(())
}

fn check_lease(reads: &impl Reads, put: &pb::PutRequest) -> Result<(), ApplyError> {
    if put.lease != 0 && !reads.has_lease(LeaseId(put.lease)) {
        return Err(ApplyError::LeaseNotFound);
    }
    Ok(())
}

fn execute<'p>(
    writes: &mut impl Writes,
    txn: pb::TxnRequest,
    path: &mut impl Iterator<Item = &'p bool>,
    local: bool,
) -> Result<pb::TxnResponse, ApplyError> {
    let succeeded = *path.next().expect("the path has one step per transaction on it");
    let ops = if succeeded { txn.success } else { txn.failure };
    let mut responses = Vec::with_capacity(ops.len());
    for op in ops {
        let response = match op.request {
            Some(Op::RequestRange(range)) if local => {
                Response::ResponseRange(writes.range(&range)?)
            }
            Some(Op::RequestRange(_)) => Response::ResponseRange(pb::RangeResponse {
                header: header(writes.revision()),
                ..Default::default()
            }),
            Some(Op::RequestPut(put)) => {
                let prev = previous(writes, &put, local)?;
                Response::ResponsePut(execute_put(writes, put, prev)?)
            }
            Some(Op::RequestDeleteRange(delete)) => {
                Response::ResponseDeleteRange(delete_range(writes, delete, local)?)
            }
            Some(Op::RequestTxn(nested)) => {
                Response::ResponseTxn(execute(writes, nested, path, local)?)
            }
            None => {
                responses.push(pb::ResponseOp { response: None });
                continue;
            }
        };
        responses.push(respond(response));
    }
    // A nested header stays empty; the outermost is filled at the end.
    Ok(pb::TxnResponse { header: Some(pb::ResponseHeader::default()), succeeded, responses })
}

/// The pair before a put, when the put itself or its client wants it.
fn previous(
    reads: &impl Reads,
    put: &pb::PutRequest,
    local: bool,
) -> Result<Option<KeyValue>, ApplyError> {
    if put.ignore_value || put.ignore_lease || (put.prev_kv && local) {
        return reads.get(&put.key);
    }
    Ok(None)
}

fn execute_put(
    writes: &mut impl Writes,
    request: pb::PutRequest,
    prev: Option<KeyValue>,
) -> Result<pb::PutResponse, ApplyError> {
    // Inside a transaction the pair can be gone although it was there at the
    // check, when the same transaction deleted "from a key on", which no
    // overlap check sees. etcd crashes on it; we take it for empty.
    let before = prev.as_ref();
    let value = match before {
        _ if !request.ignore_value => request.value,
        Some(prev) => prev.value.clone(),
        None => bytes::Bytes::new(),
    };
    let lease = match before {
        _ if !request.ignore_lease => request.lease,
        Some(prev) => prev.lease,
        None => 0,
    };
    writes.put(request.key, value, LeaseId(lease))?;
    let prev_kv = if request.prev_kv { prev } else { None };
    Ok(pb::PutResponse { header: header(writes.revision()), prev_kv })
}

#[cfg(test)]
mod tests;
