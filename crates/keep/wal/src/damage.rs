//! Torn or damaged: what the bytes can tell about the first place in a segment
//! where no valid record follows.
//!
//! **What a power cut can leave.** Records are only appended, to a segment that
//! was filled with zeros and synced first. What was not synced is written by the
//! system in any order, block by block; a block holds what the log had in it at
//! some moment. So behind the last sync, and only there, *every 512-byte sector
//! is right up to some byte and zero from there on* (and the file may end early,
//! when its growth was not synced). Nobody was promised anything that lies there.
//!
//! **What a sync proves.** An entry, a vote and a snapshot record are synced
//! before the next record is written. So the part that was not synced is: any
//! number of hard states that only move the commit index, then entries, then one
//! hard state; or such hard states and a snapshot record. When behind the bad
//! place a valid record follows after that pattern is over, then the bad place
//! was synced, and its bytes were lost later. We end every save of entries with a
//! hard state to make the pattern's end visible; etcd nearly always does.
//!
//! **The verdict**, in this order:
//! 1. Only zeros follow: the end. A single set bit in them is nothing either.
//! 2. The record can be read whole after all: by its own length instead of the
//!    length field, or with one bit turned. If the bytes that are wrong could have
//!    been lost by a power cut (they are zero up to the end of their sector) and no
//!    sync is proved behind them, the record is *mended*: whether it was torn or
//!    damaged, keeping it is right. Else it is damage, and the field or bit is named.
//! 3. No zeros where the record's bytes should be, or a sync is proved behind
//!    them, or the segment is not the last one: damage.
//! 4. Else a torn tail. That valid records may follow it (page 2 was written, page
//!    1 was not) is said in the report.
//!
//! What remains undecidable from the bytes: damage that zeroes the end of a sector
//! within the last save that was synced. It looks exactly like a torn write and is
//! reported as one, with what was cut off kept in a `.broken` file.

use crate::record::{Content, FRAMING_BYTES_MAX, Kind, LENGTH_BYTES, Length, Record};
use mainstay_raft::HardState;

/// Smallest piece that a disk writes as one.
const SECTOR: usize = 512;

/// What is the matter at a bad place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The log ends here, and nothing of it follows.
    End,
    /// A write was cut short by the end of power.
    Torn {
        /// Up to here there is something else than zeros.
        end: u64,
        /// Valid records behind the torn one.
        following: u64,
    },
    /// The record is whole with these bytes at this offset.
    Mend { at: u64, bytes: Vec<u8> },
    /// Bytes that were safe are not what was written.
    Corrupt { offset: u64, expected: String, found: String },
}

/// A segment and the place in it where no valid record follows.
pub(crate) struct Scene<'a> {
    /// The whole segment.
    pub(crate) bytes: &'a [u8],
    /// The end of the last valid record.
    pub(crate) at: usize,
    /// The running checksum there.
    pub(crate) crc: u32,
    /// Whether this is the last segment.
    pub(crate) last: bool,
}

