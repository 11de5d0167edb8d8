//! Every damage is found and named; every torn tail is only a torn tail.

use mainstay_env_sim::{SimDice, SimDisk};
use mainstay_raft::{Entry, HardState};

use super::support::{create, data, dir, entry, last_segment, mark, open, small_segments, state};
use crate::record::{Content, LENGTH_BYTES, Length, Record};
use crate::{Replay, SnapshotMark, WalError, WalOptions, read};

/// Saves with what they add, and where each ends in the segment.
struct Log {
    disk: SimDisk,
    path: String,
    /// The segment up to the last record.
    bytes: Vec<u8>,
    /// Where each record starts.
    starts: Vec<usize>,
    whole: Replay,
}

impl Log {
    /// A log of one segment with all kinds of records, without preallocated zeros.
    fn small(saves: u64, size: u64) -> Log {
        let disk = SimDisk::new(saves);
        let mut dice = SimDice::new(saves);
        let options = small_segments(1 << 20);
        let mut wal = create(&disk, options);
        for index in 1..=saves {
            let term = 1 + index / 3;
            let saved = [entry(term, index, data(&mut dice, size))];
            wal.save(Some(&state(term, index % 3, index - 1)), &saved, true).unwrap();
            if index % 4 == 0 {
                wal.save_snapshot(&mark(1 + (index - 1) / 3, index - 1)).unwrap();
            }
        }
        wal.close().unwrap();
        Log::of(disk)
    }

    fn of(disk: SimDisk) -> Log {
        let path = last_segment(&disk);
        let all = disk.contents(&path).unwrap();
        let (mut starts, mut at) = (Vec::new(), 0);
        while let Some(length) = Length::parse(all[at..at + 8].try_into().unwrap()) {
            starts.push(at);
            at += length.frame() as usize;
        }
        let whole = read(&disk, dir(), &SnapshotMark::default()).unwrap();
        let bytes = all[..at].to_vec();
        disk.install(&path, &bytes);
        Log { disk, path, bytes, starts, whole }
    }

    /// What is read when the segment has these bytes; for writing, twice: what was
    /// repaired stays so.
    fn read(&self, bytes: &[u8]) -> Result<Replay, WalError> {
        let disk = SimDisk::new(0);
        disk.install(&self.path, bytes);
        let beside = read(&disk, dir(), &SnapshotMark::default());
        let opened = open(&disk, &SnapshotMark::default(), WalOptions::default());
        match (beside, opened) {
            (Ok(beside), Ok((wal, opened))) => {
                drop(wal);
                let again = read(&disk, dir(), &SnapshotMark::default()).unwrap();
                assert_eq!((&again.torn_tail, again.mended), (&None, 0));
                for other in [&again, &opened] {
                    assert_eq!(
                        (&other.entries, other.hard_state),
                        (&beside.entries, beside.hard_state)
                    );
                }
                Ok(opened)
            }
            (Err(error), Err(_)) => {
                let left = disk.contents(&self.path).unwrap();
                assert_eq!(left, bytes, "a damaged log is left alone");
                Err(error)
            }
            (beside, opened) => panic!("{beside:?} {:?}", opened.map(|(_, replay)| replay)),
        }
    }

    /// What the records say that end at or before `end`.
    fn prefix(&self, end: usize) -> (Vec<Entry>, HardState, usize) {
        let (mut entries, mut state, mut last) = (Vec::new(), HardState::default(), 0);
        for (position, start) in self.starts.iter().enumerate() {
            let stop = self.starts.get(position + 1).copied().unwrap_or(self.bytes.len());
            let record = Record::parse(&self.bytes[start + LENGTH_BYTES..]).unwrap();
            if start + LENGTH_BYTES + record.len > end {
                break;
            }
            last = stop;
            match Content::read(record.kind, record.data).unwrap() {
                Content::Entry(entry) => {
                    entries.truncate(entry.index.0 as usize - 1);
                    entries.push(entry);
                }
                Content::State(now) => state = now,
                _ => {}
            }
        }
        (entries, state, last)
    }

