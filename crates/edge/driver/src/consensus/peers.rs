//! What the consensus thread does because there are others.

use std::sync::atomic::Ordering;

use mainstay_failpoints::fail_point;
use mainstay_member::Input;
use mainstay_raft::{Mark, Message, MessageKind, Role};
use mainstay_types::{MemberId, Term};

use super::{Consensus, ReadSlot};
use crate::notes::Note;

impl Consensus {
    pub(super) fn take_message(&mut self, message: Message, bytes: usize) {
        self.shared.cells.inbox_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if std::mem::take(&mut self.advance_due) {
            self.advance_ticks();
        }
        self.feed(Input::Peer(message));
    }

    /// After a start the first election need not wait for its whole timeout once the
    /// others are there (etcd, `--initial-election-tick-advance`): a leader among them
    /// would have made itself heard within the two ticks that stay.
    fn advance_ticks(&mut self) {
        let status = self.member.status();
        if status.leader.is_some() || status.role == Role::Leader {
            return;
        }
        let ticks = self.shared.options.election_ticks().saturating_sub(2);
        tracing::info!(
            "forward-ticks" = ticks,
            "initialized peer connections; fast-forwarding election ticks"
        );
        for _ in 0..ticks {
            self.feed(Input::Tick);
        }
    }

    /// What the other threads of this member have done.
    pub(super) fn take_notes(&mut self) {
        for note in self.shared.notes.take() {
            match note {
                Note::ConfChanged(change) => self.feed(Input::ConfChangeApplied(change)),
                Note::SnapshotTaken { index } => self.feed(Input::SnapshotTaken { index }),
                Note::SnapshotReady { to, snapshot, db } => {
                    self.outgoing.insert(to, db);
                    self.feed(Input::SnapshotReady { to, snapshot });
                }
                Note::SnapshotSent { to, ok } => self.feed(Input::SnapshotSent { to, ok }),
                Note::SnapshotFailed { to } => self.feed(Input::SnapshotSent { to, ok: false }),
            }
        }
    }

    /// Whether anyone but this member is there to be sent to is the transport's to know.
    pub(super) fn send(&mut self, messages: Vec<Message>) {
        let messages = self.sendable(messages);
        if !messages.is_empty() {
            self.shared.transport.send(messages);
        }
    }

    /// All but snapshots, which leave on a way of their own.
    pub(super) fn sendable(&mut self, mut messages: Vec<Message>) -> Vec<Message> {
        if messages.iter().any(|message| message.kind == MessageKind::Snap) {
            let (snapshots, others) =
                messages.into_iter().partition(|message| message.kind == MessageKind::Snap);
            messages = others;
            self.send_snapshots(snapshots);
        }
        messages
    }

    fn send_snapshots(&mut self, messages: Vec<Message>) {
        for message in messages {
            let to = message.to;
            match self.outgoing.remove(&to) {
                Some(db) => self.shared.transport.send_snapshot(message, db),
                None => self.feed(Input::SnapshotSent { to, ok: false }),
            }
        }
    }

    /// Snapshots that raft did not want any more when they were ready.
    pub(super) fn drop_unwanted_snapshots(&mut self) {
        while let Some((to, _)) = self.outgoing.pop_first() {
            self.feed(Input::SnapshotSent { to, ok: false });
        }
    }

    /// The applier gets a snapshot once the log knows of it, and before raft hands out
    /// what follows it.
    pub(super) fn install_when_durable(&mut self, mark: Mark) {
        if self.installing.as_ref().is_some_and(|(wanted, _)| *wanted <= mark)
            && let Some((_, snapshot)) = self.installing.take()
        {
            fail_point!("raftBeforeApplySnap");
            self.shared.apply.install(*snapshot);
            fail_point!("raftAfterApplySnap");
        }
    }

    pub(super) fn leader_changed(&mut self, role: Role, leader: MemberId, term: Term) {
        let (before, before_term) = std::mem::replace(&mut self.told, (leader, term));
        let me = self.shared.identity.member;
        let cells = &self.shared.cells;
        if leader == MemberId::NONE {
            tracing::info!("raft.node: {me} lost leader {before} at term {term}");
        } else if before == MemberId::NONE {
            tracing::info!("raft.node: {me} elected leader {leader} at term {term}");
        } else {
            tracing::info!(
                "raft.node: {me} changed leader from {before} to {leader} at term {term} (was {before_term})"
            );
        }
        if role != Role::Leader {
            self.shared.leases.demote();
        }
        if leader != MemberId::NONE {
            let now = u64::try_from(self.shared.clock.now().as_millis()).unwrap_or(u64::MAX);
            cells.leader_since_ms.store(now, Ordering::Release);
            cells.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Readers that gave up, for whom nobody comes to answer: while there is no leader
    /// nothing else would end their number.
    pub(super) fn forget_who_gave_up(&mut self) {
        let waits = |slots: &mut Vec<ReadSlot>| {
            slots.retain(|slot| !slot.is_closed());
            !slots.is_empty()
        };
        self.asking.retain(|_, slots| waits(slots));
        self.waiting.retain(|_, slots| waits(slots));
    }
}
