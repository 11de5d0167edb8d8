//! Three members of each side in turns, row by row.

use std::time::{Duration, Instant};

use mainstay_bench::Hosts;
use mainstay_proto::etcdserverpb as pb;

use crate::compare::Pair;
use crate::fill::{Fill, fill};
use crate::loads::{Space, revision};
use crate::measure::{Plan, Shown, Target, run};
use crate::process;
use crate::report::{self, Line, say};
use crate::rows::Row;
use crate::servers::{Certificates, Place, Recipe, Server, free_ports, remove};
use crate::stats::{Side, turns};
use crate::wire::Connection;

/// Members of a cluster.
pub(crate) const MEMBERS: usize = 3;
/// How long a cluster may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs all rows on both, in turns.
pub(crate) async fn compare(pair: &Pair, rows: &[Row], tls: bool) -> Result<Vec<Line>, String> {
    let certificates = pair.certificates(tls)?;
    let mut lines: Vec<Line> = rows.iter().map(|row| Line::new(*row)).collect();
    for (turn, side) in turns(pair.rounds).into_iter().enumerate() {
        say(&format!("# turn {}: {}, load {}", turn + 1, side.name(), process::load_average()));
        let shown = one_turn(pair, side, certificates.as_ref(), rows).await?;
        for (line, shown) in lines.iter_mut().zip(shown) {
            line.of(side).push(shown);
        }
    }
    Ok(lines)
}

async fn one_turn(
    pair: &Pair,
    side: Side,
    certificates: Option<&Certificates>,
    rows: &[Row],
) -> Result<Vec<Shown>, String> {
    let mut cluster = Cluster::start(pair, side, certificates, None).await?;
    let name = side.name();
    let leader = cluster.leader().await?;
    let filling = Fill {
        keys: pair.keys,
        among: None,
        value_bytes: pair.value_bytes,
        batch: 100,
        clients: 8,
        connections: 4,
    };
    let endpoint = cluster.members[leader].server.endpoint.clone();
    fill(&endpoint, filling).await.map_err(|e| format!("{name}: filling: {e}"))?;
    let pinned = revision(&endpoint).await.map_err(|e| format!("{name}: {e}"))?;
    let space = Space { keys: pair.keys, value_bytes: pair.value_bytes, pinned };
    let target = cluster.target();
    let mut all = Vec::new();
    for row in rows {
        let plan = Plan { row: *row, space, warm_up: pair.warm_up, time: pair.time };
        let shown = run(&target, &plan).await;
        cluster.check().map_err(|e| format!("{name}: {row}: {e}"))?;
        let shown = shown.map_err(|e| format!("{name}: {row}: {e}"))?;
        report::say_shown(name, row, &shown);
        all.push(shown);
    }
    Ok(all)
}

/// A member, and how it is started again.
pub(crate) struct Member<'a> {
    pub(crate) server: Server,
    pub(crate) recipe: Recipe<'a>,
}

/// A cluster of one side. Its folders go with it.
pub(crate) struct Cluster<'a> {
    pub(crate) members: Vec<Member<'a>>,
}

const NAMES: [&str; MEMBERS] = ["one", "two", "three"];

impl<'a> Cluster<'a> {
    /// Starts all members, each on its own host if there are some, and waits until each
    /// answers.
    pub(crate) async fn start(
        pair: &'a Pair,
        side: Side,
        certificates: Option<&'a Certificates>,
        hosts: Option<&'a Hosts>,
    ) -> Result<Cluster<'a>, String> {
        Cluster::found(pair.recipe(side, certificates), hosts).await
    }

    /// The same, with these flags and on loopback.
    pub(crate) async fn start_with(
        pair: &'a Pair,
        side: Side,
        flags: &[String],
    ) -> Result<Cluster<'a>, String> {
        let recipe = Recipe { flags: flags.to_vec(), ..pair.recipe(side, None) };
        Cluster::found(recipe, None).await
    }

    /// `like` says what all members have in common, and in which folder.
    async fn found(like: Recipe<'a>, hosts: Option<&'a Hosts>) -> Result<Cluster<'a>, String> {
        let mut ports = Vec::new();
        while ports.len() < MEMBERS {
            ports.push(free_ports()?);
        }
        let place = |n: usize| Place(hosts.map(|hosts| (hosts, n)));
        let mut members = Vec::new();
        for (n, name) in NAMES.into_iter().enumerate() {
            let listens = |of: usize| format!("{}:{}", place(of).address(), ports[of].1);
            let others = (0..MEMBERS).filter(|other| *other != n);
            let recipe = Recipe {
                name,
                data_dir: like.data_dir.with_file_name(format!("{}-{name}.etcd", like.name)),
                ports: ports[n],
                place: place(n),
                others: others.map(|of| (NAMES[of].to_owned(), listens(of))).collect(),
                ..like.clone()
            };
            remove(&recipe.data_dir)?;
            members.push(Member { server: Server::spawn(&recipe)?, recipe });
        }
        let mut cluster = Cluster { members };
        cluster.wait_ready().await?;
        Ok(cluster)
    }

    /// Waits until every member answers a linearizable read.
    pub(crate) async fn wait_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        for member in &mut self.members {
            member.server.wait_ready(begun, &member.recipe.log()).await?;
        }
        Ok(())
    }

    /// All members as what is loaded.
    fn target(&self) -> Target {
        let servers = || self.members.iter().map(|member| &member.server);
        Target {
            endpoints: servers().map(|server| server.endpoint.clone()).collect(),
            pids: servers().map(Server::pid).collect(),
        }
    }

    fn check(&mut self) -> Result<(), String> {
        self.members.iter_mut().try_for_each(|member| member.server.check())
    }

    /// Which member leads, once one says so of itself.
    pub(crate) async fn leader(&self) -> Result<usize, String> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            for (n, member) in self.members.iter().enumerate() {
                if leads(&member.server).await {
                    return Ok(n);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(format!("no leader within {} s", PATIENCE.as_secs()))
    }
}

async fn leads(server: &Server) -> bool {
    let Ok(connection) = Connection::open(&server.endpoint).await else { return false };
    let request = pb::StatusRequest::default();
    let answer = connection.unary("/etcdserverpb.Maintenance/Status", &request);
    let answer: Result<pb::StatusResponse, _> =
        match tokio::time::timeout(Duration::from_secs(1), answer).await {
            Ok(answer) => answer,
            Err(_) => return false,
        };
    answer.is_ok_and(|status| {
        let me = status.header.map_or(0, |header| header.member_id);
        me != 0 && status.leader == me
    })
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        for member in std::mem::take(&mut self.members) {
            let Member { server, recipe } = member;
            server.kill();
            // What stays is in the way of nobody but the next run, which removes it.
            let _ = remove(&recipe.data_dir);
        }
    }
}