impl Scene<'_> {
    /// Decides. `at` lies on a multiple of eight.
    pub(crate) fn judge(&self) -> Verdict {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().rposition(|byte| *byte != 0).map(|last| self.at + last + 1)
        else {
            return Verdict::End;
        };
        if rest.len() >= LENGTH_BYTES && has_one_bit(rest) {
            return Verdict::End;
        }
        let field = self.field();
        let length = Length::parse(field);
        let record = rest.get(LENGTH_BYTES..).and_then(Record::parse);
        let sure =
            length.zip(record).is_some_and(|(length, record)| length.record == record.len as u64);
        let following = self.following(match length {
            Some(length) if sure => self.at + length.frame() as usize,
            _ => self.at + LENGTH_BYTES,
        });
        if let Some(record) = record.filter(|record| record.fits(self.crc)) {
            if !sure {
                return self.wrong_length(record.len, field, &following);
            }
            // Whole, but the file ends within the padding.
            let at = self.at + LENGTH_BYTES + record.len;
            let padding = Length::of(record.len).padding as usize;
            if self.last && at + padding > self.bytes.len() {
                return Verdict::Mend { at: at as u64, bytes: vec![0; padding] };
            }
        }
        if let Some(flipped) = self.flipped_bit(length) {
            return self.wrong_bit(flipped, &following);
        }
        if !self.last || !self.lost_bytes(length, record) {
            return self.damage(length, record);
        }
        match following.synced_before {
            Some(proof) => Verdict::Corrupt {
                offset: self.at as u64,
                expected: format!("a record that was synced before the one at offset {proof}"),
                found: "bytes that read as zeros".into(),
            },
            None => Verdict::Torn { end: end as u64, following: following.count },
        }
    }

    /// The length field, with zeros where the file has ended.
    fn field(&self) -> [u8; 8] {
        let mut field = [0; 8];
        let there = &self.bytes[self.at..self.bytes.len().min(self.at + LENGTH_BYTES)];
        field[..there.len()].copy_from_slice(there);
        field
    }

    /// The record is whole; its length field is not.
    fn wrong_length(&self, len: usize, field: [u8; 8], following: &Following) -> Verdict {
        let right = Length::of(len).field();
        // The wrong bytes are zeros at the end of a sector.
        let lost = field.iter().zip(right).all(|(is, was)| *is == was || *is == 0)
            && self.zeros_from(self.at) < self.at + LENGTH_BYTES;
        if self.may_mend(lost, following) {
            return Verdict::Mend { at: self.at as u64, bytes: right.to_vec() };
        }
        Verdict::Corrupt {
            offset: self.at as u64,
            expected: format!("a length field {} for a record of {len} bytes", hex(&right)),
            found: format!("a damaged length field {}", hex(&field)),
        }
    }

    /// The record is whole but for one bit.
    fn wrong_bit(&self, (offset, bit): (usize, u8), following: &Following) -> Verdict {
        let is = self.bytes[offset];
        let was = is ^ (1 << bit);
        let lost = is == 0 && self.zeros_from(offset) <= offset;
        if self.may_mend(lost, following) {
            return Verdict::Mend { at: offset as u64, bytes: vec![was] };
        }
        let (starts, part) = (self.at, self.part_of(offset));
        Verdict::Corrupt {
            offset: offset as u64,
            expected: format!("byte {was:#04x} in the {part} of the record at offset {starts}"),
            found: format!("{is:#04x}: bit {bit} is flipped"),
        }
    }

    fn may_mend(&self, lost: bool, following: &Following) -> bool {
        self.last && lost && following.synced_before.is_none()
    }

    /// No reading of the record fits.
    fn damage(&self, length: Option<Length>, record: Option<Record<'_>>) -> Verdict {
        let offset = self.at as u64;
        let (expected, found) = match (length, record) {
            (None, _) => ("a length field", hex(&self.field())),
            (Some(length), None) => (
                "a record (kind 1 to 5, crc, data)",
                format!("{} bytes that are none", length.record),
            ),
            (Some(length), Some(record)) if length.record != record.len as u64 => (
                "a length field that agrees with the record",
                format!("{} and a record of {} bytes", length.record, record.len),
            ),
            (_, Some(record)) => {
                let is = crc32c::crc32c_append(self.crc, record.data);
                return Verdict::Corrupt {
                    offset,
                    expected: format!("a record with crc {:#010x}", record.crc),
                    found: format!("one with crc {is:#010x}"),
                };
            }
        };
        Verdict::Corrupt { offset, expected: expected.into(), found }
    }

    /// Where the zeros begin that reach to the end of this byte's sector. Bytes
    /// past the end of the file count as zeros.
    fn zeros_from(&self, at: usize) -> usize {
        let start = at - at % SECTOR;
        let end = self.bytes.len().min(start + SECTOR);
        let last = self.bytes[start..end].iter().rposition(|byte| *byte != 0);
        start + last.map_or(0, |last| last + 1)
    }

    /// Whether a power cut could have lost bytes of this record: a sector that it
    /// lies in is zero from within the record to the sector's end, or the file ends
    /// within the record.
    fn lost_bytes(&self, length: Option<Length>, record: Option<Record<'_>>) -> bool {
        if self.bytes.len() < self.at + LENGTH_BYTES {
            return true;
        }
        let Some(length) = length else {
            return self.zeros_from(self.at) < self.at + LENGTH_BYTES;
        };
        let claimed = self.at as u64 + length.frame();
        if claimed > self.bytes.len() as u64 {
            // A complete record within a file that ends in a longer one is a
            // damaged length field, not a torn record.
            return record.is_none();
        }
        // Padding is zeros anyway.
        let end = claimed as usize - length.padding as usize;
        let sectors = (self.at / SECTOR..end.div_ceil(SECTOR)).map(|sector| sector * SECTOR);
        sectors.into_iter().any(|sector| {
            let sector_end = (sector + SECTOR).min(end);
            self.zeros_from(sector.max(self.at)).max(self.at) < sector_end
        })
    }

    /// What comes behind the bad record.
    fn following(&self, from: usize) -> Following {
        let mut following = Following::default();
        // The bad record's own kind, when the bytes before it are right.
        let kind_at = self.at + LENGTH_BYTES;
        if let Some([tag, kind]) = self.bytes.get(kind_at..kind_at + 2)
            && *tag == 0x08
            && let Some(kind) = Kind::from_number(u64::from(*kind))
        {
            following.note(kind, &[], self.at);
            following.count = 0;
            following.synced_before = None;
        }
        let mut at = from.next_multiple_of(8);
        while at < self.bytes.len() {
            match valid_frame(self.bytes, at) {
                Some((record, end)) => {
                    following.note(record.kind, record.data, at);
                    at = end;
                }
                None => at += 8,
            }
        }
        following
    }

    /// The bit that, turned, makes the record whole.
    fn flipped_bit(&self, length: Option<Length>) -> Option<(usize, u8)> {
        let end = self.bytes.len().min(self.at + FRAMING_BYTES_MAX);
        let mut framing = self.bytes[self.at..end].to_vec();
        for offset in 0..framing.len() {
            for bit in 0..8 {
                framing[offset] ^= 1 << bit;
                if self.fits_with(&framing) {
                    return Some((self.at + offset, bit));
                }
                framing[offset] ^= 1 << bit;
            }
        }
        let length = length?;
        let record = Record::parse(self.bytes.get(self.at + LENGTH_BYTES..)?)?;
        if record.len as u64 != length.record {
            return None;
        }
        let is = crc32c::crc32c_append(self.crc, record.data);
        let (distance, bit) = flipped_data_bit(is ^ record.crc, record.data.len())?;
        Some((self.at + LENGTH_BYTES + record.len - 1 - distance, bit))
    }

    /// Whether the record is whole when it starts with `framing`.
    fn fits_with(&self, framing: &[u8]) -> bool {
        let Some((field, start)) = framing.split_first_chunk::<LENGTH_BYTES>() else {
            return false;
        };
        let Some(length) = Length::parse(*field) else { return false };
        let Some(end) =
            usize::try_from(length.frame()).ok().and_then(|len| self.at.checked_add(len))
        else {
            return false;
        };
        let Some(frame) = self.bytes.get(self.at..end) else { return false };
        let record_end = frame.len() - length.padding as usize;
        // Cheap first: most turned bits make no record at all.
        let mut bytes = start[..start.len().min(length.record as usize)].to_vec();
        let Some(kind) = bytes.get(1).and_then(|kind| Kind::from_number(u64::from(*kind))) else {
            return false;
        };
        if bytes.first() != Some(&0x08) || kind == Kind::Crc {
            return false;
        }
        bytes.extend_from_slice(frame.get(LENGTH_BYTES + bytes.len()..record_end).unwrap_or(&[]));
        Record::parse(&bytes).is_some_and(|record| {
            record.len == bytes.len()
                && record.fits(self.crc)
                && Content::read(record.kind, record.data).is_ok()
        })
    }

    /// What a byte of the bad record belongs to.
    fn part_of(&self, offset: usize) -> &'static str {
        match offset - self.at {
            0..LENGTH_BYTES => "length field",
            8 | 9 => "kind",
            _ => match self.bytes.get(self.at + LENGTH_BYTES..).and_then(Record::parse) {
                Some(record)
                    if offset >= self.at + LENGTH_BYTES + record.len - record.data.len() =>
                {
                    "data"
                }
                _ => "crc or data length",
            },
        }
    }
}

