//! The db: what it says, and which of its rows can be saved.

use std::collections::BTreeSet;

use bytes::Bytes;
use mainstay_backend::bolt::{Bolt, Options, Reader, WriteBatch};
use mainstay_backend::{Bucket, KeyValueRef, decode_revision, meta};
use mainstay_membership::Membership;
use mainstay_proto::{Message as _, authpb, leasepb};
use mainstay_raft::ConfState;
use mainstay_types::{MemberId, Version};

use super::{Plan, Step};
use crate::pages::{BRANCH, BucketValue, LEAF, Node, Pages};
use crate::place::{DataDir, open_db, open_own_db, plain};
use crate::{Failure, Run};

/// Deepest tree that is followed.
const DEPTH_MAX: usize = 64;
/// Rows of one commit of the new file.
const ROWS: usize = 10_000;
/// Bytes of one commit of the new file: they are in memory at once.
const BYTES: usize = 16 << 20;

/// What a db says of itself.
#[derive(Default)]
pub(crate) struct Db {
    /// Index and term up to which it has applied the log.
    pub(crate) applied: (u64, u64),
    pub(crate) conf_state: Option<ConfState>,
    pub(super) storage: Option<Version>,
    pub(super) membership: Membership,
    compacted: i64,
}

impl Db {
    pub(super) fn voters(&self) -> usize {
        self.conf_state.as_ref().map_or(0, |state| state.voters.len())
    }

    /// Takes a row of another bucket than `key`; what cannot be read is passed over.
    fn take(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) {
        let number = || value.try_into().map_or(0, u64::from_be_bytes);
        if bucket == Bucket::Meta.name() {
            match key {
                meta::CONSISTENT_INDEX => self.applied.0 = number(),
                meta::TERM => self.applied.1 = number(),
                meta::CONF_STATE => self.conf_state = conf_state(value),
                meta::STORAGE_VERSION => {
                    self.storage = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                }
                meta::SCHEDULED_COMPACT_REV | meta::FINISHED_COMPACT_REV => {
                    let main = decode_revision(value).map_or(0, |(revision, _)| revision.main);
                    self.compacted = self.compacted.max(main);
                }
                _ => {}
            }
            return;
        }
        // What cannot be read here is seen when the members are compared.
        let _ = match bucket {
            b if b == Bucket::Members.name() => self.membership.load_member(key, value),
            b if b == Bucket::MembersRemoved.name() => self.membership.load_removed(key),
            b if b == Bucket::Cluster.name() && key == b"clusterVersion" => {
                self.membership.load_version(value)
            }
            _ => Ok(()),
        };
    }
}

/// A configuration as Go's JSON has it.
fn conf_state(json: &[u8]) -> Option<ConfState> {
    let value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let ids = |name: &str| -> Option<Vec<MemberId>> {
        let Some(list) = value.get(name).filter(|list| !list.is_null()) else {
            return Some(Vec::new());
        };
        list.as_array()?.iter().map(|id| id.as_u64().map(MemberId)).collect()
    };
    Some(ConfState {
        voters: ids("voters")?,
        learners: ids("learners")?,
        voters_outgoing: ids("voters_outgoing")?,
        learners_next: ids("learners_next")?,
        auto_leave: value.get("auto_leave").and_then(serde_json::Value::as_bool).unwrap_or(false),
    })
}

/// A part of a bucket that cannot be read.
#[derive(Clone, Debug)]
struct Hole {
    bucket: Vec<u8>,
    page: u64,
    why: String,
    from: Option<Vec<u8>>,
    until: Option<Vec<u8>>,
}

impl Hole {
    fn tell(&self) -> String {
        if self.bucket == Bucket::Key.name() {
            let revision = |key: &Option<Vec<u8>>| {
                let key = key.as_ref()?;
                Some(decode_revision(key).ok()?.0.to_string())
            };
            let from = revision(&self.from).unwrap_or_else(|| "the first".to_owned());
            let until = revision(&self.until).unwrap_or_else(|| "the last".to_owned());
            return format!(
                "revisions of the key space from {from} to {until}, those that lie on page {}; \
                 a key whose newest revision is among them shows an older one",
                self.page
            );
        }
        let bucket = self.bucket.escape_ascii();
        let key = |key: &Option<Vec<u8>>, none: &str| {
            key.as_ref().map_or(none.to_owned(), |key| key.escape_ascii().to_string())
        };
        format!(
            "rows of bucket {bucket} from {} to {}",
            key(&self.from, "the first"),
            key(&self.until, "the last")
        )
    }
}

/// What a sound db says of itself.
pub(crate) fn describe(run: &Run<'_>, dir: &DataDir) -> Result<Db, Failure> {
    let pages = Pages::open(run, &dir.db)?;
    let mut db = Db::default();
    Salvage::of(run, dir, &pages).all(&mut |bucket, key, value| {
        if bucket != Bucket::Key.name() {
            db.take(bucket, key, value);
        }
        Ok(())
    })?;
    Ok(db)
}

