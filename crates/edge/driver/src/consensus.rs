//! Consensus: feeds the member's mind and carries out its effects.
//!
//! It owns raft and nothing else, and is worked on by one thread at a time, see `desk`.
//! A leader with followers never waits for a disk: entries to persist go to the log
//! thread, committed ones to the apply thread, and both tell their progress through a
//! cell each. A lone voter has nobody to wait for it, and writes its log itself; a
//! follower writes where its leader's messages arrive, while the disk is quick.

pub(crate) mod desk;
mod peers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mainstay_failpoints::fail_point;
use mainstay_member::{Effect, Input, Member};
use mainstay_raft::{ConfChange, Entry, EntryKind, Mark, Message, PeerStatus, Role, Snapshot};
use mainstay_types::{Index, MemberId, Term};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::apply_thread::Applier;
use crate::courier::{self, Letter, Mailbox, Post};
use crate::handle::{RequestError, RequestField};
use crate::log_thread::{LogHandle, Persist};
use crate::queue::Receiver;
use crate::shared::Shared;
use crate::transport::DbCopy;
use desk::Place;

/// Commands taken in one turn, so that one Persist covers everything that waits.
const TURN_COMMANDS_MAX: usize = 4096;

/// Entries of a turn that are applied where they commit; more are worth a wake-up.
const APPLIED_HERE_MAX: usize = 4;
/// Bytes of such an entry.
const APPLIED_HERE_BYTES_MAX: usize = 16 * 1024;
/// Bytes that a follower writes where they arrive; more are worth a wake-up.
const WRITTEN_HERE_BYTES_MAX: usize = 256 * 1024;
/// Orders that the log and the apply thread may be behind for others to work here: the
/// queues are longer, so that nobody else than the consensus thread waits for room.
pub(crate) const ORDERS_BEHIND_MAX: usize = 256;

/// What others want of the consensus thread.
pub(crate) enum Command {
    /// Append an encoded InternalRaftRequest; its slot is in the waiters' table.
    Propose { id: u64, data: Bytes },
    /// As `Propose`, but only while this member leads in `term`.
    ProposeAsLeader { id: u64, term: Term, data: Bytes },
    /// Append a change of the configuration; its slot is in the waiters' table.
    ProposeChange { id: u64, change: ConfChange },
    /// Tell when this member's view reflects everything acknowledged before.
    Read { slot: ReadSlot },
    /// A message from another member, and what it counts in the inbox.
    Peer { message: Message, bytes: usize },
    /// Proposals for a leader that never left this member.
    Unsent(Message),
    /// A message to this member was lost, or its connection.
    Unreachable(MemberId),
    /// The host of this member says that it does not run any more.
    Gone(MemberId),
    /// Hand leadership to this member.
    Transfer(MemberId),
    /// What a leader knows about everyone.
    Peers { slot: oneshot::Sender<Vec<PeerStatus>> },
    /// The log, the apply or another thread of this member has something to tell.
    Wake,
    /// End.
    Stop,
}

/// Where the answer to a read goes, and by whose hand.
pub(crate) struct ReadSlot {
    sender: oneshot::Sender<Result<(), RequestError>>,
    mailbox: Option<Arc<Mailbox>>,
}

impl ReadSlot {
    /// For a task, or the whole, of the calling thread.
    pub(crate) fn here() -> (ReadSlot, oneshot::Receiver<Result<(), RequestError>>) {
        let (sender, answer) = oneshot::channel();
        (ReadSlot { sender, mailbox: courier::mailbox() }, answer)
    }

