//! Random runs of 3 and 5 cores with loss, reordering, duplication, partitions and
//! crashes that lose what was not durable. After every step the safety properties
//! of the raft paper (figure 3) are checked; at the end everything heals and the
//! cluster must become whole.

mod cluster;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cluster::{Cluster, Seen};
use mainstay_raft::ConfChangeSingle;
use mainstay_raft::{
    ConfChange, ConfChangeKind, ConfChangeTransition, ConfChangeV2, Entry, Message, Role,
};
use mainstay_types::{Index, MemberId, Term};

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }
}

/// Everything that was ever true, to compare with.
#[derive(Default)]
struct Oracle {
    /// Election safety: who led a term, in which life.
    leaders: BTreeMap<Term, (MemberId, u32)>,
    /// Log matching: what an (index, term) names, and the term before it.
    entries: BTreeMap<(Index, Term), (Bytes, Option<Term>)>,
    /// Leader completeness: the term of each committed entry, and in whose term it was
    /// seen to be committed.
    committed: BTreeMap<Index, (Term, Term)>,
    applied: BTreeMap<Index, Entry>,
    highest_commit: Index,
    /// Reads: what was committed when they were asked.
    asked: BTreeMap<(MemberId, u32, u64), Index>,
    reads_done: usize,
}

impl Oracle {
    fn saw(&mut self, cluster: &Cluster, id: MemberId, seen: &Seen) {
        let raft = &cluster.nodes[&id].raft;
        for entry in &seen.appended {
            let before = raft.entry_term(Index(entry.index.0 - 1));
            let known = self
                .entries
                .entry((entry.index, entry.term))
                .or_insert((entry.data.clone(), before));
            assert_eq!(known.0, entry.data, "log matching: {}/{} differs", entry.term, entry.index);
            if let (Some(one), Some(other)) = (known.1, before) {
                assert_eq!(
                    one, other,
                    "log matching: what is before {}/{} differs",
                    entry.term, entry.index
                );
            }
        }
        for entry in &seen.applied {
            let known = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
            assert_eq!(known, entry, "state machine safety: {} differs", entry.index);
        }
    }

    fn check(&mut self, cluster: &Cluster, id: MemberId, fixed_voters: bool) {
        let node = &cluster.nodes[&id];
        let status = node.raft.status();
        if status.role == Role::Leader {
            let leader = *self.leaders.entry(status.term).or_insert((id, node.life));
            assert_eq!(
                leader,
                (id, node.life),
                "election safety: term {} has two leaders",
                status.term
            );
            for (index, (term, committed_in)) in self.committed.range(status.first..) {
                // A leader of the past may lack what a later one committed.
                if *committed_in < status.term {
                    let found = node.raft.entry_term(*index);
                    assert_eq!(found, Some(*term), "leader completeness: {id} lacks {index}");
                }
            }
        }
        for index in (self.highest_commit.0 + 1)..=status.commit.0 {
            let index = Index(index);
            if let Some(term) = node.raft.entry_term(index) {
                self.committed.insert(index, (term, status.term));
                if fixed_voters {
                    let durable =
                        cluster.nodes.values().filter(|node| holds(node, index, term)).count();
                    assert!(
                        durable > cluster.nodes.len() / 2,
                        "{index} is committed, {durable} hold it"
                    );
                }
            }
        }
        self.highest_commit = self.highest_commit.max(status.commit);
        if let Some((index, (term, _))) = self.committed.range(..=status.commit).next_back()
            && let Some(found) = node.raft.entry_term(*index)
        {
            assert_eq!(found, *term, "state machine safety: {id} committed another {index}");
        }
    }

    fn answered(&mut self, cluster: &mut Cluster, id: MemberId) {
        let node = cluster.node(id);
        for read in std::mem::take(&mut node.reads) {
            if let Some(floor) = self.asked.remove(&(id, node.life, read.ctx)) {
                assert!(read.index >= floor, "a read at {} misses {floor}", read.index);
                self.reads_done += 1;
            }
        }
    }
}

fn holds(node: &cluster::Node, index: Index, term: Term) -> bool {
    index <= node.disk.snapshot.index
        || node.disk.entries.iter().any(|entry| entry.index == index && entry.term == term)
}

struct Run {
    cluster: Cluster,
    oracle: Oracle,
    dice: Dice,
    /// Who cannot hear whom.
    cut: BTreeSet<(MemberId, MemberId)>,
    changes: bool,
    fixed_voters: bool,
    count: u64,
}

