//! Configurations and how one becomes another. Pure: from a configuration and its
//! members' progress to the next.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_types::{Index, MemberId};

use crate::progress::{Inflights, Progress};
use crate::quorum::{VoteResult, joint_vote, majority_reached, majority_vote};
use crate::{ConfChangeKind, ConfChangeSingle, ConfChangeV2, ConfState};

/// Who takes part. Joint while `outgoing` is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) voters: BTreeSet<MemberId>,
    pub(crate) outgoing: BTreeSet<MemberId>,
    pub(crate) learners: BTreeSet<MemberId>,
    /// Outgoing voters that cannot be learners before the joint configuration is left.
    pub(crate) learners_next: BTreeSet<MemberId>,
    pub(crate) auto_leave: bool,
}

impl Configuration {
    pub(crate) fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Everyone with a vote, in ascending order.
    pub(crate) fn all_voters(&self) -> impl Iterator<Item = MemberId> {
        self.voters.union(&self.outgoing).copied()
    }

    pub(crate) fn is_voter(&self, id: MemberId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether `id` decides alone.
    pub(crate) fn is_only_voter(&self, id: MemberId) -> bool {
        self.voters.len() == 1 && self.voters.contains(&id) && self.outgoing.is_empty()
    }

    /// The highest position that a quorum has reached.
    pub(crate) fn reached(&self, reached: impl Fn(MemberId) -> u64) -> u64 {
        majority_reached(&self.voters, &reached).min(majority_reached(&self.outgoing, &reached))
    }

    pub(crate) fn vote_result(&self, votes: &BTreeMap<MemberId, bool>) -> VoteResult {
        joint_vote(majority_vote(&self.voters, votes), majority_vote(&self.outgoing, votes))
    }

    pub(crate) fn conf_state(&self) -> ConfState {
        let list = |ids: &BTreeSet<MemberId>| ids.iter().copied().collect();
        ConfState {
            voters: list(&self.voters),
            learners: list(&self.learners),
            voters_outgoing: list(&self.outgoing),
            learners_next: list(&self.learners_next),
            auto_leave: self.auto_leave,
        }
    }
}

/// A configuration with everyone's progress; the subject of a change.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    pub(crate) conf: Configuration,
    pub(crate) progress: BTreeMap<MemberId, Progress>,
    /// An empty window, for newcomers.
    pub(crate) window: Inflights,
}

/// Why a change cannot be made.
pub(crate) type Refusal = &'static str;

impl Members {
    pub(crate) fn new(window: Inflights) -> Members {
        Members { conf: Configuration::default(), progress: BTreeMap::new(), window }
    }

    /// The members that `state` names, all of them unknown to a leader.
    pub(crate) fn restore(
        window: Inflights,
        state: &ConfState,
        last: Index,
    ) -> Result<Members, Refusal> {
        let mut members = Members::new(window);
        // The outgoing voters first, then the way from them into the joint configuration:
        // it leaves learners_next where they belong.
        for id in &state.voters_outgoing {
            members.make_voter(*id, last);
        }
        if !state.voters_outgoing.is_empty() {
            members.conf.outgoing = std::mem::take(&mut members.conf.voters);
            members.conf.auto_leave = state.auto_leave;
        }
        for id in &state.voters {
            members.make_voter(*id, last);
        }
        for id in state.learners.iter().chain(&state.learners_next) {
            members.make_learner(*id, last);
        }
        if members.conf.voters.is_empty() && !members.progress.is_empty() {
            return Err("it has no voters");
        }
        if members.progress.contains_key(&MemberId::NONE) {
            return Err("a member has no id");
        }
        members.check();
        if members.conf.conf_state().is_equivalent(state) {
            Ok(members)
        } else {
            Err("a member has two roles")
        }
    }

    /// What `change` makes of this.
    pub(crate) fn changed(&self, change: &ConfChangeV2, last: Index) -> Result<Members, Refusal> {
        let mut next = self.clone();
        if change.leaves_joint() {
            next.leave_joint()?;
        } else if let Some(auto_leave) = change.enters_joint() {
            next.enter_joint(auto_leave, &change.changes, last)?;
        } else {
            next.change_simply(&change.changes, last)?;
        }
        next.check();
        Ok(next)
    }

