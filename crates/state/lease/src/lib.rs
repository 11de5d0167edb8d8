//! The lease book, and the leader's expiry timer.
//!
//! [`Book`] is replicated state: which leases exist, how long they live and
//! which keys hang on them. It has no notion of time, so every member that
//! applies the same log has the same book. [`Timer`] is what only the leader
//! has: when each lease runs out. "Now" is always an argument.

mod book;
mod timer;

pub use book::{Book, GrantError, Lease};
pub use timer::{Checkpoint, Renewal, Timer, TimerOptions};
