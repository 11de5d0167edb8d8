//! One run: nodes, clients, faults, and the end at which all must be well.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_driver::Founding;
use mainstay_env::Dice as _;
use mainstay_env_sim::SimDice;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::{ClusterId, KeyRange, MemberId};
use mainstay_watch::{Create, Filters, StreamId};

use crate::bug::Bug;
use crate::clients::{Clients, propose};
use crate::ctx::Ctx;
use crate::eight::Eight;
use crate::faults::end_of_faults;
use crate::judge::watch::{Goes, WatchJudge};
use crate::node::Node;
use crate::operator::member;
use crate::ops::{Op, OpId};
use crate::plan::{MS, Plan, SECOND, Time};
use crate::schedule::Event;
use crate::stats::Stats;

/// How long a cluster without faults may take to become whole: elections, snapshots,
/// and the leases that must run out.
const WHOLE_WITHIN: Time = 180 * SECOND;

/// A watching client.
pub(crate) struct Watcher {
    judge: WatchJudge,
    /// Where it watches: node, life, stream.
    at: Option<(MemberId, u32, StreamId)>,
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) ctx: Ctx,
    pub(crate) nodes: BTreeMap<MemberId, Node>,
    /// Which cluster it is.
    pub(crate) cluster: ClusterId,
    /// Members that were removed and know it.
    pub(crate) gone: BTreeSet<MemberId>,
    pub(crate) ops: BTreeMap<OpId, Op>,
    pub(crate) clients: Clients,
    watchers: Vec<Watcher>,
    pub(crate) joiners: u64,
    /// Figure 8, while it is played.
    pub(crate) eight: Option<Eight>,
    /// Nothing breaks any more.
    pub(crate) healing: bool,
    /// The write that shows that the cluster works again.
    pub(crate) probe: Option<OpId>,
    pub(crate) probed: bool,
    next_look: Time,
}

impl World {
    pub(crate) fn new(seed: u64, minutes: u64, bug: Option<Bug>, trace: bool) -> World {
        let mut dice = SimDice::new(seed);
        let plan = Plan::draw(&mut dice, minutes);
        let mut ctx = Ctx::new(dice, plan, bug, trace);
        ctx.tell(|| format!("{:?}", ctx.plan));
        let election = ctx.plan.tick * u64::from(ctx.plan.election_ticks);
        ctx.judge.kv.lease_ttl_min = (election * 3 / 2).div_ceil(SECOND) as i64;
        let members: Vec<_> =
            (1..=ctx.plan.founders as u64).map(|id| member(MemberId(id))).collect();
        let mut nodes = BTreeMap::new();
        for member in &members {
            let node = Node::new(
                member.id,
                Founding::New { me: member.id, members: members.clone() },
                &mut ctx,
            );
            nodes.insert(member.id, node);
            let delay = ctx.dice.below(SECOND);
            ctx.schedule.after(delay, Event::Boot(member.id));
        }
        World {
            ctx,
            nodes,
            cluster: mainstay_membership::cluster_id(members.iter().map(|member| member.id)),
            gone: BTreeSet::new(),
            ops: BTreeMap::new(),
            clients: Clients::default(),
            watchers: Vec::new(),
            joiners: 0,
            eight: None,
            healing: false,
            probe: None,
            probed: false,
            next_look: 0,
        }
    }

