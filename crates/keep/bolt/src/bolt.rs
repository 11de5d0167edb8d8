//! The one writer.

use std::path::Path;

use mainstay_env::Disk;

use crate::check::Problem;
use crate::error::{Error, Result};
use crate::{Reader, WriteBatch};

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Page size of a file that is created, in bytes: a power of two from 1024 to 65,536. An
    /// existing file keeps its own.
    pub page_size: usize,
    /// Never sync (etcd's `--unsafe-no-fsync`): a power cut may lose the file.
    pub no_sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { page_size: 4096, no_sync: false }
    }
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// The transaction id now current.
    pub txid: u64,
    /// Pages written, meta included; 0 when the batch changed nothing.
    pub pages_written: u64,
    /// Bytes written, meta included.
    pub bytes_written: u64,
}

/// An open bolt file: its one writer and the source of its readers.
pub struct Bolt {
    _private: (),
}

impl Bolt {
    /// Opens `path`, or creates it with bbolt's four first pages, and takes the exclusive lock
    /// ([`Error::Locked`] when another process has it). Walks every page to find the free ones.
    pub fn open(disk: &dyn Disk, path: &Path, options: Options) -> Result<Self> {
        Self::open_visiting(disk, path, options, b"", &mut |_, _| {})
    }

    /// As [`Bolt::open`], and calls `visit(key, value)` for every row of the top-level `bucket`,
    /// in key order, in the same pass over the file. A missing bucket has no rows.
    pub fn open_visiting(
        _disk: &dyn Disk,
        path: &Path,
        _options: Options,
        _bucket: &[u8],
        _visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Self> {
        Err(Error::Stopped { path: path.to_owned() })
    }

    /// A snapshot of the last committed state. It pins pages until its last clone is dropped.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::skeleton()
    }

    /// Writes the batch as one transaction; durable when this returns. On an error nothing of it
    /// is visible, now or after a restart, except after [`Error::Disk`]: then it may or may not
    /// be in the file, and every later commit answers [`Error::Stopped`].
    pub fn commit(&mut self, _batch: WriteBatch) -> Result<CommitStats> {
        Ok(CommitStats::default())
    }

    /// bbolt's own checks over the current state, and our free list against them.
    pub fn check(&self) -> Result<Vec<Problem>> {
        self.reader().check()
    }
}
