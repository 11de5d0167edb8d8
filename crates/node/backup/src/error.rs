//! What can go wrong with a snapshot file, in etcd's words where it has some.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use mainstay_bolt::{self as bolt, MetaFault};
use mainstay_wal::WalError;

use crate::migrate::TargetError;

/// Why a snapshot file cannot be used, or a directory not be made. Nothing is left behind then,
/// unless the disk refuses to remove it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The disk; Go's words.
    #[error("{doing} {}: {}", path.display(), plainly(source))]
    Disk {
        /// The call, as a verb.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file has no checksum behind it, and nobody said that it need not.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    HashMissing,
    /// The checksum is not that of the bytes.
    #[error("expected sha256 {}, got {}", GoBytes(expected), GoBytes(found))]
    HashWrong {
        /// What stands behind the bytes.
        expected: [u8; 32],
        /// What they come to.
        found: [u8; 32],
    },
    /// The data directory is there and holds something.
    #[error("data-dir {:?} not empty or could not be read", .0.display().to_string())]
    DataDirNotEmpty(PathBuf),
    /// The folder for the log is there.
    #[error("wal-dir {:?} exists", .0.display().to_string())]
    WalDirExists(PathBuf),
    /// The data directory would lie inside the folder of the log.
    #[error("wal-dir {:?} must not hold the data-dir", .0.display().to_string())]
    WalDirHolds(PathBuf),
    /// Another restore into the same directory is under way.
    #[error("another restore is building in {}; wait for it, or stop it", .0.display())]
    Busy(PathBuf),
    /// No bolt file.
    #[error("{0}")]
    NotBolt(MetaFault),
    /// The bolt file cannot be read.
    #[error(transparent)]
    Bolt(bolt::Error),
    /// What bbolt's check finds.
    #[error("snapshot file integrity check failed. {} errors found.\n{}", .0.len(), .0.join("\n"))]
    Check(Vec<String>),
    /// A row that etcd would not have written.
    #[error("row {} of bucket {bucket:?}: {why}", Key(key))]
    Row {
        /// The bucket.
        bucket: String,
        /// The row's key.
        key: Vec<u8>,
        /// What is wrong with it.
        why: String,
    },
    /// The file is a bolt file, but not etcd's.
    #[error("the file has no bucket {0:?}: it is not a snapshot of etcd")]
    NotEtcd(String),
    /// The revision cannot be raised so far.
    #[error("revision {latest} cannot be raised by {by}: no store can count on from there")]
    Bump {
        /// The newest revision of the snapshot.
        latest: i64,
        /// By how much it was to rise.
        by: u64,
    },
    /// The schema cannot be made that of the target version.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The log or the `.snap` file.
    #[error(transparent)]
    Wal(#[from] WalError),
}

impl From<bolt::Error> for BackupError {
    fn from(error: bolt::Error) -> BackupError {
        match error {
            bolt::Error::NotBolt { reason, .. } => BackupError::NotBolt(reason),
            other => BackupError::Bolt(other),
        }
    }
}

/// Adds what was being done to a failure of the disk.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, BackupError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, BackupError> {
        self.map_err(|source| BackupError::Disk { doing, path: path.to_owned(), source })
    }
}

/// An error of the system as Go prints it: `no such file or directory`.
fn plainly(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "no such file or directory".to_owned();
    }
    let text = error.to_string();
    let Some((text, _)) = text.split_once(" (os error") else { return text };
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Bytes as Go's `%v` shows them: `[1 2 3]`.
struct GoBytes<'a>(&'a [u8]);

impl fmt::Display for GoBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u8::to_string).collect();
        write!(f, "[{}]", numbers.join(" "))
    }
}

/// A key for people: text in quotes, else hex.
struct Key<'a>(&'a [u8]);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More of a key helps nobody.
        const SHOWN: usize = 64;
        let shown = &self.0[..self.0.len().min(SHOWN)];
        match std::str::from_utf8(shown) {
            Ok(text) if !text.chars().any(char::is_control) => write!(f, "{text:?}"),
            _ => write!(f, "{shown:02x?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_gos_words() {
        let source = io::Error::from_raw_os_error(2);
        let error = BackupError::Disk { doing: "open", path: "a/b".into(), source };
        assert_eq!(error.to_string(), "open a/b: no such file or directory");
        let error = BackupError::DataDirNotEmpty("m.etcd".into());
        assert_eq!(error.to_string(), "data-dir \"m.etcd\" not empty or could not be read");
        let error = BackupError::HashWrong { expected: [1; 32], found: [2; 32] };
        assert!(error.to_string().starts_with("expected sha256 [1 1 1"), "{error}");
        let error = BackupError::Check(vec!["page 3: a".into(), "page 4: b".into()]);
        let text = "snapshot file integrity check failed. 2 errors found.\npage 3: a\npage 4: b";
        assert_eq!(error.to_string(), text);
    }
}
