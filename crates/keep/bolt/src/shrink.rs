//! Giving space back while the file is in use.
//!
//! A *pass* goes through the tree once, in key order and a slice at a time, and
//! has the leaves that lie at or behind a *goal* written again with the commit
//! that is due: as everything is written to the lowest free pages meanwhile,
//! they end before it. A commit whose last pages are free says a lower high
//! water mark. The file is cut only once both metas on the disk, and every
//! live snapshot, end before the cut.
//!
//! So nothing here can lose a row: a move is the same copy-on-write as any
//! change, what a live snapshot reaches is not free, and what is cut off is
//! named by no meta that a crash could fall back to.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::batch::BucketOps;
use crate::error::{Error, Result};
use crate::free::FreeList;
use crate::page::{Kind, Page};
use crate::{Bolt, Reader};

/// Branches looked at in one slice, so that a slice that finds nothing ends, too.
const BRANCHES_MAX: usize = 2048;
/// Leaves looked into in one slice when they are packed.
const LEAVES_MAX: usize = 2048;
/// A leaf that is less full than this much of its page is packed together with its neighbours.
const SPARSE: (usize, usize) = (1, 2);

/// Longest stretch that is cut from the file at once: a file system takes its time to free blocks,
/// and writes of the log wait for it meanwhile (64 MiB took up to 30 ms on a busy ext4).
const CUT_BYTES: u64 = 16 << 20;
/// Free pages at the end are given up without anybody asking when they are this many bytes, and
/// this part of the file: less would soon be asked for again.
const TAIL_BYTES: u64 = 16 << 20;
const TAIL_PART: u64 = 10;
/// A file that is longer by this much than its meta says was not grown so by its writer, which
/// takes room in smaller steps: a crash came between meta and cut.
pub(crate) const LEFT_BEHIND_BYTES: u64 = 32 << 20;

/// What a pass is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Length in bytes that the file should come down to.
    pub bytes: u64,
    /// Whether leaves that are less than half full are joined on the way, wherever they lie. Every
    /// leaf is read for that.
    pub pack: bool,
}

/// How far a shrinking is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrinking {
    /// None is under way.
    No,
    /// Pages are being moved.
    Moving,
    /// What could be moved has been; a commit brings the end of the file down.
    Settling,
    /// A snapshot that is still read holds the end of the file, or the room to move to.
    Waiting,
}

/// The leaves that the next commit writes again, as keys that lie in them.
#[derive(Default)]
pub(crate) struct Moves {
    /// By top-level bucket.
    pub(crate) buckets: BTreeMap<Bytes, Vec<Bytes>>,
    /// Of the bucket of buckets.
    pub(crate) top: Vec<Bytes>,
}

/// A pass under way.
pub(crate) struct Pass {
    /// Nodes at or behind this page are moved.
    pub(crate) goal: u64,
    pack: bool,
    /// Where the next slice begins: bucket, and key in it.
    at: (Bytes, Bytes),
    /// The whole tree has been gone through.
    pub(crate) done: bool,
    /// A page that could not be read; the pass ends there.
    pub(crate) failed: Option<Error>,
}

impl Pass {
    pub(crate) fn new(goal: u64, pack: bool) -> Self {
        Self { goal, pack, at: Default::default(), done: false, failed: None }
    }

    /// Chooses the leaves of the next slice: about `pages` pages of them. A page that cannot be
    /// read ends the pass and is kept for whoever asks: it is for reads to complain about it.
    pub(crate) fn plan(&mut self, reader: &Reader, free: &FreeList, pages: u64) -> Moves {
        let mut moves = Moves::default();
        if self.done || !free.has_below(1, self.goal) {
            // Nowhere to move to, unless a snapshot that is still read holds the room.
            self.done = self.done || !free.is_waiting();
            return moves;
        }
        let planned = self.go_on(reader, free, pages, &mut moves);
        self.done = planned.unwrap_or_else(|error| {
            self.failed = Some(error);
            true
        });
        moves
    }

