//! The one writer: opening a file, and committing to it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_env::{Disk, File, LockKind, OpenMode};

use crate::batch::{BucketOps, Change, Op};
use crate::error::{Error, Result, text};
use crate::free::FreeList;
use crate::ledger::{self, Identity, Ledger, Record, SumsAt, SumsFound};
use crate::meta::{self, Meta, NO_FREELIST};
use crate::output::Output;
use crate::page::{FLAG_BUCKET, FREELIST, Header, Kind, Page, encode};
use crate::pager::{OnDamage, Pager};
use crate::reader::find;
use crate::shrink::{LEFT_BEHIND_BYTES, Pass};
use crate::tx::{Outcome, Tx};
use crate::walk::{Walk, freelist_pages};
use crate::{Reader, WriteBatch};

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Page size of a file that is created, in bytes: a power of two from 1024 to 65,536. An
    /// existing file keeps its own.
    pub page_size: usize,
    /// Never sync (etcd's `--unsafe-no-fsync`): a power cut may lose the file.
    pub no_sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { page_size: 4096, no_sync: false }
    }
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// The transaction id now current.
    pub txid: u64,
    /// Pages written, meta included; 0 when the batch changed nothing.
    pub pages_written: u64,
    /// Bytes written, meta included.
    pub bytes_written: u64,
}

/// An open bolt file: its one writer and the source of its readers. The file stays open, and
/// locked, until the `Bolt` and the last of its readers are dropped.
pub struct Bolt {
    pub(crate) pager: Arc<Pager>,
    pub(crate) free: FreeList,
    /// The last committed state; it pins itself.
    pub(crate) current: Reader,
    /// Length of the file.
    pub(crate) file_len: u64,
    /// Pages of a free list that somebody else stored: in use until the first commit is durable,
    /// as the file still names them.
    stored_freelist: Option<(u64, u64)>,
    no_sync: bool,
    /// A write or sync failed.
    pub(crate) stopped: bool,
    /// The file is being shrunk.
    pub(crate) pass: Option<Pass>,
    /// Pages according to the meta before the current one, which a crash may fall back to; `None`
    /// until this writer has made one.
    pub(crate) high_water_before: Option<u64>,
    /// The file reaches behind what the current meta names, and not as room to grow.
    pub(crate) lowered: bool,
    /// Both metas as they are in the file.
    identity: Identity,
    ledger: Option<Ledger>,
    sums_found: SumsFound,
}

impl Bolt {
    /// Opens `path`, or creates it with bbolt's four first pages, and takes the exclusive lock
    /// ([`Error::Locked`] when another process has it). Walks every page to find the free ones.
    pub fn open(disk: &dyn Disk, path: &Path, options: Options) -> Result<Self> {
        Self::open_visiting(disk, path, options, b"", &mut |_, _| {})
    }

    /// As [`Bolt::open`], and calls `visit(key, value)` for every row of the top-level `bucket`,
    /// in key order, in the same pass over the file. A missing bucket has no rows. Rows may have
    /// been shown when a damaged page makes this fail.
    pub fn open_visiting(
        disk: &dyn Disk,
        path: &Path,
        options: Options,
        bucket: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Self> {
        Self::open_summed(disk, path, options, None, bucket, visit)
    }

    /// As [`Bolt::open_visiting`], and compares every page with its sum, as `sums` has them from
    /// the last time; what is committed is kept there, too. Without, or when they are not those
    /// of this file, every page is taken as it is: [`Bolt::sums_found`] tells. Trouble with them
    /// never makes this fail.
    pub fn open_summed(
        disk: &dyn Disk,
        path: &Path,
        options: Options,
        sums: Option<SumsAt>,
        bucket: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Self> {
        let fail = |doing: &str, source| Error::Disk {
            path: path.to_owned(),
            doing: doing.to_owned(),
            source,
        };
        let found = disk.metadata(path).map_err(|e| fail("look for the file", e))?;
        let file = match found {
            Some(found) if found.len > 0 => {
                let file = disk.open(path, OpenMode::ReadWrite).map_err(|e| fail("open", e))?;
                lock(&*file, path)?;
                file
            }
            _ => create(disk, path, options)?,
        };
        let meta = meta::choose(&*file, path)?;
        let file_len = file.len().map_err(|e| fail("length", e))?;
        let identity = Identity::new(&meta, meta::other(&*file, &meta).as_ref());
        let page_size = meta.page_size as usize;
        let kept = ledger::kept(sums.as_ref(), &meta, identity, path)?;
        let ledger = sums.map(|at| Ledger::new(at, page_size, kept.goes_on_at));
        let pager = Arc::new(Pager::new(path.to_owned(), file, page_size, kept.sums));
        let mut walk = Walk::new(&pager, meta, false).taking(kept.doubted);
        walk.run(bucket, visit)?;
        let mut free = FreeList::default();
        walk.unreached(|first, pages| {
            free.add(first, pages);
            pager.sums.clear(first, pages);
        });
        let sums_found = kept.found.counting(walk.differ());
        let stored_freelist = match meta.freelist {
            NO_FREELIST => None,
            id => Some((id, freelist_pages(&pager, &meta)?)),
        };
        let current = Reader::new(pager.clone(), meta, meta.high_water - free.pages());
        let lowered = file_len > current.size() + LEFT_BEHIND_BYTES;
        let mut bolt = Self {
            pager,
            free,
            current,
            file_len,
            stored_freelist,
            no_sync: options.no_sync,
            stopped: false,
            pass: None,
            high_water_before: None,
            lowered,
            identity,
            ledger,
            sums_found,
        };
        bolt.renew_ledger();
        Ok(bolt)
    }

    /// What the open found of the page sums.
    #[must_use]
    pub fn sums_found(&self) -> &SumsFound {
        &self.sums_found
    }

    /// Why page sums could not be kept lately, once. The file itself is not concerned.
    pub fn sums_failed(&mut self) -> Option<String> {
        self.ledger.as_mut()?.failure()
    }

    /// Has `tell` told of every damaged page that is met from now on, by whomever; the first such
    /// call counts.
    pub fn on_damage(&self, tell: OnDamage) {
        // A second one changes nothing.
        let _ = self.pager.on_damage.set(tell);
    }

    /// Writes the file of page sums anew when that is due.
    fn renew_ledger(&mut self) {
        let pages = self.current.meta().high_water;
        if let Some(ledger) = self.ledger.as_mut().filter(|ledger| ledger.is_to_be_written(pages)) {
            ledger.write(self.identity, &self.pager.sums, pages);
        }
    }

    /// The path that it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.pager.path
    }

    /// A snapshot of the last committed state. It pins pages until its last clone is dropped.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.current.clone()
    }

