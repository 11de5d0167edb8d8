//! Two servers in turns on the same disk: A B B A, and what one needs of the other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fill::{Fill, fill};
use crate::loads::{Kind, PINNED_REVISION, Space};
use crate::measure::{Plan, Shown, run};
use crate::report::{Line, say};
use crate::servers::{Certificates, Recipe, Server};

/// What to compare.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    pub(crate) ours: PathBuf,
    pub(crate) theirs: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) loads: Vec<Kind>,
    pub(crate) clients: Vec<usize>,
    pub(crate) tls: bool,
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) port: u16,
}

type Results = BTreeMap<String, Vec<Shown>>;

/// Runs it all; the lines are one per load and number of clients.
pub(crate) async fn compare(plan: &Comparison) -> Result<Vec<Line>, String> {
    let certificates = match plan.tls {
        true => Some(Certificates::make(&plan.folder.join("certificates"))?),
        false => None,
    };
    let mut ours = Results::new();
    let mut theirs = Results::new();
    for round in 0..plan.rounds {
        // A B, then B A, so that a drift of the machine falls on both.
        let order = if round % 2 == 0 { [true, false] } else { [false, true] };
        for is_ours in order {
            let results = if is_ours { &mut ours } else { &mut theirs };
            one_turn(plan, certificates.as_ref(), is_ours, results).await?;
        }
    }
    Ok(ours
        .iter()
        .filter_map(|(name, shown)| {
            let other = theirs.get(name)?;
            Some(Line { name: name.clone(), ours: median(shown), theirs: median(other) })
        })
        .collect())
}

async fn one_turn(
    plan: &Comparison,
    certificates: Option<&Certificates>,
    is_ours: bool,
    results: &mut Results,
) -> Result<(), String> {
    let name = if is_ours { "ours" } else { "theirs" };
    let data_dir = plan.folder.join(format!("{name}.etcd"));
    remove(&data_dir)?;
    let binary: &Path = if is_ours { &plan.ours } else { &plan.theirs };
    let quota = ["--quota-backend-bytes=8589934592".to_owned()];
    let recipe = Recipe {
        name,
        binary,
        data_dir: &data_dir,
        port: plan.port,
        certificates,
        more_flags: &quota,
    };
    let (server, _) = Server::start(&recipe).await?;
    let space = Space { keys: plan.keys, value_bytes: plan.value_bytes };
    let filling = Fill {
        keys: plan.keys,
        value_bytes: plan.value_bytes,
        batch: 100,
        clients: 8,
        connections: 4,
    };
    fill(&server.endpoint, filling).await.map_err(|e| format!("{name}: filling: {e}"))?;
    PINNED_REVISION.store((plan.keys / 100) as i64, std::sync::atomic::Ordering::Relaxed);
    for kind in &plan.loads {
        for clients in clients_for(*kind, &plan.clients) {
            let load = Plan {
                kind: *kind,
                space,
                clients,
                connections: connections_for(clients),
                rate: None,
                warm_up: Duration::from_secs(1),
                time: plan.time,
            };
            let shown = run(&server.endpoint, server.pid(), &load)
                .await
                .map_err(|e| format!("{name}: {}: {e}", kind.name()))?;
            let row = format!("{:02} {} c{clients}", order_of(&plan.loads, *kind), kind.name());
            say(&format!(
                "{name:6} {row:28} {:>9.0}/s p50 {:>8.3} ms p99 {:>8.3} ms cpu {:>8.1} us{}",
                shown.per_second,
                shown.p50_ms,
                shown.p99_ms,
                shown.cpu_us,
                if shown.errors > 0 {
                    format!(" {} errors: {}", shown.errors, shown.last_error)
                } else {
                    String::new()
                }
            ));
            results.entry(row).or_default().push(shown);
        }
    }
    server.kill();
    remove(&data_dir)
}

fn order_of(loads: &[Kind], kind: Kind) -> usize {
    loads.iter().position(|k| *k == kind).unwrap_or(0)
}

/// Pages and counts are heavy: eight at a time says enough.
fn clients_for(kind: Kind, clients: &[usize]) -> Vec<usize> {
    match kind {
        Kind::Page(_) | Kind::PagePinned(_) | Kind::Count => vec![8],
        _ => clients.to_vec(),
    }
}

/// As the baseline has them: 1 for 1, 9 for 64, 30 for 1000.
pub(crate) fn connections_for(clients: usize) -> usize {
    match clients {
        0..=8 => clients.max(1),
        9..=100 => 9,
        _ => 30,
    }
}

fn median(shown: &[Shown]) -> Shown {
    let middle = |of: fn(&Shown) -> f64| {
        let mut values: Vec<f64> = shown.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => 0.0,
            n if n % 2 == 1 => values[n / 2],
            n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
        }
    };
    Shown {
        per_second: middle(|s| s.per_second),
        p50_ms: middle(|s| s.p50_ms),
        p99_ms: middle(|s| s.p99_ms),
        p999_ms: middle(|s| s.p999_ms),
        cpu_us: middle(|s| s.cpu_us),
        rss_mb: middle(|s| s.rss_mb),
        written_mb: middle(|s| s.written_mb),
        errors: shown.iter().map(|s| s.errors).sum(),
        last_error: String::new(),
    }
}

pub(crate) fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {e}", folder.display()))
        }
        _ => Ok(()),
    }
}
