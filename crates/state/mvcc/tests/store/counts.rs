//! What a transaction did is counted as etcd counts it.

use mainstay_mvcc::Counts;
use mainstay_proto::etcdserverpb::RangeRequest;
use mainstay_types::{KeyRange, LeaseId};

use super::support::{disk, open};

#[test]
fn operations_are_counted_and_several_are_a_transaction() {
    let (_, mut store) = open(&disk(1));
    let mut txn = store.write();
    txn.put(b"key", b"value", LeaseId::NONE);
    let one = Counts { puts: 1, put_bytes: 8, ..Counts::default() };
    assert_eq!(txn.end().counts, one);

    // Nothing is there to delete, and it is a deletion all the same; previous pairs are read.
    let mut txn = store.write();
    txn.delete_range(&KeyRange::from_wire("x".into(), "z".into()), true).unwrap();
    let counts = Counts { ranges: 1, deletes: 1, txns: 1, ..Counts::default() };
    assert_eq!(txn.end().counts, counts);

    // What decides is a transaction of its own.
    let mut txn = store.write();
    assert!(txn.get(b"none").unwrap().is_none());
    txn.get_revisions(b"key");
    txn.decided();
    txn.put(b"k", b"v", LeaseId::NONE);
    txn.range(&RangeRequest { key: "k".into(), ..Default::default() }).unwrap();
    let counts = Counts { ranges: 3, puts: 1, put_bytes: 2, txns: 2, ..Counts::default() };
    assert_eq!(txn.end().counts, counts);
}
