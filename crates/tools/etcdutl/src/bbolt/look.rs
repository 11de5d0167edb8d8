//! `pages`, `page` and `stats`: the file as it lies there.

use std::collections::BTreeSet;

use mainstay_print::args::Line;
use mainstay_print::quote::quote;

use super::{Form, file, hex, is_printable};
use crate::pages::{BRANCH, BucketValue, FREELIST, LEAF, META, Meta, Node, Pages};
use crate::place::{one_argument, plain};
use crate::{Failure, Run};

/// Deepest tree that is followed, and deepest nesting of buckets.
const DEPTH_MAX: usize = 64;

/// `pages`: a line for each page. Free are those that no tree reaches.
pub(crate) fn pages(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    one_argument(line)?;
    let pages = Pages::open(run, file(line, run)?)?;
    let mut walk = Walk::new(&pages);
    walk.all()?;
    run.say("ID       TYPE       ITEMS  OVRFLW");
    run.say("======== ========== ====== ======");
    let mut id = 0;
    while id < pages.high_water() {
        let header = pages.header(id)?;
        let is_used = id < 2 || walk.reached.contains(&id);
        let (kind, items, overflow) = match header.filter(|_| is_used) {
            Some(header) => {
                let own = header.id == id;
                let kind = if own { header.kind() } else { "damaged".to_owned() };
                (kind, header.count.to_string(), if own { header.overflow } else { 0 })
            }
            None => ("free".to_owned(), String::new(), 0),
        };
        let shown = if overflow > 0 { overflow.to_string() } else { String::new() };
        run.say(&format!("{id:<8} {kind:<10} {items:<6} {shown:<6}"));
        id += 1 + u64::from(overflow);
    }
    walk.verdict()
}

/// `page`: what pages hold.
pub(crate) fn page(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let named = line.args.get(1..).unwrap_or_default();
    let all = line.is("all");
    if named.is_empty() && !all {
        return Err(Failure::error("page id required"));
    }
    if all && !named.is_empty() {
        return Err(Failure::error("invalid args: either use '--all' or 'pageid...'"));
    }
    let form = Form::read(line.text("format-value"))?;
    let ids: Result<Vec<u64>, String> =
        named.iter().map(|id| mainstay_print::number::parse_uint(id, 10)).collect();
    let ids = ids.map_err(plain)?;
    let pages = Pages::open(run, file(line, run)?)?;
    let mut failed = 0;
    let mut one = |run: &mut Run<'_>, id: u64, first: bool| -> Result<u64, Failure> {
        if !first {
            run.say("===============================================");
        }
        match pages.node(id)? {
            Ok(node) => {
                show(run, id, &node, form);
                Ok(u64::from(node.header.overflow))
            }
            Err(why) => {
                failed += 1;
                run.say(&format!("Printing page {id} failed: {why}. Continuing..."));
                Ok(0)
            }
        }
    };
    let mut id = 0;
    while all && id < pages.high_water() {
        id += one(run, id, id == 0)? + 1;
    }
    for (n, id) in ids.into_iter().enumerate() {
        one(run, id, n == 0)?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(plain(format!("{failed} pages cannot be read"))),
    }
}

fn show(run: &mut Run<'_>, id: u64, node: &Node, form: Form) {
    let header = &node.header;
    run.say(&format!("Page ID:    {id}"));
    run.say(&format!("Page Type:  {}", header.kind()));
    run.say(&format!("Total Size: {} bytes", node.bytes.len()));
    run.say(&format!("Overflow pages: {}", header.overflow));
    match header.flags {
        META => show_meta(run, node),
        LEAF => {
            run.say(&format!("Item Count: {}\n", header.count));
            for i in 0..usize::from(header.count) {
                let Some(row) = node.row(i) else {
                    run.say(&format!("element {i} lies outside of the page"));
                    continue;
                };
                let mut text = format!("{}: ", key_text(row.key)).into_bytes();
                text.extend(match row.is_bucket.then(|| row.bucket()) {
                    None => form.show(row.value),
                    Some(Some(BucketValue::Root { page, sequence })) => {
                        format!("<pgid={page},seq={sequence}>").into_bytes()
                    }
                    Some(Some(BucketValue::Inline { sequence, .. })) => {
                        format!("<pgid=0,seq={sequence}>").into_bytes()
                    }
                    Some(None) => b"<a bucket without its header>".to_vec(),
                });
                run.say_bytes(&text);
            }
            run.say("");
        }
        BRANCH => {
            run.say(&format!("Item Count: {}\n", header.count));
            for i in 0..usize::from(header.count) {
                match node.child(i) {
                    Some((key, page)) => run.say(&format!("{}: <pgid={page}>", key_text(key))),
                    None => run.say(&format!("element {i} lies outside of the page")),
                }
            }
            run.say("");
        }
        FREELIST => {
            let ids = node.free_ids();
            run.say(&format!("Item Count: {}", ids.len()));
            run.say(&format!("Overflow: {}\n", header.overflow));
            ids.iter().for_each(|id| run.say(&id.to_string()));
            run.say("");
        }
        _ => {}
    }
}

