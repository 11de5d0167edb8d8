//! Flipped and cut files before every command: none panics, those that only read change
//! nothing, and what `repair --apply` calls repaired is sound.

use std::fs;
use std::path::{Path, PathBuf};

use crate::made::{Folder, Plan, run, tree};

/// Commands that must leave a directory as it is.
const READING: &[&str] = &[
    "hashkv $S",
    "verify --data-dir $D",
    "check v2store --data-dir $D",
    "repair --data-dir $D",
    "recover $D",
    "dump-logs $D",
    "dump-logs -start-index 5 $D",
    "dump-logs -raw $D",
    "dump-db list-bucket $D",
    "dump-db iterate-bucket $D key --decode",
    "dump-db iterate-bucket $D meta --decode",
    "dump-db iterate-bucket $D members --decode",
    "dump-db scan-keys $D 0",
    "dump-db hash $D",
    "bbolt check $S",
    "bbolt info $S",
    "bbolt buckets $S",
    "bbolt keys $S key",
    "bbolt get $S meta term",
    "bbolt pages $S",
    "bbolt page $S 0 1 2 3 4 5 6 7",
    "bbolt page $S --all",
    "bbolt stats $S",
];

/// A sequence of numbers from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in tree(from) {
        let path = to.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, bytes).expect("written");
    }
}

/// Damages one file: a bit, some bytes, or its end. What it did.
fn damage(dir: &Path, files: &[PathBuf], dice: &mut Dice) -> String {
    let path = &files[dice.below(files.len())];
    let mut bytes = fs::read(dir.join(path)).expect("a file");
    // Where something is, mostly.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at + 1);
    let at = dice.below(used);
    let what = match dice.below(8) {
        0 => {
            bytes.truncate(at);
            "cut"
        }
        1 => {
            let end = (at + 1 + dice.below(600)).min(bytes.len());
            bytes[at..end].fill(0);
            "zeroed"
        }
        2 => {
            let end = (at + 1 + dice.below(64)).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = dice.below(256) as u8);
            "scrambled"
        }
        _ => {
            bytes[at] ^= 1 << dice.below(8);
            "flipped"
        }
    };
    fs::write(dir.join(path), bytes).expect("written");
    format!("{} {what} at {at}", path.display())
}

/// The entries behind the db's index, as `dump-logs` shows them.
fn entries(dir: &Path) -> Vec<String> {
    let newest = run(dir, "dump-logs $D").ok();
    let all = run(dir, "dump-logs -start-index 1 $D");
    // A log that starts anew has no entries from the beginning on.
    let out = if all.result.is_ok() { all.out } else { newest };
    let rows = out.lines().skip_while(|line| !line.starts_with("term\t")).skip(1);
    rows.take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn no_command_falls_over_damaged_files() {
    let sound = Folder::new();
    Plan { entries: 60, applied: 57, snapshots: vec![20, 50], value_bytes: 150, ..Plan::default() }
        .make(&sound.0);
    let files: Vec<PathBuf> = tree(&sound.0).into_keys().collect();
    let right = entries(&sound.0);
    assert_eq!(right.len(), 60);
    let mut repaired = 0;
    // More of them on request; some figures below are about the first forty.
    let asked = std::env::var("ETCDUTL_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 1..=asked.unwrap_or(40) {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let folder = Folder::new();
        copy(&sound.0, &folder.0);
        let what = damage(&folder.0, &files, &mut dice);
        let before = tree(&folder.0);
        for line in READING {
            // What it says is not judged here, only that it says something and ends.
            let _ = run(&folder.0, line);
            assert!(tree(&folder.0) == before, "seed {seed}: {what}: {line} changed something");
        }
        let said = run(&folder.0, "repair --data-dir $D --apply");
        if said.result.is_err() {
            assert!(
                tree(&folder.0) == before,
                "seed {seed}: {what}: changed, and failed: {}",
                said.out
            );
        } else if said.out.ends_with("repaired\n") {
            repaired += 1;
            let again = run(&folder.0, "repair --data-dir $D");
            assert_eq!(again.out, "nothing is damaged\n", "seed {seed}: {what}: {}", said.out);
            run(&folder.0, "verify --data-dir $D").ok();
            let entries = entries(&folder.0);
            let is_right = entries.iter().all(|entry| right.contains(entry));
            assert!(is_right, "seed {seed}: {what}: an entry is not what was written");
            // A cut within the last save cannot be told from one that a crash made.
            let last = entries.last().map_or("", String::as_str);
            let is_all = said.out.contains("lost: nothing") && !said.out.contains("a save of");
            assert!(
                !is_all || right.last().is_some_and(|r| r == last),
                "seed {seed}: {what}: {last}"
            );
        }
        let _ = run(&folder.0, "defrag --data-dir $D");
        let _ = run(&folder.0, "migrate --data-dir $D --target-version 3.6");
    }
    assert!(repaired > 8, "only {repaired} were repaired");
}
