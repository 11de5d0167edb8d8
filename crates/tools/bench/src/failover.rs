//! How long a cluster of three is without a leader that acknowledges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_bench::Hosts;
use mainstay_proto::etcdserverpb as pb;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc::Sender;

use crate::cluster::{Cluster, MEMBERS};
use crate::compare::Pair;
use crate::report::{say, shown_ratio};
use crate::servers::{Server, version};
use crate::stats::{Side, turns};
use crate::wire::{Connection, Endpoint};

/// A put that takes longer is given up. One that a member has handed to a leader that is
/// gone is never answered, by either make.
const PUT_PATIENCE: Duration = Duration::from_millis(250);
/// A put leaves through each member this often, whatever became of the ones before: what
/// is measured is then no coarser than this.
const EVERY: Duration = Duration::from_millis(10);
/// A leader that is not replaced within this time never will be.
const LONGEST: Duration = Duration::from_secs(60);
/// Rounds of one kind that a side runs before the other has its turn.
const AT_ONCE: usize = 5;

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Killed,
    Paused,
    Ended,
    CutOff,
}

/// What `--fault` calls it, and the table.
const FATES: [(Fate, &str, &str); 4] = [
    (Fate::Killed, "kill", "leader killed (SIGKILL)"),
    (Fate::Paused, "pause", "leader paused (SIGSTOP)"),
    (Fate::Ended, "end", "leader ended (SIGTERM)"),
    (Fate::CutOff, "partition", "leader cut off (its host's link down)"),
];

/// Runs `times` rounds of each kind, or of the one that is named, on both sides, in turns,
/// and prints the table.
pub(crate) async fn failover(pair: &Pair, times: usize, fault: Option<&str>) -> Result<(), String> {
    let wanted = |of: &str| fault.is_none_or(|fault| fault == of);
    let fates: Vec<_> = FATES.into_iter().filter(|(_, key, _)| wanted(key)).collect();
    if fates.is_empty() {
        return Err("--fault is one of kill, pause, end, partition".into());
    }
    say(&format!("ours: {}; theirs: {}", version(&pair.ours)?, version(&pair.theirs)?));
    say(
        "Time from the fault until a put through another member is acknowledged, default timings.\n",
    );
    say("| what | p50 ms ours / theirs | ratio | p99 ms | ratio | worst ms | rounds |");
    say("| --- | --- | --- | --- | --- | --- | --- |");
    for (fate, _, name) in fates {
        let hosts = match fate {
            Fate::CutOff => match Hosts::new(MEMBERS) {
                Ok(hosts) => Some(hosts),
                Err(why) if fault.is_some() => return Err(why.to_string()),
                Err(why) => {
                    say(&format!("| {name} | not run: {why} | | | | | |"));
                    continue;
                }
            },
            Fate::Killed | Fate::Paused | Fate::Ended => None,
        };
        let mut gaps: [Vec<f64>; 2] = Default::default();
        for side in turns(times.div_ceil(AT_ONCE)) {
            let gaps = &mut gaps[side as usize];
            let rounds = AT_ONCE.min(times - gaps.len());
            gaps.extend(rounds_of(pair, side, fate, rounds, hosts.as_ref()).await?);
        }
        gaps.iter_mut().for_each(|gaps| gaps.sort_by(f64::total_cmp));
        let at = |quantile: f64| {
            let of = |gaps: &Vec<f64>| gaps[((gaps.len() - 1) as f64 * quantile).round() as usize];
            [of(&gaps[0]), of(&gaps[1])]
        };
        let (p50, p99, worst) = (at(0.5), at(0.99), at(1.0));
        say(&format!(
            "| {name} | {:.1} / {:.1} | {} | {:.1} / {:.1} | {} | {:.1} / {:.1} | {times} |",
            p50[0],
            p50[1],
            shown_ratio(p50),
            p99[0],
            p99[1],
            shown_ratio(p99),
            worst[0],
            worst[1],
        ));
    }
    Ok(())
}

