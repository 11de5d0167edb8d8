//! The store as its users see it: against a plain model that remembers everything, and
//! in the corners where one might suspect a fault.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod compaction;
mod counts;
mod model;
mod queries;
mod random;
mod support;
mod suspects;
