//! The bbolt file: opened, walked, checked, written to, checked again.
//!
//! The first byte: 0 for a file as it is, else its two metas are given the checksums
//! that fit. The second says what is written once the file is open.

use std::path::Path;

use bytes::Bytes;
use mainstay_bolt::{Bolt, Bucket, Options, Reader, WriteBatch};
use mainstay_env::Disk as _;
use mainstay_env_sim::SimDisk;

use crate::Target;
use crate::pieces::Kind;

pub(crate) const TARGET: Target = Target { name: "bolt", seeds, run };

const FILE: &str = "/d/db";
const PAGE: usize = 1024;
const OPTIONS: Options = Options { page_size: PAGE, no_sync: false };
/// Bytes of a meta that its checksum covers, behind the page header.
const META: std::ops::Range<usize> = 16..72;

fn path() -> &'static Path {
    Path::new(FILE)
}

fn disk(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/d")).expect("a sound disk");
    if !bytes.is_empty() {
        disk.install(FILE, bytes);
    }
    disk
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (rows, len) in [(0_u32, 0_usize), (3, 10), (60, 40), (200, 20), (4, 3000)] {
        let disk = disk(&[]);
        let mut bolt = Bolt::open(&disk, path(), OPTIONS).expect("a new file");
        for name in [&b"key"[..], b"meta"] {
            let mut batch = WriteBatch::new();
            batch.create_bucket(name);
            for row in 0..rows {
                let key = Bytes::copy_from_slice(&row.to_be_bytes());
                batch.put(name, key, Bytes::from(vec![row as u8; len]));
            }
            bolt.commit(batch).expect("a sound disk");
        }
        drop(bolt);
        let file = disk.contents(FILE).expect("just written");
        let used = file.len().min(40 << 10);
        seeds.push([&[1, 3], &file[..used]].concat());
    }
    seeds
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn run(input: &[u8]) -> u64 {
    let [how, writes, rest @ ..] = input else { return 0 };
    let mut file = rest.to_vec();
    for meta in [0, PAGE] {
        if *how != 0 && file.len() >= meta + META.end + 8 {
            let sum = fnv1a(&file[meta + META.start..meta + META.end]);
            file[meta + META.end..meta + META.end + 8].copy_from_slice(&sum.to_le_bytes());
        }
    }
    if file.is_empty() {
        return 0;
    }
    let disk = disk(&file);
    let mut kind = Kind::default();
    match Reader::open(&disk, path()) {
        Ok(reader) => {
            match reader.check() {
                Ok(problems) => kind.add_size(problems.len()),
                Err(error) => kind.add_text(&error.to_string()),
            }
            walk(&reader, &mut kind);
        }
        Err(error) => kind.add_text(&error.to_string()),
    }
    match Bolt::open(&disk, path(), OPTIONS) {
        Ok(bolt) => write(bolt, *writes, &disk, &mut kind),
        Err(error) => {
            let now = disk.contents(FILE).expect("it was there");
            assert!(now == file, "a refused file is not changed: {error}");
            kind.add_text(&error.to_string());
        }
    }
    kind.end()
}

/// Rows read of one bucket: damage may make more of them than there are bytes.
const ROWS_MAX: usize = 2_000;

/// Every bucket, forwards and backwards; a walk is as long both ways.
fn walk(reader: &Reader, kind: &mut Kind) {
    let names = match reader.buckets() {
        Ok(names) => names,
        Err(error) => return kind.add_text(&error.to_string()),
    };
    for name in names.into_iter().take(20) {
        match reader.bucket(&name) {
            Ok(Some(bucket)) => match (count(&bucket, true), count(&bucket, false)) {
                (Ok(there), Ok(back)) if there < ROWS_MAX && back < ROWS_MAX => {
                    assert_eq!(there, back, "as many rows both ways");
                    kind.add_size(there);
                }
                (Err(error), _) | (_, Err(error)) => kind.add_text(&error.to_string()),
                _ => {}
            },
            Ok(None) => kind.add(1),
            Err(error) => kind.add_text(&error.to_string()),
        }
    }
}

fn count(bucket: &Bucket, forward: bool) -> mainstay_bolt::Result<usize> {
    let mut cursor = bucket.cursor();
    let mut at = if forward { cursor.first()? } else { cursor.last()? };
    let mut rows = 0;
    while at.is_some() && rows < ROWS_MAX {
        rows += 1;
        at = if forward { cursor.next()? } else { cursor.prev()? };
    }
    Ok(rows)
}

/// A file that opens is one that can be written to; what was sound stays so.
fn write(mut bolt: Bolt, writes: u8, disk: &SimDisk, kind: &mut Kind) {
    let sound = match bolt.check() {
        Ok(problems) => problems.is_empty(),
        Err(error) => return kind.add_text(&error.to_string()),
    };
    assert!(sound, "opening checks all that a check does: {:?}", bolt.check());
    walk(&bolt.reader(), kind);
    for round in 0..u32::from(writes % 4) {
        let mut batch = WriteBatch::new();
        for row in 0..20_u32 {
            let key = Bytes::copy_from_slice(&(row * 7 + round).to_be_bytes());
            if row % 3 == 2 {
                batch.delete(b"key", key);
            } else {
                batch.put(b"key", key, Bytes::from(vec![9; 50]));
            }
        }
        if let Err(error) = bolt.commit(batch) {
            // For example a `key` that is no bucket: refused, and nothing is changed.
            kind.add_text(&error.to_string());
            break;
        }
    }
    let problems = bolt.check().expect("a sound disk");
    assert!(problems.is_empty(), "sound before, not after a commit: {problems:?}");
    drop(bolt);
    let again = Bolt::open(disk, path(), OPTIONS).expect("what we wrote we open");
    assert!(again.check().expect("a sound disk").is_empty());
}
