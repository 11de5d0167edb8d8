//! The backend itself: what is committed, what waits, and how one becomes the other.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mainstay_bolt::{Bolt, OnDamage, Options, Reader, WriteBatch};
use mainstay_env::Disk;
use mainstay_failpoints::fail_point;
use mainstay_types::{ClusterId, Index, MemberId, Revision, Term};
use parking_lot::Mutex;

use crate::batch::{Batch, OtherRow};
use crate::bucket::{Bucket, meta};
use crate::chunk::{Chunk, Overlay};
use crate::codec::{BadRevision, decode_revision, encode_revision};
use crate::view::BackendView;

mod space;
mod sums;

/// Why the backend cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The file.
    #[error(transparent)]
    Bolt(#[from] mainstay_bolt::Error),
    /// A key of the `key` bucket.
    #[error("{0}: the file was damaged or written by something else")]
    Revision(#[from] BadRevision),
    /// A row whose value cannot be read.
    #[error("row {key:?} of bucket {bucket:?} cannot be read: {why}")]
    Row {
        /// The bucket.
        bucket: String,
        /// The key, quoted.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file was exchanged for a defragmented one, which could not be taken up.
    #[error("{}: a defragmented file took its place and could not be opened", path.display())]
    Exchanged {
        /// The file.
        path: PathBuf,
    },
    /// The file system, while files are exchanged.
    #[error("failed to {doing} {path}: {source}")]
    Disk {
        /// What was attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// How to open.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// `--unsafe-no-fsync`.
    pub no_sync: bool,
    /// Where the checksums of pages are kept; without, a page is only compared with what it was
    /// when the file was opened.
    pub sums: Option<SumsPlace>,
}

/// Where the checksums of the file's pages are kept, and whose they are.
#[derive(Clone, Debug)]
pub struct SumsPlace {
    /// The file, `member/mainstay/pages` of the data directory.
    pub path: PathBuf,
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
}

/// What the `meta` bucket holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Index of the last entry whose rows are in the file; 0 before the first.
    pub applied: Index,
    /// Its term; 0 when it was never written (before 3.5).
    pub term: Term,
    /// Go's JSON of the raft configuration.
    pub conf_state: Option<Bytes>,
    /// The schema's version as text, from 3.6 on.
    pub storage_version: Option<Bytes>,
    /// The compaction that was last begun.
    pub scheduled_compaction: Option<i64>,
    /// The compaction that was last finished.
    pub finished_compaction: Option<i64>,
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Rows and deletions of it.
    pub ops: usize,
    /// Bytes written to the file, moved pages included.
    pub bytes_written: u64,
    /// The entry up to which everything is in the file now.
    pub applied: Index,
}

/// The store of one member; clones share it.
#[derive(Clone)]
pub struct Backend(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    options: OpenOptions,
    front: Mutex<Front>,
    /// Told of damaged pages, of this file and those that take its place.
    on_damage: OnceLock<OnDamage>,
    /// Asked for every write, so beside the lock.
    sizes: Sizes,
    /// Locked before `front`, by whoever commits.
    /// `None` once the file was exchanged and the new one could not be taken up.
    writer: Mutex<Option<Bolt>>,
}

/// Sizes of the committed file in bytes.
struct Sizes {
    file: AtomicU64,
    in_use: AtomicU64,
}

impl Sizes {
    fn of(reader: &Reader) -> Sizes {
        Sizes { file: AtomicU64::new(reader.size()), in_use: AtomicU64::new(reader.in_use()) }
    }

    fn set(&self, reader: &Reader) {
        self.file.store(reader.size(), Ordering::Relaxed);
        self.in_use.store(reader.in_use(), Ordering::Relaxed);
    }
}

fn key_bucket(reader: &Reader) -> Result<mainstay_bolt::Bucket, BackendError> {
    reader.bucket(Bucket::Key.name())?.ok_or_else(|| BackendError::Row {
        bucket: "key".into(),
        key: String::new(),
        why: "the bucket is gone".into(),
    })
}

/// What readers and the apply thread share with the committer. Locked for moments.
struct Front {
    reader: Reader,
    /// Bucket `key` of it: looked up once per commit, not once per read.
    keys: mainstay_bolt::Bucket,
    overlay: Overlay,
    /// Whether the newest chunk may still grow: not once a commit has taken it.
    open: bool,
    others: Vec<OtherRow>,
    applied: (Index, Term),
    /// Index of the last entry whose rows are in the file.
    committed: Index,
    ops: usize,
}

impl Backend {
    /// Opens the db, or makes it with etcd's buckets, and shows `visit` every row of
    /// the `key` bucket, in order.
    ///
    /// # Errors
    /// When the disk fails, another process has the file, or it is damaged.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        options: OpenOptions,
        visit: &mut dyn FnMut(Revision, bool, &[u8]),
    ) -> Result<Backend, BackendError> {
        clear_away(&*disk, path)?;
        let (bolt, front) = open_file(&disk, path, &options, visit)?;
        let sizes = Sizes::of(&front.reader);
        let path = path.to_owned();
        let (front, writer) = (Mutex::new(front), Mutex::new(Some(bolt)));
        let on_damage = OnceLock::new();
        Ok(Backend(Arc::new(Inner { disk, path, options, front, on_damage, sizes, writer })))
    }

    /// Takes the rows of the next entry. Never waits for the disk.
    pub fn append(&self, batch: Batch) {
        fail_point!("beforeWritebackBuf");
        let mut front = self.0.front.lock();
        assert!(batch.applied.0 >= front.applied.0, "entries are applied in order");
        front.applied = batch.applied;
        // The applied index itself is worth a commit, in time.
        front.ops += batch.len().max(1);
        let open = front.open;
        if !batch.rows.is_empty() {
            front.overlay.append(batch.rows, open);
            front.open = true;
        }
        front.others.extend(batch.others);
        drop(front);
        fail_point!("afterWritebackBuf");
    }

    /// A view of everything appended so far.
    pub fn snapshot(&self) -> BackendView {
        let front = self.0.front.lock();
        BackendView {
            reader: front.reader.clone(),
            keys: front.keys.clone(),
            overlay: front.overlay.clone(),
        }
    }

    /// The encoded `KeyValue` put at exactly this revision.
    ///
    /// # Errors
    /// When the disk fails or a page is damaged.
    pub fn value(&self, revision: Revision) -> Result<Option<Bytes>, BackendError> {
        self.snapshot().value(revision)
    }

    /// Rows, deletions and bare index moves that wait for a commit.
    pub fn pending_ops(&self) -> usize {
        self.0.front.lock().ops
    }

    /// Read transactions that are open on the file: the one that new views share, and
    /// older ones that are still in use.
    pub fn open_readers(&self) -> usize {
        self.0.front.lock().reader.open_snapshots()
    }

    /// The entry up to which rows have been appended.
    pub fn applied(&self) -> (Index, Term) {
        self.0.front.lock().applied
    }

    /// The entry up to which everything is in the file.
    pub fn committed(&self) -> Index {
        self.0.front.lock().committed
    }

    /// Commits everything appended so far as one transaction, with the index and
    /// term it came from, then lets readers see it in the file.
    ///
    /// # Errors
    /// After [`mainstay_bolt::Error::Full`] everything still waits, and a later commit
    /// tries again. After any other error nothing more can be committed: the log has it
    /// all, and the member must stop.
    pub fn commit(&self) -> Result<CommitStats, BackendError> {
        self.commit_moving(0)
    }

    fn open_writer<'w>(&self, writer: &'w mut Option<Bolt>) -> Result<&'w mut Bolt, BackendError> {
        writer.as_mut().ok_or_else(|| BackendError::Exchanged { path: self.0.path.clone() })
    }

    /// `moving` bytes of the file are moved on the way, while it is being shrunk.
    fn commit_locked(&self, bolt: &mut Bolt, moving: u64) -> Result<CommitStats, BackendError> {
        fail_point!("beforeStartDBTxn");
        let (chunks, others, applied, ops) = {
            let mut front = self.0.front.lock();
            front.open = false;
            let ops = std::mem::take(&mut front.ops);
            let others = std::mem::take(&mut front.others);
            let chunks = front.overlay.oldest(front.overlay.len()).to_vec();
            (chunks, others, front.applied, ops)
        };
        if ops == 0 && moving == 0 {
            return Ok(CommitStats { ops, bytes_written: 0, applied: applied.0 });
        }
        fail_point!("afterStartDBTxn");
        let taken = chunks.len();
        // Here the applied index goes in, which etcd's hook adds.
        fail_point!("commitBeforePreCommitHook");
        let batch = match ops {
            0 => WriteBatch::new(),
            _ => write_batch(&chunks, &others, applied),
        };
        fail_point!("commitAfterPreCommitHook");
        fail_point!("beforeCommit");
        let result = bolt.commit_moving(batch, moving).map_err(Into::into);
        fail_point!("afterCommit");
        let reader = bolt.reader();
        let taken_up = result.and_then(|did| Ok((did.bytes_written, key_bucket(&reader)?)));
        let mut front = self.0.front.lock();
        let bytes_written = match taken_up {
            Ok((bytes, keys)) => {
                front.keys = keys;
                bytes
            }
            Err(error) => {
                // A full disk may be tried again: nothing may be missing then.
                let later = std::mem::replace(&mut front.others, others);
                front.others.extend(later);
                front.ops += ops;
                return Err(error);
            }
        };
        self.0.sizes.set(&reader);
        let before = std::mem::replace(&mut front.reader, reader);
        front.overlay.forget(taken);
        front.committed = applied.0;
        drop(front);
        // Many rows: freed without the lock.
        drop((before, chunks));
        Ok(CommitStats { ops, bytes_written, applied: applied.0 })
    }

    /// Puts a file that another member sent in the place of this one and goes on with it:
    /// what was appended and not committed is forgotten, because `received` has all of it.
    /// Shows `visit` every row of its `key` bucket. Views keep reading the old file.
    ///
    /// The caller has synced `received`, and noted the snapshot it belongs to in the log,
    /// so that a start after a crash between the two names finishes the exchange.
    ///
    /// # Errors
    /// When the disk fails or the file is damaged; nothing more can be committed then.
    pub fn exchange(
        &self,
        received: &Path,
        visit: &mut dyn FnMut(Revision, bool, &[u8]),
    ) -> Result<(), BackendError> {
        let mut writer = self.0.writer.lock();
        let inner = &*self.0;
        // From here on the old file has no name.
        *writer = None;
        inner.forget_sums()?;
        inner.disk.rename(received, &inner.path).map_err(|e| fail("rename", received, e))?;
        let folder = folder_of(&inner.path);
        inner.disk.sync_dir(folder).map_err(|e| fail("sync", folder, e))?;
        let (bolt, fresh) = open_file(&inner.disk, &inner.path, &inner.options, visit)?;
        inner.tell_of_damage(&bolt);
        inner.sizes.set(&fresh.reader);
        let before = std::mem::replace(&mut *inner.front.lock(), fresh);
        *writer = Some(bolt);
        drop(before);
        Ok(())
    }

    /// The file's used length in bytes (etcd's `DbSize`).
    pub fn size(&self) -> u64 {
        self.0.sizes.file.load(Ordering::Relaxed)
    }

    /// The part of it that holds something (etcd's `DbSizeInUse`).
    pub fn size_in_use(&self) -> u64 {
        self.0.sizes.in_use.load(Ordering::Relaxed)
    }

    /// The committed `meta` bucket.
    ///
    /// # Errors
    /// When the disk fails or a row has another form.
    pub fn meta(&self) -> Result<Meta, BackendError> {
        read_meta(&self.snapshot().reader)
    }

    /// Committed rows of a bucket, in order.
    ///
    /// # Errors
    /// When the disk fails or a page is damaged.
    pub fn rows_of(&self, bucket: Bucket) -> Result<Vec<(Bytes, Bytes)>, BackendError> {
        let reader = self.snapshot().reader;
        if reader.bucket(bucket.name())?.is_none() {
            return Ok(Vec::new());
        }
        let mut cursor = reader.cursor(bucket.name())?;
        let mut rows = Vec::new();
        let mut next = cursor.first()?;
        while let Some(row) = next {
            rows.push(row);
            next = cursor.next()?;
        }
        Ok(rows)
    }
}

