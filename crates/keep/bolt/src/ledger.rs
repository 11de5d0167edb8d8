//! The file in which page sums outlive the process, beside the db.
//!
//! ```text
//! header: magic "mspages\0" | version u32 | page size u32 | cluster u64 | member u64 | crc32c u32
//! record: length of the body u32 | crc32c of the body u32 | body
//! body:   txid u64 | identity of its meta u64 | of the meta before u64 | runs
//! run:    first page u64 | pages u32 | sums, 4 B each (0: not known)
//! ```
//! The first record holds the whole table, each further one what a transaction
//! wrote. A record is appended when the transaction's pages are written and its
//! meta page is not: a killed process leaves a ledger that is level with the db or
//! one transaction ahead, and what that one wrote is free in the db that is found.
//!
//! It is never synced for a commit. After a power cut it may so lack the last
//! transactions: then nobody can tell a page that they wrote from a damaged one,
//! and the sums are dropped, as they are whenever the ledger does not fit the db.
//! It is believed only when its last record names both meta pages of the db as
//! they are found, so that a db which anything else has written is taken as it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use mainstay_env::{Disk, File, OpenMode};

use crate::error::{Error, Result};
use crate::meta::Meta;
use crate::sums::{Sums, UNKNOWN};

const MAGIC: &[u8; 8] = b"mspages\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 36;
/// Length and checksum in front of a record's body.
const FRAME_BYTES: usize = 8;
/// The fixed part of a body.
const IDENTITY_BYTES: usize = 24;
/// The fixed part of a run.
const RUN_BYTES: usize = 12;
/// Bytes of appended records at which the file is written anew, at least; also when they are
/// as many as the table's.
const APPENDED_BYTES: u64 = 1 << 20;
/// Commits after a failure until it is tried again.
const PATIENCE: u32 = 64;

/// Where page sums are kept, and whose they are.
#[derive(Clone)]
pub struct SumsAt {
    /// Where the file lies.
    pub disk: Arc<dyn Disk>,
    /// The file; its folder is made when it is missing.
    pub path: PathBuf,
    /// The cluster's id.
    pub cluster: u64,
    /// The member's id.
    pub member: u64,
}

impl SumsAt {
    /// The sums in a file, whosever they are; `None` when it is not there or cannot be used.
    #[must_use]
    pub fn found(disk: Arc<dyn Disk>, path: &Path) -> Option<SumsAt> {
        let mut bytes = [0; HEADER_BYTES];
        let file = disk.open(path, OpenMode::Read).ok()?;
        file.read_exact_at(0, &mut bytes).ok()?;
        let (said, mut sum) = bytes.split_at(HEADER_BYTES - 4);
        if !said.starts_with(MAGIC) || crc32c::crc32c(said) != sum.get_u32_le() {
            return None;
        }
        let mut ids = &said[HEADER_BYTES - 20..];
        let (cluster, member) = (ids.get_u64_le(), ids.get_u64_le());
        Some(SumsAt { disk, path: path.to_owned(), cluster, member })
    }
}

/// What an open found of the page sums that were kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SumsFound {
    /// None were asked for.
    #[default]
    NotKept,
    /// There were none yet: every page was taken as it is.
    None,
    /// They fit the db: every page was compared with its own.
    Fit,
    /// They do not fit the db, or cannot be read: every page was taken as it is.
    Dropped {
        /// Why.
        why: String,
        /// Pages that are not what the dropped sums say.
        differ: u64,
    },
}

impl SumsFound {
    /// With the number of pages that differ.
    pub(crate) fn counting(self, differing: u64) -> Self {
        match self {
            Self::Dropped { why, .. } => Self::Dropped { why, differ: differing },
            other => other,
        }
    }
}

/// Which state of which file: both metas, as far as they can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    txid: u64,
    meta: u64,
    /// 0 when it is not known.
    before: u64,
}

impl Identity {
    pub(crate) fn new(meta: &Meta, before: Option<&Meta>) -> Self {
        Self { txid: meta.txid, meta: meta.sum(), before: before.map_or(0, Meta::sum) }
    }

    fn fits(&self, found: &Identity) -> bool {
        let before = self.before == found.before || self.before == 0 || found.before == 0;
        self.txid == found.txid && self.meta == found.meta && before
    }
}

/// One record.
pub(crate) struct Record {
    body: Vec<u8>,
}

