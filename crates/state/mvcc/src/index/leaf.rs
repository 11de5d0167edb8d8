//! A leaf: keys packed into one buffer, items beside them.

use crate::item::{Change, Item};

/// Keys of a leaf.
const LEAF_KEYS: usize = 48;

/// Keys in order, with what is known of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`.
    ends: Vec<u32>,
    items: Vec<Item>,
    live: usize,
}

impl Leaf {
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn first(&self) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.key(0))
    }

    pub(crate) fn key(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    pub(crate) fn item(&self, at: usize) -> &Item {
        &self.items[at]
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }

    /// Where `key` is, or where it belongs.
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Item> {
        self.find(key).ok().map(|at| &self.items[at])
    }

    pub(crate) fn live_below(&self, key: &[u8]) -> usize {
        let at = self.find(key).unwrap_or_else(|at| at);
        self.items[..at].iter().filter(|item| item.newest.is_live()).count()
    }

    /// Records a change. When the leaf is too full, answers its new right half.
    pub(crate) fn insert(&mut self, key: &[u8], change: Change) -> Option<Leaf> {
        match self.find(key) {
            Ok(at) => {
                let item = &mut self.items[at];
                let was_live = item.newest.is_live();
                item.push(change);
                self.live = self.live + usize::from(change.is_live()) - usize::from(was_live);
                None
            }
            Err(at) => {
                self.insert_at(at, key, Item::new(change));
                if self.len() <= LEAF_KEYS {
                    return None;
                }
                // Keys that only grow fill a leaf for good: leave it full.
                Some(self.split(if at + 1 == self.len() { LEAF_KEYS } else { LEAF_KEYS / 2 }))
            }
        }
    }

    fn insert_at(&mut self, at: usize, key: &[u8], item: Item) {
        let start = self.start(at);
        self.bytes.splice(start..start, key.iter().copied());
        let length = key.len() as u32;
        self.ends.insert(at, start as u32 + length);
        self.ends[at + 1..].iter_mut().for_each(|end| *end += length);
        self.live += usize::from(item.newest.is_live());
        self.items.insert(at, item);
    }

    fn remove_at(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends[at] as usize);
        self.bytes.drain(start..end);
        self.ends.remove(at);
        self.ends[at..].iter_mut().for_each(|e| *e -= (end - start) as u32);
        let item = self.items.remove(at);
        self.live -= usize::from(item.newest.is_live());
    }

    fn split(&mut self, at: usize) -> Leaf {
        let start = self.start(at);
        let mut right = Leaf {
            bytes: self.bytes.split_off(start),
            ends: self.ends.split_off(at),
            items: self.items.split_off(at),
            live: 0,
        };
        right.ends.iter_mut().for_each(|end| *end -= start as u32);
        right.live = right.items.iter().filter(|item| item.newest.is_live()).count();
        self.live -= right.live;
        // What stays is full, or about to be copied: no room is kept in reserve.
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.items.shrink_to_fit();
        right
    }

    /// Compacts one key; it is taken away when nothing of it is left.
    pub(crate) fn compact(&mut self, key: &[u8], at: i64, gone: &mut impl FnMut(Change)) {
        let Ok(found) = self.find(key) else { return };
        if !self.items[found].compact(at, gone) {
            // A key of which nothing is left was dead.
            self.remove_at(found);
        }
    }

    /// Whether both fit into half a leaf.
    pub(crate) fn fits_with(&self, other: &Leaf) -> bool {
        self.len() + other.len() <= LEAF_KEYS / 2
    }

    /// Appends the keys of the right neighbour.
    pub(crate) fn extend(&mut self, right: &Leaf) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&right.bytes);
        self.ends.extend(right.ends.iter().map(|end| end + start));
        self.items.extend_from_slice(&right.items);
        self.live += right.live;
    }
}
