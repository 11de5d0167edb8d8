//! The replicated state machine: an entry in; rows, an outcome and events out.

mod alarms;
pub mod check;
pub mod classify;
pub mod entry;
mod error;
pub mod quota;
mod txn;

pub use alarms::Alarms;
pub use error::{ApplyError, StopError, StopReason};
