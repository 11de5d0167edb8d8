//! The Lock service (`v3lockpb`): keys below `NAME/`, of which the first created holds.

use bytes::{Bytes, BytesMut};
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use pb::range_request::SortOrder;
use pb::request_op::Request as Op;

use super::contest::{Caller, Place, contend};
use super::inside::{Inside, by_creation, created_at, first_of, key_of, operation, prefix_of};
use super::{Services, decode, encode};
use crate::call::Call;
use crate::grpc::Service;
use crate::member::Member;
use crate::status::{Code, Status};

impl<M: Member> Services<M> {
    pub(super) async fn lock(
        &self,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: LockRequest = decode(request)?;
        let inside = Inside::new(self.clone(), call);
        let reply = contend(Held::enter(inside, request), self.stopped()).await?;
        encode(out, &reply)
    }

    pub(super) async fn unlock(
        &self,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: UnlockRequest = decode(request)?;
        let reply = Inside::new(self.clone(), call).delete(request.key).await?;
        encode(out, &UnlockResponse { header: reply.header })
    }
}

/// A place in the line for a lock.
struct Held<S> {
    inside: Inside<S>,
    prefix: Bytes,
    key: Bytes,
    /// When the key was created.
    revision: i64,
    is_new: bool,
    /// Of the transaction that made it the first.
    first: Option<Option<pb::ResponseHeader>>,
}

impl<S: Service> Held<S> {
    async fn enter(inside: Inside<S>, request: LockRequest) -> Result<Held<S>, Status> {
        let lease = inside.lease(request.lease).await?;
        let prefix = prefix_of(&request.name);
        let key = key_of(&prefix, lease);
        let put = pb::PutRequest { key: key.clone(), lease, ..Default::default() };
        let own = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let owner = || operation(Op::RequestRange(by_creation(&prefix, SortOrder::Ascend)));
        let txn = pb::TxnRequest {
            compare: vec![created_at(key.clone(), 0)],
            success: vec![operation(Op::RequestPut(put)), owner()],
            failure: vec![operation(Op::RequestRange(own)), owner()],
        };
        let mut reply = inside.txn(&txn).await?;
        let is_new = reply.succeeded;
        let revision = if is_new {
            reply.header.as_ref().map_or(0, |header| header.revision)
        } else {
            first_of(&mut reply, 0).map_or(0, |kv| kv.create_revision)
        };
        let owner = first_of(&mut reply, 1);
        let is_first = owner.is_none_or(|owner| owner.create_revision == revision);
        let first = is_first.then_some(reply.header);
        Ok(Held { inside, prefix, key, revision, is_new, first })
    }
}

impl<S: Service> Place for Held<S> {
    type Reply = LockResponse;

    fn is_new(&self) -> bool {
        self.is_new
    }

    async fn wait(&mut self) -> Result<LockResponse, Status> {
        let header = match self.first.take() {
            Some(header) => header,
            None => {
                self.inside.wait_for_deletes(&self.prefix, self.revision - 1).await?;
                let own = pb::RangeRequest { key: self.key.clone(), ..Default::default() };
                let own = self.inside.range(&own).await?;
                if own.kvs.is_empty() {
                    return Err(Status::new(Code::Unknown, "mutex: session is expired"));
                }
                own.header
            }
        };
        Ok(LockResponse { header, key: self.key.clone() })
    }

    async fn leave(&mut self, _: Caller) {
        if let Err(status) = self.inside.delete(self.key.clone()).await {
            // It ends with its lease.
            tracing::warn!(error = %status, "failed to give up the place of a lock's caller");
        }
    }
}
