//! Reading a whole log.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use mainstay_env::{Disk, LockKind, OpenMode};
use mainstay_raft::{Entry, HardState};
use mainstay_types::{Index, Term};

use crate::error::{Doing, WalError};
use crate::name::{SegmentName, check_sequence, segments, segments_from};
use crate::record::{Content, Metadata, SnapshotMark};
use crate::segment::{Place, Segment, SegmentEnd, TornTail, Visit, owner_of, read_segment};

/// What a log says from a snapshot on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Whose log it is.
    pub metadata: Metadata,
    /// The last hard state; empty when there is none.
    pub hard_state: HardState,
    /// The entries behind the snapshot, without gaps. Those above
    /// `hard_state.commit` may be overwritten yet.
    pub entries: Vec<Entry>,
    /// Set when the last save was cut short by a crash. Nothing of it was ever
    /// acknowledged. When the log was opened for writing it is cut off.
    pub torn_tail: Option<TornTail>,
    /// Records whose bytes were incomplete and could be completed. Not zero says
    /// that a crash, or the disk, lost single bytes.
    pub mended: u64,
}

/// Reads a log without locking or changing anything: for tools, also beside a
/// running member.
///
/// # Errors
/// When the log is damaged or incomplete, or does not know the snapshot `from`.
pub fn read(disk: &dyn Disk, dir: &Path, from: &SnapshotMark) -> Result<Replay, WalError> {
    let names = segments_from(disk, dir, from.index)?;
    let segments = open_segments(disk, dir, &names, OpenMode::Read)?;
    let mut collector = Collector::new(from);
    let end =
        read_all(&segments, &mut |place: &Place<'_>, content| collector.take(place, content))?;
    collector.finish(dir, &end)
}

/// The snapshots that the log knows and that are committed, oldest first. A
/// `.snap` file counts only when it is among them.
///
/// # Errors
/// When the log is damaged or incomplete.
pub fn valid_snapshots(disk: &dyn Disk, dir: &Path) -> Result<Vec<SnapshotMark>, WalError> {
    // From the oldest segment on, wherever that starts.
    let names = segments(disk, dir)?;
    if names.is_empty() {
        return segments_from(disk, dir, Index(0)).map(|_| Vec::new());
    }
    check_sequence(dir, &names)?;
    let segments = open_segments(disk, dir, &names, OpenMode::Read)?;
    let (mut marks, mut commit) = (Vec::new(), Index(0));
    read_all(&segments, &mut |place: &Place<'_>, content| {
        match content {
            Content::Snapshot(mark) => {
                marks.push((mark, segments.iter().position(|segment| segment.path == place.file)));
            }
            Content::State(state) => commit = state.commit,
            Content::Metadata(_) | Content::Entry(_) | Content::Crc => {}
        }
        Ok(())
    })?;
    Ok(are_valid(marks, &names, commit))
}

/// Those of the snapshot records that count, each with the place of its segment among `names`.
pub(crate) fn are_valid(
    mut marks: Vec<(SnapshotMark, Option<usize>)>,
    names: &[SegmentName],
    commit: Index,
) -> Vec<SnapshotMark> {
    // The record of one that did not count may lie before the segment that is read from
    // there: the log has come to its index on its own since (sim seed 201794).
    marks.retain(|(mark, at)| {
        let start = names.iter().rposition(|name| name.first <= mark.index);
        mark.index <= commit && (start.is_none() || start <= *at)
    });
    marks.into_iter().map(|(mark, _)| mark).collect()
}

/// Whether there is a log: a directory with at least one segment.
///
/// # Errors
/// When the disk fails.
pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, WalError> {
    match disk.metadata(dir).doing("look at", dir)? {
        Some(found) if found.is_dir => Ok(!segments(disk, dir)?.is_empty()),
        _ => Ok(false),
    }
}

