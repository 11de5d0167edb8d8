//! Whole clusters in one thread from one seed.
//!
//! The real `member` (raft inside), `apply`, `wal`, `.snap`, `backend` and `bolt` run on
//! `env-sim` disks; network, clocks, disks, machines, clients and the operator follow
//! from the seed. After every step judges compare what happens with what must hold:
//! raft's promises, equal states at equal indexes, every answer against a model that
//! executes the committed entries, leases, watchers. When the faults have ended the
//! cluster must become whole.
//!
//! A judge that disagrees panics; [`run`] answers the story, and the same seed tells it
//! again. [`Bug`] puts known bugs back to see that they are caught.

mod bug;
mod clients;
mod ctx;
mod eight;
mod faults;
mod judge;
mod net;
mod node;
mod operator;
mod ops;
mod plan;
mod rot;
mod runner;
mod schedule;
mod stats;
mod world;

pub use bug::Bug;
pub use runner::{Failure, Options, run};
pub use stats::Stats;
