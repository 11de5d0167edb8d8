//! `bench`: loads for one server, and the comparison of two.

mod big;
mod compare;
mod fill;
mod loads;
mod measure;
mod process;
mod report;
mod servers;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use loads::{Kind, Space};
use report::say;

const HELP: &str = "bench: load for etcd, measured on the server

bench run --target HOST:PORT --pid PID --load NAME [--clients N] [--rate PER_SECOND]
          [--seconds S] [--keys N] [--value BYTES] [--fill]
bench compare --ours BINARY --theirs BINARY --dir FOLDER [--tls] [--rounds N]
          [--clients 1,64,1000] [--loads NAMES] [--seconds S] [--keys N] [--value BYTES]
bench big --ours BINARY --theirs BINARY --dir FOLDER [--tls] [--keys N] [--value BYTES] [--seconds S]

loads: put range range-serializable page500 page1000 page500-pinned count txn
`compare` starts the two in turns (A B B A) on the same disk and prints medians and
ratios; `big` loads a million keys of 1 KB, kills, restarts, hashes and lists.
Latencies of an open loop (--rate) count from the intended start.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = Options::read(&args).and_then(|(command, options)| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| e.to_string())?;
        runtime.block_on(dispatch(&command, &options))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: &str, options: &Options) -> Result<(), String> {
    match command {
        "run" => run_one(options).await,
        "compare" => {
            let loads = options.text("loads").unwrap_or("put,range,txn,page500,count");
            let plan = compare::Comparison {
                ours: options.path("ours")?,
                theirs: options.path("theirs")?,
                folder: options.path("dir")?,
                loads: loads.split(',').map(kind).collect::<Result<_, _>>()?,
                clients: options.list("clients", "1,64,1000")?,
                tls: options.has("tls"),
                rounds: options.number("rounds", 2)?,
                time: Duration::from_secs(options.number("seconds", 5)?),
                keys: options.number("keys", 100_000)?,
                value_bytes: options.number("value", 256)?,
                port: options.number("port", 23790)?,
            };
            report::print_ratios(&compare::compare(&plan).await?);
            Ok(())
        }
        "big" => {
            let plan = big::Big {
                ours: options.path("ours")?,
                theirs: options.path("theirs")?,
                folder: options.path("dir")?,
                keys: options.number("keys", 1_000_000)?,
                value_bytes: options.number("value", 1024)?,
                time: Duration::from_secs(options.number("seconds", 5)?),
                tls: options.has("tls"),
                port: options.number("port", 23790)?,
            };
            big::big(&plan).await
        }
        _ => {
            say(HELP);
            Ok(())
        }
    }
}

async fn run_one(options: &Options) -> Result<(), String> {
    let target = options.text("target").ok_or("--target HOST:PORT is missing")?;
    let endpoint = wire::Endpoint { address: target.to_owned(), tls: None };
    let clients = options.number("clients", 64)?;
    let space = Space {
        keys: options.number("keys", 100_000)?,
        value_bytes: options.number("value", 256)?,
    };
    if options.has("fill") {
        let plan = fill::Fill {
            keys: space.keys,
            value_bytes: space.value_bytes,
            batch: 100,
            clients: 8,
            connections: 4,
        };
        fill::fill(&endpoint, plan).await.map_err(|e| e.to_string())?;
    }
    let plan = measure::Plan {
        kind: kind(options.text("load").unwrap_or("put"))?,
        space,
        clients,
        connections: compare::connections_for(clients),
        rate: options
            .text("rate")
            .map(|r| r.parse().map_err(|e| format!("--rate: {e}")))
            .transpose()?,
        warm_up: Duration::from_secs(1),
        time: Duration::from_secs(options.number("seconds", 5)?),
    };
    let shown = measure::run(&endpoint, options.number("pid", 0)?, &plan)
        .await
        .map_err(|e| e.to_string())?;
    say(&format!(
        "{} c{clients}: {:.0}/s p50 {:.3} p99 {:.3} p99.9 {:.3} ms, server {:.1} us CPU/request, {:.0} MB RSS, {:.1} MB written, {} errors {}",
        plan.kind.name(),
        shown.per_second,
        shown.p50_ms,
        shown.p99_ms,
        shown.p999_ms,
        shown.cpu_us,
        shown.rss_mb,
        shown.written_mb,
        shown.errors,
        shown.last_error,
    ));
    Ok(())
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::parse(name).ok_or_else(|| format!("--loads: no load is named {name:?}"))
}

/// `--name value` and `--name` pairs.
struct Options(BTreeMap<String, String>);

impl Options {
    fn read(args: &[String]) -> Result<(String, Options), String> {
        let command = args.first().cloned().unwrap_or_default();
        let mut found = BTreeMap::new();
        let mut rest = args.iter().skip(1).peekable();
        while let Some(arg) = rest.next() {
            let name = arg.strip_prefix("--").ok_or_else(|| format!("{arg:?} is not a flag"))?;
            let value = rest.next_if(|next| !next.starts_with("--")).cloned().unwrap_or_default();
            found.insert(name.to_owned(), value);
        }
        Ok((command, Options(found)))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn path(&self, name: &str) -> Result<PathBuf, String> {
        self.text(name).map(PathBuf::from).ok_or_else(|| format!("--{name} is missing"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str, otherwise: T) -> Result<T, String>
    where
        T::Err: std::fmt::Display,
    {
        self.text(name).map_or(Ok(otherwise), |text| {
            text.parse().map_err(|e| format!("--{name}: {text:?}: {e}"))
        })
    }

    fn list(&self, name: &str, otherwise: &str) -> Result<Vec<usize>, String> {
        let text = self.text(name).unwrap_or(otherwise);
        text.split(',').map(|n| n.parse().map_err(|e| format!("--{name}: {n:?}: {e}"))).collect()
    }
}
