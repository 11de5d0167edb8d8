//! The membership of a 3.5 directory, which its db does not tell.
//!
//! 3.5 writes a member's row once, when the member is added, and boots from the v2 store
//! inside `.snap` and the log behind it. So the row keeps the peer URLs that the member
//! came with, has no client URLs, and calls a member a learner after it was promoted. Who
//! took the rows for the membership would count other voters than the rest of the cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_backend::Batch;
use mainstay_membership::Membership;
use mainstay_raft::Entry;
use mainstay_types::MemberId;

use crate::entry::{Command, Request, decode};
use crate::machine::{Machine, Turn};
use crate::{StopError, StopReason};

impl Machine {
    /// Puts the membership of the v2 store in the place of the one that the rows tell,
    /// when the rows are of 3.5; from 3.6 on they are right, and nothing happens.
    /// `membership` is what the newest `.snap` holds (nobody, without one), `entries` is
    /// the log behind it, of which those are looked at that the db had applied. To be
    /// called after opening or installing, before anything is asked of the machine. When
    /// neither names a member, the rows stand.
    /// Returns the members whose rows were wrong; [`Machine::mend`] mends them.
    ///
    /// # Errors
    /// When an entry cannot be read, or names members that nobody knows.
    pub fn take_v2_membership(
        &mut self,
        mut membership: Membership,
        entries: &[Entry],
    ) -> Result<BTreeSet<MemberId>, StopError> {
        if self.storage_version().is_some() {
            return Ok(BTreeSet::new());
        }
        let applied = self.applied().0;
        for entry in entries.iter().take_while(|entry| entry.index <= applied) {
            self.follow(&mut membership, entry)?;
        }
        if membership.members().len() == 0 {
            // No cluster has nobody in it: the caller had no v2 store to give.
            return Ok(BTreeSet::new());
        }
        membership.set_downgrade(self.membership.downgrade().clone());
        if membership.version().is_none()
            && let Some(version) = self.membership.version()
        {
            membership.set_version(version);
        }
        let known = membership.members().chain(self.membership.members()).map(|member| member.id);
        let wrong: BTreeSet<MemberId> = known
            .filter(|id| membership.member(*id) != self.membership.member(*id))
            .filter(|id| membership.member(*id).is_some() || membership.is_removed(*id))
            .collect();
        self.membership = Arc::new(membership);
        self.members_to_mend.extend(&wrong);
        Ok(wrong)
    }

    /// What an entry does to a membership, as when it was applied.
    fn follow(&self, membership: &mut Membership, entry: &Entry) -> Result<(), StopError> {
        match decode(entry)?.command {
            Command::ConfChange { change, .. } => {
                if membership.validate(&change, self.options.learners_max).is_ok() {
                    membership.apply(change);
                }
            }
            Command::Request(Request::MemberAttributesSet(id, attributes)) => {
                let stop = |why| StopError { index: entry.index, why: StopReason::from(why) };
                membership.update_attributes(id, attributes).map_err(stop)?;
            }
            Command::Request(Request::ClusterVersionSet(version)) => {
                membership.set_version(version);
            }
            Command::Request(_) | Command::FirstOfTerm => {}
        }
        Ok(())
    }

    /// Writes the rows that [`Machine::take_v2_membership`] found wrong.
    pub(crate) fn mend_members(&mut self, turn: &mut Turn) {
        for id in std::mem::take(&mut self.members_to_mend) {
            self.write_member(&mut turn.batch, id);
        }
    }

    /// What mends the rows that [`Machine::take_v2_membership`] found wrong, if any were:
    /// to be appended at once, so that no snapshot of the db tells them.
    pub fn mend(&mut self) -> Option<Batch> {
        let wrong = std::mem::take(&mut self.members_to_mend);
        let mut batch = Batch::new(self.applied());
        wrong.iter().for_each(|id| self.write_member(&mut batch, *id));
        (!wrong.is_empty()).then_some(batch)
    }
}

#[cfg(test)]
mod tests;