/// Opens the file, or makes it with etcd's buckets, with nothing appended yet.
fn open_file(
    disk: &Arc<dyn Disk>,
    path: &Path,
    options: &OpenOptions,
    visit: &mut dyn FnMut(Revision, bool, &[u8]),
) -> Result<(Bolt, Front), BackendError> {
    let mut bad = None;
    let mut show = |key: &[u8], value: &[u8]| match decode_revision(key) {
        Ok((revision, tombstone)) => visit(revision, tombstone, value),
        Err(error) => bad = Some(error),
    };
    let (sums, name) = (options.sums_at(disk), Bucket::Key.name());
    let mut bolt = Bolt::open_summed(&**disk, path, bolt_options(options), sums, name, &mut show)?;
    if let Some(error) = bad {
        return Err(error.into());
    }
    make_buckets(&mut bolt)?;
    let reader = bolt.reader();
    let meta = read_meta(&reader)?;
    let front = Front {
        keys: key_bucket(&reader)?,
        reader,
        overlay: Overlay::default(),
        open: false,
        others: Vec::new(),
        applied: (meta.applied, meta.term),
        committed: meta.applied,
        ops: 0,
    };
    Ok((bolt, front))
}

/// How the names of files on their way begin.
const ON_ITS_WAY: &str = "db.tmp.";

