//! What the bench shares with tests: hosts of their own for members of a cluster.

mod hosts;

pub use hosts::{Hosts, HostsError};
