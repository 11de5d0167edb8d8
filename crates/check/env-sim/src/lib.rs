//! A disk, a clock and dice made from one seed.
//!
//! [`SimDisk`] remembers for every file what was written and what was synced,
//! and for every directory which names were synced. [`SimDisk::crash`] makes the
//! disk that the next boot finds: unsynced writes kept, lost or torn, unsynced
//! names kept or lost. Power can be cut at any step, calls can fail, the disk
//! can be full or slow, bits can flip. Everything follows from the seed.
//!
//! ```
//! use mainstay_env::{Disk, OpenMode};
//! use mainstay_env_sim::{SimDisk, Unsynced};
//! let disk = SimDisk::new(7);
//! disk.create_dir_all("/d".as_ref()).unwrap();
//! let file = disk.open("/d/a".as_ref(), OpenMode::CreateNew).unwrap();
//! file.write_at(0, b"hello").unwrap();
//! file.sync().unwrap();
//! // The bytes are safe but neither name is.
//! assert_eq!(disk.crash_with(Unsynced::Lost, 1).paths(), Vec::<String>::new());
//! disk.sync_dir("/d".as_ref()).unwrap();
//! disk.sync_dir("/".as_ref()).unwrap();
//! assert_eq!(disk.crash_with(Unsynced::Lost, 1).contents("/d/a"), Some(b"hello".to_vec()));
//! ```

mod clock;
mod content;
mod dice;
mod disk;
mod names;
mod pages;
mod state;

pub use clock::SimClock;
pub use content::Unsynced;
pub use dice::SimDice;
pub use disk::{FailingCall, SimDisk, SimFile, Step, StepKind};

#[cfg(test)]
mod tests;