    /// Every run of pages that the current state does not reach: (first page, pages).
    pub(crate) fn free_runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.free.runs()
    }

    /// Writes the batch as one transaction; durable when this returns. A batch that changes
    /// nothing writes nothing.
    ///
    /// On an error nothing of it is visible to readers. After [`Error::Disk`] on a write or a
    /// sync the transaction may or may not be in the file, and every later commit answers
    /// [`Error::Stopped`]; after any other error the file is as before.
    pub fn commit(&mut self, batch: WriteBatch) -> Result<CommitStats> {
        self.commit_moving(batch, 0)
    }

    /// [`Bolt::commit`] which, while the file is being shrunk, also moves about `bytes` of pages,
    /// and writes a meta page when only that brings the end of the file down.
    pub fn commit_moving(&mut self, batch: WriteBatch, bytes: u64) -> Result<CommitStats> {
        if self.stopped {
            return Err(Error::Stopped { path: self.pager.path.clone() });
        }
        if let Some(Err(source)) = self.ledger.as_mut().map(Ledger::settle) {
            return Err(self.pager.disk("remove page sums that are not of this file", source));
        }
        let mut changes = batch.into_sorted()?;
        let live = self.pager.readers.lock().clone();
        let pager = self.pager.clone();
        self.free.release(&live, |first, pages| pager.evict(first, pages));
        let touched = self.plan_moves(&mut changes, bytes);
        let base = *self.current.meta();
        let mut tx = Tx {
            pager: &pager,
            base,
            free: &mut self.free,
            out: Output::new(&pager, &mut self.file_len, &mut self.stopped),
            high_water: base.high_water,
            low: self.pass.is_some(),
            written: Vec::new(),
            freed: Vec::new(),
            branches: Vec::new(),
            bucket: Bytes::new(),
        };
        let built = build(&mut tx, &self.current, &changes, touched);
        let Tx { out, high_water, written, mut freed, branches, .. } = tx;
        let (pages, sums) = (out.pages, out.sums);
        self.free.settle();
        let root = match built {
            Ok(Some(root)) => root,
            Ok(None) if bytes > 0 && self.lowers() => base.root,
            other => {
                self.give_back(&written, base.high_water);
                other?;
                self.cut()?;
                return Ok(CommitStats { txid: base.txid, ..CommitStats::default() });
            }
        };
        freed.extend(self.stored_freelist);
        let end = self.lowered_end(high_water);
        let next =
            Meta { root, freelist: NO_FREELIST, high_water: end, txid: base.txid + 1, ..base };
        self.make_durable(&next, &sums)?;
        self.stored_freelist = None;
        if end < high_water {
            self.free.cut(end);
            self.lowered = true;
        }
        self.high_water_before = Some(base.high_water);
        self.free.committed(next.txid, &live, &written, &freed);
        for page in branches {
            pager.keep(page);
        }
        self.current = Reader::new(pager, next, end - self.free.pages());
        self.cut()?;
        let bytes = (pages + 1) * u64::from(base.page_size);
        Ok(CommitStats { txid: next.txid, pages_written: pages + 1, bytes_written: bytes })
    }

    /// Makes everything written so far durable: for a file opened with `no_sync`.
    pub fn sync(&mut self) -> Result<()> {
        self.pager.file.sync().map_err(|source| {
            self.stopped = true;
            self.pager.disk("sync", source)
        })
    }

    /// Returns the pages of a transaction that will not be.
    fn give_back(&mut self, written: &[(u64, u64)], high_water: u64) {
        for &(first, pages) in written {
            self.pager.sums.clear(first, pages);
            if first < high_water {
                self.free.add(first, pages);
            }
        }
    }

    /// Syncs the data, then writes the meta page that names it, then syncs that. The sums of the
    /// data are noted before.
    fn make_durable(&mut self, meta: &Meta, sums: &[(u64, Vec<u32>)]) -> Result<()> {
        self.renew_ledger();
        let identity = Identity::new(meta, Some(self.current.meta()));
        if let Some(ledger) = &mut self.ledger {
            let mut record = Record::new(identity);
            sums.iter().for_each(|(first, sums)| record.run(*first, sums));
            ledger.append(record);
        }
        if !self.no_sync {
            self.sync()?;
        }
        let at = self.pager.offset(meta.slot());
        if let Err(source) = self.pager.file.write_at(at, &meta.page(meta.slot())) {
            self.stopped = true;
            return Err(self.pager.disk(format!("write of meta page {}", meta.slot()), source));
        }
        if !self.no_sync {
            self.sync()?;
        }
        self.identity = identity;
        Ok(())
    }
}

