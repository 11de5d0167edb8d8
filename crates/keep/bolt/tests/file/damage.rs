//! Damaged bytes give errors that name the page; nothing panics.

use mainstay_bolt::{Bolt, Error, MetaFault, Reader, Result, WriteBatch};
use mainstay_env::Dice;
use mainstay_env_sim::{SimDice, SimDisk};

use crate::support::{Generator, PATH, State, open, options};

/// A file of a few hundred pages with every kind of page.
fn sample(seed: u64) -> (Vec<u8>, State) {
    let disk = SimDisk::new(seed);
    let mut bolt = open(&disk, 1024);
    let mut generator = Generator::new(seed);
    let mut state = State::new();
    for _ in 0..25 {
        bolt.commit(generator.batch(&mut state)).unwrap();
    }
    let size = bolt.reader().size() as usize;
    let mut bytes = disk.contents(PATH).unwrap();
    bytes.truncate(size);
    (bytes, state)
}

/// Reads everything twice over and writes; any error will do, a panic will not.
fn exercise(disk: &SimDisk) -> Result<()> {
    let reader = Reader::open(disk, PATH.as_ref())?;
    let problems = reader.check()?;
    for name in reader.buckets().unwrap_or_default() {
        if let Ok(mut cursor) = reader.cursor(&name) {
            while let Ok(Some(_)) = cursor.next() {}
            while let Ok(Some(_)) = cursor.prev() {}
            let _ = cursor.seek(b"key-1");
        }
        let _ = reader.get(&name, b"key-77");
    }
    let mut bolt = Bolt::open(disk, PATH.as_ref(), options(1024))?;
    assert_eq!(problems, [], "what opens for writing passes the check");
    let mut state = State::new();
    let mut generator = Generator::new(1);
    for _ in 0..3 {
        let mut batch = generator.batch(&mut state);
        for name in bolt.reader().buckets()? {
            batch.delete_bucket(&name);
            batch.create_bucket(&name);
        }
        bolt.commit(batch)?;
    }
    Ok(())
}

#[test]
fn flipped_bits_are_reported_and_never_panic() {
    let (bytes, _) = sample(3);
    let mut dice = SimDice::new(9);
    let (mut named, mut unnoticed) = (0, 0);
    for round in 0..1500 {
        let disk = SimDisk::new(round);
        disk.install(PATH, &bytes);
        for _ in 0..1 + dice.below(3) {
            // Headers and elements lie at the start of a page: aim there half of the time.
            let page = dice.below(bytes.len() as u64 / 1024);
            let within = if dice.one_in(2) { dice.below(64) } else { dice.below(1024) };
            disk.flip(PATH, page * 1024 + within, dice.below(8) as u8);
        }
        match exercise(&disk) {
            // A value, padding or a free page: the format has no checksum there.
            Ok(()) => unnoticed += 1,
            Err(Error::Damaged { page, offset, expected, .. }) => {
                assert_eq!(offset, page.saturating_mul(1024), "{expected}");
                named += 1;
            }
            Err(Error::NotBolt { .. } | Error::Disk { .. }) => named += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(named > 300 && unnoticed > 100, "{named} named, {unnoticed} unnoticed");
}

#[test]
fn bits_that_flip_under_an_open_file_never_panic() {
    let (bytes, _) = sample(4);
    let mut dice = SimDice::new(10);
    for round in 0..300 {
        let disk = SimDisk::new(round);
        disk.install(PATH, &bytes);
        let mut bolt = open(&disk, 1024);
        let mut generator = Generator::new(round);
        for _ in 0..4 {
            let page = dice.below(bytes.len() as u64 / 1024);
            disk.flip(PATH, page * 1024 + dice.below(64), dice.below(8) as u8);
            let mut batch = WriteBatch::new();
            for name in ["a", "key", "lease", "meta"] {
                batch.create_bucket(name.as_bytes());
                for n in 0..generator.dice.below(60) {
                    let key = format!("key-{}", n * 50).into_bytes();
                    match n % 2 {
                        0 => batch.delete(name.as_bytes(), key.into()),
                        _ => batch.put(name.as_bytes(), key.into(), vec![0; 500].into()),
                    }
                }
            }
            match bolt.commit(batch) {
                Ok(_) | Err(Error::Damaged { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn the_other_meta_is_used_and_two_bad_ones_name_the_first() {
    let (bytes, _) = sample(5);
    let txid = |disk: &SimDisk| Reader::open(disk, PATH.as_ref()).map(|reader| reader.txid());
    let with = |flips: &[(u64, u8)]| {
        let disk = SimDisk::new(1);
        disk.install(PATH, &bytes);
        for (at, bit) in flips {
            disk.flip(PATH, *at, *bit);
        }
        disk
    };
    let newest = txid(&with(&[])).unwrap();
    let slot = (newest % 2) * 1024;
    assert_eq!(txid(&with(&[(slot + 16 + 40, 3)])).unwrap(), newest - 1);
    assert_eq!(txid(&with(&[((1024 - slot) + 16 + 40, 3)])).unwrap(), newest);
    for (offset, fault) in
        [(0, MetaFault::Invalid), (4, MetaFault::Version), (50, MetaFault::Checksum)]
    {
        let disk = with(&[(16 + offset, 0), (1024 + 16 + 8, 0)]);
        match txid(&disk) {
            Err(Error::NotBolt { reason, .. }) => assert_eq!(reason, fault),
            other => panic!("{other:?}"),
        }
    }
    let disk = SimDisk::new(1);
    disk.install(PATH, &bytes[..bytes.len() / 2]);
    assert!(matches!(txid(&disk), Err(Error::Damaged { .. })), "a file cut short");
    disk.install(PATH, b"not a db");
    assert!(matches!(txid(&disk), Err(Error::NotBolt { reason: MetaFault::Invalid, .. })));
}
