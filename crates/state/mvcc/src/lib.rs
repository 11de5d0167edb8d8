//! Multi-version key-value state: index, revisions, range, txn, compaction, hashes.
//!
//! [`Store`] belongs to the thread that applies entries; [`View`] is what readers
//! get: an unchanging picture of the key space at a revision, made in constant
//! time. Values stay in the backend; the index holds keys and revisions only.

mod compaction;
mod error;
mod gone;
mod hash;
mod history;
mod index;
mod item;
mod loading;
mod range;
mod sorting;
mod store;
mod txn;
mod view;

pub use compaction::Slice;
pub use error::MvccError;
pub use hash::HashKv;
pub use history::{History, PastEvent};
pub use index::KeyIndex;
pub use item::Found;
pub use loading::{Loaded, Loading};
pub use range::RangeReply;
pub use store::Store;
pub use txn::{Counts, Deleted, Event, TxnEnd, WriteTxn};
pub use view::View;
