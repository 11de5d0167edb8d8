//! Figure 8 of the raft paper, on purpose: a leader that comes back spreads entries of its
//! first term, and is gone again before one of its new term is anywhere else.
//!
//! An entry of an older term that a quorum holds is not committed by that; whoever
//! believes so loses it here. Nothing is done to the members: the network lets through
//! what suits, until the story is told or somebody else's fault has spoiled it.

use mainstay_env::Dice as _;
use mainstay_raft::Role;
use mainstay_types::MemberId;

use crate::plan::{MS, SECOND, Time};
use crate::schedule::Event;
use crate::world::World;

/// How long one part may take; elections are in it.
const PATIENCE: Time = 20 * SECOND;

/// Where the story is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The first leader is alone with entries that nobody else has.
    Alone,
    /// Another has led, and is alone with the first entry of its term. The first leader
    /// can lead again.
    Usurped(MemberId),
    /// It does: its old entries spread, those of its new term get lost.
    Back(MemberId),
    /// It is cut off; the second leader can lead again, and overwrite.
    Overwritten,
}

/// The story as it goes on.
#[derive(Debug)]
pub(crate) struct Eight {
    first: MemberId,
    part: Part,
    /// Which of its events is waited for.
    number: u64,
}

impl World {
    /// It begins, if there is a leader.
    pub(crate) fn figure_eight(&mut self) {
        let Some(first) = self.leader() else { return };
        let Some(membership) = self.newest_membership() else { return };
        if membership.voters().len() < 3 || !membership.voters().contains(&first) {
            return;
        }
        self.ctx.stats.count("fault: figure 8");
        self.ctx.tell(|| format!("figure 8 begins with {first}"));
        self.connect(&self.others(first));
        for _ in 0..2 {
            let what = self.draw_put(false);
            self.ask(first, None, what);
        }
        self.next_part(first, Part::Alone, PATIENCE);
    }

    fn next_part(&mut self, first: MemberId, part: Part, patience: Time) {
        let number = self.ctx.next_id();
        self.ctx.tell(|| format!("figure 8: {part:?}"));
        self.eight = Some(Eight { first, part, number });
        self.ctx.schedule.after(patience, Event::Eight(number));
    }

    /// Only these hear each other.
    fn connect(&mut self, group: &[MemberId]) {
        self.ctx.net.mend();
        let ids: Vec<MemberId> = self.nodes.keys().copied().collect();
        for from in &ids {
            for to in ids.iter().filter(|to| *to != from) {
                if !group.contains(from) || !group.contains(to) {
                    self.ctx.net.cut(*from, *to);
                }
            }
        }
    }

    /// `with` and just as many others, none of them `without`, as make a quorum.
    fn bare_quorum(&mut self, with: MemberId, without: MemberId) -> Option<Vec<MemberId>> {
        let voters = self.newest_membership()?.voters();
        let others = voters.iter().copied().filter(|id| *id != with && *id != without);
        let group: Vec<MemberId> = [with].into_iter().chain(others).collect();
        let enough = voters.len() / 2 + 1;
        (group.len() >= enough).then(|| group[..enough].to_vec())
    }

    /// Somebody leads.
    pub(crate) fn eight_crowned(&mut self, id: MemberId) {
        let Some(Eight { first, part, .. }) = self.eight else { return };
        match part {
            Part::Alone if id != first => {
                let Some(group) = self.bare_quorum(first, id) else { return self.end_eight() };
                self.connect(&group);
                self.ctx.net.withheld = Some(first);
                self.next_part(first, Part::Usurped(id), PATIENCE);
            }
            Part::Usurped(second) if id == first => {
                let spread = self.ctx.plan.delay * 8 + self.ctx.plan.sync * 8;
                let patience = 100 * MS + spread + self.ctx.dice.below(SECOND);
                self.next_part(first, Part::Back(second), patience);
                self.ctx.stats.count("figure 8: the first leader is back");
            }
            Part::Usurped(_) | Part::Overwritten => self.end_eight(),
            Part::Alone | Part::Back(_) => {}
        }
    }

    /// Time has passed.
    pub(crate) fn eight_turn(&mut self, number: u64) {
        let Some(Eight { first, part, number: waited }) = self.eight else { return };
        if number != waited {
            return;
        }
        let Part::Back(second) = part else { return self.end_eight() };
        let leads = self.nodes.get(&first).and_then(|node| node.life.as_ref());
        let leads = leads.is_some_and(|life| life.mind.status().role == Role::Leader);
        match self.bare_quorum(second, first) {
            Some(group) if leads => {
                self.connect(&group);
                self.next_part(first, Part::Overwritten, PATIENCE);
            }
            _ => self.end_eight(),
        }
    }

    pub(crate) fn end_eight(&mut self) {
        if self.eight.take().is_some() {
            self.ctx.tell(|| "figure 8 ends".to_owned());
            self.ctx.net.mend();
        }
    }
}
