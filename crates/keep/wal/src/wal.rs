//! Writing the log.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_env::{Disk, File, LockKind, OpenMode};
use mainstay_raft::{Entry, EntryKind, HardState};
use mainstay_types::Index;
use mainstay_types::limits::WAL_SEGMENT_BYTES;

use crate::error::{Doing, WalError};
use crate::name::{self, SegmentName};
use crate::record::{Encoder, Metadata, SnapshotMark};
use crate::replay::{self, Opened, Replay};
use crate::segment::{Segment, SegmentEnd};

/// A segment that is longer than it was meant to be grows by so many bytes.
const GROW_BYTES: u64 = 256 << 10;
/// What an idle log keeps of its buffer, in bytes. A larger save gives its
/// memory back.
const BUFFER_KEEP_BYTES: usize = 1 << 20;

/// How a log is written.
#[derive(Clone, Copy, Debug)]
pub struct WalOptions {
    /// A segment is cut when it has this many bytes; etcd's 64,000,000.
    pub segment_bytes: u64,
    /// Off only for etcd's `--unsafe-no-fsync`: a power cut then loses data.
    pub sync: bool,
}

impl Default for WalOptions {
    fn default() -> WalOptions {
        WalOptions { segment_bytes: WAL_SEGMENT_BYTES, sync: true }
    }
}

/// A log that is open for writing. It has one owner, the log thread.
///
/// After a failed write or sync it takes nothing more: nobody knows what is on
/// the disk. A disk without room is no such failure: see [`Wal::when_full`].
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WalOptions,
    metadata: Metadata,
    /// The newest hard state that was given to us.
    hard_state: HardState,
    /// The newest hard state in the log; only the commit index may lag.
    written_state: HardState,
    last_index: Index,
    /// Segments whose lock we hold, oldest first; the last is written to.
    segments: VecDeque<Segment>,
    /// Bytes of valid records in the last segment.
    offset: u64,
    /// Bytes of the last segment that the disk has given us.
    allocated: u64,
    /// What is encoded and not on the disk yet; something only when the disk was full.
    encoder: Encoder,
    /// Where in the encoder's buffer each write ends that found no room yet. Each keeps a sync
    /// of its own: by that, damage is told from a torn tail.
    waiting: VecDeque<usize>,
    prepared: Option<Prepared>,
    /// How many temporary names were used; they alternate.
    temporaries: u64,
    failed: bool,
    observer: Option<Observer>,
    when_full: Option<WhenFull>,
    /// The last segment grows on instead of being cut.
    grows: bool,
}

/// What is told of each save, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The write begins.
    Write,
    /// So many bytes are with the system; the sync begins, if there is one.
    Sync(usize),
    /// They are on the disk.
    Done,
}

/// Is told of each step of each save.
pub type Observer = Box<dyn FnMut(Step) + Send>;

/// Is told that the disk has no room for what is to be written, and says whether to try
/// again.
pub type WhenFull = Box<dyn FnMut(&WalError) -> bool + Send>;

/// The next segment under its temporary name, filled with zeros.
struct Prepared {
    path: PathBuf,
    file: Box<dyn File>,
}