    /// The end of the head: what was synced before the segment got its name.
    fn head(&self) -> usize {
        self.starts[3]
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let log = Log::small(9, 40);
    let tail = vec![0; 1024];
    let (mut corrupt, mut mended) = (0, 0);
    for offset in 0..log.bytes.len() {
        for bit in 0..8 {
            let mut bytes = [&log.bytes[..], &tail].concat();
            bytes[offset] ^= 1 << bit;
            match log.read(&bytes) {
                Err(WalError::Corrupt { offset: named, .. }) => {
                    corrupt += 1;
                    // At the record that has the flip, or at the bit itself; a
                    // running checksum shows in the record after it.
                    let start = log.starts.iter().rposition(|start| *start <= offset).unwrap();
                    let next = log.starts.get(start + 2).copied().unwrap_or(usize::MAX);
                    let near = log.starts[start]..next;
                    assert!(near.contains(&(named as usize)), "{offset}.{bit} named as {named}");
                }
                Err(other) => panic!("{offset}.{bit}: {other}"),
                Ok(replay) => {
                    assert_eq!(replay.entries, log.whole.entries, "{offset}.{bit}");
                    assert_eq!(replay.hard_state, log.whole.hard_state, "{offset}.{bit}");
                    assert_eq!(replay.torn_tail, None, "{offset}.{bit}");
                    mended += replay.mended;
                    let padding = log.prefix(offset).2 > offset;
                    assert!(padding || replay.mended == 1, "{offset}.{bit} was passed over");
                }
            }
        }
    }
    assert!(corrupt > log.bytes.len() * 5, "{corrupt}");
    assert!(mended < 40, "only at the very end: {mended}");
}

#[test]
fn every_flipped_bit_in_the_unused_part_is_without_effect() {
    let log = Log::small(5, 40);
    let tail = 700;
    for offset in log.bytes.len()..log.bytes.len() + tail {
        for bit in 0..8 {
            let mut bytes = [&log.bytes[..], &vec![0; tail]].concat();
            bytes[offset] ^= 1 << bit;
            let replay = log.read(&bytes).unwrap();
            assert_eq!(replay.entries, log.whole.entries);
            assert_eq!((replay.torn_tail, replay.mended), (None, 0));
        }
    }
}

#[test]
fn a_flipped_bit_in_an_earlier_segment_is_found() {
    let disk = SimDisk::new(3);
    let mut wal = create(&disk, small_segments(600));
    for index in 1..=12 {
        wal.save(Some(&state(1, 1, index - 1)), &[entry(1, index, vec![9; 60])], true).unwrap();
    }
    wal.close().unwrap();
    let whole = read(&disk, dir(), &SnapshotMark::default()).unwrap();
    let mut paths = disk.paths();
    assert!(paths.len() > 2);
    paths.pop();
    for path in paths {
        let bytes = disk.contents(&path).unwrap();
        for offset in 0..bytes.len() as u64 {
            disk.flip(&path, offset, (offset % 8) as u8);
            match read(&disk, dir(), &SnapshotMark::default()) {
                Err(error) => assert!(error.is_corrupt(), "{error}"),
                Ok(replay) => assert_eq!(replay, whole, "padding: {path} {offset}"),
            }
            disk.flip(&path, offset, (offset % 8) as u8);
        }
        // Cut at any place, or records missing at its end.
        for len in 0..bytes.len() {
            disk.install(&path, &bytes[..len]);
            let error = read(&disk, dir(), &SnapshotMark::default()).unwrap_err();
            assert!(error.is_corrupt(), "{error}");
        }
        disk.install(&path, &bytes);
    }
}

#[test]
fn a_file_cut_at_any_byte_keeps_what_is_whole() {
    let log = Log::small(9, 300);
    for len in 0..log.bytes.len() {
        let outcome = log.read(&log.bytes[..len]);
        if len < log.starts[2] {
            assert!(outcome.unwrap_err().is_corrupt(), "the head was synced");
            continue;
        }
        let (entries, state, end) = log.prefix(len);
        if end < log.head() {
            // The first snapshot record is part of the head, too; without it the
            // log cannot say where it starts.
            assert!(matches!(outcome, Err(WalError::SnapshotMissing { .. })));
            continue;
        }
        let replay = outcome.unwrap();
        assert_eq!((&replay.entries, replay.hard_state), (&entries, state), "{len}");
        let torn = replay.torn_tail.map(|torn| torn.offset as usize);
        // A length of a power of two has one bit, as a stray bit has.
        let ones: u32 = log.bytes[end.min(len)..len].iter().map(|byte| byte.count_ones()).sum();
        assert!(ones == 1 || torn.is_some() == (ones > 1), "{len}: {torn:?}");
    }
}

#[test]
fn zeros_from_any_byte_on_are_a_torn_tail() {
    for (saves, size) in [(9, 300), (12, 40), (3, 5000)] {
        let log = Log::small(saves, size);
        for from in log.head()..log.bytes.len() {
            let mut bytes = [&log.bytes[..], &[0; 600]].concat();
            bytes[from..].fill(0);
            let replay = log.read(&bytes).unwrap();
            let (entries, state, end) = log.prefix(from);
            if replay.mended > 0 {
                // One bit was lost, and is known.
                assert!(replay.entries.len() >= entries.len());
                continue;
            }
            assert!(replay.entries.starts_with(&entries), "{from}");
            // Data that ends with zeros is whole before its last byte is there.
            let same = (replay.entries.len(), replay.hard_state) == (entries.len(), state);
            assert!(
                same || bytes[..log.bytes.len()] == log.bytes || replay.torn_tail.is_none(),
                "{from}"
            );
            if let Some(torn) = &replay.torn_tail {
                assert!(torn.offset as usize >= end, "{from}");
                assert!(torn.copy.is_some());
            }
        }
    }
}

#[test]
fn garbage_is_damage_in_any_record() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, small_segments(1 << 20));
    for index in 1..=6 {
        let saved = [entry(1, index, vec![0xaa; 400])];
        wal.save(Some(&state(1, 1, index)), &saved, true).unwrap();
    }
    wal.close().unwrap();
    let log = Log::of(disk);
    for (position, start) in log.starts.iter().enumerate().skip(3) {
        let stop = log.starts.get(position + 1).copied().unwrap_or(log.bytes.len());
        for (first, second) in (*start..stop).zip(start + 3..stop) {
            let mut bytes = [&log.bytes[..], &[0; 600]].concat();
            bytes[first] ^= 0x55;
            bytes[second] ^= 0x33;
            match log.read(&bytes) {
                Err(error) => assert!(error.is_corrupt(), "{error}"),
                // Only padding was hit, or it and a bit.
                Ok(replay) => assert_eq!(replay.entries, log.whole.entries, "{first} {second}"),
            }
        }
    }
}