fn fail(doing: &'static str, path: &Path, source: std::io::Error) -> BackendError {
    BackendError::Disk { doing, path: path.to_owned(), source }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes what a defragmentation left behind that did not come to its end.
fn clear_away(disk: &dyn Disk, path: &Path) -> Result<(), BackendError> {
    let folder = folder_of(path);
    let names = disk.list(folder).map_err(|e| fail("list", folder, e))?;
    for name in names.iter().filter(|name| name.starts_with(ON_ITS_WAY)) {
        let left = folder.join(name);
        disk.remove_file(&left).map_err(|e| fail("remove", &left, e))?;
    }
    Ok(())
}

fn bolt_options(options: &OpenOptions) -> Options {
    Options { no_sync: options.no_sync, ..Options::default() }
}

fn make_buckets(bolt: &mut Bolt) -> Result<(), BackendError> {
    let have = bolt.reader().buckets()?;
    let mut batch = WriteBatch::new();
    for bucket in Bucket::ALL {
        if !have.iter().any(|name| name == bucket.name()) {
            batch.create_bucket(bucket.name());
        }
    }
    if !batch.is_empty() {
        bolt.commit(batch)?;
    }
    Ok(())
}

fn write_batch(
    chunks: &[Arc<Chunk>],
    others: &[OtherRow],
    (index, term): (Index, Term),
) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for chunk in chunks {
        chunk.for_each(|row| {
            let key = encode_revision(row.revision, row.tombstone);
            batch.put(Bucket::Key.name(), key, row.value.clone());
        });
    }
    for OtherRow { bucket, key, value } in others {
        match value {
            Some(value) => batch.put(bucket.name(), key.clone(), value.clone()),
            None => batch.delete(bucket.name(), key.clone()),
        }
    }
    let number = |n: u64| Bytes::copy_from_slice(&n.to_be_bytes());
    let name = Bucket::Meta.name();
    batch.put(name, Bytes::from_static(meta::CONSISTENT_INDEX), number(index.0));
    if term.0 > 0 {
        batch.put(name, Bytes::from_static(meta::TERM), number(term.0));
    }
    batch
}