/// Valid records behind a bad place.
#[derive(Debug, Default)]
struct Following {
    count: u64,
    /// The first record that was written after a sync of the bad place.
    synced_before: Option<usize>,
    entry: bool,
    state: Option<HardState>,
    /// What was seen can only be followed by what was written after a sync.
    sealed: bool,
}

impl Following {
    fn note(&mut self, kind: Kind, data: &[u8], at: usize) {
        self.count += 1;
        if self.sealed || (self.entry && kind == Kind::Snapshot) {
            self.synced_before.get_or_insert(at);
        }
        match kind {
            Kind::Entry => self.entry = true,
            Kind::Snapshot => self.sealed = true,
            Kind::State => {
                self.sealed |= self.entry;
                if let Ok(Content::State(now)) = Content::read(kind, data) {
                    let before = self.state.replace(now);
                    let moved =
                        |before: HardState| (before.term, before.vote) != (now.term, now.vote);
                    self.sealed |= before.is_some_and(moved);
                }
            }
            Kind::Metadata | Kind::Crc => {}
        }
    }
}

/// A frame whose form is right, wherever its checksum chain comes from.
pub(crate) fn valid_frame(bytes: &[u8], at: usize) -> Option<(Record<'_>, usize)> {
    let field = bytes.get(at..at + LENGTH_BYTES)?;
    let length = Length::parse(field.try_into().expect("eight bytes"))?;
    let end = at.checked_add(usize::try_from(length.frame()).ok()?)?;
    let frame = bytes.get(at..end)?;
    let record = Record::parse(&frame[LENGTH_BYTES..])?;
    let whole = record.len as u64 == length.record
        && !matches!(record.kind, Kind::Crc | Kind::Metadata)
        && Content::read(record.kind, record.data).is_ok();
    whole.then_some((record, end))
}