impl Wal {
    /// Makes a log with a first segment that says whose it is. It appears as a
    /// whole: it is built in `DIR.tmp` and renamed.
    ///
    /// # Errors
    /// When there is a log already, or the disk fails.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, metadata: Metadata) -> Result<Wal, WalError> {
        Wal::create_with(disk, dir, metadata, WalOptions::default())
    }

    /// [`Wal::create`] with other options.
    ///
    /// # Errors
    /// As there.
    pub fn create_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        metadata: Metadata,
        options: WalOptions,
    ) -> Result<Wal, WalError> {
        if replay::exists(&*disk, dir)? {
            return Err(WalError::Exists { dir: dir.to_owned() });
        }
        let building = with_suffix(dir, ".tmp");
        if disk.metadata(&building).doing("look at", &building)?.is_some() {
            disk.remove_dir_all(&building).doing("remove", &building)?;
        }
        disk.create_dir_all(&building).doing("create", &building)?;
        let name = SegmentName { seq: 0, first: Index(0) };
        let path = building.join(name.to_string());
        let file = disk.open(&path, OpenMode::CreateNew).doing("create", &path)?;
        lock(&*file, &path)?;
        file.allocate(options.segment_bytes).doing("reserve space for", &path)?;

        let mut encoder = Encoder::new(0);
        encoder.crc();
        encoder.metadata(metadata);
        encoder.snapshot(&SnapshotMark::default());
        file.write_at(0, &encoder.buffer).doing("write", &path)?;
        let offset = encoder.buffer.len() as u64;
        encoder.buffer.clear();
        file.sync().doing("sync", &path)?;
        disk.sync_dir(&building).doing("sync", &building)?;
        if disk.metadata(dir).doing("look at", dir)?.is_some() {
            disk.remove_dir_all(dir).doing("remove", dir)?;
        }
        disk.rename(&building, dir).doing("rename", &building)?;
        let parent = match dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => Path::new("/"),
        };
        disk.sync_dir(parent).doing("sync", parent)?;

        let path = dir.join(name.to_string());
        Ok(Wal {
            disk,
            dir: dir.to_owned(),
            options,
            metadata,
            hard_state: HardState::default(),
            written_state: HardState::default(),
            last_index: Index(0),
            segments: VecDeque::from([Segment { name, path, file }]),
            offset,
            allocated: options.segment_bytes.max(offset),
            encoder,
            waiting: VecDeque::new(),
            prepared: None,
            temporaries: 0,
            failed: false,
            observer: None,
            when_full: None,
            grows: false,
        })
    }

    /// Opens a log for writing and reads what it says behind the snapshot `from`
    /// ([`SnapshotMark::default`] for the beginning). A torn tail is copied to
    /// `NAME.wal.broken` and cut off.
    ///
    /// # Errors
    /// When the log is damaged, incomplete, locked by another process, or does not
    /// know the snapshot; nothing is changed then. Or when the disk fails.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: &SnapshotMark,
    ) -> Result<(Wal, Replay), WalError> {
        Wal::open_with(disk, dir, from, WalOptions::default())
    }

    /// [`Wal::open`] with other options.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: &SnapshotMark,
        options: WalOptions,
    ) -> Result<(Wal, Replay), WalError> {
        let Opened { segments, mut replay, end, last_index } = replay::open(&disk, dir, from)?;
        let tail = segments.last().expect("a log has at least one segment");
        let copy = clean_tail(&*disk, dir, tail, &end)?;
        if let Some(torn) = &mut replay.torn_tail {
            torn.copy = copy;
        }
        let allocated = tail.file.len().doing("measure", &tail.path)?;
        let wal = Wal {
            disk,
            dir: dir.to_owned(),
            options,
            metadata: replay.metadata,
            hard_state: replay.hard_state,
            written_state: replay.hard_state,
            last_index,
            segments: segments.into(),
            offset: end.offset,
            allocated,
            encoder: Encoder::new(end.crc),
            waiting: VecDeque::new(),
            prepared: None,
            temporaries: 0,
            failed: false,
            observer: None,
            when_full: None,
            grows: false,
        };
        Ok((wal, replay))
    }

    /// Tells `observer` of each step of each save from now on.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Asks `when_full` whenever the disk has no room for what is to be written. When it
    /// says that it is to be tried again, it is, with nothing done in between; it may wait
    /// before it does. When it does not, or when nobody is asked, the call fails with an
    /// error that [is full](WalError::is_full), and what it was given is written by the
    /// next one, before all else: it is neither lost nor on the disk. Nothing was synced in
    /// vain, so that trying again is safe; after a sync that failed it would not be.
    pub fn when_full(&mut self, when_full: WhenFull) {
        self.when_full = Some(when_full);
    }

    /// Whether the disk has given the room for so many bytes of records already.
    pub fn fits(&self, bytes: u64) -> bool {
        self.offset.saturating_add(self.encoder.buffer.len() as u64).saturating_add(bytes)
            <= self.allocated
    }

    /// While `on`, the last segment grows by small steps instead of being cut, and no next
    /// one is made: on a disk with hardly any room left a whole segment is too much.
    pub fn grow_only(&mut self, on: bool) {
        self.grows = on;
    }

    fn tell(&mut self, step: Step) {
        if let Some(observer) = &mut self.observer {
            observer(step);
        }
    }

    /// Whose log it is.
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// The newest hard state that was saved.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The index of the last entry that was saved, or of a snapshot beyond it.
    pub fn last_index(&self) -> Index {
        self.last_index
    }

    /// Saves entries and a hard state with one write and one sync. When it returns,
    /// they are on the disk.
    ///
    /// A hard state that only moves the commit index is not written at once unless
    /// `sync` is set; it goes with the next record. A crash may lose it, as raft
    /// allows and etcd does.
    ///
    /// # Errors
    /// [`WalError::Invalid`] when an entry must not be written (nothing is then), or
    /// a failure of the disk, after which the log is [`WalError::Stopped`].
    pub fn save(
        &mut self,
        hard_state: Option<&HardState>,
        entries: &[Entry],
        sync: bool,
    ) -> Result<(), WalError> {
        self.check_running()?;
        check_entries(entries)?;
        let before = self.hard_state;
        if let Some(state) = hard_state.filter(|state| !state.is_empty()) {
            if state.term.0 == 0 {
                return Err(WalError::Invalid("a hard state without a term".into()));
            }
            self.hard_state = *state;
        }
        let voted = (before.term, before.vote) != (self.hard_state.term, self.hard_state.vote);
        let moved = self.hard_state != self.written_state;
        let waits = !self.encoder.buffer.is_empty();
        if entries.is_empty() && !voted && !(sync && (moved || waits)) {
            return Ok(());
        }
        for entry in entries {
            self.encoder.entry(entry);
            self.last_index = entry.index;
        }
        // Always behind entries, also when it is unchanged: it marks the end of
        // the save, by which damage is told from a torn tail.
        self.encode_state();
        self.write()?;
        if self.offset >= self.options.segment_bytes { self.cut() } else { Ok(()) }
    }

    /// Notes that a snapshot is safe: the `.snap` file and what belongs to it must
    /// be on the disk before.
    ///
    /// # Errors
    /// [`WalError::Invalid`] when the mark lacks its configuration, or as
    /// [`Wal::save`].
    pub fn save_snapshot(&mut self, mark: &SnapshotMark) -> Result<(), WalError> {
        self.check_running()?;
        if mark.index.0 > 0 && mark.conf_state.is_none() {
            let what = format!("the snapshot at index {} has no configuration", mark.index);
            return Err(WalError::Invalid(what));
        }
        if self.hard_state != self.written_state {
            self.encode_state();
        }
        self.encoder.snapshot(mark);
        self.last_index = self.last_index.max(mark.index);
        self.write()
    }

    /// Notes that a leader's snapshot stands for the log so far: the `.snap` file and the db
    /// that belongs to it must be on the disk before. The record counts once the log says
    /// that everything up to it is committed, which the hard state behind it does, with a
    /// write of its own: before, a start goes on from what was, and entries behind the
    /// snapshot would leave a gap. What `state` says is committed beyond the snapshot is left
    /// out, because the log does not hold it yet: a crash between this and the entries would
    /// leave a log that is shorter than it says (sim seed 1015401).
    ///
    /// # Errors
    /// As [`Wal::save_snapshot`].
    pub fn save_received(
        &mut self,
        mark: &SnapshotMark,
        state: Option<HardState>,
    ) -> Result<(), WalError> {
        self.save_snapshot(mark)?;
        let state = state.unwrap_or(self.hard_state);
        self.save(Some(&HardState { commit: mark.index, ..state }), &[], true)
    }

    /// Gives up the locks of segments that hold nothing behind `index`, so that they
    /// can be purged. The newest segment that starts before `index` is kept.
    ///
    /// # Errors
    /// None today; the log may come to be told about damage here.
    pub fn release_to(&mut self, index: Index) -> Result<(), WalError> {
        while self.segments.get(1).is_some_and(|next| next.name.first < index) {
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Removes the oldest segments until `keep` are left; stops at the first that we
    /// or another process still have locked. Returns how many it removed.
    ///
    /// # Errors
    /// When the disk fails. The log can be used further.
    pub fn purge(&mut self, keep: usize) -> Result<usize, WalError> {
        let names = name::segments(&*self.disk, &self.dir)?;
        let excess = names.len().saturating_sub(keep);
        let mut removed = 0;
        for name in &names[..excess] {
            let segment = Segment::open(&*self.disk, &self.dir, *name, OpenMode::ReadWrite)?;
            let locked = segment.file.try_lock(LockKind::OpenFileDescription);
            if !locked.doing("lock", &segment.path)? {
                break;
            }
            self.disk.remove_file(&segment.path).doing("remove", &segment.path)?;
            removed += 1;
        }
        if removed > 0 {
            self.disk.sync_dir(&self.dir).doing("sync", &self.dir)?;
        }
        Ok(removed)
    }

    /// Makes the next segment in advance, so that a cut does not wait for it. Does
    /// nothing when it is there. For idle moments; a cut does it otherwise.
    ///
    /// # Errors
    /// When the disk fails or is full. The log can be used further.
    pub fn prepare_next(&mut self) -> Result<(), WalError> {
        if self.has_next() {
            return Ok(());
        }
        let path = self.dir.join(format!("{}.tmp", self.temporaries % 2));
        if self.disk.metadata(&path).doing("look at", &path)?.is_some() {
            self.disk.remove_file(&path).doing("remove", &path)?;
        }
        let file = self.disk.open(&path, OpenMode::CreateNew).doing("create", &path)?;
        let made = lock(&*file, &path).and_then(|()| {
            file.allocate(self.options.segment_bytes).doing("reserve space for", &path)?;
            // So that later syncs need not write the length.
            if self.options.sync { file.sync().doing("sync", &path) } else { Ok(()) }
        });
        if let Err(error) = made {
            // Best effort: a file that stays is replaced next time.
            let _ = self.disk.remove_file(&path);
            return Err(error);
        }
        self.temporaries += 1;
        self.prepared = Some(Prepared { path, file });
        Ok(())
    }

    /// Bytes of the last segment that the disk has given us and that are not used.
    pub fn room(&self) -> u64 {
        self.allocated.saturating_sub(self.offset)
    }

    /// Whether [`Wal::prepare_next`] has nothing to do.
    pub fn has_next(&self) -> bool {
        self.prepared.is_some() || self.failed || self.grows
    }

    /// Writes what is not written yet, syncs and closes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn close(mut self) -> Result<(), WalError> {
        if let Some(prepared) = self.prepared.take() {
            self.disk.remove_file(&prepared.path).doing("remove", &prepared.path)?;
        }
        if !self.failed && self.hard_state != self.written_state {
            self.encode_state();
        }
        if !self.failed && !self.encoder.buffer.is_empty() {
            self.write()?;
        }
        Ok(())
    }

    fn check_running(&self) -> Result<(), WalError> {
        if self.failed { Err(WalError::Stopped) } else { Ok(()) }
    }

    fn encode_state(&mut self) {
        if !self.hard_state.is_empty() {
            self.encoder.state(&self.hard_state);
        }
        self.written_state = self.hard_state;
    }

    /// Writes and syncs what is encoded, behind what waits for room.
    fn write(&mut self) -> Result<(), WalError> {
        // Whatever happens below, nothing more may be appended behind a gap.
        self.failed = true;
        let end = self.encoder.buffer.len();
        // Trying again with nothing new adds no end.
        if self.waiting.back() != Some(&end) {
            self.waiting.push_back(end);
        }
        while let Some(bytes) = self.waiting.front().copied() {
            self.write_first(bytes)?;
            self.waiting.pop_front();
            self.waiting.iter_mut().for_each(|end| *end -= bytes);
        }
        self.failed = false;
        self.encoder.buffer.shrink_to(BUFFER_KEEP_BYTES);
        Ok(())
    }

    /// Writes and syncs the first `bytes` of what is encoded, and forgets them.
    fn write_first(&mut self, bytes: usize) -> Result<(), WalError> {
        if bytes == 0 {
            return Ok(());
        }
        self.tell(Step::Write);
        while let Err(error) = self.place(bytes) {
            let again = |when_full: &mut WhenFull| when_full(&error);
            if !error.is_full() || !self.when_full.as_mut().is_some_and(again) {
                // It waits. A sync that finds no room is another matter.
                self.failed = !error.is_full();
                return Err(error);
            }
        }
        self.tell(Step::Sync(bytes));
        if self.options.sync {
            let Segment { file, path, .. } = self.segments.back().expect("it is still there");
            file.sync().doing("sync", path)?;
        }
        self.tell(Step::Done);
        self.offset += bytes as u64;
        self.encoder.buffer.drain(..bytes);
        Ok(())
    }

    /// Gives the first `bytes` of what is encoded to the system, in room that the disk has
    /// promised before. A disk without room may have taken a part of it, if its file system
    /// promises nothing: the same bytes come to the same place again.
    fn place(&mut self, bytes: usize) -> Result<(), WalError> {
        let Segment { file, path, .. } = self.segments.back().expect("there is always a tail");
        let end = self.offset + bytes as u64;
        if end > self.allocated {
            let ample = end.next_multiple_of(GROW_BYTES);
            let given = match file.allocate(ample).doing("reserve space for", path) {
                Err(error) if error.is_full() => {
                    file.allocate(end).doing("reserve space for", path).map(|()| end)
                }
                done => done.map(|()| ample),
            };
            self.allocated = given?;
        }
        file.write_at(self.offset, &self.encoder.buffer[..bytes]).doing("write", path)
    }

    /// Ends the segment and starts the next, which appears under its name with its
    /// head already on the disk.
    fn cut(&mut self) -> Result<(), WalError> {
        if self.grows && self.prepared.is_none() {
            return Ok(());
        }
        match self.prepare_next() {
            // The segment may grow on: what can be written still has room in it,
            // and the next save tries again.
            Err(error) if error.is_full() => return Ok(()),
            other => other?,
        }
        self.failed = true;
        let Segment { name, file, path } = self.segments.back().expect("there is always a tail");
        // Its records are synced. The zeros behind them may come back after a crash
        // and do no harm, so that this is not worth a sync.
        file.set_len(self.offset).doing("cut", path)?;
        let name = SegmentName { seq: name.seq + 1, first: self.last_index.next() };

        let Prepared { path: temporary, file } =
            self.prepared.take().expect("it was prepared just now");
        self.encoder.crc();
        self.encoder.metadata(self.metadata);
        self.encode_state();
        file.write_at(0, &self.encoder.buffer).doing("write", &temporary)?;
        file.sync().doing("sync", &temporary)?;
        let path = self.dir.join(name.to_string());
        self.disk.rename(&temporary, &path).doing("rename", &temporary)?;
        self.disk.sync_dir(&self.dir).doing("sync", &self.dir)?;
        self.offset = self.encoder.buffer.len() as u64;
        self.allocated = self.options.segment_bytes.max(self.offset);
        self.encoder.buffer.clear();
        self.segments.push_back(Segment { name, path, file });
        self.failed = false;
        Ok(())
    }
}