fn read_meta(reader: &Reader) -> Result<Meta, BackendError> {
    let get = |key: &[u8]| reader.get(Bucket::Meta.name(), key);
    let bad = |key: &[u8], why: String| BackendError::Row {
        bucket: "meta".into(),
        key: String::from_utf8_lossy(key).into_owned(),
        why,
    };
    let number = |key: &[u8]| -> Result<u64, BackendError> {
        let Some(value) = get(key)? else { return Ok(0) };
        let bytes = value.as_ref().try_into();
        let bytes = bytes.map_err(|_| bad(key, format!("{} bytes, not 8", value.len())))?;
        Ok(u64::from_be_bytes(bytes))
    };
    let revision = |key: &[u8]| -> Result<Option<i64>, BackendError> {
        let Some(value) = get(key)? else { return Ok(None) };
        let (revision, _) = decode_revision(&value).map_err(|e| bad(key, e.to_string()))?;
        Ok(Some(revision.main))
    };
    Ok(Meta {
        applied: Index(number(meta::CONSISTENT_INDEX)?),
        term: Term(number(meta::TERM)?),
        conf_state: get(meta::CONF_STATE)?,
        storage_version: get(meta::STORAGE_VERSION)?,
        scheduled_compaction: revision(meta::SCHEDULED_COMPACT_REV)?,
        finished_compaction: revision(meta::FINISHED_COMPACT_REV)?,
    })
}
