//! The backend over a simulated disk: power cuts at every step, views at any time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod support;
mod views;
