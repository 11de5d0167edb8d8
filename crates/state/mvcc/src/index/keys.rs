//! Keys of a node, in order, packed into one buffer.

use std::cmp::Ordering;

/// Sorted keys. Beside each stand its first four bytes behind what all of them share,
/// so that a search touches few of the keys themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`.
    ends: Vec<u32>,
    /// Four bytes of each key from `shared` on, zeros behind its end.
    heads: Vec<u32>,
    /// All keys begin with the same `shared` bytes, and perhaps with more.
    shared: usize,
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at] as usize]
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] as usize }
    }

    /// Where `key` is, or where it belongs.
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(&first_end) = self.ends.first() else { return Err(0) };
        let shared = &self.bytes[..self.shared.min(first_end as usize)];
        let begin = &key[..key.len().min(shared.len())];
        match begin.cmp(shared) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal => {}
        }
        let head = head_of(key, self.shared);
        let mut low = self.heads.partition_point(|other| *other < head);
        let mut high = low + self.heads[low..].partition_point(|other| *other == head);
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.get(middle)[self.shared..].cmp(&key[self.shared..]) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(middle),
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    pub(crate) fn insert(&mut self, at: usize, key: &[u8]) {
        let start = self.start(at);
        self.bytes.splice(start..start, key.iter().copied());
        let length = u32::try_from(key.len()).expect("a key is shorter than a request");
        self.ends.insert(at, start as u32 + length);
        self.ends[at + 1..].iter_mut().for_each(|end| *end += length);
        self.heads.insert(at, head_of(key, self.shared));
        let other = usize::from(at == 0);
        if self.len() == 1 || shared(self.get(other), key) < self.shared {
            self.look_again();
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        let (start, end) = (self.start(at), self.ends[at] as usize);
        self.bytes.drain(start..end);
        self.ends.remove(at);
        self.ends[at..].iter_mut().for_each(|e| *e -= (end - start) as u32);
        self.heads.remove(at);
    }

    /// Takes the keys from `at` on.
    pub(crate) fn split_off(&mut self, at: usize) -> Keys {
        let start = self.start(at);
        let mut right = Keys {
            bytes: self.bytes.split_off(start),
            ends: self.ends.split_off(at),
            heads: self.heads.split_off(at),
            shared: 0,
        };
        right.ends.iter_mut().for_each(|end| *end -= start as u32);
        right.look_again();
        self.look_again();
        // What stays is full, or about to be copied: no room is kept in reserve.
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.heads.shrink_to_fit();
        right
    }

    /// Appends keys that are all greater.
    pub(crate) fn extend(&mut self, right: &Keys) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&right.bytes);
        self.ends.extend(right.ends.iter().map(|end| end + start));
        self.heads.resize(self.ends.len(), 0);
        self.look_again();
    }

    /// Finds anew what all keys share: what the first and the last do, as they are sorted.
    fn look_again(&mut self) {
        let Some(last) = self.len().checked_sub(1) else {
            self.shared = 0;
            return;
        };
        self.shared = shared(self.get(0), self.get(last));
        for at in 0..self.len() {
            self.heads[at] = head_of(self.get(at), self.shared);
        }
    }
}

/// Length of the common beginning.
pub(crate) fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn head_of(key: &[u8], from: usize) -> u32 {
    let rest = key.get(from..).unwrap_or_default();
    let mut head = [0; 4];
    let length = rest.len().min(4);
    head[..length].copy_from_slice(&rest[..length]);
    u32::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let tail = || prop::collection::vec(0u8..3, 0..7);
        let begin = prop::sample::select(vec![&b""[..], b"/registry/", b"/registry/pods/"]);
        (begin, tail()).prop_map(|(begin, tail)| [begin, &tail[..]].concat())
    }

    proptest! {
        #[test]
        fn they_are_found_as_in_a_sorted_list(
            keys in prop::collection::vec((key(), any::<bool>()), 1..60), ask in key(), cut: u8,
        ) {
            let (mut packed, mut list) = (Keys::default(), Vec::<Vec<u8>>::new());
            for (key, removed) in keys {
                let at = packed.find(&key);
                prop_assert_eq!(at, list.binary_search(&key));
                match (at, removed) {
                    (Ok(at), true) => { packed.remove(at); list.remove(at); }
                    (Err(at), _) => { packed.insert(at, &key); list.insert(at, key); }
                    (Ok(_), false) => {}
                }
                prop_assert_eq!(packed.find(&ask), list.binary_search(&ask));
            }
            let cut = usize::from(cut) % (list.len() + 1);
            let right = packed.split_off(cut);
            let right_list = list.split_off(cut);
            prop_assert_eq!(right.find(&ask), right_list.binary_search(&ask));
            prop_assert_eq!(packed.find(&ask), list.binary_search(&ask));
            packed.extend(&right);
            list.extend(right_list);
            prop_assert_eq!(packed.find(&ask), list.binary_search(&ask));
            prop_assert!((0..list.len()).all(|at| packed.get(at) == list[at]));
        }
    }
}
