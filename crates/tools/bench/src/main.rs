//! `bench`: loads for one server, and the comparison of two.

mod big;
mod chores;
mod cluster;
mod compare;
mod failover;
mod fan;
mod figures;
mod fill;
mod hostile;
mod learner;
mod loads;
mod login;
mod measure;
mod options;
mod pace;
mod probe;
mod process;
mod report;
mod rows;
mod servers;
mod space;
mod stats;
mod wire;

use std::process::ExitCode;

use compare::Pair;
use loads::Space;
use options::Options;
use report::say;
use rows::Row;

const HELP: &str = "bench: load for etcd, measured on the server

bench run --target HOST:PORT --pid PID [--rows ROWS] [--fill] [--ca FILE --cert FILE --key FILE] [...]
bench compare --ours BINARY --theirs BINARY --dir FOLDER [--rows ROWS] [--plain] [--tls] [--rounds N] [...]
bench big --ours BINARY --theirs BINARY --dir FOLDER [--plain] [--tls] [--rounds N] [...]
bench cluster --ours BINARY --theirs BINARY --dir FOLDER [--rows ROWS] [--plain] [--tls] [--rounds N] [...]
bench failover --ours BINARY --theirs BINARY --dir FOLDER [--times N] [--fault FAULT]
bench learner --ours BINARY --theirs BINARY --dir FOLDER [--rounds N]
bench space --ours BINARY --theirs BINARY --dir FOLDER [--rounds N]
bench chores --ours BINARY --theirs BINARY --dir FOLDER [--rounds N]
bench hostile --ours BINARY --theirs BINARY --dir FOLDER [--attacks NAME,NAME] [--seconds S]
bench login --ours BINARY --theirs BINARY --dir FOLDER [--jwt] [--rounds N] [--seconds S]
all: [--seconds S] [--warm-up S] [--keys N] [--value BYTES]

ROWS are LOAD@CLIENTS (closed loop) or LOAD@RATE/s (open loop: latency counts from the
intended start), with commas between. Loads: put range range-serializable txn page500
page1000 page500-pinned (an older revision, beside 200 puts/s, whose CPU counts with it)
count keepalive watch1000s10 (1000 watchers of one prefix on 10 streams; CPU and latency
are of delivered events) watchkeys1000s10 (each its own key).
`compare` starts the two in turns (A B B A) on the same disk and prints medians and
ratios, plain and with mutual TLS unless one is named; `big` loads a million keys of 1 KB
by single puts, kills, restarts, hashes and lists. `cluster` is `compare` with three members
of each, the clients spread over them and the members' figures summed; `failover` kills,
pauses (SIGSTOP), ends (SIGTERM) and cuts off the leader of three, N times each, and tells
how long it takes until a put is acknowledged again. FAULT is one of kill, pause, end and
partition; the last gives each member a network namespace, which only root may. `learner`
fills three members (1 GiB, unless --keys and --value say otherwise) and adds a fourth, which
gets its vote once it has caught up; ours with the `etcdctl` that lies beside it. `space`
fills one server (a million keys of 1 KB, unless --keys and --value say otherwise), deletes nine
of ten, compacts and defragments, and tells what that writes, how large the file is afterwards,
and how long puts and reads wait meanwhile. `chores` fills one server likewise, updates random
keys, and takes a snapshot, compacts, defragments and restores, each side with the `etcdctl`
beside its server. `hostile` attacks a fresh server of each in fifteen ways, with a healthy client
beside the attackers, and tells what that one waits and how much memory the server takes. `login` turns
authentication on, and tells how many logins a second are answered, what puts wait meanwhile, and
whether the time of a wrong login tells which users there are.";

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
    const PAIR: [&str; 10] =
        ["ours", "theirs", "dir", "plain", "tls", "rounds", "seconds", "keys", "value", "warm-up"];
    match command {
        "run" => run(options).await,
        "compare" => {
            options.only(&[&PAIR[..], &["rows"]].concat())?;
            compare(options).await
        }
        "cluster" => {
            options.only(&[&PAIR[..], &["rows"]].concat())?;
            cluster(options).await
        }
        "failover" => {
            options.only(&["ours", "theirs", "dir", "times", "fault"])?;
            let pair = pair(options, 1, 1, 1)?;
            failover::failover(&pair, options.number("times", 30)?, options.text("fault")).await
        }
        "learner" => {
            options.only(&["ours", "theirs", "dir", "rounds", "keys", "value"])?;
            learner::learner(&pair(options, 1, 262_144, 4_096)?).await
        }
        "space" => {
            options.only(&["ours", "theirs", "dir", "rounds", "keys", "value"])?;
            space::space(&pair(options, 1, 1_000_000, 1_024)?).await
        }
        "chores" => {
            options.only(&["ours", "theirs", "dir", "rounds", "keys", "value"])?;
            chores::chores(&pair(options, 1, 1_000_000, 1_024)?).await
        }
        "hostile" => {
            options.only(&["ours", "theirs", "dir", "attacks", "seconds", "warm-up"])?;
            hostile::hostile(&pair(options, 1, 1, 1)?, options.text("attacks")).await
        }
        "login" => {
            options.only(&["ours", "theirs", "dir", "rounds", "seconds", "jwt"])?;
            login::login(&pair(options, 2, 1, 1)?, options.has("jwt")).await
        }
        "big" => {
            options.only(&PAIR)?;
            big(options).await
        }
        "help" | "--help" | "-h" | "" => {
            say(HELP);
            Ok(())
        }
        _ => Err(format!("no command is named {command:?}; see bench help")),
    }
}

