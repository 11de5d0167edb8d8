//! Range requests (semantics 2), over a view or inside a transaction.

use bytes::Bytes;
use mainstay_backend::{KeyValueRef, encode_key_value};
use mainstay_proto::{etcdserverpb as pb, mvccpb};
use mainstay_types::{KeyRange, Revision};
use pb::range_request::{SortOrder, SortTarget};

use crate::error::MvccError;
use crate::index::{KeyIndex, Step};
use crate::item::Found;
use crate::txn::decode;

/// The answer to a range request; its header is the caller's to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeReply {
    /// Encoded `KeyValue`s.
    pub kvs: Vec<Bytes>,
    /// Whether the limit cut something off.
    pub more: bool,
    /// Keys in the range, whatever the limit and the filters.
    pub count: i64,
    /// The store's current revision.
    pub revision: i64,
}

/// What a range reads from.
pub(crate) trait Source {
    fn index(&self) -> &KeyIndex;
    fn revision(&self) -> i64;
    fn compacted(&self) -> i64;
    /// The encoded pair put at exactly this revision.
    fn value(&self, revision: Revision) -> Result<Bytes, MvccError>;
    /// As `value` of each, in the same order.
    fn values(&self, revisions: &[Revision]) -> Result<Vec<Bytes>, MvccError>;
}

/// What a source found, when it found all.
pub(crate) fn all_there(
    revisions: &[Revision],
    found: Vec<Option<Bytes>>,
) -> Result<Vec<Bytes>, MvccError> {
    let there = |(value, revision): (Option<Bytes>, &Revision)| {
        value.ok_or(MvccError::Row { revision: *revision, what: "missing" })
    };
    found.into_iter().zip(revisions).map(there).collect()
}

pub(crate) fn range(
    source: &impl Source,
    request: &pb::RangeRequest,
) -> Result<RangeReply, MvccError> {
    let revision = source.revision();
    let past = at_revision(request.revision, revision, source.compacted())?;
    let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
    let count = match past {
        None => source.index().count(&range),
        Some(at) => source.index().count_at(&range, at),
    };
    let mut reply = RangeReply { count: count as i64, revision, ..RangeReply::default() };
    if request.count_only || count == 0 {
        return Ok(reply);
    }
    let plan = Plan::of(request);
    let mut found = Vec::with_capacity(plan.fetch.min(count));
    source.index().walk(&range, past, &mut |key, state| {
        let key = if request.keys_only { Bytes::copy_from_slice(key) } else { Bytes::new() };
        found.push((key, state));
        if found.len() >= plan.fetch { Step::Stop } else { Step::Go }
    });
    if plan.is_plain {
        let cut = plan.limit.unwrap_or(usize::MAX);
        reply.more = found.len() > cut;
        found.truncate(cut);
        reply.kvs = pairs(source, plan.from_index, &found)?;
        return Ok(reply);
    }
    sorted(source, request, &plan, found, &mut reply)?;
    Ok(reply)
}

/// `None` for the current revision.
fn at_revision(asked: i64, current: i64, compacted: i64) -> Result<Option<i64>, MvccError> {
    if asked > current {
        return Err(MvccError::FutureRevision);
    }
    if asked <= 0 || asked == current {
        return Ok(None);
    }
    if asked < compacted {
        return Err(MvccError::Compacted);
    }
    Ok(Some(asked))
}

/// How a request is answered.
struct Plan {
    /// Keys to take from the index.
    fetch: usize,
    limit: Option<usize>,
    /// In the order of keys and without filters: as it comes.
    is_plain: bool,
    /// Without values, so that the index knows it all. The lease is then 0 (2.8).
    from_index: bool,
}

impl Plan {
    fn of(request: &pb::RangeRequest) -> Plan {
        let filters = request.min_mod_revision != 0
            || request.max_mod_revision != 0
            || request.min_create_revision != 0
            || request.max_create_revision != 0;
        let (target, order) = (request.sort_target(), request.sort_order());
        let pushed_down =
            order == SortOrder::None || (target == SortTarget::Key && order == SortOrder::Ascend);
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        let fetch = match limit {
            Some(limit) if pushed_down && !filters => limit.saturating_add(1),
            _ => usize::MAX,
        };
        Plan {
            fetch,
            limit,
            // A target without an order sorts ascending what was fetched (2.6).
            is_plain: !filters && pushed_down && target == SortTarget::Key,
            from_index: request.keys_only && target != SortTarget::Value,
        }
    }
}