fn has_one_bit(bytes: &[u8]) -> bool {
    let mut ones = bytes.iter().filter(|byte| **byte != 0).map(|byte| byte.count_ones());
    ones.next() == Some(1) && ones.next().is_none()
}

/// Finds the bit of data whose turning changes the checksum by `difference`:
/// (bytes behind it, bit). Turning one bit changes a CRC by an amount that
/// depends only on how many bits follow, and no two amounts are equal for data
/// of less than 2^31 bits.
fn flipped_data_bit(difference: u32, len: usize) -> Option<(usize, u8)> {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    // The change made by the last bit that enters: bit 7 of the last byte.
    let mut change = POLYNOMIAL;
    for distance in 0..len {
        for bit in (0..8).rev() {
            if change == difference {
                return Some((distance, bit));
            }
            change = if change & 1 == 1 { change >> 1 ^ POLYNOMIAL } else { change >> 1 };
        }
    }
    None
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::flipped_data_bit;

    #[test]
    fn a_flipped_bit_is_found() {
        let data = b"some bytes of which one has a flipped bit";
        let crc = crc32c::crc32c_append(77, data);
        for byte in 0..data.len() {
            for bit in 0..8 {
                let mut flipped = data.to_vec();
                flipped[byte] ^= 1 << bit;
                let difference = crc32c::crc32c_append(77, &flipped) ^ crc;
                let found = flipped_data_bit(difference, data.len());
                assert_eq!(found, Some((data.len() - 1 - byte, bit)));
            }
        }
        assert_eq!(flipped_data_bit(0, data.len()), None);
    }
}
