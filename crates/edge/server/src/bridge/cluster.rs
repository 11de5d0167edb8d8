//! The cluster around the real member.

use std::sync::Arc;
use std::time::Duration;

use mainstay_apply::{Identity, Reply};
use mainstay_driver::{CallAnswer, PeerCall, RequestField};
use mainstay_membership::{Change, Downgrade, Member, Membership};
use mainstay_proto::{Message, membershippb};
use mainstay_types::{Index, MemberId, Version};

use super::{Bridge, refused, wrong_kind};
use crate::cluster::Cluster;
use crate::gate::Permitted;
use crate::status::Status;

impl Bridge {
    /// Proposes what has no answer of its own.
    async fn settle(
        &self,
        who: &Identity,
        field: RequestField,
        request: &impl Message,
    ) -> Result<(), Status> {
        match self.handle.propose_as(who, field, request).await.map_err(refused)? {
            Reply::Done => Ok(()),
            other => wrong_kind(other),
        }
    }
}

impl Cluster for Bridge {
    fn membership(&self) -> Arc<Membership> {
        self.handle.membership()
    }

    fn connected_for(&self, member: MemberId) -> Option<Duration> {
        self.handle.transport().connected_for(member)
    }

    async fn progress(&self) -> Result<Vec<(MemberId, Index)>, Status> {
        let peers = self.handle.progress().await.map_err(refused)?;
        Ok(peers.into_iter().map(|peer| (peer.id, peer.matched)).collect())
    }

    fn strict_reconfig(&self) -> bool {
        self.strict_reconfig
    }

    async fn change_membership(&self, change: Permitted<Change>) -> Result<Vec<Member>, Status> {
        self.handle.change_membership(&change).await.map_err(refused)
    }

    async fn move_leader(&self, to: Permitted<MemberId>) -> Result<(), Status> {
        self.handle.move_leader(*to).await.map_err(refused)
    }

    async fn set_downgrade(&self, downgrade: Permitted<Downgrade>) -> Result<(), Status> {
        let (Downgrade { target, enabled }, who) = downgrade.into_parts();
        let request = membershippb::DowngradeInfoSetRequest { enabled, ver: target };
        self.settle(&who, RequestField::DowngradeInfoSet, &request).await
    }

    async fn set_cluster_version(&self, version: Permitted<Version>) -> Result<(), Status> {
        let (version, who) = version.into_parts();
        let request = membershippb::ClusterVersionSetRequest { ver: version.to_string() };
        self.settle(&who, RequestField::ClusterVersionSet, &request).await
    }

    fn call(&self, to: MemberId, call: PeerCall) -> CallAnswer {
        self.handle.transport().call(to, call)
    }
}
