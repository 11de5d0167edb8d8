//! The targets, one file each.

pub mod bolt;
pub mod config;
pub mod discovery;
pub mod encodings;
pub mod entries;
pub mod json;
pub mod peer;
pub mod raft;
pub mod requests;
pub mod rows;
pub mod snap;
pub mod wal;
pub mod wire;