fn show_meta(run: &mut Run<'_>, node: &Node) {
    let Some(meta) = Meta::read(&node.bytes) else { return };
    run.say(&format!("Version:    {}", meta.version));
    run.say(&format!("Page Size:  {} bytes", meta.page_size));
    run.say(&format!("Flags:      {:08x}", meta.flags));
    run.say(&format!("Root:       <pgid={}>", meta.root));
    run.say(&format!("Freelist:   <pgid={}>", meta.freelist));
    run.say(&format!("HWM:        <pgid={}>", meta.high_water));
    run.say(&format!("Txn ID:     {}", meta.txid));
    run.say(&format!("Checksum:   {:016x}\n", meta.checksum));
}

fn key_text(key: &[u8]) -> String {
    if is_printable(key) { quote(key) } else { hex(key) }
}

/// `stats`: how full the pages are.
pub(crate) fn stats(line: &Line, run: &mut Run<'_>) -> Result<(), Failure> {
    let prefix = line.args.get(1).map_or("", String::as_str);
    let pages = Pages::open(run, file(line, run)?)?;
    let mut walk = Walk::new(&pages);
    walk.prefix = prefix.as_bytes().to_vec();
    walk.all()?;
    let Walk { stats: s, .. } = &walk;
    let percent = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
    run.say(&format!("Aggregate statistics for {} buckets\n", s.top));
    run.say("Page count statistics");
    run.say(&format!("\tNumber of logical branch pages: {}", s.branches));
    run.say(&format!("\tNumber of physical branch overflow pages: {}", s.branch_overflow));
    run.say(&format!("\tNumber of logical leaf pages: {}", s.leaves));
    run.say(&format!("\tNumber of physical leaf overflow pages: {}", s.leaf_overflow));
    run.say("Tree statistics");
    run.say(&format!("\tNumber of keys/value pairs: {}", s.rows));
    run.say(&format!("\tNumber of levels in B+tree: {}", s.depth));
    run.say("Page size utilization");
    let branch = (s.branches + s.branch_overflow) * pages.page_size;
    let leaf = (s.leaves + s.leaf_overflow) * pages.page_size;
    run.say(&format!("\tBytes allocated for physical branch pages: {branch}"));
    let used = percent(s.branch_used, branch);
    run.say(&format!("\tBytes actually used for branch data: {} ({used}%)", s.branch_used));
    run.say(&format!("\tBytes allocated for physical leaf pages: {leaf}"));
    let used = percent(s.leaf_used, leaf);
    run.say(&format!("\tBytes actually used for leaf data: {} ({used}%)", s.leaf_used));
    run.say("Bucket statistics");
    run.say(&format!("\tTotal number of buckets: {}", s.buckets));
    let used = percent(s.inline, s.buckets);
    run.say(&format!("\tTotal number on inlined buckets: {} ({used}%)", s.inline));
    let used = percent(s.inline_used, s.leaf_used);
    run.say(&format!("\tBytes used for inlined buckets: {} ({used}%)", s.inline_used));
    walk.verdict()
}

/// bbolt's numbers.
#[derive(Default)]
struct Stats {
    top: u64,
    buckets: u64,
    inline: u64,
    inline_used: u64,
    branches: u64,
    branch_overflow: u64,
    branch_used: u64,
    leaves: u64,
    leaf_overflow: u64,
    leaf_used: u64,
    rows: u64,
    depth: usize,
}

/// Every page that the current meta reaches; damaged ones are passed over and remembered.
struct Walk<'p> {
    pages: &'p Pages,
    reached: BTreeSet<u64>,
    stats: Stats,
    prefix: Vec<u8>,
    damaged: Vec<(u64, String)>,
}

