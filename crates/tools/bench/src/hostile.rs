//! Hostile clients, with a healthy one beside them: what it waits, and what the server takes.
//!
//! Each attack meets a server of its own, fresh and with 100 MB in it. The healthy client
//! puts and gets in turn, a hundred times a second each, first alone, then during the attack;
//! latency counts from the intended start. The attackers run on a thread of their own.

mod attacks;
mod frames;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use mainstay_proto::etcdserverpb as pb;
use rustls_pki_types::ServerName;
use tokio::time::Instant;

use crate::compare::Pair;
use crate::process::{self, MB};
use crate::report::say;
use crate::servers::{Certificates, Recipe, Server, remove};
use crate::stats::Side;
use crate::wire::{Connection, Endpoint};
use attacks::{ALL, Attack, Outcome, Plan};

/// The key that the healthy client puts.
const KEY: &str = "healthy";
/// Between two of its requests.
const PACE: Duration = Duration::from_millis(5);
/// How long it waits for one.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the server holds: so many values of 1 MB.
const BULK: usize = 100;
/// At most this many times the healthy client's p99 without an attack.
const P99_RATIO_MAX: f64 = 2.0;
/// And at most this many MB more memory, where nobody had to know a password.
const RSS_MB_MAX: f64 = 64.0 * 1024.0 * 1024.0 / MB;

/// What one attack on one server showed.
struct Shown {
    quiet: Histogram<u64>,
    during: Histogram<u64>,
    failed: u64,
    /// The most above what it was before, in bytes.
    growth: u64,
    connected: u64,
    closed: u64,
}

/// Runs every attack, or the named ones, on both.
pub(crate) async fn hostile(pair: &Pair, named: Option<&str>) -> Result<(), String> {
    let wanted = |name: &str| named.is_none_or(|named| named.split(',').any(|one| one == name));
    let certificates = Certificates::make(&pair.folder.join("certificates"))?;
    let mut table = vec![
        "| attack | p99 before, during (ratio), failed: ours | theirs | RSS growth, MB: ours | theirs |"
            .to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    for (attack, name, what) in ALL.into_iter().filter(|(_, name, _)| wanted(name)) {
        let mut cells = [Vec::new(), Vec::new()];
        for side in [Side::Ours, Side::Theirs] {
            let tls = attack.tls().then_some(&certificates);
            let recipe = pair.recipe(side, tls);
            let shown = one(pair, &recipe, attack).await;
            let shown = shown.map_err(|e| format!("{name}, {}: {e}", side.name()))?;
            let [latency, growth] = shown.cells(attack);
            say(&format!(
                "{:6} {name:20} p99 {latency}, RSS + {growth} MB; {} connections, {} closed by it",
                side.name(),
                shown.connected,
                shown.closed,
            ));
            cells[0].push(latency);
            cells[1].push(growth);
        }
        let cells = cells.concat().join(" | ");
        table.push(format!("| {what} | {cells} |"));
    }
    say("");
    table.iter().for_each(|line| say(line));
    Ok(())
}

impl Shown {
    fn cells(&self, attack: Attack) -> [String; 2] {
        let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99) as f64 / 1e6;
        let (quiet, during) = (p99(&self.quiet), p99(&self.during));
        let ratio = during / quiet;
        let judged = |met: bool| if met { "" } else { " MISSED" };
        let growth = self.growth as f64 / MB;
        let bounded = !attack.anonymous() || growth <= RSS_MB_MAX;
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let well = ratio <= P99_RATIO_MAX && self.failed == 0;
        [
            format!("{quiet:.2}, {during:.2} ms ({ratio:.1}{}){failed}", judged(well)),
            format!("{growth:.0}{}", judged(bounded)),
        ]
    }
}

