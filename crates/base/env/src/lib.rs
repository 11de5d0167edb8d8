//! The traits through which the world is touched.
//!
//! `env-os` implements them with the real disk and clock, `env-sim` from one
//! seed. Nothing below the edge opens a file, reads a clock or draws a random
//! number in any other way.

use std::io;
use std::path::Path;
use std::time::Duration;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; it must not exist and is made with mode 0600.
    CreateNew,
}

/// What [`Disk::metadata`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Permission bits, such as 0o700.
    pub mode: u32,
}

/// What [`Disk::room`] tells of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What it can hold at all.
    pub total: u64,
    /// What a process without special rights may still take.
    pub free: u64,
}

/// A file system. A change of names (create, rename, remove) survives a power
/// cut only once [`Disk::sync_dir`] on the parent has returned.
pub trait Disk: Send + Sync {
    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn File>>;
    /// Makes a directory and its missing parents with mode 0700; an existing one is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or directory, replacing an existing file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted by bytes. Names that are not UTF-8 are an error.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// What is at `path`, or `None` when nothing is.
    fn metadata(&self, path: &Path) -> io::Result<Option<Metadata>>;
    /// Makes changed names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// How much room the file system has that `path` lies on.
    fn room(&self, path: &Path) -> io::Result<Room>;
}

/// An open file. Calls take `&self`: readers share the file with its one writer
/// and never read what the writer may be rewriting.
///
/// A failed [`File::sync`] is final: what was written before it may or may not
/// be on disk, and a later sync that succeeds proves nothing about it.
pub trait File: Send + Sync {
    /// Current length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads up to `buf.len()` bytes at `at`; fewer only at the end of the file.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Reads exactly `buf.len()` bytes at `at`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        match self.read_at(at, buf)? {
            n if n == buf.len() => Ok(()),
            n => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} bytes wanted at offset {at}, {n} there", buf.len()),
            )),
        }
    }
    /// Writes all of `buf` at `at`, extending the file when needed.
    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()>;
    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves blocks so that the file is at least `len` bytes long, reading as
    /// zeros; fails with `StorageFull` when there is no room.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes everything written so far durable, length included (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Takes the exclusive lock that etcd takes on this kind of file; `false`
    /// when another process has it. Released when the file is dropped.
    fn try_lock(&self, kind: LockKind) -> io::Result<bool>;
    /// Tells the system that these bytes will not be read again soon.
    fn forget(&self, _at: u64, _len: u64) {}
}

/// Which kind of lock; etcd's two libraries use different ones, and only equal
/// kinds exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Open-file-description lock on the whole file (WAL segments).
    OpenFileDescription,
    /// `flock` (the bbolt file).
    Flock,
}

/// A clock. `now` never goes backwards and counts from an arbitrary start;
/// `wall` is the time of day as a duration since the Unix epoch and may jump.
pub trait Clock: Send + Sync {
    /// Monotonic time.
    fn now(&self) -> Duration;
    /// Time of day since 1970-01-01 UTC.
    fn wall(&self) -> Duration;
}

/// A source of random numbers.
pub trait Dice: Send {
    /// The next number, all values equally likely.
    fn roll(&mut self) -> u64;

    /// A number below `bound`, which must not be 0.
    fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a die needs a side");
        // Multiply-shift: the bias is below 2^-64 * bound.
        ((u128::from(self.roll()) * u128::from(bound)) >> 64) as u64
    }
}
