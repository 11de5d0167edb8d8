//! A page is written again exactly when nobody can read it.

use super::FreeList;
use crate::pager::{Live, Pins};

fn live(txids: &[u64]) -> Live {
    txids.iter().map(|txid| (*txid, Pins { count: 1, high_water: 100 })).collect()
}

#[test]
fn a_page_waits_for_the_snapshots_that_reach_it() {
    let mut free = FreeList::default();
    free.committed(5, &live(&[2, 4]), &[], &[(10, 3)]);
    assert_eq!(free.pages(), 3);
    free.release(&live(&[2, 5]), |_, _| panic!("2 reaches it"));
    assert_eq!(free.take(1, false), None);
    let mut told = Vec::new();
    free.release(&live(&[5]), |first, pages| told.push((first, pages)));
    assert_eq!(told, [(10, 3)]);
    assert_eq!(free.take(3, false), Some(10));
    assert_eq!(free.pages(), 0);
}

#[test]
fn a_page_written_after_an_old_snapshot_does_not_wait_for_it() {
    let mut free = FreeList::default();
    free.committed(5, &live(&[2, 4]), &[(20, 2)], &[]);
    free.release(&live(&[2, 5]), |_, _| ());
    free.committed(6, &live(&[2, 5]), &[], &[(20, 2)]);
    free.release(&live(&[2, 5, 6]), |_, _| panic!("5 reaches it"));
    free.release(&live(&[2, 6]), |_, _| ());
    assert_eq!(free.take(2, false), Some(20), "2 is older than the page");
}

#[test]
fn runs_join_and_the_longest_is_used_up_first() {
    let mut free = FreeList::default();
    for (first, pages) in [(30, 2), (10, 1), (12, 3), (11, 1), (40, 4)] {
        free.add(first, pages);
    }
    assert_eq!(free.runs().collect::<Vec<_>>(), [(10, 5), (30, 2), (40, 4)]);
    assert_eq!(
        (free.take(1, false), free.take(1, false), free.take(2, false)),
        (Some(10), Some(11), Some(12))
    );
    assert_eq!(free.take(2, false), Some(30), "the shortest that is long enough");
    assert_eq!(free.take(1, false), Some(14));
    assert_eq!(free.take(5, false), None);
    assert_eq!(free.take(1, false), Some(40));
    free.settle();
    assert_eq!(free.runs().collect::<Vec<_>>(), [(41, 3)]);
    assert_eq!(free.pages(), 3);
}