/// Whose log it is, by the newest segment; nothing else is looked at.
///
/// # Errors
/// When there is no log, or the head of that segment is damaged.
pub fn owner(disk: &dyn Disk, dir: &Path) -> Result<Metadata, WalError> {
    let Some(last) = segments(disk, dir)?.pop() else {
        let what = "there is no segment (a file named SEQ-INDEX.wal)".to_owned();
        return Err(WalError::Missing { dir: dir.to_owned(), what });
    };
    owner_of(&Segment::open(disk, dir, last, OpenMode::Read)?)
}

/// Opens segments and, for writing, locks them.
pub(crate) fn open_segments(
    disk: &dyn Disk,
    dir: &Path,
    names: &[SegmentName],
    mode: OpenMode,
) -> Result<Vec<Segment>, WalError> {
    let mut open = Vec::with_capacity(names.len());
    for name in names {
        let segment = Segment::open(disk, dir, *name, mode)?;
        if mode == OpenMode::ReadWrite {
            let locked = segment.file.try_lock(LockKind::OpenFileDescription);
            if !locked.doing("lock", &segment.path)? {
                return Err(WalError::Locked { file: segment.path });
            }
        }
        open.push(segment);
    }
    Ok(open)
}

/// Reads segments that follow each other; returns where the last one ends.
pub(crate) fn read_all(
    segments: &[Segment],
    visit: &mut dyn Visit,
) -> Result<SegmentEnd, WalError> {
    let (last, before) = segments.split_last().expect("a log has at least one segment");
    let mut crc = None;
    for segment in before {
        crc = Some(read_segment(segment, crc, false, visit)?.crc);
    }
    read_segment(last, crc, true, visit)
}

/// How the log stands to the snapshot that it is read from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ties {
    /// Its own entry, or a record that counts, is that of the snapshot: what is behind it
    /// goes on from there.
    Holds,
    /// It is another log.
    Other,
    /// As `Other`, and the last record was the snapshot's: a leader sent it. Once everything
    /// up to it is committed, raft has dropped what was there before. (etcd keeps what is
    /// behind it, entries of an older term.)
    Received,
}

/// Gathers what the records of a log say.
pub(crate) struct Collector {
    from: SnapshotMark,
    found: bool,
    ties: Ties,
    /// A snapshot behind `from` that is not of this log, and whether it counts: then nothing
    /// here is what the member goes on from. (etcd goes on from it all the same.)
    replaced: Option<(Index, Term, bool)>,
    metadata: Option<Metadata>,
    hard_state: HardState,
    entries: Vec<Entry>,
    /// The newest index: of the last entry, or of a snapshot beyond it.
    pub(crate) last_index: Index,
}

impl Collector {
    pub(crate) fn new(from: &SnapshotMark) -> Collector {
        Collector {
            from: from.clone(),
            found: false,
            ties: if from.index == Index(0) { Ties::Holds } else { Ties::Other },
            replaced: None,
            metadata: None,
            hard_state: HardState::default(),
            entries: Vec::new(),
            last_index: from.index,
        }
    }

    pub(crate) fn take(&mut self, place: &Place<'_>, content: Content) -> Result<(), WalError> {
        match content {
            Content::Crc => {}
            Content::Metadata(metadata) => {
                let known = *self.metadata.get_or_insert(metadata);
                if known != metadata {
                    let (expected, found) = (describe(known), describe(metadata));
                    return Err(place.corrupt(&expected, &found));
                }
            }
            Content::State(state) => {
                if self.ties == Ties::Received && state.commit >= self.from.index {
                    self.entries.clear();
                    self.last_index = self.from.index;
                    self.ties = Ties::Holds;
                }
                if let Some((index, _, counts)) = &mut self.replaced {
                    *counts |= state.commit >= *index;
                }
                self.hard_state = state;
            }
            Content::Snapshot(mark) => {
                if mark.index == self.from.index {
                    if mark.term != self.from.term {
                        let expected = format!("a snapshot of term {}", self.from.term);
                        let found = format!("term {} at index {}", mark.term, mark.index);
                        return Err(place.corrupt(&expected, &found));
                    }
                    self.found = true;
                    if self.ties == Ties::Other {
                        self.ties = Ties::Received;
                    }
                }
                let is_replaced = matches!(self.replaced, Some((_, _, true)));
                let is_behind = mark.index > self.from.index;
                if is_behind && !is_replaced && self.term_at(mark.index) != Some(mark.term) {
                    self.replaced = Some((mark.index, mark.term, false));
                }
                self.last_index = self.last_index.max(mark.index);
            }
            Content::Entry(entry) => {
                match self.replaced {
                    // What follows goes on from there.
                    Some((_, _, true)) => return Ok(()),
                    // It did not count: the log went on as it was.
                    Some((index, ..)) if entry.index <= index => self.replaced = None,
                    _ => {}
                }
                self.last_index = entry.index;
                self.ties = self.ties_with(&entry);
                if entry.index > self.from.index {
                    self.take_entry(place, entry)?;
                } else {
                    // It replaces all behind it, also what is behind the snapshot.
                    // (etcd keeps that here, entries of an older term.)
                    self.entries.clear();
                }
            }
        }
        Ok(())
    }

