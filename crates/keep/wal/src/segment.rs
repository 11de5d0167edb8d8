//! Reading one segment, record by record, through a window of bounded size.

use std::ops::Range;
use std::path::{Path, PathBuf};

use mainstay_env::{Disk, File, OpenMode};
use mainstay_types::limits::WAL_RECORD_BYTES_MAX;

use crate::damage::{Scene, Verdict};
use crate::error::{Doing, WalError};
use crate::name::SegmentName;
use crate::record::{Content, Kind, LENGTH_BYTES, Length, Metadata, Record, Unreadable};
use crate::resume::{Gap, resume};

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// How the reading of a log ended, when it did not end between two records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The last segment.
    pub file: PathBuf,
    /// Where the record starts whose writing a crash cut short.
    pub offset: u64,
    /// Bytes from there to the last one that is not zero.
    pub bytes: u64,
    /// Valid records of the same save that are behind it; they go with it.
    pub following: u64,
    /// Where the segment was copied before it was cut; `None` when the log was
    /// opened for reading, or when the disk had no room.
    pub copy: Option<PathBuf>,
}

/// An open segment.
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn File>,
}

impl Segment {
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        name: SegmentName,
        mode: OpenMode,
    ) -> Result<Segment, WalError> {
        let path = dir.join(name.to_string());
        let file = disk.open(&path, mode).doing("open", &path)?;
        Ok(Segment { name, path, file })
    }
}

/// Where the valid records of a segment end.
pub(crate) struct SegmentEnd {
    /// Right behind the last record.
    pub(crate) offset: u64,
    /// The running checksum.
    pub(crate) crc: u32,
    /// Whether anything but zeros follows.
    pub(crate) dirty: bool,
    pub(crate) torn: Option<TornTail>,
    /// Bytes of records that were found incomplete and could be completed.
    pub(crate) mends: Vec<(u64, Vec<u8>)>,
}

