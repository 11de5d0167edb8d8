//! A learner with much to catch up: when it gets its vote, and what clients notice of it.
//!
//! Both sides keep little log behind their snapshots, so that the newcomer comes by
//! snapshot. Ours is added by one `etcdctl member add --learner --promote-when-ready`;
//! etcd has no such command, so there the steps are taken as an operator's script would.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mainstay_proto::etcdserverpb as pb;

use crate::cluster::{Cluster, MEMBERS};
use crate::compare::Pair;
use crate::fill::{Fill, fill};
use crate::loads::{Client, Kind, Space};
use crate::pace::Pace;
use crate::process::{self, MB, Reading};
use crate::report::{say, shown_ratio};
use crate::servers::{Recipe, Server, free_ports, remove, version};
use crate::stats::{Side, median, turns};
use crate::wire::{Connection, Endpoint};

/// Puts a second beside it, over all members.
const PUTS: f64 = 200.0;
/// Clients that send them.
const CLIENTS: usize = 16;
/// How long puts are measured before.
const QUIET: Duration = Duration::from_secs(10);
/// A learner that has no vote by then never will.
const LONGEST: Duration = Duration::from_secs(600);
/// Between two attempts to promote, as `--promote-when-ready` makes them.
const ATTEMPT: Duration = Duration::from_millis(500);
/// Between two looks at the memory of both ends.
const LOOK: Duration = Duration::from_millis(50);
/// The newcomer's name.
const NAME: &str = "four";

