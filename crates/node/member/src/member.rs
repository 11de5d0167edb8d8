//! Raft with a member's habits around it.

use std::collections::VecDeque;

use bytes::Bytes;
use mainstay_raft::{
    ConfChange, ConfState, HardState, LogStart, Message, MessageKind, Output, Peer, PeerStatus,
    ProposeError, Raft, Role, SoftState, StartError, Status,
};
use mainstay_types::{Index, MemberId, Term, limits};

use crate::policy::SnapshotPolicy;
use crate::{Effect, Input, MemberConfig, RefuseReason};

/// What was proposed.
#[derive(Debug)]
enum Proposal {
    Data(Bytes),
    Change(ConfChange),
}

/// A follower's proposals that came while nobody could take them, or our own that did not
/// get through to the leader.
#[derive(Debug)]
struct Held {
    message: Message,
    until: u64,
    /// Not before this tick to the same leader.
    again: u64,
}

/// A proposal without a leader to take it.
#[derive(Debug)]
struct Waiting {
    id: u64,
    proposal: Proposal,
    until: u64,
}

/// The newest read that is not confirmed. Its answer answers all before it.
#[derive(Clone, Copy, Debug)]
struct Reading {
    ctx: u64,
    asked: u64,
}

/// A member's mind. See the crate's documentation.
#[derive(Debug)]
pub struct Member {
    raft: Raft,
    config: MemberConfig,
    policy: SnapshotPolicy,
    /// Ticks since the start.
    now: u64,
    applied: Index,
    waiting: VecDeque<Waiting>,
    held: VecDeque<Held>,
    /// Whose host refuses proposals, and when it first and last did.
    refusing: Option<(MemberId, u64, u64)>,
    reading: Option<Reading>,
    newest_read: u64,
    /// Who leads since when, as last told.
    told_leader: Option<(MemberId, Term)>,
    /// Refusals and the like, to come out with the next flush.
    notes: Vec<Effect>,
}

impl Member {
    /// A member as its storage remembers it. A lone voter campaigns at once.
    ///
    /// # Errors
    /// When what storage holds contradicts itself.
    pub fn new(
        config: MemberConfig,
        hard_state: HardState,
        conf_state: ConfState,
        start: LogStart,
    ) -> Result<Member, StartError> {
        let raft = Raft::new(config.raft.clone(), hard_state, conf_state, start)?;
        Ok(Member::around(config, raft))
    }