fn check_entries(entries: &[Entry]) -> Result<(), WalError> {
    for entry in entries {
        let what = if entry.term.0 == 0 || entry.index.0 == 0 {
            "no term or index"
        } else if entry.kind != EntryKind::Normal && entry.data.is_empty() {
            // It could not be told from a damaged hard state; etcd writes none.
            "a change of the configuration without data"
        } else {
            continue;
        };
        return Err(WalError::Invalid(format!("the entry at index {} has {what}", entry.index)));
    }
    Ok(())
}

pub(crate) fn lock(file: &dyn File, path: &Path) -> Result<(), WalError> {
    let locked = file.try_lock(LockKind::OpenFileDescription).doing("lock", path)?;
    if locked { Ok(()) } else { Err(WalError::Locked { file: path.to_owned() }) }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Completes mended records, makes everything behind the last record zeros, and
/// syncs. What a later crash leaves there must not be mixed with what this one left;
/// and when only the program died, what was read may be in the system's cache alone,
/// while whoever reads it takes it for safe. Returns where a torn segment was copied.
pub(crate) fn clean_tail(
    disk: &dyn Disk,
    dir: &Path,
    tail: &Segment,
    end: &SegmentEnd,
) -> Result<Option<PathBuf>, WalError> {
    let Segment { file, path, .. } = tail;
    let mut copy = None;
    if let Some(torn) = &end.torn {
        copy = match copy_broken(disk, dir, tail, torn.offset + torn.bytes) {
            // The member must come up on a full disk; what is lost was never acknowledged.
            Err(error) if error.is_full() => None,
            other => Some(other?),
        };
    }
    for (at, bytes) in &end.mends {
        file.write_at(*at, bytes).doing("write", path)?;
    }
    if end.dirty {
        let len = file.len().doing("measure", path)?;
        file.set_len(end.offset).doing("cut", path)?;
        match file.allocate(len).doing("reserve space for", path) {
            Err(error) if error.is_full() => {}
            other => other?,
        }
    }
    file.sync().doing("sync", path)?;
    disk.sync_dir(dir).doing("sync", dir)?;
    Ok(copy)
}

fn copy_broken(disk: &dyn Disk, dir: &Path, tail: &Segment, len: u64) -> Result<PathBuf, WalError> {
    const PIECE_BYTES: u64 = 1 << 20;
    let path = with_suffix(&tail.path, ".broken");
    if disk.metadata(&path).doing("look at", &path)?.is_some() {
        disk.remove_file(&path).doing("remove", &path)?;
    }
    let file = disk.open(&path, OpenMode::CreateNew).doing("create", &path)?;
    for at in (0..len).step_by(PIECE_BYTES as usize) {
        let mut piece = vec![0; PIECE_BYTES.min(len - at) as usize];
        tail.file.read_exact_at(at, &mut piece).doing("read", &tail.path)?;
        file.write_at(at, &piece).doing("write", &path)?;
    }
    file.sync().doing("sync", &path)?;
    disk.sync_dir(dir).doing("sync", dir)?;
    Ok(path)
}
