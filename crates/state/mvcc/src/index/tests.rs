//! The index against a map that remembers everything.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_types::RangeEnd;
use proptest::prelude::*;

use super::*;

/// For each key, every change: (main revision, exists).
#[derive(Default)]
struct Model {
    keys: BTreeMap<Vec<u8>, Vec<(i64, bool)>>,
}

impl Model {
    fn exists(&self, key: &[u8], at: i64) -> bool {
        let changes = self.keys.get(key).map(Vec::as_slice).unwrap_or_default();
        changes.iter().rev().find(|(main, _)| *main <= at).is_some_and(|(_, live)| *live)
    }

    fn live(&self, range: &KeyRange, at: i64) -> Vec<Vec<u8>> {
        let fits = |k: &&Vec<u8>| range.contains(k) && self.exists(k, at);
        self.keys.keys().filter(fits).cloned().collect()
    }
}

fn key(n: u16) -> Vec<u8> {
    format!("key-{:04x}", n % 400).into_bytes()
}

fn range(a: u16, b: u16) -> KeyRange {
    let end = match b % 5 {
        0 => RangeEnd::Unbounded,
        1 => RangeEnd::Single,
        _ => RangeEnd::Before(Bytes::from(key(b))),
    };
    KeyRange { start: Bytes::from(key(a)), end }
}

fn walked(index: &KeyIndex, range: &KeyRange, at: Option<i64>) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    index.walk(range, at, &mut |key, _| {
        keys.push(key.to_vec());
        Step::Go
    });
    keys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_says_what_the_model_says(
        ops in prop::collection::vec((any::<u16>(), 0u8..10), 1..800),
        asks in prop::collection::vec((any::<u16>(), any::<u16>(), any::<u16>()), 20),
    ) {
        let (mut index, mut model) = (KeyIndex::default(), Model::default());
        let mut snapshots = Vec::new();
        let (mut main, mut compacted) = (1, 0);
        for (n, what) in ops {
            let key = key(n);
            match what {
                0..=5 => {
                    main += 1;
                    index.put(&key, Revision::new(main, 0));
                    model.keys.entry(key).or_default().push((main, true));
                }
                6..=7 if model.exists(&key, main) => {
                    main += 1;
                    index.delete(&key, Revision::new(main, 0));
                    model.keys.entry(key).or_default().push((main, false));
                }
                8 if main > compacted + 5 => {
                    compacted = main - i64::from(n % 5);
                    let mut from = Some(Vec::new());
                    while let Some(at) = from {
                        from = index.compact(&at, Stretch { keys: 7, pasts: 3 }, compacted, &mut |_, _| {});
                    }
                }
                _ => snapshots.push((index.clone(), main)),
            }
        }
        snapshots.push((index, main));
        for (a, b, c) in asks {
            let range = range(a, b);
            let (snapshot, at) = &snapshots[usize::from(c) % snapshots.len()];
            prop_assert_eq!(snapshot.count(&range), model.live(&range, *at).len());
            prop_assert_eq!(walked(snapshot, &range, None), model.live(&range, *at));
            let newest = &snapshots[snapshots.len() - 1].0;
            let past = compacted + i64::from(c) % (main - compacted + 1);
            prop_assert_eq!(walked(newest, &range, Some(past)), model.live(&range, past));
        }
    }
}

#[test]
fn keys_that_all_go_leave_an_empty_tree() {
    let mut index = KeyIndex::default();
    for n in 0..5000u32 {
        index.put(format!("{n:06}").as_bytes(), Revision::new(i64::from(n) + 2, 0));
    }
    for n in 0..5000u32 {
        index.delete(format!("{n:06}").as_bytes(), Revision::new(i64::from(n) + 6000, 0));
    }
    let mut gone = 0;
    let all = Stretch { keys: usize::MAX, pasts: usize::MAX };
    assert_eq!(index.compact(b"", all, 20_000, &mut |_, _| gone += 1), None);
    assert_eq!((gone, index.len()), (10_000, 0));
    index.put(b"again", Revision::new(20_001, 0));
    assert_eq!(index.count(&KeyRange::from_wire("\0".into(), "\0".into())), 1);
}