impl Run {
    fn new(seed: u64, all: u64, voters: u64) -> Run {
        let mut dice = Dice(seed);
        let (pre_vote, check_quorum) = (dice.below(4) != 0, dice.below(4) != 0);
        let window = 1 + dice.below(4);
        let small = dice.below(2) == 0;
        let step_down = dice.below(2) == 0;
        let cluster = Cluster::new(all, voters, |config| {
            config.seed = seed.wrapping_mul(31).wrapping_add(config.id.0);
            config.pre_vote = pre_vote;
            config.check_quorum = check_quorum;
            config.holds_echoes = seed.is_multiple_of(2);
            config.asks_again = seed.is_multiple_of(3);
            config.step_down_on_removal = step_down;
            config.election_tick = 4;
            config.max_inflight_messages = window;
            if small {
                config.max_size_per_message = 20;
            }
        });
        Run {
            cluster,
            oracle: Oracle::default(),
            dice,
            cut: BTreeSet::new(),
            changes: all != voters,
            fixed_voters: all == voters,
            count: 0,
        }
    }

    fn any(&mut self) -> MemberId {
        MemberId(1 + self.dice.below(self.cluster.nodes.len()) as u64)
    }

    fn step(&mut self) {
        let id = self.any();
        match self.dice.below(1000) {
            0..150 => self.cluster.node(id).raft.tick(),
            150..600 => return self.deliver(),
            600..850 => {
                let Cluster { nodes, wire } = &mut self.cluster;
                nodes.get_mut(&id).expect("it runs").persist_one(wire);
            }
            850..930 => self.propose(id),
            930..950 => self.ask_to_read(id),
            950..955 => {
                let kept = self.dice.below(3);
                self.cluster.node(id).crash(kept);
            }
            955..965 => self.partition(),
            965..975 => {
                let to = Index(
                    self.cluster.node(id).applied_index.0.saturating_sub(self.dice.below(4) as u64),
                );
                self.cluster.node(id).compact(to);
            }
            975..985 => {
                let to = self.any();
                self.cluster.node(id).raft.transfer_leader(to);
            }
            985..990 if self.changes => self.change(id),
            _ => self.serve_snapshot(id),
        }
        self.turn(id);
    }

    fn turn(&mut self, id: MemberId) {
        let Cluster { nodes, wire } = &mut self.cluster;
        let seen = nodes.get_mut(&id).expect("it runs").turn(wire);
        self.oracle.saw(&self.cluster, id, &seen);
        self.oracle.check(&self.cluster, id, self.fixed_voters);
        self.oracle.answered(&mut self.cluster, id);
    }

    fn deliver(&mut self) {
        if self.cluster.wire.is_empty() {
            return;
        }
        // Mostly in order, sometimes not.
        let len = self.cluster.wire.len();
        let at = if self.dice.below(4) == 0 { self.dice.below(len) } else { 0 };
        let message = match self.dice.below(20) {
            0 => self.cluster.wire[at].clone(),
            _ => self.cluster.wire.remove(at),
        };
        if self.dice.below(20) == 0 || self.cut.contains(&(message.from, message.to)) {
            return self.lost(&message);
        }
        self.take(message);
    }

    fn lost(&mut self, message: &Message) {
        if message.snapshot.is_some() {
            self.cluster.node(message.from).raft.report_snapshot(message.to, false);
            self.turn(message.from);
        }
    }

    fn take(&mut self, message: Message) {
        let to = message.to;
        let was_snapshot = message.snapshot.is_some();
        let from = message.from;
        // Refused messages are part of the game (proposals without a leader).
        let _ = self.cluster.node(to).raft.step(message);
        self.turn(to);
        if was_snapshot {
            self.cluster.node(from).raft.report_snapshot(to, true);
            self.turn(from);
        }
    }

    fn propose(&mut self, id: MemberId) {
        self.count += 1;
        let data = Bytes::from(format!("p{}", self.count));
        // Without a leader it is refused.
        let _ = self.cluster.node(id).raft.propose(data);
    }

    fn ask_to_read(&mut self, id: MemberId) {
        self.count += 1;
        let ctx = self.count;
        let life = self.cluster.node(id).life;
        if self.cluster.node(id).raft.read_index(ctx).is_ok() {
            self.oracle.asked.insert((id, life, ctx), self.oracle.highest_commit);
        }
    }

    fn partition(&mut self) {
        self.cut.clear();
        let side = self.dice.roll();
        for from in self.cluster.nodes.keys() {
            for to in self.cluster.nodes.keys() {
                // One in three heals; others cut in two, sometimes only one way.
                let apart = (side >> from.0) & 1 != (side >> to.0) & 1;
                let one_way = (side >> 40) & 1 == 1 && from > to;
                if !side.is_multiple_of(3) && apart && !one_way {
                    self.cut.insert((*from, *to));
                }
            }
        }
    }

