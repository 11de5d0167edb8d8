//! The log's segments: opened, read, gone on with, opened again.
//!
//! The first byte says how the rest is meant: 0 for the bytes of one segment as they
//! are, else records whose frames and checksums are made here, so that what lies
//! behind them is reached.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_env::Disk as _;
use mainstay_env_sim::SimDisk;
use mainstay_raft::{ConfState, Entry, EntryKind, HardState};
use mainstay_types::{ClusterId, Index, MemberId, Term};
use mainstay_wal::{Metadata, SnapshotMark, Wal, WalError, WalOptions, read, valid_snapshots};

use crate::Target;
use crate::pieces::{Kind, Pieces, put_string};

pub(crate) const TARGET: Target = Target { name: "wal", seeds, run };

const DIR: &str = "/wal";
const OPTIONS: WalOptions = WalOptions { segment_bytes: 4096, sync: true };
const AS_IS: u8 = 0;
const RECORDS: u8 = 1;
/// Instead of a record's kind: the next segment starts here.
const CUT: u8 = 9;

fn entry(index: u64, data: &[u8]) -> Entry {
    let data = Bytes::copy_from_slice(data);
    Entry { term: Term(2), index: Index(index), kind: EntryKind::Normal, data }
}

/// A log of one or more segments, as we write it.
fn log(entries: u64, data: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    let metadata = Metadata { member: MemberId(7), cluster: ClusterId(8) };
    let shared = Arc::new(disk.clone());
    let mut wal = Wal::create_with(shared, Path::new(DIR), metadata, OPTIONS).expect("a new log");
    for index in 1..=entries {
        let state = HardState { term: Term(2), vote: MemberId(7), commit: Index(index - 1) };
        wal.save(Some(&state), &[entry(index, data)], true).expect("a sound disk");
        if index == 3 {
            let conf_state = Some(ConfState { voters: vec![MemberId(7)], ..ConfState::default() });
            let mark = SnapshotMark { index: Index(2), term: Term(2), conf_state };
            wal.save_snapshot(&mark).expect("a sound disk");
        }
    }
    wal.close().expect("a sound disk");
    disk
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (entries, data) in [(0, &b""[..]), (2, b"x"), (6, b""), (12, &[7; 200])] {
        let disk = log(entries, data);
        for path in disk.paths().into_iter().filter(|path| path.ends_with(".wal")) {
            let segment = disk.contents(&path).expect("listed");
            let end = segment.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 9);
            let mut seed = vec![AS_IS];
            seed.extend_from_slice(&segment[..end.next_multiple_of(8).min(segment.len())]);
            seeds.push(seed);
        }
    }
    let (metadata, mark) = ([8, 7, 16, 8], [8, 0, 16, 0]);
    let (state, entry) = ([8, 2, 16, 7, 24, 0], [8, 0, 16, 2, 24, 1, 34, 1, 120]);
    let mut seed = vec![RECORDS];
    for (kind, data) in [(1, &metadata[..]), (5, &mark), (2, &entry), (3, &state)] {
        seed.push(kind);
        put_string(&mut seed, data);
    }
    seeds.push(seed.clone());
    for (kind, data) in [(CUT, &[][..]), (1, &metadata), (3, &state), (2, &entry)] {
        seed.push(kind);
        put_string(&mut seed, data);
    }
    seeds.push(seed);
    seeds
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn frame(out: &mut Vec<u8>, crc: &mut u32, kind: u8, data: &[u8]) {
    *crc = crc32c(*crc, data);
    let mut record = vec![0x08, kind, 0x10];
    varint(&mut record, u64::from(*crc));
    if kind != 4 {
        record.push(0x1a);
        varint(&mut record, data.len() as u64);
        record.extend_from_slice(data);
    }
    let padding = record.len().wrapping_neg() % 8;
    let top = if padding == 0 { 0 } else { 0x80 | padding as u64 };
    out.extend_from_slice(&(record.len() as u64 | top << 56).to_le_bytes());
    out.extend_from_slice(&record);
    out.resize(out.len() + padding, 0);
}

/// CRC-32C bit by bit: inputs are small.
pub(crate) fn crc32c(before: u32, data: &[u8]) -> u32 {
    !data.iter().fold(!before, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

/// The segments that an input describes.
fn segments(input: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Pieces::new(input);
    if pieces.byte() == AS_IS {
        return vec![pieces.rest().to_vec()];
    }
    let mut crc = 0;
    let mut segments = vec![Vec::new()];
    frame(&mut segments[0], &mut crc, 4, &[]);
    while !pieces.is_empty() {
        let (kind, data) = (pieces.byte(), pieces.string());
        if kind == CUT && segments.len() < 4 {
            segments.push(Vec::new());
        }
        let last = segments.last_mut().expect("there is a first");
        match kind {
            CUT => frame(last, &mut crc, 4, &[]),
            _ => frame(last, &mut crc, kind, data),
        }
    }
    let last = segments.last_mut().expect("there is a first");
    last.resize(last.len() + 64, 0);
    segments
}

fn run(input: &[u8]) -> u64 {
    let disk = SimDisk::new(1);
    let dir = Path::new(DIR);
    disk.create_dir_all(dir).expect("a sound disk");
    for (seq, segment) in segments(input).into_iter().enumerate() {
        // Only the last may begin anywhere: where the entries are is what records say.
        disk.install(format!("{DIR}/{seq:016x}-{seq:016x}.wal"), &segment);
    }
    let mut kind = Kind::default();
    let marks = valid_snapshots(&disk, dir);
    let mut starts = vec![SnapshotMark::default()];
    match marks {
        Ok(marks) => starts.extend(marks.into_iter().take(2)),
        Err(error) => kind.add_text(&error.to_string()),
    }
    for from in starts {
        match check(&disk, &from) {
            Ok(entries) => kind.add_size(entries),
            Err(error) => kind.add_text(&error.to_string()),
        }
    }
    kind.end()
}

/// Reads and opens from `from`: the two agree, a refusal changes nothing, and a log
/// that was opened can be written to and opened again.
fn check(disk: &SimDisk, from: &SnapshotMark) -> Result<usize, WalError> {
    let disk = disk.copy();
    let dir = Path::new(DIR);
    let before = read(&disk, dir, from);
    let contents = |disk: &SimDisk| -> Vec<_> {
        disk.paths().into_iter().map(|path| disk.contents(path)).collect()
    };
    let untouched = contents(&disk);
    let shared = Arc::new(disk.clone());
    let (mut wal, replay) = match Wal::open_with(shared.clone(), dir, from, OPTIONS) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(before.is_err(), "what can be read can be opened: {error}");
            assert!(contents(&disk) == untouched, "a refusal changes nothing: {error}");
            return Err(error);
        }
    };
    let before = before.expect("what can be opened can be read");
    assert_eq!((&before.entries, before.hard_state), (&replay.entries, replay.hard_state));
    let last = replay.entries.last().map_or(from.index, |entry| entry.index);
    if last.0 == u64::MAX || wal.last_index() != last {
        return Ok(replay.entries.len());
    }
    let next = Entry { term: Term(u64::MAX), ..entry(last.0 + 1, b"next") };
    wal.save(None, std::slice::from_ref(&next), true)?;
    wal.close()?;
    let again = Wal::open_with(shared, dir, from, OPTIONS)?.1;
    assert_eq!(again.entries.last(), Some(&next), "what was saved is there");
    assert_eq!(again.entries.len(), replay.entries.len() + 1);
    Ok(replay.entries.len())
}