    /// The term of an entry behind `from`.
    fn term_at(&self, index: Index) -> Option<Term> {
        let position = index.0.checked_sub(self.from.index.0 + 1)?;
        self.entries.get(usize::try_from(position).ok()?).map(|entry| entry.term)
    }

    fn ties_with(&self, entry: &Entry) -> Ties {
        let SnapshotMark { index, term, .. } = self.from;
        match entry.index.cmp(&index) {
            Ordering::Equal if entry.term == term => Ties::Holds,
            Ordering::Less | Ordering::Equal => Ties::Other,
            // The record did not count, or the entry is behind it.
            Ordering::Greater if self.ties == Ties::Received => Ties::Other,
            Ordering::Greater => self.ties,
        }
    }

    /// A later entry replaces the one at its index and everything behind it.
    fn take_entry(&mut self, place: &Place<'_>, entry: Entry) -> Result<(), WalError> {
        let position = entry.index.0 - self.from.index.0 - 1;
        if position > self.entries.len() as u64 {
            let next = self.from.index.0 + self.entries.len() as u64 + 1;
            let expected = format!("an entry at index {next} or before");
            return Err(place.corrupt(&expected, &format!("one at index {}", entry.index)));
        }
        self.entries.truncate(position as usize);
        self.entries.push(entry);
        Ok(())
    }

    pub(crate) fn finish(self, dir: &Path, end: &SegmentEnd) -> Result<Replay, WalError> {
        if !self.found {
            let SnapshotMark { index, term, .. } = self.from;
            return Err(WalError::SnapshotMissing { dir: dir.to_owned(), index, term });
        }
        if let Some((index, term, true)) = self.replaced {
            return Err(WalError::Replaced { dir: dir.to_owned(), index, term });
        }
        let Some(metadata) = self.metadata else {
            let what = "the log does not say whose it is".to_owned();
            return Err(WalError::Missing { dir: dir.to_owned(), what });
        };
        Ok(Replay {
            metadata,
            hard_state: self.hard_state,
            entries: self.entries,
            torn_tail: end.torn.clone(),
            mended: end.mends.len() as u64,
        })
    }
}

fn describe(metadata: Metadata) -> String {
    format!("the log of member {} in cluster {}", metadata.member, metadata.cluster)
}

/// What [`crate::Wal`] needs to go on behind what was read.
pub(crate) struct Opened {
    pub(crate) segments: Vec<Segment>,
    pub(crate) replay: Replay,
    pub(crate) end: SegmentEnd,
    pub(crate) last_index: Index,
}

/// Opens for writing and reads everything behind `from`.
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    from: &SnapshotMark,
) -> Result<Opened, WalError> {
    let names = segments_from(&**disk, dir, from.index)?;
    let segments = open_segments(&**disk, dir, &names, OpenMode::ReadWrite)?;
    let mut collector = Collector::new(from);
    let end =
        read_all(&segments, &mut |place: &Place<'_>, content| collector.take(place, content))?;
    let last_index = collector.last_index;
    let replay = collector.finish(dir, &end)?;
    Ok(Opened { segments, replay, end, last_index })
}
