//! The Lease service.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mainstay_apply::quota;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;

use super::{Services, decode, encode};
use crate::forward;
use crate::member::Member;
use crate::metrics::Kind;
use crate::status::Status;
use crate::stream::{RequestMessages, ResponseSink};

impl<M: Member> Services<M> {
    pub(super) async fn lease_grant(
        &self,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let request: pb::LeaseGrantRequest = decode(request)?;
        self.check_quota(quota::lease_cost()).await?;
        let reply = self.member().lease_grant(request).await;
        self.registry().requests.record(Kind::LeaseGrant, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    pub(super) async fn lease_revoke(
        &self,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let request: pb::LeaseRevokeRequest = decode(request)?;
        let reply = self.member().lease_revoke(request).await;
        self.registry().requests.record(Kind::LeaseRevoke, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    pub(super) async fn lease_time_to_live(
        &self,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::LeaseTimeToLiveRequest = decode(request)?;
        let mut reply = forward::lease_times(self.member(), request).await?;
        reply.header = Some(self.header());
        encode(out, &reply)
    }

    pub(super) async fn lease_leases(&self, out: &mut BytesMut) -> Result<(), Status> {
        let leases = self.member().leases().await?;
        let leases = leases.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        encode(out, &pb::LeaseLeasesResponse { header: Some(self.header()), leases })
    }

    /// One answer per request; a lease that is not there answers a TTL of 0.
    pub(super) async fn lease_keep_alive(
        &self,
        mut requests: impl RequestMessages,
        mut responses: impl ResponseSink,
    ) -> Result<(), Status> {
        while let Some(request) = requests.next().await {
            let request: pb::LeaseKeepAliveRequest = decode(request?)?;
            // Before the lease is renewed: the revision promises nothing newer.
            let header = Some(self.header());
            let renewed = forward::renew_lease(self.member(), request.id).await?;
            if renewed.is_some() {
                self.member().stats().leases_renewed.inc();
            }
            let ttl = renewed.unwrap_or(0);
            let reply = pb::LeaseKeepAliveResponse { header, id: request.id, ttl };
            responses.send(Bytes::from(reply.encode_to_vec())).await;
        }
        Ok(())
    }
}
