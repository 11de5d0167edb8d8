//! The Cluster service: who the members are, and changes of that.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use mainstay_membership::reconfigure::{self, Refusal, Sight};
use mainstay_membership::{self as membership, Change, Membership};
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::MemberId;

use super::{Services, decode, encode};
use crate::errors;
use crate::forward;
use crate::gate::Caller;
use crate::member::Member;
use crate::peer_urls::peer_urls;
use crate::status::Status;

impl<M: Member> Services<M> {
    pub(super) async fn member_list(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::MemberListRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        if request.linearizable {
            self.member().linearizable().await?;
        }
        let members = self.member().members(&request).await?;
        encode(out, &pb::MemberListResponse { header: self.bare_header(), members })
    }

    pub(super) async fn member_add(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::MemberAddRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let urls = peer_urls(&request.peer_ur_ls);
        let peer_urls = urls.ok_or_else(|| errors::MEMBER_BAD_URLS.status())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let added = membership::Member {
            id: membership::member_id(&peer_urls, "", Some(now.as_secs() as i64)),
            peer_urls,
            is_learner: request.is_learner,
            ..membership::Member::default()
        };
        self.check("member add", added.id, |cluster, sight| {
            reconfigure::may_add(cluster, &added, sight)
        })?;
        let members =
            self.member().change_membership(request.meaning(Change::Add(added.clone()))).await?;
        let reply = pb::MemberAddResponse {
            header: self.bare_header(),
            member: Some(on_the_wire(&added)),
            members: members.iter().map(on_the_wire).collect(),
        };
        encode(out, &reply)
    }

    pub(super) async fn member_remove(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::MemberRemoveRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let id = MemberId(request.id);
        let may_remove =
            |cluster: &Membership, sight: Sight<'_>| reconfigure::may_remove(cluster, id, sight);
        self.check("member remove", id, may_remove)?;
        let change = request.meaning(Change::Remove(id));
        let members = self.member().change_membership(change).await?;
        let members = members.iter().map(on_the_wire).collect();
        encode(out, &pb::MemberRemoveResponse { header: self.bare_header(), members })
    }

    /// The URLs are taken as they are, as etcd takes them here.
    pub(super) async fn member_update(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::MemberUpdateRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let change = Change::UpdatePeerUrls(MemberId(request.id), request.peer_ur_ls.clone());
        let change = request.meaning(change);
        let members = self.member().change_membership(change).await?;
        let members = members.iter().map(on_the_wire).collect();
        encode(out, &pb::MemberUpdateResponse { header: self.bare_header(), members })
    }

    pub(super) async fn member_promote(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::MemberPromoteRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let members = forward::promote(self.member(), &request).await?;
        let members = members.iter().map(on_the_wire).collect();
        encode(out, &pb::MemberPromoteResponse { header: self.bare_header(), members })
    }

    /// This service's headers leave the revision at 0.
    fn bare_header(&self) -> Option<pb::ResponseHeader> {
        Some(self.header_at(0))
    }

    /// The strict reconfiguration check, if it is on.
    fn check(
        &self,
        what: &str,
        id: MemberId,
        rule: impl FnOnce(&Membership, Sight<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Status> {
        let member = self.member();
        if !member.strict_reconfig() {
            return Ok(());
        }
        let connected_for = |id| member.connected_for(id);
        let sight = Sight { me: member.identity().member, connected_for: &connected_for };
        let Err(refusal) = rule(&member.membership(), sight) else { return Ok(()) };
        let why = match refusal {
            Refusal::Unhealthy => "local member has not been connected to a majority of members",
            _ => "not enough healthy members",
        };
        tracing::warn!(
            "local-member-id" = %member.identity().member,
            "requested-member-id" = %id,
            error = %refusal,
            "rejecting {what} request; {why}"
        );
        Err(errors::from_text(refusal.to_string()))
    }
}

fn on_the_wire(member: &membership::Member) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}
