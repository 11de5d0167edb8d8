//! Scenes that tests play once and the `cluster` program for hours.

use std::time::{Duration, Instant};

use super::{Cluster, Load, Make, Plan, Real, Report};
use crate::load::writer::Numbers;

/// What can happen to a member that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and started again.
    Kill,
    /// SIGTERM, and started again.
    Stop,
    /// SIGSTOP for a while.
    Pause,
    /// It and one more: there is no quorum.
    PauseTwo,
    /// Cut off from all others.
    Alone,
    /// Every one of its make is cut off from every one of the other.
    Makes,
    /// What it sends to one other does not arrive.
    OneWay,
    /// What others send to it does not arrive.
    Deaf,
}

const FAULTS: [(Fault, &str); 8] = [
    (Fault::Kill, "kill"),
    (Fault::Pause, "pause"),
    (Fault::Alone, "alone"),
    (Fault::Stop, "stop"),
    (Fault::Makes, "makes"),
    (Fault::PauseTwo, "pause-two"),
    (Fault::OneWay, "one-way"),
    (Fault::Deaf, "deaf"),
];

impl std::str::FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Fault, String> {
        let found = FAULTS.into_iter().find(|(_, known)| *known == name);
        let known = || FAULTS.map(|(_, name)| name).join(", ");
        found.map(|(fault, _)| fault).ok_or_else(|| format!("{name:?} is none of {}", known()))
    }
}

/// Replaces member `n` by one of the other make on the same data, as an operator would,
/// and waits until it has taken `writes` writes.
///
/// # Panics
/// When it does not come up.
pub fn swap(cluster: &mut Cluster, load: &Load, n: usize, hand_over: bool, writes: usize) {
    let leads = cluster.leader() == n;
    if leads && hand_over {
        let others: Vec<usize> = cluster.running().into_iter().filter(|m| *m != n).collect();
        cluster.move_leader(others[0]);
    }
    load.excuse(n);
    let before = (load.cut_short(n), load.stuck(n));
    let took = cluster.stop(n);
    let old = cluster.nodes[n].make;
    let begun = Instant::now();
    cluster.nodes[n].make = old.other();
    cluster.restart(n);
    load.expect(n);
    eprintln!(
        "member {}: {old:?} (leader: {leads}) ended in {took:?} with {} answers lost, {} of \
         them after they hung, {:?} healthy in {:?}",
        n + 1,
        load.cut_short(n) - before.0,
        load.stuck(n) - before.1,
        old.other(),
        begun.elapsed()
    );
    if old == Make::Ours {
        assert_eq!(load.stuck(n), before.1, "what is under way ends before its member does");
    }
    load.wait_for_member(cluster, n, writes);
    for m in cluster.running() {
        let version = cluster.cluster_version(m);
        assert_eq!(
            version,
            Some(Real::of_this_run().cluster_version_told()),
            "cluster version of member {}",
            m + 1
        );
    }
}

/// A cluster of Go members under load becomes ours one member at a time, and Go's
/// again. `None` when the real etcd is missing.
///
/// # Panics
/// When a member does not do what it is told, or anything is wrong.
pub fn roll(seed: u64, size: usize, writes: usize) -> Option<Report> {
    let plan = Plan::new("roll", &vec![Make::Go; size]).flag("--snapshot-count=500");
    let mut cluster = plan.start()?;
    let mut numbers = Numbers::new(seed);
    let load = Load::start(seed, &mut cluster, true);
    load.wait_for(&mut cluster, writes);
    for _ in 0..2 {
        let mut left: Vec<usize> = (0..size).collect();
        while !left.is_empty() {
            let n = left.swap_remove(numbers.below(left.len() as u64) as usize);
            swap(&mut cluster, &load, n, numbers.below(2) == 0, writes);
        }
    }
    let judged = load.finish(&mut cluster);
    // Unwinding keeps the data.
    Some(judged.unwrap_or_else(|why| panic!("seed {seed}: {why}")))
}

/// Faults, one after the other, that hit leaders of both makes in turn.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// Which faults, whom, and for how long.
    pub seed: u64,
    /// The members.
    pub makes: Vec<Make>,
    /// How many faults.
    pub count: usize,
    /// How long a pause or a cut lasts, in milliseconds.
    pub lasts: std::ops::Range<u64>,
    /// This fault only.
    pub only: Option<Fault>,
    /// Whether members have hosts of their own, and packets are lost instead of held back.
    pub on_hosts: bool,
}

