//! The network between members: loses, delays, reorders, doubles and cuts.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_env::Dice;
use mainstay_env_sim::SimDice;
use mainstay_raft::{Message, MessageKind};
use mainstay_types::MemberId;

use crate::plan::{MS, Plan, SECOND, Time};

/// A message between members, with the db that belongs to a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) message: Message,
    pub(crate) db: Option<Arc<[u8]>>,
}

/// Which links are cut, one way each.
#[derive(Debug, Default)]
pub(crate) struct Net {
    cut: BTreeSet<(MemberId, MemberId)>,
    /// Links that are slow.
    slow: BTreeSet<(MemberId, MemberId)>,
    /// What this member wrote in the term that it leads reaches nobody.
    pub(crate) withheld: Option<MemberId>,
    /// Nothing is lost or doubled any more.
    pub(crate) calm: bool,
}

/// What becomes of a message.
pub(crate) enum Fate {
    Lost,
    /// It arrives after each of these delays.
    Arrives(Time, Option<Time>),
}

impl Net {
    pub(crate) fn cut(&mut self, from: MemberId, to: MemberId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn slow(&mut self, from: MemberId, to: MemberId) {
        self.slow.insert((from, to));
    }

    /// Mends everything.
    pub(crate) fn mend(&mut self) {
        self.cut.clear();
        self.slow.clear();
        self.withheld = None;
    }

    pub(crate) fn is_cut(&self, from: MemberId, to: MemberId) -> bool {
        self.cut.contains(&(from, to))
    }

    pub(crate) fn fate(&self, plan: &Plan, dice: &mut SimDice, message: &Message) -> Fate {
        if !self.cut.is_empty() && self.cut.contains(&(message.from, message.to)) {
            return Fate::Lost;
        }
        let roll = dice.below(1000);
        if !self.calm && roll < plan.loss {
            return Fate::Lost;
        }
        let delay = self.delay(plan, dice, message);
        // TCP doubles nothing; what a member sends again is harmless but for proposals.
        let doubles = !self.calm
            && !matches!(message.kind, MessageKind::Prop | MessageKind::Snap)
            && dice.below(1000) < plan.duplicates;
        let second = doubles.then(|| delay + dice.below(2 * SECOND));
        Fate::Arrives(delay, second)
    }

    fn delay(&self, plan: &Plan, dice: &mut SimDice, message: &Message) -> Time {
        let usual = MS / 10 + dice.below(plan.delay);
        if message.kind == MessageKind::Snap {
            let longest = if self.calm { SECOND } else { 10 * SECOND };
            return usual + dice.below(longest);
        }
        if self.calm {
            return usual;
        }
        let straggles = dice.below(1000) < plan.stragglers;
        let slow = self.slow.contains(&(message.from, message.to));
        if slow || straggles { usual + dice.below(3 * SECOND) } else { usual }
    }
}
