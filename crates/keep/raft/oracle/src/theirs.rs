//! A core of theirs with a disk that may lose what is not synced.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use mainstay_raft::{ConfState, Config, Entry, Message, ReadState, Role, Snapshot};
use mainstay_types::{Index, MemberId, Term};
use raft::eraftpb::{self, HardState};
use raft::storage::GetEntriesContext;
use raft::{RaftState, RawNode, SnapshotStatus, StateRole, Storage, StorageError};

use crate::{conf_to, entry_of, message_of, message_to, snapshot_of, snapshot_to};

/// What storage holds.
#[derive(Clone, Default)]
struct Image {
    hard_state: HardState,
    snapshot: Snapshot,
    entries: Vec<eraftpb::Entry>,
}

impl Image {
    fn write(&mut self, write: &Write) {
        if let Some(snapshot) = &write.snapshot {
            self.snapshot = snapshot.clone();
            self.entries.clear();
        }
        if let Some(first) = write.entries.first() {
            self.entries.retain(|kept| kept.index < first.index);
            self.entries.extend(write.entries.iter().cloned());
        }
        if let Some(hard_state) = &write.hard_state {
            self.hard_state = hard_state.clone();
        }
    }

    fn last(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.index.0, |entry| entry.index)
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.index.0 {
            return Some(self.snapshot.term.0);
        }
        self.entries.iter().find(|entry| entry.index == index).map(|entry| entry.term)
    }
}

struct Write {
    number: u64,
    hard_state: Option<HardState>,
    entries: Vec<eraftpb::Entry>,
    snapshot: Option<Snapshot>,
    then_send: Vec<Message>,
}

/// What the core reads: everything written, durable or not, and the applied state.
#[derive(Clone, Default)]
pub struct Store(Arc<Mutex<(Image, Snapshot)>>);

