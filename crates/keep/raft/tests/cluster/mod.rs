//! A cluster of cores in one thread: wires, disks and state machines that lose what
//! real ones lose.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainstay_raft::{
    ConfChangeV2, ConfState, Config, Entry, EntryKind, HardState, LogStart, Mark, Message, Output,
    Raft, ReadState, Snapshot,
};
use mainstay_types::{Index, MemberId, Term};

/// What is durable at one member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Snapshot,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    pub(crate) fn last(&self) -> Index {
        self.entries.last().map_or(self.snapshot.index, |entry| entry.index)
    }

    fn write(&mut self, write: &Write) {
        if let Some(snapshot) = &write.snapshot {
            self.snapshot = snapshot.clone();
            self.entries.clear();
        }
        for entry in &write.entries {
            self.entries.retain(|kept| kept.index < entry.index);
            assert_eq!(self.last().next(), entry.index, "storage is given entries without a gap");
            self.entries.push(entry.clone());
        }
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
    }
}

/// A write that is not durable yet.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) mark: Mark,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) then_send: Vec<Message>,
}

/// A running core with its disk and state machine.
pub(crate) struct Node {
    pub(crate) raft: Raft,
    pub(crate) config: Config,
    pub(crate) disk: Disk,
    pub(crate) writes: VecDeque<Write>,
    /// What the state machine was given, from 1; a snapshot stands for what it covers.
    pub(crate) applied: Vec<Entry>,
    pub(crate) applied_index: Index,
    pub(crate) conf: ConfState,
    pub(crate) reads: Vec<ReadState>,
    pub(crate) wants_snapshot: Vec<MemberId>,
    /// Which life this is.
    pub(crate) life: u32,
}

/// What [`Cluster`] saw in one output, for whoever checks it.
pub(crate) struct Seen {
    pub(crate) appended: Vec<Entry>,
    pub(crate) applied: Vec<Entry>,
}

impl Node {
    pub(crate) fn new(config: Config, disk: Disk) -> Node {
        let mut node = Node {
            raft: Self::core(&config, &disk),
            config,
            writes: VecDeque::new(),
            applied: Vec::new(),
            applied_index: disk.snapshot.index,
            conf: disk.snapshot.conf_state.clone(),
            reads: Vec::new(),
            wants_snapshot: Vec::new(),
            life: 0,
            disk,
        };
        node.config.applied = Index(0);
        node
    }

    fn core(config: &Config, disk: &Disk) -> Raft {
        let start = LogStart {
            snapshot_index: disk.snapshot.index,
            snapshot_term: disk.snapshot.term,
            entries: disk.entries.clone(),
        };
        Raft::new(config.clone(), disk.hard_state, disk.snapshot.conf_state.clone(), start)
            .expect("what was stored can be started from")
    }

    /// Loses everything but the disk, and comes back. The first `kept` writes under
    /// way reached the disk though nobody heard of it.
    pub(crate) fn crash(&mut self, kept: usize) {
        for write in self.writes.drain(..).take(kept) {
            self.disk.write(&write);
        }
        self.life += 1;
        self.config.seed = self.config.seed.wrapping_add(1);
        self.raft = Self::core(&self.config, &self.disk);
        self.applied.clear();
        self.applied_index = self.disk.snapshot.index;
        self.conf = self.disk.snapshot.conf_state.clone();
        self.reads.clear();
        self.wants_snapshot.clear();
    }

    /// Takes the output: queues writes, applies, and returns what to send now.
    pub(crate) fn turn(&mut self, wire: &mut Vec<Message>) -> Seen {
        let output = self.raft.take_output();
        let Output { mut messages, snapshot, committed, read_states, snapshots_wanted, .. } =
            output;
        wire.append(&mut messages);
        self.reads.extend(read_states);
        self.wants_snapshot.extend(snapshots_wanted);
        if let Some(snapshot) = &snapshot {
            self.applied.clear();
            self.applied_index = snapshot.index;
            self.conf = snapshot.conf_state.clone();
        }
        let appended = output.entries.clone();
        let stores =
            output.hard_state.is_some() || !output.entries.is_empty() || snapshot.is_some();
        if stores || !output.after_persist.is_empty() {
            self.writes.push_back(Write {
                mark: output.mark,
                hard_state: output.hard_state,
                entries: output.entries,
                snapshot,
                then_send: output.after_persist,
            });
        }
        for entry in &committed {
            self.apply(entry);
        }
        self.raft.applied(self.applied_index.min(self.raft.status().commit));
        Seen { appended, applied: committed }
    }

    fn apply(&mut self, entry: &Entry) {
        assert_eq!(self.applied_index.next(), entry.index, "entries are applied without a gap");
        assert!(entry.index <= self.disk.last(), "only what is durable here is applied");
        self.applied_index = entry.index;
        self.applied.push(entry.clone());
        if entry.kind != EntryKind::Normal {
            let change = ConfChangeV2::of_entry(entry)
                .expect("it was encoded here")
                .expect("its kind says so");
            // A change that does not fit is refused by the state machine, alike everywhere.
            if let Ok(conf) = self.raft.apply_conf_change(change) {
                self.conf = conf;
            }
        }
    }

    /// The oldest write under way becomes durable.
    pub(crate) fn persist_one(&mut self, wire: &mut Vec<Message>) -> bool {
        let Some(mut write) = self.writes.pop_front() else { return false };
        self.disk.write(&write);
        wire.append(&mut write.then_send);
        self.raft.persisted(write.mark);
        true
    }

    /// The applied state as a snapshot.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let term = self.raft.entry_term(self.applied_index).expect("what is applied is in the log");
        let data = Bytes::from(format!("state at {}", self.applied_index));
        Snapshot { data, index: self.applied_index, term, conf_state: self.conf.clone() }
    }

    /// Puts the applied state on disk and forgets the log up to `to`.
    pub(crate) fn compact(&mut self, to: Index) {
        let snapshot = self.snapshot();
        // Only a log that is wholly on disk is replaced there.
        if self.writes.is_empty() && to <= snapshot.index {
            self.raft.compact(to);
            self.disk.entries.retain(|entry| entry.index > snapshot.index);
            self.disk.snapshot = snapshot;
        }
    }
}

/// Cores and the messages between them.
pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<MemberId, Node>,
    pub(crate) wire: Vec<Message>,
}

impl Cluster {
    /// `all` cores, of which the first `voters` vote; they share a snapshot at 1.
    /// `configure` may change settings.
    pub(crate) fn new(all: u64, voters: u64, configure: impl Fn(&mut Config)) -> Cluster {
        let conf_state =
            ConfState { voters: (1..=voters).map(MemberId).collect(), ..ConfState::default() };
        let nodes = (1..=all).map(|id| {
            let mut config = Config::new(MemberId(id));
            configure(&mut config);
            let mut disk = Disk::default();
            if id <= voters {
                disk.snapshot.index = Index(1);
                disk.snapshot.term = Term(1);
                disk.snapshot.conf_state = conf_state.clone();
                disk.hard_state =
                    HardState { term: Term(1), commit: Index(1), ..HardState::default() };
            }
            (MemberId(id), Node::new(config, disk))
        });
        Cluster { nodes: nodes.collect(), wire: Vec::new() }
    }

    pub(crate) fn node(&mut self, id: MemberId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a core of this cluster")
    }
}