/// What `compare` and `big` have in common, with their own defaults.
fn pair(options: &Options, rounds: usize, keys: u64, value_bytes: usize) -> Result<Pair, String> {
    let pair = Pair {
        ours: options.path("ours")?,
        theirs: options.path("theirs")?,
        folder: options.path("dir")?,
        ports: servers::free_ports()?,
        rounds: options.number("rounds", rounds)?,
        keys: options.number("keys", keys)?,
        value_bytes: options.number("value", value_bytes)?,
        warm_up: options.seconds("warm-up", 1.0)?,
        time: options.seconds("seconds", 4.0)?,
    };
    if pair.keys == 0 || pair.rounds == 0 {
        return Err("--keys and --rounds are at least 1".into());
    }
    std::fs::create_dir_all(&pair.folder).map_err(|e| format!("{}: {e}", pair.folder.display()))?;
    Ok(pair)
}

async fn compare(options: &Options) -> Result<(), String> {
    let pair = pair(options, 2, 100_000, 256)?;
    let rows = Row::parse_list(options.text("rows").unwrap_or(rows::DEFAULT))?;
    let mut tables = Vec::new();
    for tls in options.transports() {
        say(&format!("# {}", transport(tls)));
        let lines = compare::compare(&pair, &rows, tls).await?;
        tables.push((tls, report::table(&lines)));
    }
    let how = "Closed loops have 1 connection for 1 client, 4 for 4, 9 for 64 and 30 for 1000; open loops 9; \
               watch streams share at most 10 and the puts have 1 of their own.";
    say_tables(&pair, how, &tables)
}

async fn cluster(options: &Options) -> Result<(), String> {
    let pair = pair(options, 2, 10_000, 256)?;
    let rows = Row::parse_list(options.text("rows").unwrap_or(rows::CLUSTER))?;
    let mut tables = Vec::new();
    for tls in options.transports() {
        say(&format!("# {}", transport(tls)));
        let lines = cluster::compare(&pair, &rows, tls).await?;
        tables.push((tls, report::table(&lines)));
    }
    let how = "Three members of each on one disk; connections are spread over the members, CPU, memory \
               and bytes are summed over them.";
    say_tables(&pair, how, &tables)
}

async fn big(options: &Options) -> Result<(), String> {
    let pair = pair(options, 1, 1_000_000, 1024)?;
    let mut tables = Vec::new();
    for tls in options.transports() {
        say(&format!("# {}", transport(tls)));
        tables.push((tls, big::big(&pair, tls).await?));
    }
    let how = "Loading: 256 clients on 16 connections. c64: 64 clients on 9 connections. Pages and counts: 4 \
               clients on 4 connections. Ready: from starting the process to the first linearizable answer, \
               median of 3 kills. HashKV: 1000 reads and 1000 puts a second beside it, open loop.";
    say_tables(&pair, how, &tables)
}

fn transport(tls: bool) -> &'static str {
    if tls { "mutual TLS" } else { "plain" }
}

fn say_tables(pair: &Pair, how: &str, tables: &[(bool, Vec<String>)]) -> Result<(), String> {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    say(&format!(
        "\nours: {}; theirs: {}",
        servers::version(&pair.ours)?,
        servers::version(&pair.theirs)?
    ));
    say(&format!(
        "Medians of {} turns of each ({}), {} s a row after {} s of warm-up, {} keys with values of {} B. \
         Server and one single-threaded client share {cpus} CPUs; load average at the end {}. {how} \
         Spread: highest less lowest turn, in per cent of the median.",
        pair.rounds,
        stats::turns(pair.rounds).iter().map(|side| side.name()).collect::<Vec<_>>().join(" "),
        pair.time.as_secs_f64(),
        pair.warm_up.as_secs_f64(),
        pair.keys,
        pair.value_bytes,
        process::load_average(),
    ));
    for (tls, table) in tables {
        say(&format!("\n## {}\n", transport(*tls)));
        table.iter().for_each(|line| say(line));
    }
    Ok(())
}

async fn run(options: &Options) -> Result<(), String> {
    options.only(&[
        "target", "pid", "rows", "seconds", "warm-up", "keys", "value", "fill", "ca", "cert", "key",
    ])?;
    let target = options.text("target").ok_or("--target HOST:PORT is missing")?;
    let tls = match options.text("ca") {
        Some(_) => {
            let (ca, cert) = (options.path("ca")?, options.path("cert")?);
            Some(servers::client_config(&ca, &cert, &options.path("key")?)?)
        }
        None => None,
    };
    let endpoint = wire::Endpoint { address: target.to_owned(), tls };
    let rows = Row::parse_list(options.text("rows").unwrap_or("put@64"))?;
    let keys = options.number("keys", 100_000)?;
    let value_bytes = options.number("value", 256)?;
    let pid = options.number("pid", 0)?;
    if options.has("fill") {
        let plan =
            fill::Fill { keys, among: None, value_bytes, batch: 100, clients: 8, connections: 4 };
        fill::fill(&endpoint, plan).await.map_err(|e| e.to_string())?;
    }
    let pinned = loads::revision(&endpoint).await.map_err(|e| e.to_string())?;
    let goal = measure::Target { endpoints: vec![endpoint], pids: vec![pid] };
    for row in rows {
        let plan = measure::Plan {
            row,
            space: Space { keys, value_bytes, pinned },
            warm_up: options.seconds("warm-up", 1.0)?,
            time: options.seconds("seconds", 4.0)?,
        };
        let shown = measure::run(&goal, &plan).await.map_err(|e| format!("{row}: {e}"))?;
        report::say_shown("", &row, &shown);
    }
    Ok(())
}
