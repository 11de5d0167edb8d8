//! Rows that are to be deleted, in the order of their revisions.
//!
//! A compaction can drop millions. Nearly all of them are no tombstones, and the first of
//! their revision: they are bits, 4,096 revisions to a block. Those that follow within a
//! revision are bits as well, 64 to an entry; tombstones are a set.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_types::Revision;

const BLOCK_BITS: u32 = 12;
const WORDS: usize = (1 << BLOCK_BITS) / 64;
/// What a block takes, in entries of the set.
const BLOCK_WEIGHT: usize = 14;

type Block = Box<[u64; WORDS]>;

/// A set of rows; whether each is a tombstone belongs to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gone {
    firsts: BTreeMap<i64, Block>,
    /// By revision and by 64 changes of it.
    seconds: BTreeMap<(i64, i64), u64>,
    tombstones: BTreeSet<Revision>,
}

impl Gone {
    pub(crate) fn insert(&mut self, row: Revision, tombstone: bool) {
        if tombstone {
            self.tombstones.insert(row);
        } else if row.sub != 0 {
            *self.seconds.entry((row.main, row.sub >> 6)).or_default() |= 1 << (row.sub & 63);
        } else {
            let (block, bit) = place(row.main);
            let block = self.firsts.entry(block).or_insert_with(|| Box::new([0; WORDS]));
            block[bit / 64] |= 1 << (bit % 64);
        }
    }

    /// Takes the row with the lowest revision.
    pub(crate) fn pop_first(&mut self) -> Option<(Revision, bool)> {
        let first = self.first().map(|main| Revision::new(main, 0));
        let second = self.second();
        let tombstone = self.tombstones.first().copied();
        let lowest = [first, second, tombstone].into_iter().flatten().min()?;
        if first == Some(lowest) {
            self.clear_first(lowest.main);
        } else if second == Some(lowest) {
            self.clear_second(lowest);
        } else {
            self.tombstones.pop_first();
            return Some((lowest, true));
        }
        Some((lowest, false))
    }

    fn first(&self) -> Option<i64> {
        let (block, words) = self.firsts.first_key_value()?;
        let at = words.iter().position(|word| *word != 0).expect("an empty block goes");
        Some((block << BLOCK_BITS) + at as i64 * 64 + i64::from(words[at].trailing_zeros()))
    }

    fn clear_first(&mut self, main: i64) {
        let (block, bit) = place(main);
        let words = self.firsts.get_mut(&block).expect("it has the bit");
        words[bit / 64] &= !(1 << (bit % 64));
        if words[bit / 64..].iter().all(|word| *word == 0) {
            // The lowest is taken first, so nothing is below.
            self.firsts.remove(&block);
        }
    }

    fn second(&self) -> Option<Revision> {
        let ((main, high), bits) = self.seconds.first_key_value()?;
        Some(Revision::new(*main, (high << 6) + i64::from(bits.trailing_zeros())))
    }

    fn clear_second(&mut self, row: Revision) {
        let mut entry = self.seconds.first_entry().expect("it has the bit");
        *entry.get_mut() &= !(1 << (row.sub & 63));
        if *entry.get() == 0 {
            entry.remove();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.firsts.is_empty() && self.seconds.is_empty() && self.tombstones.is_empty()
    }

    /// What it takes, in entries of some 40 bytes.
    pub(crate) fn weight(&self) -> usize {
        self.tombstones.len() + self.seconds.len() + self.firsts.len() * BLOCK_WEIGHT
    }
}

fn place(main: i64) -> (i64, usize) {
    (main >> BLOCK_BITS, (main & ((1 << BLOCK_BITS) - 1)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is a set in order, whatever is taken and added in between.
    #[test]
    fn it_is_a_set_in_order() {
        let mut state = 7u64;
        let mut dice = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut gone, mut model) = (Gone::default(), BTreeSet::new());
        for round in 0..200_000 {
            if dice(5) < 3 {
                let main = dice(if round % 1000 < 500 { 9_000 } else { 1 << 40 }) as i64 + 1;
                let row = Revision::new(main, if dice(3) == 0 { dice(200) as i64 } else { 0 });
                let tombstone = dice(9) == 0;
                gone.insert(row, tombstone);
                model.insert((row, tombstone));
            } else {
                assert_eq!(gone.pop_first(), model.pop_first());
            }
            assert_eq!(gone.is_empty(), model.is_empty());
        }
        while let Some(row) = model.pop_first() {
            assert_eq!(gone.pop_first(), Some(row));
        }
        assert!(gone.is_empty() && gone.weight() == 0);
    }

    #[test]
    fn millions_take_little() {
        let mut gone = Gone::default();
        (1..=2_000_000).for_each(|main| gone.insert(Revision::new(main, 0), false));
        assert!(gone.weight() < 7000, "{}", gone.weight());
    }
}
