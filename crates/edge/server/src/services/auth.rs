//! The Auth service, while there is no authentication: it says so.

use bytes::BytesMut;
use mainstay_proto::etcdserverpb::AuthStatusResponse;

use super::{Services, encode};
use crate::member::Member;
use crate::status::Status;

/// The auth revision of a store that no auth change has touched (semantics 11.1).
const FIRST_AUTH_REVISION: u64 = 1;

/// The answer to everything that would change or read users and roles.
pub(super) fn not_yet(method: &str) -> Status {
    Status::unimplemented(format!(
        "mainstay: {method}: authentication is not supported by this version"
    ))
}

impl<M: Member> Services<M> {
    pub(super) fn auth_status(&self, out: &mut BytesMut) -> Result<(), Status> {
        let header = Some(self.header());
        let auth_revision = FIRST_AUTH_REVISION;
        encode(out, &AuthStatusResponse { header, enabled: false, auth_revision })
    }
}
