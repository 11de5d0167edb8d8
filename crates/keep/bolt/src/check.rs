//! bbolt's own checks, and ours of the free list.

use crate::error::Result;
use crate::meta::NO_FREELIST;
use crate::page::{HEADER, Header, u64_at};
use crate::walk::{Walk, freelist_pages};
use crate::{Bolt, Reader};

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The page it was found at.
    pub page: u64,
    /// What is wrong.
    pub what: String,
}

/// A count of 0xFFFF says that the first id is the count (bbolt).
const COUNT_OVERFLOW: u16 = 0xFFFF;

impl Reader {
    /// Walks everything: reachability, double references, key order, page types, and that the
    /// pages found and the free ones make up the whole. An error only when the disk fails.
    ///
    /// Which pages are free is known from the stored free list when the file has one, else only
    /// how many there were at this transaction (nothing for [`Reader::open`]).
    pub fn check(&self) -> Result<Vec<Problem>> {
        let meta = *self.meta();
        let mut walk = Walk::new(self.pager(), meta, true);
        walk.run(b"", &mut |_, _| {})?;
        let mut found = Vec::new();
        if meta.freelist != NO_FREELIST {
            self.check_stored(&walk, &mut found)?;
        }
        let (reached, counted) = (walk.pages, self.pages_used());
        let mut problems = walk.into_problems();
        // `Reader::open` counts no free pages; what it opens may have any.
        if problems.is_empty() && reached != counted && counted != meta.high_water {
            let what = format!("{counted} pages in use were counted, {reached} are reachable");
            problems.push(Problem { page: meta.root, what });
        }
        problems.extend(found);
        Ok(problems)
    }

    /// Compares the stored free list with what was reached.
    fn check_stored(&self, walk: &Walk<'_>, found: &mut Vec<Problem>) -> Result<()> {
        let (pager, meta) = (self.pager(), self.meta());
        // A bad header is among the walk's problems already.
        let Ok(pages) = freelist_pages(pager, meta) else { return Ok(()) };
        let mut buf = vec![0; pages as usize * pager.page_size];
        pager.read_raw(meta.freelist, &mut buf)?;
        let header = Header::read(&buf).expect("a page is longer than its header");
        let mut ids = buf[HEADER..].chunks_exact(8).map(|id| u64_at(id, 0));
        let count = match header.count {
            COUNT_OVERFLOW => ids.next().unwrap_or(0),
            count => u64::from(count),
        };
        let mut problem = |page, what: &str| found.push(Problem { page, what: what.to_owned() });
        if count > ids.len() as u64 {
            problem(meta.freelist, "more free pages than the free list has room for");
            return Ok(());
        }
        let mut listed = std::collections::BTreeSet::new();
        for id in ids.take(count as usize) {
            if !listed.insert(id) {
                problem(id, "already freed");
            }
            if id < 2 || id >= meta.high_water {
                problem(id, "freed page outside of the file");
            } else if walk.reached(id) {
                problem(id, "reachable freed");
            }
        }
        walk.unreached(|first, pages| {
            for id in (first..first + pages).filter(|id| !listed.contains(id)) {
                problem(id, "unreachable unfreed");
            }
        });
        Ok(())
    }
}

impl Bolt {
    /// [`Reader::check`] of the current state, and our free list against it page by page.
    pub fn check(&self) -> Result<Vec<Problem>> {
        let reader = self.reader();
        let mut problems = reader.check()?;
        let mut walk = Walk::new(reader.pager(), *reader.meta(), true);
        walk.run(b"", &mut |_, _| {})?;
        let mut free: Vec<(u64, u64)> = self.free_runs().collect();
        free.sort_unstable();
        let mut end = 2;
        for (first, pages) in free {
            let mut problem =
                |what: &str| problems.push(Problem { page: first, what: what.into() });
            if first < end {
                problem("already freed");
            }
            if (first..first + pages).any(|id| walk.reached(id)) {
                problem("reachable freed");
            }
            end = first + pages;
        }
        Ok(problems)
    }
}
