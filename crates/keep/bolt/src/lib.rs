//! The bbolt file format: pages, copy-on-write tree, readers, batch commits, check
//!
//! One [`Bolt`] writes, any number of [`Reader`]s read; a file made here opens
//! in Go's bbolt and etcd, and theirs opens here. The format is section 4 of
//! `reference/disk.md`.
//!
//! - A [`WriteBatch`] is merged into copy-on-write pages bottom-up; only the
//!   touched subtrees are read, so a commit that extends the right edge costs
//!   its rows plus the depth of the tree.
//! - A [`Reader`] is a snapshot that stays as it is while it lives; pages that it
//!   can reach are not written again before it is dropped.
//! - Nothing is mapped. Pages are read with positioned reads and checked before
//!   anything of them is believed; only branch pages stay in memory.
//! - The data of a commit is synced before the meta page that names it is
//!   written. After a failed write or sync the [`Bolt`] refuses further commits.
//! - While the file is [shrunk](Bolt::shrink), commits also move pages from its end to free ones
//!   near its start, and cut off what nothing names any more.
//! - Every page that is read is compared with its checksum, which is kept beside the file
//!   ([`SumsAt`]), as the format has none.
//! - The free list is never written (as etcd does): it is found by walking the
//!   tree at open, and the caller can see every row of one bucket in that pass.

mod batch;
mod bolt;
mod check;
mod cursor;
mod defrag;
mod error;
mod free;
mod ledger;
mod many;
mod meta;
mod output;
mod page;
mod pager;
mod reader;
mod scrub;
mod shrink;
mod split;
mod sums;
mod tx;
mod walk;

pub use batch::WriteBatch;
pub use bolt::{Bolt, CommitStats, Options};
pub use check::Problem;
pub use cursor::Cursor;
pub use defrag::write_compacted;
pub use error::{Error, MetaFault, Result};
pub use ledger::{SumsAt, SumsFound};
pub use pager::OnDamage;
pub use reader::{Bucket, Copy, Reader};
pub use scrub::Scrubbed;
pub use shrink::{Goal, Shrinking};
