//! What a leader does: append, replicate, commit, hand over (raft paper, 5.3 and 5.4.2).

use bytes::Bytes;
use mainstay_types::{Index, MemberId, Term};

use crate::log::EntryId;
use crate::progress::ProgressState;
use crate::raft::{ProposeError, Raft};
use crate::{ConfChangeV2, Entry, EntryKind, Message, MessageKind, Role, Snapshot, StepError};

impl Raft {
    /// A leader's first entry: it commits what earlier terms left (raft paper, 8).
    pub(crate) fn append_first_entry(&mut self) {
        self.append(vec![Entry::default()]);
    }

    fn append(&mut self, entries: Vec<Entry>) {
        let term = self.term;
        for entry in entries {
            let index = self.log.last().next();
            self.log.push(Entry { term, index, ..entry });
        }
        self.append_due = true;
    }

    /// Appends proposals, ours or forwarded: all or none.
    pub(crate) fn append_proposals(&mut self, mut entries: Vec<Entry>) -> Result<(), StepError> {
        assert!(self.role == Role::Leader, "only a leader appends");
        if !self.members.progress.contains_key(&self.config.id) {
            return Err(ProposeError::Removed.into());
        }
        if self.transferee != MemberId::NONE {
            return Err(ProposeError::Transferring.into());
        }
        let bytes: u64 = entries.iter().map(|entry| entry.data.len() as u64).sum();
        let limit = self.config.max_uncommitted_bytes;
        // One batch of any size is always taken, and so are empty ones.
        if self.uncommitted_bytes > 0 && bytes > 0 && self.uncommitted_bytes + bytes > limit {
            return Err(ProposeError::TooMuchUncommitted.into());
        }
        let mut pending_conf = self.pending_conf;
        for (at, entry) in entries.iter_mut().enumerate() {
            let change = ConfChangeV2::of_entry(entry)
                .map_err(|_| StepError::Malformed(MessageKind::Prop, "no configuration change"))?;
            let Some(change) = change else { continue };
            if self.may_append_change(&change, pending_conf) {
                pending_conf = Index(self.log.last().0 + at as u64 + 1);
            } else {
                *entry = Entry::default();
            }
        }
        self.pending_conf = pending_conf;
        self.uncommitted_bytes += bytes;
        self.append(entries);
        Ok(())
    }

    fn may_append_change(&self, change: &ConfChangeV2, pending: Index) -> bool {
        let wants_to_leave = change.changes.is_empty();
        pending <= self.log.applied() && self.members.conf.is_joint() == wants_to_leave
    }

    /// These are committed and leave the core.
    pub(crate) fn forget_uncommitted(&mut self, committed: &[Entry]) {
        if self.uncommitted_bytes > 0 {
            let bytes: u64 = committed.iter().map(|entry| entry.data.len() as u64).sum();
            self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(bytes);
        }
    }

    /// A follower forwards proposals.
    pub(crate) fn take_forwarded(&mut self, message: Message) -> Result<(), StepError> {
        if message.entries.is_empty() {
            return Err(StepError::Malformed(MessageKind::Prop, "no entries"));
        }
        match self.role {
            Role::Leader => self.append_proposals(message.entries),
            // Two followers that take each other for the leader must not play ball.
            Role::Follower if self.leader != MemberId::NONE && self.leader != message.from => {
                self.forwarding.extend(message.entries);
                Ok(())
            }
            Role::Follower | Role::PreCandidate | Role::Candidate => {
                Err(ProposeError::NoLeader.into())
            }
        }
    }

    /// Brings every follower up to date, as far as its window allows.
    pub(crate) fn broadcast_append(&mut self) {
        for to in self.followers() {
            self.catch_up(to);
        }
    }

    pub(crate) fn followers(&self) -> Vec<MemberId> {
        let me = self.config.id;
        self.members.progress.keys().copied().filter(|id| *id != me).collect()
    }

    /// Sends `to` what it lacks: entries until the window is full, or the commit index.
    fn catch_up(&mut self, to: MemberId) {
        let commit = self.log.committed();
        let tell_commit =
            self.members.progress.get(&to).is_some_and(|progress| progress.can_bump_commit(commit));
        let mut sent = self.send_append(to, tell_commit);
        while sent {
            sent = self.send_append(to, false);
        }
    }