/// The gaps of some rounds on one cluster, in milliseconds.
async fn rounds_of(
    pair: &Pair,
    side: Side,
    fate: Fate,
    rounds: usize,
    hosts: Option<&Hosts>,
) -> Result<Vec<f64>, String> {
    let mut cluster = Cluster::start(pair, side, None, hosts).await?;
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        let leader = cluster.leader().await?;
        let others: Vec<Endpoint> = cluster
            .members
            .iter()
            .enumerate()
            .filter(|(n, _)| *n != leader)
            .map(|(_, member)| member.server.endpoint.clone())
            .collect();
        let pid = Pid::from_raw(cluster.members[leader].server.pid() as i32);
        let strike = || match (fate, hosts) {
            (Fate::Killed, _) => send(pid, Signal::SIGKILL),
            (Fate::Paused, _) => send(pid, Signal::SIGSTOP),
            (Fate::Ended, _) => send(pid, Signal::SIGTERM),
            (Fate::CutOff, Some(hosts)) => hosts.unplug(leader).map_err(|e| e.to_string()),
            (Fate::CutOff, None) => Err("there are no hosts".into()),
        };
        let gap = gap(strike, others).await?;
        gaps.push(gap.as_secs_f64() * 1e3);
        if let Some(hosts) = hosts {
            hosts.plug(leader).map_err(|e| e.to_string())?;
        }
        recover(&mut cluster, leader, fate, pid).await?;
    }
    Ok(gaps)
}

fn send(to: Pid, signal: Signal) -> Result<(), String> {
    kill(to, signal).map_err(|e| format!("{signal}: {e}"))
}

/// From the fault to the first acknowledged put that was sent after it.
async fn gap(
    strike: impl FnOnce() -> Result<(), String>,
    others: Vec<Endpoint>,
) -> Result<Duration, String> {
    let mut connections = Vec::new();
    for endpoint in &others {
        let connection = Connection::open(endpoint).await.map_err(|e| e.to_string())?;
        // Whoever serves a put now has served one before.
        put(&connection).await;
        connections.push(connection);
    }
    strike()?;
    let begun = Instant::now();
    let (acknowledged, mut first) = tokio::sync::mpsc::channel(1);
    let probes: Vec<_> = connections
        .into_iter()
        .map(|connection| tokio::spawn(probe(Arc::new(connection), acknowledged.clone())))
        .collect();
    let came = tokio::time::timeout(LONGEST, first.recv()).await;
    probes.iter().for_each(tokio::task::JoinHandle::abort);
    match came {
        Ok(Some(at)) => Ok(at - begun),
        Ok(None) | Err(_) => Err(format!("no put was acknowledged for {} s", LONGEST.as_secs())),
    }
}

/// Sends put after put, and tells when one is acknowledged.
async fn probe(connection: Arc<Connection>, acknowledged: Sender<Instant>) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        let (connection, acknowledged) = (Arc::clone(&connection), acknowledged.clone());
        tokio::spawn(async move {
            if put(&connection).await {
                // When there is no room, another was acknowledged before.
                let _ = acknowledged.try_send(Instant::now());
            }
        });
    }
}

async fn put(connection: &Connection) -> bool {
    let request =
        pb::PutRequest { key: "failover".into(), value: "v".into(), ..Default::default() };
    let answer = connection.unary("/etcdserverpb.KV/Put", &request);
    let answer = tokio::time::timeout(PUT_PATIENCE, answer).await;
    matches!(answer, Ok(Ok(pb::PutResponse { .. })))
}

/// Brings the old leader back and waits until all answer.
async fn recover(
    cluster: &mut Cluster<'_>,
    leader: usize,
    fate: Fate,
    pid: Pid,
) -> Result<(), String> {
    match fate {
        Fate::Paused => send(pid, Signal::SIGCONT)?,
        Fate::CutOff => {}
        Fate::Killed | Fate::Ended => {
            let member = &mut cluster.members[leader];
            member.server.wait_end();
            member.server = Server::spawn(&member.recipe)?;
        }
    }
    cluster.wait_ready().await
}
