//! A leaf: packed keys, items beside them.

use super::keys::{Keys, shared};
use super::{Edit, Effect};
use crate::item::{Change, Item};

/// Keys of a leaf.
const LEAF_KEYS: usize = 48;

/// Keys in order, with what is known of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    keys: Keys,
    items: Vec<Item>,
    live: usize,
    /// No key was created or deleted after this main revision.
    changed: i64,
}

impl Leaf {
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn changed(&self) -> i64 {
        self.changed
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn key(&self, at: usize) -> &[u8] {
        self.keys.get(at)
    }

    pub(crate) fn item(&self, at: usize) -> &Item {
        &self.items[at]
    }

    /// Where `key` is, or where it belongs.
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.keys.find(key)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Item> {
        self.find(key).ok().map(|at| &self.items[at])
    }

    pub(crate) fn live_below(&self, key: &[u8]) -> usize {
        let at = self.find(key).unwrap_or_else(|at| at);
        self.items[..at].iter().filter(|item| item.newest.is_live()).count()
    }

    /// Keys between two bounds that existed at main revision `at`.
    pub(crate) fn count_at(&self, from: Option<&[u8]>, to: Option<&[u8]>, at: i64) -> usize {
        let place = |key| self.find(key).unwrap_or_else(|at| at);
        let (first, last) = (from.map_or(0, place), to.map_or(self.len(), place));
        let items = self.items[first..last.max(first)].iter();
        match self.changed <= at {
            true => items.filter(|item| item.newest.is_live()).count(),
            false => items.filter(|item| item.at(at).is_some()).count(),
        }
    }

    /// Records a change. When the leaf is too full, answers its new right half as well.
    pub(crate) fn edit(&mut self, key: &[u8], edit: Edit) -> (Effect, Option<Leaf>) {
        let found = self.find(key);
        let before = found.ok().and_then(|at| self.items[at].now());
        let change = edit.change(before);
        let flips = before.is_some() != change.is_live() || found.is_err();
        if flips {
            self.changed = self.changed.max(change.modified.main);
        }
        let grown = isize::from(change.is_live()) - isize::from(before.is_some());
        self.live = self.live.checked_add_signed(grown).expect("it counted every live key");
        let effect = Effect { before, change, grown, flips };
        match found {
            Ok(at) => {
                self.items[at].push(change);
                (effect, None)
            }
            Err(at) => {
                self.keys.insert(at, key);
                self.items.insert(at, Item::new(change));
                // Keys that only grow fill a leaf for good: leave it full.
                let cut = if at + 1 == self.len() { LEAF_KEYS } else { LEAF_KEYS / 2 };
                (effect, (self.len() > LEAF_KEYS).then(|| self.split(cut)))
            }
        }
    }

    fn split(&mut self, at: usize) -> Leaf {
        let mut right = Leaf {
            keys: self.keys.split_off(at),
            items: self.items.split_off(at),
            ..Leaf::default()
        };
        self.items.shrink_to_fit();
        self.sum_up();
        right.sum_up();
        right
    }

    fn sum_up(&mut self) {
        self.live = self.items.iter().filter(|item| item.newest.is_live()).count();
        self.changed = self.items.iter().map(Item::changed).max().unwrap_or(0);
    }

    /// The shortest key that parts this leaf from its right neighbour.
    pub(crate) fn border(&self, right: &Leaf) -> Vec<u8> {
        let low = right.key(0);
        let common = self.len().checked_sub(1).map_or(0, |last| shared(self.key(last), low));
        low[..low.len().min(common + 1)].to_vec()
    }

    /// Compacts one key; it is taken away when nothing of it is left. It was dead then.
    pub(crate) fn compact(&mut self, key: &[u8], at: i64, gone: &mut impl FnMut(Change)) {
        let Ok(found) = self.find(key) else { return };
        if !self.items[found].compact(at, gone) {
            self.keys.remove(found);
            self.items.remove(found);
        }
    }

    /// Whether both fit into half a leaf.
    pub(crate) fn fits_with(&self, other: &Leaf) -> bool {
        self.len() + other.len() <= LEAF_KEYS / 2
    }

    /// Appends the keys of the right neighbour.
    pub(crate) fn extend(&mut self, right: &Leaf) {
        self.keys.extend(&right.keys);
        self.items.extend_from_slice(&right.items);
        self.live += right.live;
        self.changed = self.changed.max(right.changed);
    }
}
