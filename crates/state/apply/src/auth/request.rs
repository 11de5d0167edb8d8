//! The seventeen requests of the Auth service, as entries carry them.

use std::fmt;

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;

use crate::StopReason;
use crate::entry::message;

/// A request about users, roles, permissions, tokens, or authentication as a whole.
#[derive(Clone, PartialEq)]
#[expect(missing_docs, reason = "each variant is the request of that name")]
pub enum AuthRequest {
    Enable,
    Disable,
    Status,
    Authenticate(pb::InternalAuthenticateRequest),
    UserAdd(pb::AuthUserAddRequest),
    UserDelete(pb::AuthUserDeleteRequest),
    UserGet(pb::AuthUserGetRequest),
    UserChangePassword(pb::AuthUserChangePasswordRequest),
    UserGrantRole(pb::AuthUserGrantRoleRequest),
    UserRevokeRole(pb::AuthUserRevokeRoleRequest),
    UserList,
    RoleList,
    RoleAdd(pb::AuthRoleAddRequest),
    RoleDelete(pb::AuthRoleDeleteRequest),
    RoleGet(pb::AuthRoleGetRequest),
    RoleGrantPermission(pb::AuthRoleGrantPermissionRequest),
    RoleRevokePermission(pb::AuthRoleRevokePermissionRequest),
}

/// The name alone: passwords, hashes and tokens are in the requests.
impl fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl AuthRequest {
    /// Decodes the body of a field of an `InternalRaftRequest`; `None` when the field is
    /// no request about authentication.
    pub(crate) fn decode(field: u32, body: Bytes) -> Result<Option<AuthRequest>, StopReason> {
        use AuthRequest as A;
        Ok(Some(match field {
            1000 => message::<pb::AuthEnableRequest>(body).map(|_| A::Enable)?,
            1011 => message::<pb::AuthDisableRequest>(body).map(|_| A::Disable)?,
            1012 => A::Authenticate(message(body)?),
            1013 => message::<pb::AuthStatusRequest>(body).map(|_| A::Status)?,
            1100 => A::UserAdd(message(body)?),
            1101 => A::UserDelete(message(body)?),
            1102 => A::UserGet(message(body)?),
            1103 => A::UserChangePassword(message(body)?),
            1104 => A::UserGrantRole(message(body)?),
            1105 => A::UserRevokeRole(message(body)?),
            1106 => message::<pb::AuthUserListRequest>(body).map(|_| A::UserList)?,
            1107 => message::<pb::AuthRoleListRequest>(body).map(|_| A::RoleList)?,
            1200 => A::RoleAdd(message(body)?),
            1201 => A::RoleDelete(message(body)?),
            1202 => A::RoleGet(message(body)?),
            1203 => A::RoleGrantPermission(message(body)?),
            1204 => A::RoleRevokePermission(message(body)?),
            _ => return Ok(None),
        }))
    }

    /// Whether it only asks, so that members other than the proposer skip it.
    pub fn only_asks(&self) -> bool {
        use AuthRequest as A;
        match self {
            A::Status | A::UserGet(_) | A::UserList | A::RoleGet(_) | A::RoleList => true,
            A::Enable
            | A::Disable
            | A::Authenticate(_)
            | A::UserAdd(_)
            | A::UserDelete(_)
            | A::UserChangePassword(_)
            | A::UserGrantRole(_)
            | A::UserRevokeRole(_)
            | A::RoleAdd(_)
            | A::RoleDelete(_)
            | A::RoleGrantPermission(_)
            | A::RoleRevokePermission(_) => false,
        }
    }

    /// Its name in etcd's protocol.
    pub fn name(&self) -> &'static str {
        use AuthRequest as A;
        match self {
            A::Enable => "auth_enable",
            A::Disable => "auth_disable",
            A::Status => "auth_status",
            A::Authenticate(_) => "authenticate",
            A::UserAdd(_) => "auth_user_add",
            A::UserDelete(_) => "auth_user_delete",
            A::UserGet(_) => "auth_user_get",
            A::UserChangePassword(_) => "auth_user_change_password",
            A::UserGrantRole(_) => "auth_user_grant_role",
            A::UserRevokeRole(_) => "auth_user_revoke_role",
            A::UserList => "auth_user_list",
            A::RoleList => "auth_role_list",
            A::RoleAdd(_) => "auth_role_add",
            A::RoleDelete(_) => "auth_role_delete",
            A::RoleGet(_) => "auth_role_get",
            A::RoleGrantPermission(_) => "auth_role_grant_permission",
            A::RoleRevokePermission(_) => "auth_role_revoke_permission",
        }
    }
}
