//! Sets of key ranges, and whether they cover a range that is asked for.
//!
//! For a range that holds keys the answer is plain: it is covered when the union of
//! the set covers it. Of a range whose end does not lie behind its begin, or whose
//! begin is empty, etcd has no such notion; it answers what its red-black interval
//! tree happens to say, which depends on the tree's shape. A transaction with such a
//! range is still decided by that answer on every member, so this is the same tree:
//! same insertions, same rotations, same walks (etcd 3.7.1, `pkg/adt`).

use std::cmp::Ordering;

use bytes::Bytes;

/// Index of the leaf that stands for "nothing there".
const NIL: usize = 0;

/// A range of keys from `begin` on and before `end`. An empty key stands for the end
/// of all keys, on either side.
#[derive(Clone, Debug, Default)]
struct Span {
    begin: Bytes,
    end: Bytes,
}

/// Compares keys of which the empty one is the largest.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.cmp(b),
    }
}

impl Span {
    /// A range as requests and permissions name it: without an end it is the one key,
    /// up to `\0` it has no end.
    fn from_wire(key: &Bytes, range_end: &Bytes) -> Span {
        match range_end.as_ref() {
            [] => Span { begin: key.clone(), end: successor(key) },
            [0] => Span { begin: key.clone(), end: Bytes::new() },
            _ => Span { begin: key.clone(), end: range_end.clone() },
        }
    }

    /// On which side of `other` this lies; `Equal` when they overlap.
    fn side_of(&self, other: &Span) -> Ordering {
        side((&self.begin, &self.end), (&other.begin, &other.end))
    }

    /// The order of the tree: by begin, then by end.
    fn before(&self, other: &Span) -> bool {
        compare(&self.begin, &other.begin).then_with(|| compare(&self.end, &other.end)).is_lt()
    }
}

/// On which side of range `b` range `a` lies; `Equal` when they overlap.
fn side(a: (&[u8], &[u8]), b: (&[u8], &[u8])) -> Ordering {
    if compare(a.0, b.0).is_lt() && compare(a.1, b.0).is_le() {
        return Ordering::Less;
    }
    if compare(a.0, b.1).is_ge() { Ordering::Greater } else { Ordering::Equal }
}

/// The key behind `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[derive(Clone, Debug, Default)]
struct Node {
    span: Span,
    /// The largest end below and here.
    max: Bytes,
    left: usize,
    right: usize,
    parent: usize,
    red: bool,
}

/// A set of key ranges.
#[derive(Clone, Debug)]
pub struct Intervals {
    /// The first stands for "nothing there".
    nodes: Vec<Node>,
    root: usize,
}

impl Default for Intervals {
    fn default() -> Intervals {
        Intervals { nodes: vec![Node::default()], root: NIL }
    }
}

impl Intervals {
    /// Adds a range: the one key without `range_end`, everything from `key` on with
    /// `\0`.
    pub fn insert(&mut self, key: &Bytes, range_end: &Bytes) {
        let span = Span::from_wire(key, range_end);
        let (mut parent, mut at, mut left) = (NIL, self.root, false);
        while at != NIL {
            parent = at;
            left = span.before(&self.nodes[at].span);
            at = if left { self.nodes[at].left } else { self.nodes[at].right };
        }
        let new = self.nodes.len();
        let max = span.end.clone();
        self.nodes.push(Node { span, max, parent, red: true, ..Node::default() });
        if parent == NIL {
            self.root = new;
        } else {
            if left {
                self.nodes[parent].left = new;
            } else {
                self.nodes[parent].right = new;
            }
            self.update_max(parent);
        }
        self.balance(new);
    }

    /// Whether the set covers a range: the one key without `range_end`, everything
    /// from `key` on with `\0`.
    pub fn covers(&self, key: &Bytes, range_end: &Bytes) -> bool {
        let span = Span::from_wire(key, range_end);
        if range_end.is_empty() { self.meets(&span) } else { self.contains(&span) }
    }

    /// Whether any range overlaps `span`.
    fn meets(&self, span: &Span) -> bool {
        let mut at = self.root;
        while at != NIL && span.side_of(&self.nodes[at].span).is_ne() {
            let left = self.nodes[at].left;
            let goes_left = left != NIL && compare(&self.nodes[left].max, &span.begin).is_gt();
            at = if goes_left { left } else { self.nodes[at].right };
        }
        at != NIL
    }

