//! Two servers in turns on the same disk, row by row.

use std::path::PathBuf;
use std::time::Duration;

use crate::fill::{Fill, fill};
use crate::loads::{Space, revision};
use crate::measure::{Plan, Shown, run};
use crate::process;
use crate::report::{self, Line, say};
use crate::rows::Row;
use crate::servers::{Certificates, Place, Recipe, Server, remove};
use crate::stats::{Side, turns};

/// Two binaries, and where and how they run.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) ours: PathBuf,
    pub(crate) theirs: PathBuf,
    pub(crate) folder: PathBuf,
    /// The client's port and the peers'.
    pub(crate) ports: (u16, u16),
    pub(crate) rounds: usize,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    /// Time before each row that counts nothing.
    pub(crate) warm_up: Duration,
    /// Measured time of a row.
    pub(crate) time: Duration,
}

impl Pair {
    /// How to start the server of `side` on its folder.
    pub(crate) fn recipe<'a>(
        &'a self,
        side: Side,
        certificates: Option<&'a Certificates>,
    ) -> Recipe<'a> {
        let binary = if side == Side::Ours { &self.ours } else { &self.theirs };
        Recipe {
            name: side.name(),
            binary,
            data_dir: self.folder.join(format!("{}.etcd", side.name())),
            ports: self.ports,
            certificates,
            place: Place::default(),
            others: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// Certificates when `tls`.
    pub(crate) fn certificates(&self, tls: bool) -> Result<Option<Certificates>, String> {
        tls.then(|| Certificates::make(&self.folder.join("certificates"))).transpose()
    }
}

/// Runs all rows on both, in turns.
pub(crate) async fn compare(pair: &Pair, rows: &[Row], tls: bool) -> Result<Vec<Line>, String> {
    let certificates = pair.certificates(tls)?;
    let mut lines: Vec<Line> = rows.iter().map(|row| Line::new(*row)).collect();
    for (turn, side) in turns(pair.rounds).into_iter().enumerate() {
        say(&format!("# turn {}: {}, load {}", turn + 1, side.name(), process::load_average()));
        let recipe = pair.recipe(side, certificates.as_ref());
        let shown = one_turn(pair, &recipe, rows).await?;
        for (line, shown) in lines.iter_mut().zip(shown) {
            line.of(side).push(shown);
        }
    }
    Ok(lines)
}

async fn one_turn(pair: &Pair, recipe: &Recipe<'_>, rows: &[Row]) -> Result<Vec<Shown>, String> {
    let name = recipe.name;
    remove(&recipe.data_dir)?;
    let (mut server, _) = Server::start(recipe).await?;
    let filling = Fill {
        keys: pair.keys,
        among: None,
        value_bytes: pair.value_bytes,
        batch: 100,
        clients: 8,
        connections: 4,
    };
    fill(&server.endpoint, filling).await.map_err(|e| format!("{name}: filling: {e}"))?;
    let pinned = revision(&server.endpoint).await.map_err(|e| format!("{name}: {e}"))?;
    let space = Space { keys: pair.keys, value_bytes: pair.value_bytes, pinned };
    let (mut all, target) = (Vec::new(), server.target());
    for row in rows {
        let plan = Plan { row: *row, space, warm_up: pair.warm_up, time: pair.time };
        let shown = run(&target, &plan).await;
        server.check().map_err(|e| format!("{name}: {row}: {e}"))?;
        let shown = shown.map_err(|e| format!("{name}: {row}: {e}"))?;
        report::say_shown(name, row, &shown);
        all.push(shown);
    }
    server.kill();
    remove(&recipe.data_dir)?;
    Ok(all)
}
