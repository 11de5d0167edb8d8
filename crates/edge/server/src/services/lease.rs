//! The Lease service.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mainstay_apply::quota;
use mainstay_audit::Asked;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::STREAM_LEASES_MAX;

use super::{Services, decode, encode};
use crate::forward;
use crate::gate::{self, Caller, OnLease, Permitted, Session};
use crate::member::Member;
use crate::metrics::Kind;
use crate::status::Status;
use crate::stream::{RequestMessages, ResponseSink};

impl<M: Member> Services<M> {
    pub(super) async fn lease_grant(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let request: pb::LeaseGrantRequest = decode(request)?;
        self.check_quota(quota::lease_cost()).await?;
        let request = self.permit(caller, request).await?;
        let reply = self.member().lease_grant(request).await;
        self.registry().requests.record(Kind::LeaseGrant, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    pub(super) async fn lease_revoke(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let request: pb::LeaseRevokeRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let reply = self.member().lease_revoke(request).await;
        self.registry().requests.record(Kind::LeaseRevoke, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    pub(super) async fn lease_time_to_live(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::LeaseTimeToLiveRequest = decode(request)?;
        // Without its keys a lease says nothing about anybody.
        let request = if request.keys {
            let asked = (request.id, OnLease::TellKeys);
            gate::permit_lease(self.member(), caller, asked, request).await?
        } else {
            gate::permit_user(self.member(), caller, request)?
        };
        let mut reply = forward::lease_times(self.member(), &request).await?;
        if request.keys {
            self.still(&request)?;
        }
        reply.header = Some(self.header());
        encode(out, &reply)
    }

    pub(super) async fn lease_leases(
        &self,
        caller: &Caller,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let all = gate::permit_all_leases(self.member(), caller).await?;
        let leases = self.member().leases(&all).await?;
        let leases = leases.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        encode(out, &pb::LeaseLeasesResponse { header: Some(self.header()), leases })
    }

    /// One answer per request; a lease that is not there answers a TTL of 0.
    pub(super) async fn lease_keep_alive(
        &self,
        session: Session<M>,
        mut requests: impl RequestMessages,
        mut responses: impl ResponseSink,
    ) -> Result<(), Status> {
        let mut session = session;
        let mut renewed_here = BTreeSet::new();
        loop {
            let next = poll_fn(|cx| match session.poll_changed(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => requests.poll_next(cx).map(Some),
            });
            let Some(request) = next.await else {
                let caller = session.lasting()?;
                for lease in &renewed_here {
                    let asked = (*lease, OnLease::Renew);
                    gate::permit_lease(self.member(), &caller, asked, ()).await?;
                }
                continue;
            };
            let Some(request) = request else { return Ok(()) };
            let request: pb::LeaseKeepAliveRequest = decode(request?)?;
            let request = self.permit_renewal(&session, request).await?;
            if renewed_here.len() < STREAM_LEASES_MAX {
                renewed_here.insert(request.id);
            }
            // Before the lease is renewed: the revision promises nothing newer.
            let header = Some(self.header());
            let renewed = forward::renew_lease(self.member(), &request).await?;
            if renewed.is_some() {
                self.member().stats().leases_renewed.inc();
            }
            let ttl = renewed.unwrap_or(0);
            let reply = pb::LeaseKeepAliveResponse { header, id: request.id, ttl };
            responses.send(Bytes::from(reply.encode_to_vec())).await;
        }
    }

    /// One request of a stream of renewals, if its caller may make it.
    async fn permit_renewal(
        &self,
        session: &Session<M>,
        request: pb::LeaseKeepAliveRequest,
    ) -> Result<Permitted<pb::LeaseKeepAliveRequest>, Status> {
        let id = request.id;
        let asked = || Asked::of_lease(id);
        let caller = session.caller().inspect_err(|status| {
            session.note(None, asked, Err(status));
        })?;
        let renew = (id, OnLease::Renew);
        let permitted = gate::permit_lease(self.member(), &caller, renew, request).await;
        session.note(Some(&caller), asked, permitted.as_ref().map(drop));
        permitted
    }
}
