//! A log of which some records are damaged while what follows them verifies: what of it is
//! sound, and how it starts anew.
//!
//! What the member has promised by term and vote stands in the last hard state. When one
//! follows the damage, nothing of that is lost, and neither is any entry but those of the
//! damaged records. Which these are at most is known from the entries around them: behind
//! an entry the log has nothing unknown any more, because entries leave no gaps and one
//! replaces everything behind it. A member that has another state up to there, of which all
//! is committed, has lost nothing.
//!
//! It then starts anew: a segment that continues the checksum of the last, with a record of
//! the snapshot that the state is, a hard state by which that counts, and the entries behind
//! it. Only when that has its name are the old segments renamed, to `NAME.wal.broken`, the
//! oldest first. A crash in between leaves a log that can be salvaged again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_env::{Disk, OpenMode};
use mainstay_raft::{Entry, HardState};
use mainstay_types::{Index, Term};

use crate::error::{Doing, WalError};
use crate::name::{SegmentName, check_sequence, segments};
use crate::record::{Content, Encoder, Kind, Metadata, SnapshotMark};
use crate::replay::{are_valid, open_segments, read_all};
use crate::resume::Gap;
use crate::segment::{Place, Segment, Visit};
use crate::wal::{clean_tail, lock};

/// A damaged log, open and locked.
pub struct Salvage {
    dir: PathBuf,
    segments: Vec<Segment>,
    /// The running checksum at its end.
    crc: u32,
    sound: Sound,
}

/// What of a log is sound.
#[derive(Default)]
struct Sound {
    metadata: Option<Metadata>,
    hard_state: HardState,
    /// Snapshot records, with the path of their segment.
    marks: Vec<(SnapshotMark, PathBuf)>,
    /// What is wrong, place by place.
    damage: Vec<WalError>,
    /// Entries up to here may be lost.
    lost_to: Index,
    /// Entries behind that, without a gap.
    entries: Vec<Entry>,
    last: Option<Index>,
    /// Damage behind which no entry has come yet.
    open: Option<Gap>,
    /// A hard state has come behind the last damage.
    has_state: bool,
}

impl Salvage {
    /// Opens the log in `dir`, locks it, and reads what it can. A torn tail is cut off, as by
    /// [`crate::Wal::open`]; nothing else is changed.
    ///
    /// # Errors
    /// As [`crate::Wal::open`], when more is damaged than can be gone around: then entries or
    /// a vote may be lost of which nothing tells.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Salvage, WalError> {
        let names = segments(&**disk, dir)?;
        if names.is_empty() {
            let what = "there is no segment (a file named SEQ-INDEX.wal)".to_owned();
            return Err(WalError::Missing { dir: dir.to_owned(), what });
        }
        check_sequence(dir, &names)?;
        let segments = open_segments(&**disk, dir, &names, OpenMode::ReadWrite)?;
        let mut sound = Sound::behind(names[0]);
        let end = read_all(&segments, &mut sound)?;
        sound.close(dir)?;
        clean_tail(&**disk, dir, segments.last().expect("there is one"), &end)?;
        let paths: Vec<&Path> = segments.iter().map(|segment| segment.path.as_path()).collect();
        let marks = std::mem::take(&mut sound.marks);
        let placed = marks.into_iter().map(|(mark, path)| {
            let at = paths.iter().position(|known| *known == path);
            (mark, at)
        });
        let marks = are_valid(placed.collect(), &names, sound.hard_state.commit);
        sound.marks = marks.into_iter().map(|mark| (mark, PathBuf::new())).collect();
        Ok(Salvage { dir: dir.to_owned(), segments, crc: end.crc, sound })
    }

    /// Whose log it is.
    pub fn metadata(&self) -> Metadata {
        self.sound.metadata.expect("it was looked for")
    }

    /// The last hard state.
    pub fn hard_state(&self) -> HardState {
        self.sound.hard_state
    }

    /// The snapshots that it knows and that are committed, oldest first.
    pub fn marks(&self) -> Vec<SnapshotMark> {
        self.sound.marks.iter().map(|(mark, _)| mark.clone()).collect()
    }

    /// What is wrong, place by place.
    pub fn damage(&self) -> &[WalError] {
        &self.sound.damage
    }

    /// What a state must have in it that stands for what is lost: with it nothing is. Where
    /// entries follow it has the first of them, so that it shows whether they belong to it.
    pub fn least(&self) -> Index {
        match self.sound.entries.first() {
            Some(first) => first.index,
            None => self.sound.lost_to,
        }
    }

    /// The last entry.
    pub fn last(&self) -> Index {
        self.sound.last.unwrap_or_default()
    }

    /// Sound entries up to the end, without a gap.
    pub fn entries(&self) -> &[Entry] {
        &self.sound.entries
    }

    /// Starts the log anew behind `mark`, whose `.snap` file and db are on the disk, with what
    /// of [`Salvage::entries`] follows it. `hard_state` is the last one, in which no less is
    /// said than in the old.
    ///
    /// # Errors
    /// The disk's. What is there then can be salvaged again.
    pub fn restart(
        self,
        disk: &Arc<dyn Disk>,
        mark: &SnapshotMark,
        hard_state: HardState,
        entries: &[Entry],
    ) -> Result<(), WalError> {
        let metadata = self.metadata();
        let mut encoder = Encoder::new(self.crc);
        encoder.crc();
        encoder.metadata(metadata);
        encoder.snapshot(mark);
        // With it the record counts.
        encoder.state(&HardState { commit: mark.index, ..hard_state });
        entries.iter().for_each(|entry| encoder.entry(entry));
        if !entries.is_empty() || hard_state.commit > mark.index {
            encoder.state(&hard_state);
        }
        let newest = self.segments.last().expect("there is one").name;
        let name = SegmentName { seq: newest.seq + 1, first: mark.index };
        let (path, temporary) = (self.dir.join(name.to_string()), self.dir.join("anew.tmp"));
        if disk.metadata(&temporary).doing("look at", &temporary)?.is_some() {
            disk.remove_file(&temporary).doing("remove", &temporary)?;
        }
        let file = disk.open(&temporary, OpenMode::CreateNew).doing("create", &temporary)?;
        lock(&*file, &temporary)?;
        file.write_at(0, &encoder.buffer).doing("write", &temporary)?;
        file.sync().doing("sync", &temporary)?;
        disk.rename(&temporary, &path).doing("rename", &temporary)?;
        disk.sync_dir(&self.dir).doing("sync", &self.dir)?;
        self.put_aside(&**disk)
    }

    /// Renames the old segments. Those of an earlier time make room.
    fn put_aside(&self, disk: &dyn Disk) -> Result<(), WalError> {
        for name in disk.list(&self.dir).doing("list", &self.dir)? {
            if name.ends_with(".wal.broken") {
                let path = self.dir.join(name);
                disk.remove_file(&path).doing("remove", &path)?;
            }
        }
        for Segment { name, path, .. } in &self.segments {
            let broken = self.dir.join(format!("{name}.broken"));
            disk.rename(path, &broken).doing("rename", path)?;
            // One by one, so that what is left is always the end of the log.
            disk.sync_dir(&self.dir).doing("sync", &self.dir)?;
        }
        Ok(())
    }
}

