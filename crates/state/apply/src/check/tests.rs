//! Every rule of the door, and the interval set against a plain list.

use proptest::prelude::*;

use super::*;

fn put_op(key: &str) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.to_owned().into(), ..Default::default() };
    pb::RequestOp { request: Some(Op::RequestPut(put)) }
}

fn delete_op(key: &str, range_end: &str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..Default::default()
    };
    pb::RequestOp { request: Some(Op::RequestDeleteRange(delete)) }
}

fn txn_op(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
    let txn = pb::TxnRequest { success, failure, ..Default::default() };
    pb::RequestOp { request: Some(Op::RequestTxn(txn)) }
}

fn check(success: Vec<pb::RequestOp>) -> Result<(), CheckError> {
    txn(&pb::TxnRequest { success, ..Default::default() }, 128)
}

#[test]
fn single_requests() {
    let mut range_request = pb::RangeRequest::default();
    assert_eq!(range(&range_request), Err(CheckError::EmptyKey));
    range_request.key = "k".into();
    assert_eq!(range(&range_request), Ok(()));
    range_request.sort_order = 3;
    assert_eq!(range(&range_request), Err(CheckError::InvalidSortOption));
    range_request.sort_order = 2;
    range_request.sort_target = 5;
    assert_eq!(range(&range_request), Err(CheckError::InvalidSortOption));

    let mut put_request = pb::PutRequest { ignore_value: true, ..Default::default() };
    assert_eq!(put(&put_request), Err(CheckError::EmptyKey));
    put_request.key = "k".into();
    assert_eq!(put(&put_request), Ok(()));
    put_request.value = "v".into();
    assert_eq!(put(&put_request), Err(CheckError::ValueProvided));
    put_request.value = Default::default();
    put_request.ignore_lease = true;
    put_request.lease = 1;
    assert_eq!(put(&put_request), Err(CheckError::LeaseProvided));
    assert_eq!(delete_range(&pb::DeleteRangeRequest::default()), Err(CheckError::EmptyKey));
}

#[test]
fn sizes_and_shapes_of_transactions() {
    let puts = |n: usize| (0..n).map(|i| put_op(&format!("k{i}"))).collect::<Vec<_>>();
    assert_eq!(check(puts(128)), Ok(()));
    assert_eq!(check(puts(129)), Err(CheckError::TooManyOps));
    // The nested level gets what the outer one leaves.
    let mut outer = vec![txn_op(puts(127), vec![])];
    assert_eq!(check(outer.clone()), Ok(()));
    outer.push(delete_op("z", ""));
    assert_eq!(check(outer), Err(CheckError::TooManyOps));
    assert_eq!(check(vec![pb::RequestOp::default()]), Err(CheckError::EmptyOperation));
    assert_eq!(check(vec![put_op("")]), Err(CheckError::EmptyKey));
    let no_key = pb::TxnRequest { compare: vec![pb::Compare::default()], ..Default::default() };
    assert_eq!(txn(&no_key, 128), Err(CheckError::EmptyKey));
    let mut deep = txn_op(vec![], vec![]);
    for _ in 0..TXN_DEPTH_MAX + 1 {
        deep = txn_op(vec![deep], vec![]);
    }
    assert_eq!(
        txn(&pb::TxnRequest { success: vec![deep], ..Default::default() }, 10_000),
        Err(CheckError::TooManyOps)
    );
}

#[test]
fn a_branch_changes_a_key_once() {
    let duplicate = Err(CheckError::DuplicateKey);
    assert_eq!(check(vec![put_op("a"), put_op("a")]), duplicate);
    assert_eq!(check(vec![put_op("b"), delete_op("a", "c")]), duplicate);
    assert_eq!(check(vec![delete_op("a", "c"), put_op("c")]), Ok(()));
    assert_eq!(check(vec![delete_op("a", ""), put_op("a")]), duplicate);
    assert_eq!(check(vec![delete_op("a", "c"), delete_op("b", "d")]), Ok(()));
    // "From this key on" is not seen as an interval by etcd.
    assert_eq!(check(vec![delete_op("a", "\0"), put_op("b")]), Ok(()));
    let both = pb::TxnRequest {
        success: vec![put_op("a")],
        failure: vec![put_op("a")],
        ..Default::default()
    };
    assert_eq!(txn(&both, 128), Ok(()), "only one of two branches runs");
}

#[test]
fn nested_transactions_are_seen_in_order() {
    let duplicate = Err(CheckError::DuplicateKey);
    let put_a = || txn_op(vec![put_op("a")], vec![]);
    let delete_a = || txn_op(vec![delete_op("a", "")], vec![]);
    assert_eq!(check(vec![txn_op(vec![put_op("a")], vec![put_op("a")])]), Ok(()));
    assert_eq!(check(vec![put_a(), put_a()]), duplicate);
    assert_eq!(check(vec![put_a(), txn_op(vec![], vec![put_op("a")])]), duplicate);
    assert_eq!(check(vec![put_a(), put_op("a")]), duplicate);
    assert_eq!(check(vec![put_a(), delete_op("a", "")]), duplicate);
    assert_eq!(check(vec![delete_a(), put_a()]), duplicate);
    assert_eq!(check(vec![put_a(), delete_a()]), Ok(()), "etcd does not see this one");
    assert_eq!(check(vec![delete_a(), put_op("a")]), duplicate);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn intervals_are_a_set(
        adds in prop::collection::vec(("[a-e]{1,3}", "[a-e]{0,3}"), 0..12),
        keys in prop::collection::vec("[a-e]{1,3}", 20),
    ) {
        let mut set = Intervals::default();
        for (start, end) in &adds {
            set.add(start.as_bytes(), end.as_bytes());
        }
        for key in &keys {
            let inside = adds.iter().any(|(start, end)| {
                if end.is_empty() { key == start } else { key >= start && key < end }
            });
            prop_assert_eq!(set.contains(key.as_bytes()), inside, "{} in {:?}", key, adds);
        }
    }
}

/// etcd panics at applying such a transaction (mvcc: "unexpected error during txn with writes").
#[test]
fn a_put_does_not_keep_what_the_transaction_may_have_deleted() {
    let keep = |key: &str| {
        let key = key.to_owned().into();
        let put = pb::PutRequest { key, ignore_value: true, ..Default::default() };
        pb::RequestOp { request: Some(Op::RequestPut(put)) }
    };
    let from = |key| delete_op(key, "\0");
    let refused = Err(CheckError::DuplicateKey);
    assert_eq!(check(vec![from("b"), keep("b")]), refused);
    assert_eq!(check(vec![from("c"), from("a"), keep("b")]), refused);
    assert_eq!(check(vec![from("b"), keep("a")]), Ok(()));
    assert_eq!(check(vec![keep("b"), from("b")]), Ok(()), "it is there until it is deleted");
    assert_eq!(check(vec![from("b"), put_op("b")]), Ok(()), "it keeps nothing");
    // In nested transactions, whichever branch runs.
    assert_eq!(check(vec![from("b"), txn_op(vec![], vec![keep("b")])]), refused);
    assert_eq!(check(vec![txn_op(vec![], vec![from("b")]), keep("b")]), refused);
    assert_eq!(
        check(vec![txn_op(vec![from("b")], vec![]), txn_op(vec![keep("c")], vec![])]),
        refused
    );
    assert_eq!(check(vec![txn_op(vec![from("b")], vec![keep("b")])]), Ok(()), "one branch runs");
}