    /// Runs until the cluster is whole at the end, or a judge panics.
    pub(crate) fn run(mut self) -> Stats {
        self.start_clients();
        self.start_watchers();
        let first_fault = 5 * SECOND + self.ctx.dice.below(self.ctx.plan.fault_every);
        self.ctx.schedule.after(first_fault, Event::Fault);
        if self.ctx.plan.membership {
            let first = self.ctx.about(20 * SECOND);
            self.ctx.schedule.after(first, Event::Operator);
        }
        while let Some(event) = self.ctx.schedule.next() {
            self.ctx.stats.events += 1;
            self.happen(event);
            if !self.ctx.died.is_empty() {
                self.bury();
            }
            if !self.ctx.crowned.is_empty() {
                self.greet_leaders();
            }
            if !self.ctx.joined.is_empty() {
                self.welcome();
            }
            if self.ctx.now() >= self.next_look && self.look() {
                break;
            }
        }
        self.judge_registers();
        self.ctx.stats.time = self.ctx.now();
        self.ctx.stats.count("seeds");
        let entries = self.ctx.judge.raft.applied_index().0;
        self.ctx.stats.add("entries applied", entries);
        let events = self.watchers.iter().map(|watcher| watcher.judge.events).sum();
        self.ctx.stats.add("events watched", events);
        self.ctx.stats
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Node { id, life, what } => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.happen(&mut self.ctx, life, what);
                }
            }
            Event::Boot(id) => self.boot(id),
            Event::Kill { id, power } => self.kill(id, power),
            Event::AskPaused(id) => self.ask_paused(id),
            Event::Resume(id) => self.resume(id),
            Event::Answer { op, from, reply } => self.answered(op, from, &reply),
            Event::Client(client) => self.client_turn(client),
            Event::Timeout(op) => self.timed_out(op),
            Event::Watcher(watcher) => self.watcher_turn(watcher),
            Event::Fault => self.break_something(),
            Event::Repair(repair) => self.repair(repair),
            Event::Operator => self.operator_turn(),
            Event::Eight(number) => self.eight_turn(number),
            Event::Compare(id) => self.compare(id),
        }
    }

    fn boot(&mut self, id: MemberId) {
        if self.gone.contains(&id) {
            return;
        }
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.boot(&mut self.ctx);
        if node.life.is_some() {
            // What it has read once, it can read again.
            node.troubles.flipped = None;
        }
    }

    /// Now and then: is it time to stop breaking things, is all well?
    fn look(&mut self) -> bool {
        let now = self.ctx.now();
        self.next_look = now + SECOND;
        if !self.healing {
            if now >= self.ctx.plan.end {
                self.heal();
            }
            return false;
        }
        if self.is_whole() {
            return true;
        }
        if !self.probed && self.probe.is_none_or(|probe| !self.ops.contains_key(&probe)) {
            self.ask_probe();
        }
        let late = now > self.ctx.plan.end + WHOLE_WITHIN;
        assert!(!late, "the cluster does not become whole: {}", self.state());
        false
    }

    fn ask_probe(&mut self) {
        let Some(membership) = self.newest_membership() else { return };
        let members: Vec<MemberId> = membership.members().map(|member| member.id).collect();
        if members.is_empty() {
            return;
        }
        let at = members[self.ctx.dice.below(members.len() as u64) as usize];
        let put = pb::PutRequest { key: "probe".into(), ..Default::default() };
        let what = propose(pb::InternalRaftRequest { put: Some(put), ..Default::default() });
        self.probe = Some(self.ask(at, None, what));
    }

    /// Everything is repaired, and who is down starts.
    fn heal(&mut self) {
        self.ctx.tell(|| "the faults end".to_owned());
        self.healing = true;
        self.eight = None;
        end_of_faults(&mut self.ctx);
        for (id, node) in &mut self.nodes {
            node.resume(&mut self.ctx);
            node.troubles.slow_disk = 0;
            node.troubles.full = false;
            node.disk.set_capacity(None);
            let back = Event::Repair(crate::faults::Repair::Bit(*id));
            self.ctx.schedule.after(MS, back);
            self.ctx.schedule.after(SECOND, Event::Boot(*id));
        }
    }

    /// Who was removed without hearing of it is turned off by the operator.
    fn retire(&mut self) {
        let Some(membership) = self.newest_membership() else { return };
        let removed: Vec<MemberId> =
            self.nodes.keys().copied().filter(|id| membership.is_removed(*id)).collect();
        for id in removed {
            self.gone.insert(id);
            if let Some(node) = self.nodes.get_mut(&id) {
                node.stop(&mut self.ctx);
            }
        }
    }

    fn is_whole(&mut self) -> bool {
        self.retire();
        if self.doubtful().is_some() {
            return false;
        }
        let staying = self.nodes.iter().filter(|(id, _)| !self.gone.contains(id));
        let lives: Option<Vec<_>> = staying.map(|(_, node)| node.life.as_ref()).collect();
        let Some(lives) = lives else { return false };
        let index = self.ctx.judge.raft.applied_index();
        let leader = lives[0].mind.status().leader;
        let same = lives.iter().all(|life| {
            let status = life.mind.status();
            let members = life.machine.membership();
            life.machine.applied().0 == index
                && (status.commit, status.last) == (index, index)
                && status.leader == leader
                && members.members().len() == lives.len()
        });
        let settled = self.probed
            && self.ops.is_empty()
            && self.ctx.judge.kv.leases().next().is_none()
            && self.watchers.iter().all(|watcher| watcher.judge.is_up_to_date(&self.ctx.judge.kv));
        if !same || leader.is_none() || !settled {
            return false;
        }
        for life in lives {
            let digest = crate::node::digest(&life.machine).expect("a healthy disk");
            let id = life.mind.status().id;
            self.ctx.judge.raft.digest(id, index, digest);
        }
        true
    }

    fn state(&self) -> String {
        let mut text = format!(
            "probed {}, ops {:?}, leases {:?}, applied {}",
            self.probed,
            self.ops.keys(),
            self.ctx.judge.kv.leases().collect::<Vec<_>>(),
            self.ctx.judge.raft.applied_index()
        );
        for watcher in &self.watchers {
            let next = watcher.judge.next;
            text += &format!("\n  watcher at {:?} next {next}", watcher.at);
        }
        for (id, node) in &self.nodes {
            let told = match &node.life {
                Some(life) => format!(
                    "applied {} members {:?} {:?} {:?}",
                    life.machine.applied().0,
                    life.mind.conf_state(),
                    life.mind.status(),
                    life.mind.peers()
                ),
                None => format!("down, gone {}", self.gone.contains(id)),
            };
            text += &format!("\n  {id}: {told}");
        }
        text
    }

    fn start_watchers(&mut self) {
        for n in 0..self.ctx.plan.watchers {
            let range = match n {
                0 => KeyRange::from_wire("\0".into(), "\0".into()),
                1 => KeyRange::from_wire("k00".into(), "k04".into()),
                _ => KeyRange::single("k01".into()),
            };
            let prev_kv = self.ctx.dice.one_in(2);
            let judge = WatchJudge { range, prev_kv, next: 0, events: 0 };
            self.watchers.push(Watcher { judge, at: None });
            self.ctx.schedule.after(2 * SECOND, Event::Watcher(n));
        }
    }

    fn watcher_turn(&mut self, n: usize) {
        let longest = if self.healing { SECOND / 2 } else { 2 * SECOND };
        let delay = 20 * MS + self.ctx.dice.below(longest);
        self.ctx.schedule.after(delay, Event::Watcher(n));
        let watcher = &mut self.watchers[n];
        let Some((id, number, stream)) = watcher.at else { return self.watch_somewhere(n) };
        let node = self.nodes.get_mut(&id);
        let life = node.and_then(|node| {
            let paused = node.troubles.paused;
            node.life.as_mut().filter(|life| life.number == number).map(|life| (life, paused))
        });
        let Some((life, paused)) = life else {
            watcher.at = None;
            return;
        };
        if paused {
            // A client gives up on it at times.
            if self.ctx.dice.one_in(10) {
                watcher.at = None;
            }
            return;
        }
        for response in life.watch_take(&mut self.ctx, stream) {
            self.ctx.tell(|| format!("watcher {n} gets {response:?}"));
            let goes = watcher.judge.took(&self.ctx.judge.kv, id, &response);
            if goes == Goes::Ended {
                self.ctx.stats.count("watchers overtaken by compactions");
                life.watch_close(stream);
                watcher.at = None;
                return;
            }
        }
        match self.ctx.dice.below(40) {
            0 | 1 => life.watch_progress(&mut self.ctx, stream),
            2 => {
                life.watch_close(stream);
                watcher.at = None;
            }
            _ => {}
        }
    }

    fn watch_somewhere(&mut self, n: usize) {
        let id = self.any_node();
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_up()) else { return };
        if node.troubles.doubtful {
            return;
        }
        let Some(life) = &mut node.life else { return };
        let judge = &self.watchers[n].judge;
        let create = Create {
            range: judge.range.clone(),
            start_revision: judge.next,
            filters: Filters::default(),
            prev_kv: judge.prev_kv,
            progress_notify: n == 0,
            fragment: false,
            watch_id: 0,
        };
        self.ctx.stats.count("watches begun");
        let number = life.number;
        let stream = life.watch(&mut self.ctx, create);
        self.watchers[n].at = Some((id, number, stream));
    }
}
