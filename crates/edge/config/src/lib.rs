//! How a member is configured: one table of flags, and everything read from it.
//!
//! [`table`] lists every flag with its type, default, file key, status and help. The command
//! line, the environment, the YAML or JSON file, `--help`, `docs/flags.md` and the refusals are
//! all driven by it. [`load`] turns them into a typed [`Config`] that was checked by etcd's rules.
//!
//! Reads nothing by itself: arguments, variables and files arrive in an [`Input`].

pub mod table;

pub mod gates;
pub mod number;
pub mod old;
pub mod url;

pub use gates::{Gate, Gates};
pub use url::{Scheme, Url, UrlError};
