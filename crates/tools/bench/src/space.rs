//! Space: what a compaction writes, how soon deleted space is back on the disk, and who waits
//! for a defragmentation.
//!
//! Puts and reads are probed all the while, open loop, 1,000 a second each.

use std::path::Path;
use std::time::Duration;

use mainstay_proto::etcdserverpb as pb;
use tokio::time::Instant;

use crate::compare::Pair;
use crate::figures::{Both, Figures, Turns, during, seconds};
use crate::fill::{Fill, fill};
use crate::loads::{key, revision};
use crate::process::{self, MB};
use crate::report::say;
use crate::servers::{Recipe, Server, remove, version};
use crate::stats::turns;
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

/// Runs both in turns and prints the table.
pub(crate) async fn space(pair: &Pair) -> Result<(), String> {
    let mut all = Turns::default();
    for (turn, side) in turns(pair.rounds).into_iter().enumerate() {
        say(&format!("# turn {}: {}, load {}", turn + 1, side.name(), process::load_average()));
        all.take(side, one_turn(&pair.recipe(side, None), pair).await?);
    }
    say(&format!("\nours: {}; theirs: {}", version(&pair.ours)?, version(&pair.theirs)?));
    say(&format!(
        "{} keys of {} B, nine of ten deleted and compacted; puts and reads beside it, 1,000 a \
         second each, open loop. Medians of {} turns.\n",
        pair.keys, pair.value_bytes, pair.rounds
    ));
    all.say();
    Ok(())
}

async fn one_turn(recipe: &Recipe<'_>, pair: &Pair) -> Result<Figures, String> {
    remove(&recipe.data_dir)?;
    let (mut server, _) = Server::start(recipe).await?;
    let mut figures = Figures::default();
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
    figures.add(10, "file before, MB", bytes_of(&file) / MB);
    let before = process::read(server.pid()).written;
    let (compacted, compaction) = during(compact(&server.endpoint, &connection)).await;
    compacted?;
    let after = process::read(server.pid()).written;
    figures.add(20, "compaction, s", seconds(compaction));
    figures.add(21, "written while compacting, MB", (after - before) as f64 / MB);
    let (small, shrinking) = during(watch(&connection, &file, compaction.1)).await;
    figures.add(30, "file is at most 1.25 of what is in use after, s", small?);
    let status = status(&connection).await?;
    let written = process::read(server.pid()).written - after;
    figures.add(31, "file after 60 s, MB", bytes_of(&file) / MB);
    figures.add(32, "in use after 60 s, MB", status.db_size_in_use as f64 / MB);
    figures.add(33, "written in these 60 s, MB", written as f64 / MB);
    let seen = probes.stop().await?;
    for (place, name, span) in
        [(40, "before", quiet), (50, "compacting", compaction), (60, "60 s after", shrinking)]
    {
        figures.waits(place, name, &seen, span);
    }
    thin_out(&server.endpoint, &connection, pair).await?;
    compact(&server.endpoint, &connection).await?;
    let probes = Both::start(&server.endpoint).await?;
    let quiet = during(tokio::time::sleep(Duration::from_millis(500))).await.1;
    figures.add(70, "file before defragmenting, MB", bytes_of(&file) / MB);
    let (answer, span) = during(defragment(&connection)).await;
    answer?;
    figures.add(71, "defragmenting, s", seconds(span));
    figures.add(72, "file after defragmenting, MB", bytes_of(&file) / MB);
    figures.waits(80, "defragmenting", &probes.stop().await?, (quiet.1, span.1));
    Ok(())
}

/// Puts every key and deletes nine of ten.
async fn thin_out(endpoint: &Endpoint, to: &Connection, pair: &Pair) -> Result<(), WireError> {
    let (keys, value_bytes) = (pair.keys, pair.value_bytes);
    fill(endpoint, Fill { keys, among: None, value_bytes, batch: 20, clients: 8, connections: 4 })
        .await?;
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
pub(crate) async fn compact(endpoint: &Endpoint, to: &Connection) -> Result<(), WireError> {
    let revision = revision(endpoint).await?;
    let request = pb::CompactionRequest { revision, physical: true };
    to.unary::<_, pb::CompactionResponse>("/etcdserverpb.KV/Compact", &request).await.map(drop)
}

/// Asks it to rewrite its file without free pages.
pub(crate) async fn defragment(to: &Connection) -> Result<(), WireError> {
    let path = "/etcdserverpb.Maintenance/Defragment";
    to.unary::<_, pb::DefragmentResponse>(path, &pb::DefragmentRequest {}).await.map(drop)
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

pub(crate) fn bytes_of(file: &Path) -> f64 {
    std::fs::metadata(file).map_or(0.0, |found| found.len() as f64)
}
