//! The Election service (`v3electionpb`): a lock whose holder's key carries a value.

use bytes::{Bytes, BytesMut};
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb::KeyValue;
use mainstay_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use pb::range_request::SortOrder;
use pb::request_op::Request as Op;

use super::contest::{Caller, Place, contend};
use super::inside::{
    Inside, by_creation, created_at, end_of, first_of, is_delete, key_of, operation, prefix_of,
};
use super::{Services, decode, encode};
use crate::call::Call;
use crate::grpc::Service;
use crate::member::Member;
use crate::status::{Code, Status};
use crate::stream::{RequestMessages, ResponseSink};

type Header = Option<pb::ResponseHeader>;

impl<M: Member> Services<M> {
    pub(super) async fn campaign(
        &self,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: CampaignRequest = decode(request)?;
        let inside = Inside::new(self.clone(), call);
        let reply = contend(Candidate::enter(inside, request), self.stopped()).await?;
        encode(out, &reply)
    }

    pub(super) async fn proclaim(
        &self,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: ProclaimRequest = decode(request)?;
        let leader = request.leader.ok_or_else(no_leader_key)?;
        let inside = Inside::new(self.clone(), call);
        let lease = inside.lease(leader.lease).await?;
        let header = proclaim(&inside, leader.key, leader.rev, lease, request.value).await?;
        encode(out, &ProclaimResponse { header })
    }

    pub(super) async fn resign(
        &self,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: ResignRequest = decode(request)?;
        let leader = request.leader.ok_or_else(no_leader_key)?;
        let inside = Inside::new(self.clone(), call);
        let header = resign(&inside, leader.key, leader.rev).await?;
        encode(out, &ResignResponse { header })
    }

    pub(super) async fn leader(
        &self,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: LeaderRequest = decode(request)?;
        let inside = Inside::new(self.clone(), call);
        let first = by_creation(&prefix_of(&request.name), SortOrder::Ascend);
        let found = inside.range(&first).await?;
        let kv = found.kvs.into_iter().next();
        let kv = kv.ok_or_else(|| Status::new(Code::Unknown, "election: no leader"))?;
        encode(out, &LeaderResponse { header: found.header, kv: Some(kv) })
    }

    /// The leader there is and every one after it, with each value. It ends with the reason
    /// when it can no longer tell; etcd's ends as if it had succeeded.
    pub(super) async fn observe(
        &self,
        call: &Call,
        mut requests: impl RequestMessages,
        mut responses: impl ResponseSink,
    ) -> Result<(), Status> {
        let Some(request) = requests.next().await else { return Ok(()) };
        let request: LeaderRequest = decode(request?)?;
        let inside = Inside::new(self.clone(), call);
        observe(&inside, &prefix_of(&request.name), &mut responses).await
    }
}

fn no_leader_key() -> Status {
    Status::new(Code::Unknown, "\"leader\" field must be provided")
}

async fn observe<S: Service>(
    inside: &Inside<S>,
    prefix: &Bytes,
    responses: &mut impl ResponseSink,
) -> Result<(), Status> {
    loop {
        let found = inside.range(&by_creation(prefix, SortOrder::Ascend)).await?;
        let (header, kv) = match found.kvs.into_iter().next() {
            Some(kv) => (found.header, kv),
            None => first_put(inside, prefix, found.header).await?,
        };
        let after = header.as_ref().map_or(0, |header| header.revision) + 1;
        let mut watching = inside.watch(kv.key.clone(), Bytes::new(), after);
        tell(responses, header, kv).await;
        'leads: loop {
            let response = watching.next().await?;
            for event in response.events {
                if is_delete(&event) {
                    break 'leads;
                }
                if let Some(kv) = event.kv {
                    tell(responses, response.header, kv).await;
                }
            }
        }
    }
}