/// What is told of the records of a segment.
pub(crate) trait Visit {
    /// A record and where it is.
    fn content(&mut self, place: &Place<'_>, content: Content) -> Result<(), WalError>;

    /// Whether reading may go on behind damage.
    fn goes_on(&self) -> bool {
        false
    }

    /// Damage behind which the records go on.
    fn damaged(&mut self, _: &Place<'_>, _: Gap, error: WalError) -> Result<(), WalError> {
        Err(error)
    }
}

impl<F: FnMut(&Place<'_>, Content) -> Result<(), WalError>> Visit for F {
    fn content(&mut self, place: &Place<'_>, content: Content) -> Result<(), WalError> {
        self(place, content)
    }
}

/// Reads all records of a segment and gives each to `visit` with its offset.
///
/// `before` is the running checksum at the end of the segment before it, or
/// `None` when reading starts here.
pub(crate) fn read_segment(
    segment: &Segment,
    before: Option<u32>,
    last: bool,
    visit: &mut dyn Visit,
) -> Result<SegmentEnd, WalError> {
    let mut reader = Reader::new(segment)?;
    let mut place = Place { file: &segment.path, offset: 0 };
    let mut crc = 0;
    let mut ordinal = 0_u64;
    loop {
        let found = match reader.frame(place.offset)? {
            Some((record, end)) if record.fits(crc) => Some((record.kind, record.crc, end)),
            _ => None,
        };
        let Some((kind, stored, end)) = found else {
            let judged = match reader.judge(&place, crc, last) {
                Err(error) if error.is_corrupt() && ordinal >= 2 && visit.goes_on() => {
                    let bytes = reader.load(0..reader.len)?;
                    let Some(resumed) = resume(&bytes, place.offset as usize, crc) else {
                        return Err(error);
                    };
                    visit.damaged(&place, resumed.gap, error)?;
                    (crc, place.offset) = (resumed.crc, resumed.end as u64);
                    ordinal += 1;
                    continue;
                }
                judged => judged?,
            };
            match judged {
                // The first three records are synced before the segment gets its name.
                Some(tail) if ordinal < 2 => {
                    return Err(place.corrupt("the head of a segment", &format!("{tail}")));
                }
                Some(tail) => return Ok(tail.into_end(&place, crc, reader.mends)),
                None => continue,
            }
        };
        check_position(&place, ordinal, kind)?;
        if kind == Kind::Crc {
            check_chain(&place, segment.name, before, stored)?;
        }
        crc = stored;
        match reader.content(kind, place.offset).map_err(|why| place.unreadable(why)) {
            Ok(content) => visit.content(&place, content)?,
            Err(error) if error.is_corrupt() && ordinal >= 2 && visit.goes_on() => {
                visit.damaged(&place, Gap::One(None), error)?;
            }
            Err(error) => return Err(error),
        }
        place.offset = end;
        ordinal += 1;
    }
}

/// Whose segment it is, by its second record.
pub(crate) fn owner_of(segment: &Segment) -> Result<Metadata, WalError> {
    let mut reader = Reader::new(segment)?;
    let (mut offset, mut crc) = (0, 0);
    for kind in [Kind::Crc, Kind::Metadata] {
        let place = Place { file: &segment.path, offset };
        let Some((record, end)) =
            reader.frame(offset)?.filter(|(record, _)| record.kind == kind && record.fits(crc))
        else {
            return Err(place.corrupt("the head of a segment", "something else"));
        };
        crc = record.crc;
        let content = reader.content(kind, offset).map_err(|why| place.unreadable(why))?;
        if let Content::Metadata(metadata) = content {
            return Ok(metadata);
        }
        offset = end;
    }
    let place = Place { file: &segment.path, offset: 0 };
    Err(place.corrupt("the head of a segment", "no metadata"))
}

/// A checksum and the metadata start each segment and are nowhere else.
fn check_position(place: &Place<'_>, ordinal: u64, kind: Kind) -> Result<(), WalError> {
    let expected = match (ordinal, kind) {
        (0, Kind::Crc) | (1, Kind::Metadata) => return Ok(()),
        (0, _) => "a crc record",
        (1, _) => "a metadata record",
        (_, Kind::Crc | Kind::Metadata) => "an entry, state or snapshot record",
        _ => return Ok(()),
    };
    Err(place.corrupt(expected, &format!("a {kind:?} record")))
}

fn check_chain(
    place: &Place<'_>,
    name: SegmentName,
    before: Option<u32>,
    stored: u32,
) -> Result<(), WalError> {
    // The very first segment starts from 0.
    let expected = before.or((name.seq == 0).then_some(0));
    match expected {
        Some(expected) if expected != stored => Err(place.corrupt(
            &format!("to continue the segment before, which ends with crc {expected:#010x}"),
            &format!("crc {stored:#010x}: records between them are missing"),
        )),
        _ => Ok(()),
    }
}

/// Where a record starts.
pub(crate) struct Place<'a> {
    pub(crate) file: &'a Path,
    pub(crate) offset: u64,
}

impl Place<'_> {
    pub(crate) fn corrupt(&self, expected: &str, found: &str) -> WalError {
        let (file, offset) = (self.file.to_owned(), self.offset);
        WalError::Corrupt { file, offset, expected: expected.into(), found: found.into() }
    }

    fn unreadable(&self, why: Unreadable) -> WalError {
        match why {
            Unreadable::Wrong { expected, found } => self.corrupt(
                &format!("{expected} in a record whose crc fits"),
                &format!("{found}: the record's kind is damaged"),
            ),
            Unreadable::Newer(what) => {
                WalError::Newer { file: self.file.to_owned(), offset: self.offset, what }
            }
        }
    }
}

/// How the records ended.
enum Tail {
    Zeros,
    Stray,
    Torn { end: u64, following: u64 },
}

impl std::fmt::Display for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Tail::Zeros => f.write_str("the end of the file or zeros"),
            Tail::Stray => f.write_str("a stray bit among zeros"),
            Tail::Torn { .. } => f.write_str("an incomplete record"),
        }
    }
}

impl Tail {
    fn into_end(self, place: &Place<'_>, crc: u32, mends: Vec<(u64, Vec<u8>)>) -> SegmentEnd {
        let offset = place.offset;
        let torn = match self {
            Tail::Torn { end, following } => Some(TornTail {
                file: place.file.to_owned(),
                offset,
                bytes: end - offset,
                following,
                copy: None,
            }),
            Tail::Zeros | Tail::Stray => None,
        };
        SegmentEnd { offset, crc, dirty: !matches!(self, Tail::Zeros), torn, mends }
    }
}

