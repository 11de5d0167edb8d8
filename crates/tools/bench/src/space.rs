//! Space: what a compaction writes, how soon deleted space is back on the disk, and who waits
//! for a defragmentation.
//!
//! Puts and reads are probed all the while, open loop, 1,000 a second each.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use mainstay_proto::etcdserverpb as pb;
use tokio::time::Instant;

use crate::compare::Pair;
use crate::fill::{Fill, fill};
use crate::loads::{key, revision};
use crate::probe::{Probes, longest, quantile};
use crate::process::{self, MB};
use crate::report::{say, shown_ratio};
use crate::servers::{Recipe, Server, remove, version};
use crate::stats::{median, turns};
use crate::wire::{Connection, Endpoint, WireError};

/// One key in so many stays.
const STAYS: u64 = 10;
/// Ranges deleted in one transaction.
const DELETES: usize = 100;
/// How long the file is watched after the deletion.
const WATCHED: Duration = Duration::from_secs(60);
/// How long the probes run before anything is asked.
const QUIET: Duration = Duration::from_secs(20);
/// Between two looks at the file.
const LOOK: Duration = Duration::from_millis(250);
/// The file is small once it is at most so many times what is in use.
const SMALL: f64 = 1.25;

/// A figure's place in the table and its name.
type Name = (u8, &'static str);
/// What one turn showed.
type Figures = BTreeMap<Name, f64>;
/// A span of time.
type Span = (Instant, Instant);

/// Runs both in turns and prints the table.
pub(crate) async fn space(pair: &Pair) -> Result<(), String> {
    let mut all: BTreeMap<Name, [Vec<f64>; 2]> = BTreeMap::new();
    for (turn, side) in turns(pair.rounds).into_iter().enumerate() {
        say(&format!("# turn {}: {}, load {}", turn + 1, side.name(), process::load_average()));
        for (name, value) in one_turn(&pair.recipe(side, None), pair).await? {
            say(&format!("{:6} {:52} {value:>12.3}", side.name(), name.1));
            all.entry(name).or_default()[side as usize].push(value);
        }
    }
    say(&format!("\nours: {}; theirs: {}", version(&pair.ours)?, version(&pair.theirs)?));
    say(&format!(
        "{} keys of {} B, nine of ten deleted and compacted; puts and reads beside it, 1,000 a \
         second each, open loop. Medians of {} turns.\n",
        pair.keys, pair.value_bytes, pair.rounds
    ));
    say("| figure | ours | theirs | ratio |\n| --- | --- | --- | --- |");
    for ((_, name), sides) in &all {
        let [a, b] = sides.each_ref().map(|turns| median(turns.iter().copied()));
        say(&format!("| {name} | {a:.2} | {b:.2} | {} |", shown_ratio([a, b])));
    }
    Ok(())
}

async fn one_turn(recipe: &Recipe<'_>, pair: &Pair) -> Result<Figures, String> {
    remove(&recipe.data_dir)?;
    let (mut server, _) = Server::start(recipe).await?;
    let mut figures = Figures::new();
    let shown = measure(&server, recipe, pair, &mut figures).await;
    server.check()?;
    shown.map_err(|e| format!("{}: {e}", recipe.name))?;
    server.kill();
    remove(&recipe.data_dir)?;
    Ok(figures)
}

async fn measure(
    server: &Server,
    recipe: &Recipe<'_>,
    pair: &Pair,
    figures: &mut Figures,
) -> Result<(), WireError> {
    let file = recipe.data_dir.join("member/snap/db");
    let connection = Connection::open(&server.endpoint).await?;
    thin_out(&server.endpoint, &connection, pair).await?;
    let probes = Both::start(&server.endpoint).await?;
    let quiet = during(tokio::time::sleep(QUIET)).await.1;
    figures.insert((10, "file before, MB"), bytes_of(&file) / MB);
    let before = process::read(server.pid()).written;
    let (compacted, compaction) = during(compact(&server.endpoint, &connection)).await;
    compacted?;
    let after = process::read(server.pid()).written;
    figures.insert((20, "compaction, s"), seconds(compaction));
    figures.insert((21, "written while compacting, MB"), (after - before) as f64 / MB);
    let (small, shrinking) = during(watch(&connection, &file, compaction.1)).await;
    figures.insert((30, "file is at most 1.25 of what is in use after, s"), small?);
    let status = status(&connection).await?;
    let written = process::read(server.pid()).written - after;
    figures.insert((31, "file after 60 s, MB"), bytes_of(&file) / MB);
    figures.insert((32, "in use after 60 s, MB"), status.db_size_in_use as f64 / MB);
    figures.insert((33, "written in these 60 s, MB"), written as f64 / MB);
    let seen = probes.stop()?;
    for (place, name, span) in [
        (40, "before", quiet),
        (50, "compacting", compaction),
        (60, "in the 60 s after", shrinking),
    ] {
        waits(&seen, place, name, span, figures);
    }
    thin_out(&server.endpoint, &connection, pair).await?;
    compact(&server.endpoint, &connection).await?;
    let probes = Both::start(&server.endpoint).await?;
    let quiet = during(tokio::time::sleep(Duration::from_millis(500))).await.1;
    figures.insert((70, "file before defragmenting, MB"), bytes_of(&file) / MB);
    let request = pb::DefragmentRequest {};
    let path = "/etcdserverpb.Maintenance/Defragment";
    let (answer, span) =
        during(connection.unary::<_, pb::DefragmentResponse>(path, &request)).await;
    answer?;
    figures.insert((71, "defragmenting, s"), seconds(span));
    figures.insert((72, "file after defragmenting, MB"), bytes_of(&file) / MB);
    // Probes that began during the call may be answered after it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    waits(&probes.stop()?, 80, "defragmenting", (quiet.1, span.1), figures);
    Ok(())
}

/// Puts every key and deletes nine of ten.
async fn thin_out(endpoint: &Endpoint, to: &Connection, pair: &Pair) -> Result<(), WireError> {
    let (keys, value_bytes) = (pair.keys, pair.value_bytes);
    fill(endpoint, Fill { keys, value_bytes, batch: 20, clients: 8, connections: 4 }).await?;
    let starts: Vec<u64> = (0..keys).step_by(STAYS as usize).collect();
    for starts in starts.chunks(DELETES) {
        let range = |first: &u64| pb::DeleteRangeRequest {
            key: key(first + 1),
            range_end: key(first + STAYS),
            ..Default::default()
        };
        let delete = |first| pb::RequestOp {
            request: Some(pb::request_op::Request::RequestDeleteRange(range(first))),
        };
        let success = starts.iter().map(delete).collect();
        let request = pb::TxnRequest { success, ..Default::default() };
        let _: pb::TxnResponse = to.unary("/etcdserverpb.KV/Txn", &request).await?;
    }
    Ok(())
}

/// Compacts at the newest revision and waits until the rows are gone.
async fn compact(endpoint: &Endpoint, to: &Connection) -> Result<(), WireError> {
    let revision = revision(endpoint).await?;
    let request = pb::CompactionRequest { revision, physical: true };
    to.unary::<_, pb::CompactionResponse>("/etcdserverpb.KV/Compact", &request).await.map(drop)
}

async fn status(to: &Connection) -> Result<pb::StatusResponse, WireError> {
    to.unary("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await
}

/// Watches the file until the time is over; when it was small first, in seconds since `begun`, or
/// that it never was.
async fn watch(to: &Connection, file: &Path, begun: Instant) -> Result<f64, WireError> {
    let mut small = f64::INFINITY;
    while begun.elapsed() < WATCHED {
        tokio::time::sleep(LOOK).await;
        if small.is_infinite() && bytes_of(file) <= SMALL * status(to).await?.db_size_in_use as f64
        {
            small = begun.elapsed().as_secs_f64();
        }
    }
    Ok(small)
}

fn bytes_of(file: &Path) -> f64 {
    std::fs::metadata(file).map_or(0.0, |found| found.len() as f64)
}

async fn during<T>(work: impl Future<Output = T>) -> (T, Span) {
    let from = Instant::now();
    let done = work.await;
    (done, (from, Instant::now()))
}

fn seconds(span: Span) -> f64 {
    (span.1 - span.0).as_secs_f64()
}

/// Probes of reads and puts.
struct Both {
    reads: Probes,
    puts: Probes,
}

/// When each probe was meant to start and when it was answered: reads, then puts.
type Seen = [Vec<Span>; 2];

impl Both {
    async fn start(endpoint: &Endpoint) -> Result<Both, WireError> {
        let reads = Probes::start(endpoint, false).await?;
        Ok(Both { reads, puts: Probes::start(endpoint, true).await? })
    }

    fn stop(self) -> Result<Seen, WireError> {
        Ok([self.reads.stop()?, self.puts.stop()?])
    }
}

fn waits(seen: &Seen, place: u8, when: &str, span: Span, figures: &mut Figures) {
    let names: [&[&'static str; 5]; 4] = [
        &[
            "before",
            "before: p99 of puts, ms",
            "before: p99.9 of puts, ms",
            "before: longest put, ms",
            "before: longest read, ms",
        ],
        &[
            "compacting",
            "compacting: p99 of puts, ms",
            "compacting: p99.9 of puts, ms",
            "compacting: longest put, ms",
            "compacting: longest read, ms",
        ],
        &[
            "in the 60 s after",
            "60 s after: p99 of puts, ms",
            "60 s after: p99.9 of puts, ms",
            "60 s after: longest put, ms",
            "60 s after: longest read, ms",
        ],
        &[
            "defragmenting",
            "defragmenting: p99 of puts, ms",
            "defragmenting: p99.9 of puts, ms",
            "defragmenting: longest put, ms",
            "defragmenting: longest read, ms",
        ],
    ];
    let names = names.iter().find(|names| names[0] == when).expect("every span has its names");
    let ms = |wait: Duration| wait.as_secs_f64() * 1e3;
    let [reads, puts] = seen;
    for (n, value) in [
        quantile(puts, span, 0.99),
        quantile(puts, span, 0.999),
        longest(puts, span),
        longest(reads, span),
    ]
    .into_iter()
    .enumerate()
    {
        figures.insert((place + n as u8, names[n + 1]), ms(value));
    }
}
