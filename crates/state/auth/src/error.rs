//! Why a request about users or keys is refused, and rows that cannot be read.

/// A refusal, on every member alike. Texts are those that etcd's clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Enabling needs a user `root`.
    #[error("etcdserver: root user does not exist")]
    RootUserNotExist,
    /// Enabling needs user `root` to have role `root`.
    #[error("etcdserver: root user does not have root role")]
    RootRoleNotExist,
    /// There is such a user.
    #[error("etcdserver: user name already exists")]
    UserExists,
    /// A user without a name, or a key operation without a user.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// There is no such user.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// There is such a role.
    #[error("etcdserver: role name already exists")]
    RoleExists,
    /// There is no such role.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// A role without a name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// A token for somebody who is gone, or who has no password.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    Failed,
    /// A password that cannot be stored. etcd uses this text for every such reason.
    #[error("auth: authentication failed, password was given for no password user")]
    Password,
    /// A grant without a permission.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// The user may not do this.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// The user does not have the role that is to be revoked.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// The role does not have the permission that is to be revoked.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// A token while authentication is off.
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    /// A permission on no range, or a change that would lock `root` out.
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
    /// The request was checked before the last change of users or roles.
    #[error("etcdserver: revision of auth store is old")]
    OldRevision,
}

/// A row of an auth bucket that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("row {key:?} of bucket {bucket} cannot be read: {why}")]
pub struct RowError {
    /// The bucket.
    pub bucket: &'static str,
    /// The row's key, as text.
    pub key: String,
    /// What is wrong with the value; never the value, which may hold a password's hash.
    pub why: String,
}