/// Looks at the db; `None` when there is none, or none that can be read.
pub(super) fn examine(
    run: &mut Run<'_>,
    dir: &DataDir,
    plan: &mut Plan,
) -> Result<Option<Db>, Failure> {
    let missing = |what: &str| {
        format!(
            "{}: {what}. Restore a backup (etcdutl snapshot restore), or remove this member from the \
             cluster and add it again",
            dir.db.display()
        )
    };
    if run.disk.metadata(&dir.db).map_err(plain)?.is_none() {
        plan.refused.push(missing("there is no db file"));
        return Ok(None);
    }
    let pages = Pages::open(run, &dir.db)?;
    if pages.sound_metas().is_empty() {
        plan.damaged.push((dir.db.clone(), Some(0), "neither meta page can be used".to_owned()));
        plan.refused.push(missing(
            "without a meta page nobody knows which of its pages are current \
             (etcdutl dump-db scan-keys still shows rows)",
        ));
        return Ok(None);
    }
    let mut db = Db::default();
    let mut salvage = Salvage::of(run, dir, &pages);
    salvage.all(&mut |bucket, key, value| {
        if bucket != Bucket::Key.name() {
            db.take(bucket, key, value);
        }
        Ok(())
    })?;
    if salvage.holes.is_empty() {
        // What only the whole tree tells.
        let problems = open_own_db(run, &dir.db)?.check().map_err(plain)?;
        for problem in problems {
            let hole = Hole {
                bucket: Vec::new(),
                page: problem.page,
                why: problem.what,
                from: None,
                until: None,
            };
            plan.damaged.push(damage(&pages, &hole));
        }
        if !plan.damaged.is_empty() {
            plan.steps.push(Step::RebuildDb);
        }
        return Ok(Some(db));
    }
    for hole in &salvage.holes {
        plan.damaged.push(damage(&pages, hole));
        if hole.bucket.is_empty() {
            plan.refused.push(missing("the page with the names of the buckets cannot be read"));
        } else if hole.bucket == Bucket::Meta.name() {
            plan.refused.push(missing("it does not say any more up to which entry it has got"));
        }
        plan.lost.push(hole.tell());
    }
    let found = salvage.orphans(db.compacted)?;
    if found > 0 {
        plan.warnings.push(format!(
            "{found} rows of the lost part were found on pages that nothing points to any more, and are kept"
        ));
    }
    plan.steps.push(Step::RebuildDb);
    Ok(Some(db))
}

fn damage(pages: &Pages, hole: &Hole) -> (std::path::PathBuf, Option<u64>, String) {
    let offset = hole.page.saturating_mul(pages.page_size);
    (pages.path.clone(), Some(offset), format!("page {}: {}", hole.page, hole.why))
}

/// Takes a row: bucket, key, value.
type Visit<'v> = dyn FnMut(&[u8], &[u8], &[u8]) -> Result<(), Failure> + 'v;

/// A walk over all rows that can be read.
struct Salvage<'p> {
    pages: &'p Pages,
    /// Knows the checksums of the pages that the tree reaches, when the member kept them.
    sums: Option<Reader>,
    reached: BTreeSet<u64>,
    holes: Vec<Hole>,
    /// Rows of bucket `key` found on pages that nothing points to.
    orphans: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The part of a bucket that a page may hold.
#[derive(Clone, Default)]
struct Span {
    bucket: Vec<u8>,
    from: Option<Vec<u8>>,
    until: Option<Vec<u8>>,
}

impl Span {
    fn holds(&self, key: &[u8]) -> bool {
        self.from.as_ref().is_none_or(|from| from.as_slice() <= key)
            && self.until.as_ref().is_none_or(|until| key < until.as_slice())
    }
}

