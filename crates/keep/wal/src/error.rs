//! What can go wrong with a log, whose fault it is and what to do.

use std::io;
use std::path::{Path, PathBuf};

use mainstay_types::{Index, Term};

/// Why a log or a `.snap` file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// Bytes that were once safe on the disk are not what was written. Nothing
    /// was changed: cutting here could lose what clients were promised.
    #[error(
        "{} is damaged at offset {offset}: expected {expected}, found {found}; the disk or \
         whoever touched the file is at fault; nothing was changed: replace this member from its \
         peers, or restore a backup",
        file.display()
    )]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// The first byte of what is wrong.
        offset: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// Files that must be there are not.
    #[error("{}: {what}; someone removed files of the log, or this is the wrong directory", dir.display())]
    Missing {
        /// The log's directory.
        dir: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The log has no record of the snapshot to start from.
    #[error(
        "{} has no record of the snapshot at index {index} of term {term}; \
         the snapshot and the log belong to different members, or the log is older",
        dir.display()
    )]
    SnapshotMissing {
        /// The log's directory.
        dir: PathBuf,
        /// The snapshot's index.
        index: Index,
        /// The snapshot's term.
        term: Term,
    },
    /// The log goes another way than the member did: a later snapshot than the one to start
    /// from took the place of what it holds.
    #[error(
        "{}: a leader's snapshot at index {index} of term {term} took the place of what the log \
         holds, and its .snap file is missing or damaged: bring the file back, or remove this \
         member from the cluster and add it again",
        dir.display()
    )]
    Replaced {
        /// The log's directory.
        dir: PathBuf,
        /// The snapshot's index.
        index: Index,
        /// The snapshot's term.
        term: Term,
    },
    /// A valid record of a kind or with a field that this version does not know.
    #[error(
        "{} holds {what} at offset {offset}, which this version does not know; \
         a newer version wrote it: start that version",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// What is unknown.
        what: String,
    },
    /// Another process has the log open.
    #[error("{} is locked: another process, perhaps another etcd, is using it; stop that one", file.display())]
    Locked {
        /// The segment whose lock is taken.
        file: PathBuf,
    },
    /// A log is there already.
    #[error("{} holds a log already; nothing was changed", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// The caller asked for something that must not be written; nothing was.
    #[error("not written to the log: {0}; this is a bug of the caller")]
    Invalid(String),
    /// The disk failed.
    #[error("cannot {doing} {}: {source}; check the disk", path.display())]
    Disk {
        /// The call, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// An earlier write or sync failed, so nobody knows what is on the disk.
    #[error(
        "the log stopped at an earlier failure and takes no more records; \
         restart the member, which reads back what the disk holds"
    )]
    Stopped,
}

impl WalError {
    /// Whether the disk is full, or what we may take of it.
    pub fn is_full(&self) -> bool {
        let full = |kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, WalError::Disk { source, .. } if full(source.kind()))
    }

    /// Whether bytes that were safe are not what was written.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, WalError::Corrupt { .. })
    }
}

/// Adds what was being done to a failure of the disk.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, WalError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, WalError> {
        self.map_err(|source| WalError::Disk { doing, path: path.to_owned(), source })
    }
}