    /// Sends one append. Whether one was sent.
    pub(crate) fn send_append(&mut self, to: MemberId, even_if_empty: bool) -> bool {
        let Some(progress) = self.members.progress.get_mut(&to) else { return false };
        if progress.is_paused() {
            return false;
        }
        let prev = Index(progress.next.0 - 1);
        // A full window still lets an empty append tell the commit index.
        let may_carry = progress.state != ProgressState::Replicate || !progress.inflights.is_full();
        let entries = if may_carry {
            self.log.slice(progress.next, self.config.max_size_per_message)
        } else {
            Some(Vec::new())
        };
        let (Some(prev_term), Some(entries)) = (self.log.term(prev), entries) else {
            self.want_snapshot(to);
            return false;
        };
        if entries.is_empty() && !even_if_empty {
            return false;
        }
        let commit = self.log.committed();
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
        progress.sent_entries(entries.len(), bytes);
        progress.sent_commit(commit);
        self.send(Message {
            kind: MessageKind::App,
            to,
            index: prev,
            log_term: prev_term,
            entries,
            commit,
            ..Message::default()
        });
        true
    }

    fn want_snapshot(&mut self, to: MemberId) {
        let Some(progress) = self.members.progress.get_mut(&to) else { return };
        // Who is silent could not take it.
        if progress.recent_active {
            progress.become_snapshot();
            self.outbox.snapshots_wanted.push(to);
        }
    }

    /// Sends the snapshot that `to` needs ([`crate::Output::snapshots_wanted`]); it
    /// holds what was handed out here and applied. The caller reports how it went by
    /// [`Raft::report_snapshot`]. `false` if `to` does not need it any more, or if the
    /// snapshot is so old that the log does not continue it (then ask for that member's
    /// next, newer one).
    pub fn send_snapshot(&mut self, to: MemberId, snapshot: Snapshot) -> bool {
        assert!(snapshot.index <= self.log.handed_out(), "a snapshot holds applied entries");
        if self.role != Role::Leader {
            return false;
        }
        let continues = snapshot.index.next() >= self.log.first();
        let Some(progress) = self.members.progress.get_mut(&to) else { return false };
        if progress.state != ProgressState::Snapshot || progress.pending_snapshot != Index(0) {
            return false;
        }
        if !continues {
            progress.become_probe();
            return false;
        }
        progress.sent_snapshot(snapshot.index);
        let snapshot = Some(Box::new(snapshot));
        self.send(Message { kind: MessageKind::Snap, to, snapshot, ..Message::default() });
        true
    }

    /// A snapshot arrived at `to` (`ok`), or could not be made or delivered.
    pub fn report_snapshot(&mut self, to: MemberId, ok: bool) {
        if self.role != Role::Leader {
            return;
        }
        let Some(progress) = self.members.progress.get_mut(&to) else { return };
        if progress.state != ProgressState::Snapshot {
            return;
        }
        if !ok {
            progress.pending_snapshot = Index(0);
        }
        progress.become_probe();
        // Its acknowledgment, or the next heartbeat's answer, goes on.
        progress.paused = true;
    }

    /// A message to `to` was lost: what followed it was sent in vain.
    pub fn report_unreachable(&mut self, to: MemberId) {
        if self.role != Role::Leader {
            return;
        }
        if let Some(progress) = self.members.progress.get_mut(&to)
            && progress.state == ProgressState::Replicate
        {
            progress.become_probe();
        }
    }

    pub(crate) fn broadcast_heartbeat(&mut self) {
        let context = self.reads.context();
        for to in self.followers() {
            self.send_heartbeat(to, context.clone());
        }
    }

    fn send_heartbeat(&mut self, to: MemberId, context: Bytes) {
        let committed = self.log.committed();
        let Some(progress) = self.members.progress.get_mut(&to) else { return };
        // Only as far as the follower is known to match: it may hold other entries behind.
        let commit = progress.matched.min(committed);
        progress.sent_commit(commit);
        let kind = MessageKind::Heartbeat;
        self.send(Message { kind, to, commit, context, ..Message::default() });
    }

    pub(crate) fn take_append_response(&mut self, message: &Message) -> Result<(), StepError> {
        if self.role != Role::Leader {
            return Ok(());
        }
        let last = self.log.last();
        if !message.reject && message.index > last {
            return Err(StepError::Malformed(MessageKind::AppResp, "an index beyond the log"));
        }
        let Some(progress) = self.members.progress.get_mut(&message.from) else { return Ok(()) };
        progress.recent_active = true;
        if message.reject {
            // With our own log, too, a whole term can be skipped.
            let hint = if message.log_term > Term(0) {
                self.log.meeting_point(message.reject_hint, message.log_term).index
            } else {
                message.reject_hint
            };
            if progress.maybe_decrease(message.index, hint) {
                if progress.state == ProgressState::Replicate {
                    progress.become_probe();
                }
                self.send_append(message.from, true);
            }
            return Ok(());
        }
        let is_news = progress.maybe_update(message.index);
        let confirms_probe =
            progress.matched == message.index && progress.state == ProgressState::Probe;
        if is_news || confirms_probe {
            self.take_acknowledgment(message.from, message.index);
        }
        Ok(())
    }