/// A window on a segment's bytes, with what was mended laid over them.
struct Reader<'a> {
    segment: &'a Segment,
    len: u64,
    window: Vec<u8>,
    start: u64,
    mends: Vec<(u64, Vec<u8>)>,
}

impl<'a> Reader<'a> {
    fn new(segment: &'a Segment) -> Result<Reader<'a>, WalError> {
        let len = segment.file.len().doing("measure", &segment.path)?;
        Ok(Reader { segment, len, window: Vec::new(), start: 0, mends: Vec::new() })
    }

    /// The bytes of a range that lies within the file.
    fn bytes(&mut self, range: Range<u64>) -> Result<&[u8], WalError> {
        let loaded = self.start..self.start + self.window.len() as u64;
        if range.start < loaded.start || range.end > loaded.end {
            let wanted = (range.end - range.start).max(WINDOW_BYTES as u64);
            self.window = self.load(range.start..self.len.min(range.start + wanted))?;
            self.start = range.start;
        }
        let from = (range.start - self.start) as usize;
        Ok(&self.window[from..from + (range.end - range.start) as usize])
    }

    fn load(&self, range: Range<u64>) -> Result<Vec<u8>, WalError> {
        let Segment { file, path, .. } = self.segment;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        // What was mended may reach past the file's end.
        let there = file.len().doing("measure", path)?.min(range.end).saturating_sub(range.start);
        file.read_exact_at(range.start, &mut bytes[..there as usize]).doing("read", path)?;
        for (at, mend) in &self.mends {
            for (at, byte) in (*at..).zip(mend) {
                if range.contains(&at) {
                    bytes[(at - range.start) as usize] = *byte;
                }
            }
        }
        Ok(bytes)
    }

    /// The frame at `at` when its form is right: the record and the frame's end.
    fn frame(&mut self, at: u64) -> Result<Option<(Record<'_>, u64)>, WalError> {
        let head = at + LENGTH_BYTES as u64;
        if head > self.len {
            return Ok(None);
        }
        let mut field = [0; LENGTH_BYTES];
        field.copy_from_slice(self.bytes(at..head)?);
        let Some(length) = Length::parse(field) else { return Ok(None) };
        let end = at + length.frame();
        if end > self.len {
            return Ok(None);
        }
        let bytes = self.bytes(at..end)?;
        let record = Record::parse(&bytes[LENGTH_BYTES..LENGTH_BYTES + length.record as usize]);
        let whole = record.filter(|record| record.len as u64 == length.record);
        Ok(whole.map(|record| (record, end)))
    }

    /// What the record says that [`Reader::frame`] just found at `at`.
    fn content(&self, kind: Kind, at: u64) -> Result<Content, Unreadable> {
        let from = (at - self.start) as usize + LENGTH_BYTES;
        let record = Record::parse(&self.window[from..]).expect("the frame was parsed just now");
        Content::read(kind, record.data)
    }

    /// Decides about a place without a valid record; `None` when it is mended and
    /// to be read again.
    fn judge(&mut self, place: &Place<'_>, crc: u32, last: bool) -> Result<Option<Tail>, WalError> {
        if self.is_zero_from(place.offset)? {
            return Ok(Some(Tail::Zeros));
        }
        let bytes = self.load(0..self.len)?;
        let scene = Scene { bytes: &bytes, at: place.offset as usize, crc, last };
        match scene.judge() {
            Verdict::End => Ok(Some(Tail::Stray)),
            Verdict::Torn { end, following } => Ok(Some(Tail::Torn { end, following })),
            Verdict::Mend { at, bytes } => {
                let again = self.mends.iter().any(|mend| (mend.0, &mend.1) == (at, &bytes));
                assert!(!again, "a mended record is valid");
                self.len = self.len.max(at + bytes.len() as u64);
                self.mends.push((at, bytes));
                self.window.clear();
                Ok(None)
            }
            Verdict::Corrupt { offset, expected, found } => {
                Err(Place { offset, ..*place }.corrupt(&expected, &found))
            }
        }
    }

    fn is_zero_from(&mut self, at: u64) -> Result<bool, WalError> {
        let mut at = at;
        while at < self.len {
            let end = self.len.min(at + WINDOW_BYTES as u64);
            if self.bytes(at..end)?.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at = end;
        }
        Ok(true)
    }
}

const _: () = assert!(WAL_RECORD_BYTES_MAX < usize::MAX as u64 / 2);
