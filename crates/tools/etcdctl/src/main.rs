//! See the crate's manifest.

fn main() {}
