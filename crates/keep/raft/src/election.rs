//! Terms, votes and elections (raft paper, 5.2 and 5.4.1; PreVote and CheckQuorum:
//! raft thesis, 9.6 and 6.2).

use bytes::Bytes;
use mainstay_types::{Index, MemberId, Term};

use crate::log::EntryId;
use crate::message::CAMPAIGN_TRANSFER;
use crate::progress::Progress;
use crate::quorum::VoteResult;
use crate::raft::Raft;
use crate::read::ReadRounds;
use crate::{EntryKind, Message, MessageKind, Role};

/// What kind of election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Campaign {
    Pre,
    Real,
    /// The leader asked for it: others must not wait for the leader's silence.
    Transfer,
}

impl Raft {
    /// A tick of the caller's clock has passed.
    pub fn tick(&mut self) {
        self.outbox.commit_due = true;
        self.election_elapsed += 1;
        match self.role {
            Role::Leader => self.tick_leader(),
            Role::Follower | Role::PreCandidate | Role::Candidate => {
                self.echo();
                self.tick_early();
                if self.is_promotable() && self.election_elapsed >= self.patience {
                    self.election_elapsed = 0;
                    self.campaign();
                    if self.config.asks_again {
                        self.ask_again_when_unanswered();
                    }
                }
            }
        }
    }

    /// `peer`'s host has said that nobody is there any more. If it led, this member forgets
    /// it, so that it grants pre-votes at once (etcd's raft: `MsgForgetLeader`), and asks
    /// for them within ticks: the voter with the smallest id first, the others one tick
    /// later each, when that one did not win. A leader that is there after all makes itself
    /// heard and stays: no term changes before a quorum thinks it gone.
    pub fn peer_gone(&mut self, peer: MemberId) {
        if self.role != Role::Follower || self.leader != peer || !self.config.pre_vote {
            return;
        }
        self.forget_leader();
        self.ask_in_turn(peer);
    }

    /// Pre-votes are asked for within ticks: by the voter with the smallest id at the next
    /// one, by the others one tick later each, without one that is known to be away.
    fn ask_in_turn(&mut self, away: MemberId) {
        let me = self.config.id;
        let before = self.members.conf.all_voters().filter(|id| *id != away && *id < me).count();
        self.early = 1 + u32::try_from(before).unwrap_or(u32::MAX - 1);
    }

    /// The others may not have waited long enough yet, or not have been reached.
    fn ask_again_when_unanswered(&mut self) {
        if self.role == Role::PreCandidate {
            let voters = self.members.conf.all_voters().count();
            self.early = u32::try_from(voters).unwrap_or(u32::MAX);
        }
    }

    fn tick_early(&mut self) {
        if self.early == 0 {
            return;
        }
        self.early -= 1;
        let has_leader = self.leader != MemberId::NONE || self.role == Role::Candidate;
        if has_leader {
            self.early = 0;
        } else if self.early == 0 {
            // The timeout goes on: members that still wait for the leader hear nothing else.
            self.start_election(Campaign::Pre);
            self.ask_again_when_unanswered();
        }
    }

    fn tick_leader(&mut self) {
        self.heartbeat_elapsed += 1;
        if self.election_elapsed >= self.config.election_tick {
            self.election_elapsed = 0;
            if self.config.check_quorum {
                self.check_quorum();
            }
            // The transferee had a whole election timeout.
            self.transferee = MemberId::NONE;
        }
        if self.role == Role::Leader && self.heartbeat_elapsed >= self.config.heartbeat_tick {
            self.heartbeat_elapsed = 0;
            self.heartbeat_due = true;
        }
    }

    fn check_quorum(&mut self) {
        let heard = self.members.progress.iter().filter(|(_, progress)| !progress.is_learner);
        let heard = heard.map(|(id, progress)| (*id, progress.recent_active)).collect();
        if self.members.conf.vote_result(&heard) != VoteResult::Won {
            self.become_follower(self.term, MemberId::NONE);
        }
        let me = self.config.id;
        for (_, progress) in self.members.progress.iter_mut().filter(|(id, _)| **id != me) {
            progress.recent_active = false;
        }
    }

    /// Starts an election now, if this member may lead.
    pub fn campaign(&mut self) {
        let kind = if self.config.pre_vote { Campaign::Pre } else { Campaign::Real };
        self.start_election(kind);
    }

    /// The leader asked this member to take over.
    pub(crate) fn take_timeout_now(&mut self) {
        if self.role == Role::Follower {
            self.start_election(Campaign::Transfer);
        }
    }

    fn start_election(&mut self, kind: Campaign) {
        // With an unapplied change the own idea of the quorum is out of date.
        if self.role == Role::Leader || !self.is_promotable() || self.has_unapplied_conf_change() {
            return;
        }
        self.ask_for_votes(kind);
    }

