//! What can go wrong, said with file, page and offset.

use std::io;
use std::path::PathBuf;

/// Why a bolt call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("{}: {doing}: {source}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What was being done, such as "write of 8192 bytes at offset 4096".
        doing: String,
        /// What the disk said.
        source: io::Error,
    },
    /// No room for a commit. Nothing of it is in the file; it may be tried again.
    #[error("{}: no room for {bytes} bytes: {source}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Length that the file was to have.
        bytes: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// Bytes on disk are not what the format demands. Nothing of the page is served.
    #[error("{}: page {page} at offset {offset}: {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Page id.
        page: u64,
        /// Byte offset of the page in the file.
        offset: u64,
        /// What should have been there and what was.
        expected: String,
    },
    /// Neither meta page can be used; the words are about the first (bbolt reports the first too).
    #[error("{}: no usable meta page: {reason}", path.display())]
    NotBolt {
        /// The file.
        path: PathBuf,
        /// What is wrong with meta page 0.
        reason: MetaFault,
    },
    /// Another process has the file open for writing.
    #[error("{}: locked by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A write or sync failed earlier; the file must be opened again before anything is committed.
    #[error("{}: an earlier write or sync failed, nothing more is written", path.display())]
    Stopped {
        /// The file.
        path: PathBuf,
    },
    /// A key in the batch is empty.
    #[error("bucket {bucket:?}: key required")]
    KeyEmpty {
        /// Bucket name, lossily as text.
        bucket: String,
    },
    /// A key in the batch is longer than [`mainstay_types::limits::BOLT_KEY_BYTES_MAX`].
    #[error("bucket {bucket:?}: key of {bytes} bytes is too large")]
    KeyTooLarge {
        /// Bucket name, lossily as text.
        bucket: String,
        /// Length of the key.
        bytes: usize,
    },
    /// A value in the batch is longer than [`mainstay_types::limits::BOLT_VALUE_BYTES_MAX`].
    #[error("bucket {bucket:?}: value of {bytes} bytes is too large")]
    ValueTooLarge {
        /// Bucket name, lossily as text.
        bucket: String,
        /// Length of the value.
        bytes: usize,
    },
    /// The bucket does not exist and the batch does not create it.
    #[error("bucket {bucket:?} not found")]
    NoBucket {
        /// Bucket name, lossily as text.
        bucket: String,
    },
    /// A row was to replace a nested bucket, or the other way round.
    #[error("bucket {bucket:?}: a row and a nested bucket have the same key")]
    Incompatible {
        /// Bucket name, lossily as text.
        bucket: String,
    },
    /// A compacted copy was asked of a file with nested buckets, which etcd never makes.
    #[error("bucket {bucket:?} holds nested buckets, which are not copied")]
    Nested {
        /// Bucket name, lossily as text.
        bucket: String,
    },
}

/// What is wrong with a meta page, in bbolt's order of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaFault {
    /// The magic number is missing, or the file is too short.
    #[error("invalid database")]
    Invalid,
    /// Another format version.
    #[error("version mismatch")]
    Version,
    /// The checksum does not fit.
    #[error("checksum error")]
    Checksum,
}

/// The result of a bolt call.
pub type Result<T> = std::result::Result<T, Error>;

/// A bucket name or key as text for an error.
pub(crate) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
