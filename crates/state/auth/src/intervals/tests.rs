//! Beside a plain model, and beside etcd's tree for what has no plain meaning.

use proptest::prelude::*;

use super::*;

/// `0` stands for the zero byte, as in `golden/covers.txt`.
fn range(text: &str) -> (Bytes, Bytes) {
    let (key, end) = text.split_once(',').unwrap();
    let bytes = |text: &str| Bytes::from(text.replace('0', "\0"));
    (bytes(key), bytes(end))
}

#[test]
fn what_etcds_tree_says_is_said_here() {
    let (mut yes, mut odd) = (0, 0);
    for line in include_str!("../../golden/covers.txt").lines() {
        let mut set = Intervals::default();
        for word in line.split_whitespace() {
            if let Some(granted) = word.strip_prefix('+') {
                let (key, end) = range(granted);
                set.insert(&key, &end);
                continue;
            }
            let (question, answer) = word.strip_prefix('?').unwrap().split_once('=').unwrap();
            let (key, end) = range(question);
            assert_eq!(set.covers(&key, &end).to_string(), answer, "{question} in {line}");
            yes += usize::from(answer == "true");
            let empty = !end.is_empty() && end != "\0" && end <= key;
            odd += usize::from(empty && answer == "true");
        }
    }
    assert!(yes > 500 && odd > 50, "{yes} {odd}");
}

/// Whether `point` lies in a range that holds keys.
fn holds((key, end): &(Bytes, Bytes), point: &Bytes) -> bool {
    match end.as_ref() {
        [] => key == point,
        [0] => key <= point,
        _ => key <= point && point < end,
    }
}

/// Whether every place where coverage could change, within the range asked for, lies in
/// one of the granted ones.
pub(crate) fn model(granted: &[(Bytes, Bytes)], asked: &(Bytes, Bytes)) -> bool {
    let places = granted.iter().flat_map(|(key, end)| match end.as_ref() {
        [] => [key.clone(), successor(key)],
        [0] => [key.clone(), key.clone()],
        _ => [key.clone(), end.clone()],
    });
    let mut places = places.chain([asked.0.clone()]).filter(|place| holds(asked, place));
    places.all(|place| granted.iter().any(|range| holds(range, &place)))
}

pub(crate) fn word() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', 255]), 1..4)
        .prop_map(Bytes::from)
}

/// A range that holds keys.
pub(crate) fn sound() -> impl Strategy<Value = (Bytes, Bytes)> {
    (word(), word(), 0..8).prop_map(|(a, b, kind)| match kind {
        0 => (a, Bytes::from_static(&[0])),
        1 | 2 => (a, Bytes::new()),
        _ if a < b => (a, b),
        _ if b < a => (b, a),
        _ => (a, Bytes::new()),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_range_is_covered_by_the_union(
        granted in prop::collection::vec(sound(), 0..20),
        asked in prop::collection::vec(sound(), 1..30),
    ) {
        let mut set = Intervals::default();
        granted.iter().for_each(|(key, end)| set.insert(key, end));
        for question in &asked {
            let (key, end) = question;
            // The zero byte as an end means no end; as a begin of one key it is itself.
            prop_assert_eq!(set.covers(key, end), model(&granted, question), "{:?}", question);
        }
    }
}
