//! Snapshot files that are whole, damaged and old, restored on a simulated disk.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod flips;
mod refusals;
mod support;
mod versions;
