//! The long run: many seeds, several pairs at once, until so many operations were
//! answered the same or one was not.
//!
//! `differential --ops N --seed S [--pairs P] [--episode E] [--shrink SECONDS]`
//!
//! Set `MAINSTAY_ETCD_3516` to the real etcd. Ends with 1 on a difference.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use mainstay_interop::differential::{Pairing, Plan, run};

fn main() -> ExitCode {
    let mut plan = Plan {
        pairing: Pairing::OURS_AND_REAL,
        seed: 1,
        ops: 100_000,
        episode: 5000,
        pairs: 4,
        shrink_time: Duration::from_secs(300),
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let Some(value) = args.next().and_then(|value| value.parse::<u64>().ok()) else {
            say(&format!("{flag} needs a number"));
            return ExitCode::from(2);
        };
        match flag.as_str() {
            "--ops" => plan.ops = value,
            "--seed" => plan.seed = value,
            "--pairs" => plan.pairs = value.max(1),
            "--episode" => plan.episode = value.max(1),
            "--shrink" => plan.shrink_time = Duration::from_secs(value),
            other => {
                say(&format!("{other} is no flag of this"));
                return ExitCode::from(2);
            }
        }
    }
    let Some(report) = run(plan, say) else { return ExitCode::from(2) };
    say(&report.tally.to_string());
    let last = plan.seed.wrapping_add(report.seeds.saturating_sub(1));
    say(&format!("{report}; seeds {}..={last}, {} each", plan.seed, plan.episode));
    if report.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(line: &str) {
    // Nobody listens: nothing to be done about it.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
