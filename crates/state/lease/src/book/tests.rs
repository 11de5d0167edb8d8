//! The book against a naive model, and etcd's own rules one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn id(n: i64) -> LeaseId {
    LeaseId(n)
}

#[test]
fn grants_are_checked_in_etcds_order() {
    let mut book = Book::new(2);
    assert_eq!(book.grant(id(0), i64::MAX), Err(GrantError::NoIdentity));
    assert_eq!(book.grant(id(1), LEASE_TTL_SECONDS_MAX + 1), Err(GrantError::TtlTooLarge));
    assert_eq!(book.grant(id(1), -5), Ok(Lease { id: id(1), ttl: 2, remaining: 0 }));
    assert_eq!(book.grant(id(1), 10), Err(GrantError::Exists));
    assert_eq!(
        book.grant(id(2), LEASE_TTL_SECONDS_MAX).map(|lease| lease.ttl),
        Ok(LEASE_TTL_SECONDS_MAX)
    );
    assert_eq!(book.grant(id(-3), 10).map(|lease| lease.id), Ok(id(-3)));
}

#[test]
fn a_key_hangs_on_its_last_lease_and_keys_come_back_sorted() {
    let mut book = Book::new(1);
    book.grant(id(1), 10).unwrap();
    book.grant(id(2), 10).unwrap();
    assert!(!book.attach(id(3), b"a"));
    for key in [&b"c"[..], b"a", b"b"] {
        assert!(book.attach(id(1), key));
    }
    assert!(book.attach(id(2), b"b"));
    assert_eq!(book.owner(b"b"), Some(id(2)));
    assert_eq!(book.keys(id(1)).collect::<Vec<_>>(), [&b"a"[..], b"c"]);
    assert_eq!(book.revoke(id(1)).unwrap(), [&b"a"[..], b"c"]);
    assert_eq!(book.revoke(id(1)), None);
    assert_eq!(book.owner(b"a"), None);
    assert_eq!(book.detach(b"b"), Some(id(2)));
    assert_eq!(book.detach(b"b"), None);
    assert_eq!(book.revoke(id(2)).unwrap(), Vec::<Bytes>::new());
}

#[test]
fn rows_below_the_minimum_are_raised_when_loaded() {
    let book = Book::load(5, [Lease { id: id(7), ttl: 1, remaining: 3 }]);
    assert_eq!(book.lease(id(7)), Some(Lease { id: id(7), ttl: 5, remaining: 3 }));
    assert_eq!(book.lease(id(7)).unwrap().countdown(), 3);
}

#[test]
fn which_leases_carry_a_checkpoint_is_known() {
    let rows = [(1, 0), (2, 40), (3, 50)];
    let row = |(n, remaining)| Lease { id: id(n), ttl: 100, remaining };
    let mut book = Book::load(1, rows.map(row));
    assert_eq!(book.marked().collect::<Vec<_>>(), [id(2), id(3)]);
    book.checkpoint(id(1), 7);
    book.checkpoint(id(2), 0);
    assert_eq!(book.checkpoint(id(9), 7), None);
    assert_eq!(book.marked().collect::<Vec<_>>(), [id(1), id(3)]);
    book.revoke(id(1));
    assert_eq!(book.marked().collect::<Vec<_>>(), [id(3)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn behaves_like_a_map_of_maps(ops in prop::collection::vec((0u8..5, 1i64..6, 0u8..8), 1..200)) {
        let mut book = Book::new(1);
        let mut leases: BTreeMap<i64, i64> = BTreeMap::new();
        let mut keys: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for (op, lease, key) in ops {
            let name = vec![b'k', key];
            match op {
                0 => {
                    let fresh = !leases.contains_key(&lease);
                    prop_assert_eq!(book.grant(id(lease), 9).is_ok(), fresh);
                    if fresh {
                        leases.insert(lease, 0);
                    }
                }
                1 => {
                    let gone = leases.remove(&lease).map(|_| {
                        let mine: Vec<Vec<u8>> = keys.iter().filter(|(_, l)| **l == lease).map(|(k, _)| k.clone()).collect();
                        keys.retain(|_, l| *l != lease);
                        mine
                    });
                    prop_assert_eq!(book.revoke(id(lease)).map(|k| k.iter().map(|k| k.to_vec()).collect()), gone);
                }
                2 => {
                    let there = leases.contains_key(&lease);
                    prop_assert_eq!(book.attach(id(lease), &name), there);
                    if there {
                        keys.insert(name, lease);
                    }
                }
                3 => prop_assert_eq!(book.detach(&name), keys.remove(&name).map(id)),
                _ => {
                    let there = leases.get_mut(&lease).map(|r| *r = i64::from(key));
                    prop_assert_eq!(book.checkpoint(id(lease), i64::from(key)).is_some(), there.is_some());
                }
            }
            prop_assert_eq!(book.len(), leases.len());
            for (lease, remaining) in &leases {
                prop_assert_eq!(book.lease(id(*lease)).unwrap().remaining, *remaining);
                let mine: Vec<&Vec<u8>> = keys.iter().filter(|(_, l)| *l == lease).map(|(k, _)| k).collect();
                prop_assert_eq!(book.keys(id(*lease)).map(|k| k.to_vec()).collect::<Vec<_>>(), mine.into_iter().cloned().collect::<Vec<_>>());
            }
        }
    }
}
