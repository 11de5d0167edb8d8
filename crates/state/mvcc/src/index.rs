//! The key index: a copy-on-write B+tree that counts live keys.
//!
//! Nodes are shared between the writer and any number of snapshots; the writer
//! copies a node before it changes one that a snapshot holds, so taking a
//! snapshot is one reference count. Every branch knows how many live keys lie
//! below each child, so counting a range walks two paths instead of the range.

mod keys;
mod leaf;
mod walk;

use std::sync::Arc;

use mainstay_types::{KeyRange, RangeEnd, Revision};

use crate::item::{Change, Found, Item};
use keys::Keys;
use leaf::Leaf;

pub(crate) use walk::Step;

/// Children of a branch.
const FANOUT: usize = 48;

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

/// Children in order; `lows[n]` parts child `n` from child `n + 1`, which has no
/// smaller key.
#[derive(Clone, Debug)]
pub(crate) struct Branch {
    lows: Keys,
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
pub(crate) struct Child {
    live: usize,
    /// No key below was created or deleted after this main revision.
    changed: i64,
    node: Arc<Node>,
}

impl Child {
    fn new(node: Arc<Node>) -> Child {
        Child { live: node.live(), changed: node.changed(), node }
    }
}

/// What is recorded of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// A put; creation and version follow from what the key was.
    Put(Revision),
    /// Exactly this.
    Exactly(Change),
}

impl Edit {
    fn change(self, before: Option<Found>) -> Change {
        match (self, before) {
            (Edit::Exactly(change), _) => change,
            (Edit::Put(modified), Some(old)) => {
                Change { modified, created: old.created, version: old.version + 1 }
            }
            (Edit::Put(modified), None) => Change { modified, created: modified.main, version: 1 },
        }
    }
}

/// What an edit did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    before: Option<Found>,
    change: Change,
    /// Live keys more than before.
    grown: isize,
    /// Whether the key began or ceased to exist.
    flips: bool,
}

impl Node {
    fn live(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.live(),
            Node::Branch(branch) => branch.children.iter().map(|c| c.live).sum(),
        }
    }

    fn changed(&self) -> i64 {
        match self {
            Node::Leaf(leaf) => leaf.changed(),
            Node::Branch(branch) => branch.children.iter().map(|c| c.changed).max().unwrap_or(0),
        }
    }
}

impl Branch {
    /// The child that holds `key`, if any does.
    fn child_of(&self, key: &[u8]) -> usize {
        self.lows.find(key).map_or_else(|at| at, |at| at + 1)
    }

    fn remove(&mut self, n: usize) {
        self.children.remove(n);
        if self.lows.len() > 0 {
            self.lows.remove(n.saturating_sub(1));
        }
    }

    /// Adds the right half of child `n`. When there are too many children then, answers
    /// the right half of this branch and what parts it from the left one.
    fn split_child(&mut self, n: usize, low: &[u8], right: Arc<Node>) -> Option<(Vec<u8>, Node)> {
        let left = Child::new(Arc::clone(&self.children[n].node));
        self.children[n] = left;
        self.children.insert(n + 1, Child::new(right));
        self.lows.insert(n, low);
        if self.children.len() <= FANOUT {
            return None;
        }
        // Keys that only grow fill the left half for good: leave it full.
        let cut = if n + 2 == self.children.len() { FANOUT - 4 } else { FANOUT / 2 };
        let children = self.children.split_off(cut);
        let lows = self.lows.split_off(cut);
        let low = self.lows.get(cut - 1).to_vec();
        self.lows.remove(cut - 1);
        Some((low, Node::Branch(Branch { lows, children })))
    }
}

/// How far one step of a compaction goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    /// Keys to look at, at most.
    pub(crate) keys: usize,
    /// Of which so many have a past.
    pub(crate) pasts: usize,
}

/// Keys and when they changed.
#[derive(Clone, Debug)]
pub struct KeyIndex {
    root: Arc<Node>,
    live: usize,
}

