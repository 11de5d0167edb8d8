//! What a follower does with what the leader sends (raft paper, 5.3 and 7).

use mainstay_types::{Index, MemberId};

use crate::change::Members;
use crate::log::EntryId;
use crate::raft::Raft;
use crate::{Entry, Message, MessageKind, Role, Snapshot, StepError};

impl Raft {
    pub(crate) fn take_append(&mut self, message: Message) -> Result<(), StepError> {
        check_entries(&message)?;
        self.follow(&message)?;
        if message.index < self.log.committed() {
            // An old append; what is committed here matches any leader's log.
            self.acknowledge(message.from, self.log.committed());
            return Ok(());
        }
        let before = EntryId { term: message.log_term, index: message.index };
        if !self.log.matches(before) {
            self.reject_append(&message);
            return Ok(());
        }
        if let Some(at) = self.log.first_conflict(&message.entries) {
            let conflict = message.entries[at].index;
            if conflict <= self.log.committed() {
                return Err(StepError::ReplacesCommitted(conflict));
            }
            self.log.append(&message.entries[at..]);
        }
        let last_new = Index(message.index.0 + message.entries.len() as u64);
        let committed = self.log.committed();
        let fits = self.log.commit_to(message.commit.min(last_new));
        assert!(fits, "the log reaches to what was appended");
        let only_commits = message.entries.is_empty() && self.log.committed() > committed;
        if self.config.holds_echoes && only_commits && last_new == self.acknowledged {
            self.echo_due = true;
        } else {
            self.acknowledge(message.from, last_new);
        }
        Ok(())
    }

    /// Says again what the leader was told last, if it waits for an answer.
    pub(crate) fn echo(&mut self) {
        if self.echo_due && self.leader != MemberId::NONE {
            self.acknowledge(self.leader, self.acknowledged);
        }
    }

    /// Tells the leader the highest position where the logs may meet, so that it
    /// skips a whole term per probe.
    fn reject_append(&mut self, message: &Message) {
        let hint = message.index.min(self.log.last());
        let meeting = self.log.meeting_point(hint, message.log_term);
        self.send_after_persist(Message {
            kind: MessageKind::AppResp,
            to: message.from,
            index: message.index,
            reject: true,
            reject_hint: meeting.index,
            log_term: meeting.term,
            ..Message::default()
        });
    }

    fn acknowledge(&mut self, to: MemberId, index: Index) {
        self.acknowledged = self.acknowledged.max(index);
        self.echo_due = false;
        self.send_after_persist(Message {
            kind: MessageKind::AppResp,
            to,
            index,
            ..Message::default()
        });
    }

    pub(crate) fn take_heartbeat(&mut self, message: Message) -> Result<(), StepError> {
        self.follow(&message)?;
        if !self.log.commit_to(message.commit) {
            let last = self.log.last();
            return Err(StepError::CommitBeyondLog { commit: message.commit, last });
        }
        self.send(Message {
            kind: MessageKind::HeartbeatResp,
            to: message.from,
            context: message.context,
            ..Message::default()
        });
        Ok(())
    }

    pub(crate) fn take_snapshot(&mut self, message: Message) -> Result<(), StepError> {
        let from = message.from;
        self.follow(&message)?;
        let malformed = |what| StepError::Malformed(MessageKind::Snap, what);
        let snapshot = *message.snapshot.ok_or_else(|| malformed("no snapshot"))?;
        if snapshot.term > self.term {
            return Err(malformed("a term beyond the leader's"));
        }
        let restored = self.restore(snapshot).map_err(malformed)?;
        let reached = if restored { self.log.last() } else { self.log.committed() };
        self.acknowledge(from, reached);
        Ok(())
    }

    /// Whether the snapshot replaced the log. It does not if the log has it already,
    /// or if this member has no place in it.
    fn restore(&mut self, snapshot: Snapshot) -> Result<bool, &'static str> {
        if snapshot.index <= self.log.committed() {
            return Ok(false);
        }
        let conf = &snapshot.conf_state;
        let mut all = conf.voters.iter().chain(&conf.learners).chain(&conf.voters_outgoing);
        if !all.any(|id| *id == self.config.id) {
            return Ok(false);
        }
        if self.log.matches(EntryId { term: snapshot.term, index: snapshot.index }) {
            let fits = self.log.commit_to(snapshot.index);
            assert!(fits, "the log has the entry");
            return Ok(false);
        }
        let window = self.members.window.clone();
        let members = Members::restore(window, conf, snapshot.index)?;
        self.log.restore(snapshot);
        self.members = members;
        Ok(true)
    }

    /// The sender leads this term.
    fn follow(&mut self, message: &Message) -> Result<(), StepError> {
        match self.role {
            Role::Leader => {
                let me = self.config.id;
                return Err(StepError::TwoLeaders(message.from, self.term, me));
            }
            Role::PreCandidate | Role::Candidate => {
                self.become_follower(self.term, message.from);
            }
            Role::Follower => {
                if self.leader != MemberId::NONE && self.leader != message.from {
                    let known = self.leader;
                    return Err(StepError::TwoLeaders(message.from, self.term, known));
                }
                self.election_elapsed = 0;
                self.leader = message.from;
            }
        }
        Ok(())
    }

    /// Sends the proposals of this turn to the leader, as few messages as they fit in.
    pub(crate) fn forward_proposals(&mut self) {
        // What was meant for a leader that is gone goes to the next one.
        if self.forwarding.is_empty() || self.leader == MemberId::NONE {
            return;
        }
        let entries = std::mem::take(&mut self.forwarding);
        if self.role == Role::Leader {
            // Refused, they get lost like any forwarded proposal may.
            let _ = self.append_proposals(entries);
            return;
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        for entry in entries {
            let size = entry.encoded_len();
            if !batch.is_empty() && bytes + size > self.config.max_size_per_message {
                self.forward(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += size;
            batch.push(entry);
        }
        self.forward(batch);
    }

    fn forward(&mut self, entries: Vec<Entry>) {
        let to = self.leader;
        self.send(Message { kind: MessageKind::Prop, to, entries, ..Message::default() });
    }
}

/// Entries of an append follow one another, and no term falls or exceeds the leader's.
fn check_entries(message: &Message) -> Result<(), StepError> {
    let malformed = |what| Err(StepError::Malformed(MessageKind::App, what));
    let mut before = EntryId { term: message.log_term, index: message.index };
    if before.index.0.checked_add(message.entries.len() as u64 + 1).is_none() {
        return malformed("an index out of range");
    }
    for entry in &message.entries {
        if entry.index != before.index.next() {
            return malformed("a gap between entries");
        }
        if entry.term < before.term {
            return malformed("a falling term");
        }
        before = EntryId { term: entry.term, index: entry.index };
    }
    if before.term > message.term {
        return malformed("a term beyond the leader's");
    }
    Ok(())
}