    fn enter_joint(
        &mut self,
        auto_leave: bool,
        changes: &[ConfChangeSingle],
        last: Index,
    ) -> Result<(), Refusal> {
        if self.conf.is_joint() {
            return Err("the configuration is joint already");
        }
        if self.conf.voters.is_empty() {
            return Err("a configuration without voters cannot be made joint");
        }
        self.conf.outgoing = self.conf.voters.clone();
        self.apply(changes, last)?;
        self.conf.auto_leave = auto_leave;
        Ok(())
    }

    fn leave_joint(&mut self) -> Result<(), Refusal> {
        if !self.conf.is_joint() {
            return Err("the configuration is not joint");
        }
        for id in std::mem::take(&mut self.conf.learners_next) {
            self.conf.learners.insert(id);
            self.known(id).is_learner = true;
        }
        for id in std::mem::take(&mut self.conf.outgoing) {
            if !self.conf.voters.contains(&id) && !self.conf.learners.contains(&id) {
                self.progress.remove(&id);
            }
        }
        self.conf.auto_leave = false;
        Ok(())
    }

    fn change_simply(&mut self, changes: &[ConfChangeSingle], last: Index) -> Result<(), Refusal> {
        if self.conf.is_joint() {
            return Err("the joint configuration must be left first");
        }
        let before = self.conf.voters.clone();
        self.apply(changes, last)?;
        if before.symmetric_difference(&self.conf.voters).count() > 1 {
            return Err("more than one voter changes outside a joint configuration");
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[ConfChangeSingle], last: Index) -> Result<(), Refusal> {
        for change in changes {
            // The state machine refused the change: it became a no-op.
            if change.node == MemberId::NONE {
                continue;
            }
            match change.kind {
                ConfChangeKind::AddNode => self.make_voter(change.node, last),
                ConfChangeKind::AddLearnerNode => self.make_learner(change.node, last),
                ConfChangeKind::RemoveNode => self.remove(change.node),
                ConfChangeKind::UpdateNode => {}
            }
        }
        if self.conf.voters.is_empty() { Err("no voter would be left") } else { Ok(()) }
    }

    fn make_voter(&mut self, id: MemberId, last: Index) {
        self.conf.voters.insert(id);
        self.conf.learners.remove(&id);
        self.conf.learners_next.remove(&id);
        self.join(id, false, last);
    }

    fn make_learner(&mut self, id: MemberId, last: Index) {
        if self.progress.get(&id).is_some_and(|progress| progress.is_learner) {
            return;
        }
        self.conf.voters.remove(&id);
        self.conf.learners_next.remove(&id);
        if self.conf.outgoing.contains(&id) {
            self.conf.learners_next.insert(id);
        } else {
            self.conf.learners.insert(id);
            self.join(id, true, last);
        }
    }

    fn remove(&mut self, id: MemberId) {
        self.conf.voters.remove(&id);
        self.conf.learners.remove(&id);
        self.conf.learners_next.remove(&id);
        if !self.conf.outgoing.contains(&id) {
            self.progress.remove(&id);
        }
    }

    /// Gives `id` a progress in this role, keeping the one it has.
    fn join(&mut self, id: MemberId, is_learner: bool, last: Index) {
        let window = &self.window;
        let progress = self.progress.entry(id).or_insert_with(|| {
            // Probing starts at the last entry. Counting as active keeps a quorum check
            // right after the change from deposing the leader.
            let mut progress = Progress::new(last.max(Index(1)), window.clone(), is_learner);
            progress.recent_active = true;
            progress
        });
        progress.is_learner = is_learner;
    }

    fn known(&mut self, id: MemberId) -> &mut Progress {
        self.progress.get_mut(&id).expect("every member of a configuration has a progress")
    }

    /// The invariants of configurations (raft/confchange, `checkInvariants`).
    fn check(&self) {
        let conf = &self.conf;
        let members = conf.all_voters().chain(conf.learners.iter().copied());
        assert!(
            members
                .chain(conf.learners_next.iter().copied())
                .all(|id| self.progress.contains_key(&id)),
            "every member of a configuration has a progress"
        );
        for id in &conf.learners_next {
            assert!(conf.outgoing.contains(id), "a future learner is an outgoing voter");
            assert!(!self.progress[id].is_learner, "a future learner still votes");
        }
        for id in &conf.learners {
            assert!(!conf.is_voter(*id), "a learner does not vote");
            assert!(self.progress[id].is_learner, "a learner is marked as one");
        }
        assert!(
            conf.is_joint() || (conf.learners_next.is_empty() && !conf.auto_leave),
            "only a joint configuration has something left to do"
        );
    }
}

#[cfg(test)]
mod tests;
