//! Every core of a cluster of ours has a shadow of theirs, which is given the same ticks,
//! messages and proposals. After each, both must stand alike and have given the same answers.

#[path = "../../tests/cluster/mod.rs"]
#[expect(dead_code, reason = "the scripts of our own crate use the rest")]
mod cluster;

use std::collections::BTreeMap;

use bytes::Bytes;
use cluster::{Disk, Node};
use mainstay_raft::{ConfState, Config, HardState, Message, MessageKind, Role, Snapshot, Status};
use mainstay_raft_oracle::Theirs;
use mainstay_types::{Index, MemberId, Term};

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }
}

/// What of a core must be the same.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    term: Term,
    vote: MemberId,
    role: Role,
    leader: MemberId,
    commit: Index,
    /// The terms of the log, from the last compaction on.
    log: Vec<(Index, Term)>,
    /// Of a leader: what its followers are known to hold.
    matched: Vec<(MemberId, Index)>,
    /// Answers and requests for votes, in order. Appends may be cut differently, so that
    /// they are not compared; what comes of them is.
    said: Vec<Message>,
}

/// A core and its shadow.
struct Pair {
    ours: Node,
    theirs: Theirs,
}

fn is_compared(message: &Message) -> bool {
    matches!(
        message.kind,
        MessageKind::Vote
            | MessageKind::PreVote
            | MessageKind::VoteResp
            | MessageKind::PreVoteResp
            | MessageKind::AppResp
            | MessageKind::HeartbeatResp
            | MessageKind::TimeoutNow
    )
}

fn sorted(mut said: Vec<Message>) -> Vec<Message> {
    said.retain(is_compared);
    said.sort_by_key(|message| (message.kind.number(), message.to, message.index));
    said
}

impl Pair {
    /// Lets both finish what they were given, and compares. Returns what ours sends.
    fn settle(&mut self) -> Vec<Message> {
        let (mut said, mut shadowed) = (Vec::new(), Vec::new());
        loop {
            while self.ours.raft.has_output() || !self.ours.writes.is_empty() {
                self.ours.turn(&mut said);
                while self.ours.persist_one(&mut said) {}
            }
            let Some(to) = self.ours.wants_snapshot.pop() else { break };
            let snapshot = self.ours.snapshot();
            self.ours.raft.send_snapshot(to, snapshot);
        }
        loop {
            self.theirs.turn(&mut shadowed);
            let persisted = self.theirs.persist_one(&mut shadowed);
            if !persisted && !self.theirs.node.has_ready() {
                break;
            }
        }
        let patience = self.ours.raft.election_patience() as usize;
        self.theirs.node.raft.set_randomized_election_timeout(patience);
        let own = self.of_ours(sorted(said.clone()));
        let shadow = self.of_theirs(&own, sorted(shadowed));
        assert_eq!(own, shadow, "ours on the left");
        said
    }

    fn of_ours(&self, said: Vec<Message>) -> Standing {
        let Status { term, vote, role, leader, commit, last, first, .. } = self.ours.raft.status();
        let base = Index(first.0 - 1);
        let known = |index: u64| Some((Index(index), self.ours.raft.entry_term(Index(index))?));
        let matched = match role {
            Role::Leader => {
                let peers = self.ours.raft.peers();
                peers.into_iter().map(|peer| (peer.id, peer.matched)).collect()
            }
            Role::Follower | Role::PreCandidate | Role::Candidate => Vec::new(),
        };
        Standing {
            term,
            vote,
            role,
            leader: leader.unwrap_or(MemberId::NONE),
            commit,
            log: (base.0..=last.0).filter_map(known).collect(),
            matched,
            said,
        }
    }

    fn of_theirs(&self, own: &Standing, said: Vec<Message>) -> Standing {
        let raft = &self.theirs.node.raft;
        let from = own.log.first().map_or(0, |(index, _)| index.0);
        let known = |index| Some((Index(index), self.theirs.entry_term(Index(index))?));
        let matched = match self.theirs.role() {
            Role::Leader => {
                let mut matched: Vec<_> =
                    raft.prs().iter().map(|(id, pr)| (MemberId(*id), Index(pr.matched))).collect();
                matched.sort();
                matched
            }
            Role::Follower | Role::PreCandidate | Role::Candidate => Vec::new(),
        };
        Standing {
            term: Term(raft.term),
            vote: MemberId(raft.vote),
            role: self.theirs.role(),
            leader: MemberId(raft.leader_id),
            commit: self.theirs.commit(),
            log: (from..=self.theirs.last().0).filter_map(known).collect(),
            matched,
            said,
        }
    }
}

struct Run {
    pairs: BTreeMap<MemberId, Pair>,
    wire: Vec<Message>,
    dice: Dice,
    split: u64,
    count: u64,
}