    /// A first member of a new cluster; `peers` are all of them, in the same order everywhere.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn bootstrap(config: MemberConfig, peers: Vec<Peer>) -> Result<Member, StartError> {
        let raft = Raft::bootstrap(config.raft.clone(), peers)?;
        Ok(Member::around(config, raft))
    }

    fn around(config: MemberConfig, raft: Raft) -> Member {
        let applied = raft.status().applied;
        let mut member = Member {
            policy: SnapshotPolicy::new(&config, applied),
            raft,
            config,
            now: 0,
            applied,
            waiting: VecDeque::new(),
            held: VecDeque::new(),
            refusing: None,
            reading: None,
            newest_read: 0,
            told_leader: None,
            notes: Vec::new(),
        };
        member.campaign_if_alone();
        member
    }

    /// Feeds one input and flushes. Correct, but nothing shares a write: a driver
    /// with several inputs at hand feeds them all before it flushes.
    pub fn handle(&mut self, input: Input, effects: &mut Vec<Effect>) {
        self.feed(input);
        self.flush(effects);
    }

    /// Takes an input. What follows from it comes out with the next [`Member::flush`].
    pub fn feed(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Peer(message) => self.step(message),
            Input::Propose { id, data } => self.propose(id, Proposal::Data(data)),
            Input::ProposeConfChange { id, change } => self.propose(id, Proposal::Change(change)),
            Input::ReadIndex(ctx) => self.read(ctx),
            Input::Persisted(mark) => self.raft.persisted(mark),
            Input::Applied(index) => self.applied(index),
            Input::ConfChangeApplied(change) => self.conf_change_applied(change),
            Input::SnapshotTaken { index } => {
                self.policy.snapshot_taken(index);
                self.notes.push(Effect::ReleaseLog { to: index });
            }
            Input::SnapshotReady { to, snapshot } => {
                // Not needed any more: the driver reports the end of it all the same.
                self.raft.send_snapshot(to, snapshot);
            }
            Input::SnapshotSent { to, ok } => {
                self.policy.sent(to, ok, self.now);
                self.raft.report_snapshot(to, ok);
            }
            Input::Unsent(message) => self.unsent(message),
            Input::Unreachable(peer) => self.raft.report_unreachable(peer),
            Input::Gone(peer) => self.raft.peer_gone(peer),
            Input::TransferLeader(to) => self.raft.transfer_leader(to),
            Input::Campaign => self.raft.campaign(),
        }
    }

    /// Appends everything that is to be done since the last flush.
    pub fn flush(&mut self, effects: &mut Vec<Effect>) {
        self.propose_waiting();
        self.ask_the_new_leader();
        effects.append(&mut self.notes);
        if !self.raft.has_output() {
            return;
        }
        let output = self.raft.take_output();
        if let Some(soft_state) = output.soft_state {
            self.tell_leader(soft_state, effects);
        }
        self.tell(output, effects);
    }

    fn tell(&mut self, output: Output, effects: &mut Vec<Effect>) {
        let stores = output.wants_storage();
        if !output.messages.is_empty() {
            effects.push(Effect::Send(output.messages));
        }
        if let Some(snapshot) = &output.snapshot {
            self.policy.snapshot_installed(snapshot.index);
        }
        if stores {
            effects.push(Effect::Persist {
                snapshot: output.snapshot.map(Box::new),
                entries: output.entries,
                hard_state: output.hard_state,
                must_sync: output.must_sync,
                mark: output.mark,
                then_send: output.after_persist,
            });
        }
        if !output.committed.is_empty() {
            effects.push(Effect::Apply(output.committed));
        }
        for state in output.read_states {
            self.read_confirmed(state.ctx, state.index, effects);
        }
        for to in output.snapshots_wanted {
            self.policy.sending(to);
            effects.push(Effect::SendSnapshot { to });
        }
    }

    fn tell_leader(&mut self, state: SoftState, effects: &mut Vec<Effect>) {
        let leader = state.leader.map(|leader| (leader, state.term));
        if leader == self.told_leader {
            return;
        }
        self.told_leader = leader;
        let SoftState { leader, term, role } = state;
        effects.push(Effect::LeaderChanged { leader, term, role });
    }

    fn tick(&mut self) {
        self.now += 1;
        self.raft.tick();
        self.policy.tick(self.now);
        while self.waiting.front().is_some_and(|waiting| waiting.until <= self.now) {
            if let Some(late) = self.waiting.pop_front() {
                self.refuse(late.id, RefuseReason::NoLeader);
            }
        }
        while self.held.front().is_some_and(|held| held.until <= self.now) {
            self.held.pop_front();
        }
        if let Some(reading) = self.reading
            && self.now >= reading.asked + self.config.read_retry_ticks
        {
            self.ask_to_read(reading.ctx);
        }
    }

    fn step(&mut self, mut message: Message) {
        let from = message.from;
        if message.kind == MessageKind::Prop {
            // Dropped, it would make a client wait in vain for a planned change: a former
            // leader hears of the next one a little later than it steps down.
            if self.raft.is_handing_over() || self.raft.leader().is_none() {
                return self.hold(message, self.now);
            }
            if self.raft.leader() == Some(from) {
                // Sent before it led; raft lets nobody's own proposals come back to him.
                message.from = self.config.raft.id;
            }
        }
        if let Err(error) = self.raft.step(message) {
            self.notes.push(Effect::Ignored { from, error });
        }
    }

    /// Proposals that nobody has seen go to the next leader, or to the same one at the next
    /// tick: by then it may be known to be gone. (etcd forgets them, and whoever asked hears
    /// of it when his patience ends.)
    fn unsent(&mut self, message: Message) {
        if message.kind != MessageKind::Prop || message.from != self.config.raft.id {
            return;
        }
        let (patience, now) = (self.config.proposal_patience_ticks, self.now);
        let first = match self.refusing {
            Some((to, first, last)) if to == message.to && now <= last + patience => first,
            _ => now,
        };
        self.refusing = Some((message.to, first, now));
        // Who asked has given up by then: nothing may happen long after that.
        if now < first + patience {
            self.hold(message, now + 1);
        }
    }

    /// Keeps proposals for whoever leads next.
    fn hold(&mut self, message: Message, again: u64) {
        let bytes_of = |message: &Message| -> usize {
            message.entries.iter().map(|entry| entry.data.len()).sum()
        };
        let bytes: usize = self.held.iter().map(|held| bytes_of(&held.message)).sum();
        let fits = bytes + bytes_of(&message) <= limits::PROPOSALS_HELD_BYTES_MAX;
        if fits && self.held.len() < limits::PROPOSALS_HELD_MAX {
            let until = self.now + self.config.proposal_patience_ticks;
            self.held.push_back(Held { message, until, again });
        }
    }

    fn propose(&mut self, id: u64, proposal: Proposal) {
        let committed = self.raft.commit_index();
        if committed.0.saturating_sub(self.applied.0) > self.config.apply_backlog_max {
            return self.refuse(id, RefuseReason::ApplyBacklog);
        }
        if self.raft.leader().is_none() || self.raft.is_handing_over() {
            return self.wait_for_leader(id, proposal);
        }
        self.propose_now(id, proposal);
    }

    fn propose_now(&mut self, id: u64, proposal: Proposal) {
        let taken = match proposal {
            Proposal::Data(data) => self.raft.propose(data),
            Proposal::Change(change) => self.raft.propose_conf_change(&change),
        };
        match taken {
            Ok(()) => {}
            Err(ProposeError::NoLeader) => self.refuse(id, RefuseReason::NoLeader),
            Err(error) => self.refuse(id, RefuseReason::Dropped(error)),
        }
    }

    fn wait_for_leader(&mut self, id: u64, proposal: Proposal) {
        if self.waiting.len() >= self.config.proposals_waiting_max {
            return self.refuse(id, RefuseReason::NoLeader);
        }
        let until = self.now + self.config.proposal_patience_ticks;
        self.waiting.push_back(Waiting { id, proposal, until });
    }

    fn propose_waiting(&mut self) {
        if (self.waiting.is_empty() && self.held.is_empty())
            || self.raft.leader().is_none()
            || self.raft.is_handing_over()
        {
            return;
        }
        for held in std::mem::take(&mut self.held) {
            if held.again > self.now && self.raft.leader() == Some(held.message.to) {
                self.held.push_back(held);
            } else {
                self.step(held.message);
            }
        }
        for Waiting { id, proposal, .. } in std::mem::take(&mut self.waiting) {
            self.propose_now(id, proposal);
        }
    }

    fn refuse(&mut self, id: u64, reason: RefuseReason) {
        self.notes.push(Effect::Refuse { id, reason });
    }

    fn read(&mut self, ctx: u64) {
        assert!(ctx > self.newest_read, "read contexts grow, from 1");
        self.newest_read = ctx;
        self.ask_to_read(ctx);
    }

    /// The former leader's answer may never come, and without a leader nobody was asked.
    fn ask_the_new_leader(&mut self) {
        let Some(reading) = self.reading else { return };
        let status = self.raft.status();
        let leader = status.leader.map(|leader| (leader, status.term));
        if leader.is_some() && leader != self.told_leader {
            self.ask_to_read(reading.ctx);
        }
    }

    fn ask_to_read(&mut self, ctx: u64) {
        self.reading = Some(Reading { ctx, asked: self.now });
        // Without a leader the next one is asked, see `ask_the_new_leader`.
        let _ = self.raft.read_index(self.config.read_epoch.wrapping_add(ctx));
    }

    fn read_confirmed(&mut self, wire: u64, index: Index, effects: &mut Vec<Effect>) {
        let ctx = wire.wrapping_sub(self.config.read_epoch);
        // Contexts that were never given out are echoes of a former life.
        if ctx == 0 || ctx > self.newest_read {
            return;
        }
        if self.reading.is_some_and(|reading| reading.ctx <= ctx) {
            self.reading = None;
        }
        effects.push(Effect::ReadReady { ctx, index });
    }

    fn applied(&mut self, index: Index) {
        if index <= self.applied {
            return;
        }
        self.applied = index;
        self.raft.applied(index);
        if self.policy.wants_snapshot(index) {
            self.notes.push(Effect::TakeSnapshot { index });
        }
        if let Some(to) = self.policy.wants_compaction(index) {
            self.raft.compact(to);
        }
        self.campaign_if_alone();
    }

    fn conf_change_applied(&mut self, change: ConfChange) {
        // The state machine checks changes against its members before raft hears of
        // them; one that raft cannot follow would leave the two at odds for good.
        if let Err(refusal) = self.raft.apply_conf_change(change) {
            panic!("a committed configuration change does not fit: {refusal}");
        }
        self.campaign_if_alone();
    }

    /// Nobody else can lead: there is nothing to wait for.
    fn campaign_if_alone(&mut self) {
        if self.raft.is_only_voter() && self.raft.role() == Role::Follower {
            self.raft.campaign();
        }
    }

    /// Where this member stands. Cheap.
    pub fn status(&self) -> Status {
        self.raft.status()
    }

    /// What a leader knows about everyone; empty on others.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.raft.peers()
    }

    /// The configuration as applied.
    pub fn conf_state(&self) -> ConfState {
        self.raft.conf_state()
    }

    /// Whether this member leads, is a quorum by itself and has committed in its
    /// term: its commit index is everything that was ever acknowledged, and no round
    /// is needed to know it.
    pub fn is_lone_leader(&self) -> bool {
        self.raft.role() == Role::Leader
            && self.raft.is_only_voter()
            && self.raft.has_committed_in_term()
    }

    /// The term of the entry at `index`, while it is in memory or just below.
    pub fn entry_term(&self, index: Index) -> Option<Term> {
        self.raft.entry_term(index)
    }
}