impl<'p> Salvage<'p> {
    /// Of the member's own db. Without a usable root nothing is compared: the walk says what is
    /// wrong.
    fn of(run: &Run<'_>, dir: &DataDir, pages: &'p Pages) -> Salvage<'p> {
        let sums = open_own_db(run, &dir.db).ok();
        Salvage { pages, sums, reached: BTreeSet::new(), holes: Vec::new(), orphans: Vec::new() }
    }

    fn all(&mut self, visit: &mut Visit<'_>) -> Result<(), Failure> {
        let metas = self.pages.sound_metas();
        let Some(meta) = metas.first() else { return Ok(()) };
        self.tree(meta.root, &Span::default(), 0, visit)
    }

    fn hole(&mut self, span: &Span, page: u64, why: impl Into<String>) {
        let Span { bucket, from, until } = span.clone();
        self.holes.push(Hole { bucket, page, why: why.into(), from, until });
    }

    fn tree(
        &mut self,
        id: u64,
        span: &Span,
        depth: usize,
        visit: &mut Visit<'_>,
    ) -> Result<(), Failure> {
        let node = match self.pages.node(id)? {
            _ if depth > DEPTH_MAX || id < 2 => Err("no page of a tree".to_owned()),
            Ok(_) if !self.reached.insert(id) => Err("reached twice".to_owned()),
            Ok(node) => self.compared(id, node),
            Err(why) => Err(why),
        };
        let node = match node {
            Ok(node) => node,
            Err(why) => {
                self.hole(span, id, why);
                return Ok(());
            }
        };
        self.reached.extend(id..=id + u64::from(node.header.overflow));
        match (node.header.flags, node.fault()) {
            (LEAF, fault) => self.leaf(id, &node, fault, span, visit),
            (BRANCH, None) => self.branch(id, &node, span, depth, visit),
            (_, fault) => {
                self.hole(span, id, fault.unwrap_or_else(|| "no page of a tree".to_owned()));
                Ok(())
            }
        }
    }

    /// A page whose checksum is another one is not believed, whatever it looks like.
    fn compared(&self, id: u64, node: Node) -> Result<Node, String> {
        match self.sums.as_ref().and_then(|sums| sums.compare(id, &node.bytes)) {
            None => Ok(node),
            Some(why) => Err(why),
        }
    }

    fn branch(
        &mut self,
        id: u64,
        node: &Node,
        span: &Span,
        depth: usize,
        visit: &mut Visit<'_>,
    ) -> Result<(), Failure> {
        let count = usize::from(node.header.count);
        for i in 0..count {
            let Some((key, child)) = node.child(i) else { continue };
            // bbolt lets the first child hold what is below its key.
            let from = if i == 0 { span.from.clone() } else { Some(key.to_vec()) };
            let next = node.child(i + 1).filter(|_| i + 1 < count);
            let until = next.map_or_else(|| span.until.clone(), |(key, _)| Some(key.to_vec()));
            if !span.holds(key) && i > 0 {
                self.hole(
                    span,
                    id,
                    format!("the key of child {i} lies outside of what the page is for"),
                );
                continue;
            }
            let part = Span { bucket: span.bucket.clone(), from, until };
            self.tree(child, &part, depth + 1, visit)?;
        }
        Ok(())
    }

    fn leaf(
        &mut self,
        id: u64,
        node: &Node,
        fault: Option<String>,
        span: &Span,
        visit: &mut Visit<'_>,
    ) -> Result<(), Failure> {
        // Where one thing on a page is wrong nothing else on it is proved to be right: its
        // values have no checksum.
        if let Some(why) = fault.or_else(|| leaf_fault(node, span)) {
            self.hole(span, id, why);
            return Ok(());
        }
        for row in (0..usize::from(node.header.count)).filter_map(|i| node.row(i)) {
            if !row.is_bucket {
                visit(&span.bucket, row.key, row.value)?;
                continue;
            }
            let inner = Span { bucket: row.key.to_vec(), ..Span::default() };
            match row.bucket() {
                Some(BucketValue::Root { page, .. }) => self.tree(page, &inner, 0, visit)?,
                Some(BucketValue::Inline { page, .. }) => match Node::inline(page) {
                    Some(inline) => {
                        let fault = inline.fault();
                        self.leaf(id, &inline, fault, &inner, visit)?;
                    }
                    None => self.hole(&inner, id, "an inline bucket without a page"),
                },
                None => self.hole(&inner, id, "a bucket without a header"),
            }
        }
        Ok(())
    }

    /// Looks for rows of lost parts of bucket `key` on leaves that nothing points to; how
    /// many it found. Only where the lost part ends before the newest rows, and only
    /// revisions that no compaction has looked at: of others nobody knows whether they were
    /// still there, nor of the newest whether they ever were.
    fn orphans(&mut self, compacted: i64) -> Result<usize, Failure> {
        let key = Bucket::Key.name();
        let lost: Vec<Span> = self
            .holes
            .iter()
            .filter(|hole| hole.bucket == key && hole.until.is_some())
            .map(|hole| Span {
                bucket: hole.bucket.clone(),
                from: hole.from.clone(),
                until: hole.until.clone(),
            })
            .collect();
        if lost.is_empty() {
            return Ok(0);
        }
        let mut rows = std::collections::BTreeMap::new();
        for id in (2..self.pages.high_water()).filter(|id| !self.reached.contains(id)) {
            let Ok(node) = self.pages.node(id)? else { continue };
            if node.header.flags != LEAF || node.fault().is_some() {
                continue;
            }
            let all = (0..usize::from(node.header.count)).filter_map(|i| node.row(i));
            for row in all.filter(|row| !row.is_bucket) {
                let is_new = decode_revision(row.key).is_ok_and(|(at, _)| at.main > compacted);
                let is_lost = lost.iter().any(|span| span.holds(row.key));
                if is_new && is_lost && row_fault(key, row.key, row.value).is_none() {
                    rows.insert(row.key.to_vec(), row.value.to_vec());
                }
            }
        }
        self.orphans = rows.into_iter().collect();
        Ok(self.orphans.len())
    }
}

