//! Files that nobody writes, made by hand: a check of them ends, and finds what is wrong.

use mainstay_bolt::{Bolt, Error, Reader};
use mainstay_env_sim::SimDisk;

use crate::support::{PATH, options};

const SIZE: usize = 1024;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;

fn header(id: u64, flags: u16, count: usize) -> Vec<u8> {
    let mut page = id.to_le_bytes().to_vec();
    page.extend(flags.to_le_bytes());
    page.extend((count as u16).to_le_bytes());
    page.extend([0; 4]);
    page
}

fn meta(slot: u64, root: u64, pages: u64, txid: u64) -> Vec<u8> {
    let mut page = header(slot, META, 0);
    for number in [0xED0C_DAED, 2, SIZE as u32, 0] {
        page.extend(number.to_le_bytes());
    }
    for number in [root, 0, u64::MAX, pages, txid] {
        page.extend(number.to_le_bytes());
    }
    let sum = page[16..].iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    page.extend(sum.to_le_bytes());
    page.resize(SIZE, 0);
    page
}

fn branch(id: u64, children: &[(&str, u64)]) -> Vec<u8> {
    let mut page = header(id, BRANCH, children.len());
    let mut keys: Vec<u8> = Vec::new();
    for (i, (key, child)) in children.iter().enumerate() {
        let position = 16 * (children.len() - i) + keys.len();
        page.extend((position as u32).to_le_bytes());
        page.extend((key.len() as u32).to_le_bytes());
        page.extend(child.to_le_bytes());
        keys.extend(key.as_bytes());
    }
    page.extend(keys);
    page.resize(SIZE, 0);
    page
}

/// `Some(root)` makes a row a bucket, `None` gives it an empty value.
fn leaf(id: u64, rows: &[(&str, Option<u64>)]) -> Vec<u8> {
    let mut page = header(id, LEAF, rows.len());
    let mut data: Vec<u8> = Vec::new();
    for (i, (key, bucket)) in rows.iter().enumerate() {
        let position = 16 * (rows.len() - i) + data.len();
        let value = bucket.map_or(0, |_| 16_u32);
        for number in [u32::from(bucket.is_some()), position as u32, key.len() as u32, value] {
            page.extend(number.to_le_bytes());
        }
        data.extend(key.as_bytes());
        data.extend(bucket.iter().flat_map(|root| [root.to_le_bytes(), [0; 8]].concat()));
    }
    page.extend(data);
    page.resize(SIZE, 0);
    page
}

/// A file with these pages from 2 on; the first is the bucket of buckets.
fn file(txid: u64, pages: &[Vec<u8>]) -> SimDisk {
    let end = 2 + pages.len() as u64;
    let slot = |slot| meta(slot, 2, end, txid - (txid - slot) % 2);
    let disk = SimDisk::new(1);
    disk.install(PATH, &[slot(0), slot(1), pages.concat()].concat());
    disk
}

/// What a check says, page by page; opening for writing is refused.
fn problems(disk: &SimDisk) -> Vec<(u64, String)> {
    let refused = Bolt::open(disk, PATH.as_ref(), options(SIZE));
    assert!(matches!(refused, Err(Error::Damaged { .. })), "opened");
    let found = Reader::open(disk, PATH.as_ref()).unwrap().check().unwrap();
    found.into_iter().map(|problem| (problem.page, problem.what)).collect()
}

#[test]
fn a_page_that_names_itself_is_walked_once() {
    let top = leaf(2, &[("key", Some(3))]);
    let found = problems(&file(9, &[top, branch(3, &[("a", 3), ("b", 3), ("c", 3)])]));
    assert!(!found.is_empty() && found.len() < 10, "{found:?}");
    // Buckets that hold themselves, twice each: 2^64 ways without the mark.
    let top = leaf(2, &[("a", Some(2)), ("b", Some(2)), ("key", Some(2))]);
    let found = problems(&file(9, &[top]));
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn keys_behind_the_end_of_a_branch_are_found() {
    let pages = |last: &str| {
        [
            leaf(2, &[("key", Some(3))]),
            branch(3, &[("a", 4), ("m", 5)]),
            branch(4, &[("a", 6), ("f", 7)]),
            branch(5, &[("m", 8), ("p", 9)]),
            leaf(6, &[("b", None)]),
            leaf(7, &[("f", None), (last, None)]),
            leaf(8, &[("m", None)]),
            leaf(9, &[("q", None)]),
        ]
    };
    let sound = file(9, &pages("g"));
    assert_eq!(Reader::open(&sound, PATH.as_ref()).unwrap().check().unwrap(), []);
    // "n" belongs under "m": nobody who looks for it there finds it.
    let found = problems(&file(9, &pages("n")));
    assert!(found.iter().any(|(page, what)| *page == 7 && what.contains("end")), "{found:?}");
}

#[test]
fn a_transaction_id_that_leaves_no_room_is_damage() {
    for txid in [u64::MAX, u64::MAX - 1] {
        let disk = file(txid, &[leaf(2, &[])]);
        let refused = Reader::open(&disk, PATH.as_ref()).err();
        assert!(matches!(refused, Some(Error::Damaged { .. })), "{refused:?}");
    }
}
