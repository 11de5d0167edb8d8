//! One transaction: changes merged into the tree from the leaves up.
//!
//! [`Tx::apply`] rewrites a subtree into the *elements* of its top node, not yet
//! cut into pages; its caller cuts them, writes them, and so makes the elements
//! of the node above. Only subtrees that changes fall into are read. A node that
//! a deletion left too small is joined with a neighbour of the same parent first.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::batch::{BucketOps, Change, Op};
use crate::error::{Error, Result, text};
use crate::free::FreeList;
use crate::meta::Meta;
use crate::output::Output;
use crate::page::{
    BUCKET_HEADER, BucketHeader, DEPTH_MAX, Elem, FLAG_BUCKET, HEADER, Kind, Page, encode,
    node_size,
};
use crate::pager::Pager;
use crate::split::{Fill, cut};

/// Leaves that were rewritten for what they lost are joined up to so many pages, and cut again.
const JOINED_PAGES_MAX: usize = 64;

/// A node in memory, not yet cut into pages.
pub(crate) struct Open {
    kind: Kind,
    elems: Vec<Elem>,
    /// It lost elements or bytes, so it may have become too small.
    shrunk: bool,
    /// What comes next may join it while both fit a page: it lost something, or is only written
    /// again.
    sociable: bool,
    fill: Fill,
}

impl Open {
    /// What follows `self` in the same parent becomes part of it.
    fn join(&mut self, right: Open) {
        let dense = self.sociable && right.sociable;
        self.elems.extend(right.elems);
        self.shrunk |= right.shrunk;
        self.sociable |= right.sociable;
        // Nothing was put between their keys.
        self.fill = if dense { Fill::Append } else { right.fill };
    }
}

/// A child of a branch that is being rewritten.
enum Part {
    /// Untouched.
    Kept(Elem),
    /// Rewritten.
    Open(Open),
}

/// What became of a bucket.
pub(crate) enum Outcome {
    /// Nothing changed.
    Same,
    /// Its element has this value now.
    Value(Bytes),
    /// It is gone.
    Gone,
}

/// What a subtree became, seen from its bucket.
enum Root {
    Page(u64),
    /// Few enough rows to lie in the bucket's own element.
    Inline(Vec<Elem>),
}

/// The state of one commit.
pub(crate) struct Tx<'a> {
    pub(crate) pager: &'a Pager,
    /// The state that is changed.
    pub(crate) base: Meta,
    pub(crate) free: &'a mut FreeList,
    pub(crate) out: Output<'a>,
    /// First page id that is still unused.
    pub(crate) high_water: u64,
    /// Whether to write to the lowest free pages.
    pub(crate) low: bool,
    /// Runs taken and runs no longer used: (first page, pages).
    pub(crate) written: Vec<(u64, u64)>,
    pub(crate) freed: Vec<(u64, u64)>,
    pub(crate) branches: Vec<Page>,
    /// The bucket at work, for errors.
    pub(crate) bucket: Bytes,
}