    /// Whether nobody waits for it any more.
    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// What is worked on at the desk.
pub(crate) struct Consensus {
    shared: Arc<Shared>,
    member: Member,
    log: LogHandle,
    applier: Arc<Mutex<Applier>>,
    commands: Receiver<Command>,
    /// On whose thread this turn is.
    place: Place,
    effects: Vec<Effect>,
    next_tick: Duration,
    /// Applied index last told to the member.
    applied: Index,
    /// What was committed when this member was first known to lead alone.
    lone_since: Option<Index>,
    /// The newest mark that went to the log, and the newest that came back.
    marks: (Mark, Mark),
    read_ctx: u64,
    /// Reads that a round will confirm, by context.
    asking: BTreeMap<u64, Vec<ReadSlot>>,
    /// Confirmed reads that wait for their index to be applied.
    waiting: BTreeMap<Index, Vec<ReadSlot>>,
    /// A leader's snapshot on its way to the log, to be installed once it is durable.
    installing: Option<(Mark, Box<Snapshot>)>,
    /// Files of snapshots whose messages raft is about to send.
    outgoing: BTreeMap<MemberId, Arc<dyn DbCopy>>,
    /// Whether the first election may come early: the others are there already.
    advance_due: bool,
    /// The leader and term last told.
    told: (MemberId, Term),
    /// The member was told to stop.
    ending: bool,
}

impl Consensus {
    pub(crate) fn new(
        shared: Arc<Shared>,
        member: Member,
        log: LogHandle,
        applier: Arc<Mutex<Applier>>,
        commands: Receiver<Command>,
    ) -> Consensus {
        let next_tick = shared.clock.now() + shared.options.tick;
        let applied = Index(shared.cells.applied.load(Ordering::Acquire));
        let advance_due = shared.options.initial_election_tick_advance;
        Consensus {
            shared,
            member,
            log,
            applier,
            commands,
            place: Place::Own,
            effects: Vec::new(),
            next_tick,
            applied,
            lone_since: None,
            marks: (Mark(0), Mark(0)),
            read_ctx: 0,
            asking: BTreeMap::new(),
            waiting: BTreeMap::new(),
            installing: None,
            outgoing: BTreeMap::new(),
            advance_due,
            told: (MemberId::NONE, Term(0)),
            ending: false,
        }
    }

    /// What the start itself wants to be done; answers how long nothing is due then.
    fn begin(&mut self) -> Duration {
        self.carry_out();
        self.patience()
    }

    /// Works through what waits.
    fn work(&mut self, place: Place) -> Flow {
        self.place = place;
        if self.ending || self.turn() == Flow::End {
            self.ending = true;
            return Flow::End;
        }
        self.tick_when_due();
        self.take_progress();
        self.carry_out();
        Flow::Go
    }

    /// Until the next tick.
    fn patience(&self) -> Duration {
        self.next_tick.saturating_sub(self.shared.clock.now())
    }

    /// Whether nobody has to wait for room in a queue.
    fn is_calm(&self) -> bool {
        self.log.queued().max(self.shared.apply.queued()) < ORDERS_BEHIND_MAX
    }

    /// The last of it: nobody is answered any more.
    fn end(&mut self) {
        self.refuse_all_reads(&RequestError::Stopped);
    }

    /// Feeds whatever waits.
    fn turn(&mut self) -> Flow {
        // Who proposes a change because the one before is answered finds it applied here too.
        self.take_applied();
        let mut reads = Vec::new();
        let mut taken = 0;
        while let Some(command) = self.commands.try_recv() {
            match command {
                Command::Propose { id, data } => self.feed(Input::Propose { id, data }),
                Command::ProposeAsLeader { id, term, data } => {
                    let status = self.member.status();
                    // While it hands over, the mind holds proposals for the next leader.
                    let leads = status.role == Role::Leader && status.transferee.is_none();
                    if leads && status.term == term {
                        self.feed(Input::Propose { id, data });
                    }
                }
                Command::ProposeChange { id, change } => {
                    self.feed(Input::ProposeConfChange { id, change });
                }
                Command::Read { slot } => reads.push(slot),
                Command::Peer { message, bytes } => self.take_message(message, bytes),
                Command::Unsent(message) => self.feed(Input::Unsent(message)),
                Command::Unreachable(peer) => self.feed(Input::Unreachable(peer)),
                Command::Gone(peer) => self.feed(Input::Gone(peer)),
                Command::Transfer(to) => self.feed(Input::TransferLeader(to)),
                Command::Peers { slot } => {
                    // Whoever asked may have gone.
                    let _ = slot.send(self.member.peers());
                }
                Command::Wake => {}
                Command::Stop => return Flow::End,
            }
            taken += 1;
            if taken == TURN_COMMANDS_MAX {
                self.shared.consensus.ring();
                break;
            }
        }
        if !reads.is_empty() {
            self.read_ctx += 1;
            self.asking.insert(self.read_ctx, reads);
            self.feed(Input::ReadIndex(self.read_ctx));
        }
        Flow::Go
    }