    /// Whether the tree's end was reached.
    fn go_on(
        &mut self,
        reader: &Reader,
        free: &FreeList,
        pages: u64,
        moves: &mut Moves,
    ) -> Result<bool> {
        let mut slice = Slice {
            reader,
            free,
            goal: self.goal,
            pack: self.pack,
            pages,
            branches: BRANCHES_MAX,
            leaves: LEAVES_MAX,
            from: Bytes::new(),
            before: None,
            touches: Vec::new(),
        };
        let top = reader.top()?;
        for name in top.buckets()? {
            if name < self.at.0 {
                continue;
            }
            let Some(bucket) = top.bucket(&name)? else { continue };
            let from = std::mem::take(&mut self.at.1);
            slice.from = if name == self.at.0 { from } else { Bytes::new() };
            let ended = slice.tree(bucket.root())?;
            if !slice.touches.is_empty() {
                moves.buckets.insert(name.clone(), std::mem::take(&mut slice.touches));
            }
            if let Some(key) = ended {
                self.at = (name, key);
                return Ok(false);
            }
            slice.before = None;
        }
        (slice.pack, slice.from) = (false, Bytes::new());
        (slice.pages, slice.branches, slice.leaves) = (u64::MAX, usize::MAX, usize::MAX);
        slice.tree(top.root())?;
        moves.top = slice.touches;
        Ok(true)
    }
}

/// One slice of a pass, looking for leaves.
struct Slice<'a> {
    reader: &'a Reader,
    free: &'a FreeList,
    goal: u64,
    pack: bool,
    /// What may still be chosen and looked at.
    pages: u64,
    branches: usize,
    leaves: usize,
    /// Where in the bucket to begin.
    from: Bytes,
    /// The leaf before, when it may be packed: its key, its bytes, and whether it was chosen.
    before: Option<(Bytes, usize, bool)>,
    touches: Vec<Bytes>,
}

impl Slice<'_> {
    /// Goes through one bucket; where to go on when the slice was too small for it.
    fn tree(&mut self, root: &Page) -> Result<Option<Bytes>> {
        if root.kind == Kind::Leaf {
            // An inline bucket's page has number 0.
            if root.id >= self.goal {
                let key = if root.count > 0 { root.key(0) } else { Bytes::from_static(b"\0") };
                self.touches.push(key);
            }
            return Ok(None);
        }
        let high_water = self.reader.meta().high_water;
        let mut levels = 0;
        let mut page = root.clone();
        while page.kind == Kind::Branch {
            levels += 1;
            page = self.reader.pager().child(&page, 0, high_water)?;
        }
        self.branch(root, levels)
    }

    /// Goes through a branch with so many levels of branches, itself included. All leaves of a
    /// tree are equally deep; were they not, a touch would still be harmless.
    fn branch(&mut self, page: &Page, levels: usize) -> Result<Option<Bytes>> {
        let view = page.view();
        let chosen = self.touches.len();
        self.branches = self.branches.saturating_sub(1);
        let start = view.child_for(&self.from);
        for i in start..view.count {
            if self.pages == 0 || self.branches == 0 || self.leaves == 0 {
                return Ok(Some(page.key(i)));
            }
            if levels == 1 {
                self.leaf(page, i)?;
                continue;
            }
            let child = self.reader.pager().child(page, i, self.reader.meta().high_water)?;
            if child.kind == Kind::Branch
                && let Some(key) = self.branch(&child, levels - 1)?
            {
                return Ok(Some(key));
            }
        }
        // A branch moves with any leaf below it.
        if page.id >= self.goal && self.touches.len() == chosen {
            self.touches.push(page.key(view.count - 1));
        }
        Ok(None)
    }

    fn leaf(&mut self, parent: &Page, i: usize) -> Result<()> {
        let id = parent.view().child(i);
        let far = id >= self.goal;
        if !far && !self.pack {
            return Ok(());
        }
        self.leaves -= 1;
        let pager = self.reader.pager();
        // Read, and so checked, before a commit depends on it.
        let leaf = pager.child(parent, i, self.reader.meta().high_water)?;
        let pages = leaf.pages(pager.page_size);
        let moves = far && (pages == 1 || self.free.has_below(pages, id));
        if !self.pack {
            if moves {
                self.choose(parent.key(i), pages);
            }
            return Ok(());
        }
        let bytes = leaf.bytes_used();
        // Only leaves of one branch are joined.
        let before = self.before.take().filter(|_| i > 0);
        let sparse = |bytes: usize| bytes * SPARSE.1 < pager.page_size * SPARSE.0;
        let mut chosen = moves;
        let mut filled = bytes;
        if let Some((key, taken, was_chosen)) = before
            && taken + bytes <= pager.page_size
            && (sparse(taken) || sparse(bytes) || (was_chosen && moves))
        {
            if !was_chosen {
                self.choose(key, 1);
            }
            (chosen, filled) = (true, taken + bytes);
        }
        if chosen {
            self.choose(parent.key(i), pages);
        }
        self.before = Some((parent.key(i), filled, chosen));
        Ok(())
    }

    fn choose(&mut self, key: Bytes, pages: u64) {
        self.touches.push(key);
        self.pages = self.pages.saturating_sub(pages);
    }
}