impl Tx<'_> {
    /// Applies the changes of one top-level bucket whose element now has the value `current`.
    pub(crate) fn bucket(
        &mut self,
        name: &Bytes,
        changes: &BucketOps,
        current: Option<Bytes>,
    ) -> Result<Outcome> {
        self.bucket = name.clone();
        let existed = current.is_some();
        let mut current = current;
        if changes.delete
            && let Some(value) = current.take()
        {
            self.drop_bucket(&value, 0)?;
        }
        let Some(value) = current else {
            if !changes.create {
                return match changes.ops.is_empty() {
                    true if existed => Ok(Outcome::Gone),
                    true => Ok(Outcome::Same),
                    false => Err(Error::NoBucket { bucket: text(name) }),
                };
            }
            let elems = changes.ops.iter().filter_map(|op| elem(op, 0)).collect();
            let fill = Fill::Append;
            let open = Open { kind: Kind::Leaf, elems, shrunk: false, sociable: false, fill };
            let root = self.root(open, true)?;
            return Ok(Outcome::Value(self.bucket_value(&root, 0)));
        };
        let header = BucketHeader::read(&value);
        let page = self.bucket_root(header, &value)?;
        let Some(open) = self.apply(&page, &changes.ops, 0, true, 0)? else {
            return Ok(Outcome::Same);
        };
        if header.root != 0 {
            self.drop_page(&page);
        }
        let root = self.root(open, true)?;
        Ok(Outcome::Value(self.bucket_value(&root, header.sequence)))
    }

    /// Applies the changed elements of the bucket of buckets; the new root page.
    pub(crate) fn top(&mut self, ops: &[Op]) -> Result<u64> {
        self.bucket = Bytes::new();
        let page = self.pager.page(self.base.root, self.base.high_water)?;
        let Some(open) = self.apply(&page, ops, FLAG_BUCKET, false, 0)? else {
            return Ok(self.base.root);
        };
        self.drop_page(&page);
        match self.root(open, false)? {
            Root::Page(id) => Ok(id),
            Root::Inline(_) => unreachable!("asked for a page"),
        }
    }

    fn bucket_root(&self, header: BucketHeader, value: &Bytes) -> Result<Page> {
        match header.root {
            0 => Page::parse_inline(value).map_err(|what| self.pager.damaged(self.base.root, what)),
            id => self.pager.page(id, self.base.high_water),
        }
    }

    fn bucket_value(&self, root: &Root, sequence: u64) -> Bytes {
        let mut out = Vec::new();
        match root {
            Root::Page(id) => BucketHeader { root: *id, sequence }.write(&mut out),
            Root::Inline(elems) => {
                BucketHeader { root: 0, sequence }.write(&mut out);
                encode(Kind::Leaf, 0, 0, elems, &mut out);
                assert!(
                    out.len() == BUCKET_HEADER + node_size(elems),
                    "the size is the encoding's"
                );
            }
        }
        Bytes::from(out)
    }

    /// The elements of `page` after `ops`, or `None` when they change nothing. `flags` is what
    /// the elements must have: rows and buckets never replace each other. `last` says that no
    /// key of the bucket lies right of the page.
    fn apply(
        &mut self,
        page: &Page,
        ops: &[Op],
        flags: u32,
        last: bool,
        depth: usize,
    ) -> Result<Option<Open>> {
        if depth >= DEPTH_MAX {
            let expected = format!("a tree at most {DEPTH_MAX} pages deep");
            return Err(self.pager.damaged(page.id, expected));
        }
        match page.kind {
            Kind::Leaf => self.apply_leaf(page, ops, flags, last),
            Kind::Branch => self.apply_branch(page, ops, flags, last, depth),
        }
    }

    fn apply_leaf(&self, page: &Page, ops: &[Op], flags: u32, last: bool) -> Result<Option<Open>> {
        let view = page.view();
        let (mut changed, mut shrunk, mut i) = (false, false, 0);
        let mut elems = Vec::with_capacity(view.count + ops.len());
        let mut real = ops.iter().filter(|op| !matches!(op.change, Change::Touch)).peekable();
        let above =
            view.count == 0 || real.peek().is_none_or(|op| *op.key > *view.key(view.count - 1));
        // What only moves keeps its shape: nothing was put between its keys.
        let moves = real.peek().is_none();
        let fill = if moves || (last && above) { Fill::Append } else { Fill::Even };
        changed |= ops.iter().any(|op| matches!(op.change, Change::Touch));
        for op in real {
            while i < view.count && view.key(i) < &op.key[..] {
                elems.push(page.elem(i));
                i += 1;
            }
            if i < view.count && view.key(i) == &op.key[..] {
                if view.flags(i) != flags {
                    return Err(Error::Incompatible { bucket: text(&self.bucket) });
                }
                shrunk |= match &op.change {
                    Change::Put(value) => value.len() < view.value(i).len(),
                    Change::Delete | Change::Touch => true,
                };
                changed = true;
                i += 1;
            }
            if let Some(elem) = elem(op, flags) {
                elems.push(elem);
                changed = true;
            }
        }
        elems.extend((i..view.count).map(|i| page.elem(i)));
        let sociable = shrunk || moves;
        Ok(changed.then_some(Open { kind: Kind::Leaf, elems, shrunk, sociable, fill }))
    }

    fn apply_branch(
        &mut self,
        page: &Page,
        ops: &[Op],
        flags: u32,
        last: bool,
        depth: usize,
    ) -> Result<Option<Open>> {
        let view = page.view();
        let mut rest = ops;
        let mut changed = false;
        let mut parts = VecDeque::with_capacity(view.count);
        for i in 0..view.count {
            let right = i + 1 == view.count;
            let n = match right || rest.is_empty() {
                true => rest.len(),
                false => rest.partition_point(|op| *op.key < *view.key(i + 1)),
            };
            let (ours, later) = rest.split_at(n);
            rest = later;
            if !ours.is_empty() {
                let child = self.pager.child(page, i, self.base.high_water)?;
                if let Some(open) = self.apply(&child, ours, flags, last && right, depth + 1)? {
                    self.drop_page(&child);
                    parts.push_back(Part::Open(open));
                    changed = true;
                    continue;
                }
            }
            parts.push_back(Part::Kept(page.elem(i)));
        }
        if !changed {
            return Ok(None);
        }
        let mut fill = Fill::Even;
        let mut elems = Vec::new();
        for part in self.balance(parts)? {
            match part {
                Part::Kept(elem) => elems.push(elem),
                Part::Open(open) => {
                    fill = open.fill;
                    self.write(&open, &mut elems)?;
                }
            }
        }
        let shrunk = elems.len() < view.count;
        Ok(Some(Open { kind: Kind::Branch, elems, shrunk, sociable: shrunk, fill }))
    }

    /// Drops empty nodes and joins those that became too small with a neighbour: the rewritten
    /// one to the right, else the left one, else the right one. Rewritten neighbours that fit one
    /// page are joined in any case, and leaves that both lost something also when it takes more:
    /// that costs nothing, as all are written anyway, and what a compaction leaves behind is dense
    /// and less to write.
    fn balance(&mut self, mut parts: VecDeque<Part>) -> Result<Vec<Part>> {
        let mut done: Vec<Part> = Vec::with_capacity(parts.len());
        while let Some(part) = parts.pop_front() {
            let Part::Open(mut open) = part else {
                done.push(part);
                continue;
            };
            if open.elems.is_empty() {
                continue;
            }
            let beside = parts.front();
            if beside.is_some_and(|right| self.fit_together(&open, right)) {
                let right = parts.pop_front().expect("looked at above");
                open.join(self.open(right, open.kind)?);
                parts.push_front(Part::Open(open));
            } else if !self.too_small(&open) {
                done.push(Part::Open(open));
            } else if let Some(Part::Open(_)) = parts.front() {
                let right = parts.pop_front().expect("looked at above");
                open.join(self.open(right, open.kind)?);
                parts.push_front(Part::Open(open));
            } else if let Some(left) = done.pop() {
                let mut left = self.open(left, open.kind)?;
                left.join(open);
                parts.push_front(Part::Open(left));
            } else if let Some(right) = parts.pop_front() {
                open.join(self.open(right, open.kind)?);
                parts.push_front(Part::Open(open));
            } else {
                done.push(Part::Open(open));
            }
        }
        Ok(done)
    }

    /// Whether a rewritten node and its rewritten neighbour should be one.
    fn fit_together(&self, open: &Open, right: &Part) -> bool {
        let Part::Open(right) = right else { return false };
        let size = node_size(&open.elems) + node_size(&right.elems) - HEADER;
        let dense = open.kind == Kind::Leaf && open.sociable && right.sociable;
        let most = if dense { JOINED_PAGES_MAX } else { 1 } * self.pager.page_size;
        (open.sociable || right.sociable) && size <= most
    }

    /// bbolt's rule: below a quarter of a page after a deletion, or a branch of one.
    fn too_small(&self, open: &Open) -> bool {
        open.elems.len() < open.kind.elements_min()
            || (open.shrunk && node_size(&open.elems) < self.pager.page_size / 4)
    }

    /// The node of a part, read and given up when it was untouched.
    fn open(&mut self, part: Part, kind: Kind) -> Result<Open> {
        let elem = match part {
            Part::Open(open) => return Ok(open),
            Part::Kept(elem) => elem,
        };
        let page = self.pager.page(elem.child, self.base.high_water)?;
        if page.kind != kind {
            let expected = "a page as deep as its neighbour, so of the same kind";
            return Err(self.pager.damaged(page.id, expected));
        }
        if page.count == 0 || page.view().key(0) < &elem.key[..] {
            return Err(self.pager.damaged(page.id, "keys from the parent's key on"));
        }
        self.drop_page(&page);
        let elems = page.elems();
        Ok(Open { kind, elems, shrunk: false, sociable: false, fill: Fill::Even })
    }

    /// Cuts a node into pages and adds their elements for the branch above.
    fn write(&mut self, open: &Open, entries: &mut Vec<Elem>) -> Result<()> {
        let mut start = 0;
        for end in cut(open.kind, &open.elems, self.pager.page_size, open.fill) {
            let elems = &open.elems[start..end];
            let id = self.write_node(open.kind, elems)?;
            entries.push(Elem::child(elems[0].key.clone(), id));
            start = end;
        }
        Ok(())
    }

    fn write_node(&mut self, kind: Kind, elems: &[Elem]) -> Result<u64> {
        let pages = node_size(elems).div_ceil(self.pager.page_size) as u64;
        let id = self.free.take(pages, self.low).unwrap_or_else(|| {
            self.high_water += pages;
            self.high_water - pages
        });
        if elems.iter().any(|elem| kind == Kind::Branch && elem.child == id) {
            // The id was free, so a page that has changed since the open names a free one.
            return Err(self.pager.damaged(id, "no reference to the page, there is one"));
        }
        self.written.push((id, pages));
        let branch = self.out.node(kind, id, pages, elems)?;
        self.branches.extend(branch);
        Ok(id)
    }

    /// Makes a root of a node: as many levels above it as it takes, none that has one child.
    fn root(&mut self, mut open: Open, inline: bool) -> Result<Root> {
        loop {
            match (open.kind, open.elems.len()) {
                (Kind::Branch, 0) => open.kind = Kind::Leaf,
                (Kind::Branch, 1) => return Ok(Root::Page(open.elems[0].child)),
                _ => {}
            }
            if inline && self.fits_inline(&open) {
                return Ok(Root::Inline(open.elems));
            }
            if open.elems.is_empty() {
                return Ok(Root::Page(self.write_node(Kind::Leaf, &[])?));
            }
            let mut elems = Vec::new();
            self.write(&open, &mut elems)?;
            open = Open { kind: Kind::Branch, elems, ..open };
        }
    }

    /// bbolt's rule: one leaf without nested buckets, at most a quarter of a page.
    fn fits_inline(&self, open: &Open) -> bool {
        open.kind == Kind::Leaf
            && node_size(&open.elems) <= self.pager.page_size / 4
            && open.elems.iter().all(|elem| elem.flags != FLAG_BUCKET)
    }

    fn drop_page(&mut self, page: &Page) {
        self.freed.push((page.id, page.pages(self.pager.page_size)));
    }

    /// Gives up every page of a bucket and of the buckets nested in it.
    fn drop_bucket(&mut self, value: &[u8], depth: usize) -> Result<()> {
        match BucketHeader::read(value).root {
            0 => Ok(()),
            id => {
                let page = self.pager.page(id, self.base.high_water)?;
                self.drop_tree(&page, depth)
            }
        }
    }

    fn drop_tree(&mut self, page: &Page, depth: usize) -> Result<()> {
        if depth >= DEPTH_MAX {
            let expected = format!("a tree at most {DEPTH_MAX} pages deep");
            return Err(self.pager.damaged(page.id, expected));
        }
        let view = page.view();
        for i in 0..view.count {
            if view.kind == Kind::Branch {
                let child = self.pager.child(page, i, self.base.high_water)?;
                self.drop_tree(&child, depth + 1)?;
            } else if view.flags(i) == FLAG_BUCKET {
                self.drop_bucket(view.value(i), depth + 1)?;
            }
        }
        self.drop_page(page);
        Ok(())
    }
}

/// The element that a put makes.
fn elem(op: &Op, flags: u32) -> Option<Elem> {
    let Change::Put(value) = &op.change else { return None };
    Some(Elem { key: op.key.clone(), value: value.clone(), flags, child: 0 })
}
