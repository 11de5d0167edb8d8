//! The Cluster service: who the members are.

use bytes::{Bytes, BytesMut};
use mainstay_proto::etcdserverpb as pb;

use super::{Services, decode, encode};
use crate::member::Member;
use crate::status::Status;

/// The answer to changes of the membership, which this version cannot make.
pub(super) fn not_yet(method: &str) -> Status {
    let text = format!("mainstay: {method}: this version runs a cluster of one member only");
    Status::unimplemented(text)
}

impl<M: Member> Services<M> {
    pub(super) async fn member_list(
        &self,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::MemberListRequest = decode(request)?;
        if request.linearizable {
            self.member().linearizable().await?;
        }
        let members = self.member().members().await?;
        // This service's headers leave the revision at 0.
        let header = Some(self.header_at(0));
        encode(out, &pb::MemberListResponse { header, members })
    }
}
