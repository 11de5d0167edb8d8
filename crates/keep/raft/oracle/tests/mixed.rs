//! Clusters of cores of both kinds: whatever gets lost, they elect one leader per term,
//! apply the same entries, serve no stale read, and become whole when faults stop.

#[path = "../../tests/cluster/mod.rs"]
#[expect(dead_code, reason = "the scripts of our own crate use the rest")]
mod cluster;

use std::collections::BTreeMap;

use bytes::Bytes;
use cluster::{Disk, Node};
use mainstay_raft::{ConfState, Config, Entry, HardState, Message, ReadState, Role, Snapshot};
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

enum Core {
    Ours(Box<Node>),
    Theirs(Box<Theirs>),
}

/// What a core says of itself.
struct Standing {
    term: Term,
    role: Role,
    commit: Index,
    last: Index,
    applied: Index,
}

impl Core {
    fn standing(&self) -> Standing {
        match self {
            Core::Ours(node) => {
                let status = node.raft.status();
                Standing {
                    term: status.term,
                    role: status.role,
                    commit: status.commit,
                    last: status.last,
                    applied: node.applied_index,
                }
            }
            Core::Theirs(core) => Standing {
                term: Term(core.node.raft.term),
                role: core.role(),
                commit: core.commit(),
                last: core.last(),
                applied: core.applied_index,
            },
        }
    }

    fn term_of(&self, index: Index) -> Option<Term> {
        match self {
            Core::Ours(node) => node.raft.entry_term(index),
            Core::Theirs(core) => core.entry_term(index),
        }
    }

    fn tick(&mut self) {
        match self {
            Core::Ours(node) => node.raft.tick(),
            Core::Theirs(core) => {
                core.node.tick();
            }
        }
    }

    /// Refused messages are part of the game.
    fn step(&mut self, message: Message) {
        match self {
            Core::Ours(node) => drop(node.raft.step(message)),
            Core::Theirs(core) => core.step(&message),
        }
    }

    fn propose(&mut self, data: Bytes) {
        match self {
            Core::Ours(node) => drop(node.raft.propose(data)),
            Core::Theirs(core) => core.propose(data),
        }
    }

    fn read(&mut self, ctx: u64) {
        match self {
            Core::Ours(node) => drop(node.raft.read_index(ctx)),
            Core::Theirs(core) => core.read_index(ctx),
        }
    }

    fn transfer(&mut self, to: MemberId) {
        match self {
            Core::Ours(node) => node.raft.transfer_leader(to),
            Core::Theirs(core) => core.node.transfer_leader(to.0),
        }
    }

    fn crash(&mut self, kept: usize) {
        match self {
            Core::Ours(node) => node.crash(kept),
            Core::Theirs(core) => core.crash(kept),
        }
    }

    fn compact(&mut self) {
        match self {
            Core::Ours(node) => node.compact(node.applied_index),
            Core::Theirs(core) => core.compact(),
        }
    }

    fn report_snapshot(&mut self, to: MemberId, ok: bool) {
        match self {
            Core::Ours(node) => node.raft.report_snapshot(to, ok),
            Core::Theirs(core) => core.report_snapshot(to, ok),
        }
    }

    fn persist_one(&mut self, wire: &mut Vec<Message>) -> bool {
        match self {
            Core::Ours(node) => node.persist_one(wire),
            Core::Theirs(core) => core.persist_one(wire),
        }
    }

    /// Appended and applied entries, and reads that may be served.
    fn turn(&mut self, wire: &mut Vec<Message>) -> (Vec<Entry>, Vec<Entry>, Vec<ReadState>, u32) {
        match self {
            Core::Ours(node) => {
                let seen = node.turn(wire);
                while let Some(to) = node.wants_snapshot.pop() {
                    let snapshot = node.snapshot();
                    node.raft.send_snapshot(to, snapshot);
                }
                (seen.appended, seen.applied, std::mem::take(&mut node.reads), node.life)
            }
            Core::Theirs(core) => {
                let seen = core.turn(wire);
                (seen.appended, seen.applied, std::mem::take(&mut core.reads), core.life)
            }
        }
    }

    fn life(&self) -> u32 {
        match self {
            Core::Ours(node) => node.life,
            Core::Theirs(core) => core.life,
        }
    }
}

/// What must hold, whoever says it.
#[derive(Default)]
struct Laws {
    leaders: BTreeMap<Term, MemberId>,
    /// By index and term: log matching.
    appended: BTreeMap<(Index, Term), Bytes>,
    applied: BTreeMap<Index, (Term, Bytes)>,
    /// Who asked for a read in which life, and what was applied somewhere by then.
    asked: BTreeMap<(MemberId, u32, u64), Index>,
    reads: usize,
    /// Terms led by ours and by theirs.
    led: [usize; 2],
}

