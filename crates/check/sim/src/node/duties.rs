//! What a member does unasked: it publishes itself, gives a new cluster its version,
//! and, leading, revokes what has expired.

use mainstay_env::{Dice as _, Disk as _};
use mainstay_member::Input;
use mainstay_proto::{Message as _, etcdserverpb as pb, membershippb};
use mainstay_types::limits::LEASE_REVOKES_PER_TURN;

use super::boot::snap_dir;
use super::{Death, Life, NodeEvent};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::plan::SECOND;

/// How often (etcd, lessor's loop).
const EVERY: u64 = SECOND / 2;

impl Life {
    pub(super) fn duties_turn(&mut self, ctx: &mut Ctx) -> Result<(), Death> {
        self.after(ctx, EVERY, NodeEvent::Duties);
        if self.reserve.is_spent()
            && self.sim.room(&snap_dir()).is_ok_and(|room| self.reserve.refill(room))
        {
            ctx.stats.count("reserves taken back");
        }
        let status = self.mind.status();
        if status.leader.is_none() {
            return Ok(());
        }
        let own = self.machine.membership().member(self.id);
        if own.is_some_and(|member| !member.is_started()) && ctx.dice.one_in(8) {
            self.publish_itself(ctx);
        }
        if self.leads() {
            if self.machine.membership().version().is_none() && ctx.dice.one_in(4) {
                self.propose(
                    ctx,
                    pb::InternalRaftRequest {
                        cluster_version_set: Some(membershippb::ClusterVersionSetRequest {
                            ver: "3.7.0".into(),
                        }),
                        ..Default::default()
                    },
                );
            }
            self.revoke_expired(ctx);
        }
        self.turn_soon(ctx)
    }

    fn publish_itself(&mut self, ctx: &mut Ctx) {
        let attributes = membershippb::Attributes {
            name: format!("n{}", self.id),
            client_urls: vec![format!("http://n{}:2379", self.id)],
        };
        self.propose(
            ctx,
            pb::InternalRaftRequest {
                cluster_member_attr_set: Some(membershippb::ClusterMemberAttrSetRequest {
                    member_id: self.id.0,
                    member_attributes: Some(attributes),
                }),
                ..Default::default()
            },
        );
    }

    /// A leader proposes into its own log, in its own term: if it is a leader no more,
    /// nothing comes of it. While it hands over, proposals wait for the next leader, which
    /// counts on its own: nothing is revoked then.
    fn revoke_expired(&mut self, ctx: &mut Ctx) {
        if self.mind.status().transferee.is_some() {
            return;
        }
        let now = self.lease_clock(ctx);
        let Some(timer) = &mut self.timer else { return };
        for lease in timer.expired(now, LEASE_REVOKES_PER_TURN) {
            if ctx.has(Bug::RevokeByDeposed) {
                let delay = ctx.dice.below(5 * SECOND);
                self.after(ctx, delay, NodeEvent::Revoke(lease.0));
                continue;
            }
            ctx.tell(|| format!("{} revokes lease {}, which has expired", self.id, lease.0));
            ctx.stats.count("leases expired");
            let lease_revoke = Some(pb::LeaseRevokeRequest { id: lease.0 });
            self.propose(ctx, pb::InternalRaftRequest { lease_revoke, ..Default::default() });
        }
    }

    pub(super) fn propose_revoke(&mut self, ctx: &mut Ctx, lease: i64) -> Result<(), Death> {
        let lease_revoke = Some(pb::LeaseRevokeRequest { id: lease });
        self.propose(ctx, pb::InternalRaftRequest { lease_revoke, ..Default::default() });
        self.turn_soon(ctx)
    }

    fn propose(&mut self, ctx: &mut Ctx, request: pb::InternalRaftRequest) {
        let id = ctx.next_id();
        let data = pb::InternalRaftRequest { id, ..request }.encode_to_vec().into();
        self.mind.feed(Input::Propose { id, data });
    }
}
