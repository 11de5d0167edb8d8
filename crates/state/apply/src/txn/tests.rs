//! Transactions over a model: a plain list of everything that ever happened.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::*;

/// A key space as a log of changes; reading replays it.
#[derive(Default)]
struct Model {
    log: Vec<(i64, Bytes, Option<KeyValue>)>,
    revision: i64,
    compacted: i64,
    leases: BTreeSet<i64>,
    changed: bool,
}

impl Model {
    fn new() -> Model {
        Model { revision: 1, compacted: -1, leases: BTreeSet::from([7]), ..Model::default() }
    }

    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut state = BTreeMap::new();
        for (_, key, kv) in self.log.iter().filter(|(at, ..)| *at <= revision) {
            match kv {
                Some(kv) => state.insert(key.clone(), kv.clone()),
                None => state.remove(key),
            };
        }
        state
    }

    fn now(&self) -> BTreeMap<Bytes, KeyValue> {
        self.at(i64::MAX)
    }

    /// Runs one transaction and ends it.
    fn run(&mut self, request: pb::TxnRequest) -> Result<pb::TxnResponse, ApplyError> {
        let response = txn(self, request, true);
        self.end();
        response
    }

    fn end(&mut self) {
        self.revision = self.revision();
        self.changed = false;
    }
}

impl Reads for Model {
    fn revision(&self) -> i64 {
        self.revision + i64::from(self.changed)
    }

    fn compact_revision(&self) -> i64 {
        self.compacted
    }

    fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ApplyError> {
        let at = if request.revision > 0 { request.revision } else { i64::MAX };
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let kvs: Vec<KeyValue> =
            self.at(at).into_values().filter(|kv| range.contains(&kv.key)).collect();
        let count = kvs.len() as i64;
        Ok(pb::RangeResponse { header: header(self.revision()), kvs, more: false, count })
    }

    fn has_lease(&self, lease: LeaseId) -> bool {
        self.leases.contains(&lease.0)
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, ApplyError> {
        Ok(self.now().get(key).cloned())
    }

    fn get_revisions(&self, key: &[u8]) -> Result<Option<KeyValue>, ApplyError> {
        let found = self.now().get(key).cloned();
        Ok(found.map(|kv| KeyValue { value: Bytes::new(), lease: 0, ..kv }))
    }

    fn all(
        &self,
        range: &KeyRange,
        holds: &mut dyn FnMut(&KeyValue) -> bool,
    ) -> Result<Option<bool>, ApplyError> {
        let mut found = None;
        for kv in self.now().values().filter(|kv| range.contains(&kv.key)) {
            found = Some(holds(kv));
            if found == Some(false) {
                break;
            }
        }
        Ok(found)
    }
}

impl Writes for Model {
    fn put(&mut self, key: Bytes, value: Bytes, lease: LeaseId) -> Result<(), ApplyError> {
        self.changed = true;
        let mod_revision = self.revision();
        let old = self.now().get(&key).cloned();
        let create_revision = old.as_ref().map_or(mod_revision, |old| old.create_revision);
        let version = old.map_or(1, |old| old.version + 1);
        let kv = KeyValue {
            key: key.clone(),
            create_revision,
            mod_revision,
            version,
            value,
            lease: lease.0,
        };
        self.log.push((mod_revision, key, Some(kv)));
        Ok(())
    }

    fn delete_range(
        &mut self,
        range: &KeyRange,
        _prev: bool,
    ) -> Result<(i64, Vec<KeyValue>), ApplyError> {
        let gone: Vec<KeyValue> =
            self.now().into_values().filter(|kv| range.contains(&kv.key)).collect();
        self.changed |= !gone.is_empty();
        for kv in &gone {
            self.log.push((self.revision(), kv.key.clone(), None));
        }
        Ok((gone.len() as i64, gone))
    }
}

fn put_op(key: &'static str, value: &'static str) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
    pb::RequestOp { request: Some(Op::RequestPut(put)) }
}

fn range_op(key: &'static str, revision: i64) -> pb::RequestOp {
    let range = pb::RangeRequest { key: key.into(), revision, ..Default::default() };
    pb::RequestOp { request: Some(Op::RequestRange(range)) }
}

fn delete_op(key: &'static str, range_end: &'static str) -> pb::RequestOp {
    let delete =
        pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: true };
    pb::RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
}

fn txn_op(request: pb::TxnRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(Op::RequestTxn(request)) }
}

fn then(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..Default::default() }
}

fn compare(
    target: CompareTarget,
    result: CompareResult,
    union: Option<TargetUnion>,
) -> pb::Compare {
    pb::Compare {
        result: result as i32,
        target: target as i32,
        key: "a".into(),
        target_union: union,
        ..Default::default()
    }
}

fn values(response: &pb::ResponseOp) -> Vec<&[u8]> {
    match &response.response {
        Some(Response::ResponseRange(range)) => {
            range.kvs.iter().map(|kv| kv.value.as_ref()).collect()
        }
        other => panic!("a range, not {other:?}"),
    }
}

fn revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().expect("every response has a header").revision
}

#[test]
fn reads_inside_see_earlier_writes() {
    let mut model = Model::new();
    model.run(then(vec![put_op("a", "old")])).unwrap();
    let response =
        model.run(then(vec![range_op("a", 0), put_op("a", "new"), range_op("a", 0)])).unwrap();
    assert_eq!(values(&response.responses[0]), [b"old"]);
    assert_eq!(values(&response.responses[2]), [b"new"]);
    assert_eq!(revision(&response.header), 3);
    let Some(Response::ResponseRange(before)) = &response.responses[0].response else { panic!() };
    assert_eq!(revision(&before.header), 2, "nothing had changed yet");
}

