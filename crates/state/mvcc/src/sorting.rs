//! Rows of the db gathered and sorted by key, so that the index is built from left to
//! right instead of all over.

use crate::index::KeyIndex;
use crate::item::Change;

/// Rows gathered at most.
const ROWS_MAX: usize = 1 << 19;
/// Bytes of keys gathered at most, but for the last key.
const BYTES_MAX: usize = 32 << 20;
/// Key bytes compared at a time; the eighth byte of a word says how many there are.
const STRIDE: usize = 7;

/// Changes on their way into the index, in the order of their revisions.
#[derive(Default)]
pub(crate) struct Sorting {
    bytes: Vec<u8>,
    rows: Vec<(usize, Change)>,
}

impl Sorting {
    /// Takes a change newer than all before.
    pub(crate) fn push(&mut self, key: &[u8], change: Change, index: &mut KeyIndex) {
        self.bytes.extend_from_slice(key);
        self.rows.push((self.bytes.len(), change));
        if self.rows.len() >= ROWS_MAX || self.bytes.len() >= BYTES_MAX {
            self.flush(index);
        }
    }

    /// Puts everything gathered into the index.
    pub(crate) fn flush(&mut self, index: &mut KeyIndex) {
        for at in self.sorted() {
            index.insert(self.key(at), self.rows[at as usize].1);
        }
        self.bytes.clear();
        self.rows.clear();
    }

    fn key(&self, at: u32) -> &[u8] {
        let at = at as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.rows[before].0);
        &self.bytes[start..self.rows[at].0]
    }

    /// The rows by key, those of one key as they came. Sorts by a few bytes, which lie in
    /// the list itself, then what is equal by the next few.
    fn sorted(&self) -> impl Iterator<Item = u32> + use<> {
        let count = u32::try_from(self.rows.len()).expect("bounded by ROWS_MAX");
        let mut order: Vec<(u64, u32)> = (0..count).map(|at| (0, at)).collect();
        let mut todo = vec![(0..order.len(), 0)];
        while let Some((part, from)) = todo.pop() {
            let rows = &mut order[part.clone()];
            for (word, at) in rows.iter_mut() {
                *word = word_of(self.key(*at), from);
            }
            rows.sort_unstable();
            let mut start = part.start;
            for equal in rows.chunk_by(|a, b| a.0 == b.0) {
                let end = start + equal.len();
                if equal.len() > 1 && equal[0].0 & 0xff == STRIDE as u64 {
                    todo.push((start..end, from + STRIDE));
                }
                start = end;
            }
        }
        order.into_iter().map(|(_, at)| at)
    }
}

/// Up to seven bytes of a key from `from` on, and how many: words sort as the keys do.
fn word_of(key: &[u8], from: usize) -> u64 {
    let rest = key.get(from..).unwrap_or_default();
    let length = rest.len().min(STRIDE);
    let mut word = [0; 8];
    word[..length].copy_from_slice(&rest[..length]);
    word[STRIDE] = length as u8;
    u64::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use mainstay_types::Revision;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_sort_by_key_then_as_they_came(
            keys in prop::collection::vec(prop::collection::vec(0u8..2, 0..20), 0..80),
        ) {
            let mut index = KeyIndex::default();
            let mut sorting = Sorting::default();
            for (n, key) in keys.iter().enumerate() {
                let modified = Revision::new(n as i64 + 1, 0);
                sorting.push(key, Change { modified, created: 1, version: 1 }, &mut index);
            }
            let mut expected: Vec<u32> = (0..keys.len() as u32).collect();
            expected.sort_by_key(|at| &keys[*at as usize]);
            prop_assert_eq!(sorting.sorted().collect::<Vec<_>>(), expected);
        }
    }
}
