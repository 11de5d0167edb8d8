//! The walk over every page that a state reaches: at open, to find the free
//! pages and to show the rows of one bucket on the way; in a check, to find what
//! is wrong.

use crate::check::Problem;
use crate::error::{Error, Result};
use crate::meta::{Meta, NO_FREELIST};
use crate::page::{
    BUCKET_HEADER, BucketHeader, DEPTH_MAX, FLAG_BUCKET, FREELIST, HEADER, Header, Kind, Page, View,
};
use crate::pager::Pager;
use crate::sums::{Sums, UNKNOWN, sum};

/// Bytes read at once where leaves lie side by side.
const WINDOW_BYTES: usize = 256 << 10;
/// Pages between the starts of two leaves that still count as side by side (overflow pages or
/// small gaps: reading them costs less than a call).
const GAP_PAGES: u64 = 16;

/// Called with the key and value of each row.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]);

/// Where a nested bucket's rows are.
enum Nested {
    Page(u64),
    Inline(Vec<u8>),
}

/// What is gathered from the leaves of one bucket.
struct Sink<'v> {
    nested: Vec<(Vec<u8>, Nested)>,
    visit: Option<Visit<'v>>,
}

impl Sink<'_> {
    fn leaf(&mut self, view: &View<'_>) -> std::result::Result<(), String> {
        for i in 0..view.count {
            let (key, value) = (view.key(i), view.value(i));
            if view.flags(i) != FLAG_BUCKET {
                if let Some(visit) = &mut self.visit {
                    visit(key, value);
                }
                continue;
            }
            let nested = match BucketHeader::read(value).root {
                0 => {
                    let page = &value[BUCKET_HEADER..];
                    if View::check(page, 0)?.kind != Kind::Leaf {
                        return Err("an inline bucket that is not a leaf".to_owned());
                    }
                    Nested::Inline(page.to_vec())
                }
                id => Nested::Page(id),
            };
            self.nested.push((key.to_vec(), nested));
        }
        Ok(())
    }
}

/// A buffer that starts at a cache line. The allocator puts a large one 16 bytes behind a page
/// boundary, where the copy out of the page cache takes twice as long: each load seems to depend
/// on the store just made, as both have the same low address bits.
#[derive(Default)]
struct Window {
    buf: Vec<u8>,
    start: usize,
}

impl Window {
    /// Bytes of a cache line.
    const LINE: usize = 64;

    /// Makes it `len` bytes long; what they are is not said.
    fn resize(&mut self, len: usize) {
        self.buf.resize(len + Self::LINE, 0);
        // The offset may be unknown ("usize::MAX"): then the buffer starts where it starts.
        let offset = self.buf.as_ptr().align_offset(Self::LINE);
        self.start = if offset < Self::LINE { offset } else { 0 };
        self.buf.truncate(self.start + len);
    }

    fn bytes(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..]
    }
}

/// A walk in progress.
pub(crate) struct Walk<'a> {
    pager: &'a Pager,
    meta: Meta,
    /// One bit for each page below the high water mark.
    seen: Vec<u64>,
    /// Number of bits set.
    pub(crate) pages: u64,
    /// Where faults go; `None` stops at the first.
    problems: Option<Vec<Problem>>,
    /// Pages read ahead, and the id of the first.
    window: Window,
    window_first: u64,
    /// Pages without a sum get one.
    take: Option<Taking>,
}

/// Taking pages as they are.
pub(crate) struct Taking {
    /// Sums that are not believed.
    doubted: Option<Sums>,
    /// Pages that differ from them.
    pub(crate) differ: u64,
}

impl<'a> Walk<'a> {
    /// A walk that stops at the first fault, or one that gathers them.
    pub(crate) fn new(pager: &'a Pager, meta: Meta, gather: bool) -> Self {
        let words = meta.high_water.div_ceil(64);
        Self {
            pager,
            meta,
            seen: vec![0; usize::try_from(words).expect("ids are bounded by the file's length")],
            pages: 0,
            problems: gather.then(Vec::new),
            window: Window::default(),
            window_first: 0,
            take: None,
        }
    }

    /// Has every page that is reached and has no sum enter the one it has; those that differ from
    /// what `doubted` says are counted.
    pub(crate) fn taking(self, doubted: Option<Sums>) -> Self {
        Self { take: Some(Taking { doubted, differ: 0 }), ..self }
    }

    /// How many pages differ.
    pub(crate) fn differ(&self) -> u64 {
        self.take.as_ref().map_or(0, |take| take.differ)
    }

    /// Pages that were compared with their sums, if they have any.
    fn take(&mut self, first: u64, bytes: &[u8]) {
        let Some(take) = &mut self.take else { return };
        for (id, page) in (first..).zip(bytes.chunks_exact(self.pager.page_size)) {
            if self.pager.sums.get(id) != UNKNOWN {
                continue;
            }
            let found = sum(id, page);
            let before = take.doubted.as_ref().map_or(UNKNOWN, |doubted| doubted.get(id));
            take.differ += u64::from(before != UNKNOWN && before != found);
            self.pager.sums.set(id, found);
        }
    }

