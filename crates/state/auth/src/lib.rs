//! Users, roles and interval permissions as replicated state.
//!
//! [`Auth`] is the whole of it: whether authentication is on, the auth revision, and
//! who may do what. Changes come from log entries and leave as rows in the entry's
//! batch, byte for byte those of etcd 3.7.1; questions are answered as etcd answers
//! them when it applies an entry, odd ranges and damaged habits included, because the
//! answer decides what the entry does on every member. Whatever we forbid beyond that
//! is decided before a proposal.
//!
//! Tokens are no replicated state: what an entry says about them goes to the edge.

mod auth;
mod error;
mod gosort;
mod identity;
mod intervals;
mod password;
mod row;

pub use auth::{Auth, Password};
pub use error::{AuthError, RowError};
pub use identity::Identity;
pub use intervals::Intervals;
pub use row::Rows;
