//! A short run of every target with a fixed seed, and everything that once failed.

use mainstay_fuzz::TARGETS;
use mainstay_fuzz::runner::{Budget, Summary, one, regressions, run};

/// Inputs per target: a few seconds in the dev profile. Longer runs are in `docs/evidence.md`.
const INPUTS: u64 = 150;

#[test]
fn a_short_run_of_every_target_is_clean() {
    for target in TARGETS {
        match run(target, 7, Budget::Inputs(INPUTS), &mut |_| {}) {
            Ok(summary) => eprintln!("{}: {summary:?}", target.name),
            Err(failure) => panic!("{}: {} on {:02x?}", target.name, failure.why, failure.input),
        }
    }
}

#[test]
fn what_once_failed_is_clean() {
    for target in TARGETS {
        for (path, input) in regressions(target) {
            let mut summary = Summary { inputs: 0, kinds: 0, slowest: std::time::Duration::ZERO };
            let result = one(target, &input, &mut summary);
            assert!(result.is_ok(), "{}: {:?}", path.display(), result.err().map(|f| f.why));
        }
    }
}
