//! The Auth service.

use bytes::{Bytes, BytesMut};
use mainstay_apply::{AuthRequest, Reply};
use mainstay_credentials::Origin;
use mainstay_proto::etcdserverpb as pb;

use super::{Services, decode, encode};
use crate::call::Call;
use crate::errors;
use crate::gate::Caller;
use crate::member::Member;
use crate::method::Rpc;
use crate::status::Status;

/// Encodes a reply of the Auth service with its header filled in; what is none of its
/// replies would be a bug of ours.
macro_rules! answer {
    ($self:ident, $reply:expr, $out:expr, [$($kind:ident),* $(,)?]) => {
        match $reply {
            $(Reply::$kind(mut reply) => {
                reply.header = $self.complete(reply.header);
                encode($out, &reply)
            })*
            other => Err(errors::from_text(format!("etcdserver: unexpected reply {other:?}"))),
        }
    };
}

impl<M: Member> Services<M> {
    /// Everything of the service but `Authenticate`.
    pub(super) async fn auth_call(
        &self,
        caller: &Caller,
        rpc: Rpc,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request = read(rpc, request)?;
        let request = self.permit(caller, request).await?;
        let reply = self.member().change_auth(request).await?;
        answer!(
            self,
            reply,
            out,
            [
                AuthEnable,
                AuthDisable,
                AuthStatus,
                AuthUserAdd,
                AuthUserDelete,
                AuthUserGet,
                AuthUserChangePassword,
                AuthUserGrantRole,
                AuthUserRevokeRole,
                AuthUserList,
                AuthRoleList,
                AuthRoleAdd,
                AuthRoleDelete,
                AuthRoleGet,
                AuthRoleGrantPermission,
                AuthRoleRevokePermission,
            ]
        )
    }

    pub(super) async fn authenticate(
        &self,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::AuthenticateRequest = decode(request)?;
        let from = Origin::of(&call.peer.address);
        let mut reply = self.member().authenticate(request, from).await?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }
}

/// The request of a call, as entries carry it.
fn read(rpc: Rpc, request: Bytes) -> Result<AuthRequest, Status> {
    use AuthRequest as A;
    Ok(match rpc {
        Rpc::AuthEnable => decode::<pb::AuthEnableRequest>(request).map(|_| A::Enable)?,
        Rpc::AuthDisable => decode::<pb::AuthDisableRequest>(request).map(|_| A::Disable)?,
        Rpc::AuthStatus => decode::<pb::AuthStatusRequest>(request).map(|_| A::Status)?,
        Rpc::UserAdd => A::UserAdd(decode(request)?),
        Rpc::UserGet => A::UserGet(decode(request)?),
        Rpc::UserList => decode::<pb::AuthUserListRequest>(request).map(|_| A::UserList)?,
        Rpc::UserDelete => A::UserDelete(decode(request)?),
        Rpc::UserChangePassword => A::UserChangePassword(decode(request)?),
        Rpc::UserGrantRole => A::UserGrantRole(decode(request)?),
        Rpc::UserRevokeRole => A::UserRevokeRole(decode(request)?),
        Rpc::RoleAdd => A::RoleAdd(decode(request)?),
        Rpc::RoleGet => A::RoleGet(decode(request)?),
        Rpc::RoleList => decode::<pb::AuthRoleListRequest>(request).map(|_| A::RoleList)?,
        Rpc::RoleDelete => A::RoleDelete(decode(request)?),
        Rpc::RoleGrantPermission => A::RoleGrantPermission(decode(request)?),
        Rpc::RoleRevokePermission => A::RoleRevokePermission(decode(request)?),
        _ => return Err(Status::internal("routed to the wrong place")),
    })
}
