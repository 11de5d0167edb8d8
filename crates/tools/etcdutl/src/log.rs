//! A log record by record, as it lies there: what is readable is shown, also of a log
//! that no member would start with. What a member makes of a log is decided in
//! `mainstay-wal`, and not here.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mainstay_env::OpenMode;
use mainstay_proto::{Message as _, etcdserverpb, raftpb, walpb};
use mainstay_types::limits::WAL_RECORD_BYTES_MAX;

use crate::place::about;
use crate::wire::{self, Value};
use crate::{Failure, Run};

/// The kinds of records.
pub(crate) const METADATA: u64 = 1;
pub(crate) const ENTRY: u64 = 2;
pub(crate) const STATE: u64 = 3;
pub(crate) const CRC: u64 = 4;
pub(crate) const SNAPSHOT: u64 = 5;

/// Bytes of the length field.
const LENGTH_BYTES: usize = 8;

/// A segment, read whole: it is 64 MB as a rule.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Bytes,
}

/// A record and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) offset: usize,
    pub(crate) end: usize,
    pub(crate) kind: u64,
    pub(crate) crc: u32,
    pub(crate) data: Bytes,
}

/// Why no record follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Only zeros, or nothing.
    End,
    /// Something that is no record.
    Broken(&'static str),
}

impl Frame {
    /// The kind that the data has. The kind stands outside of the checksum, so a flipped bit
    /// makes an entry of a hard state, and the other way round; as `mainstay-wal` does, they
    /// are told apart by what cannot be: a hard state has a term and nothing behind its
    /// three numbers, and only an entry of kind 0 has no data.
    pub(crate) fn true_kind(&self) -> u64 {
        if !matches!(self.kind, METADATA | ENTRY | STATE) {
            return self.kind;
        }
        let found = wire::fields(&self.data).unwrap_or_default();
        let numbers = found.iter().take_while(|(_, value)| matches!(value, Value::Number(_)));
        let first = match found.first() {
            Some((1, Value::Number(first))) => *first,
            _ => return self.kind,
        };
        match (numbers.count(), found.len()) {
            (2, 2) => METADATA,
            (3, 3) if first == 0 => ENTRY,
            (3, 3) => STATE,
            (3, 4) => ENTRY,
            _ => self.kind,
        }
    }
}

impl Segment {
    /// The record at an offset.
    pub(crate) fn frame(&self, offset: usize) -> Result<Frame, Stop> {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let Some(field) = rest.first_chunk::<LENGTH_BYTES>() else {
            let is_zero = rest.iter().all(|byte| *byte == 0);
            return Err(if is_zero { Stop::End } else { Stop::Broken("half a length field") });
        };
        let number = u64::from_le_bytes(*field);
        if number == 0 {
            return Err(Stop::End);
        }
        let len = number & 0x00ff_ffff_ffff_ffff;
        let padding = if number >> 63 == 1 { (number >> 56) & 0x07 } else { 0 };
        if len > WAL_RECORD_BYTES_MAX {
            return Err(Stop::Broken("a length that no record has"));
        }
        let (start, len) = (offset + LENGTH_BYTES, len as usize);
        let Some(record) = self.bytes.get(start..start + len) else {
            return Err(Stop::Broken("a record that goes on behind the end of the file"));
        };
        let found = wire::fields(record).ok_or(Stop::Broken("bytes that are no record"))?;
        let mut frame = Frame {
            offset,
            end: (start + len + padding as usize).min(self.bytes.len()),
            kind: 0,
            crc: 0,
            data: Bytes::new(),
        };
        for (number, value) in found {
            match (number, value) {
                (1, Value::Number(kind)) => frame.kind = kind,
                (2, Value::Number(crc)) => frame.crc = crc as u32,
                (3, Value::Bytes(data)) => frame.data = self.bytes.slice_ref(data),
                _ => return Err(Stop::Broken("a record with a field that none has")),
            }
        }
        Ok(frame)
    }

    /// Whether a frame is one that could stand here, for looking behind a damaged place:
    /// its kind exists and its data is of that kind.
    pub(crate) fn plausible(&self, offset: usize) -> Option<Frame> {
        let frame = self.frame(offset).ok()?;
        let data = || frame.data.clone();
        let fits = match frame.kind {
            METADATA => etcdserverpb::Metadata::decode(data()).is_ok(),
            ENTRY => raftpb::Entry::decode(data()).is_ok_and(|entry| entry.index.unwrap_or(0) > 0),
            STATE => {
                raftpb::HardState::decode(data()).is_ok_and(|state| state.term.unwrap_or(0) > 0)
            }
            SNAPSHOT => walpb::Snapshot::decode(data()).is_ok(),
            CRC => frame.data.is_empty(),
            _ => false,
        };
        (fits && (frame.kind == CRC || !frame.data.is_empty())).then_some(frame)
    }
}

/// The names of a log's segments, oldest first; whether there are other files.
pub(crate) fn names(run: &mut Run<'_>, wal: &Path) -> Result<(Vec<String>, Vec<String>), Failure> {
    let all = run.disk.list(wal).map_err(|e| about("open", wal, &e))?;
    let is_segment = |name: &String| {
        let number = |text: &str| text.len() == 16 && u64::from_str_radix(text, 16).is_ok();
        name.strip_suffix(".wal")
            .and_then(|name| name.split_once('-'))
            .is_some_and(|(seq, first)| number(seq) && number(first))
    };
    Ok(all.into_iter().partition(is_segment))
}

