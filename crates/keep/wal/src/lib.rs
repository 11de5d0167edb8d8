//! etcd's write-ahead log and its `.snap` files, byte for byte.
//!
//! [`Wal`] writes: everything that waits is encoded into one buffer, written with
//! one call and made durable with one `fdatasync`. [`read`], [`valid_snapshots`] and
//! [`Wal::open`] read. A directory goes back and forth between Go's etcd and this.
//!
//! **What is harder here than in etcd.** Its reader takes a flipped bit in a length
//! field for a torn write and cuts all valid records behind it; it does not check
//! kinds and tags; and it refuses a tail whose zeros do not begin at a sector. Here
//! a record is read in exactly the form that etcd writes, a torn tail is recognised
//! at any byte, and nothing valid is cut off in silence. What the bytes of a file can
//! tell, what they cannot, and how it is decided, is said at the top of `damage.rs`;
//! kinds are told apart in `record.rs`.
//!
//! **What a crash may leave, and what happens then.**
//! - In the middle of a save: the part that is there is kept up to the first
//!   incomplete record; nothing of it was acknowledged.
//! - In the middle of a cut: the old segment is complete and synced before the new
//!   one gets its name, and the new one's head before its name; a leftover `N.tmp`
//!   is replaced.
//! - In the middle of creation: `DIR.tmp`, which the next creation removes.
//! - In the middle of a repair: the same torn tail, or none.
//!
//! **What differs from etcd in the files**, both ways readable: every save of entries
//! ends with a hard state, also when it is unchanged; a hard state that only moves
//! the commit index waits for the next record.

pub mod convert;
mod damage;
mod error;
mod name;
mod record;
mod replay;
mod resume;
pub mod salvage;
mod segment;
pub mod snap;
mod wal;

pub use error::WalError;
pub use record::{Metadata, SnapshotMark};
pub use replay::{Replay, exists, owner, read, valid_snapshots};
pub use segment::TornTail;
pub use wal::{Observer, Step, Wal, WalOptions, WhenFull};

#[cfg(test)]
mod tests;
