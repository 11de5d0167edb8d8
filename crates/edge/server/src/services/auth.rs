//! The Auth service, while nothing is checked: it says so, and while authentication is on
//! it lets nobody do anything.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use mainstay_driver::Handle;
use mainstay_proto::etcdserverpb::AuthStatusResponse;

use super::{Services, encode};
use crate::member::Member;
use crate::method::Rpc;
use crate::status::{Code, Status};
use crate::stream::RequestMessages;

/// The answer to everything that would change or read users and roles.
pub(super) fn not_yet(method: &str) -> Status {
    Status::unimplemented(format!(
        "mainstay: {method}: authentication is not supported by this version"
    ))
}

impl<M: Member> Services<M> {
    pub(super) fn auth_status(&self, out: &mut BytesMut) -> Result<(), Status> {
        let header = Some(self.header());
        let (enabled, auth_revision) =
            (self.member().auth_enabled(), self.member().auth_revision());
        encode(out, &AuthStatusResponse { header, enabled, auth_revision })
    }
}

/// What is answered all the same while authentication is on: how the member is, nothing
/// of what it holds.
pub(super) fn is_open(rpc: Rpc) -> bool {
    matches!(
        rpc,
        Rpc::Status | Rpc::AuthStatus | Rpc::HealthCheck | Rpc::HealthWatch | Rpc::HealthList
    )
}

/// The answer to everything else: another member may check who asks, this one would have to
/// let everyone in.
pub(super) fn not_checked_yet() -> Status {
    Status::new(Code::FailedPrecondition, Handle::NOT_CHECKED_YET)
}

/// The messages of a stream that may have begun before authentication was turned on.
pub(crate) struct Guarded<M, R> {
    pub(crate) member: M,
    pub(crate) requests: R,
}

impl<M: Member, R: RequestMessages> RequestMessages for Guarded<M, R> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let next = self.requests.poll_next(cx);
        match next {
            Poll::Ready(Some(Ok(_))) if self.member.auth_enabled() => {
                Poll::Ready(Some(Err(not_checked_yet())))
            }
            next => next,
        }
    }
}
