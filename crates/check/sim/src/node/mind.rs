//! The consensus thread: feeds the mind and carries out its effects.

use mainstay_env::Dice as _;
use mainstay_member::{Effect, Input};
use mainstay_proto::Message as _;
use mainstay_raft::{ConfChange, EntryKind, Message, MessageKind, Role};
use mainstay_types::MemberId;

use super::{Death, Life, NodeEvent};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::net::{Fate, Packet};
use crate::node::apply::ApplyOrder;
use crate::node::log::{LogOrder, Persist};
use crate::ops::{Reply, Request, What};
use crate::plan::{MS, SECOND};

impl Life {
    pub(super) fn tick(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        self.ticks += 1;
        let next = self.clocks.takes(ctx.plan.tick);
        self.after(ctx, next, NodeEvent::Tick);
        self.mind.feed(Input::Tick);
        self.turn_soon(ctx)
    }

    /// Something was fed. Usually the turn comes at once; sometimes more is fed before.
    pub(super) fn turn_soon(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        if self.turn_due {
            return Ok(());
        }
        if ctx.dice.one_in(8) {
            self.turn_due = true;
            let delay = ctx.dice.below(2 * MS);
            self.after(ctx, delay, NodeEvent::Turn);
            return Ok(());
        }
        self.turn(ctx)
    }

    /// Carries out everything that the mind wants.
    pub(super) fn turn(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        self.turn_due = false;
        let mut effects = std::mem::take(&mut self.effects);
        self.mind.flush(&mut effects);
        while !effects.is_empty() {
            for effect in effects.drain(..) {
                self.carry_out(ctx, effect)?;
            }
            self.mind.flush(&mut effects);
        }
        self.effects = effects;
        self.show_the_judge(ctx);
        Ok(())
    }

    fn carry_out(&mut self, ctx: &mut Ctx, effect: Effect) -> Result<(), Death> {
        match effect {
            Effect::Persist { snapshot, entries, hard_state, must_sync, mark, then_send } => {
                let before = entries.first().map(|entry| entry.index.0 - 1);
                let before = before.and_then(|at| self.mind.entry_term(mainstay_types::Index(at)));
                ctx.judge.raft.logged(self.id, before, &entries);
                self.look_at_conf |= entries.iter().any(|entry| entry.kind != EntryKind::Normal);
                self.planted_at_append(ctx, &entries);
                let persist = Persist { hard_state, entries, must_sync, mark, then_send };
                self.persist(ctx, snapshot, persist);
            }
            Effect::Send(messages) => self.send(ctx, messages),
            Effect::Apply(entries) => {
                self.apply.push_back(ApplyOrder::Apply(entries));
                self.apply_soon(ctx);
            }
            Effect::ReadReady { ctx: round, index } => self.read_ready(ctx, round, index),
            Effect::Refuse { id, reason } => {
                ctx.tell(|| format!("{} refuses {id}: {reason}", self.id));
                if self.waiters.remove(&id) {
                    ctx.judge.refused(id);
                    ctx.answer(id, self.id, Reply::Refused);
                }
            }
            Effect::TakeSnapshot { .. } => {
                self.apply.push_back(ApplyOrder::TakeSnapshot);
                self.apply_soon(ctx);
            }
            // The log did it when it wrote the record.
            Effect::ReleaseLog { .. } => {}
            Effect::LeaderChanged { leader, term, role } => {
                ctx.tell(|| format!("{} is {role} of {leader:?} in term {term}", self.id));
                if role != Role::Leader && !ctx.has(Bug::LeaseNotExtended) {
                    self.timer = None;
                }
                self.confirmed = None;
            }
            Effect::SendSnapshot { to } => {
                let delay = ctx.dice.below(50 * MS);
                self.after(ctx, delay, NodeEvent::MakeSnapshot(to));
            }
            Effect::Ignored { from, error } => {
                ctx.stats.count("messages ignored");
                self.judge_ignored(ctx, from, &error);
            }
        }
        Ok(())
    }

