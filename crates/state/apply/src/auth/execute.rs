//! Executes requests about authentication that the permission check has let through.

use std::sync::Arc;

use mainstay_auth::{Auth, AuthError};
use mainstay_backend::Batch;
use mainstay_proto::etcdserverpb as pb;

use crate::ApplyError;
use crate::auth::AuthRequest;
use crate::guard::Failure;
use crate::machine::{Machine, Turn};
use crate::reply::{Reply, Token, TokenChange};
use crate::txn::header;

impl Machine {
    pub(crate) fn execute_auth(
        &mut self,
        turn: &mut Turn,
        request: AuthRequest,
    ) -> Result<Reply, Failure> {
        if request.only_asks() {
            return if turn.local { self.answer_auth(request) } else { Ok(Reply::Done) };
        }
        if let AuthRequest::Authenticate(request) = request {
            return self.authenticate(turn, request);
        }
        let before = (self.auth.is_enabled(), self.auth.revision());
        let voided = tokens_voided(&request);
        let auth = Arc::make_mut(&mut self.auth);
        let reply = change(auth, &mut turn.batch, request, self.store.revision());
        let reply = reply.map_err(ApplyError::from)?;
        let after = (self.auth.is_enabled(), self.auth.revision());
        turn.effects.auth_changed = before != after;
        turn.effects.auth_enabled = !before.0 && after.0;
        turn.effects.tokens = if before.0 && !after.0 {
            Some(Box::new(TokenChange::AllVoid))
        } else {
            voided.map(|user| Box::new(TokenChange::Void(user)))
        };
        Ok(reply)
    }

    fn answer_auth(&self, request: AuthRequest) -> Result<Reply, Failure> {
        use AuthRequest as A;
        let (auth, header) = (&self.auth, header(self.store.revision()));
        Ok(match request {
            A::UserGet(request) => {
                let roles = auth.roles_of(&request.name).map_err(ApplyError::from)?.to_vec();
                Reply::AuthUserGet(pb::AuthUserGetResponse { header, roles })
            }
            A::RoleGet(request) => {
                let perm = auth.permissions_of(&request.role).map_err(ApplyError::from)?;
                Reply::AuthRoleGet(pb::AuthRoleGetResponse { header, perm })
            }
            A::UserList => {
                Reply::AuthUserList(pb::AuthUserListResponse { header, users: auth.users() })
            }
            A::RoleList => {
                Reply::AuthRoleList(pb::AuthRoleListResponse { header, roles: auth.roles() })
            }
            // Status; the others do not only ask.
            _ => {
                let (enabled, auth_revision) = (auth.is_enabled(), auth.revision());
                Reply::AuthStatus(pb::AuthStatusResponse { header, enabled, auth_revision })
            }
        })
    }

    /// The password was checked before the proposal. The token is made on every member:
    /// the proposer's random letters and the index up to which a member must have
    /// applied before it can know the token, which is that of the entry before this one.
    fn authenticate(
        &self,
        turn: &mut Turn,
        request: pb::InternalAuthenticateRequest,
    ) -> Result<Reply, Failure> {
        self.auth.may_have_token(&request.name).map_err(ApplyError::from)?;
        let token = format!("{}.{}", request.simple_token, self.applied().0);
        let issued = TokenChange::Issued { user: request.name, token: Token(token.clone()) };
        turn.effects.tokens = Some(Box::new(issued));
        let header = header(self.store.revision());
        Ok(Reply::Authenticate(pb::AuthenticateResponse { header, token }))
    }
}

/// The user whose tokens a change makes void, when it succeeds.
fn tokens_voided(request: &AuthRequest) -> Option<String> {
    match request {
        AuthRequest::UserDelete(request) => Some(request.name.clone()),
        AuthRequest::UserChangePassword(request) => Some(request.name.clone()),
        _ => None,
    }
}

/// Performs a change; `revision` is the store's, for the reply's header.
fn change(
    auth: &mut Auth,
    batch: &mut Batch,
    request: AuthRequest,
    revision: i64,
) -> Result<Reply, AuthError> {
    use AuthRequest as A;
    let header = header(revision);
    Ok(match request {
        A::Enable => {
            auth.enable(batch)?;
            Reply::AuthEnable(pb::AuthEnableResponse { header })
        }
        A::Disable => {
            auth.disable(batch);
            Reply::AuthDisable(pb::AuthDisableResponse { header })
        }
        A::UserAdd(request) => {
            auth.add_user(&request, batch)?;
            Reply::AuthUserAdd(pb::AuthUserAddResponse { header })
        }
        A::UserDelete(request) => {
            auth.delete_user(&request.name, batch)?;
            Reply::AuthUserDelete(pb::AuthUserDeleteResponse { header })
        }
        A::UserChangePassword(request) => {
            auth.change_password(&request, batch)?;
            Reply::AuthUserChangePassword(pb::AuthUserChangePasswordResponse { header })
        }
        A::UserGrantRole(request) => {
            auth.grant_role(&request.user, &request.role, batch)?;
            Reply::AuthUserGrantRole(pb::AuthUserGrantRoleResponse { header })
        }
        A::UserRevokeRole(request) => {
            auth.revoke_role(&request.name, &request.role, batch)?;
            Reply::AuthUserRevokeRole(pb::AuthUserRevokeRoleResponse { header })
        }
        A::RoleAdd(request) => {
            auth.add_role(&request.name, batch)?;
            Reply::AuthRoleAdd(pb::AuthRoleAddResponse { header })
        }
        A::RoleDelete(request) => {
            auth.delete_role(&request.role, batch)?;
            Reply::AuthRoleDelete(pb::AuthRoleDeleteResponse { header })
        }
        A::RoleGrantPermission(request) => {
            auth.grant_permission(request, batch)?;
            Reply::AuthRoleGrantPermission(pb::AuthRoleGrantPermissionResponse { header })
        }
        A::RoleRevokePermission(request) => {
            auth.revoke_permission(&request, batch)?;
            Reply::AuthRoleRevokePermission(pb::AuthRoleRevokePermissionResponse { header })
        }
        A::Status
        | A::Authenticate(_)
        | A::UserGet(_)
        | A::UserList
        | A::RoleList
        | A::RoleGet(_) => unreachable!("the caller has answered it"),
    })
}