impl Bolt {
    /// Begins to shrink the file; whatever pass was under way is replaced. Every
    /// [`Bolt::commit_moving`] goes on with it.
    pub fn shrink(&mut self, goal: Goal) {
        let pages = goal.bytes.div_ceil(self.pager.page_size as u64);
        self.pass = Some(Pass::new(pages, goal.pack));
    }

    /// Ends the shrinking where it is.
    pub fn stop_shrinking(&mut self) {
        self.pass = None;
    }

    /// How far the shrinking is, or the cutting of what a commit found free at the end; cuts what
    /// can be cut by now.
    pub fn shrinking(&mut self) -> Result<Shrinking> {
        if self.stopped || (self.pass.is_none() && !self.lowered) {
            return Ok(Shrinking::No);
        }
        let (live, pager) = (self.pager.readers.lock().clone(), self.pager.clone());
        self.free.release(&live, |first, pages| pager.evict(first, pages));
        self.cut()?;
        if let Some(Pass { done: false, goal, .. }) = self.pass {
            let stuck = !self.free.has_below(1, goal) && self.free.is_waiting();
            return Ok(if stuck { Shrinking::Waiting } else { Shrinking::Moving });
        }
        let high_water = self.current.meta().high_water;
        if self.lowers() || (self.lowered && self.file_end() < self.file_len) {
            return Ok(Shrinking::Settling);
        }
        let goal = self.pass.as_ref().map_or(high_water, |pass| pass.goal);
        if self.lowered || self.free.tail_to_come(high_water).max(goal) < high_water {
            return Ok(Shrinking::Waiting);
        }
        self.pass = None;
        Ok(Shrinking::No)
    }

    /// Why the last pass ended early, once: a page that it could not read.
    pub fn shrinking_failed(&mut self) -> Option<Error> {
        self.pass.as_mut().and_then(|pass| pass.failed.take())
    }

    /// Adds the next slice's moves to the changes of a commit; those of the bucket of buckets are
    /// the answer.
    pub(crate) fn plan_moves(
        &mut self,
        changes: &mut BTreeMap<Bytes, BucketOps>,
        bytes: u64,
    ) -> Vec<Bytes> {
        let Some(pass) = self.pass.as_mut().filter(|_| bytes > 0) else { return Vec::new() };
        let pages = (bytes / self.pager.page_size as u64).max(1);
        let moves = pass.plan(&self.current, &self.free, pages);
        for (name, keys) in moves.buckets {
            changes.entry(name).or_default().touch(keys);
        }
        moves.top
    }

    /// Whether a commit that changes nothing brings the end of the file down.
    pub(crate) fn lowers(&self) -> bool {
        let high_water = self.current.meta().high_water;
        self.lowered_end(high_water) < high_water
            || (self.lowered && self.high_water_before.is_none_or(|before| before > high_water))
    }

    /// The high water mark of a commit that has taken pages up to `high_water`: lower when the
    /// last ones are free, for the current state and for every snapshot that is read.
    pub(crate) fn lowered_end(&self, high_water: u64) -> u64 {
        let tail = self.free.tail(high_water);
        let size = self.pager.page_size as u64;
        match &self.pass {
            Some(pass) => tail.max(pass.goal.min(high_water)),
            None if (high_water - tail) * size < TAIL_BYTES => high_water,
            None if (high_water - tail) * TAIL_PART < high_water => high_water,
            None => tail,
        }
    }

    /// Where the file may end in bytes: behind what either meta says, as a crash may fall back to
    /// the older one, and behind what any live snapshot may read or copy.
    fn file_end(&self) -> u64 {
        let Some(before) = self.high_water_before else { return self.file_len };
        let readers = self.pager.readers.lock();
        let read = readers.values().map(|pins| pins.high_water).max().unwrap_or(0);
        self.pager.offset(read.max(before).max(self.current.meta().high_water))
    }

    /// Cuts the file where nothing reaches any more. Both metas are durable here.
    pub(crate) fn cut(&mut self) -> Result<()> {
        if !self.lowered {
            return Ok(());
        }
        let end = self.file_end().max(self.file_len.saturating_sub(CUT_BYTES));
        if end < self.file_len {
            self.pager.file.set_len(end).map_err(|source| {
                self.stopped = true;
                self.pager.disk(format!("cut to {end} bytes"), source)
            })?;
            self.file_len = end;
        }
        self.lowered = self.file_len > self.current.size();
        Ok(())
    }
}
