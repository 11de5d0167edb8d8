//! One flipped bit anywhere in a snapshot file: refused with the checksum; without it found, or
//! harmless, or one changed value, which nothing but the checksum can tell.

use std::collections::BTreeMap;
use std::path::Path;

use mainstay_backup::{Restore, status};
use mainstay_env::Dice as _;
use mainstay_env_sim::SimDice;

use crate::support::{DATA, FILE, Sample, disk_with, founders, open, rows, run, wanted};

/// Flips with the checksum, and as many without: 10,000 together.
const FLIPS: u64 = 5_000;

fn small() -> Sample {
    Sample { writes: 12, ..Sample::default() }
}

#[test]
fn a_flipped_bit_is_refused() {
    let file = small().file();
    let founders = founders();
    let usual = wanted(&founders);
    let mut dice = SimDice::new(5);
    for _ in 0..FLIPS {
        let (at, bit) = (dice.below(file.len() as u64) as usize, dice.below(8));
        let mut bytes = file.clone();
        bytes[at] ^= 1 << bit;
        let disk = disk_with(&bytes);
        let error = run(&disk, &usual).expect_err("a flipped bit");
        assert!(error.to_string().starts_with("expected sha256"), "byte {at}: {error}");
        assert_eq!(disk.paths(), [FILE], "byte {at}");
    }
}

#[test]
fn a_flipped_bit_without_checksum_is_found_or_harmless() {
    let db = small().db();
    let founders = founders();
    let skipping = Restore { skip_hash_check: true, ..wanted(&founders) };
    let disk = disk_with(&db);
    run(&disk, &skipping).unwrap();
    let path = format!("{DATA}/member/snap/db");
    let whole = rows(&disk, &path);
    let mut dice = SimDice::new(6);
    let mut seen = BTreeMap::<&str, u64>::new();
    for _ in 0..FLIPS {
        let (at, bit) = (dice.below(db.len() as u64) as usize, dice.below(8));
        let mut bytes = db.clone();
        bytes[at] ^= 1 << bit;
        let disk = disk_with(&bytes);
        // Whatever it says, it says it.
        let _ = status(&disk, Path::new(FILE));
        let outcome = match run(&disk, &skipping) {
            Err(_) => {
                assert_eq!(disk.paths(), [FILE], "byte {at}");
                "found"
            }
            Ok(_) => {
                let found = rows(&disk, &path);
                let other = found.iter().filter(|(place, _)| !whole.contains_key(*place));
                let strange: Vec<_> = other.collect();
                let differ = whole.iter().filter(|(place, value)| found.get(*place) != Some(value));
                let differ = differ.count().max(found.len().abs_diff(whole.len()));
                assert!(differ <= 1, "byte {at}: {differ} rows, {strange:?}");
                // What a restore lets pass, a start takes.
                open(&disk);
                if differ == 0 { "harmless" } else { "changed" }
            }
        };
        *seen.entry(outcome).or_default() += 1;
    }
    eprintln!("{seen:?}");
    assert!(seen["found"] > 500 && seen["harmless"] > 500, "{seen:?}");
    // Bytes of values, of keys in them, of leases: nothing in the format tells.
    assert!(seen["changed"] < FLIPS / 3, "{seen:?}");
}
