//! `cluster SCENE --seed S [--times N] [--writes N] [--size N] [--fault NAME] [--lasts MS]
//! [--hosts yes]`: a cluster of ours and of the real etcd under load, for as long as is
//! asked. Scenes: `roll` (a rolling swap there and back), `rounds` (N faults of leaders;
//! each seed has its own mix of makes and its own faults, or only the one that is named).
//! With `--hosts yes` each member has a network namespace, which only root may.

use std::error::Error;
use std::io::Write as _;
use std::time::Instant;

use mainstay_interop::cluster::scene::{self, Rounds};
use mainstay_interop::cluster::{Make, Report};

/// How long a leader sleeps or is cut off, in milliseconds.
const LASTS: std::ops::Range<u64> = 3_000..10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let (mut writes, mut size) = (1_000, 3);
    let mut plan =
        Rounds { seed: 1, makes: Vec::new(), count: 20, lasts: LASTS, only: None, on_hosts: false };
    while let Some(arg) = args.next() {
        let value = args.next().unwrap_or_default();
        match arg.as_str() {
            "--seed" => plan.seed = value.parse()?,
            "--times" => plan.count = value.parse()?,
            "--writes" => writes = value.parse()?,
            "--size" => size = value.parse()?,
            "--fault" => plan.only = Some(value.parse()?),
            "--lasts" => plan.lasts = value.parse()?..value.parse::<u64>()? + 1,
            "--hosts" => plan.on_hosts = value == "yes",
            other => return Err(format!("{other} is no option").into()),
        }
    }
    let seed = plan.seed;
    plan.makes = makes(seed, size);
    let begun = Instant::now();
    let judged = match name.as_str() {
        "roll" => scene::roll(seed, size, writes),
        "rounds" => scene::rounds(&plan),
        other => return Err(format!("{other:?}: roll or rounds").into()),
    };
    let report = judged.ok_or("a peer is missing")?;
    tell(&name, seed, &begun, &report)?;
    Ok(())
}

/// At least one of each; which ones, the seed says.
fn makes(seed: u64, size: usize) -> Vec<Make> {
    let ours = |n: usize| (n as u64 + seed).is_multiple_of(2);
    (0..size).map(|n| if ours(n) { Make::Ours } else { Make::Go }).collect()
}

fn tell(name: &str, seed: u64, begun: &Instant, report: &Report) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    for (words, count) in &report.words {
        writeln!(out, "{count:8} {words}")?;
    }
    writeln!(out, "{name}, seed {seed}, {:?}: {}", begun.elapsed(), report.line())?;
    Ok(())
}
