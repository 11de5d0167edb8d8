//! etcd's buckets over a bolt file: encodings, one writer, many readers, write buffer.
//!
//! The apply thread appends a [`Batch`] per entry and never waits for the disk;
//! the committer turns everything appended into one bolt transaction together
//! with the index and term it came from. Between the two, rows of the `key`
//! bucket stand in the *overlay*: append-only chunks that readers share, because a
//! revision's row never changes. Rows of the other buckets are only read at boot,
//! so they wait without being readable.

mod batch;
mod bucket;
mod chunk;
mod codec;
mod hash;
mod store;
mod view;

pub use batch::{Batch, KeyRow};
pub use bucket::{Bucket, meta};
pub use codec::{BadRevision, KeyValueRef, decode_revision, encode_key_value, encode_revision};
pub use hash::hash;
pub use mainstay_bolt as bolt;
pub use store::{Backend, BackendError, CommitStats, Meta, OpenOptions, SumsPlace};
pub use view::{BackendView, Rows};
