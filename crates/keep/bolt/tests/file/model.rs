//! Random batches against a `BTreeMap`: what is written is read, by every way of
//! reading, after every commit and every restart, and by readers held meanwhile.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{Generator, PATH, State, open, options, read_all};
use bytes::Bytes;
use mainstay_bolt::{Bolt, Reader, WriteBatch, write_compacted};
use mainstay_env::{Dice, Disk};
use mainstay_env_sim::SimDisk;

/// Compares point reads, seeks and the way back with the model.
fn probe(reader: &Reader, state: &State, generator: &mut Generator) {
    for (name, rows) in state {
        let mut back = reader.cursor(name).unwrap();
        let mut at = back.last().unwrap();
        for (key, value) in rows.iter().rev() {
            let (k, v) = at.expect("as many rows backward as forward");
            assert_eq!((&k[..], &v), (&key[..], value));
            at = back.prev().unwrap();
        }
        assert_eq!(at, None);
        let first = rows.iter().next().map(|(k, _)| k.clone());
        assert_eq!(back.next().unwrap().map(|(k, _)| k.to_vec()), first, "turned round");
        for _ in 0..20 {
            let n = generator.dice.below(3100);
            let wanted = format!("key-{n}").into_bytes();
            assert_eq!(reader.get(name, &wanted).unwrap().as_ref(), rows.get(&wanted));
            let mut cursor = reader.cursor(name).unwrap();
            let mut found = cursor.seek(&wanted).unwrap();
            for expected in rows.range(wanted..).take(5) {
                let (k, v) = found.expect("a row");
                assert_eq!((&k[..], &v), (&expected.0[..], expected.1));
                found = cursor.next().unwrap();
            }
        }
        many(reader, name, rows, generator);
    }
}

/// Asks for many keys at once: some are there, some are not, some come twice.
fn many(reader: &Reader, name: &[u8], rows: &BTreeMap<Vec<u8>, Bytes>, generator: &mut Generator) {
    let one_in = 1 + generator.dice.below(30);
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for key in rows.keys() {
        if generator.dice.one_in(one_in) {
            keys.push(key.clone());
        }
        if generator.dice.one_in(one_in * 10) {
            keys.push([key, &b"-"[..]].concat());
            keys.push(key.clone());
        }
    }
    keys.push(b"\0".to_vec());
    keys.push(b"zzzz".to_vec());
    keys.sort();
    let bucket = reader.bucket(name).unwrap().unwrap();
    let found = bucket.get_many(&keys).unwrap();
    let expected: Vec<_> = keys.iter().map(|key| rows.get(key).cloned()).collect();
    assert_eq!(found, expected);
}

fn run(seed: u64, page_size: usize, batches: usize) {
    let disk = SimDisk::new(seed);
    let mut generator = Generator::new(seed);
    let mut bolt = open(&disk, page_size);
    let mut state = State::new();
    let mut held: Vec<(Reader, State)> = Vec::new();
    for i in 0..batches {
        let batch = generator.batch(&mut state);
        bolt.commit(batch).unwrap();
        let reader = bolt.reader();
        assert_eq!(read_all(&reader), state, "seed {seed}, batch {i}");
        if generator.dice.one_in(4) {
            probe(&reader, &state, &mut generator);
        }
        if generator.dice.one_in(5) {
            assert_eq!(bolt.check().unwrap(), [], "seed {seed}, batch {i}");
        }
        if generator.dice.one_in(6) {
            held.push((reader, state.clone()));
        } else {
            drop(reader);
        }
        if held.len() > 3 {
            let (reader, then) = held.remove(generator.dice.below(4) as usize);
            assert_eq!(read_all(&reader), then, "seed {seed}: a held reader changed");
            assert_eq!(reader.check().unwrap(), []);
        }
        if generator.dice.one_in(15) {
            held.clear();
            let before = (bolt.reader().size(), bolt.reader().in_use());
            drop(bolt);
            bolt = open(&disk, page_size);
            let after = (bolt.reader().size(), bolt.reader().in_use());
            assert_eq!(before, after, "the walk finds what the writer counted");
        }
    }
    assert_eq!(bolt.check().unwrap(), []);
}

#[test]
fn reads_what_it_wrote() {
    for seed in 0..12 {
        run(seed, 1024, 60);
    }
    for seed in 12..20 {
        run(seed, 4096, 60);
    }
}