#[test]
fn nested_comparisons_are_decided_on_the_state_before() {
    let mut model = Model::new();
    let exists = compare(CompareTarget::Version, CompareResult::Greater, None);
    let nested = pb::TxnRequest {
        compare: vec![exists],
        success: vec![put_op("seen", "1")],
        failure: vec![put_op("unseen", "1")],
    };
    let response = model.run(then(vec![put_op("a", "1"), txn_op(nested)])).unwrap();
    let Some(Response::ResponseTxn(inner)) = &response.responses[1].response else { panic!() };
    assert!(!inner.succeeded, "the put of `a` came after the decision");
    assert_eq!(revision(&inner.header), 0, "nested headers are empty");
    assert!(model.now().contains_key(&b"unseen"[..]));
}

#[test]
fn a_failing_check_leaves_nothing_behind() {
    let mut model = Model::new();
    model.compacted = 1;
    let bad_lease = pb::PutRequest { key: "b".into(), lease: 8, ..Default::default() };
    let ignore = pb::PutRequest { key: "b".into(), ignore_value: true, ..Default::default() };
    for (bad, error) in [
        (range_op("a", 99), ApplyError::FutureRevision),
        (range_op("a", -5), ApplyError::Compacted),
        (pb::RequestOp { request: Some(Op::RequestPut(bad_lease)) }, ApplyError::LeaseNotFound),
        (pb::RequestOp { request: Some(Op::RequestPut(ignore)) }, ApplyError::KeyNotFound),
    ] {
        let request = then(vec![put_op("a", "1"), txn_op(then(vec![bad.clone()]))]);
        assert_eq!(model.run(request), Err(error));
        // The branch that is not chosen is not checked.
        let other = pb::TxnRequest { failure: vec![bad], ..Default::default() };
        assert!(model.run(other).unwrap().responses.is_empty());
    }
    assert!(model.log.is_empty() && model.revision == 1);
}

#[test]
fn comparisons_with_a_missing_key() {
    use CompareResult as R;
    use CompareTarget as T;
    let model = Model::new();
    for result in [R::Equal, R::NotEqual, R::Less, R::Greater] {
        let value = Some(TargetUnion::Value(Bytes::new()));
        assert_eq!(compare_holds(&model, &compare(T::Value, result, value)), Ok(false));
        let zero = matches!(result, R::Equal);
        for target in [T::Version, T::Create, T::Mod, T::Lease] {
            assert_eq!(compare_holds(&model, &compare(target, result, None)), Ok(zero));
        }
    }
}

#[test]
fn comparisons_over_a_range_hold_for_every_key() {
    let mut model = Model::new();
    model.run(then(vec![put_op("a", "x"), put_op("b", "x"), put_op("c", "y")])).unwrap();
    let value = Some(TargetUnion::Value("x".into()));
    let mut over = compare(CompareTarget::Value, CompareResult::Equal, value);
    over.range_end = "c".into();
    assert_eq!(compare_holds(&model, &over), Ok(true));
    over.range_end = "\0".into();
    assert_eq!(compare_holds(&model, &over), Ok(false));
    over.key = "d".into();
    assert_eq!(compare_holds(&model, &over), Ok(false), "no key is like a missing key");
}

#[test]
fn deletes_count_and_revisions_follow_effects() {
    let mut model = Model::new();
    model.run(then(vec![put_op("a", "1"), put_op("b", "2")])).unwrap();
    let nothing = model.run(then(vec![delete_op("x", "")])).unwrap();
    assert_eq!(revision(&nothing.header), 2);
    let both = model.run(then(vec![delete_op("a", "\0"), put_op("z", "")])).unwrap();
    let Some(Response::ResponseDeleteRange(delete)) = &both.responses[0].response else { panic!() };
    assert_eq!((delete.deleted, revision(&delete.header), revision(&both.header)), (2, 3, 3));
}

#[test]
fn ignored_values_and_leases_stay() {
    let mut model = Model::new();
    let first =
        pb::PutRequest { key: "a".into(), value: "1".into(), lease: 7, ..Default::default() };
    put(&mut model, first, true).unwrap();
    model.end();
    let second =
        pb::PutRequest { key: "a".into(), ignore_value: true, prev_kv: true, ..Default::default() };
    let response = put(&mut model, second, true).unwrap();
    assert_eq!(response.prev_kv.unwrap().lease, 7);
    assert_eq!(
        (model.now()[&b"a"[..]].value.as_ref(), model.now()[&b"a"[..]].lease),
        (&b"1"[..], 0)
    );
    model.end();
    let third = pb::PutRequest { key: "x".into(), ignore_lease: true, ..Default::default() };
    assert_eq!(put(&mut model, third, true), Err(ApplyError::KeyNotFound));
}

#[test]
fn members_that_did_not_propose_skip_reads_but_agree() {
    let request = || then(vec![put_op("a", "1"), range_op("a", 0), delete_op("b", "")]);
    let (mut here, mut there) = (Model::new(), Model::new());
    let ours = txn(&mut here, request(), true).unwrap();
    let theirs = txn(&mut there, request(), false).unwrap();
    assert_eq!(here.log, there.log);
    assert_eq!(ours.header, theirs.header);
    assert_eq!(values(&theirs.responses[1]), Vec::<&[u8]>::new());
}

#[test]
fn a_key_deleted_from_under_an_ignored_value_is_taken_for_empty() {
    let mut model = Model::new();
    model.run(then(vec![put_op("b", "1")])).unwrap();
    let ignore = pb::PutRequest { key: "b".into(), ignore_value: true, ..Default::default() };
    let ignore = pb::RequestOp { request: Some(Op::RequestPut(ignore)) };
    model.run(then(vec![delete_op("a", "\0"), ignore])).unwrap();
    assert!(model.now()[&b"b"[..]].value.is_empty());
}
