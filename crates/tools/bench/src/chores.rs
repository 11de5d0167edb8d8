//! What an operator asks of a server at night, and who waits for it meanwhile: a snapshot, a
//! compaction, a defragmentation, and the restore of that snapshot.
//!
//! Puts and reads are probed all the while, open loop, 1,000 a second each. What ends soon is
//! asked for again and again, until the probes are enough for a p99.9.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use crate::compare::Pair;
use crate::figures::{Both, Figures, Span, Turns, during, seconds};
use crate::fill::{Fill, fill};
use crate::probe::quantile;
use crate::process::{self, MB};
use crate::report::say;
use crate::servers::{Recipe, Server, remove, version};
use crate::space::{bytes_of, compact, defragment};
use crate::stats::{median, turns};
use crate::wire::{Connection, WireError};

/// Rounds in which nothing is asked.
const QUIET_ROUNDS: usize = 5;
/// Each of them, and the least that a chore is asked for again and again: 20,000 probes.
const ROUND: Duration = Duration::from_secs(20);
/// But no more often than this.
const TIMES_MAX: usize = 12;
/// Updates of random keys, in per cent of the keys; the compaction drops as many revisions.
const UPDATES_PERCENT: u64 = 120;
/// The worst that a chore may do to the p99.9 of puts, as a multiple of the quiet one, where
/// quiet rounds differ by less.
const WORSE_MAX: f64 = 1.2;
/// Between one time and the next.
const BETWEEN: Duration = Duration::from_secs(1);
/// After filling, until anything is measured.
const REST: Duration = Duration::from_secs(10);

/// Runs both in turns and prints the table.
pub(crate) async fn chores(pair: &Pair) -> Result<(), String> {
    let mut all = Turns::default();
    for (turn, side) in turns(pair.rounds).into_iter().enumerate() {
        say(&format!("# turn {}: {}, load {}", turn + 1, side.name(), process::load_average()));
        all.take(side, one_turn(&pair.recipe(side, None), pair).await?);
    }
    say(&format!("\nours: {}; theirs: {}", version(&pair.ours)?, version(&pair.theirs)?));
    say(&format!(
        "{} keys of {} B and {} updates of random ones; puts and reads beside it, 1,000 a second \
         each, open loop, {QUIET_ROUNDS} quiet rounds of {} s. Saved and restored by the \
         `etcdctl` beside each server. Medians of {} turns.\n",
        pair.keys,
        pair.value_bytes,
        pair.keys * UPDATES_PERCENT / 100,
        ROUND.as_secs(),
        pair.rounds
    ));
    all.say();
    Ok(())
}

async fn one_turn(recipe: &Recipe<'_>, pair: &Pair) -> Result<Figures, String> {
    remove(&recipe.data_dir)?;
    let (mut server, _) = Server::start(recipe).await?;
    let mut figures = Figures::default();
    let snapshot = recipe.data_dir.with_extension("snapshot");
    let shown = measure(&server, recipe, pair, &snapshot, &mut figures).await;
    server.check()?;
    shown.map_err(|e| format!("{}: {e}", recipe.name))?;
    server.kill();
    remove(&recipe.data_dir)?;
    let ctl = recipe.binary.with_file_name("etcdctl");
    let restored = recipe.data_dir.with_extension("restored");
    remove(&restored)?;
    let data_dir = format!("--data-dir={}", restored.display());
    let words = ["snapshot", "restore", &snapshot.display().to_string(), &data_dir];
    let (done, span) = during(run(&ctl, &words)).await;
    done?;
    figures.add(80, "restore, s", seconds(span));
    remove(&restored)?;
    std::fs::remove_file(&snapshot).map_err(|e| format!("{}: {e}", snapshot.display()))?;
    Ok(figures)
}

