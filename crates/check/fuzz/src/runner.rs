//! Running a target many times, and saying what failed.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mainstay_env::Dice as _;
use mainstay_env_sim::SimDice;

use crate::Target;
use crate::mutate::mutate;

/// Inputs kept for further bending.
const KEPT_MAX: usize = 4096;
/// An input that takes longer than this hangs, for a client at least.
const SLOW: Duration = Duration::from_secs(4);

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Budget {
    /// After so many inputs; the same seed gives the same run.
    Inputs(u64),
    /// After so long.
    Time(Duration),
}

/// What a run came to.
#[derive(Debug)]
pub struct Summary {
    /// Inputs run.
    pub inputs: u64,
    /// Kinds of outcome seen.
    pub kinds: usize,
    /// The longest that one input took.
    pub slowest: Duration,
}

/// An input that failed.
#[derive(Debug)]
pub struct Failure {
    /// The input.
    pub input: Vec<u8>,
    /// The panic's message, or that it took too long.
    pub why: String,
}

/// Runs `target` over its seeds, then over mutations, until the budget is used or
/// one fails. `watch` is told every input before it runs, so that it is not lost
/// when the process dies of it.
///
/// # Errors
/// The first input that panics or is slow.
pub fn run(
    target: &Target,
    seed: u64,
    budget: Budget,
    watch: &mut dyn FnMut(&[u8]),
) -> Result<Summary, Box<Failure>> {
    let started = Instant::now();
    let mut dice = SimDice::new(seed);
    let mut seen = BTreeSet::new();
    let mut kept = (target.seeds)();
    let mut summary = Summary { inputs: 0, kinds: 0, slowest: Duration::ZERO };
    for seed in &kept {
        watch(seed);
        seen.insert(one(target, seed, &mut summary)?);
    }
    while !used(budget, summary.inputs, started) {
        let mut input = pick(&kept, &mut dice).to_vec();
        let other = pick(&kept, &mut dice);
        mutate(&mut input, other, &mut dice);
        watch(&input);
        if seen.insert(one(target, &input, &mut summary)?) {
            if kept.len() < KEPT_MAX {
                kept.push(input);
            } else {
                let at = dice.below(KEPT_MAX as u64) as usize;
                kept[at] = input;
            }
        }
    }
    summary.kinds = seen.len();
    Ok(summary)
}

fn used(budget: Budget, inputs: u64, started: Instant) -> bool {
    match budget {
        Budget::Inputs(most) => inputs >= most,
        Budget::Time(most) => started.elapsed() >= most,
    }
}

fn pick<'k>(kept: &'k [Vec<u8>], dice: &mut SimDice) -> &'k [u8] {
    // What was found last leads further more often.
    let back = if dice.one_in(2) { kept.len().min(32) } else { kept.len() };
    &kept[kept.len() - 1 - dice.below(back as u64) as usize]
}

/// Runs one input.
///
/// # Errors
/// When it panics or is slow.
pub fn one(target: &Target, input: &[u8], summary: &mut Summary) -> Result<u64, Box<Failure>> {
    let started = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = started.elapsed();
    summary.inputs += 1;
    summary.slowest = summary.slowest.max(took);
    let fail = |why: String| Box::new(Failure { input: input.to_vec(), why });
    match outcome {
        Ok(_) if took > SLOW => Err(fail(format!("it took {took:?}"))),
        Ok(kind) => Ok(kind),
        Err(panic) => Err(fail(message(&*panic))),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// The folder of inputs that once failed.
pub fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Inputs of `corpus/TARGET/`, sorted by name; none when there is no such folder.
///
/// # Panics
/// When a file cannot be read.
pub fn regressions(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(corpus().join(target.name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a listed file is there").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}