impl Visit for Sound {
    fn content(&mut self, place: &Place<'_>, content: Content) -> Result<(), WalError> {
        match content {
            Content::Crc => {}
            Content::Metadata(metadata) => {
                let known = *self.metadata.get_or_insert(metadata);
                if known != metadata {
                    return Err(place.corrupt("the log of one member", "that of another"));
                }
            }
            Content::State(state) => {
                self.hard_state = state;
                self.has_state = true;
            }
            Content::Snapshot(mark) => {
                let term = self.term_at(mark.index);
                if let Some(term) = term.filter(|term| *term != mark.term) {
                    // A leader's took the place of the log, or did not: that is not gone into.
                    let found = format!("a snapshot of term {}", mark.term);
                    return Err(place.corrupt(&format!("one of term {term}, as the entry"), &found));
                }
                if self.last.is_none_or(|last| mark.index > last) {
                    // What follows goes on from there.
                    self.entries.clear();
                    self.last = Some(mark.index);
                }
                self.marks.push((mark, place.file.to_owned()));
            }
            Content::Entry(entry) => self.entry(place, entry)?,
        }
        Ok(())
    }

    fn goes_on(&self) -> bool {
        true
    }

    fn damaged(&mut self, _: &Place<'_>, gap: Gap, error: WalError) -> Result<(), WalError> {
        self.damage.push(error);
        self.has_state = false;
        match (gap, self.open) {
            // A later one says all that it said.
            (Gap::One(Some(Kind::State)), _) => {}
            (Gap::One(_), None) => self.open = Some(gap),
            (Gap::Many, _) | (Gap::One(_), Some(_)) => self.open = Some(Gap::Many),
        }
        Ok(())
    }
}

impl Sound {
    /// Before the first record of a segment. What came before it was released, and a snapshot
    /// record in it may be older.
    fn behind(name: SegmentName) -> Sound {
        Sound { last: name.first.0.checked_sub(1).map(Index), ..Sound::default() }
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let first = self.entries.first()?;
        let at = index.0.checked_sub(first.index.0).and_then(|at| usize::try_from(at).ok())?;
        self.entries.get(at).map(|entry| entry.term)
    }

    fn entry(&mut self, place: &Place<'_>, entry: Entry) -> Result<(), WalError> {
        let index = entry.index;
        let before = Index(index.0.saturating_sub(1));
        let gap = self.open.take();
        let next = self.last.map(Index::next);
        let most = match gap {
            None => next,
            Some(Gap::One(_)) => next.map(Index::next),
            Some(Gap::Many) => None,
        };
        if most.is_some_and(|most| index > most) {
            let expected = format!("an entry at index {} or before", next.unwrap_or_default());
            return Err(place.corrupt(&expected, &format!("one at index {index}")));
        }
        let kept = match self.entries.first() {
            Some(first) if gap.is_none() && index >= first.index => index.0 - first.index.0,
            _ => 0,
        };
        if gap.is_some() {
            // Everything before it may have been in what is lost.
            self.lost_to = before;
        } else if kept == 0 {
            // It replaces the unknown as well.
            self.lost_to = self.lost_to.min(before);
        }
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.entries.push(entry);
        self.last = Some(index);
        Ok(())
    }

    /// Whether enough is known at the end.
    fn close(&mut self, dir: &Path) -> Result<(), WalError> {
        if self.metadata.is_none() {
            let what = "the log does not say whose it is".to_owned();
            return Err(WalError::Missing { dir: dir.to_owned(), what });
        }
        let many = self.open == Some(Gap::Many) || (self.open.is_some() && self.last.is_none());
        if !self.damage.is_empty() && (!self.has_state || many) {
            return Err(self.damage.swap_remove(0));
        }
        if self.open.take().is_some() {
            // One record, and none behind it: at most the next entry.
            self.lost_to = self.last.unwrap_or_default().next();
            self.last = Some(self.lost_to);
            self.entries.clear();
        }
        Ok(())
    }
}
