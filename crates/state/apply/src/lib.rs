//! The replicated state machine: an entry in; rows, an outcome and events out.
//!
//! [`Machine::apply`] decodes an entry ([`entry`]), asks the guards, executes the
//! request in one exhaustive match and returns everything that follows from it
//! as an [`Applied`]: nothing happens on the way. What it does to the rows is
//! exactly what etcd 3.7.1 does, on every member (invariant 7); what we forbid
//! beyond that is decided before a proposal, in [`check`].

mod alarms;
mod auth;
pub mod check;
pub mod classify;
mod committed;
pub mod entry;
mod error;
mod execute;
mod guard;
mod keys;
mod load;
mod machine;
pub mod nested;
mod op;
pub mod quota;
mod reply;
mod txn;
mod v2;

pub use alarms::Alarms;
pub use auth::{AuthRequest, permission};
pub use committed::{CommittedState, committed_state};
pub use error::{ApplyError, StopError, StopReason};
pub use load::LoadError;
pub use machine::{Machine, Options};
pub use mainstay_auth::{Auth, AuthError, Identity, Password};
pub use op::Op;
pub use reply::{
    Applied, Compaction, ConfEffect, Effects, LeaseChange, MemberChange, Reply, Token, TokenChange,
};
