//! The audit log: one JSON line for each call that the policy names, with who made it, from
//! where, what it asked, on which keys, and what came of it. Values, passwords and tokens never
//! stand in it: a [`Record`] has no place for them.
//!
//! **Nobody is answered who is not recorded.** A call waits for a free [`Slot`] before it is
//! carried out, and takes one before it is answered; none is kept by calls that are under way,
//! which may wait for hours. One that is given up while there is no room is counted as lost. So a disk that is slow slows calls that are recorded, and
//! nothing else. A file that cannot be written does not stop the member: lines are given up
//! then, counted ([`Trail::counts`]), and how many is the first line once the file can be
//! written again.
//!
//! etcd has no such log. The names of the flags are those that operators know from the
//! Kubernetes API server (`--audit-log-path`, `--audit-policy-file`, ...).

mod policy;
mod record;
mod trail;

pub use policy::{Detail, Outcomes, Policy, PolicyError};
pub use record::{Asked, By, Item, Record, shown_key};
pub use trail::{Counts, Settings, Slot, Trail};

#[cfg(test)]
mod tests;