/// Builds the pages of a transaction and writes them; the new root, or `None` when nothing changed.
fn build(
    tx: &mut Tx<'_>,
    current: &Reader,
    changes: &BTreeMap<Bytes, BucketOps>,
    touched: Vec<Bytes>,
) -> Result<Option<u64>> {
    let mut top = BucketOps::default();
    let root = tx.pager.page(tx.base.root, tx.base.high_water)?;
    for (name, ops) in changes {
        let value = match find(current.pager(), tx.base.high_water, &root, name)? {
            Some((FLAG_BUCKET, value)) => Some(value),
            Some(_) => return Err(Error::Incompatible { bucket: text(name) }),
            None => None,
        };
        match tx.bucket(name, ops, value)? {
            Outcome::Same => {}
            Outcome::Value(value) => {
                top.ops.push(Op { key: name.clone(), change: Change::Put(value) });
            }
            Outcome::Gone => top.ops.push(Op { key: name.clone(), change: Change::Delete }),
        }
    }
    top.touch(touched);
    if top.ops.is_empty() {
        return Ok(None);
    }
    let root = tx.top(&top.ops)?;
    tx.out.flush()?;
    check_freed(tx)?;
    Ok(Some(root))
}

/// A page given up twice was referenced twice: damage since the file was opened.
fn check_freed(tx: &mut Tx<'_>) -> Result<()> {
    tx.freed.sort_unstable();
    for pair in tx.freed.windows(2) {
        if pair[0].0 + pair[0].1 > pair[1].0 {
            return Err(tx.pager.damaged(pair[1].0, "one reference to the page, there are more"));
        }
    }
    Ok(())
}

fn lock(file: &dyn File, path: &Path) -> Result<()> {
    match file.try_lock(LockKind::Flock) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::Locked { path: path.to_owned() }),
        Err(source) => Err(Error::Disk { path: path.to_owned(), doing: "lock".into(), source }),
    }
}

/// Makes a new file with the four pages that bbolt begins with (disk.md 4.2): under another name
/// until it is durable, so that a power cut leaves a whole file or none.
fn create(disk: &dyn Disk, path: &Path, options: Options) -> Result<Box<dyn File>> {
    let size = options.page_size;
    assert!(size.is_power_of_two() && (1024..=1 << 16).contains(&size), "page size {size}");
    // etcd removes `db.tmp.*` when it starts.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp.new");
    let temporary = PathBuf::from(temporary);
    let made = (|| -> io::Result<Box<dyn File>> {
        if disk.metadata(&temporary)?.is_some() {
            disk.remove_file(&temporary)?;
        }
        let file = disk.open(&temporary, OpenMode::CreateNew)?;
        file.write_at(0, &first_pages(size))?;
        file.sync()?;
        Ok(file)
    })();
    let fail = |source| Error::Disk { path: path.to_owned(), doing: "create".into(), source };
    let file = made.map_err(fail)?;
    lock(&*file, path)?;
    disk.rename(&temporary, path).map_err(fail)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    disk.sync_dir(parent.unwrap_or(Path::new("."))).map_err(fail)?;
    Ok(file)
}

fn first_pages(page_size: usize) -> Vec<u8> {
    let meta = Meta {
        page_size: page_size as u32,
        root: 3,
        sequence: 0,
        freelist: 2,
        high_water: 4,
        txid: 0,
    };
    let mut out = meta.page(0);
    out.extend(Meta { txid: 1, ..meta }.page(1));
    Header { id: 2, flags: FREELIST, count: 0, overflow: 0 }.write(&mut out);
    out.resize(3 * page_size, 0);
    encode(Kind::Leaf, 3, 0, &[], &mut out);
    out.resize(4 * page_size, 0);
    out
}

const _: () = {
    const fn sendable<T: Send + Sync>() {}
    sendable::<Reader>();
    sendable::<Bolt>();
    sendable::<Page>();
};
