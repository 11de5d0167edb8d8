//! In whose name a request comes.

/// The user that the proposing member has recognized, and the auth revision at which
/// it did (`RequestHeader`). The default is nobody: a client without credentials, or
/// a cluster without authentication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name; empty for nobody.
    pub user: String,
    /// The auth revision; 0 for nobody.
    pub revision: u64,
}