impl Record {
    pub(crate) fn new(of: Identity) -> Self {
        let mut body = Vec::with_capacity(IDENTITY_BYTES + RUN_BYTES);
        body.put_u64_le(of.txid);
        body.put_u64_le(of.meta);
        body.put_u64_le(of.before);
        Self { body }
    }

    pub(crate) fn run(&mut self, first: u64, sums: &[u32]) {
        self.body.put_u64_le(first);
        self.body.put_u32_le(sums.len() as u32);
        sums.iter().for_each(|sum| self.body.put_u32_le(*sum));
    }

    fn framed(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FRAME_BYTES + self.body.len());
        out.put_u32_le(u32::try_from(self.body.len()).expect("bounded by the table"));
        out.put_u32_le(crc32c::crc32c(&self.body));
        out.extend_from_slice(&self.body);
        out
    }
}

/// Page sums as an open begins with them.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) sums: Sums,
    /// Those that are not believed.
    pub(crate) doubted: Option<Sums>,
    /// Records may be appended there.
    pub(crate) goes_on_at: Option<End>,
    pub(crate) found: SumsFound,
}

/// Where records end, and with them the file.
#[derive(Clone, Copy)]
pub(crate) struct End {
    end: u64,
    /// Bytes of it behind the first record.
    appended: u64,
}

/// What was read of a ledger that is believed.
struct Read {
    sums: Sums,
    /// `None` when nothing may be appended.
    end: Option<End>,
}

/// Why a ledger is not believed, with what it says all the same.
struct Doubt {
    why: String,
    sums: Sums,
    /// The db's newest meta page is lost, and it was written over since.
    newest_lost: bool,
}

/// Reads the page sums that are kept for the db at `path`, whose state is `identity`.
///
/// # Errors
/// When they show that the db's newest meta page is lost.
pub(crate) fn kept(
    at: Option<&SumsAt>,
    meta: &Meta,
    identity: Identity,
    path: &Path,
) -> Result<Kept> {
    let Some(at) = at else { return Ok(Kept::default()) };
    let page_size = meta.page_size as usize;
    Ok(match read(at, page_size, meta.high_water, identity) {
        None => Kept { found: SumsFound::None, ..Kept::default() },
        Some(Ok(Read { sums, end })) => {
            Kept { sums, goes_on_at: end, found: SumsFound::Fit, ..Kept::default() }
        }
        Some(Err(doubt)) if doubt.newest_lost => {
            let page = 1 - meta.slot();
            let (why, txid) = (doubt.why, meta.txid);
            return Err(Error::Damaged {
                path: path.to_owned(),
                page,
                offset: page * u64::from(meta.page_size),
                expected: format!("the meta of a later transaction than {txid} expected: {why}"),
            });
        }
        Some(Err(doubt)) => {
            let Doubt { why, sums, .. } = *doubt;
            let found = SumsFound::Dropped { why, differ: 0 };
            Kept { doubted: Some(sums), found, ..Kept::default() }
        }
    })
}

/// Reads the ledger at `at` for a db of which `found` is the state and `pages` the end. `None`
/// when there is none.
fn read(
    at: &SumsAt,
    page_size: usize,
    pages: u64,
    found: Identity,
) -> Option<std::result::Result<Read, Box<Doubt>>> {
    let doubt = |why: String| Box::new(Doubt { why, sums: Sums::default(), newest_lost: false });
    let bytes = match read_file(at, pages) {
        Ok(bytes) => bytes?,
        Err(error) => return Some(Err(doubt(format!("cannot be read: {error}")))),
    };
    if let Err(why) = check_header(&bytes, at, page_size) {
        return Some(Err(doubt(why)));
    }
    Some(replay(&bytes, pages, found))
}

fn read_file(at: &SumsAt, pages: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(there) = at.disk.metadata(&at.path)? else { return Ok(None) };
    // The table, as much of records, and what may come on top in one commit.
    let most = 16 * (pages + 1) + 4 * APPENDED_BYTES;
    if there.is_dir || there.len > most {
        let text = format!("{} bytes, {most} at most expected", there.len);
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let file = at.disk.open(&at.path, OpenMode::Read)?;
    let mut bytes = vec![0; usize::try_from(there.len).expect("bounded above")];
    file.read_exact_at(0, &mut bytes)?;
    Ok(Some(bytes))
}

fn header(at: &SumsAt, page_size: usize) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.put_u32_le(VERSION);
    out.put_u32_le(page_size as u32);
    out.put_u64_le(at.cluster);
    out.put_u64_le(at.member);
    let sum = crc32c::crc32c(&out);
    out.put_u32_le(sum);
    out
}

