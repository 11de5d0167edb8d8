//! Where a segment goes on behind a damaged place, and how that is known.
//!
//! Each record stores the checksum of everything up to and with it, so what follows a damaged
//! one can be verified from what that one stores, or from the checksum of its data where only
//! its framing is damaged. Where not even that can be read, the next record is looked for from
//! which everything to the segment's end verifies: a value may hold bytes that look like
//! records, but not up to there.

use crate::damage::valid_frame;
use crate::record::{Kind, LENGTH_BYTES, Length, Record};

/// What lies between a damaged place and where the records go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    /// One record; its kind when that is sure.
    One(Option<Kind>),
    /// Nobody knows how many.
    Many,
}

/// Where the records go on.
pub(crate) struct Resumed {
    pub(crate) gap: Gap,
    /// The running checksum there.
    pub(crate) crc: u32,
    pub(crate) end: usize,
}

/// Longest data of a hard state: three numbers with their tags.
const STATE_BYTES_MAX: usize = 33;

/// Looks behind the damaged place `at`, before which the running checksum is `before`.
pub(crate) fn resume(bytes: &[u8], at: usize, before: u32) -> Option<Resumed> {
    behind_one(bytes, at, before).or_else(|| behind_many(bytes, at + LENGTH_BYTES))
}

fn behind_one(bytes: &[u8], at: usize, before: u32) -> Option<Resumed> {
    let (field, rest) = bytes.get(at..)?.split_first_chunk::<LENGTH_BYTES>()?;
    let by_field = Length::parse(*field);
    let by_itself = Record::parse(rest).map(|record| Length::of(record.len));
    for length in [by_field, by_itself].into_iter().flatten() {
        let end = usize::try_from(length.frame()).ok().and_then(|len| at.checked_add(len))?;
        let record = usize::try_from(length.record).ok().and_then(|len| rest.get(..len));
        let record = record.and_then(Record::parse).filter(|r| r.len as u64 == length.record);
        let stored = record.map(|record| record.crc).or_else(|| Record::stored_crc(rest));
        let computed = record.map(|record| crc32c::crc32c_append(before, record.data));
        let goes_on =
            |crc: &u32| valid_frame(bytes, end).is_some_and(|(record, _)| record.fits(*crc));
        if let Some(crc) = [stored, computed].into_iter().flatten().find(goes_on) {
            let is_state = |record: &Record<'_>| {
                record.kind == Kind::State && record.data.len() <= STATE_BYTES_MAX
            };
            // Where the checksum fits, what is wrong is the kind.
            let sure = record.filter(is_state).filter(|record| !record.fits(before));
            return Some(Resumed { gap: Gap::One(sure.map(|record| record.kind)), crc, end });
        }
    }
    None
}

fn behind_many(bytes: &[u8], from: usize) -> Option<Resumed> {
    (from.next_multiple_of(8)..bytes.len()).step_by(8).find_map(|at| {
        let (record, end) = valid_frame(bytes, at)?;
        let (next, _) = valid_frame(bytes, end)?;
        let crc = record.crc;
        (next.fits(crc) && is_sound_to_the_end(bytes, end, crc)).then_some(Resumed {
            gap: Gap::Many,
            crc,
            end,
        })
    })
}

fn is_sound_to_the_end(bytes: &[u8], mut at: usize, mut crc: u32) -> bool {
    while let Some((record, end)) = valid_frame(bytes, at) {
        if !record.fits(crc) {
            return false;
        }
        (at, crc) = (end, record.crc);
    }
    bytes.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}