impl Laws {
    fn appended(&mut self, entries: &[Entry]) {
        for entry in entries {
            let known = self.appended.entry((entry.index, entry.term));
            let known = known.or_insert_with(|| entry.data.clone());
            assert_eq!(*known, entry.data, "log matching at {}", entry.index);
        }
    }

    fn applied(&mut self, entries: &[Entry]) {
        for entry in entries {
            let what = (entry.term, entry.data.clone());
            let known = self.applied.entry(entry.index).or_insert_with(|| what.clone());
            assert_eq!(*known, what, "state machine safety at {}", entry.index);
        }
    }

    fn leads(&mut self, at: MemberId, core: &Core) {
        let standing = core.standing();
        if standing.role != Role::Leader {
            return;
        }
        if !self.leaders.contains_key(&standing.term) {
            self.led[usize::from(matches!(core, Core::Theirs(_)))] += 1;
            for (index, (term, _)) in &self.applied {
                let there = core.term_of(*index);
                let compacted = there.is_none() && *index < standing.last;
                assert!(compacted || there == Some(*term), "leader completeness at {index}");
            }
        }
        let leader = *self.leaders.entry(standing.term).or_insert(at);
        assert_eq!(leader, at, "election safety in term {}", standing.term);
    }

    fn served(&mut self, at: MemberId, life: u32, reads: &[ReadState]) {
        for read in reads {
            let Some(before) = self.asked.remove(&(at, life, read.ctx)) else { continue };
            assert!(read.index >= before, "a read at {} misses {before}", read.index);
            self.reads += 1;
        }
    }

    fn newest(&self) -> Index {
        self.applied.last_key_value().map_or(Index(1), |(index, _)| *index)
    }
}

struct Run {
    cores: BTreeMap<MemberId, Core>,
    wire: Vec<Message>,
    laws: Laws,
    dice: Dice,
    /// Bits of who is on which side.
    split: u64,
    count: u64,
}

fn configured(id: u64, seed: u64, dice: &mut Dice) -> Config {
    let mut config = Config::new(MemberId(id));
    config.seed = seed.wrapping_mul(31).wrapping_add(id);
    config.election_tick = 6;
    config.max_inflight_messages = 1 + dice.below(4);
    config.max_size_per_message = if dice.below(2) == 0 { 40 } else { 1 << 20 };
    config
}

impl Run {
    fn new(seed: u64, all: u64) -> Run {
        let mut dice = Dice(seed);
        let voters = (1..=all).map(MemberId).collect();
        let conf_state = ConfState { voters, ..ConfState::default() };
        let (index, term) = (Index(1), Term(1));
        let snapshot = Snapshot { index, term, conf_state, ..Snapshot::default() };
        let (pre_vote, check_quorum) = (dice.below(4) != 0, dice.below(4) != 0);
        // At least one of each kind.
        let kinds = 1 + dice.roll() % ((1 << all) - 2);
        let cores = (1..=all).map(|id| {
            let mut config = configured(id, seed, &mut dice);
            (config.pre_vote, config.check_quorum) = (pre_vote, check_quorum);
            config.holds_echoes = seed.is_multiple_of(2);
            config.asks_again = seed.is_multiple_of(3);
            let core = if kinds >> (id - 1) & 1 == 0 {
                let hard_state = HardState { term, commit: index, ..HardState::default() };
                let disk = Disk { hard_state, snapshot: snapshot.clone(), entries: Vec::new() };
                Core::Ours(Box::new(Node::new(config, disk)))
            } else {
                Core::Theirs(Box::new(Theirs::new(config, snapshot.clone())))
            };
            (MemberId(id), core)
        });
        let cores = cores.collect();
        Run { cores, wire: Vec::new(), laws: Laws::default(), dice, split: 0, count: 0 }
    }

    fn core(&mut self, id: MemberId) -> &mut Core {
        self.cores.get_mut(&id).expect("a core of this cluster")
    }

    fn any(&mut self) -> MemberId {
        MemberId(1 + self.dice.below(self.cores.len()) as u64)
    }