    fn is_promotable(&self) -> bool {
        let own = self.members.progress.get(&self.config.id);
        own.is_some_and(|progress| !progress.is_learner) && !self.log.snapshot_pending()
    }

    fn has_unapplied_conf_change(&self) -> bool {
        let mut unapplied = self.log.between(self.log.applied(), self.log.committed());
        unapplied.any(|entry| entry.kind != EntryKind::Normal)
    }

    fn ask_for_votes(&mut self, kind: Campaign) {
        let (request, term) = match kind {
            Campaign::Pre => {
                self.become_pre_candidate();
                (MessageKind::PreVote, Term(self.term.0 + 1))
            }
            Campaign::Real | Campaign::Transfer => {
                self.become_candidate();
                (MessageKind::Vote, self.term)
            }
        };
        let context = match kind {
            Campaign::Transfer => Bytes::from_static(CAMPAIGN_TRANSFER),
            Campaign::Pre | Campaign::Real => Bytes::new(),
        };
        let last = self.log.last_id();
        let me = self.config.id;
        let voters: Vec<MemberId> = self.members.conf.all_voters().filter(|id| *id != me).collect();
        for to in voters {
            let ask = Message {
                kind: request,
                to,
                term,
                index: last.index,
                log_term: last.term,
                context: context.clone(),
                ..Message::default()
            };
            match kind {
                // Promises nothing, so there is nothing to wait for.
                Campaign::Pre => self.send(ask),
                // A candidate that forgot its vote could win the same term twice.
                Campaign::Real | Campaign::Transfer => self.send_after_persist(ask),
            }
        }
        if kind == Campaign::Pre {
            self.count_vote(me, true);
        }
    }

    /// The own vote counts from here on.
    pub(crate) fn own_vote_is_durable(&mut self) {
        assert!(self.role == Role::Candidate, "only a candidate waits for its vote");
        let me = self.config.id;
        if self.outbox.durable_vote == (self.term, me) && !self.votes.contains_key(&me) {
            self.count_vote(me, true);
        }
    }

    /// An answer to a request for votes.
    pub(crate) fn take_vote(&mut self, message: &Message) {
        let awaited = match self.role {
            Role::PreCandidate => message.kind == MessageKind::PreVoteResp,
            Role::Candidate => message.kind == MessageKind::VoteResp,
            Role::Follower | Role::Leader => false,
        };
        if awaited {
            self.count_vote(message.from, !message.reject);
        }
    }

    fn count_vote(&mut self, from: MemberId, granted: bool) {
        self.votes.entry(from).or_insert(granted);
        match (self.members.conf.vote_result(&self.votes), self.role) {
            (VoteResult::Pending, _) if self.is_deserted() => self.lose(),
            (VoteResult::Pending, _) => {}
            (VoteResult::Lost, _) => self.lose(),
            (VoteResult::Won, Role::PreCandidate) => {
                let granted = self.votes.iter().filter(|(_, granted)| **granted);
                let supporters = granted.map(|(id, _)| *id).collect();
                self.ask_for_votes(Campaign::Real);
                self.supporters = supporters;
            }
            (VoteResult::Won, _) => self.become_leader(),
        }
    }

    /// Whether all who would have voted for this candidate have answered, and it has not
    /// won: two began at once, each has its own vote, and who did not answer the question
    /// before will hardly answer now.
    fn is_deserted(&self) -> bool {
        self.config.asks_again
            && self.role == Role::Candidate
            && !self.supporters.is_empty()
            && self.supporters.iter().all(|id| self.votes.contains_key(id))
    }

    fn lose(&mut self) {
        let had_begun = self.role == Role::Candidate;
        self.become_follower(self.term, MemberId::NONE);
        if had_begun && self.config.asks_again && self.config.pre_vote {
            self.ask_in_turn(MemberId::NONE);
        }
    }

    /// Someone asks for a vote.
    pub(crate) fn answer_vote(&mut self, ask: &Message) {
        let is_real = ask.kind == MessageKind::Vote;
        let may_vote = self.vote == ask.from
            || (self.vote == MemberId::NONE && self.leader == MemberId::NONE)
            || (!is_real && ask.term > self.term);
        let theirs = EntryId { term: ask.log_term, index: ask.index };
        let granted = may_vote && theirs >= self.log.last_id();
        if granted && is_real {
            self.election_elapsed = 0;
            self.vote = ask.from;
        }
        if theirs < self.log.last_id() {
            self.ask_instead(is_real);
        }
        self.send_after_persist(Message {
            kind: if is_real { MessageKind::VoteResp } else { MessageKind::PreVoteResp },
            to: ask.from,
            // A granted pre-vote is for the future term that was asked about.
            term: if granted { ask.term } else { self.term },
            reject: !granted,
            ..Message::default()
        });
    }

