//! Random keys, ranges and range requests, and whether they are answered as the model does.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_env::Dice;
use mainstay_env_sim::SimDice;
use mainstay_mvcc::{MvccError, View};
use mainstay_proto::{Message as _, etcdserverpb as pb, mvccpb::KeyValue};

use crate::model::{Model, Record, Refusal, strip};

/// One of sixty keys: long ones with much in common, short binary ones, and neighbours.
pub(crate) fn key(dice: &mut SimDice) -> Bytes {
    let n = dice.below(60);
    match n % 4 {
        0 => Bytes::from(format!("/registry/pods/ns{}/n{n}", n % 7)),
        1 => Bytes::from(vec![n as u8; 1 + (n % 3) as usize]),
        2 => Bytes::from(format!("k{n}\0")),
        _ => Bytes::from(format!("k{n}")),
    }
}

/// Key and range end as the wire has them: one key, everything from it on, or an interval,
/// which may be empty.
pub(crate) fn range(dice: &mut SimDice) -> (Bytes, Bytes) {
    let start = key(dice);
    let end = match dice.below(6) {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"\0"),
        _ => key(dice),
    };
    let start = if dice.one_in(5) { Bytes::from_static(b"\0") } else { start };
    (start, end)
}

/// Everything.
pub(crate) fn all() -> pb::RangeRequest {
    let everywhere = Bytes::from_static(b"\0");
    pb::RangeRequest { key: everywhere.clone(), range_end: everywhere, ..Default::default() }
}

pub(crate) fn random(dice: &mut SimDice, model: &Model) -> pb::RangeRequest {
    let (key, range_end) = range(dice);
    let newest = model.current as u64;
    let bound = |dice: &mut SimDice| match dice.one_in(6) {
        true => dice.below(newest + 2) as i64,
        false => 0,
    };
    pb::RangeRequest {
        key,
        range_end,
        limit: match (dice.one_in(2), dice.one_in(9)) {
            (true, _) => dice.below(12) as i64,
            (false, true) => i64::MAX,
            (false, false) => 0,
        },
        revision: match dice.below(3) {
            0 => 0,
            _ => dice.below(newest + 3) as i64 - 1,
        },
        sort_order: dice.below(3) as i32,
        sort_target: dice.below(5) as i32,
        keys_only: dice.one_in(3),
        count_only: dice.one_in(6),
        min_mod_revision: bound(dice),
        max_mod_revision: bound(dice),
        min_create_revision: bound(dice),
        max_create_revision: bound(dice),
        ..Default::default()
    }
}

/// What the order is by: pairs that are equal in it may come in any order.
fn sorted_by(
    query: &pb::RangeRequest,
    kv: &KeyValue,
    state: &BTreeMap<Bytes, &Record>,
) -> (i64, Bytes) {
    match query.sort_target {
        1 => (kv.version, Bytes::new()),
        2 => (kv.create_revision, Bytes::new()),
        3 => (kv.mod_revision, Bytes::new()),
        4 => (0, state[&kv.key].kv.value.clone()),
        _ => (0, kv.key.clone()),
    }
}

pub(crate) fn check(view: &View, model: &Model, query: &pb::RangeRequest, what: &str) {
    let (expected, found) = match (model.answer(query), view.range(query)) {
        (Err(Refusal::Future), Err(MvccError::FutureRevision))
        | (Err(Refusal::Compacted), Err(MvccError::Compacted)) => return,
        (Ok((kvs, more, count)), Ok(reply)) => {
            let found = (reply.more, reply.count, reply.revision, reply.kvs.len());
            assert_eq!(found, (more, count, model.current, kvs.len()), "{what} {query:?}");
            (kvs, reply.kvs)
        }
        (expected, found) => panic!("{what} {query:?}: {expected:?} expected, {found:?} found"),
    };
    let decode = |bytes: &Bytes| {
        let kv = KeyValue::decode(bytes.clone()).unwrap();
        assert_eq!(kv.encode_to_vec(), bytes.to_vec(), "{what}: the canonical form");
        kv
    };
    let found: Vec<KeyValue> = found.iter().map(decode).collect();
    if query.sort_target == 0 {
        assert_eq!(found, expected, "{what} {query:?}");
        return;
    }
    let state = model.state(model.meant(query));
    let order =
        |kvs: &[KeyValue]| kvs.iter().map(|kv| sorted_by(query, kv, &state)).collect::<Vec<_>>();
    assert_eq!(order(&found), order(&expected), "{what} {query:?}");
    for kv in &found {
        let mut expected = state[&kv.key].kv.clone();
        if query.keys_only {
            strip(query, &mut expected);
        }
        assert_eq!(*kv, expected, "{what} {query:?}");
    }
}