impl Default for KeyIndex {
    fn default() -> KeyIndex {
        KeyIndex { root: Arc::new(Node::Leaf(Leaf::default())), live: 0 }
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
                Node::Branch(branch) => node = &branch.children[branch.child_of(key)].node,
            }
        }
    }

    /// Records a put; answers the key as it was and as it is now.
    pub fn put(&mut self, key: &[u8], modified: Revision) -> (Option<Found>, Found) {
        let effect = self.edit(key, Edit::Put(modified));
        let Change { modified, created, version } = effect.change;
        (effect.before, Found { modified, created, version })
    }

    /// Records a deletion of a key that exists.
    pub fn delete(&mut self, key: &[u8], modified: Revision) {
        self.insert(key, Change { modified, created: 0, version: 0 });
    }

    /// Records any change, newer than all of the key's others.
    pub(crate) fn insert(&mut self, key: &[u8], change: Change) {
        self.edit(key, Edit::Exactly(change));
    }

    fn edit(&mut self, key: &[u8], edit: Edit) -> Effect {
        let (effect, split) = edit_below(&mut self.root, key, edit);
        self.live = self.live.checked_add_signed(effect.grown).expect("it counted every live key");
        if let Some((low, right)) = split {
            let mut lows = Keys::default();
            lows.insert(0, &low);
            let left = Child::new(Arc::clone(&self.root));
            let children = vec![left, Child::new(Arc::new(right))];
            self.root = Arc::new(Node::Branch(Branch { lows, children }));
        }
        effect
    }

    /// Live keys in the range.
    pub fn count(&self, range: &KeyRange) -> usize {
        if range.is_empty() {
            return 0;
        }
        match &range.end {
            RangeEnd::Single => usize::from(self.get(&range.start).is_some()),
            RangeEnd::Before(end) => self.live_below(end) - self.live_below(&range.start),
            RangeEnd::Unbounded => self.live - self.live_below(&range.start),
        }
    }

    /// Live keys smaller than `key`.
    fn live_below(&self, key: &[u8]) -> usize {
        let mut node = &*self.root;
        let mut sum = 0;
        loop {
            match node {
                Node::Leaf(leaf) => return sum + leaf.live_below(key),
                Node::Branch(branch) => {
                    let at = branch.child_of(key);
                    sum += branch.children[..at].iter().map(|c| c.live).sum::<usize>();
                    node = &branch.children[at].node;
                }
            }
        }
    }

    /// Keys of the range that existed at main revision `at`. Costs what was created and
    /// deleted since, not what there is.
    pub(crate) fn count_at(&self, range: &KeyRange, at: i64) -> usize {
        if range.is_empty() {
            return 0;
        }
        let to = match &range.end {
            RangeEnd::Single => return usize::from(self.get_at(&range.start, at).is_some()),
            RangeEnd::Before(end) => Some(end.as_ref()),
            RangeEnd::Unbounded => None,
        };
        count_below(&self.root, Some(&range.start), to, at)
    }

    /// Live keys in all.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no key is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Compacts a stretch of keys from `from` on at revision `at`; tells `gone` each
    /// change that nobody can ask for any more. Answers where to go on, or `None` at
    /// the end.
    pub(crate) fn compact(
        &mut self,
        from: &[u8],
        stretch: Stretch,
        at: i64,
        gone: &mut impl FnMut(Revision, bool),
    ) -> Option<Vec<u8>> {
        let mut due = Vec::new();
        let mut seen = 0;
        let mut next = None;
        self.walk_items(from, &mut |key, item| {
            if seen == stretch.keys || due.len() == stretch.pasts {
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
        if let Node::Branch(branch) = &*self.root
            && branch.children.is_empty()
        {
            *self = KeyIndex::default();
        }
        next
    }
}

/// Edits below `node`. When it had to be split, answers its new right neighbour and what
/// parts the two.
fn edit_below(node: &mut Arc<Node>, key: &[u8], edit: Edit) -> (Effect, Option<(Vec<u8>, Node)>) {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let (effect, right) = leaf.edit(key, edit);
            (effect, right.map(|right| (leaf.border(&right), Node::Leaf(right))))
        }
        Node::Branch(branch) => {
            let at = branch.child_of(key);
            let child = &mut branch.children[at];
            let (effect, split) = edit_below(&mut child.node, key, edit);
            child.live = child.live.checked_add_signed(effect.grown).expect("as in the leaf");
            if effect.flips {
                child.changed = child.changed.max(effect.change.modified.main);
            }
            let split =
                split.and_then(|(low, right)| branch.split_child(at, &low, Arc::new(right)));
            (effect, split)
        }
    }
}

/// Keys below `node` between the bounds that existed at `at`; `None` where a bound lies
/// outside.
fn count_below(node: &Node, from: Option<&[u8]>, to: Option<&[u8]>, at: i64) -> usize {
    let branch = match node {
        Node::Leaf(leaf) => return leaf.count_at(from, to, at),
        Node::Branch(branch) => branch,
    };
    let first = from.map_or(0, |key| branch.child_of(key));
    let last = to.map_or(branch.children.len() - 1, |key| branch.child_of(key));
    let mut sum = 0;
    for n in first..=last {
        let child = &branch.children[n];
        let (from, to) = (from.filter(|_| n == first), to.filter(|_| n == last));
        sum += match child.changed <= at && from.is_none() && to.is_none() {
            true => child.live,
            false => count_below(&child.node, from, to, at),
        };
    }
    sum
}

/// Compacts one key below `node`, and takes away what has become empty. Dead keys go, so
/// no count changes.
fn compact_in(node: &mut Arc<Node>, key: &[u8], at: i64, gone: &mut impl FnMut(Change)) {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => leaf.compact(key, at, gone),
        Node::Branch(branch) => {
            let n = branch.child_of(key);
            compact_in(&mut branch.children[n].node, key, at, gone);
            let empty = match &*branch.children[n].node {
                Node::Leaf(leaf) => leaf.is_empty(),
                Node::Branch(below) => below.children.is_empty(),
            };
            if empty {
                branch.remove(n);
            } else {
                join_leaves(branch, n);
            }
        }
    }
}

/// Joins a leaf that has become small with its right neighbour.
fn join_leaves(branch: &mut Branch, n: usize) {
    let [left, right] = match branch.children.get(n..n + 2) {
        Some([left, right]) => [&left.node, &right.node],
        _ => return,
    };
    let (Node::Leaf(a), Node::Leaf(b)) = (&**left, &**right) else { return };
    if !a.fits_with(b) {
        return;
    }
    let mut joined = a.clone();
    joined.extend(b);
    branch.children[n] = Child::new(Arc::new(Node::Leaf(joined)));
    branch.remove(n + 1);
}

#[cfg(test)]
mod tests;
