//! A file that is shrunk while it is used: rows, readers and power cuts.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mainstay_bolt::{Bolt, Goal, Reader, Shrinking, WriteBatch};
use mainstay_env::Dice;
use mainstay_env_sim::{SimDisk, Unsynced};

use crate::crash::Allowed;
use crate::support::{Generator, PATH, State, open, options, read_all};

/// What a slice moves in these tests.
const SLICE: u64 = 16 << 10;

/// Begins, ends or goes on shrinking, by the dice.
fn meddle(bolt: &mut Bolt, generator: &mut Generator) -> u64 {
    match generator.dice.below(12) {
        0..2 => {
            let (size, in_use) = (bolt.reader().size(), bolt.reader().in_use());
            let bytes = in_use + generator.dice.below(size - in_use + 1);
            bolt.shrink(Goal { bytes, pack: generator.dice.one_in(3) });
        }
        2 if generator.dice.one_in(3) => bolt.stop_shrinking(),
        _ => {}
    }
    let moved = if generator.dice.one_in(4) { 0 } else { SLICE };
    assert!(bolt.shrinking().is_ok() && bolt.shrinking_failed().is_none());
    moved
}

/// High water marks in bytes of the metas that are valid in `file`, the newest first.
fn ends(file: &[u8], page_size: usize) -> Vec<u64> {
    let number = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let mut metas: Vec<_> = [0, page_size]
        .map(|at| at + 16)
        .iter()
        .filter(|at| fnv1a(&file[**at..**at + 56]) == number(**at + 56))
        .map(|at| (number(at + 48), number(at + 40) * page_size as u64))
        .collect();
    metas.sort_unstable_by(|a, b| b.cmp(a));
    metas.into_iter().map(|(_, end)| end).collect()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The file after the loss of its newest meta: bbolt goes on with the one before.
fn without_newest_meta(disk: &SimDisk, page_size: usize, txid: u64) -> SimDisk {
    let copy = disk.copy();
    let mut bytes = disk.contents(PATH).unwrap();
    bytes[(txid % 2) as usize * page_size + 40] ^= 1;
    copy.install("/fallen-back", &bytes);
    copy
}

fn run(seed: u64, page_size: usize, batches: usize) -> u64 {
    let disk = SimDisk::new(seed);
    let mut generator = Generator::new(seed);
    let mut bolt = open(&disk, page_size);
    let mut state = State::new();
    let mut held: Vec<(Reader, State)> = Vec::new();
    let (mut cuts, mut len) = (0, 0);
    for i in 0..batches {
        let what = format!("seed {seed}, batch {i}");
        let bytes = meddle(&mut bolt, &mut generator);
        let before = (bolt.reader().txid(), state.clone());
        let empty = generator.dice.one_in(3);
        let batch = if empty { WriteBatch::new() } else { generator.batch(&mut state) };
        bolt.commit_moving(batch, bytes).unwrap();
        let reader = bolt.reader();
        assert_eq!(read_all(&reader), state, "{what}");
        assert_eq!(bolt.check().unwrap(), [], "{what}");
        let file = disk.contents(PATH).unwrap();
        for end in ends(&file, page_size) {
            assert!(end <= file.len() as u64, "{what}: a meta reaches behind the file");
        }
        if reader.txid() > before.0 && i > 1 {
            let fallen = without_newest_meta(&disk, page_size, reader.txid());
            let old = Bolt::open(&fallen, Path::new("/fallen-back"), options(page_size)).unwrap();
            assert_eq!(read_all(&old.reader()), before.1, "{what}: the state before is whole");
            assert_eq!(old.check().unwrap(), [], "{what}");
        }
        cuts += u64::from(file.len() < len);
        len = file.len();
        if generator.dice.one_in(6) {
            held.push((reader, state.clone()));
        } else {
            drop(reader);
        }
        if held.len() > 2 || generator.dice.one_in(4) && !held.is_empty() {
            let n = generator.dice.below(held.len() as u64) as usize;
            let (reader, then) = held.remove(n);
            assert_eq!(read_all(&reader), then, "{what}: a held reader changed");
            assert_eq!(reader.check().unwrap(), [], "{what}");
            let mut bytes = vec![0; reader.copy().len() as usize];
            assert_eq!(reader.copy().read_at(0, &mut bytes).unwrap(), bytes.len(), "{what}");
            disk.install("/copy", &bytes);
            let copy = Reader::open(&disk, Path::new("/copy")).unwrap();
            assert_eq!(read_all(&copy), then, "{what}: a copy of a held reader");
        }
        if generator.dice.one_in(15) {
            held.clear();
            let before = (bolt.reader().size(), bolt.reader().in_use());
            drop(bolt);
            bolt = open(&disk, page_size);
            let after = (bolt.reader().size(), bolt.reader().in_use());
            assert_eq!(before, after, "{what}: the walk finds what the writer counted");
        }
    }
    cuts
}

#[test]
fn rows_and_readers_stay_while_the_file_shrinks() {
    let cuts: u64 =
        (100..107).map(|seed| run(seed, if seed < 104 { 1024 } else { 4096 }, 60)).sum();
    assert!(cuts > 12, "{cuts} cuts");
}

/// Cuts the power before and in the middle of every step.
fn trace(seed: u64, commits: usize) -> (u64, u64) {
    let disk = SimDisk::new(seed);
    let allowed = Arc::new(Mutex::new(Allowed::default()));
    let judge = allowed.clone();
    let mut step_seed = seed;
    let cut_steps = Arc::new(Mutex::new(0));
    let cuts = cut_steps.clone();
    disk.observe(move |disk, step| {
        step_seed += 1;
        *cuts.lock().unwrap() += u64::from(format!("{:?}", step.kind) == "SetLen");
        let way = Unsynced::ALL[(step_seed % 4) as usize];
        let what =
            format!("seed {seed}, cut before step {} ({:?}), {way:?}", step.number, step.kind);
        judge.lock().unwrap().judge(&disk.crash_with(way, step_seed), &what);
        let what = what + ", second throw";
        judge.lock().unwrap().judge(&disk.crash_with(Unsynced::Scattered, !step_seed), &what);
    });
    let mut bolt = open(&disk, 1024);
    let mut generator = Generator::new(seed);
    let mut state = State::new();
    allowed.lock().unwrap().acknowledged = Some(state.clone());
    for _ in 0..commits {
        let bytes = meddle(&mut bolt, &mut generator);
        let empty = generator.dice.one_in(3);
        let batch = if empty { WriteBatch::new() } else { generator.batch(&mut state) };
        allowed.lock().unwrap().in_flight = Some(state.clone());
        bolt.commit_moving(batch, bytes).unwrap();
        allowed.lock().unwrap().acknowledged = Some(state.clone());
        if generator.dice.one_in(8) {
            drop(bolt);
            bolt = open(&disk, 1024);
        }
    }
    let shortened = *cut_steps.lock().unwrap();
    (allowed.lock().unwrap().cuts, shortened)
}

#[test]
fn a_power_cut_at_any_step_of_shrinking_loses_nothing() {
    let found: Vec<_> = (20..23).map(|seed| trace(seed, 40)).collect();
    let cuts: u64 = found.iter().map(|(cuts, _)| cuts).sum();
    let shortened: u64 = found.iter().map(|(_, shortened)| shortened).sum();
    assert!(cuts > 1000 && shortened > 5, "{cuts} power cuts, {shortened} cuts of the file");
}

fn key(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// A file of `rows` rows of `bytes` each, made a thousand at a time.
fn filled(disk: &SimDisk, rows: u32, bytes: usize) -> Bolt {
    let mut bolt = open(disk, 4096);
    let value = Bytes::from(vec![7; bytes]);
    for first in (0..rows).step_by(1000) {
        let mut batch = WriteBatch::new();
        batch.create_bucket(b"key");
        for n in first..rows.min(first + 1000) {
            batch.put(b"key", key(n), value.clone());
        }
        bolt.commit(batch).unwrap();
    }
    bolt
}

fn delete(bolt: &mut Bolt, numbers: impl Iterator<Item = u32>) {
    let mut batch = WriteBatch::new();
    numbers.for_each(|n| batch.delete(b"key", key(n)));
    bolt.commit(batch).unwrap();
}

/// Commits until the shrinking says that it is over; how many it took.
fn settle(bolt: &mut Bolt) -> usize {
    for commits in 0..10_000 {
        match bolt.shrinking().unwrap() {
            Shrinking::No => return commits,
            Shrinking::Waiting => panic!("nobody reads"),
            Shrinking::Moving | Shrinking::Settling => {}
        }
        bolt.commit_moving(WriteBatch::new(), 64 << 10).unwrap();
    }
    panic!("no end of it");
}

#[test]
fn nine_tenths_deleted_give_nine_tenths_back() {
    let disk = SimDisk::new(1);
    let mut bolt = filled(&disk, 12_000, 1000);
    let full = disk.contents(PATH).unwrap().len() as u64;
    for part in 0..6 {
        delete(&mut bolt, (part * 2000..(part + 1) * 2000).filter(|n| n % 10 != 0));
    }
    let in_use = bolt.reader().in_use();
    assert!(in_use < full / 9, "what is left is dense: {in_use} of {full}");
    bolt.shrink(Goal { bytes: in_use + in_use / 10, pack: false });
    let commits = settle(&mut bolt);
    assert!(commits < 60, "{commits} commits: no page is moved twice");
    let len = disk.contents(PATH).unwrap().len() as u64;
    assert!(len <= in_use + in_use / 8, "{len} bytes for {in_use} in use");
    assert_eq!(bolt.reader().size(), len);
    assert_eq!(bolt.check().unwrap(), []);
    let rows = read_all(&bolt.reader());
    assert!(
        rows[&b"key"[..]].keys().eq((0..12_000).step_by(10).map(key).collect::<Vec<_>>().iter())
    );
}

#[test]
fn sparse_leaves_are_packed_when_asked() {
    let disk = SimDisk::new(2);
    let mut bolt = filled(&disk, 8_000, 900);
    // One leaf in two loses three rows of four, each in a commit of its own: bbolt's rule joins
    // them with nothing.
    for part in 0..40 {
        delete(&mut bolt, (part * 200..(part + 1) * 200).filter(|n| n % 8 > 4));
        delete(&mut bolt, (part * 200..(part + 1) * 200).filter(|n| n % 8 < 3));
    }
    let in_use = bolt.reader().in_use();
    bolt.shrink(Goal { bytes: in_use, pack: true });
    settle(&mut bolt);
    let packed = bolt.reader().in_use();
    assert!(packed * 100 < in_use * 80, "{in_use} bytes in use, {packed} once packed");
    assert_eq!(bolt.check().unwrap(), []);
}

#[test]
fn a_reader_holds_the_end_of_the_file_and_nobody_waits() {
    let disk = SimDisk::new(3);
    let mut bolt = filled(&disk, 4_000, 1000);
    let (reader, then) = (bolt.reader(), read_all(&bolt.reader()));
    delete(&mut bolt, (0..4_000).filter(|n| n % 10 != 0));
    bolt.shrink(Goal { bytes: bolt.reader().in_use(), pack: false });
    for n in 0..200 {
        let mut batch = WriteBatch::new();
        batch.put(b"key", key(n), Bytes::from_static(b"meanwhile"));
        bolt.commit_moving(batch, 64 << 10).unwrap();
    }
    assert_eq!(bolt.shrinking().unwrap(), Shrinking::Waiting);
    let len = disk.contents(PATH).unwrap().len() as u64;
    assert!(len >= reader.size(), "cut to {len} below the reader's {}", reader.size());
    assert_eq!(read_all(&reader), then);
    drop(reader);
    settle(&mut bolt);
    assert!((disk.contents(PATH).unwrap().len() as u64) < len / 3);
}

#[test]
fn a_free_end_is_cut_without_being_asked() {
    let disk = SimDisk::new(4);
    let mut bolt = filled(&disk, 1_000, 1000);
    let mut batch = WriteBatch::new();
    batch.create_bucket(b"large");
    for n in 0..40 {
        batch.put(b"large", key(n), Bytes::from(vec![1; 1 << 20]));
    }
    bolt.commit(batch).unwrap();
    let mut batch = WriteBatch::new();
    batch.delete_bucket(b"large");
    bolt.commit(batch).unwrap();
    for n in 0..4 {
        let mut batch = WriteBatch::new();
        batch.put(b"key", key(n), Bytes::from_static(b"then"));
        bolt.commit(batch).unwrap();
    }
    let len = disk.contents(PATH).unwrap().len();
    assert!(len < 8 << 20, "{len} bytes");
    assert_eq!(bolt.check().unwrap(), []);
}

#[test]
fn what_a_crash_left_behind_the_end_is_cut() {
    let disk = SimDisk::new(5);
    let mut bolt = filled(&disk, 100, 1000);
    let size = bolt.reader().size();
    drop(bolt);
    let mut bytes = disk.contents(PATH).unwrap();
    bytes.resize(200 << 20, 9);
    disk.install(PATH, &bytes);
    bolt = open(&disk, 4096);
    assert_eq!(bolt.shrinking().unwrap(), Shrinking::Settling);
    settle(&mut bolt);
    assert!(disk.contents(PATH).unwrap().len() as u64 <= size + (1 << 20));
}
