//! Walking keys in order.

use mainstay_types::{KeyRange, RangeEnd};

use super::{KeyIndex, Node};
use crate::item::{Found, Item};

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Go,
    Stop,
}

impl KeyIndex {
    /// Shows every key of the range that exists, at main revision `at` or now, in
    /// order, until told to stop.
    pub(crate) fn walk(
        &self,
        range: &KeyRange,
        at: Option<i64>,
        show: &mut impl FnMut(&[u8], Found) -> Step,
    ) {
        let state = |item: &Item| match at {
            Some(at) => item.at(at),
            None => item.now(),
        };
        if range.is_empty() {
            return;
        }
        if range.end == RangeEnd::Single {
            if let Some(found) = self.item(&range.start).and_then(state) {
                show(&range.start, found);
            }
            return;
        }
        self.walk_items(&range.start, &mut |key, item| {
            if let RangeEnd::Before(end) = &range.end
                && key >= end.as_ref()
            {
                return Step::Stop;
            }
            state(item).map_or(Step::Go, |found| show(key, found))
        });
    }

    /// Shows every key from `from` on, dead ones included.
    pub(crate) fn walk_items(&self, from: &[u8], show: &mut impl FnMut(&[u8], &Item) -> Step) {
        walk_node(&self.root, Some(from), show);
    }
}

/// `from` is `None` when the whole node lies behind it.
fn walk_node(
    node: &Node,
    from: Option<&[u8]>,
    show: &mut impl FnMut(&[u8], &Item) -> Step,
) -> Step {
    match node {
        Node::Leaf(leaf) => {
            let first = from.map_or(0, |from| leaf.find(from).unwrap_or_else(|at| at));
            for at in first..leaf.len() {
                if show(leaf.key(at), leaf.item(at)) == Step::Stop {
                    return Step::Stop;
                }
            }
        }
        Node::Branch(branch) => {
            let first = from.map_or(0, |from| branch.child_of(from));
            for (n, child) in branch.children.iter().enumerate().skip(first) {
                let from = if n == first { from } else { None };
                if walk_node(&child.node, from, show) == Step::Stop {
                    return Step::Stop;
                }
            }
        }
    }
    Step::Go
}