async fn measure(
    server: &Server,
    recipe: &Recipe<'_>,
    pair: &Pair,
    snapshot: &Path,
    figures: &mut Figures,
) -> Result<(), WireError> {
    let (keys, value_bytes) = (pair.keys, pair.value_bytes);
    let once = Fill { keys, among: None, value_bytes, batch: 20, clients: 8, connections: 4 };
    fill(&server.endpoint, once).await?;
    let updates = Fill { keys: keys * UPDATES_PERCENT / 100, among: Some(keys), ..once };
    fill(&server.endpoint, updates).await?;
    tokio::time::sleep(REST).await;
    let (quiet, worst_ratio) = quiet_rounds(server).await?;
    figures.add(1, "quiet: p99.9 of puts, ms", quiet);
    figures.add(2, "quiet: largest ratio of two rounds", worst_ratio);
    figures.add(3, "p99.9 of puts that is borne, ms", quiet * worst_ratio.max(WORSE_MAX));
    figures.add(4, "RSS, MB", process::read(server.pid()).rss as f64 / MB);

    let file = recipe.data_dir.join("member/snap/db");
    let connection = Connection::open(&server.endpoint).await?;
    figures.add(10, "file, MB", bytes_of(&file) / MB);
    let ctl = recipe.binary.with_file_name("etcdctl");
    let endpoint = format!("--endpoints={}", server.endpoint.address);
    let save = async || {
        let words = ["snapshot", "save", &snapshot.display().to_string(), &endpoint];
        run(&ctl, &words).await.map_err(WireError::Malformed)
    };
    again(server, 20, "save", save, figures).await?;
    again(server, 30, "defragment", async || defragment(&connection).await, figures).await?;

    let probes = Both::start(&server.endpoint).await?;
    let before = process::read(server.pid()).written;
    let (compacted, span) = during(compact(&server.endpoint, &connection)).await;
    compacted?;
    let written = process::read(server.pid()).written - before;
    // What it freed is given back in the time after.
    tokio::time::sleep(ROUND).await;
    let whole = process::read(server.pid()).written - before;
    let seen = probes.stop().await?;
    figures.add(40, "compaction, s", seconds(span));
    figures.add(41, "compaction: written meanwhile, MB", written as f64 / MB);
    figures.add(42, "compaction: written until 20 s later, MB", whole as f64 / MB);
    figures.waits(43, "compaction and 20 s after", &seen, (span.0, Instant::now()));
    figures.add(50, "file after it, MB", bytes_of(&file) / MB);
    again(server, 60, "defragment again", async || defragment(&connection).await, figures).await?;
    figures.add(70, "file after that, MB", bytes_of(&file) / MB);
    Ok(())
}

/// The median p99.9 of puts in quiet rounds, in ms, and the largest of them divided by the
/// smallest.
async fn quiet_rounds(server: &Server) -> Result<(f64, f64), WireError> {
    let mut found = Vec::new();
    for _ in 0..QUIET_ROUNDS {
        let probes = Both::start(&server.endpoint).await?;
        let span = during(tokio::time::sleep(ROUND)).await.1;
        let [_, puts] = probes.stop().await?;
        found.push(quantile(&puts, span, 0.999).as_secs_f64() * 1e3);
    }
    let largest = found.iter().copied().fold(f64::MIN, f64::max);
    let smallest = found.iter().copied().fold(f64::MAX, f64::min);
    Ok((median(found.iter().copied()), largest / smallest))
}

/// Does something until there are enough probes beside it; how long it takes, and who waits.
async fn again(
    server: &Server,
    place: u8,
    name: &str,
    mut work: impl AsyncFnMut() -> Result<(), WireError>,
    figures: &mut Figures,
) -> Result<(), WireError> {
    let probes = Both::start(&server.endpoint).await?;
    let begun = Instant::now();
    let mut spans: Vec<Span> = Vec::new();
    while begun.elapsed() < ROUND && spans.len() < TIMES_MAX {
        let (done, span) = during(work()).await;
        done?;
        spans.push(span);
        // Who was kept waiting is answered before the next one begins.
        tokio::time::sleep(BETWEEN).await;
    }
    let whole = (begun, Instant::now());
    let seen = probes.stop().await?;
    figures.add(place, format!("{name}, s"), median(spans.iter().map(|span| seconds(*span))));
    figures.waits(place + 1, name, &seen, whole);
    Ok(())
}

async fn run(ctl: &Path, words: &[&str]) -> Result<(), String> {
    let told = Command::new(ctl).args(words).env("ETCDCTL_API", "3").output().await;
    let told = told.map_err(|e| format!("{}: {e}", ctl.display()))?;
    if told.status.success() {
        return Ok(());
    }
    Err(format!("{} {}: {}", ctl.display(), words[1], String::from_utf8_lossy(&told.stderr)))
}
