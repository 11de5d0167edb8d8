//! Hostile bytes for every parser: files, peers, clients, command lines.
//!
//! A [`Target`] is a plain function over bytes that must neither panic nor hang nor
//! take memory without bound, and that asserts what must hold when the bytes are
//! accepted. Seeds are made by our own writers when a run starts; [`mutate`] bends
//! them; what leads to an outcome not seen before is kept for further bending. The
//! same functions serve libFuzzer (folder `fuzz` at the root), which sees coverage.
//!
//! Inputs that once failed lie in `corpus/TARGET/` and run with the ordinary tests.

pub mod bed;
pub mod mutate;
pub mod pieces;
pub mod runner;
pub mod targets;

/// One thing that reads bytes.
pub struct Target {
    /// Its name on the command line and of its folder in `corpus`.
    pub name: &'static str,
    /// Valid inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input and answers what kind of outcome it had: equal numbers mean
    /// that a further input like it teaches nothing new.
    pub run: fn(&[u8]) -> u64,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::wal::TARGET,
    targets::snap::TARGET,
    targets::bolt::TARGET,
    targets::rows::TARGET,
    targets::entries::TARGET,
    targets::requests::TARGET,
    targets::raft::TARGET,
    targets::peer::TARGET,
    targets::config::TARGET,
    targets::encodings::TARGET,
    targets::discovery::TARGET,
    targets::json::TARGET,
    targets::wire::TARGET,
];

/// The target of that name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
