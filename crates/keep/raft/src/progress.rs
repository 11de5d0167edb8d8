//! What the leader knows about one follower's log, and how much it may send.

use std::collections::VecDeque;
use std::fmt;

use mainstay_types::Index;

/// How the leader sends to a follower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressState {
    /// One append at a time, to find where the logs meet.
    #[default]
    Probe,
    /// As fast as the window allows, without waiting for answers.
    Replicate,
    /// Nothing: what the follower needs is compacted, a snapshot is on its way.
    Snapshot,
}

impl fmt::Display for ProgressState {
    /// The names that Go's raft prints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProgressState::Probe => "StateProbe",
            ProgressState::Replicate => "StateReplicate",
            ProgressState::Snapshot => "StateSnapshot",
        })
    }
}

/// The leader's view of one member.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// The highest index known to be durable there and equal to ours.
    pub(crate) matched: Index,
    /// The next index to send; always above `matched`.
    pub(crate) next: Index,
    /// The highest commit index told to it.
    sent_commit: Index,
    pub(crate) state: ProgressState,
    /// In state Snapshot: the index of the snapshot under way, 0 while the caller
    /// has not supplied it yet.
    pub(crate) pending_snapshot: Index,
    /// Heard of since the last check of the quorum.
    pub(crate) recent_active: bool,
    /// Nothing may be sent until an answer comes.
    pub(crate) paused: bool,
    pub(crate) inflights: Inflights,
    pub(crate) is_learner: bool,
}

impl Progress {
    pub(crate) fn new(next: Index, inflights: Inflights, is_learner: bool) -> Progress {
        assert!(next > Index(0), "next stays above match");
        Progress {
            matched: Index(0),
            next,
            sent_commit: Index(0),
            state: ProgressState::Probe,
            pending_snapshot: Index(0),
            recent_active: false,
            paused: false,
            inflights,
            is_learner,
        }
    }

    fn reset_state(&mut self, state: ProgressState) {
        self.paused = false;
        self.pending_snapshot = Index(0);
        self.state = state;
        self.inflights.clear();
    }

    pub(crate) fn become_probe(&mut self) {
        // After a snapshot the follower has at least what the snapshot covers.
        let after_snapshot = match self.state {
            ProgressState::Snapshot => self.pending_snapshot.next(),
            ProgressState::Probe | ProgressState::Replicate => Index(0),
        };
        self.reset_state(ProgressState::Probe);
        self.next = self.matched.next().max(after_snapshot);
        self.lower_sent_commit();
    }

    pub(crate) fn become_replicate(&mut self) {
        self.reset_state(ProgressState::Replicate);
        self.next = self.matched.next();
    }

    /// A snapshot is needed and asked for.
    pub(crate) fn become_snapshot(&mut self) {
        self.reset_state(ProgressState::Snapshot);
    }

    /// The snapshot at `index` leaves.
    pub(crate) fn sent_snapshot(&mut self, index: Index) {
        assert!(self.state == ProgressState::Snapshot, "only who needs a snapshot gets one");
        self.pending_snapshot = index;
        self.next = index.next();
        self.sent_commit = index;
    }

    /// `count` entries of `bytes` bytes leave.
    pub(crate) fn sent_entries(&mut self, count: usize, bytes: u64) {
        match self.state {
            ProgressState::Replicate => {
                if count > 0 {
                    self.next.0 += count as u64;
                    self.inflights.add(Index(self.next.0 - 1), bytes);
                }
                self.paused = self.inflights.is_full();
            }
            ProgressState::Probe => self.paused |= count > 0,
            ProgressState::Snapshot => panic!("nothing is sent to who waits for a snapshot"),
        }
    }

    pub(crate) fn sent_commit(&mut self, commit: Index) {
        self.sent_commit = commit;
    }

    /// Whether telling `commit` could advance the follower: it has not been told
    /// yet, and the follower has, or will have, entries beyond what it was told.
    pub(crate) fn can_bump_commit(&self, commit: Index) -> bool {
        commit > self.sent_commit && self.sent_commit.next() < self.next
    }

    /// The follower acknowledged `index`. Whether that was news.
    pub(crate) fn maybe_update(&mut self, index: Index) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index.next());
        self.paused = false;
        true
    }

    /// The follower rejected an append after `rejected` and may match at `hint`.
    /// Whether that was about something we still believed.
    pub(crate) fn maybe_decrease(&mut self, rejected: Index, hint: Index) -> bool {
        if self.state == ProgressState::Replicate {
            if rejected <= self.matched {
                return false;
            }
            self.next = self.matched.next();
        } else {
            // A probe in flight is the only one: anything else is an old answer.
            if self.next != rejected.next() {
                return false;
            }
            self.next = rejected.min(hint.next()).max(self.matched.next());
            self.paused = false;
        }
        self.lower_sent_commit();
        true
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.state == ProgressState::Snapshot || self.paused
    }

    fn lower_sent_commit(&mut self) {
        self.sent_commit = self.sent_commit.min(Index(self.next.0 - 1));
    }
}

/// Appends that were sent and not acknowledged: a sliding window.
#[derive(Clone, Debug)]
pub(crate) struct Inflights {
    /// The last index and the bytes of each message.
    window: VecDeque<(Index, u64)>,
    bytes: u64,
    messages_max: usize,
    bytes_max: u64,
}

impl Inflights {
    pub(crate) fn new(messages_max: usize, bytes_max: u64) -> Inflights {
        Inflights { window: VecDeque::new(), bytes: 0, messages_max, bytes_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.window.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.window.len() >= self.messages_max || self.bytes >= self.bytes_max
    }

    fn add(&mut self, last: Index, bytes: u64) {
        assert!(!self.is_full(), "a full window takes no more messages");
        self.window.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// All messages up to `index` are acknowledged.
    pub(crate) fn free_to(&mut self, index: Index) {
        while let Some((last, bytes)) = self.window.front().copied() {
            if last > index {
                break;
            }
            self.window.pop_front();
            self.bytes -= bytes;
        }
    }

    fn clear(&mut self) {
        self.window.clear();
        self.bytes = 0;
    }
}
