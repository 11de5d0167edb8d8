//! The key index: a copy-on-write B+tree that counts live keys.
//!
//! Nodes are shared between the writer and any number of snapshots; the writer
//! copies a node before it changes one that a snapshot holds, so taking a
//! snapshot is one reference count. Every branch knows how many live keys lie
//! below each child, so counting a range walks two paths instead of the range.

mod leaf;
mod walk;

use std::sync::Arc;

use mainstay_types::{KeyRange, Revision};

use crate::item::{Change, Found, Item};
use leaf::Leaf;

pub(crate) use walk::Step;

/// Children of a branch.
const FANOUT: usize = 48;

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Leaf(Leaf),
    Branch(Vec<Child>),
}

#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// No key below is smaller; the first child's is not looked at.
    low: Arc<[u8]>,
    live: usize,
    node: Arc<Node>,
}

/// Keys and when they changed.
#[derive(Clone, Debug)]
pub struct KeyIndex {
    root: Arc<Node>,
}

impl Default for KeyIndex {
    fn default() -> KeyIndex {
        KeyIndex { root: Arc::new(Node::Leaf(Leaf::default())) }
    }
}

impl KeyIndex {
    /// The key now.
    pub fn get(&self, key: &[u8]) -> Option<Found> {
        self.item(key)?.now()
    }

    /// The key at main revision `at`.
    pub fn get_at(&self, key: &[u8], at: i64) -> Option<Found> {
        self.item(key)?.at(at)
    }

    fn item(&self, key: &[u8]) -> Option<&Item> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.get(key),
                Node::Branch(children) => node = &children[child_of(children, key)].node,
            }
        }
    }

    /// Records a put; answers the key as it is now.
    pub fn put(&mut self, key: &[u8], modified: Revision) -> Found {
        let (created, version) = match self.get(key) {
            Some(old) => (old.created, old.version + 1),
            None => (modified.main, 1),
        };
        self.insert(key, Change { modified, created, version });
        Found { modified, created, version }
    }

    /// Records a deletion of a key that exists.
    pub fn delete(&mut self, key: &[u8], modified: Revision) {
        self.insert(key, Change { modified, created: 0, version: 0 });
    }

    /// Records any change, newer than all of the key's others.
    pub(crate) fn insert(&mut self, key: &[u8], change: Change) {
        if let Some((low, right)) = insert_into(&mut self.root, key, change) {
            let left = Child {
                low: Arc::from(&b""[..]),
                live: live(&self.root),
                node: Arc::clone(&self.root),
            };
            let right = Child { low, live: live(&right), node: right };
            self.root = Arc::new(Node::Branch(vec![left, right]));
        }
    }

    /// Live keys in the range.
    pub fn count(&self, range: &KeyRange) -> usize {
        if range.is_empty() {
            return 0;
        }
        match &range.end {
            mainstay_types::RangeEnd::Single => usize::from(self.get(&range.start).is_some()),
            mainstay_types::RangeEnd::Before(end) => {
                self.live_below(end) - self.live_below(&range.start)
            }
            mainstay_types::RangeEnd::Unbounded => live(&self.root) - self.live_below(&range.start),
        }
    }

    /// Live keys smaller than `key`.
    fn live_below(&self, key: &[u8]) -> usize {
        let mut node = &*self.root;
        let mut sum = 0;
        loop {
            match node {
                Node::Leaf(leaf) => return sum + leaf.live_below(key),
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    sum += children[..at].iter().map(|c| c.live).sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// Live keys in all.
    pub fn len(&self) -> usize {
        live(&self.root)
    }

    /// Whether no key is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Compacts up to `limit` keys from `from` on at revision `at`; tells `gone` each
    /// change that nobody can ask for any more. Answers where to go on, or `None` at
    /// the end.
    pub(crate) fn compact(
        &mut self,
        from: &[u8],
        limit: usize,
        at: i64,
        gone: &mut impl FnMut(Revision, bool),
    ) -> Option<Vec<u8>> {
        let mut due = Vec::new();
        let mut seen = 0;
        let mut next = None;
        self.walk_items(from, &mut |key, item| {
            if seen == limit {
                next = Some(key.to_vec());
                return Step::Stop;
            }
            seen += 1;
            if item.has_past() {
                due.push(key.to_vec());
            }
            Step::Go
        });
        for key in due {
            let mut tell = |c: Change| gone(c.modified, !c.is_live());
            compact_in(&mut self.root, &key, at, &mut tell);
        }
        // A tree whose keys are all gone starts again.
        if let Node::Branch(children) = &*self.root
            && children.is_empty()
        {
            *self = KeyIndex::default();
        }
        next
    }
}

fn live(node: &Node) -> usize {
    match node {
        Node::Leaf(leaf) => leaf.live(),
        Node::Branch(children) => children.iter().map(|c| c.live).sum(),
    }
}

/// The child that holds `key`, if any does.
fn child_of(children: &[Child], key: &[u8]) -> usize {
    children[1..].partition_point(|c| &*c.low <= key)
}

/// Inserts below `node`. When it had to be split, answers its new right neighbour.
fn insert_into(node: &mut Arc<Node>, key: &[u8], change: Change) -> Option<(Arc<[u8]>, Arc<Node>)> {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let right = leaf.insert(key, change)?;
            let low = Arc::from(right.first().expect("half a leaf has keys"));
            Some((low, Arc::new(Node::Leaf(right))))
        }
        Node::Branch(children) => {
            let at = child_of(children, key);
            let split = insert_into(&mut children[at].node, key, change);
            children[at].live = live(&children[at].node);
            let (low, right) = split?;
            children.insert(at + 1, Child { low, live: live(&right), node: right });
            if children.len() <= FANOUT {
                return None;
            }
            // Keys that only grow fill the left half for good: leave it full.
            let cut = if at + 2 == children.len() { FANOUT - 4 } else { FANOUT / 2 };
            let right = children.split_off(cut);
            Some((Arc::clone(&right[0].low), Arc::new(Node::Branch(right))))
        }
    }
}

/// Compacts one key below `node`, and takes away what has become empty.
fn compact_in(node: &mut Arc<Node>, key: &[u8], at: i64, gone: &mut impl FnMut(Change)) {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => leaf.compact(key, at, gone),
        Node::Branch(children) => {
            let n = child_of(children, key);
            compact_in(&mut children[n].node, key, at, gone);
            children[n].live = live(&children[n].node);
            let empty = match &*children[n].node {
                Node::Leaf(leaf) => leaf.is_empty(),
                Node::Branch(below) => below.is_empty(),
            };
            if empty {
                children.remove(n);
            } else {
                join_leaves(children, n);
            }
        }
    }
}

/// Joins a leaf that has become small with its right neighbour.
fn join_leaves(children: &mut Vec<Child>, n: usize) {
    let [left, right] = match children.get(n..n + 2) {
        Some([left, right]) => [&left.node, &right.node],
        _ => return,
    };
    let (Node::Leaf(a), Node::Leaf(b)) = (&**left, &**right) else { return };
    if !a.fits_with(b) {
        return;
    }
    let mut joined = a.clone();
    joined.extend(b);
    children[n].live += children[n + 1].live;
    children[n].node = Arc::new(Node::Leaf(joined));
    children.remove(n + 1);
}

#[cfg(test)]
mod tests;
