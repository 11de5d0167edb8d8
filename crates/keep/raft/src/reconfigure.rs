//! Configuration changes, when they are applied (raft takes them into account
//! then, not when they are appended).

use mainstay_types::MemberId;

use crate::change::Refusal;
use crate::raft::Raft;
use crate::{ConfChangeV2, ConfState, Role};

impl Raft {
    /// The state machine applies a configuration change: every committed one, in
    /// order; a refused one with [`MemberId::NONE`] as its node. Returns the new
    /// configuration.
    ///
    /// # Errors
    /// When the change makes no sense in this configuration; nothing has changed then.
    /// The log is committed, so every member sees the same error.
    pub fn apply_conf_change(
        &mut self,
        change: impl Into<ConfChangeV2>,
    ) -> Result<ConfState, Refusal> {
        self.members = self.members.changed(&change.into(), self.log.last())?;
        self.configuration_changed();
        Ok(self.conf_state())
    }

    /// The configuration as applied.
    pub fn conf_state(&self) -> ConfState {
        self.members.conf.conf_state()
    }

    fn configuration_changed(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        let own = self.members.progress.get(&self.config.id);
        if own.is_none_or(|progress| progress.is_learner) {
            if self.config.step_down_on_removal {
                self.become_follower(self.term, MemberId::NONE);
            }
            return;
        }
        // The quorum may have become smaller; newcomers may lack everything.
        if !self.maybe_commit() {
            for to in self.followers() {
                self.send_append(to, false);
            }
        }
        if !self.members.conf.is_voter(self.transferee) {
            self.transferee = MemberId::NONE;
        }
    }
}
