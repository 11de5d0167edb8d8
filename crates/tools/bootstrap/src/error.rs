//! Why a member cannot begin.

/// Why there is no [`Founding`](mainstay_driver::Founding); the text is etcd's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first members cannot be told from the flags or from DNS.
    #[error("error setting up initial cluster: {0}")]
    Setup(String),
    /// The members do not fit this one, or each other, or the running cluster.
    #[error("{0}")]
    Refused(String),
    /// The discovery service gave no cluster.
    #[error("failed to join discovery cluster ({0})")]
    Discovery(String),
    /// A certificate or a key for calls to other members cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The system gave no runtime.
    #[error("starting a runtime: {0}")]
    Runtime(#[from] std::io::Error),
}
