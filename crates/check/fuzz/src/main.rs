//! `fuzz --target NAME|all [--seconds N] [--seed S] [--input FILE]`
//!
//! Runs a target in a child process with bounded memory. An input that fails is
//! written to `corpus/TARGET/`, named by what it hashes to, and the run ends with 1.

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use mainstay_fuzz::pieces::Pieces;
use mainstay_fuzz::runner::{Budget, Failure, Summary, corpus, one, run};
use mainstay_fuzz::{TARGETS, Target, find};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Address space of a run in bytes: what one hostile input may make a parser take.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Seconds in which a child must show a new input before it counts as hung, beyond its budget.
const GRACE: Duration = Duration::from_secs(20);

struct Options {
    target: String,
    seconds: u64,
    seed: u64,
    input: Option<PathBuf>,
    child: bool,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        say(&format!(
            "usage: fuzz --target NAME|all [--seconds N] [--seed S] [--input FILE]\ntargets: {}",
            names.join(" ")
        ));
        return ExitCode::from(2);
    };
    let chosen: Vec<&Target> = match options.target.as_str() {
        "all" => TARGETS.iter().collect(),
        name => find(name).into_iter().collect(),
    };
    if chosen.is_empty() {
        say(&format!("there is no target {:?}", options.target));
        return ExitCode::from(2);
    }
    let mut clean = true;
    for target in chosen {
        clean &= if options.child { work(target, &options) } else { supervise(target, &options) };
    }
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options() -> Option<Options> {
    let mut options =
        Options { target: String::new(), seconds: 60, seed: 1, input: None, child: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--target" => options.target = args.next()?,
            "--seconds" => options.seconds = args.next()?.parse().ok()?,
            "--seed" => options.seed = args.next()?.parse().ok()?,
            "--input" => options.input = Some(args.next()?.into()),
            "--child" => options.child = true,
            _ => return None,
        }
    }
    (!options.target.is_empty()).then_some(options)
}

/// Where a child notes the input it is about to run.
fn note_path(target: &Target, seed: u64, pid: u32) -> PathBuf {
    std::env::temp_dir().join(format!("mainstay-fuzz-{}-{seed}-{pid}", target.name))
}

/// Runs the child, and keeps the input that killed it.
fn supervise(target: &Target, options: &Options) -> bool {
    let me = std::env::current_exe().expect("a running program has a path");
    let mut command = Command::new(me);
    command.args(["--child", "--target", target.name]);
    command.args(["--seconds", &options.seconds.to_string(), "--seed", &options.seed.to_string()]);
    if let Some(input) = &options.input {
        command.arg("--input").arg(input);
    }
    let mut child = command.spawn().expect("this very program starts");
    let note = note_path(target, options.seed, child.id());
    let patience = Duration::from_secs(options.seconds) + GRACE;
    let started = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if started.elapsed() > patience {
            say(&format!("{}: hangs", target.name));
            child.kill().expect("our own child");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let noted = std::fs::read(&note).unwrap_or_default();
    let _ = std::fs::remove_file(&note);
    if !status.success() && status.code() != Some(1) {
        let mut pieces = Pieces::new(&noted);
        let len = pieces.number() as usize;
        let rest = pieces.rest();
        let input = rest[..len.min(rest.len())].to_vec();
        keep(target, &Failure { input, why: format!("the process ended with {status}") });
    }
    status.success()
}

/// Runs the target here.
fn work(target: &Target, options: &Options) -> bool {
    let limit = Some(MEMORY_BYTES_MAX);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).expect("a lower limit");
    if let Some(path) = &options.input {
        return again(target, path);
    }
    let note = note_path(target, options.seed, std::process::id());
    let file = std::fs::File::create(&note).expect("the temporary folder takes a file");
    let mut watch = |input: &[u8]| {
        // Read by the parent when this process dies; a lost note loses only that.
        let _ = file.write_all_at(&(input.len() as u64).to_le_bytes(), 0);
        let _ = file.write_all_at(input, 8);
    };
    let budget = Budget::Time(Duration::from_secs(options.seconds));
    match run(target, options.seed, budget, &mut watch) {
        Ok(Summary { inputs, kinds, slowest }) => {
            let (name, seed, seconds) = (target.name, options.seed, options.seconds);
            let peak = peak_memory();
            say(&format!(
                "{name}: clean; seed {seed}, {seconds} s, {inputs} inputs, {kinds} kinds of outcome, slowest {slowest:?}, peak {peak}"
            ));
            true
        }
        Err(failure) => {
            keep(target, &failure);
            false
        }
    }
}

fn again(target: &Target, path: &Path) -> bool {
    let input = std::fs::read(path).expect("the input can be read");
    let mut summary = Summary { inputs: 0, kinds: 0, slowest: Duration::ZERO };
    match one(target, &input, &mut summary) {
        Ok(_) => say(&format!("{}: clean, {:?}", target.name, summary.slowest)),
        Err(failure) => {
            say(&format!("{}: {}", target.name, failure.why));
            return false;
        }
    }
    true
}

fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap_or("unknown").trim().to_owned()
}

fn keep(target: &Target, failure: &Failure) {
    let hash = failure.input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folder = corpus().join(target.name);
    let path = folder.join(format!("{hash:016x}"));
    let kept =
        std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &failure.input));
    kept.expect("the failing input can be kept");
    say(&format!("{}: FAILED: {}\n  input: {}", target.name, failure.why, path.display()));
}

fn say(line: &str) {
    // A closed standard output is no reason to lose a run.
    let _ = writeln!(std::io::stdout(), "{line}");
}