    fn change(&mut self, id: MemberId) {
        let kinds =
            [ConfChangeKind::AddNode, ConfChangeKind::RemoveNode, ConfChangeKind::AddLearnerNode];
        let mut pick = || (kinds[self.dice.below(3)], MemberId(1 + self.dice.below(5) as u64));
        let (one, other) = (pick(), pick());
        let raft = &mut self.cluster.nodes.get_mut(&id).expect("it runs").raft;
        // Refused without a leader.
        let _ = match one.1.0 {
            1 | 2 => raft.propose_conf_change(&ConfChange {
                kind: one.0,
                node: one.1,
                ..ConfChange::default()
            }),
            3 | 4 => raft.propose_conf_change_v2(&ConfChangeV2 {
                transition: if one.1.0 == 3 {
                    ConfChangeTransition::Auto
                } else {
                    ConfChangeTransition::JointExplicit
                },
                changes: vec![
                    ConfChangeSingle { kind: one.0, node: one.1 },
                    ConfChangeSingle { kind: other.0, node: other.1 },
                ],
                context: Bytes::new(),
            }),
            _ => raft.propose_conf_change_v2(&ConfChangeV2::default()),
        };
    }

    fn serve_snapshot(&mut self, id: MemberId) {
        let node = self.cluster.node(id);
        let Some(to) = node.wants_snapshot.pop() else { return };
        let snapshot = node.snapshot();
        node.raft.send_snapshot(to, snapshot);
    }

    /// No more faults: the cluster must become whole.
    ///
    /// With fixed voters it always does. A leader that removes itself and is cut off
    /// before the others know that this is committed may leave a cluster that cannot
    /// elect anyone (its log is the longest, and it may not lead): so does Go's raft.
    fn heal(&mut self) -> bool {
        self.cut.clear();
        let ids: Vec<MemberId> = self.cluster.nodes.keys().copied().collect();
        for round in 0..400 {
            for &id in &ids {
                if round % 4 == 0 {
                    self.cluster.node(id).raft.tick();
                }
                self.serve_snapshot(id);
                self.turn(id);
                let Cluster { nodes, wire } = &mut self.cluster;
                while nodes.get_mut(&id).expect("it runs").persist_one(wire) {}
                self.turn(id);
            }
            for message in std::mem::take(&mut self.cluster.wire) {
                self.take(message);
            }
            if round > 100 && self.is_whole() {
                return true;
            }
        }
        if !self.fixed_voters {
            return false;
        }
        let states: Vec<_> = self
            .cluster
            .nodes
            .values()
            .map(|node| format!("{:?} {:?}", node.raft.status(), node.raft.peers()))
            .collect();
        panic!("the cluster does not heal: {states:#?}");
    }

    /// One leader; every voter of its configuration has applied all there is.
    fn is_whole(&mut self) -> bool {
        let newest =
            self.cluster.nodes.values().filter(|node| node.raft.status().role == Role::Leader);
        let Some(leader) = newest.max_by_key(|node| node.raft.status().term) else { return false };
        let status = leader.raft.status();
        let members: Vec<MemberId> =
            leader.conf.voters.iter().chain(&leader.conf.learners).copied().collect();
        status.commit == status.last
            && members.iter().all(|id| self.cluster.nodes[id].applied_index == status.last)
    }
}

/// What was applied and read, and whether the cluster became whole.
fn run(seed: u64, all: u64, voters: u64, steps: usize) -> (usize, bool) {
    let mut run = Run::new(seed, all, voters);
    for _ in 0..steps {
        run.step();
    }
    let healed = run.heal();
    (run.oracle.applied.len().min(run.oracle.reads_done), healed)
}

/// Runs seeds and says which one failed.
fn run_seeds(seeds: std::ops::Range<u64>, all: u64, voters: u64, steps: usize) {
    let total = seeds.clone().count();
    let (mut work, mut healed) = (0, 0);
    for seed in seeds {
        let done = std::panic::catch_unwind(|| run(seed, all, voters, steps));
        match done {
            Ok((done, whole)) => {
                work += done;
                healed += usize::from(whole);
            }
            Err(cause) => {
                eprintln!("failed with seed {seed} of {all} cores, {steps} steps");
                std::panic::resume_unwind(cause);
            }
        }
    }
    assert!(work > total * 3, "runs do something: {work} entries and reads in {total} runs");
    assert!(healed * 100 >= total * 90, "{healed} of {total} runs healed");
}

#[test]
fn three_cores_are_safe() {
    run_seeds(0..1200, 3, 3, 1_500);
}

#[test]
fn five_cores_are_safe() {
    run_seeds(10_000..10_500, 5, 5, 2_500);
}

#[test]
fn changing_configurations_are_safe() {
    run_seeds(20_000..20_500, 5, 3, 2_500);
}

#[test]
fn long_runs_are_safe() {
    run_seeds(30_000..30_020, 3, 3, 8_000);
}