    fn judge_ignored(&self, ctx: &Ctx, from: MemberId, error: &mainstay_raft::StepError) {
        use mainstay_raft::StepError as E;
        ctx.tell(|| format!("{} ignores a message of {from}: {error}", self.id));
        match error {
            // Late, from who was removed, or a proposal without a leader.
            E::UnknownPeer(_) | E::Dropped(_) => {}
            E::Local(_)
            | E::Incomplete(_)
            | E::Malformed(..)
            | E::TwoLeaders(..)
            | E::CommitBeyondLog { .. }
            | E::ReplacesCommitted(_) => panic!("{} gets nonsense from {from}: {error}", self.id),
        }
    }

    fn persist(
        &mut self,
        ctx: &mut Ctx,
        snapshot: Option<Box<mainstay_raft::Snapshot>>,
        mut persist: Persist,
    ) {
        if ctx.has(Bug::SendBeforePersist) || ctx.has(Bug::AckBeforeSync) {
            let messages = std::mem::take(&mut persist.then_send);
            self.send(ctx, messages);
        }
        if ctx.has(Bug::AckBeforeSync) && snapshot.is_none() {
            self.mind.feed(Input::Persisted(persist.mark));
        }
        self.log.push_back(match snapshot {
            Some(snapshot) => LogOrder::Install(snapshot, persist),
            None => LogOrder::Persist(persist),
        });
        self.log_soon(ctx);
    }

    pub(super) fn send(&mut self, ctx: &mut Ctx, messages: Vec<Message>) {
        for mut message in messages {
            ctx.stats.events += 1;
            if message.kind == MessageKind::VoteResp && !message.reject {
                ctx.maybe_kill(10, self.id, "fault: killed after a vote");
            }
            self.planted_in_message(ctx, &mut message);
            let to = message.to;
            let db = match message.kind {
                MessageKind::Snap => self.sending.remove(&to),
                _ => None,
            };
            if !self.knows(to) {
                if db.is_some() {
                    self.after(ctx, MS, NodeEvent::SnapshotOutcome { to, ok: false });
                }
                continue;
            }
            match ctx.net.fate(&ctx.plan, &mut ctx.dice, &message) {
                Fate::Lost => self.lost(ctx, to, db.is_some()),
                Fate::Arrives(delay, again) => {
                    if let Some(later) = again {
                        let packet = Packet { message: message.clone(), db: None };
                        ctx.at_node(later, to, 0, NodeEvent::Packet(Box::new(packet)));
                    }
                    let packet = NodeEvent::Packet(Box::new(Packet { message, db }));
                    ctx.at_node(delay, to, 0, packet);
                }
            }
        }
    }

    fn lost(&self, ctx: &mut Ctx, to: MemberId, snapshot: bool) {
        let delay = ctx.dice.below(SECOND);
        if snapshot {
            self.after(ctx, 5 * delay, NodeEvent::SnapshotOutcome { to, ok: false });
        } else if ctx.dice.one_in(4) {
            self.after(ctx, delay, NodeEvent::Unreachable(to));
        }
    }

    /// Whether there is a connection to `to`: it is a member as of the last applied
    /// entry, of those that one was told to begin with, or it has called (etcd's remotes:
    /// who has fallen behind does not know the members that have joined since).
    fn knows(&self, to: MemberId) -> bool {
        let membership = self.machine.membership();
        if membership.members().len() == 0
            && self.options.founding.members().iter().any(|m| m.id == to)
        {
            return true;
        }
        membership.member(to).is_some()
            || (self.remotes.contains(&to) && !membership.is_removed(to))
    }

    pub(super) fn receive(&mut self, ctx: &mut Ctx, packet: Packet) -> Result<(), Death> {
        let Packet { message, db } = packet;
        // The transport refuses who was removed; what is on its way when a link is cut is lost.
        let refused = self.machine.membership().is_removed(message.from);
        if refused || ctx.net.is_cut(message.from, self.id) {
            if message.kind == MessageKind::Snap {
                let what = NodeEvent::SnapshotOutcome { to: self.id, ok: false };
                ctx.at_node(MS, message.from, 0, what);
            }
            return Ok(());
        }
        if ctx.net.withheld == Some(message.from) && self.would_take_new(&message) {
            return Ok(());
        }
        if !self.knows(message.from) {
            self.remotes.insert(message.from);
        }
        ctx.tell(|| format!("{} hears {message:?}", self.id));
        if message.kind == MessageKind::Snap {
            let Some(db) = db else { return Ok(()) };
            if !self.receive_db(ctx, &message, &db)? {
                return Ok(());
            }
        }
        self.mind.feed(Input::Peer(message));
        self.turn_soon(ctx)
    }