/// The index that a segment's name says it starts with.
pub(crate) fn first_index(name: &str) -> u64 {
    let first = name.strip_suffix(".wal").and_then(|name| name.split_once('-'));
    first.and_then(|(_, first)| u64::from_str_radix(first, 16).ok()).unwrap_or(0)
}

/// Reads a segment.
pub(crate) fn load(run: &Run<'_>, wal: &Path, name: &str) -> Result<Segment, Failure> {
    let path = wal.join(name);
    let file = run.disk.open(&path, OpenMode::Read).map_err(|e| about("open", &path, &e))?;
    let len = file.len().map_err(|e| about("stat", &path, &e))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    file.read_exact_at(0, &mut bytes).map_err(|e| about("read", &path, &e))?;
    Ok(Segment { path, bytes: bytes.into() })
}

/// What the readable part of a log says.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) metadata: etcdserverpb::Metadata,
    pub(crate) state: raftpb::HardState,
    /// Entries behind the start; a later one replaces that of its index and all behind it.
    pub(crate) entries: Vec<raftpb::Entry>,
    /// Snapshot records: index and term.
    pub(crate) snapshots: Vec<(u64, u64)>,
    /// Where reading stopped before the end, and why.
    pub(crate) damage: Option<Damage>,
    /// An entry that does not follow, as after a snapshot that a leader sent: between which
    /// indexes entries are missing.
    pub(crate) gap: Option<(u64, u64)>,
}

/// Where the readable part of a log ends too early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) path: PathBuf,
    pub(crate) offset: usize,
    pub(crate) why: String,
    /// Whether it is in the last segment.
    pub(crate) last: bool,
}

/// Reads a log behind an index as far as it is sound.
pub(crate) fn said(run: &mut Run<'_>, wal: &Path, behind: u64) -> Result<Said, Failure> {
    let (mut all, _) = names(run, wal)?;
    let start = all.iter().rposition(|name| first_index(name) <= behind);
    if all.is_empty() || start.is_none() {
        return Err(Failure::error(format!("{}: wal: file not found", wal.display())));
    }
    all.drain(..start.unwrap_or(0));
    let mut said = Said::default();
    let mut crc = None;
    for (at, name) in all.iter().enumerate() {
        let segment = load(run, wal, name)?;
        match said.segment(&segment, behind, &mut crc) {
            None => {}
            Some((offset, why)) => {
                let last = at + 1 == all.len();
                said.damage = Some(Damage { path: segment.path, offset, why, last });
                break;
            }
        }
    }
    Ok(said)
}

impl Said {
    fn segment(
        &mut self,
        segment: &Segment,
        behind: u64,
        crc: &mut Option<u32>,
    ) -> Option<(usize, String)> {
        let mut offset = 0;
        loop {
            let frame = match segment.frame(offset) {
                Ok(frame) => frame,
                Err(Stop::End) => return None,
                Err(Stop::Broken(why)) => return Some((offset, why.to_owned())),
            };
            if frame.kind == CRC {
                if crc.is_some_and(|crc| crc != 0 && crc != frame.crc) {
                    return Some((
                        offset,
                        "a checksum that does not go on from the segment before".into(),
                    ));
                }
            } else if crc32c::crc32c_append(crc.unwrap_or(0), &frame.data) != frame.crc {
                return Some((offset, "a record whose checksum does not fit".into()));
            }
            *crc = Some(frame.crc);
            if self.record(&frame, behind).is_none() {
                return Some((
                    offset,
                    format!("a record of kind {} that cannot be read", frame.kind),
                ));
            }
            offset = frame.end;
        }
    }

    fn record(&mut self, frame: &Frame, behind: u64) -> Option<()> {
        let data = frame.data.clone();
        match frame.true_kind() {
            METADATA => self.metadata = etcdserverpb::Metadata::decode(data).ok()?,
            STATE => self.state = raftpb::HardState::decode(data).ok()?,
            SNAPSHOT => {
                let mark = walpb::Snapshot::decode(data).ok()?;
                self.snapshots.push((mark.index.unwrap_or(0), mark.term.unwrap_or(0)));
            }
            ENTRY => self.entry(raftpb::Entry::decode(data).ok()?, behind),
            CRC => {}
            _ => return None,
        }
        Some(())
    }

    fn entry(&mut self, entry: raftpb::Entry, behind: u64) {
        let index = entry.index.unwrap_or(0);
        if index <= behind {
            return;
        }
        // Entries follow each other but for a gap, so the place is found by index.
        let at = self.entries.partition_point(|e| e.index.unwrap_or(0) < index);
        let before = match at.checked_sub(1) {
            Some(at) => self.entries[at].index.unwrap_or(0),
            None => behind,
        };
        if before + 1 < index {
            self.gap.get_or_insert((before, index));
        }
        self.entries.truncate(at);
        self.entries.push(entry);
    }
}
