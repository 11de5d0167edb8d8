//! Page sums: damage is found by whoever reads, nothing else is ever called damage, and they
//! never stand in the way.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mainstay_bolt::{Bolt, Error, Goal, Options, Result, SumsAt, SumsFound, WriteBatch};
use mainstay_env::{Dice, Disk, OpenMode};
use mainstay_env_sim::{FailingCall, SimDice, SimDisk, Unsynced};

use crate::support::{Generator, PATH, State, options, read_all};

const SUMS: &str = "/mainstay/pages";

fn sums(disk: &SimDisk) -> SumsAt {
    SumsAt { disk: Arc::new(disk.clone()), path: SUMS.into(), cluster: 7, member: 8 }
}

fn try_open(disk: &SimDisk, options: Options) -> Result<Bolt> {
    Bolt::open_summed(disk, Path::new(PATH), options, Some(sums(disk)), b"", &mut |_, _| {})
}

fn open(disk: &SimDisk) -> Bolt {
    try_open(disk, options(1024)).unwrap()
}

/// A file with every kind of page, and what it holds.
fn sample(seed: u64, commits: usize) -> (SimDisk, State) {
    let disk = SimDisk::new(seed);
    let mut bolt = open(&disk);
    let mut generator = Generator::new(seed);
    let mut state = State::new();
    for _ in 0..commits {
        bolt.commit(generator.batch(&mut state)).unwrap();
    }
    (disk, state)
}

