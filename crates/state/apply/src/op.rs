//! What kind of request an entry was, as etcd's metrics name it.

use crate::entry::{AuthRequest, Request};

/// Kinds of requests, by the label `op` of `etcd_server_apply_duration_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the request of that name")]
pub enum Op {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    LeaseCheckpoint,
    Alarm,
    ClusterVersionSet,
    ClusterMemberAttrSet,
    DowngradeInfoSet,
    DowngradeVersionTest,
    Authenticate,
    AuthEnable,
    AuthDisable,
    AuthUserAdd,
    AuthUserDelete,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserGet,
    AuthUserRevokeRole,
    AuthUserList,
    AuthRoleAdd,
    AuthRoleGrantPermission,
    AuthRoleGet,
    AuthRoleRevokePermission,
    AuthRoleDelete,
    AuthRoleList,
    /// `AuthStatus`, for which etcd has no name.
    Unknown,
}

impl Op {
    /// Every kind, each at the place that its number says.
    pub const ALL: [Op; 30] = [
        Op::Range,
        Op::Put,
        Op::DeleteRange,
        Op::Txn,
        Op::Compaction,
        Op::LeaseGrant,
        Op::LeaseRevoke,
        Op::LeaseCheckpoint,
        Op::Alarm,
        Op::ClusterVersionSet,
        Op::ClusterMemberAttrSet,
        Op::DowngradeInfoSet,
        Op::DowngradeVersionTest,
        Op::Authenticate,
        Op::AuthEnable,
        Op::AuthDisable,
        Op::AuthUserAdd,
        Op::AuthUserDelete,
        Op::AuthUserChangePassword,
        Op::AuthUserGrantRole,
        Op::AuthUserGet,
        Op::AuthUserRevokeRole,
        Op::AuthUserList,
        Op::AuthRoleAdd,
        Op::AuthRoleGrantPermission,
        Op::AuthRoleGet,
        Op::AuthRoleRevokePermission,
        Op::AuthRoleDelete,
        Op::AuthRoleList,
        Op::Unknown,
    ];

    /// etcd's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Op::Range => "Range",
            Op::Put => "Put",
            Op::DeleteRange => "DeleteRange",
            Op::Txn => "Txn",
            Op::Compaction => "Compaction",
            Op::LeaseGrant => "LeaseGrant",
            Op::LeaseRevoke => "LeaseRevoke",
            Op::LeaseCheckpoint => "LeaseCheckpoint",
            Op::Alarm => "Alarm",
            Op::ClusterVersionSet => "ClusterVersionSet",
            Op::ClusterMemberAttrSet => "ClusterMemberAttrSet",
            Op::DowngradeInfoSet => "DowngradeInfoSet",
            Op::DowngradeVersionTest => "DowngradeVersionTest",
            Op::Authenticate => "Authenticate",
            Op::AuthEnable => "AuthEnable",
            Op::AuthDisable => "AuthDisable",
            Op::AuthUserAdd => "AuthUserAdd",
            Op::AuthUserDelete => "AuthUserDelete",
            Op::AuthUserChangePassword => "AuthUserChangePassword",
            Op::AuthUserGrantRole => "AuthUserGrantRole",
            Op::AuthUserGet => "AuthUserGet",
            Op::AuthUserRevokeRole => "AuthUserRevokeRole",
            Op::AuthUserList => "AuthUserList",
            Op::AuthRoleAdd => "AuthRoleAdd",
            Op::AuthRoleGrantPermission => "AuthRoleGrantPermission",
            Op::AuthRoleGet => "AuthRoleGet",
            Op::AuthRoleRevokePermission => "AuthRoleRevokePermission",
            Op::AuthRoleDelete => "AuthRoleDelete",
            Op::AuthRoleList => "AuthRoleList",
            Op::Unknown => "unknown",
        }
    }

    pub(crate) fn of(request: &Request) -> Op {
        match request {
            Request::Range(_) => Op::Range,
            Request::Put(_) => Op::Put,
            Request::DeleteRange(_) => Op::DeleteRange,
            Request::Txn(_) => Op::Txn,
            Request::Compaction(_) => Op::Compaction,
            Request::LeaseGrant(_) => Op::LeaseGrant,
            Request::LeaseRevoke(_) => Op::LeaseRevoke,
            Request::LeaseCheckpoint(_) => Op::LeaseCheckpoint,
            Request::Alarm(_) => Op::Alarm,
            Request::Auth(request) => Op::of_auth(request),
            Request::ClusterVersionSet(_) => Op::ClusterVersionSet,
            Request::MemberAttributesSet(..) => Op::ClusterMemberAttrSet,
            Request::DowngradeInfoSet(_) => Op::DowngradeInfoSet,
            Request::DowngradeVersionTest => Op::DowngradeVersionTest,
        }
    }

    /// By its name in the protocol, which is that of the metric but for the case.
    fn of_auth(request: &AuthRequest) -> Op {
        let letters = || request.name().chars().filter(|letter| *letter != '_');
        let named = |op: &Op| {
            let lower = op.name().chars().map(|letter| letter.to_ascii_lowercase());
            lower.eq(letters())
        };
        Op::ALL.into_iter().find(named).unwrap_or(Op::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_at_its_place_under_its_name() {
        for (at, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, at);
            if op != Op::Unknown {
                assert_eq!(op.name(), format!("{op:?}"));
            }
        }
    }
}