    fn tick_when_due(&mut self) {
        let now = self.shared.clock.now();
        if now < self.next_tick {
            return;
        }
        self.count_late_heartbeats(now);
        self.feed(Input::Tick);
        self.forget_who_gave_up();
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.shared.cells.ticked_ms.store(millis, Ordering::Release);
        // After a pause (SIGSTOP, a stalled machine) missed ticks are not made up
        // for: they would only trigger elections.
        self.next_tick = now + self.shared.options.tick;
    }

    /// etcd counts a heartbeat that leaves more than an interval late, for each follower.
    fn count_late_heartbeats(&self, now: Duration) {
        let late = now.saturating_sub(self.next_tick) > self.shared.options.tick;
        if late && self.shared.leads() {
            let followers = self.member.peers().len().saturating_sub(1);
            self.shared.stats.heartbeat_failures.add(followers as u64);
        }
    }

    fn take_progress(&mut self) {
        if let Some(mark) = self.log.take_persisted() {
            self.persisted(mark);
        }
        self.take_applied();
    }

    /// Waits for what is on its way to the log and carries out what follows; then a
    /// tick makes raft write down how far it has committed (see `Output`), so that
    /// whoever opens the log next knows it at once.
    fn settle(&mut self) {
        self.place = Place::Own;
        loop {
            self.take_progress();
            self.carry_out();
            if self.marks.1 >= self.marks.0 || self.shared.stop.reason().is_some() {
                break;
            }
            // Whatever it is, it comes too late, but for progress.
            let _ = self.commands.recv_timeout(self.shared.options.tick);
        }
        self.feed(Input::Tick);
        self.carry_out();
    }

    fn take_applied(&mut self) {
        // Loaded first: a change is noted before the entry that it is in counts as applied.
        let applied = Index(self.shared.cells.applied.load(Ordering::Acquire));
        self.take_notes();
        if applied > self.applied {
            self.applied = applied;
            self.feed(Input::Applied(applied));
            self.answer_reads();
        }
    }

    fn feed(&mut self, input: Input) {
        self.member.feed(input);
    }

    fn carry_out(&mut self) {
        self.member.flush(&mut self.effects);
        // What is durable at once may commit, and commits are carried out at once too.
        while !self.effects.is_empty() {
            // Told first: the apply thread asks who leads when it applies a term's first entry.
            self.tell_standing();
            if self.shared.leads() {
                fail_point!("raftBeforeLeaderSend");
            }
            for effect in std::mem::take(&mut self.effects) {
                self.carry_out_one(effect);
            }
            fail_point!("raftBeforeAdvance");
            self.member.flush(&mut self.effects);
        }
        if !self.outgoing.is_empty() {
            self.drop_unwanted_snapshots();
        }
        self.tell_standing();
    }

    fn persist(&mut self, persist: Persist) {
        self.marks.0 = persist.mark;
        if !self.writes_here(&persist) {
            return self.log.persist(persist);
        }
        // In order: what the log thread wrote came before.
        let earlier = self.log.take_persisted();
        for mark in earlier.into_iter().chain(self.log.persist_here(persist)) {
            self.persisted(mark);
        }
    }

    /// Whether a write is done on this thread, see [`LogHandle::persist_here`].
    fn writes_here(&self, persist: &Persist) -> bool {
        match self.place {
            Place::Own => self.member.is_lone_leader(),
            Place::Peer => {
                let bytes: usize = persist.entries.iter().map(|entry| entry.data.len()).sum();
                self.member.status().role != Role::Leader
                    && persist.snapshot.is_none()
                    && bytes <= WRITTEN_HERE_BYTES_MAX
                    && self.log.is_quick()
            }
            Place::Shard | Place::Log | Place::Apply => false,
        }
    }

    fn persisted(&mut self, mark: Mark) {
        // The log thread's may be looked at after a newer one that was written here.
        self.marks.1 = self.marks.1.max(mark);
        self.install_when_durable(mark);
        self.feed(Input::Persisted(mark));
    }