    fn take_acknowledgment(&mut self, from: MemberId, index: Index) {
        let first = self.log.first();
        let Some(progress) = self.members.progress.get_mut(&from) else { return };
        match progress.state {
            ProgressState::Probe => progress.become_replicate(),
            // However it got there, the log here goes on from where it is.
            ProgressState::Snapshot if progress.matched.next() >= first => {
                progress.become_probe();
                progress.become_replicate();
            }
            ProgressState::Snapshot => {}
            ProgressState::Replicate => progress.inflights.free_to(index),
        }
        if !self.maybe_commit() {
            self.catch_up(from);
        }
        let reached_end =
            self.members.progress.get(&from).is_some_and(|p| p.matched == self.log.last());
        if from == self.transferee && reached_end {
            self.send_timeout_now(from);
        }
    }

    /// Storage has more of our own entries: the leader's own acknowledgment.
    pub(crate) fn own_entries_are_durable(&mut self) {
        let durable = self.log.durable();
        let Some(own) = self.members.progress.get_mut(&self.config.id) else { return };
        if own.maybe_update(durable) {
            self.maybe_commit();
        }
    }

    /// Raises the commit index to what a quorum has, if that is of this term: an
    /// entry of an older term is committed only by a newer one (raft paper, 5.4.2).
    pub(crate) fn maybe_commit(&mut self) -> bool {
        let progress = &self.members.progress;
        let reached = self.members.conf.reached(|id| progress.get(&id).map_or(0, |p| p.matched.0));
        let id = EntryId { term: self.term, index: Index(reached) };
        if id.index <= self.log.committed() || !self.log.matches(id) {
            return false;
        }
        let fits = self.log.commit_to(id.index);
        assert!(fits, "what a quorum has is in the leader's log");
        self.append_due = true;
        self.release_early_reads();
        true
    }

    pub(crate) fn take_heartbeat_response(&mut self, message: &Message) {
        if self.role != Role::Leader {
            return;
        }
        let last = self.log.last();
        let Some(progress) = self.members.progress.get_mut(&message.from) else { return };
        progress.recent_active = true;
        progress.paused = false;
        if progress.matched < last || progress.state == ProgressState::Probe {
            self.send_append(message.from, true);
        }
        self.take_read_acknowledgment(message.from, &message.context);
    }

    /// Hands leadership to `to`, which must be a voter. A follower passes the wish on.
    pub fn transfer_leader(&mut self, to: MemberId) {
        self.take_transfer(Message { from: to, ..Message::default() });
    }

    pub(crate) fn take_transfer(&mut self, message: Message) {
        let to = message.from;
        match self.role {
            Role::Leader => self.hand_over(to),
            Role::Follower if self.leader != MemberId::NONE => {
                let wish = Message {
                    kind: MessageKind::TransferLeader,
                    to: self.leader,
                    ..Message::default()
                };
                self.send(wish);
                // The sender field names the one who shall lead.
                if let Some(wish) = self.outbox.messages.last_mut() {
                    wish.from = to;
                }
            }
            Role::Follower | Role::PreCandidate | Role::Candidate => {}
        }
    }

    fn hand_over(&mut self, to: MemberId) {
        let Some(progress) = self.members.progress.get(&to) else { return };
        if progress.is_learner || self.transferee == to {
            return;
        }
        self.transferee = MemberId::NONE;
        if to == self.config.id {
            return;
        }
        // It gets an election timeout from here.
        self.election_elapsed = 0;
        self.transferee = to;
        if progress.matched == self.log.last() {
            self.send_timeout_now(to);
        } else {
            self.send_append(to, true);
        }
    }

    fn send_timeout_now(&mut self, to: MemberId) {
        self.send(Message { kind: MessageKind::TimeoutNow, to, ..Message::default() });
    }

    /// Leaves an automatic joint configuration once it is applied.
    pub(crate) fn leave_joint_when_due(&mut self) {
        let due = self.role == Role::Leader
            && self.members.conf.auto_leave
            && self.log.applied() >= self.pending_conf;
        if due {
            let leave = Entry { kind: EntryKind::ConfChangeV2, ..Entry::default() };
            // Refused (a transfer is under way), the next applied entry tries again.
            let _ = self.append_proposals(vec![leave]);
        }
    }
}
