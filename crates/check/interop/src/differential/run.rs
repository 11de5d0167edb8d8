//! Many seeds, on several pairs at once.

use std::fmt::{self, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Generator, Pair, Pairing, Tally, shrink};

/// How many of the operations that show a difference are printed.
const SHOWN: usize = 40;

/// How much to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Whose members.
    pub pairing: Pairing,
    /// The first seed; the episodes take it and those that follow.
    pub seed: u64,
    /// How many operations in all.
    pub ops: u64,
    /// How many of them one fresh pair is sent.
    pub episode: u64,
    /// How many pairs run at the same time.
    pub pairs: u64,
    /// How long a difference may be cut down.
    pub shrink_time: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Operations that both answered, in all.
    pub ops: u64,
    /// Seeds that were run, from [`Plan::seed`] on.
    pub seeds: u64,
    /// Wall-clock time.
    pub took: Duration,
    /// What they were.
    pub tally: Tally,
    /// Every difference, in words fit to work from.
    pub differences: Vec<String>,
}

/// One line for a table of evidence.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.ops as f64 / seconds.max(0.001);
        write!(
            f,
            "{} operations over {} seeds in {seconds:.0} s ({rate:.0} ops/s): {} differences",
            self.ops,
            self.seeds,
            self.differences.len()
        )
    }
}

/// Runs the plan, telling `progress` about each episode; stops at the first difference.
/// `None` when the real etcd is missing.
///
/// # Panics
/// When a member does not start.
pub fn run(plan: Plan, progress: fn(&str)) -> Option<Report> {
    // Says loudly that it is missing, once.
    drop(Pair::start(plan.pairing)?);
    let begin = Instant::now();
    let episodes = plan.ops.div_ceil(plan.episode);
    let (next, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let differences = Mutex::new(Vec::new());
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..plan.pairs {
            scope.spawn(|| {
                loop {
                    let episode = next.fetch_add(1, Ordering::Relaxed);
                    if episode >= episodes || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = plan.seed.wrapping_add(episode);
                    let left = plan.ops - episode * plan.episode;
                    let ops = left.min(plan.episode);
                    match one(&plan, seed, ops) {
                        Ok(told) => tally.lock().expect("nobody panics holding it").add(&told),
                        Err(text) => {
                            progress(&text);
                            stop.store(true, Ordering::Relaxed);
                            differences.lock().expect("nobody panics holding it").push(text);
                            return;
                        }
                    }
                    let all = done.fetch_add(ops, Ordering::Relaxed) + ops;
                    progress(&format!(
                        "seed {seed}: {ops} the same; {all} in {:.0?}",
                        begin.elapsed()
                    ));
                }
            });
        }
    });
    Some(Report {
        ops: done.into_inner(),
        seeds: next.into_inner().min(episodes),
        took: begin.elapsed(),
        tally: tally.into_inner().expect("nobody panics holding it"),
        differences: differences.into_inner().expect("nobody panics holding it"),
    })
}

/// One episode: what was answered, or in words what was different.
fn one(plan: &Plan, seed: u64, ops: u64) -> Result<Tally, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("seed {seed}: no runtime: {error}"))?;
    let ops = Generator::new(seed).take(usize::try_from(ops).expect("fits in memory"));
    runtime.block_on(async {
        let pair = Pair::start(plan.pairing).ok_or("the real etcd has gone missing")?;
        let verdict = pair.judge(&ops).await.map_err(|error| format!("seed {seed}: {error}"))?;
        let Some(difference) = verdict.difference else { return Ok(verdict.tally) };
        drop(pair);
        let mut text = format!("seed {seed}: DIFFERENCE at {difference}");
        let shown = &ops[..ops.len().min(difference.at + 1)];
        match shrink(plan.pairing, shown, plan.shrink_time).await {
            Ok(Some((fewer, difference))) => {
                let _ = writeln!(text, "cut down to {} operations:", fewer.len());
                for op in fewer.iter().take(SHOWN) {
                    let _ = writeln!(text, "  {op}");
                }
                let _ = write!(text, "  {difference}");
            }
            Ok(None) => text.push_str("it did not come again on a fresh pair\n"),
            Err(error) => text.push_str(&error),
        }
        Err(text)
    })
}
