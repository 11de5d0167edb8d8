//! The state of a member, its birth, and who handles which message.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_types::{Index, MemberId, Term};

use crate::change::Members;
use crate::config::Dice;
use crate::log::Log;
use crate::output::Outbox;
use crate::progress::Inflights;
use crate::read::ReadRounds;
use crate::{
    ConfChange, ConfChangeKind, ConfChangeV2, ConfState, Config, Entry, EntryKind, HardState,
    LogStart, Message, MessageKind, Peer, Role, SoftState, StartError,
};

/// Terms and indexes of peers end here, so that counting on never overflows.
const NUMBER_MAX: u64 = u64::MAX >> 1;

/// One member of a raft group. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct Raft {
    pub(crate) config: Config,
    pub(crate) dice: Dice,
    pub(crate) term: Term,
    pub(crate) vote: MemberId,
    pub(crate) leader: MemberId,
    pub(crate) role: Role,
    pub(crate) log: Log,
    pub(crate) members: Members,
    /// The votes of the election under way.
    pub(crate) votes: BTreeMap<MemberId, bool>,
    /// Who said, before this member became a candidate, that they would vote for it.
    pub(crate) supporters: Vec<MemberId>,
    pub(crate) election_elapsed: u32,
    pub(crate) heartbeat_elapsed: u32,
    /// The election timeout drawn for this time.
    pub(crate) patience: u32,
    /// Ticks until pre-votes are asked for without waiting for that: the leader is gone, or
    /// an election came to nothing; 0 for never.
    pub(crate) early: u32,
    /// Who shall lead next, while the leader hands over.
    pub(crate) transferee: MemberId,
    /// No configuration change is appended before this is applied.
    pub(crate) pending_conf: Index,
    pub(crate) uncommitted_bytes: u64,
    pub(crate) reads: ReadRounds,
    /// Proposals of a follower on their way to the leader.
    pub(crate) forwarding: Vec<Entry>,
    /// The highest position that this term's leader was told we have.
    pub(crate) acknowledged: Index,
    /// It was told of a commit index since, and has no answer yet.
    pub(crate) echo_due: bool,
    /// Followers shall be brought up to date when the output is taken.
    pub(crate) append_due: bool,
    /// A heartbeat shall leave when the output is taken.
    pub(crate) heartbeat_due: bool,
    pub(crate) outbox: Outbox,
}

/// Why a proposal was not taken. Nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nobody leads at the moment; the caller may try again.
    #[error("no leader")]
    NoLeader,
    /// The leader is handing over; the caller may try again.
    #[error("leadership is being transferred")]
    Transferring,
    /// Too many bytes wait to be committed; the caller may try again.
    #[error("too many uncommitted proposals")]
    TooMuchUncommitted,
    /// This leader was removed from the configuration.
    #[error("removed from the cluster")]
    Removed,
}