#[test]
fn shows_one_bucket_while_opening() {
    let disk = SimDisk::new(5);
    let mut generator = Generator::new(5);
    let mut bolt = open(&disk, 1024);
    let mut state = State::new();
    for _ in 0..30 {
        bolt.commit(generator.batch(&mut state)).unwrap();
        drop(bolt);
        let mut rows = Vec::new();
        let name = &b"key"[..];
        bolt = Bolt::open_visiting(&disk, PATH.as_ref(), options(1024), name, &mut |k, v| {
            rows.push((k.to_vec(), v.to_vec()));
        })
        .unwrap();
        let expected: Vec<_> =
            state.get(name).into_iter().flatten().map(|(k, v)| (k.clone(), v.to_vec())).collect();
        assert_eq!(rows, expected);
    }
}

#[test]
fn copies_are_files_of_their_own() {
    let disk = SimDisk::new(6);
    let mut generator = Generator::new(6);
    let mut bolt = open(&disk, 4096);
    let mut state = State::new();
    for _ in 0..40 {
        bolt.commit(generator.batch(&mut state)).unwrap();
    }
    let (reader, then) = (bolt.reader(), state.clone());
    for _ in 0..10 {
        bolt.commit(generator.batch(&mut state)).unwrap();
    }
    let copy = reader.copy();
    let mut bytes = vec![0; copy.len() as usize + 100];
    let mut at = 0;
    while at < copy.len() as usize {
        let n = 1 + generator.dice.below(9000) as usize;
        let end = (at + n).min(bytes.len());
        let read = copy.read_at(at as u64, &mut bytes[at..end]).unwrap();
        assert!(read > 0);
        at += read;
    }
    assert_eq!(at as u64, reader.size());
    bytes.truncate(at);
    // A snapshot file has its hash behind the pages.
    bytes.extend([7; 32]);
    disk.install("/copy", &bytes);
    let opened = Reader::open(&disk, Path::new("/copy")).unwrap();
    assert_eq!(opened.txid(), reader.txid());
    assert_eq!(opened.check().unwrap(), []);
    assert_eq!(read_all(&opened), then);
    let second = Bolt::open(&disk, Path::new("/copy"), options(4096)).unwrap();
    assert_eq!(read_all(&second.reader()), then);

    write_compacted(&reader, &disk, Path::new("/small"), options(4096)).unwrap();
    let small = Bolt::open(&disk, Path::new("/small"), options(4096)).unwrap();
    assert_eq!(read_all(&small.reader()), then);
    assert_eq!(small.check().unwrap(), []);
    assert!(small.reader().size() <= reader.size());
    let again = write_compacted(&reader, &disk, Path::new("/small"), options(4096));
    assert!(again.is_err(), "an existing file is not overwritten");
}

#[test]
fn thinned_out_leaves_are_joined() {
    let disk = SimDisk::new(8);
    let mut bolt = open(&disk, 4096);
    let key = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes());
    let mut batch = WriteBatch::new();
    batch.create_bucket(b"key");
    for n in 0..30_000 {
        batch.put(b"key", key(n), Bytes::from_static(&[7; 100]));
    }
    bolt.commit(batch).unwrap();
    let full = bolt.reader().in_use();
    for part in 0..6 {
        let mut batch = WriteBatch::new();
        for n in (0..30_000).filter(|n| n % 30 != 0 && n % 6 == part) {
            batch.delete(b"key", key(n));
        }
        bolt.commit(batch).unwrap();
        assert_eq!(bolt.check().unwrap(), []);
    }
    assert!(bolt.reader().in_use() < full / 6, "{full}, now {}", bolt.reader().in_use());
    let mut batch = WriteBatch::new();
    for n in (0..30_000).step_by(30) {
        batch.delete(b"key", key(n));
    }
    bolt.commit(batch).unwrap();
    assert_eq!(bolt.reader().in_use(), 3 * 4096, "two metas and the bucket of buckets");
    assert_eq!(bolt.reader().cursor(b"key").unwrap().first().unwrap(), None);
}

#[test]
fn a_second_writer_is_locked_out() {
    let disk = SimDisk::new(7);
    let bolt = open(&disk, 4096);
    let second = Bolt::open(&disk, PATH.as_ref(), options(4096)).err().unwrap();
    assert!(matches!(second, mainstay_bolt::Error::Locked { .. }), "{second}");
    drop(bolt);
    drop(open(&disk, 4096));
    let dyn_disk: &dyn Disk = &disk;
    assert_eq!(dyn_disk.list("/".as_ref()).unwrap(), ["db"]);
}
