//! The operator: members come and go.

use mainstay_driver::Founding;
use mainstay_env::Dice as _;
use mainstay_membership::{Change, Member, Membership};
use mainstay_types::MemberId;

use crate::node::Node;
use crate::ops::What;
use crate::plan::{MS, SECOND};
use crate::schedule::Event;
use crate::world::World;

/// Members at most.
const MEMBERS_MAX: usize = 6;
/// The first id of those who join.
const FIRST_JOINER: u64 = 100;

/// A member as the first configuration names it.
pub(crate) fn member(id: MemberId) -> Member {
    Member { id, peer_urls: vec![format!("http://n{id}:2380")], ..Member::default() }
}

impl World {
    /// The membership as the furthest member has applied it.
    pub(crate) fn newest_membership(&self) -> Option<&Membership> {
        let lives = self.nodes.values().filter_map(|node| node.life.as_ref());
        let newest = lives.max_by_key(|life| life.machine.applied().0)?;
        Some(newest.machine.membership())
    }

    pub(crate) fn operator_turn(&mut self) {
        if self.healing {
            return;
        }
        let pause = self.ctx.about(20 * SECOND);
        self.ctx.schedule.after(pause, Event::Operator);
        let Some(membership) = self.newest_membership() else { return };
        let (voters, learners) = (membership.voters(), membership.learners());
        let Some(change) = self.draw_change(&voters, &learners) else { return };
        self.ctx.stats.count("membership changes asked for");
        let at = self.any_node();
        self.ask(at, None, What::Change(change));
        if let Some(leader) = self.leader() {
            self.ctx.maybe_kill(6, leader, "fault: killed during a membership change");
        }
    }

    fn draw_change(&mut self, voters: &[MemberId], learners: &[MemberId]) -> Option<Change> {
        if voters.is_empty() {
            return None;
        }
        let dice = &mut self.ctx.dice;
        if dice.one_in(8) {
            // Nonsense, to be refused when it is applied.
            let at = dice.below(voters.len() as u64) as usize;
            return Some(match dice.below(3) {
                0 => Change::Promote(voters[at]),
                1 => Change::Remove(MemberId(FIRST_JOINER - 1)),
                _ => Change::Add(member(self.gone.first().copied().unwrap_or(voters[at]))),
            });
        }
        if let Some(learner) = learners.first()
            && !dice.one_in(3)
        {
            if dice.one_in(4) {
                return Some(Change::Remove(*learner));
            }
            return self.is_ready(*learner).then_some(Change::Promote(*learner));
        }
        let few = voters.len() + learners.len() < MEMBERS_MAX;
        if voters.len() >= 4 && dice.one_in(2) {
            // A quorum of those who stay has the change before the removed one goes.
            let at = dice.below(voters.len() as u64) as usize;
            return Some(Change::Remove(voters[at]));
        }
        let is_learner = !dice.one_in(3);
        let id = self.next_joiner();
        few.then(|| Change::Add(Member { is_learner, ..member(id) }))
    }

    /// An id that nobody has had.
    pub(crate) fn next_joiner(&mut self) -> MemberId {
        self.joiners += 1;
        MemberId(FIRST_JOINER + self.joiners - 1)
    }

    /// A learner is ready when it has nine tenths of what the leader has.
    fn is_ready(&self, learner: MemberId) -> bool {
        let lives = self.nodes.values().filter_map(|node| node.life.as_ref());
        let peers: Vec<_> = lives.flat_map(|life| life.mind.peers()).collect();
        let last = peers.iter().map(|peer| peer.matched).max().unwrap_or_default();
        let has = peers.iter().filter(|peer| peer.id == learner).map(|peer| peer.matched).max();
        has.is_some_and(|has| has.0 * 10 >= last.0 * 9)
    }

    /// Somebody has seen members join: their machines are started.
    pub(crate) fn welcome(&mut self) {
        for member in std::mem::take(&mut self.ctx.joined) {
            let id = member.id;
            if self.nodes.contains_key(&id) {
                continue;
            }
            let known = self.newest_membership().map(|m| m.members().cloned().collect());
            let members = known.unwrap_or_default();
            let founding = Founding::Join { cluster: self.cluster, me: id, members };
            let node = Node::new(id, founding, &mut self.ctx);
            self.nodes.insert(id, node);
            self.ctx.stats.count("members joined");
            let delay = MS + self.ctx.dice.below(10 * SECOND);
            self.ctx.schedule.after(delay, Event::Boot(id));
        }
    }
}
