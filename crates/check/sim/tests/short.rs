//! A fixed handful of seeds, and every planted bug that a few seeds catch.

use std::collections::BTreeMap;

use mainstay_sim::{Bug, Options, Stats, run};

/// Seeds of the everyday test, as many as there are at least.
const SEEDS: std::ops::Range<u64> = 300..340;
/// As many more until all of [`HAPPENS`] has happened: the rarest comes once in dozens.
const MORE_SEEDS_MAX: u64 = 260;

/// A run in which nothing happens proves nothing.
const HAPPENS: [&str; 18] = [
    "elections",
    "snapshots installed",
    "members joined",
    "members removed",
    "leases expired",
    "events watched",
    "watchers overtaken by compactions",
    "torn tails",
    "flipped bits refused",
    "fault: flipped bit of a meta page",
    "flipped bits found by comparing",
    "fault: time of day jumps",
    "figure 8: the first leader is back",
    "entries written right behind a snapshot",
    "commits without room",
    "logs without room",
    "reserves taken back",
    "registers judged",
];

fn options(seed: u64) -> Options {
    Options { seed, minutes: 5, bug: None, trace: false }
}

#[test]
fn a_handful_of_clusters_keeps_every_promise() {
    let mut total = Stats::default();
    for seed in SEEDS.start..SEEDS.end + MORE_SEEDS_MAX {
        let whole = HAPPENS.iter().all(|what| total.of(what) > 0);
        if seed >= SEEDS.end && whole {
            break;
        }
        match run(options(seed)) {
            Ok(stats) => total.merge(&stats),
            Err(failure) => panic!("seed {seed}: {}", failure.story),
        }
    }
    let seeds = total.of("seeds");
    assert!(total.time >= seeds * 300_000_000, "five simulated minutes each");
    assert!(total.of("operations answered") >= 200 * seeds, "{total}");
    assert!(total.sum("fault: ") >= 3 * seeds, "{total}");
    for what in HAPPENS {
        assert!(total.of(what) > 0, "{what} never happened in {seeds} seeds:\n{total}");
    }
    eprintln!("{seeds} seeds");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 17, 42] {
        assert_eq!(run(options(seed)), run(options(seed)), "seed {seed}");
    }
}

/// The bugs that need more seeds than an everyday test has; see BUGS.md.
const RARE: &[Bug] = &[Bug::StateWithEntries, Bug::AckWithoutRoom];

#[test]
fn bugs_that_are_put_back_are_caught() {
    let mut needed = BTreeMap::new();
    for bug in Bug::ALL.iter().copied().filter(|bug| !RARE.contains(bug)) {
        let caught =
            (0..200).find(|seed| run(Options { bug: Some(bug), ..options(*seed) }).is_err());
        let seeds = caught.unwrap_or_else(|| panic!("{} is not caught", bug.name()));
        needed.insert(bug.name(), seeds + 1);
    }
    eprintln!("seeds needed: {needed:?}");
}

#[test]
fn every_bug_has_its_line_in_the_list() {
    let list = include_str!("../BUGS.md");
    for bug in Bug::ALL {
        assert!(list.contains(&format!("| `{}` |", bug.name())), "{} is not listed", bug.name());
    }
}