/// Plays them. `None` when the real etcd is missing, or there are no hosts.
///
/// # Panics
/// When the cluster does not recover, or anything is wrong.
pub fn rounds(rounds: &Rounds) -> Option<Report> {
    let Rounds { seed, makes, count, lasts, only, on_hosts } = rounds;
    let (seed, count) = (*seed, *count);
    let plan = Plan::new("rounds", makes).flag("--snapshot-count=2000");
    let plan = if *on_hosts { plan.on_hosts() } else { plan.wired() };
    let mut cluster = plan.start()?;
    let mut numbers = Numbers::new(seed);
    let load = Load::start(seed, &mut cluster, true);
    load.wait_for(&mut cluster, 100);
    for round in 0..count {
        let make = if (round + seed as usize).is_multiple_of(2) { Make::Ours } else { Make::Go };
        let of_make = |n: &usize| makes[*n] == make;
        let some: Vec<usize> = (0..makes.len()).filter(of_make).collect();
        let Some(target) = some.get(numbers.below(some.len().max(1) as u64) as usize) else {
            continue;
        };
        cluster.move_leader(*target);
        let fault = only.unwrap_or(FAULTS[(round / 2 + seed as usize) % FAULTS.len()].0);
        let lasts = lasts.start + numbers.below((lasts.end - lasts.start).max(1));
        let begun = Instant::now();
        strike(&mut cluster, &load, *target, fault, Duration::from_millis(lasts));
        let struck = begun.elapsed();
        cluster.wait_all_healthy();
        (0..makes.len()).for_each(|n| load.expect(n));
        load.wait_for(&mut cluster, 100);
        eprintln!(
            "round {round}: {fault:?} of {make:?} member {} for {struck:?}, whole after {:?}",
            target + 1,
            begun.elapsed()
        );
    }
    let judged = load.finish(&mut cluster);
    // Unwinding keeps the data.
    Some(judged.unwrap_or_else(|why| panic!("seed {seed}: {why}")))
}

/// Does it and undoes it. Members that cannot serve meanwhile are excused.
fn strike(cluster: &mut Cluster, load: &Load, leader: usize, fault: Fault, lasts: Duration) {
    let all: Vec<usize> = (0..cluster.nodes.len()).collect();
    let others: Vec<usize> = all.iter().copied().filter(|n| *n != leader).collect();
    match fault {
        Fault::Kill | Fault::Stop => {
            load.excuse(leader);
            if fault == Fault::Kill {
                cluster.nodes[leader].kill();
            } else {
                cluster.stop(leader);
            }
            load.wait_for(cluster, 100);
            cluster.spawn(leader, &[]);
        }
        Fault::Pause => {
            load.excuse(leader);
            cluster.nodes[leader].pause();
            std::thread::sleep(lasts);
            cluster.nodes[leader].resume();
        }
        Fault::PauseTwo => {
            all.iter().for_each(|n| load.excuse(*n));
            let two = [leader, others[0]];
            two.iter().for_each(|n| cluster.nodes[*n].pause());
            std::thread::sleep(lasts);
            two.iter().for_each(|n| cluster.nodes[*n].resume());
        }
        Fault::Alone => cut(cluster, load, &[leader], &others, lasts),
        Fault::Makes => {
            let make = cluster.nodes[leader].make;
            let (some, rest): (Vec<usize>, Vec<usize>) =
                all.iter().partition(|n| cluster.nodes[**n].make == make);
            let (few, many) = if some.len() < rest.len() { (some, rest) } else { (rest, some) };
            cut(cluster, load, &few, &many, lasts);
        }
        Fault::OneWay => {
            load.excuse(others[0]);
            cluster.cut(leader, others[0]);
            std::thread::sleep(lasts);
            cluster.mend();
        }
        Fault::Deaf => {
            load.excuse(leader);
            others.iter().for_each(|n| cluster.cut(*n, leader));
            std::thread::sleep(lasts);
            cluster.mend();
        }
    }
}

fn cut(cluster: &Cluster, load: &Load, few: &[usize], many: &[usize], lasts: Duration) {
    few.iter().for_each(|n| load.excuse(*n));
    cluster.part(few, many);
    std::thread::sleep(lasts);
    cluster.mend();
}
