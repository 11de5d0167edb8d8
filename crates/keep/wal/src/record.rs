//! One record and its frame: how they are written and how strictly they are read.
//!
//! A frame is eight bytes of length, little-endian, then a walpb.Record, then
//! zeros up to a multiple of eight. The low 56 bits of the length count the
//! record; the top byte is 0x80 plus the padding, or 0 without padding.
//!
//! The CRC of a record covers the data of all records up to and with it, but no
//! length, kind or field tag. What protects those is that etcd writes each record
//! in exactly one way: kind, crc, data, in this order and with the shortest
//! numbers. So the record itself says how long it is, and the length field, the
//! tags and the kind must agree with it; only the five kinds exist, at fixed
//! places or with data that no other kind can have (see [`Content::read`]).

use bytes::Bytes;
use mainstay_proto::{Message, etcdserverpb, walpb};
use mainstay_raft::{ConfState, Entry, EntryKind, HardState};
use mainstay_types::limits::WAL_RECORD_BYTES_MAX;
use mainstay_types::{ClusterId, Index, MemberId, Term};

use crate::convert;

/// Bytes of the length field.
pub(crate) const LENGTH_BYTES: usize = 8;
/// Most bytes of length field, tags and numbers before a record's data.
pub(crate) const FRAMING_BYTES_MAX: usize = LENGTH_BYTES + 2 + 6 + 6;

const KIND_METADATA: u64 = 1;
const KIND_ENTRY: u64 = 2;
const KIND_STATE: u64 = 3;
const KIND_CRC: u64 = 4;
const KIND_SNAPSHOT: u64 = 5;

const TAG_KIND: u8 = 0x08;
const TAG_CRC: u8 = 0x10;
const TAG_DATA: u8 = 0x1a;

/// Who writes a log: the first thing in every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// The log's note that a snapshot is safe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMark {
    /// The last index that the snapshot covers.
    pub index: Index,
    /// The term of the entry at `index`.
    pub term: Term,
    /// The configuration at `index`. Logs of etcd before 3.5 lack it; what we
    /// write has it unless `index` is 0.
    pub conf_state: Option<ConfState>,
}

/// The kinds of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Metadata,
    Entry,
    State,
    Crc,
    Snapshot,
}

impl Kind {
    pub(crate) fn from_number(number: u64) -> Option<Kind> {
        match number {
            KIND_METADATA => Some(Kind::Metadata),
            KIND_ENTRY => Some(Kind::Entry),
            KIND_STATE => Some(Kind::State),
            KIND_CRC => Some(Kind::Crc),
            KIND_SNAPSHOT => Some(Kind::Snapshot),
            _ => None,
        }
    }
}

/// A length field, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    /// Bytes of the record, without padding.
    pub(crate) record: u64,
    /// Bytes of zeros after it.
    pub(crate) padding: u64,
}

impl Length {
    pub(crate) fn of(record: usize) -> Length {
        let record = record as u64;
        Length { record, padding: record.wrapping_neg() % 8 }
    }

    /// Reads a length field; `None` when it contradicts itself.
    pub(crate) fn parse(field: [u8; 8]) -> Option<Length> {
        let number = u64::from_le_bytes(field);
        let length = Length::of((number & 0x00ff_ffff_ffff_ffff) as usize);
        let fits = length.record > 0 && length.record <= WAL_RECORD_BYTES_MAX;
        (fits && length.field() == field).then_some(length)
    }

    pub(crate) fn field(self) -> [u8; 8] {
        let top = if self.padding == 0 { 0 } else { 0x80 | self.padding };
        (self.record | top << 56).to_le_bytes()
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame(self) -> u64 {
        LENGTH_BYTES as u64 + self.record + self.padding
    }
}

/// A record whose form is right; its checksum is not looked at yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// Its kind.
    pub(crate) kind: Kind,
    /// The stored checksum.
    pub(crate) crc: u32,
    /// Its data; empty only for [`Kind::Crc`].
    pub(crate) data: &'a [u8],
    /// How many bytes the record takes, by its own account.
    pub(crate) len: usize,
}

impl<'a> Record<'a> {
    /// The checksum of the record at the start of `bytes`, whatever follows it.
    pub(crate) fn stored_crc(bytes: &'a [u8]) -> Option<u32> {
        let mut reader = Reader { bytes, at: 0 };
        number(&mut reader, TAG_KIND)?;
        number(&mut reader, TAG_CRC).and_then(|crc| u32::try_from(crc).ok())
    }

