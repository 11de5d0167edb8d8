//! The real disk, clock and dice.
//!
//! [`File::sync`](mainstay_env::File::sync) is `fdatasync`: it makes the bytes
//! and the length durable, but not the times. Files are made with mode 0600 and
//! directories with 0700, as etcd does. There is no unsafe code here.

mod clock;
mod dice;
mod disk;
mod lock;

pub use clock::OsClock;
pub use dice::OsDice;
pub use disk::{OsDisk, OsFile};

#[cfg(test)]
mod tests;
