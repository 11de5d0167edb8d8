//! One bit flips in one file of a member, which is then started, restored from, or read: either
//! somebody says so and names the file, or every answer is what it would have been.
//!
//! A directory is made in memory from a seed ([`Made`]): several log segments, `.snap` files, a db
//! with values of many sizes, a compacted past, leases, alarms. What must be answered is taken
//! from the state machine that made it ([`answers`]), not from the files. [`judge`] draws a flip
//! from a number, so that each can be had again, and says what became of it.

mod answers;
mod etcd;
mod judge;
mod made;

pub use answers::{Answers, answers};
pub use etcd::Etcd;
pub use judge::{Flip, Kind, Outcome, Tally, judge};
pub use made::Made;