    /// Whether this message would bring entries of its leader's own term into the log.
    fn would_take_new(&self, message: &Message) -> bool {
        message.entries.iter().any(|entry| entry.term == message.term)
            && self.mind.entry_term(message.index) == Some(message.log_term)
    }

    pub(super) fn snapshot_outcome(
        &mut self,
        ctx: &mut Ctx,
        to: MemberId,
        ok: bool,
    ) -> Result<(), Death> {
        self.mind.feed(Input::SnapshotSent { to, ok });
        self.turn_soon(ctx)
    }

    pub(super) fn unsent(&mut self, ctx: &mut Ctx, message: Message) -> Result<(), Death> {
        self.mind.feed(Input::Unsent(message));
        self.turn_soon(ctx)
    }

    pub(super) fn unreachable(&mut self, ctx: &mut Ctx, peer: MemberId) -> Result<(), Death> {
        self.mind.feed(Input::Unreachable(peer));
        self.turn_soon(ctx)
    }

    pub(super) fn gone(&mut self, ctx: &mut Ctx, peer: MemberId) -> Result<(), Death> {
        self.mind.feed(Input::Gone(peer));
        self.turn_soon(ctx)
    }

    pub(super) fn transfer(&mut self, ctx: &mut Ctx, to: MemberId) -> Result<(), Death> {
        self.mind.feed(Input::TransferLeader(to));
        self.turn_soon(ctx)
    }

    pub(super) fn leads(&self) -> bool {
        self.mind.status().role == Role::Leader
    }

    pub(super) fn request(&mut self, ctx: &mut Ctx, request: Request) -> Result<(), Death> {
        match &request.what {
            What::Propose(body) => {
                self.waiters.insert(request.op);
                let data = body.encode_to_vec().into();
                self.mind.feed(Input::Propose { id: request.op, data });
                self.planted_at_proposal(ctx, &request);
                self.turn_soon(ctx)
            }
            What::Change(change) => {
                self.waiters.insert(request.op);
                let encoded = change.encode(request.op).encode_to_vec();
                let change = ConfChange::decode(&encoded.into()).expect("we encoded it");
                self.mind.feed(Input::ProposeConfChange { id: request.op, change });
                self.turn_soon(ctx)
            }
            What::Range { .. } | What::KeepAlive(_) => self.read_request(ctx, request),
        }
    }

    pub(super) fn propose_again(&mut self, ctx: &mut Ctx, request: Request) -> Result<(), Death> {
        if let What::Propose(body) = &request.what
            && self.waiters.contains(&request.op)
        {
            let data = body.encode_to_vec().into();
            self.mind.feed(Input::Propose { id: request.op, data });
        }
        self.turn_soon(ctx)
    }

    /// The configuration is what was applied: not what is proposed, not what was refused.
    fn check_configuration(&self, ctx: &Ctx) {
        let applied = self.machine.applied().0;
        let comes = self.apply.iter().any(|order| matches!(order, ApplyOrder::Install(_)))
            || self.log.iter().any(|order| matches!(order, LogOrder::Install(..)));
        // A snapshot that arrives, and the first members, count before they are applied.
        if comes || applied.0 < ctx.plan.founders as u64 {
            return;
        }
        let (raft, members) = (self.mind.conf_state(), self.machine.conf_state());
        assert!(
            raft.is_equivalent(&members),
            "{} counts {raft:?} at {applied}, where the members are {members:?}",
            self.id
        );
    }

    /// After every turn.
    fn show_the_judge(&mut self, ctx: &mut Ctx) {
        let status = self.mind.status();
        if std::mem::take(&mut self.look_at_conf) {
            self.check_configuration(ctx);
        }
        self.planted_commit(ctx, &status);
        let raft = &mut ctx.judge.raft;
        if status.commit != self.seen_commit {
            raft.committed(&self.mind, &status, self.seen_commit);
            self.seen_commit = status.commit;
        }
        if status.role == Role::Leader && status.term != self.seen_lead {
            self.seen_lead = status.term;
            ctx.stats.count("elections");
            ctx.crowned.push(self.id);
            raft.elected(&self.mind, &status);
        }
    }
}
