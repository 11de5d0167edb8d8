//! A million keys of 1 KB: loading, memory, restart, HashKV, pages and counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mainstay_proto::etcdserverpb as pb;

use crate::compare::remove;
use crate::fill::{Fill, fill};
use crate::loads::{Kind, PINNED_REVISION, Space, key};
use crate::measure::{Plan, run};
use crate::process;
use crate::report::{ratio, say};
use crate::servers::{Certificates, Recipe, Server};
use crate::wire::{Connection, Endpoint};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Big {
    pub(crate) ours: PathBuf,
    pub(crate) theirs: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) time: Duration,
    pub(crate) tls: bool,
    pub(crate) port: u16,
}

type Figures = BTreeMap<&'static str, f64>;

/// Runs both and prints the table.
pub(crate) async fn big(plan: &Big) -> Result<(), String> {
    let ours = one(plan, "ours", &plan.ours).await?;
    let theirs = one(plan, "theirs", &plan.theirs).await?;
    say("| figure | ours | theirs | ratio |");
    say("| --- | --- | --- | --- |");
    for (name, a) in &ours {
        let b = theirs.get(name).copied().unwrap_or(0.0);
        say(&format!("| {} | {a:.2} | {b:.2} | {} |", &name[3..], ratio(*a, b)));
    }
    Ok(())
}

async fn one(plan: &Big, name: &str, binary: &Path) -> Result<Figures, String> {
    let certificates = match plan.tls {
        true => Some(Certificates::make(&plan.folder.join("certificates"))?),
        false => None,
    };
    let data_dir = plan.folder.join(format!("{name}.etcd"));
    remove(&data_dir)?;
    let quota = ["--quota-backend-bytes=8589934592".to_owned()];
    let recipe = Recipe {
        name,
        binary,
        data_dir: &data_dir,
        port: plan.port,
        certificates: certificates.as_ref(),
        more_flags: &quota,
    };
    let mut figures = Figures::new();
    load(plan, &recipe, &mut figures).await?;
    let (server, ready) = Server::start(&recipe).await?;
    figures.insert("20 ready after a kill, s", ready.as_secs_f64());
    let gap = hash_gap(&server.endpoint).await.map_err(|e| format!("{name}: HashKV: {e}"))?;
    figures.insert("30 HashKV, s", gap.hash.as_secs_f64());
    figures.insert("31 longest gap of reads during HashKV, ms", gap.reads.as_secs_f64() * 1e3);
    figures.insert("32 longest gap of puts during HashKV, ms", gap.puts.as_secs_f64() * 1e3);
    let after = process::read(server.pid());
    figures.insert("21 RssAnon after restart and HashKV, MB", after.rss_anon as f64 / 1e6);
    figures.insert("22 RSS after restart and HashKV, MB", after.rss as f64 / 1e6);
    reads(plan, &server, &mut figures).await?;
    server.kill();
    remove(&data_dir)?;
    for (figure, value) in &figures {
        say(&format!("{name:6} {:44} {value:>12.3}", &figure[3..]));
    }
    Ok(figures)
}

async fn load(plan: &Big, recipe: &Recipe<'_>, figures: &mut Figures) -> Result<(), String> {
    let (server, _) = Server::start(recipe).await?;
    let before = process::read(server.pid());
    let begun = Instant::now();
    let filling = Fill {
        keys: plan.keys,
        value_bytes: plan.value_bytes,
        batch: 1,
        clients: 256,
        connections: 16,
    };
    fill(&server.endpoint, filling).await.map_err(|e| format!("{}: {e}", recipe.name))?;
    let after = process::read(server.pid());
    figures.insert("10 loading by single puts, s", begun.elapsed().as_secs_f64());
    let cpu = (after.cpu_ns - before.cpu_ns) as f64 / 1e3 / plan.keys as f64;
    figures.insert("11 CPU per put, us", cpu);
    figures.insert("12 RssAnon after loading, MB", after.rss_anon as f64 / 1e6);
    figures.insert("13 RSS after loading, MB", after.rss as f64 / 1e6);
    figures.insert("14 written while loading, MB", (after.written - before.written) as f64 / 1e6);
    PINNED_REVISION.store(plan.keys as i64 + 1, Ordering::Relaxed);
    server.kill();
    Ok(())
}

async fn reads(plan: &Big, server: &Server, figures: &mut Figures) -> Result<(), String> {
    let space = Space { keys: plan.keys, value_bytes: plan.value_bytes };
    for (kind, cpu, p99) in [
        (Kind::Page(500), "40 page of 500, CPU us", "41 page of 500, p99 ms"),
        (Kind::Count, "44 count, CPU us", "45 count, p99 ms"),
        (Kind::Range, "46 range of one key c64, CPU us", "47 range of one key c64, p99 ms"),
        (Kind::Put, "48 put c64, CPU us", "49 put c64, p99 ms"),
        (
            Kind::PagePinned(500),
            "42 pinned page of 500 after writes, CPU us",
            "43 pinned page, p99 ms",
        ),
    ] {
        let clients = if matches!(kind, Kind::Range | Kind::Put) { 64 } else { 4 };
        let load = Plan {
            kind,
            space,
            clients,
            connections: clients.min(9),
            rate: None,
            warm_up: Duration::from_secs(1),
            time: plan.time,
        };
        let shown = run(&server.endpoint, server.pid(), &load).await.map_err(|e| e.to_string())?;
        if shown.errors > 0 {
            return Err(format!("{}: {}", kind.name(), shown.last_error));
        }
        figures.insert(cpu, shown.cpu_us);
        figures.insert(p99, shown.p99_ms);
    }
    Ok(())
}

struct Gap {
    hash: Duration,
    reads: Duration,
    puts: Duration,
}

/// Probes reads and puts, one after the other each, while one HashKV runs.
async fn hash_gap(endpoint: &Endpoint) -> Result<Gap, String> {
    let done = Arc::new(AtomicBool::new(false));
    let reads = tokio::spawn(probe(endpoint.clone(), false, Arc::clone(&done)));
    let puts = tokio::spawn(probe(endpoint.clone(), true, Arc::clone(&done)));
    let connection = Connection::open(endpoint).await.map_err(|e| e.to_string())?;
    let begun = Instant::now();
    let answer: pb::HashKvResponse = connection
        .unary("/etcdserverpb.Maintenance/HashKV", &pb::HashKvRequest::default())
        .await
        .map_err(|e| e.to_string())?;
    let hash = begun.elapsed();
    done.store(true, Ordering::Relaxed);
    say(&format!("HashKV {} at revision {}", answer.hash, answer.hash_revision));
    let reads = reads.await.map_err(|e| e.to_string())??;
    let puts = puts.await.map_err(|e| e.to_string())??;
    Ok(Gap { hash, reads, puts })
}

async fn probe(endpoint: Endpoint, put: bool, done: Arc<AtomicBool>) -> Result<Duration, String> {
    let connection = Connection::open(&endpoint).await.map_err(|e| e.to_string())?;
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let sent = if put {
            let request =
                pb::PutRequest { key: "probe".into(), value: "x".into(), ..Default::default() };
            connection.unary::<_, pb::PutResponse>("/etcdserverpb.KV/Put", &request).await.map(drop)
        } else {
            let request = pb::RangeRequest { key: key(1), ..Default::default() };
            connection
                .unary::<_, pb::RangeResponse>("/etcdserverpb.KV/Range", &request)
                .await
                .map(drop)
        };
        sent.map_err(|e| e.to_string())?;
        longest = longest.max(begun.elapsed());
    }
    Ok(longest)
}
