//! Calls that a service makes in the name of its caller.
//!
//! They go to the same services as the caller's own calls, with its metadata and its
//! connection, and so past every check that those go past. Their errors come back as etcd's
//! lock and election services hand them on: `Unknown`, with the text (rpc.md 4.2).

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use mainstay_proto::Message;
use mainstay_proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};

use crate::call::{Call, Peer};
use crate::errors;
use crate::grpc::{Only, Service};
use crate::method::Rpc;
use crate::status::{Code, Status};
use crate::stream::ResponseSink;

/// Whoever makes the calls.
#[derive(Clone)]
pub(super) struct Inside<S> {
    services: S,
    metadata: HeaderMap,
    peer: Rc<Peer>,
}

impl<S: Service> Inside<S> {
    /// Calls in the name of `call`'s caller.
    pub(super) fn new(services: S, call: &Call) -> Inside<S> {
        let (metadata, peer) = (call.metadata.clone(), Rc::clone(&call.peer));
        Inside { services, metadata, peer }
    }

    fn call_of(&self, rpc: Rpc) -> Call {
        let (metadata, peer) = (self.metadata.clone(), Rc::clone(&self.peer));
        Call { method: rpc.method(), metadata, peer, timeout: None, keep: Cell::default() }
    }

    async fn unary<A: Message + Default>(
        &self,
        rpc: Rpc,
        request: &impl Message,
    ) -> Result<A, Status> {
        let (call, mut out) = (self.call_of(rpc), BytesMut::new());
        let request = Bytes::from(request.encode_to_vec());
        self.services.unary(&call, request, &mut out).await.map_err(plain)?;
        A::decode(out.freeze()).map_err(|error| Status::internal(error.to_string()))
    }

    pub(super) async fn range(
        &self,
        request: &pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Status> {
        self.unary(Rpc::Range, request).await
    }

    pub(super) async fn txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        self.unary(Rpc::Txn, request).await
    }

    pub(super) async fn delete(&self, key: Bytes) -> Result<pb::DeleteRangeResponse, Status> {
        let request = pb::DeleteRangeRequest { key, ..Default::default() };
        self.unary(Rpc::DeleteRange, &request).await
    }

    /// The lease that was named, or a new one: of a minute, which nobody keeps alive.
    pub(super) async fn lease(&self, named: i64) -> Result<i64, Status> {
        if named != 0 {
            return Ok(named);
        }
        let request = pb::LeaseGrantRequest { ttl: SESSION_TTL_SECONDS, id: 0 };
        let granted: pb::LeaseGrantResponse = self.unary(Rpc::LeaseGrant, &request).await?;
        Ok(granted.id)
    }

    /// Watches a range from a revision on.
    pub(super) fn watch(&self, key: Bytes, range_end: Bytes, start_revision: i64) -> Watching {
        let create =
            pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
        let union = pb::watch_request::RequestUnion::CreateRequest(create);
        let request = pb::WatchRequest { request_union: Some(union) };
        let requests = Only(Some(request.encode_to_vec().into()));
        let heard = Heard::default();
        let services = self.services.clone();
        let serving = services.stream(self.call_of(Rpc::Watch), requests, heard.clone());
        Watching { serving: Box::pin(serving), heard }
    }

    /// Returns once nothing is left below `prefix` that was created up to `revision`.
    pub(super) async fn wait_for_deletes(
        &self,
        prefix: &Bytes,
        revision: i64,
    ) -> Result<(), Status> {
        let newest = pb::RangeRequest {
            max_create_revision: revision,
            ..by_creation(prefix, SortOrder::Descend)
        };
        loop {
            let found = self.range(&newest).await?;
            let Some(kv) = found.kvs.into_iter().next() else { return Ok(()) };
            let from = found.header.map_or(0, |header| header.revision);
            let mut watching = self.watch(kv.key, Bytes::new(), from);
            while !watching.next().await?.events.iter().any(is_delete) {}
        }
    }
}

/// TTL of a lease that is made for a caller who names none (etcd, `defaultSessionTTL`).
const SESSION_TTL_SECONDS: i64 = 60;

pub(super) fn is_delete(event: &mainstay_proto::mvccpb::Event) -> bool {
    event.r#type() == mainstay_proto::mvccpb::event::EventType::Delete
}

