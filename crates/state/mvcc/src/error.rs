//! Why a question about the key space has no answer.

use mainstay_backend::BackendError;

/// Texts are etcd's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum MvccError {
    /// Below the compaction.
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    /// Above the current revision.
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    /// The disk failed, or what it holds is damaged.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The index knows a revision whose row is not there or cannot be read.
    #[error("the row of revision {revision} is {what}: the db is damaged")]
    Row {
        /// The revision.
        revision: mainstay_types::Revision,
        /// What is wrong with it.
        what: &'static str,
    },
}