    /// Reads the record at the start of `bytes`, which may go on behind it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Record<'a>> {
        let mut reader = Reader { bytes, at: 0 };
        reader.tag(TAG_KIND)?;
        let kind = Kind::from_number(reader.number()?)?;
        reader.tag(TAG_CRC)?;
        let crc = u32::try_from(reader.number()?).ok()?;
        let data = if kind == Kind::Crc {
            &[]
        } else {
            reader.tag(TAG_DATA)?;
            let len = usize::try_from(reader.number()?).ok()?;
            reader.take(len).filter(|data| !data.is_empty())?
        };
        Some(Record { kind, crc, data, len: reader.at })
    }

    /// Whether the checksum fits behind a record with checksum `before`. A
    /// [`Kind::Crc`] record carries its checksum instead of having one.
    pub(crate) fn fits(&self, before: u32) -> bool {
        self.kind == Kind::Crc || crc32c::crc32c_append(before, self.data) == self.crc
    }
}

/// Takes bytes apart the way etcd puts them together.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn tag(&mut self, tag: u8) -> Option<()> {
        (self.byte()? == tag).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// A varint in its shortest form.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn at_end(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// Why data with a fitting checksum cannot be used.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// No version writes this kind of record with such data.
    Wrong { expected: &'static str, found: String },
    /// A field or value that we do not know.
    Newer(String),
}

/// What a record says.
#[derive(Debug)]
pub(crate) enum Content {
    Metadata(Metadata),
    Entry(Entry),
    State(HardState),
    Snapshot(SnapshotMark),
    /// Nothing but the running checksum.
    Crc,
}

impl Content {
    /// Reads the data of a record.
    ///
    /// The kind is outside of the checksum, so a flipped bit can turn one kind
    /// into another: an entry without data and a hard state have the same three
    /// fields. They are told apart by what cannot be: a hard state has a term, and
    /// only an entry of kind 0 has no data, so that a hard state of term 1 or 2
    /// is no entry either (from 3 on there is no such kind of entry).
    pub(crate) fn read(kind: Kind, data: &[u8]) -> Result<Content, Unreadable> {
        match kind {
            Kind::Metadata => read_metadata(data).map(Content::Metadata),
            Kind::Entry => read_entry(data).map(Content::Entry),
            Kind::State => read_state(data).map(Content::State),
            Kind::Snapshot => read_snapshot(data).map(Content::Snapshot),
            Kind::Crc => Ok(Content::Crc),
        }
    }
}

fn read_metadata(data: &[u8]) -> Result<Metadata, Unreadable> {
    let wrong = |found: String| Unreadable::Wrong { expected: "a member and a cluster", found };
    let pb = etcdserverpb::Metadata::decode(data).map_err(|error| wrong(error.to_string()))?;
    match (pb.node_id, pb.cluster_id) {
        (Some(member), Some(cluster)) => {
            Ok(Metadata { member: MemberId(member), cluster: ClusterId(cluster) })
        }
        _ => Err(wrong("one without the other".into())),
    }
}

fn read_snapshot(data: &[u8]) -> Result<SnapshotMark, Unreadable> {
    let wrong =
        |found: String| Unreadable::Wrong { expected: "a snapshot's index and term", found };
    let pb = walpb::Snapshot::decode(data).map_err(|error| wrong(error.to_string()))?;
    match (pb.index, pb.term) {
        (Some(index), Some(term)) => Ok(SnapshotMark {
            index: Index(index),
            term: Term(term),
            conf_state: pb.conf_state.map(convert::conf_state_from_pb),
        }),
        _ => Err(wrong("one without the other".into())),
    }
}

/// Reads a number that has this tag.
fn number(reader: &mut Reader<'_>, tag: u8) -> Option<u64> {
    reader.tag(tag)?;
    reader.number()
}

/// Reads three numbers with the tags 1, 2 and 3.
fn three_numbers(reader: &mut Reader<'_>) -> Option<[u64; 3]> {
    Some([number(reader, 0x08)?, number(reader, 0x10)?, number(reader, 0x18)?])
}

/// Reads kind, term and index of an entry. Go leaves a kind of 0 out from 3.7 on; all else,
/// and whatever else it writes into a log, it still spells out.
fn entry_numbers(reader: &mut Reader<'_>) -> Option<[u64; 3]> {
    let kind = if reader.bytes.first() == Some(&0x08) { number(reader, 0x08)? } else { 0 };
    Some([kind, number(reader, 0x10)?, number(reader, 0x18)?])
}

fn read_state(data: &[u8]) -> Result<HardState, Unreadable> {
    let wrong = |found: &str| Unreadable::Wrong {
        expected: "a hard state (term, vote, commit)",
        found: found.into(),
    };
    let mut reader = Reader { bytes: data, at: 0 };
    let [term, vote, commit] = three_numbers(&mut reader).ok_or_else(|| wrong("other fields"))?;
    if !reader.at_end() {
        return Err(wrong("more than these fields"));
    }
    if term == 0 {
        return Err(wrong("term 0, as if the record were an entry"));
    }
    Ok(HardState { term: Term(term), vote: MemberId(vote), commit: Index(commit) })
}