/// The key below `prefix` that was created first, or last.
pub(super) fn by_creation(prefix: &Bytes, order: SortOrder) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// The end of the range of all keys below a prefix that ends in a slash.
pub(super) fn end_of(prefix: &Bytes) -> Bytes {
    let mut end = BytesMut::from(&prefix[..]);
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.freeze()
}

/// `name/`.
pub(super) fn prefix_of(name: &Bytes) -> Bytes {
    [&name[..], b"/"].concat().into()
}

/// The key of a lease's holder below a prefix: its id in hex, as Go prints it.
pub(super) fn key_of(prefix: &Bytes, lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [&prefix[..], format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// A transaction's condition: `key` was created at `revision`; 0 is that it is not there.
pub(super) fn created_at(key: Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Create.into(),
        key,
        range_end: Bytes::new(),
        target_union: Some(pb::compare::TargetUnion::CreateRevision(revision)),
    }
}

pub(super) fn operation(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// The first key that an operation of a transaction has read.
pub(super) fn first_of(
    reply: &mut pb::TxnResponse,
    operation: usize,
) -> Option<mainstay_proto::mvccpb::KeyValue> {
    match reply.responses.get_mut(operation)?.response.take()? {
        pb::response_op::Response::ResponseRange(range) => range.kvs.into_iter().next(),
        _ => None,
    }
}

/// As etcd's own client hands an error on.
fn plain(status: Status) -> Status {
    match status.code {
        // The caller's own end.
        Code::Canceled | Code::DeadlineExceeded if status.message.starts_with("context ") => status,
        _ => Status::new(Code::Unknown, status.message),
    }
}

/// A watch stream with one watcher. Dropping it ends it.
pub(super) struct Watching {
    serving: Pin<Box<dyn Future<Output = Result<(), Status>>>>,
    heard: Heard,
}

impl Watching {
    /// The next response.
    ///
    /// # Errors
    /// The watcher was cancelled, or the stream has ended.
    pub(super) async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        let bytes = poll_fn(|cx| {
            loop {
                if let Some(bytes) = self.heard.0.borrow_mut().pop_front() {
                    return Poll::Ready(Ok(bytes));
                }
                let ended = self.serving.as_mut().poll(cx);
                if self.heard.0.borrow().is_empty() {
                    return ended.map(|result| Err(result.err().unwrap_or_else(lost)));
                }
            }
        });
        let bytes = bytes.await.map_err(plain)?;
        let response = pb::WatchResponse::decode(bytes)
            .map_err(|error| Status::internal(error.to_string()))?;
        if response.compact_revision != 0 {
            return Err(Status::new(Code::Unknown, errors::COMPACTED.text));
        }
        if response.canceled {
            return Err(Status::new(Code::Unknown, response.cancel_reason));
        }
        Ok(response)
    }
}

fn lost() -> Status {
    Status::new(Code::Unknown, "lost watcher waiting for delete")
}

/// What a watch stream has sent and nobody has taken yet: one message, or the fragments of
/// one revision.
#[derive(Clone, Default)]
struct Heard(Rc<RefCell<VecDeque<Bytes>>>);

impl ResponseSink for Heard {
    async fn send_parts(&mut self, head: Bytes, tail: Bytes) {
        // Whoever takes it polls the stream again, so no waker needs to be kept.
        poll_fn(|_| {
            let waits = !self.0.borrow().is_empty();
            if waits { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let message = if tail.is_empty() { head } else { [head, tail].concat().into() };
        self.0.borrow_mut().push_back(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_formed_as_go_forms_them() {
        let prefix = prefix_of(&Bytes::from_static(b"a"));
        assert_eq!(&prefix[..], b"a/");
        assert_eq!(&end_of(&prefix)[..], b"a0");
        assert_eq!(&key_of(&prefix, 0x7587_96e6_aa0b)[..], b"a/758796e6aa0b");
        assert_eq!(&key_of(&prefix, -1)[..], b"a/-1");
        assert_eq!(&key_of(&prefix, i64::MIN)[..], b"a/-8000000000000000");
        assert_eq!(&prefix_of(&Bytes::new())[..], b"/");
    }
}
