//! What is checked about a request before it is proposed or read.
//!
//! etcd does this in its API layer (`v3rpc/key.go`), on the member that the
//! client talks to; nothing here may change what an entry does once it is in
//! the log. The order of the checks decides which error a client sees.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::TXN_DEPTH_MAX;
use pb::request_op::Request as Op;

/// Why a request is refused at the door. Texts are etcd's; all are
/// `InvalidArgument` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A key is empty, be it of an operation or of a comparison.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// An operation of a transaction is none of the known ones.
    #[error("etcdserver: key not found")]
    EmptyOperation,
    /// `ignore_value` together with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// An order or target of sorting that does not exist.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// More operations than `--max-txn-ops`, nesting included.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A key would be changed twice by one transaction.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
}

/// Checks a range request (etcd, `checkRangeRequest`).
pub fn range(request: &pb::RangeRequest) -> Result<(), CheckError> {
    if request.key.is_empty() {
        return Err(CheckError::EmptyKey);
    }
    let known = pb::range_request::SortOrder::try_from(request.sort_order).is_ok()
        && pb::range_request::SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(CheckError::InvalidSortOption) }
}

/// Checks a put request (etcd, `checkPutRequest`).
pub fn put(request: &pb::PutRequest) -> Result<(), CheckError> {
    if request.key.is_empty() {
        return Err(CheckError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(CheckError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(CheckError::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete request (etcd, `checkDeleteRequest`).
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), CheckError> {
    if request.key.is_empty() { Err(CheckError::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction: first its size and every operation of both branches,
/// then that no branch changes a key twice (semantics 4.1 to 4.4).
/// `ops_max` is `--max-txn-ops`.
pub fn txn(request: &pb::TxnRequest, ops_max: usize) -> Result<(), CheckError> {
    txn_ops(request, ops_max, TXN_DEPTH_MAX)?;
    branch_overlaps(&request.success)?;
    branch_overlaps(&request.failure)?;
    if keeps_what_is_gone(request, &mut None) {
        return Err(CheckError::DuplicateKey);
    }
    Ok(())
}

/// Whether a put would keep the value or lease of a key (`ignore_value`, `ignore_lease`) that
/// an operation before it may have deleted "from a key on", which no overlap check sees. etcd
/// panics when it applies that, on every member and at every start, so it must not get into a
/// log. `gone` is where the deleted keys begin.
fn keeps_what_is_gone<'a>(txn: &'a pb::TxnRequest, gone: &mut Option<&'a [u8]>) -> bool {
    let before = *gone;
    [&txn.success, &txn.failure].into_iter().any(|ops| {
        let mut here = before;
        let found = ops.iter().any(|op| match &op.request {
            Some(Op::RequestDeleteRange(delete)) if *delete.range_end == *b"\0" => {
                here = Some(here.map_or(&*delete.key, |from| from.min(&delete.key)));
                false
            }
            Some(Op::RequestPut(put)) => {
                (put.ignore_value || put.ignore_lease) && here.is_some_and(|from| put.key >= from)
            }
            Some(Op::RequestTxn(nested)) => keeps_what_is_gone(nested, &mut here),
            Some(Op::RequestDeleteRange(_) | Op::RequestRange(_)) | None => false,
        });
        *gone = match (*gone, here) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        found
    })
}

/// `ops_left` shrinks by the longest list of each level around this one, so a
/// default of 128 also bounds the nesting; `depth_left` bounds it for a
/// larger setting.
fn txn_ops(request: &pb::TxnRequest, ops_left: usize, depth_left: usize) -> Result<(), CheckError> {
    let (success, failure) = (&request.success, &request.failure);
    let longest = request.compare.len().max(success.len()).max(failure.len());
    if longest > ops_left || depth_left == 0 {
        return Err(CheckError::TooManyOps);
    }
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(CheckError::EmptyKey);
    }
    for op in success.iter().chain(failure) {
        match &op.request {
            Some(Op::RequestRange(request)) => range(request)?,
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Op::RequestTxn(request)) => {
                txn_ops(request, ops_left - longest, depth_left - 1)?;
            }
            None => return Err(CheckError::EmptyOperation),
        }
    }
    Ok(())
}

/// The keys that a branch may put and the intervals that it may delete, its
/// nested transactions included.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals<'a>,
}

/// What one branch changes, or [`CheckError::DuplicateKey`] (etcd,
/// `checkIntervals`). The order matters and is etcd's: own deletes, then
/// nested transactions one by one, then own puts. So deletes of a nested
/// transaction are seen by later ones and by own puts, not by earlier ones.
fn branch_overlaps(ops: &[pb::RequestOp]) -> Result<Changes<'_>, CheckError> {
    let mut changes = Changes::default();
    for op in ops {
        if let Some(Op::RequestDeleteRange(delete)) = &op.request {
            changes.deletes.add(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        let Some(Op::RequestTxn(nested)) = &op.request else { continue };
        let then = branch_overlaps(&nested.success)?;
        let otherwise = branch_overlaps(&nested.failure)?;
        for key in &then.puts {
            changes.add_put(key, None)?;
        }
        for key in &otherwise.puts {
            // Only one of the two branches runs, so they may share keys.
            changes.add_put(key, Some(&then.puts))?;
        }
        changes.deletes.merge(then.deletes);
        changes.deletes.merge(otherwise.deletes);
    }
    for op in ops {
        if let Some(Op::RequestPut(put)) = &op.request {
            changes.add_put(&put.key, None)?;
        }
    }
    Ok(changes)
}

impl<'a> Changes<'a> {
    fn add_put(
        &mut self,
        key: &'a [u8],
        exclusive: Option<&BTreeSet<&[u8]>>,
    ) -> Result<(), CheckError> {
        let shared = exclusive.is_some_and(|others| others.contains(key));
        if (!self.puts.insert(key) && !shared) || self.deletes.contains(key) {
            return Err(CheckError::DuplicateKey);
        }
        Ok(())
    }
}

/// Disjoint intervals of keys by their start, end exclusive.
///
/// etcd's interval tree takes a `range_end` of one zero byte for that very key
/// here, not for "to the end": a delete from a key on overlaps no put. We
/// accept what etcd accepts.
#[derive(Default)]
struct Intervals<'a> {
    ends: BTreeMap<&'a [u8], End<'a>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End<'a> {
    /// The interval is its start only.
    Point,
    Before(&'a [u8]),
}

impl<'a> Intervals<'a> {
    fn add(&mut self, start: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            if !self.contains(start) {
                self.ends.insert(start, End::Point);
            }
        } else if range_end > start {
            self.add_interval(start, range_end);
        }
    }

    /// Joins the new interval with all that it touches, so that one look to
    /// the left answers [`Intervals::contains`].
    fn add_interval(&mut self, start: &'a [u8], end: &'a [u8]) {
        let (mut from, mut to) = (start, end);
        if let Some((left, End::Before(left_end))) = self.ends.range(..=start).next_back()
            && *left_end >= start
        {
            from = *left;
            to = to.max(left_end);
        }
        while let Some((at, inside)) = self.ends.range(from..=to).next() {
            let at = *at;
            match *inside {
                End::Before(inside_end) => to = to.max(inside_end),
                // A point right at the open end is not covered by it.
                End::Point if at == to => break,
                End::Point => {}
            }
            self.ends.remove(at);
        }
        self.ends.insert(from, End::Before(to));
    }

    fn merge(&mut self, other: Intervals<'a>) {
        for (start, end) in other.ends {
            match end {
                End::Point => self.add(start, b""),
                End::Before(end) => self.add_interval(start, end),
            }
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        match self.ends.range(..=key).next_back() {
            Some((start, End::Point)) => *start == key,
            Some((_, End::Before(end))) => key < *end,
            None => false,
        }
    }
}

#[cfg(test)]
mod tests;