    fn step(&mut self) {
        let id = self.any();
        self.count += 1;
        let count = self.count;
        match self.dice.below(1000) {
            0..150 => self.core(id).tick(),
            150..600 => return self.deliver(),
            600..850 => {
                let core = self.cores.get_mut(&id).expect("a core of this cluster");
                core.persist_one(&mut self.wire);
            }
            850..930 => self.core(id).propose(Bytes::from(format!("p{count}"))),
            930..960 => {
                let (newest, life) = (self.laws.newest(), self.core(id).life());
                self.laws.asked.insert((id, life, count), newest);
                self.core(id).read(count);
            }
            960..966 => {
                let kept = self.dice.below(3);
                self.core(id).crash(kept);
            }
            966..976 => self.split = if self.dice.below(3) == 0 { 0 } else { self.dice.roll() },
            976..986 => self.core(id).compact(),
            _ => {
                let to = self.any();
                self.core(id).transfer(to);
            }
        }
        self.turn(id);
    }

    fn turn(&mut self, id: MemberId) {
        let core = self.cores.get_mut(&id).expect("a core of this cluster");
        let (appended, applied, reads, life) = core.turn(&mut self.wire);
        self.laws.appended(&appended);
        self.laws.leads(id, core);
        self.laws.applied(&applied);
        self.laws.served(id, life, &reads);
    }

    fn is_cut(&self, message: &Message) -> bool {
        (self.split >> message.from.0 & 1) != (self.split >> message.to.0 & 1)
    }

    /// Mostly in order; some get lost, come twice, or late.
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
        let arrives = self.dice.below(20) != 0 && !self.is_cut(&message);
        self.take(message, arrives);
    }

    fn take(&mut self, message: Message, arrives: bool) {
        let (from, to, is_snapshot) = (message.from, message.to, message.snapshot.is_some());
        if arrives {
            self.core(to).step(message);
            self.turn(to);
        }
        if is_snapshot {
            self.core(from).report_snapshot(to, arrives);
            self.turn(from);
        }
    }

    /// No more faults: all have applied the same in the end.
    fn heal(&mut self) {
        self.split = 0;
        let ids: Vec<MemberId> = self.cores.keys().copied().collect();
        for round in 0..600 {
            for &id in &ids {
                if round % 4 == 0 {
                    self.core(id).tick();
                }
                self.turn(id);
                let core = self.cores.get_mut(&id).expect("a core of this cluster");
                while core.persist_one(&mut self.wire) {}
                self.turn(id);
            }
            for message in std::mem::take(&mut self.wire) {
                self.take(message, true);
            }
            if round > 100 && self.is_whole() {
                return;
            }
        }
        let lines = self.cores.iter().map(|(id, core)| {
            let Standing { term, role, commit, last, applied } = core.standing();
            format!("{id} {role:?} term={term} last={last} commit={commit} applied={applied}")
        });
        panic!("the cluster does not heal:\n{}", lines.collect::<Vec<_>>().join("\n"));
    }

    fn is_whole(&self) -> bool {
        let leads = |core: &&Core| core.standing().role == Role::Leader;
        let newest = self.cores.values().filter(leads).max_by_key(|core| core.standing().term);
        let Some(leader) = newest.map(Core::standing) else { return false };
        leader.commit == leader.last
            && self.cores.values().all(|core| core.standing().applied == leader.last)
    }
}

/// `ORACLE_TIMES` runs so many times the seeds.
fn run_seeds(seeds: std::ops::Range<u64>, all: u64, steps: usize) {
    let times = std::env::var("ORACLE_TIMES").ok().and_then(|times| times.parse().ok());
    let seeds = seeds.start..seeds.start + (seeds.end - seeds.start) * times.unwrap_or(1);
    let (mut led, mut applied, mut reads) = ([0, 0], 0, 0);
    for seed in seeds {
        let done = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed, all);
            for _ in 0..steps {
                run.step();
            }
            run.heal();
            run.laws
        });
        let laws = done.unwrap_or_else(|cause| {
            eprintln!("failed with seed {seed} of {all} cores, {steps} steps");
            std::panic::resume_unwind(cause)
        });
        led = [led[0] + laws.led[0], led[1] + laws.led[1]];
        applied += laws.applied.len();
        reads += laws.reads;
    }
    println!("terms led by ours and theirs: {led:?}; {applied} entries, {reads} reads");
    assert!(led.iter().all(|terms| *terms > 50), "both kinds must lead: {led:?}");
    assert!(applied > 1000 && reads > 100, "runs must do something");
}

#[test]
fn three_cores_of_both_kinds() {
    run_seeds(0..400, 3, 2_000);
}

#[test]
fn five_cores_of_both_kinds() {
    run_seeds(1_000_000..1_000_200, 5, 3_000);
}
