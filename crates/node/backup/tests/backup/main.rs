//! Snapshot files that are whole, damaged and old, restored on a simulated disk.

mod crash;
mod flips;
mod refusals;
mod support;
mod versions;
