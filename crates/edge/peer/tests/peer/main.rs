//! Transports of several members over loopback, with members made of a few lists.

mod bad_input;
mod go_member;
mod messages;
mod offers;
mod posts;
mod shunned;
mod snapshots;
mod support;
mod timeouts;
mod tls;