impl Run {
    fn new(seed: u64, all: u64) -> Run {
        let mut dice = Dice(seed);
        let voters = (1..=all).map(MemberId).collect();
        let conf_state = ConfState { voters, ..ConfState::default() };
        let (index, term) = (Index(1), Term(1));
        let snapshot = Snapshot { index, term, conf_state, ..Snapshot::default() };
        let (pre_vote, check_quorum) = (dice.below(2) != 0, dice.below(2) != 0);
        let small = dice.below(2) != 0;
        let pairs = (1..=all).map(|id| {
            let mut config = Config::new(MemberId(id));
            config.seed = seed.wrapping_mul(31).wrapping_add(id);
            config.election_tick = 6;
            // So small that an append may end before the leader's own first entry.
            config.max_size_per_message = if small { 20 } else { 1 << 20 };
            (config.pre_vote, config.check_quorum) = (pre_vote, check_quorum);
            let hard_state = HardState { term, commit: index, ..HardState::default() };
            let disk = Disk { hard_state, snapshot: snapshot.clone(), entries: Vec::new() };
            let mut pair = Pair {
                ours: Node::new(config.clone(), disk),
                theirs: Theirs::new(config, snapshot.clone()),
            };
            assert!(pair.settle().is_empty());
            (MemberId(id), pair)
        });
        Run { pairs: pairs.collect(), wire: Vec::new(), dice, split: 0, count: 0 }
    }

    fn give(&mut self, id: MemberId, input: impl FnOnce(&mut Node, &mut Theirs)) {
        let pair = self.pairs.get_mut(&id).expect("a pair of this cluster");
        input(&mut pair.ours, &mut pair.theirs);
        let said = pair.settle();
        self.wire.extend(said);
    }

    fn step(&mut self) {
        let id = MemberId(1 + self.dice.below(self.pairs.len()) as u64);
        self.count += 1;
        match self.dice.below(1000) {
            0..200 => self.give(id, |ours, theirs| {
                ours.raft.tick();
                theirs.node.tick();
            }),
            200..850 => self.deliver(),
            850..940 => {
                let data = Bytes::from(format!("p{}", self.count));
                self.give(id, |ours, theirs| {
                    let _ = ours.raft.propose(data.clone());
                    theirs.propose(data);
                });
            }
            940..950 => self.give(id, |ours, theirs| {
                ours.crash(0);
                theirs.stored_commit(ours.disk.hard_state.commit);
                theirs.crash(0);
            }),
            950..965 => self.split = if self.dice.below(3) == 0 { 0 } else { self.dice.roll() },
            965..975 => self.give(id, |ours, theirs| {
                ours.compact(ours.applied_index);
                theirs.compact();
            }),
            975..985 => self.give(id, |ours, theirs| {
                ours.raft.campaign();
                drop(theirs.node.campaign());
            }),
            _ => {
                let to = MemberId(1 + self.dice.below(self.pairs.len()) as u64);
                self.give(id, |ours, theirs| {
                    ours.raft.transfer_leader(to);
                    theirs.node.transfer_leader(to.0);
                });
            }
        }
    }

    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let len = self.wire.len();
        let at = if self.dice.below(4) == 0 { self.dice.below(len) } else { 0 };
        let message = match self.dice.below(20) {
            0 => self.wire[at].clone(),
            _ => self.wire.remove(at),
        };
        let (from, to) = (message.from, message.to);
        let is_cut = (self.split >> from.0 & 1) != (self.split >> to.0 & 1);
        let arrives = self.dice.below(20) != 0 && !is_cut;
        let is_snapshot = message.snapshot.is_some();
        if arrives {
            self.give(to, |ours, theirs| {
                drop(ours.raft.step(message.clone()));
                theirs.step(&message);
            });
        }
        if is_snapshot {
            self.give(from, |ours, theirs| {
                ours.raft.report_snapshot(to, arrives);
                theirs.report_snapshot(to, arrives);
            });
        }
    }
}

/// `ORACLE_TIMES` runs so many times the seeds.
fn run_seeds(seeds: std::ops::Range<u64>, all: u64, steps: usize) {
    let times = std::env::var("ORACLE_TIMES").ok().and_then(|times| times.parse().ok());
    let seeds = seeds.start..seeds.start + (seeds.end - seeds.start) * times.unwrap_or(1);
    let mut applied = 0;
    for seed in seeds {
        let done = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed, all);
            (0..steps).for_each(|_| run.step());
            run.pairs.values().map(|pair| pair.ours.applied_index.0).max()
        });
        match done {
            Ok(reached) => applied += reached.unwrap_or(0),
            Err(cause) => {
                eprintln!("failed with seed {seed} of {all} cores, {steps} steps");
                std::panic::resume_unwind(cause);
            }
        }
    }
    println!("{applied} entries");
    assert!(applied > 1000, "runs must do something");
}

#[test]
fn three_cores_and_their_shadows() {
    run_seeds(0..300, 3, 1_500);
}

#[test]
fn five_cores_and_their_shadows() {
    run_seeds(1_000_000..1_000_150, 5, 2_000);
}