fn check_header(bytes: &[u8], at: &SumsAt, page_size: usize) -> std::result::Result<(), String> {
    let Some(found) = bytes.get(..HEADER_BYTES) else {
        return Err(format!("{} bytes, shorter than its header", bytes.len()));
    };
    if found == header(at, page_size) {
        return Ok(());
    }
    let (said, mut sum) = found.split_at(HEADER_BYTES - 4);
    if !said.starts_with(MAGIC) || crc32c::crc32c(said) != sum.get_u32_le() {
        return Err("its header is damaged".to_owned());
    }
    Err("it is of another version, page size, cluster or member".to_owned())
}

/// Goes through the records. Those behind the one that fits must be attempts at the next
/// transaction, none of which is in the db.
fn replay(bytes: &[u8], pages: u64, found: Identity) -> std::result::Result<Read, Box<Doubt>> {
    let sums = Sums::default();
    let (mut rest, mut first_end) = (&bytes[HEADER_BYTES..], 0);
    // One that fits has come, and the last one does.
    let (mut fits, mut level) = (false, false);
    let mut last = None;
    while let Some((body, after)) = next_record(rest) {
        let Some(identity) = apply(body, pages, &sums) else { break };
        level = identity.fits(&found);
        fits = level || (fits && identity.txid == found.txid.wrapping_add(1));
        last = Some(identity.txid);
        rest = after;
        if first_end == 0 {
            first_end = bytes.len() - rest.len();
        }
    }
    if level && rest.is_empty() {
        let end = bytes.len() as u64;
        let end = End { end, appended: end - first_end as u64 };
        return Ok(Read { sums, end: Some(end) });
    }
    if fits {
        // What was appended last was for a transaction that is not in the db, whole or torn. It
        // must not stay: the next one has the same number and may have the same meta page, and
        // would be taken for it, should its own record be lost.
        return Ok(Read { sums, end: None });
    }
    let Identity { txid, before, .. } = found;
    let why = match last {
        None => "its first record is damaged".to_owned(),
        Some(last) => format!(
            "it ends at transaction {last}{}, the db is at {txid}",
            if rest.is_empty() { "" } else { " (what follows is damaged)" }
        ),
    };
    let newest_lost = before == 0 && last.is_some_and(|last| last > txid.saturating_add(1));
    Err(Box::new(Doubt { why, sums, newest_lost }))
}

/// The body of the next record, when it is whole, and what follows.
fn next_record(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut frame, after) = rest.split_at_checked(FRAME_BYTES)?;
    let (len, sum) = (frame.get_u32_le() as usize, frame.get_u32_le());
    let (body, after) = after.split_at_checked(len)?;
    (body.len() >= IDENTITY_BYTES && crc32c::crc32c(body) == sum).then_some((body, after))
}

/// Enters a record's sums; `None` when it is not what a record is.
fn apply(mut body: &[u8], pages: u64, sums: &Sums) -> Option<Identity> {
    let (txid, meta, before) = (body.get_u64_le(), body.get_u64_le(), body.get_u64_le());
    while !body.is_empty() {
        let (mut run, after) = body.split_at_checked(RUN_BYTES)?;
        let (first, count) = (run.get_u64_le(), u64::from(run.get_u32_le()));
        let (mut list, after) = after.split_at_checked(usize::try_from(count * 4).ok()?)?;
        // The end of the file may have come down since.
        for id in (first..first.checked_add(count)?).take_while(|id| *id < pages) {
            sums.set(id, list.get_u32_le());
        }
        body = after;
    }
    Some(Identity { txid, meta, before })
}

/// The open file, which grows with every commit.
pub(crate) struct Ledger {
    at: SumsAt,
    page_size: usize,
    /// `None` while it must be written anew before anything is appended.
    file: Option<Box<dyn File>>,
    end: u64,
    /// Bytes behind the first record.
    appended: u64,
    /// Commits until it is tried again, after a failure.
    patience: u32,
    /// One that may say what is not so could not be removed.
    stays: bool,
    /// What the last failure was, until somebody asks.
    failure: Option<String>,
}

