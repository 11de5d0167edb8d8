//! What carries a member's messages to the others, as the driver sees it.
//!
//! The driver decides what is sent; how is the business of whoever implements
//! [`Transport`] (the `peer` crate). What arrives comes back through the
//! [`Handle`](crate::Handle).

use std::sync::Arc;
use std::time::Duration;

use mainstay_membership::Membership;
use mainstay_raft::Message;
use mainstay_types::{Index, LeaseId, MemberId, Term, Version};
use tokio::sync::oneshot;

use crate::handle::Identity;

/// The bytes of a db file as one read transaction sees them: what follows the
/// message of a snapshot on its way to a follower (http.md 3.3, `/raft/snapshot`).
pub trait DbCopy: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from offset `at`.
    ///
    /// # Errors
    /// The disk failed, or the range lies past the end.
    fn read_at(&self, at: u64, out: &mut [u8]) -> std::io::Result<()>;
}

/// Where answers to [`Transport::call`] arrive. A transport that ends drops them.
pub type CallAnswer = oneshot::Receiver<Result<PeerAnswer, CallError>>;

/// Carries messages and questions to other members. Nothing here blocks.
pub trait Transport: Send + Sync + 'static {
    /// Sends each message to its `to`. What cannot be sent, because the member is
    /// unknown, away, or its queue is full, is dropped and reported with
    /// [`Handle::unreachable`](crate::Handle::unreachable). Called by the consensus
    /// thread and by the log thread.
    fn send(&self, messages: Vec<Message>);

    /// Sends a snapshot: `message` is a `Snap` whose snapshot holds the v2 store, `db`
    /// the file that belongs to it. Ends in one call of
    /// [`Handle::snapshot_sent`](crate::Handle::snapshot_sent).
    fn send_snapshot(&self, message: Message, db: Arc<dyn DbCopy>);

    /// The members and their peer URLs as of the last applied entry: connect to these
    /// (but to oneself), and leave who is not among them. Called at the start and
    /// whenever the membership has changed.
    fn follow(&self, membership: &Arc<Membership>);

    /// For how long both directions to a member have worked; `None` while they do not.
    fn connected_for(&self, member: MemberId) -> Option<Duration>;

    /// Asks a member something outside raft, at one of its peer URLs.
    fn call(&self, to: MemberId, call: PeerCall) -> CallAnswer;

    /// Fetches the db of another member of ours, for one that does not start without it:
    /// from the leader if that answers, else from whoever has applied most. Its bytes go to
    /// `sink`, in order. Blocks, and is called before anything else is.
    ///
    /// # Errors
    /// Why nobody gives one; what the sink has got is worth nothing then.
    fn fetch_db(
        &self,
        ask: &DbAsk,
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<DbFetched, FetchError> {
        let (_, _) = (ask, sink);
        Err(FetchError::Never("it has no way to other members".to_owned()))
    }
}

/// What a member asks others for that has lost its db.
#[derive(Clone, Debug)]
pub struct DbAsk {
    /// Who asks.
    pub identity: Identity,
    /// The others, as far as it remembers, with their peer URLs.
    pub others: Vec<(MemberId, Vec<String>)>,
    /// What it must have in it at least.
    pub least: Index,
    /// Who has given something that was no good: asked only when nobody else has anything.
    pub last: Vec<MemberId>,
}

/// A db that has arrived, whole and as its sender summed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DbFetched {
    /// Whose it is.
    pub from: MemberId,
    /// The last entry that is in it.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// Its length.
    pub bytes: u64,
}

/// Why no db was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody gives one now; somebody may a little later.
    #[error("{0}")]
    NotYet(String),
    /// What this member gave broke off.
    #[error("member {from}: {why}")]
    Broken {
        /// Whose it was.
        from: MemberId,
        /// What was the matter.
        why: String,
    },
    /// All have answered, and none of them ever will.
    #[error("{0}")]
    Never(String),
    /// What arrives cannot be written.
    #[error("cannot write it: {0}")]
    Sink(std::io::Error),
}

/// The db of a running member, for another that has lost its own.
pub struct DbOffer {
    /// The last entry that is in it.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// Its bytes.
    pub copy: Arc<dyn DbCopy>,
}

/// A question to another member (http.md 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerCall {
    /// GET `/version`.
    Version,
    /// GET `/members/hashkv`; revision 0 is its newest.
    HashKv {
        /// The revision that the hash shall cover.
        revision: i64,
    },
    /// POST `/leases`: keep a lease alive.
    LeaseRenew {
        /// The lease.
        lease: LeaseId,
    },
    /// POST `/leases/internal`: times and, if asked for, keys.
    LeaseTimes {
        /// The lease.
        lease: LeaseId,
        /// Whether its keys are wanted.
        keys: bool,
    },
    /// POST `/members/promote/ID`.
    Promote {
        /// The learner.
        member: MemberId,
    },
    /// GET `/downgrade/enabled`.
    DowngradeEnabled,
    /// GET `/raft/mainstay` (ours): what it is and can that etcd has no question for. A
    /// Go member refuses it with status 404.
    About,
}

/// The answer to a [`PeerCall`] of the same kind.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerAnswer {
    /// What it runs.
    Version {
        /// Its own version.
        server: Version,
        /// The cluster's, as it knows it; `None` before there is one.
        cluster: Option<Version>,
    },
    /// A hash of the key space.
    HashKv(PeerHash),
    /// The TTL in seconds; 0 when there is no such lease.
    LeaseRenewed(i64),
    /// Times of a lease. A TTL of -1 means that there is no such lease.
    LeaseTimes {
        /// Whole seconds left.
        ttl: i64,
        /// Seconds it was granted with.
        granted: i64,
        /// Its keys, when they were asked for.
        keys: Vec<bytes::Bytes>,
    },
    /// All members after the promotion.
    Promoted(Vec<mainstay_membership::Member>),
    /// Whether a downgrade is under way.
    DowngradeEnabled(bool),
    /// It is one of ours.
    About(About),
}

/// What a member of ours says of itself to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Gate `LeaseCheckpoint`: as leader it clears a lease's checkpoint before it renews it.
    pub lease_checkpoints: bool,
}

/// What `/members/hashkv` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerHash {
    /// The hash.
    pub hash: u32,
    /// The compacted revision that it leaves out.
    pub compact_revision: i64,
    /// The revision that it covers.
    pub hash_revision: i64,
    /// The member's newest revision.
    pub revision: i64,
}

/// Why a [`PeerCall`] has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No peer of this id is known.
    #[error("no peer {0} is known")]
    Unknown(MemberId),
    /// None of its URLs could be reached in time.
    #[error("{0}")]
    Unreachable(String),
    /// It answered with an error: the status code and the body, without its newline.
    #[error("{body}")]
    Refused {
        /// The HTTP status code.
        status: u16,
        /// The text.
        body: String,
    },
    /// It answered with something that cannot be read.
    #[error("cannot read the answer: {0}")]
    Malformed(String),
}

/// The transport of a member that has no others: nothing is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Transport for Alone {
    fn send(&self, _messages: Vec<Message>) {}

    fn send_snapshot(&self, _message: Message, _db: Arc<dyn DbCopy>) {}

    fn follow(&self, _membership: &Arc<Membership>) {}

    fn connected_for(&self, _member: MemberId) -> Option<Duration> {
        None
    }

    fn call(&self, to: MemberId, _call: PeerCall) -> CallAnswer {
        let (slot, answer) = oneshot::channel();
        // The other end is still here.
        let _ = slot.send(Err(CallError::Unknown(to)));
        answer
    }
}