/// A figure's place in the table and its name.
type Name = (u8, &'static str);
/// What one turn showed.
type Figures = BTreeMap<Name, f64>;

/// Runs both in turns and prints the table.
pub(crate) async fn learner(pair: &Pair) -> Result<(), String> {
    let mut all: BTreeMap<Name, [Vec<f64>; 2]> = BTreeMap::new();
    for (turn, side) in turns(pair.rounds).into_iter().enumerate() {
        say(&format!("# turn {}: {}, load {}", turn + 1, side.name(), process::load_average()));
        for (name, value) in one_turn(pair, side).await? {
            say(&format!("{:6} {:46} {value:>12.3}", side.name(), name.1));
            all.entry(name).or_default()[side as usize].push(value);
        }
    }
    say(&format!("\nours: {}; theirs: {}", version(&pair.ours)?, version(&pair.theirs)?));
    say(&format!(
        "Three members with {} keys of {} B, {PUTS} puts a second over all of them; a fourth \
         joins as a learner. Medians of {} turns.\n",
        pair.keys, pair.value_bytes, pair.rounds
    ));
    say("| figure | ours | theirs | ratio |\n| --- | --- | --- | --- |");
    for ((_, name), sides) in &all {
        let [a, b] = sides.each_ref().map(|turns| median(turns.iter().copied()));
        say(&format!("| {name} | {a:.2} | {b:.2} | {} |", shown_ratio([a, b])));
    }
    Ok(())
}

async fn one_turn(pair: &Pair, side: Side) -> Result<Figures, String> {
    let mut cluster = Cluster::start_with(pair, side, &short_log(side)).await?;
    let leader = cluster.leader().await?;
    let endpoint = cluster.members[leader].server.endpoint.clone();
    let batch = (400_000 / pair.value_bytes as u64).clamp(1, 100);
    let (keys, value_bytes) = (pair.keys, pair.value_bytes);
    let filling = Fill { keys, among: None, value_bytes, batch, clients: 8, connections: 4 };
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", side.name());
    fill(&endpoint, filling).await.map_err(|e| failed(&e))?;
    let mut figures = Figures::new();
    figures.insert((10, "db, MB"), db_bytes(&endpoint).await? as f64 / MB);
    let endpoints = cluster.members.iter().map(|member| member.server.endpoint.clone());
    let puts = Puts::start(endpoints.collect(), pair).await.map_err(|e| failed(&e))?;
    tokio::time::sleep(QUIET).await;
    puts.take(
        &mut figures,
        [(40, "puts before, p50 ms"), (41, "puts before, p99 ms"), (42, "puts before, longest ms")],
    );
    let pid = cluster.members[leader].server.pid();
    // The highest since then; a kernel that cannot tells the highest ever.
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    let before = process::read(pid);
    let newcomer = newcomer(&cluster, pair, side)?;
    let joined = joins(pair, side, &endpoint, &newcomer, pid).await?;
    puts.take(
        &mut figures,
        [
            (43, "puts meanwhile, p50 ms"),
            (44, "puts meanwhile, p99 ms"),
            (45, "puts meanwhile, longest ms"),
        ],
    );
    let after = process::read(pid);
    let seconds = |since: Reading, now: Reading| (now.cpu_ns - since.cpu_ns) as f64 / 1e9;
    for (name, value) in [
        ((20, "until it has a vote, s"), joined.took.as_secs_f64()),
        ((30, "leader's RSS before, MB"), before.rss as f64 / MB),
        ((31, "leader's highest RSS meanwhile, MB"), after.rss_peak as f64 / MB),
        ((32, "leader's highest RssAnon meanwhile, MB"), joined.leader_anon as f64 / MB),
        ((33, "leader's CPU meanwhile, s"), seconds(before, after)),
        ((34, "learner's highest RSS, MB"), joined.learner.rss_peak as f64 / MB),
        ((35, "learner's highest RssAnon, MB"), joined.learner_anon as f64 / MB),
        ((36, "learner's CPU, s"), joined.learner.cpu_ns as f64 / 1e9),
        ((46, "puts that failed"), puts.failed() as f64),
    ] {
        figures.insert(name, value);
    }
    cluster.wait_ready().await?;
    joined.server.kill();
    remove(&newcomer.data_dir)?;
    Ok(figures)
}

/// Flags with which a newcomer is not served from the log.
fn short_log(side: Side) -> Vec<String> {
    let kept = match side {
        Side::Ours => "--snapshot-catchup-entries=200",
        // Its name of those days.
        Side::Theirs => "--experimental-snapshot-catchup-entries=200",
    };
    vec!["--snapshot-count=500".to_owned(), kept.to_owned()]
}

fn newcomer<'a>(cluster: &Cluster<'a>, pair: &'a Pair, side: Side) -> Result<Recipe<'a>, String> {
    let others = cluster.members.iter();
    let mut flags = short_log(side);
    flags.push("--initial-cluster-state=existing".to_owned());
    let recipe = Recipe {
        name: NAME,
        data_dir: pair.folder.join(format!("{}-{NAME}.etcd", side.name())),
        ports: free_ports()?,
        others: others.map(|m| (m.recipe.name.to_owned(), m.recipe.listens_to_peers())).collect(),
        flags,
        ..pair.recipe(side, None)
    };
    remove(&recipe.data_dir)?;
    Ok(recipe)
}

/// A newcomer that votes.
struct Joined {
    server: Server,
    took: Duration,
    learner: Reading,
    learner_anon: u64,
    leader_anon: u64,
}

/// Adds it, starts it, promotes it.
async fn joins(
    pair: &Pair,
    side: Side,
    leader: &Endpoint,
    recipe: &Recipe<'_>,
    leader_pid: u32,
) -> Result<Joined, String> {
    let peer_url = format!("http://{}", recipe.listens_to_peers());
    let begun = Instant::now();
    let adding = match side {
        Side::Ours => Adding::begin(pair, leader, &peer_url)?,
        Side::Theirs => Adding::ByHand(add(leader, &peer_url).await?),
    };
    wait_for_list(leader, begun).await?;
    let server = Server::spawn(recipe)?;
    let (mut learner_anon, mut leader_anon) = (0, 0);
    let mut looked = tokio::time::interval(LOOK);
    let voting = adding.end(leader);
    tokio::pin!(voting);
    loop {
        tokio::select! {
            ended = &mut voting => break ended?,
            _ = looked.tick() => {
                learner_anon = process::read(server.pid()).rss_anon.max(learner_anon);
                leader_anon = process::read(leader_pid).rss_anon.max(leader_anon);
                if begun.elapsed() > LONGEST {
                    return Err(format!("no vote within {LONGEST:?}; see {}", recipe.log().display()));
                }
            }
        }
    }
    let took = begun.elapsed();
    let learner = process::read(server.pid());
    Ok(Joined { server, took, learner, learner_anon, leader_anon })
}

/// Who promotes.
enum Adding {
    /// Our `etcdctl`, at work.
    Command(tokio::process::Child),
    /// The steps of a script; the learner's id.
    ByHand(u64),
}

impl Adding {
    fn begin(pair: &Pair, leader: &Endpoint, peer_url: &str) -> Result<Adding, String> {
        let ctl = pair.ours.with_file_name("etcdctl");
        let child = tokio::process::Command::new(&ctl)
            .arg(format!("--endpoints={}", leader.address))
            .args(["member", "add", NAME, "--learner", "--promote-when-ready"])
            .arg(format!("--peer-urls={peer_url}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn();
        child.map(Adding::Command).map_err(|e| format!("{}: {e}", ctl.display()))
    }

    /// Waits until the learner votes.
    async fn end(self, leader: &Endpoint) -> Result<(), String> {
        match self {
            Adding::Command(mut child) => match child.wait().await {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(format!("etcdctl ended with {status}")),
                Err(e) => Err(format!("etcdctl: {e}")),
            },
            Adding::ByHand(id) => {
                let connection = Connection::open(leader).await.map_err(|e| e.to_string())?;
                let request = pb::MemberPromoteRequest { id };
                loop {
                    let promoted: Result<pb::MemberPromoteResponse, _> =
                        connection.unary("/etcdserverpb.Cluster/MemberPromote", &request).await;
                    if promoted.is_ok() {
                        return Ok(());
                    }
                    tokio::time::sleep(ATTEMPT).await;
                }
            }
        }
    }
}

async fn add(leader: &Endpoint, peer_url: &str) -> Result<u64, String> {
    let connection = Connection::open(leader).await.map_err(|e| e.to_string())?;
    let request = pb::MemberAddRequest { peer_ur_ls: vec![peer_url.to_owned()], is_learner: true };
    let added: pb::MemberAddResponse = connection
        .unary("/etcdserverpb.Cluster/MemberAdd", &request)
        .await
        .map_err(|e| format!("member add: {e}"))?;
    Ok(added.member.map_or(0, |member| member.id))
}

/// Waits until the newcomer is in the leader's list: then it may start.
async fn wait_for_list(leader: &Endpoint, begun: Instant) -> Result<(), String> {
    let connection = Connection::open(leader).await.map_err(|e| e.to_string())?;
    let request = pb::MemberListRequest { linearizable: true };
    while begun.elapsed() < LONGEST {
        let list: pb::MemberListResponse = connection
            .unary("/etcdserverpb.Cluster/MemberList", &request)
            .await
            .map_err(|e| format!("member list: {e}"))?;
        if list.members.len() > MEMBERS {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Err("the learner was never added".to_owned())
}

async fn db_bytes(endpoint: &Endpoint) -> Result<i64, String> {
    let connection = Connection::open(endpoint).await.map_err(|e| e.to_string())?;
    let status: Result<pb::StatusResponse, _> =
        connection.unary("/etcdserverpb.Maintenance/Status", &pb::StatusRequest {}).await;
    status.map(|status| status.db_size).map_err(|e| format!("status: {e}"))
}

/// Puts at a steady rate through all members; they end when this is dropped.
struct Puts {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    /// Nanoseconds, since the last look.
    latency: Histogram<u64>,
    failed: u64,
}

impl Puts {
    async fn start(endpoints: Vec<Endpoint>, pair: &Pair) -> Result<Puts, String> {
        let space = Space { keys: pair.keys, value_bytes: 256, pinned: 0 };
        let seen = Seen { latency: fresh(), failed: 0 };
        let seen = Arc::new(Mutex::new(seen));
        let end = tokio::time::Instant::now() + QUIET + 2 * LONGEST;
        let pace = Pace::start(PUTS, end).map_err(|e| e.to_string())?;
        let mut tasks = Vec::new();
        for number in 0..CLIENTS {
            let endpoint = &endpoints[number % endpoints.len()];
            let connection = Connection::open(endpoint).await.map_err(|e| e.to_string())?;
            let client = Client::new(connection, Kind::Put, space, number as u64, CLIENTS as u64);
            tasks.push(tokio::spawn(put(client, Arc::clone(&pace), Arc::clone(&seen))));
        }
        Ok(Puts { tasks, seen })
    }

    /// What was seen since the last time, p50, p99 and the longest.
    fn take(&self, figures: &mut Figures, names: [Name; 3]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = std::mem::replace(&mut seen.latency, fresh());
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let of = [latency.value_at_quantile(0.5), latency.value_at_quantile(0.99), latency.max()];
        figures.extend(names.into_iter().zip(of.map(ms)));
    }

    fn failed(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).failed
    }
}

impl Drop for Puts {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

fn fresh() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are legal")
}

async fn put(mut client: Client, pace: Arc<Pace>, seen: Arc<Mutex<Seen>>) {
    while let Some(due) = pace.next().await {
        let answered = client.one().await.is_ok();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if answered {
            let nanos = due.elapsed().as_nanos() as u64;
            seen.latency.record(nanos).expect("an auto-resizing histogram");
        } else {
            seen.failed += 1;
        }
    }
}
