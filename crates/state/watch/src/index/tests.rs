//! Groups appear, are found and disappear.

use super::*;

fn concerned(index: &mut Index, key: &[u8]) -> Vec<u32> {
    let mut members = Vec::new();
    index.concerned(key, |_, group| members.extend(&group.members));
    members.sort_unstable();
    members
}

#[test]
fn keys_and_ranges_are_found_together() {
    let b = |text: &'static str| Bytes::from_static(text.as_bytes());
    let wire = |key, end| KeyRange::from_wire(b(key), b(end));
    let mut index = Index::default();
    let single = index.add(&wire("a", ""), 1);
    let prefix = index.add(&wire("a", "b"), 2);
    assert_eq!(index.add(&wire("a", "b"), 3), (prefix.0, 1), "same range, same group");
    let all = index.add(&wire("\0", "\0"), 4);
    assert_eq!(concerned(&mut index, b"a"), [1, 2, 3, 4]);
    assert_eq!(concerned(&mut index, b"ab"), [2, 3, 4]);
    assert_eq!(concerned(&mut index, b"b"), [4]);

    assert_eq!(index.remove(prefix.0, 0), Some(3), "the last takes the free place");
    assert_eq!(index.remove(prefix.0, 0), None);
    assert_eq!(index.remove(single.0, 0), None);
    assert_eq!(concerned(&mut index, b"a"), [4]);
    assert_eq!(index.remove(all.0, all.1), None);
    assert_eq!(concerned(&mut index, b"a"), [] as [u32; 0]);
    let again = index.add(&wire("a", "b"), 5);
    assert!(again.0 <= all.0, "slots are used again");
    assert_eq!(concerned(&mut index, b"aa"), [5]);
}