impl Ledger {
    /// Goes on with what was read, or from nothing.
    pub(crate) fn new(at: SumsAt, page_size: usize, goes_on_at: Option<End>) -> Self {
        let mut ledger = Self {
            at,
            page_size,
            file: None,
            end: 0,
            appended: 0,
            patience: 0,
            stays: false,
            failure: None,
        };
        if let Some(End { end, appended }) = goes_on_at {
            match ledger.at.disk.open(&ledger.at.path, OpenMode::ReadWrite) {
                Ok(file) => ledger.file = Some(file),
                Err(error) => ledger.fail(&error),
            }
            (ledger.end, ledger.appended) = (end, appended);
        }
        ledger
    }

    /// Whether it must be written anew, because there is none, or for its length.
    pub(crate) fn is_to_be_written(&self, pages: u64) -> bool {
        self.patience == 0
            && (self.file.is_none()
                || self.appended > APPENDED_BYTES.max(4 * pages)
                // The db has become much smaller.
                || self.end > 2 * APPENDED_BYTES + 12 * pages)
    }

    /// Writes it anew: the table for the state `of` a db of so many pages.
    pub(crate) fn write(&mut self, of: Identity, sums: &Sums, pages: u64) {
        let mut record = Record::new(of);
        let table: Vec<u32> = (0..pages).map(|id| sums.get(id)).collect();
        // Free stretches are left out.
        let mut first = 0;
        for run in table.chunk_by(|a, b| (*a == UNKNOWN) == (*b == UNKNOWN)) {
            if run[0] != UNKNOWN {
                record.run(first, run);
            }
            first += run.len() as u64;
        }
        let mut bytes = header(&self.at, self.page_size);
        bytes.extend(record.framed());
        self.file = None;
        match self.replace(&bytes) {
            Ok(file) => {
                (self.end, self.appended) = (bytes.len() as u64, 0);
                self.file = Some(file);
            }
            Err(error) => {
                // The old one may tell of a transaction that is not in the db.
                self.stays = self.remove().is_err();
                self.fail(&error);
            }
        }
    }

    /// Makes sure that nothing lies there that might be taken for what the next transaction
    /// writes: asked before each.
    ///
    /// # Errors
    /// When it lies there and cannot be removed, power cuts included.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if self.stays {
            self.remove()?;
            self.stays = false;
        }
        Ok(())
    }

    /// Whatever the power does from now on, it does not come back.
    fn remove(&self) -> io::Result<()> {
        let SumsAt { disk, path, .. } = &self.at;
        // A folder in its place says nothing.
        if disk.metadata(path)?.is_some_and(|there| !there.is_dir) {
            disk.remove_file(path)?;
        }
        match disk.metadata(self.folder())? {
            Some(_) => disk.sync_dir(self.folder()),
            None => Ok(()),
        }
    }

    fn folder(&self) -> &Path {
        let folder = self.at.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<Box<dyn File>> {
        let SumsAt { disk, path, .. } = &self.at;
        let folder = self.folder();
        if disk.metadata(folder)?.is_none() {
            disk.create_dir_all(folder)?;
            disk.sync_dir(folder.parent().unwrap_or(Path::new(".")))?;
        }
        let temporary = path.with_extension("tmp");
        if disk.metadata(&temporary)?.is_some() {
            disk.remove_file(&temporary)?;
        }
        let file = disk.open(&temporary, OpenMode::CreateNew)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        disk.rename(&temporary, path)?;
        disk.sync_dir(folder)?;
        Ok(file)
    }

    /// Appends what a transaction wrote. Its meta page is not written yet.
    pub(crate) fn append(&mut self, record: Record) {
        self.patience = self.patience.saturating_sub(1);
        let Some(file) = &self.file else { return };
        let bytes = record.framed();
        match file.write_at(self.end, &bytes) {
            Ok(()) => {
                self.end += bytes.len() as u64;
                self.appended += bytes.len() as u64;
            }
            Err(error) => self.fail(&error),
        }
    }

    /// The db goes on without: what lies there is of an older transaction, and so not believed.
    fn fail(&mut self, error: &io::Error) {
        self.file = None;
        self.patience = PATIENCE;
        self.failure = Some(format!("{}: {error}", self.at.path.display()));
    }

    /// Why it could not be written, once.
    pub(crate) fn failure(&mut self) -> Option<String> {
        self.failure.take()
    }
}
