//! Many lookups at once: every leaf is read once, and leaves side by side in one read.

use std::ops::Range;

use bytes::Bytes;

use crate::error::Result;
use crate::page::{DEPTH_MAX, HEADER, Header, Kind, Page, View};
use crate::pager::Pager;
use crate::reader::Bucket;

/// Pages read at once.
const RUN_PAGES: u64 = 16;
/// Pages between two leaves that are read along: cheaper than a second call.
const GAP_PAGES: u64 = 2;

impl Bucket {
    /// The values of `keys`, which ascend, in their order; `None` where [`Bucket::get`] says so.
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>> {
        assert!(keys.is_sorted_by_key(AsRef::as_ref), "keys ascend");
        let mut out = vec![None; keys.len()];
        let many = Many { pager: self.pager(), high_water: self.high_water() };
        many.node(self.root(), keys, &mut out, 0)?;
        Ok(out)
    }
}

/// What lies below a child.
struct Part {
    child: usize,
    id: u64,
    keys: Range<usize>,
}

struct Many<'a> {
    pager: &'a Pager,
    high_water: u64,
}

impl Many<'_> {
    fn node<K: AsRef<[u8]>>(
        &self,
        page: &Page,
        keys: &[K],
        out: &mut [Option<Bytes>],
        depth: usize,
    ) -> Result<()> {
        if depth >= DEPTH_MAX {
            let expected = format!("a tree at most {DEPTH_MAX} pages deep");
            return Err(self.pager.damaged(page.id, expected));
        }
        if page.kind == Kind::Leaf {
            leaf(page, keys, out);
            return Ok(());
        }
        let parts = parts(&page.view(), keys);
        let mut rest = &parts[..];
        while let [first, ..] = rest {
            if let Some(child) = self.pager.kept(first.id) {
                let part = first.keys.clone();
                self.node(&child, &keys[part.clone()], &mut out[part], depth + 1)?;
                rest = &rest[1..];
                continue;
            }
            let (run, after) = rest.split_at(self.run(rest));
            let bytes = self.read(run)?;
            for part in run {
                let child = self.child(page, part, &bytes, run[0].id)?;
                let part = part.keys.clone();
                self.node(&child, &keys[part.clone()], &mut out[part], depth + 1)?;
            }
            rest = after;
        }
        Ok(())
    }

    /// How many of the first parts lie close together; at least one.
    fn run(&self, parts: &[Part]) -> usize {
        let first = parts[0].id;
        let near = |pair: &[Part]| {
            let (last, next) = (pair[0].id, pair[1].id);
            next > last
                && next - last <= GAP_PAGES + 1
                && next - first < RUN_PAGES
                && next < self.high_water
        };
        1 + parts.windows(2).take_while(|pair| near(pair)).count()
    }

    /// The pages from the first part to the last.
    fn read(&self, run: &[Part]) -> Result<Bytes> {
        let (first, last) = (run[0].id, run[run.len() - 1].id);
        self.pager.check_span(first, 0, self.high_water)?;
        let mut bytes = vec![0; (last - first + 1) as usize * self.pager.page_size];
        self.pager.read_raw(first, &mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    /// A child among the pages read from page `from` on, or from the disk when it is longer.
    fn child(&self, parent: &Page, part: &Part, bytes: &Bytes, from: u64) -> Result<Page> {
        let start = (part.id - from) as usize * self.pager.page_size;
        let first_end = start + self.pager.page_size;
        self.pager.verify(part.id, &bytes[start..first_end])?;
        let header = Header::read(&bytes[start..start + HEADER]).expect("a page has a header");
        let end = start + (header.overflow as usize + 1) * self.pager.page_size;
        // A branch is kept: it must not hold its neighbours in memory.
        if end > bytes.len() || header.flags == Kind::Branch.flag() {
            return self.pager.child(parent, part.child, self.high_water);
        }
        self.pager.verify(part.id + 1, &bytes[first_end..end])?;
        let page = Page::parse(part.id, bytes.slice(start..end))
            .map_err(|expected| self.pager.damaged(part.id, expected))?;
        self.pager.check_place(&page.view(), part.id, &parent.view(), part.child)?;
        Ok(page)
    }
}

/// Which keys belong to which child of a branch.
fn parts<K: AsRef<[u8]>>(branch: &View<'_>, keys: &[K]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < keys.len() {
        let child = branch.child_for(keys[at].as_ref());
        let end = match child + 1 < branch.count {
            true => {
                let next = branch.key(child + 1);
                at + keys[at..].partition_point(|key| key.as_ref() < next)
            }
            false => keys.len(),
        };
        parts.push(Part { child, id: branch.child(child), keys: at..end });
        at = end;
    }
    parts
}

/// Finds ascending keys in a leaf.
fn leaf<K: AsRef<[u8]>>(page: &Page, keys: &[K], out: &mut [Option<Bytes>]) {
    let view = page.view();
    for (key, out) in keys.iter().zip(out) {
        if let Ok(i) = view.search(key.as_ref())
            && view.flags(i) == 0
        {
            *out = Some(page.value(i));
        }
    }
}
