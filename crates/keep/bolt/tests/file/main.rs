//! The file as its users see it: against a model, through power cuts and damage,
//! and side by side with Go's bbolt.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crafted;
mod crash;
mod damage;
mod go;
mod model;
mod shrink;
mod sums;
mod support;