/// Why a peer's message was not taken. It changed nothing but, possibly, the term.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The kind is never sent between members.
    #[error("{0:?} is never sent between members")]
    Local(MessageKind),
    /// It answers for a member that is not in the configuration.
    #[error("an answer from {0}, which is not a member")]
    UnknownPeer(MemberId),
    /// It has no term, or no sender.
    #[error("{0:?} without a term or a sender")]
    Incomplete(MessageKind),
    /// Entries with a gap, falling or future terms, or of the wrong kind.
    #[error("malformed {0:?}: {1}")]
    Malformed(MessageKind, &'static str),
    /// Another member claims to lead the term that this one leads.
    #[error("{0} claims to lead term {1}, which {2} leads")]
    TwoLeaders(MemberId, Term, MemberId),
    /// The leader relies on entries that this member does not have, though it once
    /// acknowledged them: the log was damaged, cut, or lost.
    #[error("the leader relies on entry {commit}, but the log ends at {last}: was it cut or lost?")]
    CommitBeyondLog {
        /// What the leader relies on.
        commit: Index,
        /// The end of the log here.
        last: Index,
    },
    /// The leader would replace an entry that is committed here.
    #[error("the leader would replace entry {0}, which is committed")]
    ReplacesCommitted(Index),
    /// A forwarded proposal was dropped.
    #[error("dropped a forwarded proposal: {0}")]
    Dropped(#[from] ProposeError),
}

impl Raft {
    /// A member as storage remembers it. It starts as a follower.
    ///
    /// # Errors
    /// When what storage holds contradicts itself.
    pub fn new(
        config: Config,
        hard_state: HardState,
        conf_state: ConfState,
        start: LogStart,
    ) -> Result<Raft, StartError> {
        config.check()?;
        let log = Log::new(start, config.applied, hard_state.commit)?;
        let window = Inflights::new(config.max_inflight_messages, config.max_inflight_bytes);
        let members =
            Members::restore(window, &conf_state, log.last()).map_err(StartError::Conf)?;
        let mut raft = Raft {
            // Members with the same seed must not draw the same timeouts.
            dice: Dice::new(config.seed ^ config.id.0.wrapping_mul(0xd6e8_feb8_6659_fd93)),
            term: hard_state.term,
            vote: hard_state.vote,
            leader: MemberId::NONE,
            role: Role::Follower,
            log,
            members,
            votes: BTreeMap::new(),
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            patience: 0,
            early: 0,
            supporters: Vec::new(),
            transferee: MemberId::NONE,
            pending_conf: Index(0),
            uncommitted_bytes: 0,
            reads: ReadRounds::default(),
            forwarding: Vec::new(),
            acknowledged: Index(0),
            echo_due: false,
            append_due: false,
            heartbeat_due: false,
            outbox: Outbox::default(),
            config,
        };
        raft.outbox.told_hard_state = raft.hard_state();
        raft.outbox.durable_vote = (raft.term, raft.vote);
        raft.become_follower(raft.term, MemberId::NONE);
        Ok(raft)
    }

    /// The first members of a new cluster: each comes to life with the same log, one
    /// committed change per peer, in the given order and in term 1, as etcd does it.
    ///
    /// # Errors
    /// When `config` contradicts itself.
    pub fn bootstrap(config: Config, peers: Vec<Peer>) -> Result<Raft, StartError> {
        if peers.is_empty() {
            return Err(StartError::Conf("a cluster has at least one member"));
        }
        let conf = ConfState::default();
        let mut raft = Raft::new(config, HardState::default(), conf, LogStart::default())?;
        raft.become_follower(Term(1), MemberId::NONE);
        for Peer { id, context } in peers {
            let change = ConfChange { id: 0, kind: ConfChangeKind::AddNode, node: id, context };
            raft.log.push(Entry {
                term: Term(1),
                index: raft.log.last().next(),
                kind: EntryKind::ConfChange,
                data: change.encode(),
            });
            let changed = raft.members.changed(&change.into(), raft.log.last());
            raft.members = changed.map_err(StartError::Conf)?;
        }
        let fits = raft.log.commit_to(raft.log.last());
        assert!(fits, "the log reaches to its end");
        Ok(raft)
    }

    /// Takes a message from a peer.
    ///
    /// # Errors
    /// When the message makes no sense here. The caller may log it; nothing else follows.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        let kind = message.kind;
        if kind.is_local() {
            return Err(StepError::Local(kind));
        }
        if message.from == MemberId::NONE || (message.term == Term(0) && !kind.is_termless()) {
            return Err(StepError::Incomplete(kind));
        }
        // Only what travels through others may come home.
        let travels = kind.is_termless() || kind == MessageKind::TransferLeader;
        if message.from == self.config.id && !travels {
            return Err(StepError::Malformed(kind, "it claims to come from here"));
        }
        let positions = [message.index, message.commit, message.reject_hint];
        let snapshot = message.snapshot.as_ref().map(|snapshot| snapshot.index);
        if message.term.0 > NUMBER_MAX
            || positions.into_iter().chain(snapshot).any(|index| index.0 > NUMBER_MAX)
        {
            return Err(StepError::Malformed(kind, "a number out of range"));
        }
        if kind.is_response() && !self.members.progress.contains_key(&message.from) {
            return Err(StepError::UnknownPeer(message.from));
        }
        if !kind.is_termless() && !self.reconcile_term(&message) {
            return Ok(());
        }
        match kind {
            MessageKind::Vote | MessageKind::PreVote => self.answer_vote(&message),
            MessageKind::VoteResp | MessageKind::PreVoteResp => self.take_vote(&message),
            MessageKind::App => self.take_append(message)?,
            MessageKind::Heartbeat => self.take_heartbeat(message)?,
            MessageKind::Snap => self.take_snapshot(message)?,
            MessageKind::AppResp => self.take_append_response(&message)?,
            MessageKind::HeartbeatResp => self.take_heartbeat_response(&message),
            MessageKind::Prop => self.take_forwarded(message)?,
            MessageKind::TransferLeader => self.take_transfer(message),
            MessageKind::TimeoutNow => self.take_timeout_now(),
            MessageKind::ReadIndex => self.take_read(message)?,
            MessageKind::ReadIndexResp => self.take_read_response(&message)?,
            MessageKind::ForgetLeader => self.forget_leader(),
            MessageKind::Hup
            | MessageKind::Beat
            | MessageKind::Unreachable
            | MessageKind::SnapStatus
            | MessageKind::CheckQuorum
            | MessageKind::StorageAppend
            | MessageKind::StorageAppendResp
            | MessageKind::StorageApply
            | MessageKind::StorageApplyResp => return Err(StepError::Local(kind)),
        }
        Ok(())
    }

    /// Proposes `data` for the state machine. A follower forwards it; it may get lost.
    ///
    /// # Errors
    /// When there is no leader, or the leader takes no proposals now.
    pub fn propose(&mut self, data: Bytes) -> Result<(), ProposeError> {
        self.propose_entries(vec![Entry { data, ..Entry::default() }])
    }

    /// Proposes several at once: all are taken, or none.
    ///
    /// # Errors
    /// As [`Raft::propose`].
    pub fn propose_batch(&mut self, batch: Vec<Bytes>) -> Result<(), ProposeError> {
        if batch.is_empty() {
            return Ok(());
        }
        let entry = |data| Entry { data, ..Entry::default() };
        self.propose_entries(batch.into_iter().map(entry).collect())
    }

    /// Proposes to change one member. While another change is unapplied, the entry
    /// becomes an empty one, so that the log stays in step.
    ///
    /// # Errors
    /// As [`Raft::propose`].
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), ProposeError> {
        let kind = EntryKind::ConfChange;
        self.propose_entries(vec![Entry { kind, data: change.encode(), ..Entry::default() }])
    }

    /// Proposes to change several members, or to leave a joint configuration.
    ///
    /// # Errors
    /// As [`Raft::propose`].
    pub fn propose_conf_change_v2(&mut self, change: &ConfChangeV2) -> Result<(), ProposeError> {
        let kind = EntryKind::ConfChangeV2;
        self.propose_entries(vec![Entry { kind, data: change.encode(), ..Entry::default() }])
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<(), ProposeError> {
        if self.role == Role::Leader {
            return self.append_proposals(entries).map_err(|refusal| match refusal {
                StepError::Dropped(error) => error,
                other => panic!("a proposal of our own is well-formed: {other}"),
            });
        }
        if self.leader == MemberId::NONE {
            return Err(ProposeError::NoLeader);
        }
        self.forwarding.extend(entries);
        Ok(())
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        let leader = (self.leader != MemberId::NONE).then_some(self.leader);
        SoftState { leader, term: self.term, role: self.role }
    }

    /// Sends what was put off to share messages.
    pub(crate) fn send_what_is_due(&mut self) {
        self.forward_proposals();
        if std::mem::take(&mut self.append_due) && self.role == Role::Leader {
            self.broadcast_append();
        }
        if std::mem::take(&mut self.heartbeat_due) && self.role == Role::Leader {
            self.broadcast_heartbeat();
        }
    }

    pub(crate) fn is_sending_due(&self) -> bool {
        (!self.forwarding.is_empty() && self.leader != MemberId::NONE)
            || (self.role == Role::Leader && (self.append_due || self.heartbeat_due))
    }

    /// Sends a message in the current term, now.
    pub(crate) fn send(&mut self, message: Message) {
        let message = self.signed(message);
        self.outbox.messages.push(message);
    }

    /// Sends a message in the current term, after what it promises is durable.
    pub(crate) fn send_after_persist(&mut self, message: Message) {
        let message = self.signed(message);
        self.outbox.after_persist.push(message);
    }

    fn signed(&self, mut message: Message) -> Message {
        assert!(message.to != self.config.id, "nobody writes to himself");
        message.from = self.config.id;
        if !message.kind.is_termless() && message.term == Term(0) {
            message.term = self.term;
        }
        message
    }
}