async fn one(pair: &Pair, recipe: &Recipe<'_>, attack: Attack) -> Result<Shown, String> {
    remove(&recipe.data_dir)?;
    let (mut server, _) = Server::start(recipe).await?;
    fill(&server.endpoint).await?;
    let healthy = Connection::open(&server.endpoint).await.map_err(|e| e.to_string())?;
    // What filling took is given back, or written.
    let (mut warm, mut failed) = (Vec::new(), 0);
    be_well(&healthy, pair.warm_up, &mut warm, &mut failed).await;
    let (mut quiet, mut during) = (Vec::new(), Vec::new());
    be_well(&healthy, pair.time, &mut quiet, &mut failed).await;
    if failed > 0 {
        return Err(format!("{failed} requests failed before the attack"));
    }
    let before = process::read(server.pid()).rss;
    let outcome = Arc::new(Outcome::default());
    let plan = Plan {
        attack,
        address: server.endpoint.address.clone(),
        until: Instant::now() + pair.time,
        hello: hello(&server.endpoint)?,
        key: KEY,
        outcome: Arc::clone(&outcome),
    };
    let attacking = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| runtime.block_on(plan.run()))
    });
    let watching = watch_memory(server.pid(), pair.time);
    let ((), peak) = tokio::join!(be_well(&healthy, pair.time, &mut during, &mut failed), watching);
    attacking.join().map_err(|_| "the attackers have panicked")?.map_err(|e| e.to_string())?;
    server.check()?;
    server.kill();
    remove(&recipe.data_dir)?;
    Ok(Shown {
        quiet: histogram(&quiet),
        during: histogram(&during),
        failed,
        growth: peak.saturating_sub(before),
        connected: outcome.connected.load(Ordering::Relaxed),
        closed: outcome.closed.load(Ordering::Relaxed),
    })
}

fn histogram(times: &[Duration]) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("three digits are legal");
    for time in times {
        histogram.record(time.as_nanos() as u64).expect("an auto-resizing histogram");
    }
    histogram
}

/// The highest resident memory within a time.
async fn watch_memory(pid: u32, time: Duration) -> u64 {
    let (end, mut peak) = (Instant::now() + time, 0);
    while Instant::now() < end {
        peak = peak.max(process::read(pid).rss);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    peak
}

async fn fill(endpoint: &Endpoint) -> Result<(), String> {
    let connection = Connection::open(endpoint).await.map_err(|e| e.to_string())?;
    for n in 0..BULK {
        let value = vec![b'v'; 1_000_000].into();
        let put = pb::PutRequest { key: format!("bulk{n:04}").into(), value, ..Default::default() };
        let put = connection.unary::<_, pb::PutResponse>("/etcdserverpb.KV/Put", &put).await;
        put.map_err(|e| format!("filling: {e}"))?;
    }
    Ok(())
}

/// Puts and gets at its pace, for a time.
async fn be_well(
    connection: &Connection,
    time: Duration,
    times: &mut Vec<Duration>,
    failed: &mut u64,
) {
    let begin = Instant::now();
    for n in 0.. {
        let due = begin + PACE * n;
        if due >= begin + time {
            return;
        }
        tokio::time::sleep_until(due).await;
        // Whoever is late does not ask for what nobody could have waited for any more.
        if Instant::now() > begin + time + PATIENCE {
            return;
        }
        match tokio::time::timeout(PATIENCE, request(connection, n)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => *failed += 1,
        }
        times.push(due.elapsed());
    }
}

async fn request(connection: &Connection, n: u32) -> Result<(), String> {
    let told = |e: crate::wire::WireError| e.to_string();
    if n.is_multiple_of(2) {
        let put =
            pb::PutRequest { key: KEY.into(), value: vec![7; 256].into(), ..Default::default() };
        let put = connection.unary::<_, pb::PutResponse>("/etcdserverpb.KV/Put", &put).await;
        return put.map(drop).map_err(told);
    }
    let get = pb::RangeRequest { key: KEY.into(), ..Default::default() };
    let get = connection.unary::<_, pb::RangeResponse>("/etcdserverpb.KV/Range", &get).await;
    get.map(drop).map_err(told)
}

/// The first message of a handshake, if there are any.
fn hello(endpoint: &Endpoint) -> Result<Vec<u8>, String> {
    let Some(config) = &endpoint.tls else { return Ok(Vec::new()) };
    let name = ServerName::try_from("localhost").expect("a legal name");
    let mut client = rustls::ClientConnection::new(Arc::clone(config), name)
        .map_err(|e| format!("a handshake: {e}"))?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).map_err(|e| e.to_string())?;
    bytes.flush().map_err(|e| e.to_string())?;
    Ok(bytes)
}