fn bytes_of(disk: &SimDisk, path: &str) -> Vec<u8> {
    let len = disk.metadata(Path::new(path)).unwrap().unwrap().len;
    let mut bytes = vec![0; len as usize];
    let file = disk.open(Path::new(path), OpenMode::Read).unwrap();
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

fn is_dropped(bolt: &Bolt) -> bool {
    matches!(bolt.sums_found(), SumsFound::Dropped { .. })
}

/// The sums are kept over any number of openings, and believed.
#[test]
fn sums_outlive_the_process() {
    let (disk, mut state) = sample(1, 20);
    let mut generator = Generator::new(99);
    for _ in 0..5 {
        let mut bolt = open(&disk);
        assert_eq!(*bolt.sums_found(), SumsFound::Fit);
        for _ in 0..5 {
            bolt.commit(generator.batch(&mut state)).unwrap();
        }
        assert_eq!(read_all(&bolt.reader()), state);
        assert_eq!(bolt.sums_failed(), None);
    }
}

fn row(value: &'static [u8]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.create_bucket(b"key");
    batch.put(b"key", Bytes::from_static(b"k"), Bytes::from_static(value));
    batch
}

/// A disk with a db, and sums that end with the record of a commit behind it which was cut short.
fn cut_short() -> SimDisk {
    let disk = SimDisk::new(5);
    let mut bolt = open(&disk);
    bolt.commit(row(b"one")).unwrap();
    let db = bytes_of(&disk, PATH);
    bolt.commit(row(b"two")).unwrap();
    drop(bolt);
    disk.install(PATH, &db);
    disk.copy()
}

/// A transaction that was cut short leaves a record. The next one has its number and may have its
/// meta page to the byte, with other rows behind it: should only its own record be lost with the
/// power, that record must not be there to be taken for it.
#[test]
fn a_record_of_a_commit_that_was_cut_short_does_not_stay() {
    let disk = cut_short();
    let cut_short = bytes_of(&disk, SUMS);
    let mut bolt = open(&disk);
    assert_eq!(*bolt.sums_found(), SumsFound::Fit);
    let before = bytes_of(&disk, SUMS);
    assert!(before.len() < cut_short.len(), "written anew at once");
    bolt.commit(row(b"six")).unwrap();
    drop(bolt);
    disk.install(SUMS, &before);
    let bolt = open(&disk);
    assert!(is_dropped(&bolt));
    assert_eq!(bolt.reader().get(b"key", b"k").unwrap().as_deref(), Some(&b"six"[..]));
}

/// The same when the disk does not take new sums: the old ones do not come back with the power.
/// Should they not go, nothing is committed.
#[test]
fn a_record_of_a_commit_that_was_cut_short_does_not_come_back() {
    for way in Unsynced::ALL {
        for syncs_fail in 0..4 {
            let disk = cut_short();
            disk.fail(FailingCall::Sync, 1);
            (1..=syncs_fail).for_each(|nth| disk.fail(FailingCall::SyncDir, nth));
            let mut bolt = open(&disk);
            assert!(bolt.sums_failed().is_some());
            let mut tries = 1;
            while let Err(error) = bolt.commit(row(b"six")) {
                assert!(error.to_string().contains("page sums"), "{error}");
                tries += 1;
            }
            assert_eq!(tries, syncs_fail.max(1), "it is asked once when it opens");
            drop(bolt);
            let disk = disk.crash_with(way, 3);
            let bolt = open(&disk);
            let six = bolt.reader().get(b"key", b"k").unwrap();
            assert_eq!(six.as_deref(), Some(&b"six"[..]), "{way:?}");
        }
    }
}

/// One bit anywhere in a page that is reached: the next open names the page. In a page that is
/// not, or in a meta page, nobody misses it.
#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let (disk, state) = sample(3, 25);
    let len = open(&disk).reader().size();
    let mut dice = SimDice::new(17);
    let (mut found, mut harmless) = (0, 0);
    for round in 0..600 {
        let disk = disk.copy();
        let (at, bit) = (dice.below(len), dice.below(8) as u8);
        disk.flip(PATH, at, bit);
        match try_open(&disk, options(1024)) {
            Ok(bolt) => {
                assert_eq!(read_all(&bolt.reader()), state, "round {round}, byte {at} bit {bit}");
                assert!(!is_dropped(&bolt) || at < 2048, "byte {at}");
                harmless += 1;
            }
            Err(Error::Damaged { page, offset, .. }) => {
                assert_eq!((page, offset), (at / 1024, page * 1024), "byte {at}");
                found += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(found > 300 && harmless > 10, "{found} found, {harmless} harmless");
}

/// The same under an open file: by reads, lookups of many, copies, and commits that move pages or
/// join them. Nothing that was damaged is served, or written again as if it were sound.
#[test]
fn damage_under_an_open_file_goes_nowhere() {
    let (disk, state) = sample(4, 25);
    let mut dice = SimDice::new(18);
    let mut refused = [0; 5];
    for round in 0..100 {
        let disk = disk.copy();
        let mut bolt = open(&disk);
        let reader = bolt.reader();
        let len = reader.size();
        for _ in 0..3 {
            disk.flip(PATH, 2048 + dice.below(len - 2048), dice.below(8) as u8);
        }
        for (name, rows) in &state {
            let keys: Vec<&[u8]> = rows.keys().map(|key| &key[..]).collect();
            for (key, value) in rows.iter().step_by(7) {
                match reader.get(name, key) {
                    Ok(got) => assert_eq!(got.as_ref(), Some(value), "round {round}"),
                    Err(Error::Damaged { .. }) => refused[0] += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            match reader.bucket(name).and_then(|bucket| bucket.unwrap().get_many(&keys)) {
                Ok(got) => assert!(got.iter().flatten().eq(rows.values()), "round {round}"),
                Err(Error::Damaged { .. }) => refused[1] += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let mut copied = vec![0; len as usize];
        match (0..len).step_by(700).try_for_each(|at| {
            let end = (at + 700).min(len);
            reader.copy().read_at(at, &mut copied[at as usize..end as usize]).map(drop)
        }) {
            Ok(()) => {
                let copy = SimDisk::new(1);
                copy.install(PATH, &copied);
                assert_eq!(read_all(&crate::support::open(&copy, 1024).reader()), state);
            }
            Err(Error::Damaged { .. }) => refused[2] += 1,
            Err(error) => panic!("{error}"),
        }
        drop(reader);
        refused[3] += usize::from(go_on(&disk, &mut bolt, &state, round));
        drop(bolt);
        match try_open(&disk, options(1024)) {
            Ok(_) => {}
            Err(Error::Damaged { .. }) => refused[4] += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused.iter().all(|n| *n > 20), "{refused:?}");
}

/// Shrinks and deletes over damage: what was damaged before is so afterwards, or gone. Answers
/// whether something was refused.
fn go_on(disk: &SimDisk, bolt: &mut Bolt, state: &State, round: u64) -> bool {
    let mut state = state.clone();
    bolt.shrink(Goal { bytes: bolt.reader().in_use(), pack: true });
    let mut dice = SimDice::new(round);
    let mut refused = false;
    for _ in 0..6 {
        let mut batch = WriteBatch::new();
        let before = state.clone();
        for (name, rows) in &mut state {
            let n = dice.below(7) as usize;
            let keys: Vec<Vec<u8>> = rows.keys().skip(n).step_by(9).cloned().collect();
            for key in keys {
                rows.remove(&key);
                batch.delete(name, Bytes::from(key));
            }
        }
        match bolt.commit_moving(batch, 64 << 10) {
            Ok(_) => {}
            Err(Error::Damaged { .. }) => (state, refused) = (before, true),
            Err(error) => panic!("{error}"),
        }
        for (name, rows) in &state {
            for (key, value) in rows {
                match bolt.reader().get(name, key) {
                    Ok(got) => assert_eq!(got.as_ref(), Some(value), "round {round}"),
                    Err(Error::Damaged { .. }) => refused = true,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert!(disk.contents(SUMS).is_some());
    refused
}

/// A scrub finds what no read has met, names every such page once, and goes on behind it.
#[test]
fn a_scrub_finds_what_nobody_reads() {
    let (disk, mut state) = sample(9, 25);
    let mut bolt = open(&disk);
    let reader = bolt.reader();
    let all = |reader: &mainstay_bolt::Reader| {
        let (mut at, mut pages, mut damaged) = (0, 0, Vec::new());
        loop {
            match reader.scrub(at, 10) {
                Ok(done) => {
                    pages += done.pages;
                    let Some(next) = done.next else { return (pages, damaged) };
                    at = next;
                }
                Err(Error::Damaged { page, .. }) => {
                    damaged.push(page);
                    at = page + 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    assert_eq!(all(&reader), (reader.in_use() / 1024 - 2, vec![]));
    // Beside a writer, too, and over what older snapshots still reach.
    let mut generator = Generator::new(5);
    for _ in 0..10 {
        bolt.commit(generator.batch(&mut state)).unwrap();
        assert_eq!(all(&reader).1, []);
        assert_eq!(all(&bolt.reader()).1, []);
    }
    drop(reader);
    bolt.commit(generator.batch(&mut state)).unwrap();
    let reader = bolt.reader();
    let mut dice = SimDice::new(1);
    let mut flipped: Vec<u64> = (0..20)
        .map(|_| {
            let at = dice.below(reader.size() - 2048) + 2048;
            disk.flip(PATH, at, dice.below(8) as u8);
            at / 1024
        })
        .collect();
    flipped.sort_unstable();
    flipped.dedup();
    let found = all(&reader).1;
    assert!(found.len() > 5 && found.iter().all(|page| flipped.contains(page)), "{found:?}");
    drop((reader, bolt));
    // Tools find the same.
    let (reader, sums) =
        mainstay_bolt::Reader::open_summed(&disk, Path::new(PATH), &sums(&disk)).unwrap();
    assert_eq!(sums, SumsFound::Fit);
    assert!(!reader.check().unwrap().is_empty());
}

/// Copies beside commits that write free pages all the while: nothing is called damaged.
#[test]
fn a_copy_beside_a_writer_is_not_called_damaged() {
    let (disk, mut state) = sample(5, 15);
    let mut bolt = open(&disk);
    let mut generator = Generator::new(55);
    for _ in 0..10 {
        let (reader, expected) = (bolt.reader(), state.clone());
        let copy = reader.copy();
        let mut bytes = vec![0; copy.len() as usize];
        for at in (0..copy.len()).step_by(9000) {
            let end = (at + 9000).min(copy.len());
            copy.read_at(at, &mut bytes[at as usize..end as usize]).unwrap();
            bolt.commit(generator.batch(&mut state)).unwrap();
        }
        let other = SimDisk::new(1);
        other.install(PATH, &bytes);
        assert_eq!(read_all(&crate::support::open(&other, 1024).reader()), expected);
    }
    assert_eq!(bolt.check().unwrap(), []);
}

/// A killed process loses no sum; a power cut may, but never is anything sound called damaged,
/// and no acknowledged row is lost.
#[test]
fn a_cut_or_a_kill_at_any_step_calls_nothing_damaged() {
    let (mut kills, mut dropped) = (0, 0);
    for seed in 0..2 {
        let disk = SimDisk::new(seed);
        let seen = Arc::new(Mutex::new((0, 0)));
        let counts = Arc::clone(&seen);
        // Before the first file and the first sums are there, there is nothing to lose.
        let started = Arc::new(Mutex::new(false));
        let is_started = Arc::clone(&started);
        disk.observe(move |disk, step| {
            if !*is_started.lock().unwrap() {
                return;
            }
            let what = format!("seed {seed}, before step {} ({:?})", step.number, step.kind);
            let killed = disk.copy();
            let bolt = try_open(&killed, options(1024)).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(*bolt.sums_found(), SumsFound::Fit, "killed {what}");
            assert_eq!(bolt.check().unwrap(), [], "killed {what}");
            let mut counts = counts.lock().unwrap();
            counts.0 += 1;
            for way in Unsynced::ALL {
                let after = disk.crash_with(way, seed ^ step.number);
                let bolt =
                    try_open(&after, options(1024)).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(bolt.check().unwrap(), [], "{what}, {way:?}");
                counts.1 += usize::from(is_dropped(&bolt));
            }
        });
        let mut bolt = open(&disk);
        *started.lock().unwrap() = true;
        let mut generator = Generator::new(seed);
        let mut state = State::new();
        for _ in 0..25 {
            if generator.dice.one_in(4) {
                let pack = generator.dice.one_in(2);
                bolt.shrink(Goal { bytes: bolt.reader().in_use(), pack });
            }
            bolt.commit_moving(generator.batch(&mut state), 8 << 10).unwrap();
            if generator.dice.one_in(8) {
                drop(bolt);
                bolt = open(&disk);
            }
        }
        let counts = *seen.lock().unwrap();
        (kills, dropped) = (kills + counts.0, dropped + counts.1);
    }
    assert!(kills > 100 && dropped > 10, "{kills} kills, sums dropped {dropped} times");
}

/// What Go did, what lies there of another file, and what is damaged is dropped, and new sums
/// are kept from then on.
#[test]
fn sums_that_do_not_fit_are_dropped() {
    let (disk, _) = sample(6, 12);
    let commit = |bolt: &mut Bolt| {
        let mut batch = WriteBatch::new();
        batch.create_bucket(b"more");
        batch.put(b"more", Bytes::from_static(b"k"), Bytes::from(vec![1; 3000]));
        bolt.commit(batch).unwrap();
    };
    // Somebody without sums wrote to it.
    let by_go = disk.copy();
    commit(&mut crate::support::open(&by_go, 1024));
    // An older file was put back.
    let older = disk.copy();
    commit(&mut open(&older));
    older.install(PATH, &disk.contents(PATH).unwrap());
    // The first transaction of the restored past has the number of the one that is known.
    let other_past = disk.copy();
    commit(&mut open(&other_past));
    let past = disk.copy();
    let mut bolt = crate::support::open(&past, 1024);
    let mut batch = WriteBatch::new();
    batch.create_bucket(b"other");
    bolt.commit(batch).unwrap();
    drop(bolt);
    other_past.install(PATH, &past.contents(PATH).unwrap());
    for (what, disk) in [("go", by_go), ("older", older), ("other past", other_past)] {
        let bolt = open(&disk);
        assert!(is_dropped(&bolt) || what == "older", "{what}: {:?}", bolt.sums_found());
        drop(bolt);
        assert_eq!(*open(&disk).sums_found(), SumsFound::Fit, "{what}, the next time");
    }
}

#[test]
fn damaged_sums_are_dropped_and_never_in_the_way() {
    let (disk, state) = sample(7, 12);
    let bytes = disk.contents(SUMS).unwrap();
    let mut dice = SimDice::new(3);
    for _ in 0..300 {
        let disk = disk.copy();
        match dice.below(3) {
            0 => disk.install(SUMS, &bytes[..dice.below(bytes.len() as u64) as usize]),
            _ => disk.flip(SUMS, dice.below(bytes.len() as u64), dice.below(8) as u8),
        }
        let bolt = open(&disk);
        assert!(is_dropped(&bolt), "{:?}", bolt.sums_found());
        assert_eq!(read_all(&bolt.reader()), state);
        drop(bolt);
        assert_eq!(*open(&disk).sums_found(), SumsFound::Fit);
    }
    let wrong = SumsAt { member: 9, ..sums(&disk) };
    let path = Path::new(PATH);
    let bolt =
        Bolt::open_summed(&disk, path, options(1024), Some(wrong), b"", &mut |_, _| {}).unwrap();
    assert!(is_dropped(&bolt), "another member's");
}

/// A disk that fails under the sums alone does not concern the file, and they come back.
#[test]
fn trouble_with_the_sums_is_not_trouble_with_the_file() {
    let (disk, mut state) = sample(8, 12);
    let mut bolt = open(&disk);
    let mut generator = Generator::new(5);
    // The pages of a commit are one write here; the sums are the second.
    let mut batch = WriteBatch::new();
    batch.create_bucket(b"z");
    state.insert(b"z".to_vec(), Default::default());
    disk.fail(FailingCall::Write, 2);
    bolt.commit(batch).unwrap();
    assert!(bolt.sums_failed().is_some_and(|why| why.contains(SUMS)));
    assert!(is_dropped(&open_copy(&disk)), "they stayed behind");
    for _ in 0..80 {
        bolt.commit(generator.batch(&mut state)).unwrap();
    }
    assert_eq!(bolt.sums_failed(), None);
    drop(bolt);
    assert_eq!(*open(&disk).sums_found(), SumsFound::Fit);
    // Not even a folder in its place.
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(SUMS)).unwrap();
    let mut bolt = open(&disk);
    assert!(bolt.sums_failed().is_some());
    assert!(bolt.commit(WriteBatch::new()).is_ok());
}

fn open_copy(disk: &SimDisk) -> Bolt {
    open(&disk.copy())
}

/// The file of sums does not grow without bound.
#[test]
fn many_commits_leave_few_bytes() {
    let disk = SimDisk::new(1);
    let mut bolt = open(&disk);
    let mut batch = WriteBatch::new();
    batch.create_bucket(b"b");
    bolt.commit(batch).unwrap();
    for n in 0..20_000_u32 {
        let mut batch = WriteBatch::new();
        batch.put(b"b", Bytes::from_static(b"k"), Bytes::copy_from_slice(&n.to_be_bytes()));
        bolt.commit(batch).unwrap();
    }
    let file = disk.open(Path::new(SUMS), OpenMode::Read).unwrap();
    assert!(file.len().unwrap() < 1_200_000, "{} bytes", file.len().unwrap());
    drop(bolt);
    assert_eq!(*open(&disk).sums_found(), SumsFound::Fit);
}
