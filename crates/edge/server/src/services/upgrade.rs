//! `mainstaypb.Upgrade`: versions hold until somebody says that they may rise.

use bytes::{Bytes, BytesMut};
use mainstay_driver::{PeerAnswer, PeerCall};
use mainstay_membership::versions::{self, MemberVersion};
use mainstay_proto::mainstaypb;
use mainstay_types::{SPOKEN_VERSION, Version};
use tokio::time::{Instant, timeout_at};

use super::{Services, decode, encode};
use crate::gate::Caller;
use crate::member::Member;
use crate::status::{Code, Status};

/// What a member answered about itself.
struct Answered {
    member: MemberVersion,
    is_learner: bool,
    /// The cluster's version as it knows it.
    cluster: Option<Version>,
}

impl<M: Member> Services<M> {
    pub(super) async fn upgrade_status(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: mainstaypb::StatusRequest = decode(request)?;
        self.permit(caller, request).await?;
        self.member().linearizable().await?;
        let answered = self.versions().await;
        let members: Vec<MemberVersion> = answered.iter().map(|a| a.member.clone()).collect();
        let cluster = self.member().membership();
        let target = versions::finalized(&cluster, &members).ok();
        let reply = mainstaypb::StatusResponse {
            header: Some(self.header()),
            cluster_version: text(cluster.version()),
            storage_version: text(self.member().storage_version()),
            members: answered.into_iter().map(on_the_wire).collect(),
            holds: versions::holds(&cluster, &members).iter().map(ToString::to_string).collect(),
            target_version: text(target),
        };
        encode(out, &reply)
    }

    pub(super) async fn upgrade_finalize(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: mainstaypb::FinalizeRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        self.member().linearizable().await?;
        let answered = self.versions().await;
        let members: Vec<MemberVersion> = answered.into_iter().map(|a| a.member).collect();
        let cluster = self.member().membership();
        let target = versions::finalized(&cluster, &members).map_err(|hold| {
            let text = format!("mainstay: the cluster version cannot be finalized: {hold}");
            Status::new(Code::FailedPrecondition, text)
        })?;
        let previous = cluster.version();
        if previous != Some(target) {
            tracing::info!(
                from = text(previous),
                to = %target,
                "setting the cluster version, as it was asked to"
            );
            self.member().set_cluster_version(request.meaning(target)).await?;
        }
        let reply = mainstaypb::FinalizeResponse {
            header: Some(self.header()),
            cluster_version: target.to_string(),
            previous_version: text(previous),
        };
        encode(out, &reply)
    }

    /// What every member runs; all are asked at once.
    async fn versions(&self) -> Vec<Answered> {
        let member = self.member();
        let own = member.identity().member;
        let cluster = member.membership();
        let asked: Vec<_> = cluster
            .members()
            .map(|of| (of, (of.id != own).then(|| member.call(of.id, PeerCall::Version))))
            .collect();
        let patience = Instant::now() + member.settings().request_timeout / 2;
        let mut answered = Vec::with_capacity(asked.len());
        for (of, answer) in asked {
            let (server, known) = match answer {
                None => (Some(SPOKEN_VERSION), cluster.version()),
                Some(answer) => match timeout_at(patience, answer).await {
                    Ok(Ok(Ok(PeerAnswer::Version { server, cluster }))) => (Some(server), cluster),
                    _ => (None, None),
                },
            };
            let member = MemberVersion { id: of.id, name: of.name.clone(), server };
            answered.push(Answered { member, is_learner: of.is_learner, cluster: known });
        }
        answered
    }
}

fn on_the_wire(answered: Answered) -> mainstaypb::MemberVersion {
    mainstaypb::MemberVersion {
        id: answered.member.id.0,
        name: answered.member.name,
        is_learner: answered.is_learner,
        server_version: text(answered.member.server),
        cluster_version: text(answered.cluster),
    }
}

fn text(version: Option<Version>) -> String {
    version.map(|version| version.to_string()).unwrap_or_default()
}
