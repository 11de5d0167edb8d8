//! Reads without a log entry (raft thesis, 6.4): note the commit index, let a
//! quorum confirm that nobody else leads, then read at that index.
//!
//! A round is numbered by how many reads were asked before it; the number travels
//! in heartbeats, and confirming a number confirms all below.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainstay_types::{Index, MemberId, Term, limits};

use crate::raft::{ProposeError, Raft};
use crate::{Entry, Message, MessageKind, ReadState, Role, StepError};

#[derive(Debug)]
struct ReadRequest {
    /// [`MemberId::NONE`] for our own.
    from: MemberId,
    context: Bytes,
}

/// The reads of one term.
#[derive(Debug, Default)]
pub(crate) struct ReadRounds {
    /// Asked before the term's first commit: the commit index is not known to be right.
    early: Vec<ReadRequest>,
    /// Asked and not confirmed, with the index they may be served at.
    waiting: VecDeque<(ReadRequest, Index)>,
    confirmed: u64,
    acknowledged: BTreeMap<MemberId, u64>,
}

impl ReadRounds {
    /// The number of the newest round, as heartbeats carry it; empty if nothing waits.
    pub(crate) fn context(&self) -> Bytes {
        if self.waiting.is_empty() {
            return Bytes::new();
        }
        Bytes::copy_from_slice(&self.newest().to_le_bytes())
    }

    fn newest(&self) -> u64 {
        self.confirmed + self.waiting.len() as u64
    }

    fn is_full(&self) -> bool {
        self.waiting.len() + self.early.len() >= limits::READS_UNCONFIRMED_MAX
    }
}

impl Raft {
    /// Asks for an index at which reads under `ctx` are linearizable; it comes as a
    /// [`ReadState`], or not at all when the leader changes or a message gets lost.
    ///
    /// # Errors
    /// When there is no leader, or too many reads wait.
    pub fn read_index(&mut self, ctx: u64) -> Result<(), ProposeError> {
        let context = Bytes::copy_from_slice(&ctx.to_be_bytes());
        match self.role {
            Role::Leader => self.lead_read(ReadRequest { from: MemberId::NONE, context }),
            Role::Follower if self.leader != MemberId::NONE => {
                self.pass_read_on(
                    vec![Entry { data: context, ..Entry::default() }],
                    self.config.id,
                );
                Ok(())
            }
            Role::Follower | Role::PreCandidate | Role::Candidate => Err(ProposeError::NoLeader),
        }
    }

    pub(crate) fn take_read(&mut self, message: Message) -> Result<(), StepError> {
        let [entry] = message.entries.as_slice() else {
            return Err(StepError::Malformed(MessageKind::ReadIndex, "not exactly one entry"));
        };
        match self.role {
            Role::Leader => {
                let context = entry.data.clone();
                Ok(self.lead_read(ReadRequest { from: message.from, context })?)
            }
            Role::Follower if self.leader != MemberId::NONE && self.leader != message.from => {
                self.pass_read_on(message.entries, message.from);
                Ok(())
            }
            Role::Follower | Role::PreCandidate | Role::Candidate => {
                Err(ProposeError::NoLeader.into())
            }
        }
    }

    /// The answer goes straight to `from`.
    fn pass_read_on(&mut self, entries: Vec<Entry>, from: MemberId) {
        let to = self.leader;
        self.send(Message { kind: MessageKind::ReadIndex, to, entries, ..Message::default() });
        if let Some(message) = self.outbox.messages.last_mut() {
            message.from = from;
        }
    }

    fn lead_read(&mut self, request: ReadRequest) -> Result<(), ProposeError> {
        if self.reads.is_full() {
            return Err(ProposeError::TooMuchUncommitted);
        }
        if self.log.term(self.log.committed()) == Some(self.term) {
            self.start_read(request);
        } else {
            self.reads.early.push(request);
        }
        Ok(())
    }

    fn start_read(&mut self, request: ReadRequest) {
        self.reads.waiting.push_back((request, self.log.committed()));
        self.reads.acknowledged.insert(self.config.id, self.reads.newest());
        self.confirm_reads();
        self.heartbeat_due |= !self.reads.waiting.is_empty();
    }

    /// The term has its first commit.
    pub(crate) fn release_early_reads(&mut self) {
        for request in std::mem::take(&mut self.reads.early) {
            self.start_read(request);
        }
    }

    pub(crate) fn take_read_acknowledgment(&mut self, from: MemberId, context: &[u8]) {
        let Ok(number) = <[u8; 8]>::try_from(context).map(u64::from_le_bytes) else { return };
        // A number that was never given out confirms nothing.
        if number <= self.reads.newest() {
            let acknowledged = self.reads.acknowledged.entry(from).or_default();
            *acknowledged = number.max(*acknowledged);
            self.confirm_reads();
        }
    }

    fn confirm_reads(&mut self) {
        let acknowledged = &self.reads.acknowledged;
        let number =
            self.members.conf.reached(|id| acknowledged.get(&id).copied().unwrap_or_default());
        while self.reads.confirmed < number {
            let Some((request, index)) = self.reads.waiting.pop_front() else { break };
            self.reads.confirmed += 1;
            self.answer_read(request, index);
        }
    }

    fn answer_read(&mut self, request: ReadRequest, index: Index) {
        if request.from == MemberId::NONE || request.from == self.config.id {
            // Our own contexts are 8 bytes; others' never come home.
            if let Ok(ctx) = <[u8; 8]>::try_from(request.context.as_ref()) {
                let ctx = u64::from_be_bytes(ctx);
                self.outbox.read_states.push(ReadState { ctx, index });
            }
            return;
        }
        self.send(Message {
            kind: MessageKind::ReadIndexResp,
            to: request.from,
            term: Term(0),
            index,
            entries: vec![Entry { data: request.context, ..Entry::default() }],
            ..Message::default()
        });
    }

    pub(crate) fn take_read_response(&mut self, message: &Message) -> Result<(), StepError> {
        let malformed = |what| StepError::Malformed(MessageKind::ReadIndexResp, what);
        let [entry] = message.entries.as_slice() else {
            return Err(malformed("not exactly one entry"));
        };
        let ctx =
            <[u8; 8]>::try_from(entry.data.as_ref()).map_err(|_| malformed("a foreign context"))?;
        if self.role == Role::Follower {
            let ctx = u64::from_be_bytes(ctx);
            self.outbox.read_states.push(ReadState { ctx, index: message.index });
        }
        Ok(())
    }
}