impl<'p> Walk<'p> {
    fn new(pages: &'p Pages) -> Walk<'p> {
        let (reached, damaged) = (BTreeSet::new(), Vec::new());
        Walk { pages, reached, stats: Stats::default(), prefix: Vec::new(), damaged }
    }

    fn all(&mut self) -> Result<(), Failure> {
        let metas = self.pages.sound_metas();
        let meta = metas.first().ok_or_else(|| plain("neither meta page can be used"))?;
        if meta.freelist != u64::MAX {
            self.reach(meta.freelist)?;
        }
        self.tree(meta.root, 0, 0)
    }

    /// Reads a page once and notes it and its overflow.
    fn reach(&mut self, id: u64) -> Result<Option<Node>, Failure> {
        let node = match self.pages.node(id)? {
            _ if self.reached.contains(&id) => Err("reached twice".to_owned()),
            Ok(node) => Ok(node),
            Err(why) => Err(why),
        };
        match node {
            Ok(node) => {
                self.reached.extend(id..=id + u64::from(node.header.overflow));
                Ok(Some(node))
            }
            Err(why) => {
                self.reached.insert(id);
                self.damaged.push((id, why));
                Ok(None)
            }
        }
    }

    fn tree(&mut self, id: u64, depth: usize, nesting: usize) -> Result<(), Failure> {
        let Some(node) = self.reach(id)? else { return Ok(()) };
        if let Some(fault) = node.fault() {
            self.damaged.push((id, fault));
            return Ok(());
        }
        // The tree of the buckets' names counts for nothing, as in bbolt.
        let counts = nesting > 0;
        let overflow = u64::from(node.header.overflow);
        let used = used(&node);
        if counts {
            self.stats.depth = self.stats.depth.max(depth + 1);
        }
        if node.header.flags == LEAF {
            if counts {
                self.stats.leaves += 1;
                self.stats.leaf_overflow += overflow;
                self.stats.leaf_used += used;
                self.stats.rows += u64::from(node.header.count);
            }
            return self.buckets(&node, nesting);
        }
        if counts {
            self.stats.branches += 1;
            self.stats.branch_overflow += overflow;
            self.stats.branch_used += used;
        }
        if depth >= DEPTH_MAX {
            self.damaged.push((id, format!("a tree deeper than {DEPTH_MAX}")));
            return Ok(());
        }
        for i in 0..usize::from(node.header.count) {
            if let Some((_, child)) = node.child(i) {
                self.tree(child, depth + 1, nesting)?;
            }
        }
        Ok(())
    }

    /// The buckets in a leaf.
    fn buckets(&mut self, node: &Node, nesting: usize) -> Result<(), Failure> {
        for i in 0..usize::from(node.header.count) {
            let Some(row) = node.row(i).filter(|row| row.is_bucket) else { continue };
            if nesting == 0 {
                if !row.key.starts_with(&self.prefix) {
                    continue;
                }
                self.stats.top += 1;
            }
            if nesting >= DEPTH_MAX {
                self.damaged.push((node.header.id, "buckets nested too deep".to_owned()));
                return Ok(());
            }
            self.stats.buckets += 1;
            match row.bucket() {
                Some(BucketValue::Root { page, .. }) => self.tree(page, 0, nesting + 1)?,
                Some(BucketValue::Inline { page, .. }) => {
                    let inline = Node::inline(page).filter(|node| node.fault().is_none());
                    let Some(inline) = inline else {
                        self.damaged.push((node.header.id, format!("the inline bucket {i}")));
                        continue;
                    };
                    self.stats.inline += 1;
                    self.stats.inline_used += used(&inline);
                    self.stats.rows += u64::from(inline.header.count);
                    self.stats.depth = self.stats.depth.max(1);
                }
                None => self.damaged.push((node.header.id, format!("element {i} is no bucket"))),
            }
        }
        Ok(())
    }

    fn verdict(&self) -> Result<(), Failure> {
        match self.damaged.as_slice() {
            [] => Ok(()),
            [(id, why), more @ ..] => Err(plain(format!(
                "{} pages are damaged, the first is page {id} at offset {}: {why}",
                more.len() + 1,
                id.saturating_mul(self.pages.page_size)
            ))),
        }
    }
}

/// Bytes of a page that hold something.
fn used(node: &Node) -> u64 {
    let elements = 16 + 16 * u64::from(node.header.count);
    let data = |i| match node.header.flags {
        LEAF => node.row(i).map_or(0, |row| row.key.len() + row.value.len()),
        _ => node.child(i).map_or(0, |(key, _)| key.len()),
    };
    elements + (0..usize::from(node.header.count)).map(data).sum::<usize>() as u64
}