fn read_entry(data: &[u8]) -> Result<Entry, Unreadable> {
    let wrong = |found: &str| Unreadable::Wrong {
        expected: "an entry (kind, term, index, data)",
        found: found.into(),
    };
    let mut reader = Reader { bytes: data, at: 0 };
    let [kind, term, index] = entry_numbers(&mut reader).ok_or_else(|| wrong("other fields"))?;
    let payload = if reader.at_end() {
        &[]
    } else {
        if reader.tag(0x22).is_none() {
            return Err(Unreadable::Newer("an entry with an unknown field".into()));
        }
        let len = reader.number().and_then(|len| usize::try_from(len).ok());
        let payload = len.and_then(|len| reader.take(len));
        payload.ok_or_else(|| wrong("data cut short"))?
    };
    if !reader.at_end() {
        return Err(Unreadable::Newer("an entry with an unknown field".into()));
    }
    let Some(kind) = convert::entry_kind(kind) else {
        return Err(if payload.is_empty() {
            wrong("no data and no kind, as if the record were a hard state")
        } else {
            Unreadable::Newer(format!("an entry of kind {kind}"))
        });
    };
    if term == 0 || index == 0 {
        return Err(wrong("term or index 0"));
    }
    if kind != EntryKind::Normal && payload.is_empty() {
        return Err(wrong("a change of the configuration without data"));
    }
    let data = Bytes::copy_from_slice(payload);
    Ok(Entry { term: Term(term), index: Index(index), kind, data })
}

/// Writes frames into one buffer and carries the running checksum.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Checksum of everything encoded so far.
    pub(crate) crc: u32,
    /// Frames that are not on the disk yet.
    pub(crate) buffer: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(crc: u32) -> Encoder {
        Encoder { crc, buffer: Vec::new() }
    }

    /// Starts a segment with the running checksum.
    pub(crate) fn crc(&mut self) {
        self.frame(KIND_CRC, &[], &[]);
    }

    pub(crate) fn metadata(&mut self, metadata: Metadata) {
        let mut data = Small::new();
        data.field(0x08, metadata.member.0);
        data.field(0x10, metadata.cluster.0);
        self.frame(KIND_METADATA, data.bytes(), &[]);
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        let mut head = Small::new();
        head.field(0x08, convert::entry_kind_number(entry.kind));
        head.field(0x10, entry.term.0);
        head.field(0x18, entry.index.0);
        if !entry.data.is_empty() {
            head.field(0x22, entry.data.len() as u64);
        }
        self.frame(KIND_ENTRY, head.bytes(), &entry.data);
    }

    pub(crate) fn state(&mut self, state: &HardState) {
        let mut data = Small::new();
        data.field(0x08, state.term.0);
        data.field(0x10, state.vote.0);
        data.field(0x18, state.commit.0);
        self.frame(KIND_STATE, data.bytes(), &[]);
    }

    pub(crate) fn snapshot(&mut self, mark: &SnapshotMark) {
        let pb = walpb::Snapshot {
            index: Some(mark.index.0),
            term: Some(mark.term.0),
            conf_state: mark.conf_state.as_ref().map(convert::conf_state_to_pb),
        };
        self.frame(KIND_SNAPSHOT, &pb.encode_to_vec(), &[]);
    }

    /// Writes a frame whose data comes in two parts.
    fn frame(&mut self, kind: u64, head: &[u8], tail: &[u8]) {
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, head), tail);
        let mut front = Small::new();
        front.field(TAG_KIND, kind);
        front.field(TAG_CRC, u64::from(self.crc));
        let data = head.len() + tail.len();
        if kind != KIND_CRC {
            front.field(TAG_DATA, data as u64);
        }
        let front = front.bytes();
        let length = Length::of(front.len() + data);
        self.buffer.reserve(length.frame() as usize);
        self.buffer.extend_from_slice(&length.field());
        self.buffer.extend_from_slice(front);
        self.buffer.extend_from_slice(head);
        self.buffer.extend_from_slice(tail);
        self.buffer.extend_from_slice(&[0; 7][..length.padding as usize]);
    }
}

/// A few encoded fields without an allocation: four of at most eleven bytes.
struct Small {
    bytes: [u8; 44],
    len: usize,
}

impl Small {
    fn new() -> Small {
        Small { bytes: [0; 44], len: 0 }
    }

    fn field(&mut self, tag: u8, mut number: u64) {
        self.push(tag);
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