/// The encoded pairs of what was found, in its order.
fn pairs(
    source: &impl Source,
    from_index: bool,
    found: &[(Bytes, Found)],
) -> Result<Vec<Bytes>, MvccError> {
    if from_index {
        return Ok(found.iter().map(|(key, state)| pair_without_value(key, state)).collect());
    }
    if let [(_, state)] = found {
        return Ok(vec![source.value(state.modified)?]);
    }
    let revisions: Vec<_> = found.iter().map(|(_, state)| state.modified).collect();
    source.values(&revisions)
}

fn pair_without_value(key: &[u8], state: &Found) -> Bytes {
    encode_key_value(&KeyValueRef {
        key,
        create_revision: state.created,
        mod_revision: state.modified.main,
        version: state.version,
        ..KeyValueRef::default()
    })
}

/// Filters, sorts and cuts, as etcd does: everything is at hand first.
fn sorted(
    source: &impl Source,
    request: &pb::RangeRequest,
    plan: &Plan,
    mut found: Vec<(Bytes, Found)>,
    reply: &mut RangeReply,
) -> Result<(), MvccError> {
    let within =
        |value: i64, min: i64, max: i64| (max == 0 || value <= max) && (min == 0 || value >= min);
    found.retain(|(_, f)| {
        within(f.modified.main, request.min_mod_revision, request.max_mod_revision)
            && within(f.created, request.min_create_revision, request.max_create_revision)
    });
    let by_value = request.sort_target() == SortTarget::Value;
    let values = match by_value {
        true => pairs(source, false, &found)?,
        false => Vec::new(),
    };
    let mut order: Vec<usize> = (0..found.len()).collect();
    let descends = request.sort_order() == SortOrder::Descend;
    if descends && request.sort_target() != SortTarget::Key {
        // Ties stay in the order of their keys, as they do in etcd up to twelve pairs.
        order.reverse();
    }
    let value_of = |at: usize| KeyValueRef::decode(&values[at]).map(|kv| kv.value);
    match request.sort_target() {
        SortTarget::Key => {}
        SortTarget::Version => order.sort_by_key(|at| found[*at].1.version),
        SortTarget::Create => order.sort_by_key(|at| found[*at].1.created),
        SortTarget::Mod => order.sort_by_key(|at| found[*at].1.modified.main),
        SortTarget::Value => order.sort_by(|a, b| value_of(*a).cmp(&value_of(*b))),
    }
    if descends {
        order.reverse();
    }
    if let Some(limit) = plan.limit {
        reply.more = order.len() > limit;
        order.truncate(limit);
    }
    if by_value {
        let pair = |at: usize| match request.keys_only {
            true => without_value(found[at].1.modified, &values[at]),
            false => Ok(values[at].clone()),
        };
        reply.kvs = order.into_iter().map(pair).collect::<Result<_, _>>()?;
    } else {
        let ordered: Vec<_> = order.into_iter().map(|at| std::mem::take(&mut found[at])).collect();
        reply.kvs = pairs(source, plan.from_index, &ordered)?;
    }
    Ok(())
}

fn without_value(revision: Revision, pair: &[u8]) -> Result<Bytes, MvccError> {
    let damaged = MvccError::Row { revision, what: "not a key-value" };
    let kv = KeyValueRef::decode(pair).ok_or(damaged)?;
    Ok(encode_key_value(&KeyValueRef { value: b"", ..kv }))
}

pub(crate) fn all(
    source: &impl Source,
    range: &KeyRange,
    holds: &mut dyn FnMut(&mvccpb::KeyValue) -> bool,
) -> Result<Option<bool>, MvccError> {
    let mut result = Ok(None);
    source.index().walk(range, None, &mut |_, state| {
        let pair = source.value(state.modified).and_then(|value| decode(state.modified, value));
        result = pair.map(|kv| Some(holds(&kv)));
        if matches!(result, Ok(Some(true))) { Step::Go } else { Step::Stop }
    });
    result
}
