//! What the transport asks of its own member.

use std::io;

use mainstay_driver::{About, DbOffer};
use mainstay_raft::Message;
use mainstay_types::{ClusterId, Index, MemberId, Version};

/// A db that is being made ready, or why it cannot be given away.
pub type DbOffering = std::pin::Pin<Box<dyn Future<Output = Result<DbOffer, String>>>>;

/// The member that the transport works for. Nothing here blocks, but for
/// [`IncomingSnapshot`].
pub trait Local: Send + Sync + 'static {
    /// Its identity.
    fn member(&self) -> MemberId;

    /// Its cluster's.
    fn cluster(&self) -> ClusterId;

    /// What others of our make may know of it.
    fn about(&self) -> About {
        About::default()
    }

    /// Who leads, as far as it knows, and the last entry that it has applied.
    fn standing(&self) -> (MemberId, Index) {
        (MemberId::NONE, Index(0))
    }

    /// Its db, for a member that has lost its own.
    fn offer_db(&self) -> DbOffering {
        Box::pin(std::future::ready(Err("it has no database to give".to_owned())))
    }

    /// Why a member that runs this version is not to be talked to, if so.
    fn shuns(&self, member: MemberId, version: Version) -> Option<String> {
        let (_, _) = (member, version);
        None
    }

    /// Takes a message from a peer. It is for this member, and its sender was not
    /// removed; all else about it is unchecked.
    ///
    /// # Errors
    /// The message is dropped: too many wait, or the member stops.
    fn receive(&self, message: Message) -> Result<(), Refused>;

    /// Called after one or more calls of [`Local::receive`] in a row: the member does
    /// here, on the transport's thread, what follows from them.
    fn received(&self) {}

    /// Whether `member` was removed from the cluster.
    fn is_removed(&self, member: MemberId) -> bool;

    /// Proposals that were meant for another member, and of which nothing has left: they
    /// may be proposed again.
    fn unsent(&self, message: Message) {
        let _ = message;
    }

    /// A message to `member` was lost.
    fn unreachable(&self, member: MemberId);

    /// `member`'s process is gone: its streams have ended, and its host refuses new ones.
    fn gone(&self, member: MemberId);

    /// A snapshot has reached `member`, or has not.
    fn snapshot_sent(&self, member: MemberId, ok: bool);

    /// Makes the place for the db file that follows `message` (a `Snap`). Called on a
    /// thread that may block.
    ///
    /// # Errors
    /// The disk's, or the member does not want it.
    fn incoming_snapshot(&self, message: &Message) -> io::Result<Box<dyn IncomingSnapshot>>;

    /// A peer says that this member has been removed for ever: it must stop.
    fn removed_for_good(&self);
}

/// A db file that arrives. Dropped unfinished, it leaves nothing behind. Used on a
/// thread that may block.
pub trait IncomingSnapshot: Send {
    /// Appends bytes.
    ///
    /// # Errors
    /// The disk's.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file durable and gives it its name.
    ///
    /// # Errors
    /// The disk's.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many messages wait.
    #[error("receiving buffer is full")]
    Full,
    /// The member stops.
    #[error("etcdserver: server stopped")]
    Stopped,
}
