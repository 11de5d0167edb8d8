//! How a compaction goes about it: bounded slices, rows in the order of the file.

use std::collections::BTreeSet;

use mainstay_backend::Bucket;
use mainstay_types::{LeaseId, Revision};

use crate::support::{batch, disk, open};

/// Keys of the test, each written so often that slices of one row gather several times.
const KEYS: i64 = 40;
const ROUNDS: i64 = 60;

/// A compaction that is overtaken by a newer one, in slices of one row. Every slice
/// deletes at most what it may, rows go in the order of their revisions as long as
/// nothing new is gathered, and in the end just the newest of each key is left.
#[test]
fn rows_go_in_order_and_none_is_forgotten() {
    let disk = disk(1);
    let (backend, mut store) = open(&disk);
    let mut index = 0;
    for n in 0..KEYS * ROUNDS {
        index += 1;
        let mut batch = batch(index);
        // Neighbours in the file are not neighbours among the keys.
        // The second of a revision takes an entry of its own when it is gathered.
        let mut txn = store.write();
        txn.put(format!("k{}", n * 17 % KEYS).as_bytes(), b"v", LeaseId(0));
        txn.put(format!("l{}", n * 17 % KEYS).as_bytes(), b"v", LeaseId(0));
        txn.end().rows.into_iter().for_each(|row| batch.put_revision(row));
        backend.append(batch);
    }
    backend.commit().unwrap();
    let mut left: BTreeSet<Revision> =
        (2..2 + KEYS * ROUNDS).flat_map(|n| [0, 1].map(|sub| Revision::new(n, sub))).collect();
    let (mut turns, mut last) = (0, Revision::default());
    let newest = store.revision();
    for (at, slices) in [(newest / 2, 1800), (newest, u64::MAX)] {
        let mut batch = batch(index);
        store.compact(at, &mut batch).unwrap();
        backend.append(batch);
        let mut slices = slices;
        while store.is_compacting() && slices > 0 {
            slices -= 1;
            let mut batch = crate::support::batch(index);
            let slice = store.compaction_slice(1, &mut batch).unwrap();
            assert_eq!(batch.len(), slice.deleted + usize::from(slice.finished));
            assert!(slice.deleted <= 1);
            backend.append(batch);
            backend.commit().unwrap();
            let rows = backend.rows_of(Bucket::Key).unwrap();
            let now = rows.iter().map(|row| mainstay_backend::decode_revision(&row.0).unwrap().0);
            let now: BTreeSet<Revision> = now.collect();
            for gone in left.difference(&now) {
                turns += u32::from(*gone < last);
                last = *gone;
            }
            left = now;
        }
    }
    assert_eq!(left.len() as i64, 2 * KEYS);
    assert!(left.iter().all(|revision| revision.main > newest - KEYS));
    assert!((1..10).contains(&turns), "gathered {turns} times more than once");
}
