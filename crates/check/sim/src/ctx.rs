//! What every part of a run shares: time, dice, network, judges, counts.

use mainstay_env::Dice as _;
use mainstay_env_sim::SimDice;
use mainstay_membership::Member;
use mainstay_types::MemberId;

use crate::bug::Bug;
use crate::judge::Judge;
use crate::net::Net;
use crate::node::{Death, NodeEvent};
use crate::ops::{OpId, Reply};
use crate::plan::{MS, Plan, Time};
use crate::schedule::{Event, Schedule};
use crate::stats::Stats;

/// The shared part of a run.
pub(crate) struct Ctx {
    pub(crate) schedule: Schedule,
    pub(crate) dice: SimDice,
    pub(crate) plan: Plan,
    pub(crate) bug: Option<Bug>,
    pub(crate) net: Net,
    pub(crate) judge: Judge,
    pub(crate) stats: Stats,
    /// Members that somebody has seen join.
    pub(crate) joined: Vec<Member>,
    /// Members that have begun to lead.
    pub(crate) crowned: Vec<MemberId>,
    /// Nodes that have ended, and why.
    pub(crate) died: Vec<(MemberId, Death)>,
    /// Something may break.
    pub(crate) faults: bool,
    /// Tell what happens.
    pub(crate) trace: bool,
    ids: OpId,
}

impl Ctx {
    pub(crate) fn new(dice: SimDice, plan: Plan, bug: Option<Bug>, trace: bool) -> Ctx {
        Ctx {
            schedule: Schedule::default(),
            dice,
            plan,
            bug,
            net: Net::default(),
            judge: Judge::default(),
            stats: Stats::default(),
            joined: Vec::new(),
            crowned: Vec::new(),
            died: Vec::new(),
            faults: true,
            trace,
            ids: 0,
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.schedule.now()
    }

    /// An id for a request; none is used twice.
    pub(crate) fn next_id(&mut self) -> OpId {
        self.ids += 1;
        self.ids
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Between half of this and all of it.
    pub(crate) fn about(&mut self, time: Time) -> Time {
        time / 2 + self.dice.below(time / 2 + 1)
    }

    pub(crate) fn at_node(&mut self, delay: Time, id: MemberId, life: u32, what: NodeEvent) {
        self.schedule.after(delay, Event::Node { id, life, what });
    }

    /// Sometimes this node is killed, right now or very soon.
    pub(crate) fn maybe_kill(&mut self, one_in: u64, id: MemberId, story: &'static str) {
        if self.faults && self.dice.one_in(one_in) {
            self.stats.count(story);
            let power = self.dice.one_in(2);
            let longest = [2, 20, 200][self.dice.below(3) as usize] * MS;
            let delay = self.dice.below(longest);
            self.schedule.after(delay, Event::Kill { id, power });
        }
    }

    /// Answers a client.
    pub(crate) fn answer(&mut self, op: OpId, from: MemberId, reply: Reply) {
        let delay = self.dice.below(2 * MS);
        self.schedule.after(delay, Event::Answer { op, from, reply: Box::new(reply) });
    }

    pub(crate) fn tell(&self, story: impl FnOnce() -> String) {
        if self.trace {
            let now = self.now();
            let line = format!("{:4}.{:06} {}\n", now / 1_000_000, now % 1_000_000, story());
            // Nobody may be reading.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        }
    }
}