/// What is wrong with the rows of a leaf whose form is right.
fn leaf_fault(node: &Node, span: &Span) -> Option<String> {
    (0..usize::from(node.header.count)).find_map(|i| {
        let row = node.row(i)?;
        if !span.holds(row.key) {
            return Some(format!("element {i} is out of its place"));
        }
        // etcd has buckets in the file, and rows in buckets, and nothing else.
        if row.is_bucket != span.bucket.is_empty() {
            return Some(format!("element {i} is not what belongs there"));
        }
        let fault = row_fault(&span.bucket, row.key, row.value).filter(|_| !row.is_bucket)?;
        Some(format!("row {}: {fault}", row.key.escape_ascii()))
    })
}

/// What is wrong with a row, as far as its bytes can tell.
fn row_fault(bucket: &[u8], key: &[u8], value: &[u8]) -> Option<String> {
    if bucket == Bucket::Key.name() {
        let Ok((revision, tombstone)) = decode_revision(key) else {
            return Some("no revision".to_owned());
        };
        // A bumped revision has an empty value (disk.md 8.1).
        if value.is_empty() {
            return None;
        }
        let Some(kv) = KeyValueRef::decode(value) else {
            return Some("its value is no key-value".to_owned());
        };
        let fits = tombstone || kv.mod_revision == revision.main;
        return (!fits).then(|| format!("its value is of revision {}", kv.mod_revision));
    }
    let is_json = || serde_json::from_slice::<serde_json::Value>(value).is_ok();
    let fits = match bucket {
        b if b == Bucket::Meta.name() => match key {
            meta::CONSISTENT_INDEX | meta::TERM => value.len() == 8,
            meta::CONF_STATE => conf_state(value).is_some(),
            meta::SCHEDULED_COMPACT_REV | meta::FINISHED_COMPACT_REV => {
                decode_revision(value).is_ok()
            }
            _ => true,
        },
        b if b == Bucket::Lease.name() => {
            leasepb::Lease::decode(value).is_ok_and(|lease| key == lease.id.to_be_bytes())
        }
        b if b == Bucket::AuthUsers.name() => {
            authpb::User::decode(value).is_ok_and(|user| user.name == key)
        }
        b if b == Bucket::AuthRoles.name() => {
            authpb::Role::decode(value).is_ok_and(|role| role.name == key)
        }
        b if b == Bucket::Members.name() => is_json(),
        _ => true,
    };
    (!fits).then(|| "its value cannot be read".to_owned())
}

/// Writes a new db at `to` with every row of the damaged one that can be read.
pub(super) fn rebuild(run: &Run<'_>, dir: &DataDir, to: &std::path::Path) -> Result<(), Failure> {
    let pages = Pages::open(run, &dir.db)?;
    let page_size = pages.page_size as usize;
    let options = Options { page_size, no_sync: true };
    let mut bolt = Bolt::open(&*run.disk, to, options).map_err(plain)?;
    let mut batch = WriteBatch::new();
    for bucket in Bucket::ALL {
        batch.create_bucket(bucket.name());
    }
    let mut bytes = 0;
    let mut seen = BTreeSet::new();
    let mut put = |bucket: &[u8], key: &[u8], value: &[u8]| -> Result<(), Failure> {
        if seen.insert(bucket.to_vec()) {
            batch.create_bucket(bucket);
        }
        bytes += key.len() + value.len();
        batch.put(bucket, Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        if batch.len() >= ROWS || bytes >= BYTES {
            bolt.commit(std::mem::take(&mut batch)).map_err(plain)?;
            bytes = 0;
        }
        Ok(())
    };
    let mut db = Db::default();
    let mut salvage = Salvage::of(run, dir, &pages);
    salvage.all(&mut |bucket, key, value| {
        if bucket == Bucket::Meta.name() {
            db.take(bucket, key, value);
        }
        put(bucket, key, value)
    })?;
    salvage.orphans(db.compacted)?;
    for (key, value) in &salvage.orphans {
        put(Bucket::Key.name(), key, value)?;
    }
    bolt.commit(batch).map_err(plain)?;
    bolt.sync().map_err(plain)?;
    drop(bolt);
    match open_db(run, to)?.check().map_err(plain)?.first() {
        None => Ok(()),
        Some(problem) => {
            Err(plain(format!("the new db is not sound: page {}: {}", problem.page, problem.what)))
        }
    }
}
