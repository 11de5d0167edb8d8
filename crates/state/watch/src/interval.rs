//! Key ranges, and which of them contain a key.
//!
//! A treap ordered by (start, end); every node also knows the furthest end below
//! it, so that looking up a key skips whole subtrees. Priorities come from a fixed
//! sequence: the same calls build the same tree.

use std::cmp::Ordering;

use bytes::Bytes;

/// Where a range ends; `None` is the end of the key space.
type End = Option<Bytes>;

const NONE: u32 = u32::MAX;

struct Node {
    start: Bytes,
    end: End,
    /// The furthest end of this node and everything below it.
    furthest: End,
    left: u32,
    right: u32,
    priority: u64,
    group: u32,
}

/// Distinct ranges, each with the number of a group.
pub(crate) struct Intervals {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    sequence: u64,
}

impl Default for Intervals {
    fn default() -> Intervals {
        Intervals { nodes: Vec::new(), free: Vec::new(), root: NONE, sequence: 0 }
    }
}

impl Intervals {
    /// The group of exactly this range.
    pub(crate) fn get(&self, start: &[u8], end: &End) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = self.node(at);
            at = match compare((start, end), node) {
                Ordering::Less => node.left,
                Ordering::Greater => node.right,
                Ordering::Equal => return Some(node.group),
            };
        }
        None
    }

    /// Adds a range that is not there yet.
    pub(crate) fn insert(&mut self, start: Bytes, end: End, group: u32) {
        debug_assert!(self.get(&start, &end).is_none(), "a range has one group");
        self.sequence += 1;
        let priority = scramble(self.sequence);
        let furthest = end.clone();
        let node = Node { start, end, furthest, left: NONE, right: NONE, priority, group };
        let new = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer ranges than watchers")
            }
        };
        self.root = self.insert_below(self.root, new);
    }

    /// Removes a range that is there.
    pub(crate) fn remove(&mut self, start: &[u8], end: &End) {
        self.root = self.remove_below(self.root, start, end);
    }

    /// Calls `found` with the group of every range that contains `key`.
    pub(crate) fn containing(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.visit(self.root, key, found);
    }

    fn visit(&self, at: u32, key: &[u8], found: &mut impl FnMut(u32)) {
        if at == NONE {
            return;
        }
        let node = self.node(at);
        if !ends_after(&node.furthest, key) {
            return;
        }
        self.visit(node.left, key, found);
        if node.start.as_ref() <= key {
            if ends_after(&node.end, key) {
                found(node.group);
            }
            self.visit(node.right, key, found);
        }
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NONE {
            return new;
        }
        if self.node(new).priority > self.node(at).priority {
            let (left, right) = self.split(at, new);
            let node = self.node_mut(new);
            (node.left, node.right) = (left, right);
            self.refresh(new);
            return new;
        }
        if self.is_before(new, at) {
            let left = self.insert_below(self.node(at).left, new);
            self.node_mut(at).left = left;
        } else {
            let right = self.insert_below(self.node(at).right, new);
            self.node_mut(at).right = right;
        }
        self.refresh(at);
        at
    }

    fn remove_below(&mut self, at: u32, start: &[u8], end: &End) -> u32 {
        assert!(at != NONE, "only a range that was added is removed");
        let (left, right) = (self.node(at).left, self.node(at).right);
        match compare((start, end), self.node(at)) {
            Ordering::Equal => {
                let node = self.node_mut(at);
                // The slot waits for reuse and must not hold on to a client's bytes.
                (node.start, node.end, node.furthest) = (Bytes::new(), None, None);
                self.free.push(at);
                return self.merge(left, right);
            }
            Ordering::Less => {
                let left = self.remove_below(left, start, end);
                self.node_mut(at).left = left;
            }
            Ordering::Greater => {
                let right = self.remove_below(right, start, end);
                self.node_mut(at).right = right;
            }
        }
        self.refresh(at);
        at
    }

    /// Splits a subtree into what lies before and after the node `by`.
    fn split(&mut self, at: u32, by: u32) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if self.is_before(by, at) {
            let (before, after) = self.split(self.node(at).left, by);
            self.node_mut(at).left = after;
            self.refresh(at);
            (before, at)
        } else {
            let (before, after) = self.split(self.node(at).right, by);
            self.node_mut(at).right = before;
            self.refresh(at);
            (at, after)
        }
    }

    /// Joins two subtrees, the first entirely before the second.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE || right == NONE {
            return if left == NONE { right } else { left };
        }
        if self.node(left).priority > self.node(right).priority {
            let below = self.merge(self.node(left).right, right);
            self.node_mut(left).right = below;
            self.refresh(left);
            left
        } else {
            let below = self.merge(left, self.node(right).left);
            self.node_mut(right).left = below;
            self.refresh(right);
            right
        }
    }

    fn refresh(&mut self, at: u32) {
        let node = self.node(at);
        let mut furthest = &node.end;
        for child in [node.left, node.right] {
            if child != NONE {
                let end = &self.node(child).furthest;
                if compare_ends(end, furthest).is_gt() {
                    furthest = end;
                }
            }
        }
        let furthest = furthest.clone();
        self.node_mut(at).furthest = furthest;
    }

    fn is_before(&self, a: u32, b: u32) -> bool {
        let a = self.node(a);
        compare((&a.start, &a.end), self.node(b)).is_lt()
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize]
    }
}

fn compare((start, end): (&[u8], &End), node: &Node) -> Ordering {
    start.cmp(node.start.as_ref()).then_with(|| compare_ends(end, &node.end))
}

fn compare_ends(a: &End, b: &End) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
    }
}

fn ends_after(end: &End, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| end.as_ref() > key)
}

/// A number from a sequence that looks random (splitmix64, Steele and others, 2014).
pub(crate) fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
