//! How a member is told to behave.

use mainstay_types::{Index, MemberId};

/// The settings of one member. Ticks are the caller's unit of time.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this is; never [`MemberId::NONE`].
    pub id: MemberId,
    /// Ticks without a leader before an election; the actual number is drawn from
    /// this up to twice this. Must exceed `heartbeat_tick`.
    pub election_tick: u32,
    /// Ticks between heartbeats, at least 1.
    pub heartbeat_tick: u32,
    /// Entries up to here are in the state machine already and are not handed out again.
    pub applied: Index,
    /// Most bytes of entries in one append (one entry always fits).
    pub max_size_per_message: u64,
    /// Most appends on their way to one follower, at least 1.
    pub max_inflight_messages: usize,
    /// Most bytes of entries on their way to one follower.
    pub max_inflight_bytes: u64,
    /// Most bytes of payload that a leader holds uncommitted before it refuses proposals.
    pub max_uncommitted_bytes: u64,
    /// A leader that does not hear a quorum for an election timeout steps down.
    pub check_quorum: bool,
    /// Ask before an election whether it could be won (raft thesis, 9.6).
    pub pre_vote: bool,
    /// A leader that is removed or made a learner steps down when that is applied.
    /// Without it, it goes on leading, not counting itself, until it is stopped: etcd's
    /// way, which gives the others time to learn of their new configuration.
    pub step_down_on_removal: bool,
    /// A follower that is only told of a commit index answers that with its next answer, or
    /// at the next tick: what it would say is what it said last. etcd answers at once, which
    /// costs every write a message of each follower. The leader loses nothing: it waits only
    /// for answers about entries, and a probe whose answer is late ends within a tick.
    pub holds_echoes: bool,
    /// Who asked for pre-votes and got no majority asks again within ticks, as many as there
    /// are voters; who lost an election, within as many as stand before it in the order of
    /// ids; and who was asked by a member that has less than itself, at the next tick. etcd
    /// waits for another election timeout each time, with the cluster standing still. Needs
    /// `pre_vote`: asking changes no term, and a member that hears a leader is deaf to it.
    pub asks_again: bool,
    /// Where the election timeouts are drawn from, together with the id.
    pub seed: u64,
}

impl Config {
    /// As etcd configures raft (server/etcdserver/raft.go): 10 ticks, 1 MiB, 512
    /// messages, PreVote and CheckQuorum.
    pub fn new(id: MemberId) -> Config {
        Config {
            id,
            election_tick: 10,
            heartbeat_tick: 1,
            applied: Index(0),
            max_size_per_message: 1 << 20,
            max_inflight_messages: 512,
            max_inflight_bytes: u64::MAX,
            max_uncommitted_bytes: u64::MAX,
            check_quorum: true,
            pre_vote: true,
            step_down_on_removal: false,
            holds_echoes: false,
            asks_again: false,
            seed: 0,
        }
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        let wrong = |what| Err(StartError::Config(what));
        if self.id == MemberId::NONE {
            return wrong("a member needs an id");
        }
        if self.heartbeat_tick == 0 {
            return wrong("the heartbeat interval is at least one tick");
        }
        if self.election_tick <= self.heartbeat_tick {
            return wrong("the election timeout exceeds the heartbeat interval");
        }
        if self.max_inflight_messages == 0 {
            return wrong("at least one message must be allowed in flight");
        }
        Ok(())
    }
}

/// A member cannot start from what it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error("raft cannot be configured so: {0}")]
    Config(&'static str),
    /// Entries are missing or their terms fall: the log is damaged.
    #[error("the log has entry {found} behind entry {after}")]
    Gap {
        /// The last good index.
        after: Index,
        /// What came next.
        found: Index,
    },
    /// What is committed or applied is not in the log: it was cut or lost.
    #[error("entries up to {commit} are committed, but the log ends at {last}")]
    CommitBeyondLog {
        /// The commit or applied index.
        commit: Index,
        /// The end of the log.
        last: Index,
    },
    /// The configuration contradicts itself.
    #[error("no such configuration can exist: {0}")]
    Conf(&'static str),
}

impl Config {
    /// An election timeout: at least `election_tick`, which others wait for before they
    /// give their vote. With pre-vote an election that two members begin at the same time
    /// costs no term, so half the spread of the raft paper (9.3) does, from where all are
    /// sure to have waited long enough: clients wait for less. Where one that came to nothing
    /// is tried again within ticks, half of that does.
    pub(crate) fn draw_patience(&self, dice: &mut Dice) -> u32 {
        let timeout = self.election_tick;
        if self.pre_vote {
            timeout + 1 + dice.below(timeout.div_ceil(if self.asks_again { 4 } else { 2 }))
        } else {
            timeout + dice.below(timeout)
        }
    }
}

/// Draws election timeouts: splitmix64.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(bound)) as u32
    }
}