    /// Whether the ranges that overlap `span`, in order of their begins, leave no gap
    /// between them and reach from its begin to its end.
    fn contains(&self, span: &Span) -> bool {
        let mut cover: Option<(&[u8], &[u8])> = None;
        let unbroken = self.walk(self.root, span, &mut |found| match &mut cover {
            None => {
                cover = Some((&found.begin[..], &found.end[..]));
                true
            }
            Some((_, end)) if compare(end, &found.begin).is_lt() => false,
            Some((_, end)) => {
                if compare(&found.end, end).is_gt() {
                    *end = &found.end[..];
                }
                true
            }
        });
        let reaches = cover.is_some_and(|(begin, end)| {
            compare(end, &span.end).is_ge() && compare(begin, &span.begin).is_le()
        });
        unbroken && reaches
    }

    /// Shows `visit` the ranges that overlap `span`, in order, until it says no. A
    /// branch is left out when the span of all in it seems not to overlap.
    fn walk<'a>(&'a self, at: usize, span: &Span, visit: &mut dyn FnMut(&'a Span) -> bool) -> bool {
        if at == NIL {
            return true;
        }
        let node = &self.nodes[at];
        match span.side_of(&node.span) {
            Ordering::Less => self.walk(node.left, span, visit),
            Ordering::Greater => {
                side((&node.span.begin, &node.max), (&span.begin, &span.end)).is_ne()
                    || (self.walk(node.left, span, visit) && self.walk(node.right, span, visit))
            }
            Ordering::Equal => {
                self.walk(node.left, span, visit)
                    && visit(&node.span)
                    && self.walk(node.right, span, visit)
            }
        }
    }

    /// Corrects `max` from a node upwards, as far as it changes.
    fn update_max(&mut self, mut at: usize) {
        while at != NIL {
            let node = &self.nodes[at];
            let mut max = &node.span.end;
            for child in [node.left, node.right] {
                if child != NIL && compare(&self.nodes[child].max, max).is_gt() {
                    max = &self.nodes[child].max;
                }
            }
            if compare(&node.max, max).is_eq() {
                break;
            }
            let (max, parent) = (max.clone(), node.parent);
            self.nodes[at].max = max;
            at = parent;
        }
    }

    /// Restores the colours after an insertion.
    fn balance(&mut self, mut at: usize) {
        while self.nodes[self.nodes[at].parent].red {
            let parent = self.nodes[at].parent;
            let above = self.nodes[parent].parent;
            let parent_is_left = parent == self.nodes[above].left;
            let uncle =
                if parent_is_left { self.nodes[above].right } else { self.nodes[above].left };
            if self.nodes[uncle].red {
                self.nodes[uncle].red = false;
                self.nodes[parent].red = false;
                self.nodes[above].red = true;
                at = above;
                continue;
            }
            let inner =
                if parent_is_left { self.nodes[parent].right } else { self.nodes[parent].left };
            if at == inner {
                at = parent;
                self.rotate(at, parent_is_left);
            }
            let parent = self.nodes[at].parent;
            let above = self.nodes[parent].parent;
            self.nodes[parent].red = false;
            self.nodes[above].red = true;
            self.rotate(above, !parent_is_left);
        }
        self.nodes[self.root].red = false;
    }

    /// Moves a node below its right child (`to_left`) or its left one.
    fn rotate(&mut self, at: usize, to_left: bool) {
        let up = if to_left { self.nodes[at].right } else { self.nodes[at].left };
        if up == NIL {
            return;
        }
        let moved = if to_left { self.nodes[up].left } else { self.nodes[up].right };
        if to_left {
            self.nodes[at].right = moved;
        } else {
            self.nodes[at].left = moved;
        }
        if moved != NIL {
            self.nodes[moved].parent = at;
        }
        self.update_max(at);
        self.put_above(at, up);
        if to_left {
            self.nodes[up].left = at;
        } else {
            self.nodes[up].right = at;
        }
        self.update_max(up);
    }

    /// Puts `up` where `at` hangs, and `at` below it.
    fn put_above(&mut self, at: usize, up: usize) {
        let parent = self.nodes[at].parent;
        self.nodes[up].parent = parent;
        if parent == NIL {
            self.root = up;
        } else {
            if self.nodes[parent].left == at {
                self.nodes[parent].left = up;
            } else {
                self.nodes[parent].right = up;
            }
            self.update_max(parent);
        }
        self.nodes[at].parent = up;
    }
}

#[cfg(test)]
pub(crate) mod tests;
