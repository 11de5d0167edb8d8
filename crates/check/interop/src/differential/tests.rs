//! The tester itself: it must find what is wrong, and excuse only what has a name.

use mainstay_proto::{etcdserverpb as pb, mvccpb};

use super::*;

fn differs(op: &Op, ours: Outcome, real: Outcome) -> Option<Box<Difference>> {
    compare(op, ours, real, &mut Tally::default()).err()
}

fn outcome(answer: Answer) -> Outcome {
    Outcome { answer, delivered: Delivered::new(), now: 5 }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 1, member_id: 2, revision, raft_term: 2 })
}

#[test]
fn one_seed_makes_one_list() {
    let list = |seed| Generator::new(seed).take(500);
    assert_eq!(list(1), list(1));
    assert_ne!(list(1), list(2));
}

#[test]
fn a_revision_of_the_header_is_no_exception_and_ids_are() {
    let op = Op::Put(pb::PutRequest::default());
    let put = |revision, member_id| {
        let mut header = header(revision).expect("a header");
        header.member_id = member_id;
        outcome(Answer::Put(pb::PutResponse { header: Some(header), prev_kv: None }))
    };
    assert!(differs(&op, put(7, 3), put(7, 4)).is_none());
    assert!(differs(&op, put(7, 3), put(7, 0)).is_some(), "no id at all is no id");
    let found = differs(&op, put(7, 3), put(8, 3)).expect("another revision");
    assert!(
        found.lines.iter().any(
            |line| line.contains("header.ResponseHeader.revision: ") || line.contains("header")
        ),
        "{found}"
    );
}

#[test]
fn a_text_that_differs_in_one_letter_is_found() {
    let op = Op::Leases;
    let failed = |message: &str| outcome(Answer::Failed { code: 5, message: message.to_owned() });
    assert!(differs(&op, failed("not found"), failed("not Found")).is_some());
}

#[test]
fn only_ties_of_long_sorted_lists_may_change_places() {
    let kv = |key: &'static str, version| mvccpb::KeyValue {
        key: key.into(),
        version,
        ..mvccpb::KeyValue::default()
    };
    let answer = |kvs: &[mvccpb::KeyValue], count| {
        let kvs = kvs.to_vec();
        outcome(Answer::Range(pb::RangeResponse { header: header(5), kvs, more: false, count }))
    };
    let (a, b, c) = (kv("a", 1), kv("b", 1), kv("c", 2));
    let (one, two) = ([a.clone(), b.clone(), c.clone()], [b, a, c]);
    let mut request = pb::RangeRequest { sort_target: 1, sort_order: 1, ..Default::default() };
    let op = Op::Range(request.clone());
    assert!(differs(&op, answer(&one, 13), answer(&two, 13)).is_none());
    assert!(differs(&op, answer(&one, 12), answer(&two, 12)).is_some());
    request.sort_target = 0;
    assert!(differs(&Op::Range(request), answer(&one, 13), answer(&two, 13)).is_some());
}

#[test]
fn the_hash_of_a_compaction_is_not_excused() {
    let op = Op::HashKv(pb::HashKvRequest { revision: 4 });
    let hash = |hash, compact_revision| {
        let header = header(5);
        outcome(Answer::HashKv(pb::HashKvResponse {
            header,
            hash,
            compact_revision,
            hash_revision: 0,
        }))
    };
    assert!(differs(&op, hash(7, 4), hash(8, -1)).is_some());
    assert!(differs(&op, hash(7, 4), hash(8, 4)).is_some());
    assert!(differs(&op, hash(7, 4), hash(7, 4)).is_none());
}

#[test]
fn every_exception_has_a_name_of_its_own_and_a_reason() {
    let mut names: Vec<_> = EXCEPTIONS.iter().map(|exception| exception.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), EXCEPTIONS.len());
    assert!(EXCEPTIONS.iter().all(|exception| exception.reason.len() > 20));
}
