//! A million keys of 1 KB: loading, memory, restart, HashKV, pages and counts.

use std::collections::BTreeMap;

use crate::compare::Pair;
use crate::fill::{Fill, fill};
use crate::loads::{Kind, Space, revision};
use crate::measure::{Plan, run};
use crate::probe::hash_gap;
use crate::process::{self, MB};
use crate::report::{say, say_shown, shown_ratio, verdict};
use crate::rows::{Loop, Row};
use crate::servers::{Recipe, Server, remove};
use crate::stats::{median, turns};

/// A figure's place in the table and its name.
type Name = (u8, &'static str);
/// What one turn showed.
type Figures = BTreeMap<Name, f64>;

/// Kills and restarts in a turn; the median of them is reported.
const RESTARTS: usize = 3;

/// The most that ours may take of theirs, or take at all.
const TARGETS: &[(&str, Target)] = &[
    ("RssAnon after loading, MB", Target::Ratio(0.5)),
    ("RSS after loading, MB", Target::Ratio(0.5)),
    ("ready after a kill, s", Target::Ratio(0.5)),
    ("RssAnon after restart and HashKV, MB", Target::Ratio(0.5)),
    ("RSS after restart and HashKV, MB", Target::Ratio(0.5)),
    ("longest wait of a read during HashKV, ms", Target::Most(50.0)),
    ("longest wait of a put during HashKV, ms", Target::Most(50.0)),
    ("page of 500, CPU us", Target::Ratio(0.1)),
    ("pinned page of 500 under writes, CPU us", Target::Ratio(0.1)),
    ("count, CPU us", Target::Ratio(0.05)),
    ("range of one key c64, CPU us", Target::Ratio(0.5)),
    ("put c64, CPU us", Target::Ratio(0.5)),
];

#[derive(Clone, Copy)]
enum Target {
    Ratio(f64),
    Most(f64),
}

/// Runs both in turns; returns the table.
pub(crate) async fn big(pair: &Pair, tls: bool) -> Result<Vec<String>, String> {
    let certificates = pair.certificates(tls)?;
    let mut all: BTreeMap<Name, [Vec<f64>; 2]> = BTreeMap::new();
    for (turn, side) in turns(pair.rounds).into_iter().enumerate() {
        say(&format!("# turn {}: {}, load {}", turn + 1, side.name(), process::load_average()));
        let figures = one_turn(pair, &pair.recipe(side, certificates.as_ref())).await?;
        for (name, value) in figures {
            all.entry(name).or_default()[side as usize].push(value);
        }
    }
    let mut table = vec!["| figure | ours | theirs | ratio |".to_owned()];
    table.push("| --- | --- | --- | --- |".to_owned());
    for ((_, name), sides) in &all {
        let [a, b] = sides.each_ref().map(|turns| median(turns.iter().copied()));
        table.push(format!("| {name} | {a:.2} | {b:.2} | {} |", judged(name, [a, b])));
    }
    Ok(table)
}

fn judged(name: &str, [a, b]: [f64; 2]) -> String {
    let target = TARGETS.iter().find(|(of, _)| *of == name).map(|(_, target)| *target);
    let ratio = shown_ratio([a, b]);
    match target {
        Some(Target::Ratio(most)) => verdict(Some(most), [a, b]),
        Some(Target::Most(most)) if a <= most => format!("{ratio} (at most {most}: met)"),
        Some(Target::Most(most)) => format!("{ratio} (at most {most}: MISSED)"),
        None => ratio,
    }
}

async fn one_turn(pair: &Pair, recipe: &Recipe<'_>) -> Result<Figures, String> {
    let mut figures = Figures::new();
    remove(&recipe.data_dir)?;
    let space = load(pair, recipe, &mut figures).await?;
    let mut server = restart(recipe, &mut figures).await?;
    let hash = |e| format!("{}: HashKV: {e}", recipe.name);
    let gap = hash_gap(&server.endpoint).await.map_err(hash)?;
    let after = process::read(server.pid());
    figures.insert((30, "RssAnon after restart and HashKV, MB"), after.rss_anon as f64 / MB);
    figures.insert((31, "RSS after restart and HashKV, MB"), after.rss as f64 / MB);
    figures.insert((32, "HashKV, s"), gap.hash.as_secs_f64());
    for (name, wait) in [
        ((33, "longest wait of a read before HashKV, ms"), gap.quiet[0]),
        ((34, "longest wait of a read during HashKV, ms"), gap.during[0]),
        ((35, "longest wait of a put before HashKV, ms"), gap.quiet[1]),
        ((36, "longest wait of a put during HashKV, ms"), gap.during[1]),
    ] {
        figures.insert(name, wait.as_secs_f64() * 1e3);
    }
    reads(pair, recipe, &mut server, space, &mut figures).await?;
    let last = process::read(server.pid());
    figures.insert((70, "highest RSS after the restart, MB"), last.rss_peak as f64 / MB);
    server.kill();
    remove(&recipe.data_dir)?;
    for ((_, figure), value) in &figures {
        say(&format!("{:6} {figure:46} {value:>12.3}", recipe.name));
    }
    Ok(figures)
}

/// Loads by single puts and kills.
async fn load(pair: &Pair, recipe: &Recipe<'_>, figures: &mut Figures) -> Result<Space, String> {
    let (mut server, _) = Server::start(recipe).await?;
    let before = process::read(server.pid());
    let begun = std::time::Instant::now();
    let filling = Fill {
        keys: pair.keys,
        among: None,
        value_bytes: pair.value_bytes,
        batch: 1,
        clients: 256,
        connections: 16,
    };
    let failed = |e| format!("{}: loading: {e}", recipe.name);
    fill(&server.endpoint, filling).await.map_err(failed)?;
    let after = process::read(server.pid());
    server.check()?;
    let pinned = revision(&server.endpoint).await.map_err(failed)?;
    let cpu = (after.cpu_ns - before.cpu_ns) as f64 / 1e3 / pair.keys as f64;
    figures.insert((10, "loading by single puts c256, s"), begun.elapsed().as_secs_f64());
    figures.insert((11, "loading, CPU us a put"), cpu);
    figures.insert((12, "RssAnon after loading, MB"), after.rss_anon as f64 / MB);
    figures.insert((13, "RSS after loading, MB"), after.rss as f64 / MB);
    figures.insert((14, "highest RSS while loading, MB"), after.rss_peak as f64 / MB);
    let written = after.written.saturating_sub(before.written);
    figures.insert((15, "written while loading, MB"), written as f64 / MB);
    server.kill();
    Ok(Space { keys: pair.keys, value_bytes: pair.value_bytes, pinned })
}

/// Starts it after a kill, more than once, and leaves the last one running.
async fn restart(recipe: &Recipe<'_>, figures: &mut Figures) -> Result<Server, String> {
    let mut times = Vec::new();
    loop {
        let (server, ready) = Server::start(recipe).await?;
        times.push(ready.as_secs_f64());
        if times.len() == RESTARTS {
            figures.insert((20, "ready after a kill, s"), median(times.into_iter()));
            return Ok(server);
        }
        server.kill();
    }
}

async fn reads(
    pair: &Pair,
    recipe: &Recipe<'_>,
    server: &mut Server,
    space: Space,
    figures: &mut Figures,
) -> Result<(), String> {
    let rows: [(Kind, usize, Name, Name); 5] = [
        (Kind::Page(500), 4, (40, "page of 500, CPU us"), (41, "page of 500, p99 ms")),
        (Kind::Count, 4, (44, "count, CPU us"), (45, "count, p99 ms")),
        (
            Kind::Range,
            64,
            (46, "range of one key c64, CPU us"),
            (47, "range of one key c64, p99 ms"),
        ),
        (Kind::Put, 64, (48, "put c64, CPU us"), (49, "put c64, p99 ms")),
        (
            Kind::PagePinned(500),
            4,
            (42, "pinned page of 500 under writes, CPU us"),
            (43, "pinned page of 500 under writes, p99 ms"),
        ),
    ];
    for (kind, clients, cpu, p99) in rows {
        let row = Row { kind, loop_: Loop::Closed(clients) };
        let plan = Plan { row, space, warm_up: pair.warm_up, time: pair.time };
        let shown = run(&server.target(), &plan).await;
        server.check().map_err(|e| format!("{}: {row}: {e}", recipe.name))?;
        let shown = shown.map_err(|e| format!("{}: {row}: {e}", recipe.name))?;
        say_shown(recipe.name, &row, &shown);
        if shown.errors > 0 {
            return Err(format!("{}: {row}: {}", recipe.name, shown.last_error));
        }
        figures.insert(cpu, shown.cpu_us);
        figures.insert(p99, shown.p99_ms);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_ratios_and_bounds() {
        assert_eq!(judged("count, CPU us", [5.0, 100.0]), "0.05 (target 0.05: met)");
        assert_eq!(judged("count, CPU us", [6.0, 100.0]), "0.06 (target 0.05: MISSED)");
        let wait = "longest wait of a put during HashKV, ms";
        assert_eq!(judged(wait, [49.0, 98.0]), "0.50 (at most 50: met)");
        assert_eq!(judged(wait, [51.0, 102.0]), "0.50 (at most 50: MISSED)");
        assert_eq!(judged("HashKV, s", [5.0, 1.0]), "5.00");
    }

    #[test]
    fn every_target_names_a_figure() {
        let source = include_str!("big.rs");
        for (name, _) in TARGETS {
            let named = format!(", \"{name}\")");
            assert!(source.contains(&named), "{name}");
        }
    }
}