async fn tell(responses: &mut impl ResponseSink, header: Header, kv: KeyValue) {
    let message = LeaderResponse { header, kv: Some(kv) };
    responses.send(message.encode_to_vec().into()).await;
}

/// The first key that comes about below a prefix that held none at `header`'s revision.
async fn first_put<S: Service>(
    inside: &Inside<S>,
    prefix: &Bytes,
    header: Header,
) -> Result<(Header, KeyValue), Status> {
    let from = header.map_or(0, |header| header.revision);
    let mut watching = inside.watch(prefix.clone(), end_of(prefix), from);
    loop {
        let response = watching.next().await?;
        let put = response.events.into_iter().find(|event| !is_delete(event));
        if let Some(kv) = put.and_then(|event| event.kv) {
            // One response may tell of several revisions.
            let header = response.header;
            let header = header.map(|it| pb::ResponseHeader { revision: kv.mod_revision, ..it });
            return Ok((header, kv));
        }
    }
}

async fn proclaim<S: Service>(
    inside: &Inside<S>,
    key: Bytes,
    revision: i64,
    lease: i64,
    value: Bytes,
) -> Result<Header, Status> {
    let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
    let txn = pb::TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![operation(Op::RequestPut(put))],
        failure: Vec::new(),
    };
    let reply = inside.txn(&txn).await?;
    if !reply.succeeded {
        return Err(Status::new(Code::Unknown, "election: not leader"));
    }
    Ok(reply.header)
}

async fn resign<S: Service>(
    inside: &Inside<S>,
    key: Bytes,
    revision: i64,
) -> Result<Header, Status> {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    let txn = pb::TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![operation(Op::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    Ok(inside.txn(&txn).await?.header)
}

/// A place in the line for leadership.
struct Candidate<S> {
    inside: Inside<S>,
    prefix: Bytes,
    leader: LeaderKey,
    is_new: bool,
    header: Header,
}

impl<S: Service> Candidate<S> {
    async fn enter(inside: Inside<S>, request: CampaignRequest) -> Result<Candidate<S>, Status> {
        let CampaignRequest { name, lease, value } = request;
        let lease = inside.lease(lease).await?;
        let prefix = prefix_of(&name);
        let key = key_of(&prefix, lease);
        let put =
            pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
        let own = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let txn = pb::TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: vec![operation(Op::RequestPut(put))],
            failure: vec![operation(Op::RequestRange(own))],
        };
        let mut reply = inside.txn(&txn).await?;
        let (header, is_new) = (reply.header, reply.succeeded);
        let mut rev = header.map_or(0, |header| header.revision);
        if !is_new {
            let own = first_of(&mut reply, 0);
            rev = own.as_ref().map_or(0, |kv| kv.create_revision);
            if own.is_none_or(|kv| kv.value != value)
                && let Err(status) = proclaim(&inside, key.clone(), rev, lease, value).await
            {
                // As etcd does: who cannot say what it stands for does not stand.
                let _ = resign(&inside, key, rev).await;
                return Err(status);
            }
        }
        let leader = LeaderKey { name, key, rev, lease };
        Ok(Candidate { inside, prefix, leader, is_new, header })
    }
}

impl<S: Service> Place for Candidate<S> {
    type Reply = CampaignResponse;

    fn is_new(&self) -> bool {
        self.is_new
    }

    async fn wait(&mut self) -> Result<CampaignResponse, Status> {
        self.inside.wait_for_deletes(&self.prefix, self.leader.rev - 1).await?;
        Ok(CampaignResponse { header: self.header, leader: Some(self.leader.clone()) })
    }

    async fn leave(&mut self, caller: Caller) {
        // A caller who is told of an error may come back with its lease to its place in the
        // line (etcd).
        if caller == Caller::Gone
            && let Err(status) =
                resign(&self.inside, self.leader.key.clone(), self.leader.rev).await
        {
            tracing::warn!(error = %status, "failed to give up the place of a candidate");
        }
    }
}
