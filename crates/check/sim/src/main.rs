//! Runs seeds of whole clusters: `sim --seed N`, `sim --seeds FROM..TO`, or `sim --fresh`
//! with seeds that nobody has run.
//!
//! Ends with 0 when every seed was good, 1 when one was not (planted bugs included), and
//! 2 when it does not understand.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_sim::{Bug, Failure, Options, Stats, run};

const USAGE: &str = "usage: sim [--seed N | --seeds FROM..TO | --fresh] [--for SECONDS] \
                     [--threads T|all] [--minutes SIMULATED] [--bug NAME] [--failures N] \
                     [--trace] [--bugs]";

/// Numbers between the first fresh seeds of two seconds: more than a machine runs in one.
const FRESH_STEP: u64 = 1000;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What was asked for.
#[derive(Clone)]
struct Asked {
    from: u64,
    to: u64,
    fresh: bool,
    minutes: u64,
    threads: u64,
    bug: Option<Bug>,
    budget: Option<Duration>,
    failures: usize,
    trace: bool,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("{why}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    if asked.fresh {
        say(&format!("fresh seeds from {}", asked.from));
    }
    let begun = Instant::now();
    let (stats, failures) = run_all(&asked);
    report(&asked, &stats, begun.elapsed(), cpu_seconds());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let mut asked = Asked {
        from: 0,
        to: 100,
        fresh: false,
        minutes: 5,
        threads: 1,
        bug: None,
        budget: None,
        failures: 1,
        trace: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seed" => {
                asked.from = number(&value()?)?;
                asked.to = asked.from + 1;
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) = text.split_once("..").ok_or("--seeds takes FROM..TO")?;
                (asked.from, asked.to) = (number(from)?, number(to)?);
            }
            "--fresh" => {
                (asked.from, asked.to, asked.fresh) = (fresh_seed()?, u64::MAX, true);
            }
            "--minutes" => asked.minutes = number(&value()?)?,
            "--threads" => asked.threads = threads(&value()?)?,
            "--for" => asked.budget = Some(Duration::from_secs(number(&value()?)?)),
            "--failures" => asked.failures = number(&value()?)? as usize,
            "--trace" => asked.trace = true,
            "--bug" => {
                let name = value()?;
                asked.bug = Some(Bug::parse(&name).ok_or_else(|| format!("no bug {name}"))?);
            }
            "--bugs" => {
                for bug in Bug::ALL {
                    say(&format!("{:24} {}", bug.name(), bug.story()));
                }
                return Ok(None);
            }
            _ => return Err(format!("unknown: {word}")),
        }
    }
    Ok(Some(asked))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

fn threads(text: &str) -> Result<u64, String> {
    if text != "all" {
        return Ok(number(text)?.max(1));
    }
    let found = std::thread::available_parallelism().map_err(|why| why.to_string())?;
    Ok(found.get() as u64)
}

/// Seeds follow the time, so that no two runs have the same.
fn fresh_seed() -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|why| why.to_string())?;
    Ok(now.as_secs() * FRESH_STEP)
}

fn run_all(asked: &Asked) -> (Stats, Vec<Failure>) {
    let next = AtomicU64::new(asked.from);
    let total = Mutex::new((Stats::default(), Vec::new()));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..asked.threads {
            scope.spawn(|| {
                while asked.budget.is_none_or(|budget| begun.elapsed() < budget) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = {
                        let total = total.lock().expect("nobody panics with it");
                        total.1.len() >= asked.failures
                    };
                    if seed >= asked.to || enough {
                        break;
                    }
                    one(asked, seed, &total);
                }
            });
        }
    });
    total.into_inner().expect("nobody panics with it")
}

fn one(asked: &Asked, seed: u64, total: &Mutex<(Stats, Vec<Failure>)>) {
    let Asked { minutes, bug, trace, .. } = *asked;
    let result = run(Options { seed, minutes, bug, trace });
    let mut total = total.lock().expect("nobody panics with it");
    match result {
        Ok(stats) => total.0.merge(&stats),
        Err(failure) => {
            let bug = bug.map(|bug| format!(" --bug {}", bug.name())).unwrap_or_default();
            let minutes =
                if minutes == 5 { String::new() } else { format!(" --minutes {minutes}") };
            say(&format!(
                "FAILED seed {seed} after {} good ones: {}\n  cargo run --release -p mainstay-sim \
                 --bin sim -- --seed {seed}{minutes}{bug}",
                total.0.of("seeds"),
                failure.story
            ));
            total.1.push(failure);
        }
    }
}

/// What this process has used of the processors, where the system tells (in hundredths
/// of a second, behind the name in brackets).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}

fn report(asked: &Asked, stats: &Stats, took: Duration, cpu: Option<f64>) {
    say(&stats.to_string());
    let wall = took.as_secs_f64() * asked.threads as f64;
    let core_minutes = cpu.unwrap_or(wall).max(0.01) / 60.0;
    let seeds = stats.of("seeds");
    if seeds == 0 {
        return;
    }
    say(&format!(
        "{seeds} seeds in {:.1} s on {} threads: {:.0} seeds per core-minute; per seed {} \
         operations, {} faults, {} elections",
        took.as_secs_f64(),
        asked.threads,
        seeds as f64 / core_minutes,
        stats.of("operations") / seeds,
        stats.sum("fault: ") / seeds,
        stats.of("elections") / seeds,
    ));
}