    /// Somebody who has less than this member wants to lead, and may not for as long as this
    /// member's vote is needed.
    fn ask_instead(&mut self, is_real: bool) {
        let waits = self.early == 0 && self.role == Role::Follower;
        let deaf =
            self.leader != MemberId::NONE && self.election_elapsed < self.config.election_tick;
        if self.config.asks_again && self.config.pre_vote && waits && !deaf && !is_real {
            self.forget_leader();
            self.early = 1;
        }
    }

    /// Compares the message's term with ours and follows it. `false` if the message
    /// ends here.
    pub(crate) fn reconcile_term(&mut self, message: &Message) -> bool {
        if message.term == self.term {
            return true;
        }
        if message.term < self.term {
            self.answer_the_past(message);
            return false;
        }
        if matches!(message.kind, MessageKind::Vote | MessageKind::PreVote) {
            let asked_by_leader = message.context == CAMPAIGN_TRANSFER;
            let hears_leader = self.config.check_quorum
                && self.leader != MemberId::NONE
                && self.election_elapsed < self.config.election_tick;
            if hears_leader && !asked_by_leader {
                return false;
            }
        }
        match message.kind {
            // Neither a question about the future nor its answer moves a term.
            MessageKind::PreVote => {}
            MessageKind::PreVoteResp if !message.reject => {}
            MessageKind::App | MessageKind::Heartbeat | MessageKind::Snap => {
                self.become_follower(message.term, message.from);
            }
            _ => self.become_follower(message.term, MemberId::NONE),
        }
        true
    }

    fn answer_the_past(&mut self, message: &Message) {
        match message.kind {
            // A leader of the past learns of the term from any answer. Without it, a member
            // that came back with a higher term could never join (CheckQuorum makes
            // the others deaf to its campaigns).
            MessageKind::App | MessageKind::Heartbeat
                if self.config.check_quorum || self.config.pre_vote =>
            {
                self.send_after_persist(Message {
                    kind: MessageKind::AppResp,
                    to: message.from,
                    ..Message::default()
                });
            }
            // Before members ask first, a candidate of the past may block progress.
            MessageKind::PreVote => self.send_after_persist(Message {
                kind: MessageKind::PreVoteResp,
                to: message.from,
                reject: true,
                ..Message::default()
            }),
            _ => {}
        }
    }

    pub(crate) fn forget_leader(&mut self) {
        if self.role == Role::Follower {
            self.leader = MemberId::NONE;
        }
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: MemberId) {
        self.reset(term);
        self.leader = leader;
        self.role = Role::Follower;
    }

    fn become_pre_candidate(&mut self) {
        assert!(self.role != Role::Leader, "a leader does not campaign");
        // Neither term nor vote change.
        self.votes.clear();
        self.leader = MemberId::NONE;
        self.role = Role::PreCandidate;
    }

    fn become_candidate(&mut self) {
        assert!(self.role != Role::Leader, "a leader does not campaign");
        self.reset(Term(self.term.0 + 1));
        self.vote = self.config.id;
        self.role = Role::Candidate;
    }

    fn become_leader(&mut self) {
        assert!(self.role == Role::Candidate, "only a candidate wins");
        self.reset(self.term);
        self.leader = self.config.id;
        self.role = Role::Leader;
        let own = self.members.progress.get_mut(&self.config.id).expect("a candidate is a member");
        own.become_replicate();
        own.recent_active = true;
        // A change may hide in what is not committed yet: wait for all of it.
        self.pending_conf = self.log.last();
        self.append_first_entry();
    }

    fn reset(&mut self, term: Term) {
        if self.term != term {
            assert!(term > self.term, "terms never fall");
            self.term = term;
            self.vote = MemberId::NONE;
        }
        self.leader = MemberId::NONE;
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.patience = self.config.draw_patience(&mut self.dice);
        self.early = 0;
        self.supporters.clear();
        self.transferee = MemberId::NONE;
        self.votes.clear();
        self.pending_conf = Index(0);
        self.uncommitted_bytes = 0;
        self.reads = ReadRounds::default();
        self.acknowledged = Index(0);
        self.echo_due = false;
        self.append_due = false;
        self.heartbeat_due = false;
        let next = self.log.last().next();
        for (id, progress) in &mut self.members.progress {
            let is_learner = progress.is_learner;
            *progress = Progress::new(next, self.members.window.clone(), is_learner);
            if *id == self.config.id {
                progress.matched = self.log.durable();
            }
        }
    }
}