    /// Walks everything, and shows `visit` the rows of the top-level bucket `target`.
    pub(crate) fn run(&mut self, target: &[u8], visit: Visit<'_>) -> Result<()> {
        self.mark(0, 2)?;
        if self.meta.freelist != NO_FREELIST {
            let pages = freelist_pages(self.pager, &self.meta);
            match pages {
                Ok(pages) => drop(self.mark(self.meta.freelist, pages)?),
                Err(error) => self.fault(error)?,
            }
        }
        self.bucket(self.meta.root, 0, Some(target), visit, false)
    }

    /// What was found; empty for a walk that stops at the first fault.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems.unwrap_or_default()
    }

    /// Whether page `id` was reached.
    pub(crate) fn reached(&self, id: u64) -> bool {
        self.seen.get((id / 64) as usize).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    /// [`Walk::take`] of pages in the window.
    fn take_window(&mut self, first: u64, range: std::ops::Range<usize>) {
        if self.take.is_some() {
            let window = std::mem::take(&mut self.window);
            self.take(first, &window.bytes()[range]);
            self.window = window;
        }
    }

    /// Calls `run(first, pages)` for every run of pages that was not reached.
    pub(crate) fn unreached(&self, mut run: impl FnMut(u64, u64)) {
        let mut start = None;
        for id in 0..self.meta.high_water {
            match (self.reached(id), start) {
                (false, None) => start = Some(id),
                (true, Some(first)) => {
                    run(first, id - first);
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(first) = start {
            run(first, self.meta.high_water - first);
        }
    }

    fn fault(&mut self, error: Error) -> Result<()> {
        match (&mut self.problems, error) {
            (Some(problems), Error::Damaged { page, expected, .. }) => {
                problems.push(Problem { page, what: expected });
                Ok(())
            }
            (_, error) => Err(error),
        }
    }

    /// Marks a node's pages as reached; a page reached twice is a fault. Answers whether none
    /// was: what was walked already must not be walked again, or a page that names itself twice
    /// is walked two to the power of the depth times.
    fn mark(&mut self, first: u64, pages: u64) -> Result<bool> {
        let mut fresh = true;
        for id in first..first + pages {
            let (word, bit) = ((id / 64) as usize, 1 << (id % 64));
            if self.seen[word] & bit != 0 {
                let error = self.pager.damaged(id, "one reference to the page, there are more");
                self.fault(error)?;
                fresh = false;
                continue;
            }
            self.seen[word] |= bit;
            self.pages += 1;
        }
        Ok(fresh)
    }

    /// Walks one bucket and those nested in it. `target` names the nested bucket to show; `show`
    /// says that this one is.
    fn bucket(
        &mut self,
        root: u64,
        depth: usize,
        target: Option<&[u8]>,
        visit: Visit<'_>,
        show: bool,
    ) -> Result<()> {
        let mut sink = Sink { nested: Vec::new(), visit: show.then_some(&mut *visit) };
        self.tree(root, depth, &mut sink)?;
        for (name, nested) in sink.nested {
            let show = target == Some(&name[..]);
            match nested {
                Nested::Page(id) => self.bucket(id, depth + 1, None, visit, show)?,
                Nested::Inline(page) if show => {
                    let view = View::check(&page, 0).expect("checked when it was gathered");
                    for i in 0..view.count {
                        visit(view.key(i), view.value(i));
                    }
                }
                Nested::Inline(_) => {}
            }
        }
        Ok(())
    }

    /// Walks the tree of one bucket from its root.
    fn tree(&mut self, root: u64, depth: usize, sink: &mut Sink<'_>) -> Result<()> {
        if depth >= DEPTH_MAX {
            let expected = format!("buckets at most {DEPTH_MAX} deep");
            return self.fault(self.pager.damaged(root, expected));
        }
        match self.pager.page(root, self.meta.high_water) {
            Ok(page) => self.node(&page, None, depth, sink),
            Err(error) => self.fault(error),
        }
    }

    /// A node that is in memory. All keys below it are less than `end`.
    fn node(
        &mut self,
        page: &Page,
        end: Option<&[u8]>,
        depth: usize,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        if !self.mark(page.id, page.pages(self.pager.page_size))? {
            return Ok(());
        }
        self.take(page.id, page.bytes());
        if page.kind == Kind::Leaf {
            return match sink.leaf(&page.view()) {
                Ok(()) => Ok(()),
                Err(expected) => self.fault(self.pager.damaged(page.id, expected)),
            };
        }
        if depth >= DEPTH_MAX {
            let expected = format!("a tree at most {DEPTH_MAX} pages deep");
            return self.fault(self.pager.damaged(page.id, expected));
        }
        for i in 0..page.count {
            let next = (i + 1 < page.count).then(|| page.view().key(i + 1));
            if let Err(error) = self.child(page, i, next.or(end), depth, sink) {
                self.fault(error)?;
            }
        }
        Ok(())
    }

    /// Child `i` of a branch: a leaf in the window, or another branch.
    fn child(
        &mut self,
        parent: &Page,
        i: usize,
        end: Option<&[u8]>,
        depth: usize,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let id = parent.view().child(i);
        let header = self.look(parent, i)?;
        if header.flags == 0x01 {
            let page = self.pager.child(parent, i, self.meta.high_water)?;
            // A page in memory may have been checked in another place.
            self.pager.check_place(&page.view(), id, &parent.view(), i)?;
            self.check_end(&page.view(), id, end)?;
            return self.node(&page, end, depth + 1, sink);
        }
        let size = self.pager.page_size;
        let pages = u64::from(header.overflow) + 1;
        let start = (id - self.window_first) as usize * size;
        let bytes = self
            .window
            .bytes()
            .get(start..start + pages as usize * size)
            .ok_or_else(|| self.pager.damaged(id, "the node's pages in the window"))?;
        self.pager.verify(id + 1, &bytes[size..])?;
        let view = View::check(bytes, id).map_err(|what| self.pager.damaged(id, what))?;
        self.pager.check_place(&view, id, &parent.view(), i)?;
        self.check_end(&view, id, end)?;
        sink.leaf(&view).map_err(|what| self.pager.damaged(id, what))?;
        self.mark(id, pages)?;
        self.take_window(id, start..start + pages as usize * size);
        Ok(())
    }

    /// The last child of a branch has no next key beside it: its end is the branch's own.
    fn check_end(&self, view: &View<'_>, id: u64, end: Option<&[u8]>) -> Result<()> {
        if end.is_some_and(|end| view.count > 0 && view.key(view.count - 1) >= end) {
            return Err(self.pager.damaged(id, "the last key is not below the branch's end"));
        }
        Ok(())
    }

    /// Makes sure that the window holds the whole node of child `i`, and gives its header.
    fn look(&mut self, parent: &Page, i: usize) -> Result<Header> {
        let id = parent.view().child(i);
        self.pager.check_span(id, 0, self.meta.high_water)?;
        let size = self.pager.page_size;
        let held = (self.window.bytes().len() / size) as u64;
        if id < self.window_first || id >= self.window_first + held {
            let pages = self.run_length(parent, i);
            self.fill(id, pages)?;
        }
        let start = (id - self.window_first) as usize * size;
        let first = &self.window.bytes()[start..start + size];
        self.pager.verify(id, first)?;
        let header = Header::read(first).expect("a page is longer than its header");
        if header.id != id {
            let what = format!("page id {id} expected, {} found", header.id);
            return Err(self.pager.damaged(id, what));
        }
        let end = start + (header.overflow as usize + 1) * size;
        if end > self.window.bytes().len() && header.flags != 0x01 {
            self.pager.check_span(id, header.overflow, self.meta.high_water)?;
            self.fill(id, u64::from(header.overflow) + 1)?;
        }
        Ok(header)
    }

    /// Pages from child `i` to the last child that lies close behind.
    fn run_length(&self, parent: &Page, i: usize) -> u64 {
        let view = parent.view();
        let first = view.child(i);
        let most = ((WINDOW_BYTES / self.pager.page_size) as u64).max(1);
        let mut last = first;
        for next in (i + 1..view.count).map(|j| view.child(j)) {
            let near = next > last && next - last <= GAP_PAGES && next - first < most;
            if !near || next >= self.meta.high_water {
                break;
            }
            last = next;
        }
        last - first + 1
    }

    fn fill(&mut self, first: u64, pages: u64) -> Result<()> {
        // Invalid until it is read: an error must not leave other pages' bytes behind.
        let mut window = std::mem::take(&mut self.window);
        window.resize(pages as usize * self.pager.page_size);
        self.pager.read_raw(first, window.bytes_mut())?;
        (self.window, self.window_first) = (window, first);
        Ok(())
    }
}

/// Pages of the stored free list, its header checked.
pub(crate) fn freelist_pages(pager: &Pager, meta: &Meta) -> Result<u64> {
    let id = meta.freelist;
    pager.check_span(id, 0, meta.high_water)?;
    let mut buf = vec![0; HEADER];
    pager.read_raw(id, &mut buf)?;
    let header = Header::read(&buf).expect("sixteen bytes are a header");
    if header.id != id || header.flags != FREELIST {
        let Header { id: found, flags, .. } = header;
        let expected = format!("free list page {id}, found page {found} with flags {flags:#06x}");
        return Err(pager.damaged(id, expected));
    }
    pager.check_span(id, header.overflow, meta.high_water)?;
    Ok(u64::from(header.overflow) + 1)
}