#[test]
fn a_hole_before_a_later_save_is_damage() {
    let log = Log::small(30, 300);
    // Zeros over whole sectors; the last few saves are undecidable.
    let sectors = log.bytes.len() / 512;
    for sector in 1..sectors - 3 {
        let mut bytes = log.bytes.clone();
        bytes[sector * 512..(sector + 1) * 512].fill(0);
        let error = log.read(&bytes).unwrap_err();
        assert!(error.is_corrupt(), "{sector}: {error}");
    }
}

#[test]
fn a_save_written_out_of_order_is_torn() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, small_segments(1 << 20));
    wal.save(Some(&state(1, 1, 0)), &[entry(1, 1, "safe")], true).unwrap();
    let path = last_segment(&disk);
    let before = disk.contents(&path).unwrap();
    let many: Vec<Entry> = (2..200).map(|index| entry(1, index, vec![5; 100])).collect();
    wal.save(Some(&state(1, 1, 1)), &many, true).unwrap();
    wal.close().unwrap();
    let after = disk.contents(&path).unwrap();
    let used = after.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let log = Log { disk, path, bytes: after.clone(), starts: vec![], whole: replay_of(&after) };
    for page in 0..used.div_ceil(4096) {
        let mut bytes = after.clone();
        let range = page * 4096..(page + 1) * 4096;
        bytes[range.clone()].copy_from_slice(&before[range]);
        let replay = log.read(&bytes).unwrap();
        let torn = replay.torn_tail.unwrap();
        assert!(replay.entries.len() < 199 && replay.entries[0] == entry(1, 1, "safe"));
        assert!(torn.following > 0 || (page + 1) * 4096 >= used, "{torn:?}");
    }
    assert_eq!(log.whole.entries.len(), 199);
    let _ = &log.disk;
}

fn replay_of(bytes: &[u8]) -> Replay {
    let disk = SimDisk::new(0);
    disk.install("/data/member/wal/0000000000000000-0000000000000000.wal", bytes);
    read(&disk, dir(), &SnapshotMark::default()).unwrap()
}

#[test]
fn a_flip_names_what_it_hit() {
    let log = Log::small(9, 40);
    let start = log.starts[6];
    let name = |offset: usize, bit: u8| {
        let mut bytes = log.bytes.clone();
        bytes[offset] ^= 1 << bit;
        log.read(&bytes).unwrap_err().to_string()
    };
    assert!(name(start, 3).contains("a damaged length field"), "{}", name(start, 3));
    assert!(name(start + 6, 3).contains("a damaged length field"));
    assert!(name(start + 9, 7).contains("in the kind of the record"), "{}", name(start + 9, 7));
    assert!(name(start + 11, 2).contains("bit 2 is flipped"), "{}", name(start + 11, 2));
    assert!(name(start + 22, 5).contains("in the data of the record"), "{}", name(start + 22, 5));
}

#[test]
fn a_kind_turned_into_another_is_found() {
    let disk = SimDisk::new(1);
    let mut wal = create(&disk, small_segments(1 << 20));
    // An election's empty entry and hard states of low terms look alike.
    for term in 1..=4 {
        wal.save(Some(&state(term, 1, term)), &[entry(term, term, "")], true).unwrap();
    }
    wal.close().unwrap();
    let log = Log::of(disk);
    for start in &log.starts {
        let kind = log.bytes[start + 9];
        for other in (1..=5).filter(|other| *other != kind) {
            let mut bytes = log.bytes.clone();
            bytes[start + 9] = other;
            let error = log.read(&bytes).unwrap_err();
            assert!(error.is_corrupt(), "{start}: {kind} as {other}: {error}");
        }
    }
}