impl Store {
    fn lock(&self) -> MutexGuard<'_, (Image, Snapshot)> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let store = self.lock();
        let conf_state = conf_to(&store.0.snapshot.conf_state);
        Ok(RaftState { hard_state: store.0.hard_state.clone(), conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        let store = self.lock();
        if low <= store.0.snapshot.index.0 {
            return Err(StorageError::Compacted.into());
        }
        let within =
            store.0.entries.iter().filter(|entry| entry.index >= low && entry.index < high);
        let mut entries: Vec<_> = within.cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let store = self.lock();
        if index < store.0.snapshot.index.0 {
            return Err(StorageError::Compacted.into());
        }
        store.0.term(index).ok_or(StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.lock().0.snapshot.index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.lock().0.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<eraftpb::Snapshot> {
        let applied = &self.lock().1;
        if applied.index.0 < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        Ok(snapshot_to(applied))
    }
}

/// What one turn showed.
pub struct Seen {
    /// Entries that went to storage.
    pub appended: Vec<Entry>,
    /// Entries that were applied.
    pub applied: Vec<Entry>,
}

/// A running core of theirs.
pub struct Theirs {
    /// The core.
    pub node: RawNode<Store>,
    config: Config,
    store: Store,
    durable: Image,
    writes: VecDeque<Write>,
    /// What was applied, from the last snapshot on.
    pub applied: Vec<Entry>,
    /// Its index.
    pub applied_index: Index,
    /// The configuration, which does not change here.
    pub conf: ConfState,
    /// Reads that may be served.
    pub reads: Vec<ReadState>,
    /// Which life this is.
    pub life: u32,
}

fn core(config: &Config, store: Store, applied: Index) -> RawNode<Store> {
    let config = raft::Config {
        id: config.id.0,
        election_tick: config.election_tick as usize,
        heartbeat_tick: config.heartbeat_tick as usize,
        applied: applied.0,
        max_size_per_msg: config.max_size_per_message,
        max_inflight_msgs: config.max_inflight_messages,
        check_quorum: config.check_quorum,
        pre_vote: config.pre_vote,
        ..raft::Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, store, &logger).expect("what was stored can be started from")
}

impl Theirs {
    /// A core with the settings of ours that starts from a snapshot.
    pub fn new(config: Config, snapshot: Snapshot) -> Theirs {
        let hard_state =
            HardState { term: snapshot.term.0, commit: snapshot.index.0, ..Default::default() };
        let durable = Image { hard_state, snapshot: snapshot.clone(), entries: Vec::new() };
        let store = Store(Arc::new(Mutex::new((durable.clone(), snapshot.clone()))));
        Theirs {
            node: core(&config, store.clone(), snapshot.index),
            config,
            store,
            durable,
            writes: VecDeque::new(),
            applied: Vec::new(),
            applied_index: snapshot.index,
            conf: snapshot.conf_state,
            reads: Vec::new(),
            life: 0,
        }
    }

    /// Loses everything but the disk, which holds the first `kept` writes under way.
    pub fn crash(&mut self, kept: usize) {
        for write in self.writes.drain(..).take(kept) {
            self.durable.write(&write);
        }
        self.life += 1;
        let snapshot = self.durable.snapshot.clone();
        *self.store.lock() = (self.durable.clone(), snapshot.clone());
        self.node = core(&self.config, self.store.clone(), snapshot.index);
        self.applied.clear();
        self.applied_index = snapshot.index;
        self.reads.clear();
    }

    /// Sets the commit index that the disk holds: ours stores it later than theirs.
    pub fn stored_commit(&mut self, commit: Index) {
        self.durable.hard_state.commit = commit.max(self.durable.snapshot.index).0;
    }

    /// Takes a message from a peer. What it cannot take is part of the game.
    pub fn step(&mut self, message: &Message) {
        let _ = self.node.step(message_to(message));
    }

    /// Proposes; without a leader it is dropped.
    pub fn propose(&mut self, data: Bytes) {
        let _ = self.node.propose(Vec::new(), data.to_vec());
    }

    /// Asks for a read index.
    pub fn read_index(&mut self, ctx: u64) {
        self.node.read_index(ctx.to_be_bytes().to_vec());
    }

    /// Says how a snapshot went.
    pub fn report_snapshot(&mut self, to: MemberId, ok: bool) {
        let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
        self.node.report_snapshot(to.0, status);
    }

    /// What it is.
    pub fn role(&self) -> Role {
        match self.node.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    /// The term of an entry that is in its log.
    pub fn entry_term(&self, index: Index) -> Option<Term> {
        let term = self.node.raft.raft_log.term(index.0).ok()?;
        (index <= self.last() && index.0 + 1 >= self.first()).then_some(Term(term))
    }

    fn first(&self) -> u64 {
        self.node.raft.raft_log.first_index()
    }

    /// The end of its log.
    pub fn last(&self) -> Index {
        Index(self.node.raft.raft_log.last_index())
    }

    /// What it knows to be committed.
    pub fn commit(&self) -> Index {
        Index(self.node.raft.raft_log.committed)
    }

    /// Takes what is ready: queues the write, applies, and returns what to send now.
    pub fn turn(&mut self, wire: &mut Vec<Message>) -> Seen {
        let mut seen = Seen { appended: Vec::new(), applied: Vec::new() };
        if !self.node.has_ready() {
            return seen;
        }
        let mut ready = self.node.ready();
        let of =
            |messages: Vec<eraftpb::Message>| messages.iter().map(message_of).collect::<Vec<_>>();
        wire.extend(of(ready.take_messages()));
        for read in ready.take_read_states() {
            let ctx = read.request_ctx.as_slice().try_into().expect("a context of ours");
            self.reads.push(ReadState { ctx: u64::from_be_bytes(ctx), index: Index(read.index) });
        }
        let snapshot = Some(ready.snapshot()).filter(|snapshot| !snapshot.is_empty());
        let snapshot = snapshot.map(snapshot_of);
        if let Some(snapshot) = &snapshot {
            self.applied.clear();
            self.applied_index = snapshot.index;
            self.conf = snapshot.conf_state.clone();
        }
        let write = Write {
            number: ready.number(),
            hard_state: ready.hs().cloned(),
            entries: ready.take_entries(),
            snapshot,
            then_send: of(ready.take_persisted_messages()),
        };
        seen.appended = write.entries.iter().map(entry_of).collect();
        {
            let mut store = self.store.lock();
            store.0.write(&write);
            if let Some(snapshot) = &write.snapshot {
                store.1 = snapshot.clone();
            }
        }
        for entry in ready.take_committed_entries() {
            self.apply(entry_of(&entry), &mut seen);
        }
        // A core of theirs may not go on before a snapshot is stored and applied.
        let at_once = write.snapshot.is_some();
        self.writes.push_back(write);
        self.node.advance_append_async(ready);
        self.tell_applied();
        while at_once && self.persist_one(wire) {}
        seen
    }

    /// What is applied; a snapshot counts only once it is durable.
    fn tell_applied(&mut self) {
        let log = &self.node.raft.raft_log;
        let applied = self.applied_index.0.min(log.committed).min(log.persisted);
        if applied > log.applied {
            self.node.advance_apply_to(applied);
        }
    }

    fn apply(&mut self, entry: Entry, seen: &mut Seen) {
        assert_eq!(self.applied_index.next(), entry.index, "entries are applied without a gap");
        self.applied_index = entry.index;
        self.store.lock().1 = Snapshot {
            data: Bytes::from(format!("state at {}", entry.index)),
            index: entry.index,
            term: entry.term,
            conf_state: self.conf.clone(),
        };
        self.applied.push(entry.clone());
        seen.applied.push(entry);
    }

    /// The oldest write under way becomes durable.
    pub fn persist_one(&mut self, wire: &mut Vec<Message>) -> bool {
        let Some(mut write) = self.writes.pop_front() else { return false };
        self.durable.write(&write);
        wire.append(&mut write.then_send);
        self.node.on_persist_ready(write.number);
        self.tell_applied();
        true
    }

    /// Puts the applied state on disk and forgets the log up to it, if nothing is under way.
    pub fn compact(&mut self) {
        let mut store = self.store.lock();
        let applied = store.1.clone();
        if !self.writes.is_empty() || applied.index <= store.0.snapshot.index {
            return;
        }
        for image in [&mut store.0, &mut self.durable] {
            image.entries.retain(|entry| entry.index > applied.index.0);
            image.snapshot = applied.clone();
            image.hard_state.commit = image.hard_state.commit.max(applied.index.0);
        }
    }
}
