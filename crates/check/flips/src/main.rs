//! `flips --flips N --seed S [--from F] [--kind KIND] [--etcd PATH]`
//!
//! Flips N single bits, one after the other, over the files of directories that the seed stands
//! for, and ends with 1 when one of them is neither found nor harmless. With `--etcd` a real etcd
//! starts from each directory instead, which shows that the judge sees wrong answers.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use mainstay_flips::{Etcd, Flip, Kind, Made, Outcome, Tally, judge};

/// Flips over one directory.
const EACH: u64 = 1000;

struct Options {
    flips: u64,
    seed: u64,
    from: u64,
    kind: Option<Kind>,
    etcd: Option<String>,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        say("usage: flips [--flips N] [--seed S] [--from F] [--kind KIND] [--etcd PATH]");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut made = None;
    let mut etcd = options.etcd.as_deref().map(Etcd::new);
    for number in options.from..options.from + options.flips {
        let seed = options.seed.wrapping_mul(1_000_003).wrapping_add(number / EACH);
        if made.as_ref().is_none_or(|(of, _)| *of != seed) {
            made = Some((seed, Made::new(seed)));
        }
        let Some((_, made)) = &made else { continue };
        let kind = options.kind.or(etcd.as_ref().map(|_| Etcd::kind(number)));
        let flip = Flip::draw(made, options.seed, number, kind);
        let outcome = match &mut etcd {
            Some(etcd) => etcd.judge(seed, made, &flip),
            None => judge(made, &flip),
        };
        tally.count(flip.kind, &outcome);
        if let Outcome::Wrong(why) = &outcome {
            say(&format!(
                "{flip}\n  {why}\n  flips --seed {} --from {number} --flips 1",
                options.seed
            ));
        } else if options.flips == 1 {
            say(&format!("{flip}\n  {outcome:?}"));
        }
    }
    say(&format!(
        "{} flips, seed {}, {:.0} s\n{tally}",
        options.flips,
        options.seed,
        begun.elapsed().as_secs_f64()
    ));
    if tally.wrong() > 0 && options.etcd.is_none() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn options() -> Option<Options> {
    let mut options = Options { flips: 1000, seed: 1, from: 0, kind: None, etcd: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--flips" => options.flips = args.next()?.parse().ok()?,
            "--seed" => options.seed = args.next()?.parse().ok()?,
            "--from" => options.from = args.next()?.parse().ok()?,
            "--kind" => options.kind = Some(Kind::named(&args.next()?)?),
            "--etcd" => options.etcd = Some(args.next()?),
            _ => return None,
        }
    }
    Some(options)
}

fn say(text: &str) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stdout(), "{text}");
}