    /// A few small entries are applied here: of any kind where nobody waits for this
    /// member's heartbeats meanwhile, puts elsewhere.
    fn apply(&mut self, entries: Vec<Entry>) {
        let alone = self.member.is_lone_leader();
        let few = entries.len() <= APPLIED_HERE_MAX
            && entries.iter().all(|entry| {
                // A configuration change tells this thread, which must not wait for itself.
                entry.kind == EntryKind::Normal
                    && entry.data.len() <= APPLIED_HERE_BYTES_MAX
                    && (alone || is_put(&entry.data))
            });
        if few && self.place != Place::Apply {
            self.shared.apply.apply_here(&self.applier, entries);
            self.take_applied();
        } else {
            self.shared.apply.apply(entries);
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { snapshot, hard_state, entries, must_sync, mark, then_send } => {
                if let Some(snapshot) = &snapshot {
                    self.installing = Some((mark, snapshot.clone()));
                }
                let then_send = self.sendable(then_send);
                self.persist(Persist { snapshot, hard_state, entries, must_sync, mark, then_send });
            }
            Effect::Send(messages) => self.send(messages),
            Effect::SendSnapshot { to } => self.shared.committer.snapshot_for(to),
            Effect::Ignored { from, error } => {
                tracing::warn!("remote-peer-id" = %from, %error, "ignored a message that makes no sense");
            }
            Effect::Apply(entries) => self.apply(entries),
            Effect::ReadReady { ctx, index } => self.read_confirmed(ctx, index),
            Effect::Refuse { id, reason } => {
                tracing::debug!(%reason, "proposal refused");
                self.shared.cells.proposals_failed.fetch_add(1, Ordering::Relaxed);
                self.shared.waiters.fill(id, Err(RequestError::TooManyRequests));
            }
            // Taken at whatever is applied by then, which is at or behind it.
            Effect::TakeSnapshot { .. } => self.shared.apply.take_snapshot(),
            Effect::ReleaseLog { .. } => {}
            Effect::LeaderChanged { role, leader, term } => {
                self.leader_changed(role, leader.unwrap_or(MemberId::NONE), term);
            }
        }
    }

    /// Rounds are confirmed in order: an answer for `ctx` answers all before it.
    fn read_confirmed(&mut self, ctx: u64, index: Index) {
        let later = self.asking.split_off(&(ctx + 1));
        for (_, slots) in std::mem::replace(&mut self.asking, later) {
            self.waiting.entry(index).or_default().extend(slots);
        }
        self.answer_reads();
    }

    fn answer_reads(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let later = self.waiting.split_off(&self.applied.next());
        let ready = std::mem::replace(&mut self.waiting, later);
        answer(ready.into_values().flatten(), &Ok(()));
    }

    fn refuse_all_reads(&mut self, error: &RequestError) {
        let asking = std::mem::take(&mut self.asking).into_values();
        let waiting = std::mem::take(&mut self.waiting).into_values();
        answer(asking.chain(waiting).flatten(), &Err(error.clone()));
    }

    fn tell_standing(&mut self) {
        let status = self.member.status();
        let cells = &self.shared.cells;
        let leader = status.leader.unwrap_or(MemberId::NONE);
        cells.term.store(status.term.0, Ordering::Release);
        cells.committed.store(status.commit.0, Ordering::Release);
        cells.leader.store(leader.0, Ordering::Release);
        // Its view is linearizable at once only from when it shows all that was committed
        // before: after a start the log is still being applied.
        let lone = self.member.is_lone_leader();
        self.lone_since = lone.then(|| self.lone_since.unwrap_or(status.commit));
        let shown = self.lone_since.is_some_and(|since| self.applied >= since);
        cells.lone_leader.store(shown, Ordering::Release);
        self.shared.consensus.reserve(lone || self.ending);
    }
}

/// Gives many readers their answer; a thread that gathers wakes once.
fn answer(slots: impl Iterator<Item = ReadSlot>, answer: &Result<(), RequestError>) {
    let mut post = Post::default();
    for ReadSlot { sender, mailbox } in slots {
        post.add(mailbox, Letter::Read(sender, answer.clone()));
    }
}

/// Whether an entry is an InternalRaftRequest with a put and nothing else that takes time:
/// whatever the key space holds, that is done in microseconds.
fn is_put(mut data: &[u8]) -> bool {
    use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
    const ID: u32 = 1;
    const PUT: u32 = RequestField::Put as u32;
    const HEADER: u32 = 100;
    let mut is_put = false;
    while !data.is_empty() {
        let Ok((field, wire)) = decode_key(&mut data) else { return false };
        match (field, wire) {
            (ID, WireType::Varint) | (HEADER, WireType::LengthDelimited) => {}
            (PUT, WireType::LengthDelimited) => is_put = true,
            _ => return false,
        }
        if skip_field(wire, field, &mut data, DecodeContext::default()).is_err() {
            return false;
        }
    }
    is_put
}

#[derive(PartialEq, Eq)]
enum Flow {
    Go,
    End,
}
