//! The KV service.

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use mainstay_apply::{check, classify, nested, quota};
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::{GRPC_OVERHEAD_BYTES, RESPONSE_BYTES_MAX};
use pb::request_op::Request as Op;

use super::range::{
    bytes_field_head, bytes_of, encode_range, has_revision_filter, is_plain, is_short, key_of,
    range_len,
};
use super::{Services, decode, encode, undecodable};
use crate::call::Call;
use crate::errors;
use crate::gate::{Caller, Permitted};
use crate::member::{Member, RangeAnswer};
use crate::metrics::Kind;
use crate::status::{Code, Status};
use crate::stream::{RequestMessages, ResponseSink};

/// Keys of the first chunk of a RangeStream (etcd).
const FIRST_CHUNK_KEYS: i64 = 10;

impl<M: Member> Services<M> {
    pub(super) async fn range(
        &self,
        caller: &Caller,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
        start: Instant,
    ) -> Result<(), Status> {
        let request: pb::RangeRequest = decode(request)?;
        if !request.serializable && self.member().standing().learner {
            return Err(errors::NOT_SUPPORTED_FOR_LEARNER.status());
        }
        checked(check::range(&request))?;
        let result = self.read(caller, call, request, out).await;
        self.registry().requests.record(Kind::Range, start, result.is_ok());
        result
    }

    async fn read(
        &self,
        caller: &Caller,
        call: &Call,
        request: pb::RangeRequest,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        if !request.serializable {
            self.member().linearizable().await?;
        }
        let request = self.permit(caller, request).await?;
        if is_short(self.member(), &request) {
            let answer = self.answer(&request)?;
            let header = self.header_at(answer.revision);
            encode_range(out, Some(&header), &answer);
            return Ok(());
        }
        let patience = self.member().settings().request_timeout;
        let (answers, ender) = (&self.0.answers, &call.peer.ender);
        let keep = answers.room(bytes_of(self.member(), &request), ender, patience).await?;
        // Encoded over there as well: copying a long answer takes long.
        let mut appended = std::mem::take(out);
        let mut header = self.header_at(0);
        let registry = Arc::clone(&self.0.registry);
        let work = move |member: &M| {
            let start = Instant::now();
            let answer = member.range(&request);
            member.stats().ranges.inc();
            registry.requests.record_range(start, answer.is_ok());
            answer.map(|answer| {
                header.revision = answer.revision;
                encode_range(&mut appended, Some(&header), &answer);
                appended
            })
        };
        *out = self.member().on_read_pool(work).await??;
        let bytes = out.len();
        match &keep {
            Some(keep) => keep.set(bytes),
            None => call.keep.set(answers.take_anyway(bytes, ender)),
        }
        if keep.is_some() {
            call.keep.set(keep);
        }
        Ok(())
    }

    /// Reads on this thread.
    fn answer(&self, request: &Permitted<pb::RangeRequest>) -> Result<RangeAnswer, Status> {
        let start = Instant::now();
        let answer = self.member().range(request);
        self.member().stats().ranges.inc();
        self.registry().requests.record_range(start, answer.is_ok());
        answer
    }

    /// Reads here or on the pool, whichever suits.
    async fn answer_anywhere(
        &self,
        request: &Arc<Permitted<pb::RangeRequest>>,
    ) -> Result<RangeAnswer, Status> {
        if is_short(self.member(), request) {
            return self.answer(request);
        }
        let request = Arc::clone(request);
        let registry = Arc::clone(&self.0.registry);
        let work = move |member: &M| {
            let start = Instant::now();
            let answer = member.range(&request);
            member.stats().ranges.inc();
            registry.requests.record_range(start, answer.is_ok());
            answer
        };
        self.member().on_read_pool(work).await?
    }

    pub(super) async fn put(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
        start: Instant,
    ) -> Result<(), Status> {
        let request: pb::PutRequest = decode(request)?;
        self.check_quota(quota::put_cost(&request)).await?;
        checked(check::put(&request))?;
        let request = self.permit(caller, request).await?;
        let reply = self.member().put(request).await;
        self.registry().requests.record(Kind::Put, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    pub(super) async fn delete_range(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
        start: Instant,
    ) -> Result<(), Status> {
        let request: pb::DeleteRangeRequest = decode(request)?;
        checked(check::delete_range(&request))?;
        let request = self.permit(caller, request).await?;
        let reply = self.member().delete_range(request).await;
        self.registry().requests.record(Kind::DeleteRange, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    pub(super) async fn txn(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
        start: Instant,
    ) -> Result<(), Status> {
        let request = nested::decode_txn(request).map_err(undecodable)?;
        self.check_quota(quota::txn_cost(&request)).await?;
        checked(check::txn(&request, self.member().settings().max_txn_ops))?;
        self.check_answer(&request)?;
        let (kind, reply) = if classify::is_read_only(&request) {
            (Kind::ReadonlyTxn, self.read_txn(caller, request).await)
        } else {
            let request = self.permit(caller, request).await?;
            (Kind::Txn, self.member().txn(request).await)
        };
        self.registry().requests.record(kind, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    /// Refuses a transaction whose answer could not be sent, before it is made: for one that
    /// writes, on every member. What is counted is what its ranges can come to at most, of
    /// which half may be history.
    fn check_answer(&self, request: &pb::TxnRequest) -> Result<(), Status> {
        let (mut bytes, mut todo) = (0_usize, vec![request]);
        while let Some(txn) = todo.pop() {
            for op in txn.success.iter().chain(&txn.failure) {
                match &op.request {
                    Some(Op::RequestRange(range)) if !range.range_end.is_empty() => {
                        bytes = bytes.saturating_add(bytes_of(self.member(), range));
                    }
                    Some(Op::RequestTxn(nested)) => todo.push(nested),
                    _ => {}
                }
            }
        }
        if bytes / 2 > RESPONSE_BYTES_MAX {
            let text = format!(
                "grpc: trying to send message larger than max ({bytes} vs. {RESPONSE_BYTES_MAX})"
            );
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(())
    }

    async fn read_txn(
        &self,
        caller: &Caller,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Status> {
        if !classify::is_serializable(&request) {
            self.member().linearizable().await?;
        }
        let request = self.permit(caller, request).await?;
        let compares_keys = request.compare.iter().all(|compare| compare.range_end.is_empty());
        let mut ops = request.success.iter().chain(&request.failure);
        let short = compares_keys
            && ops.all(|op| match &op.request {
                Some(Op::RequestRange(range)) => is_short(self.member(), range),
                _ => true,
            });
        let compares = request.compare.len();
        let reply = if short {
            self.member().read_txn(&request)
        } else {
            self.member().on_read_pool(move |member: &M| member.read_txn(&request)).await?
        };
        if let Ok(reply) = &reply {
            let ranges = compares + reply.responses.len();
            self.member().stats().ranges.add(ranges as u64);
            self.member().stats().txns.add(u64::from(ranges > 1));
        }
        reply
    }

    pub(super) async fn compact(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let request: pb::CompactionRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let reply = self.member().compact(request).await;
        self.registry().requests.record(Kind::Compaction, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    /// Refuses what would not fit, before it enters the log (semantics 9.3).
    pub(super) async fn check_quota(&self, cost: u64) -> Result<(), Status> {
        // The alarm is on its way: whoever finds the disk full raises it.
        if cost > 0 && self.member().lacks_room() {
            return Err(errors::NO_SPACE.status());
        }
        let Some(quota) = self.member().settings().quota_bytes else { return Ok(()) };
        // What costs nothing may always pass: deleting is how room is made.
        if cost == 0 || self.member().db_size() + cost < quota {
            return Ok(());
        }
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: self.member().identity().member.0,
            alarm: pb::AlarmType::Nospace.into(),
        };
        if let Err(status) = self.member().alarm(Permitted::of_a_member(alarm)).await {
            tracing::warn!(error = %status, "failed to raise alarm");
        }
        Err(errors::NO_SPACE.status())
    }

    /// RangeStream (3.7): chunks at one revision, the header in the last.
    pub(super) async fn range_stream(
        &self,
        caller: &Caller,
        mut requests: impl RequestMessages,
        mut responses: impl ResponseSink,
    ) -> Result<(), Status> {
        let Some(request) = requests.next().await else { return Ok(()) };
        let request: pb::RangeRequest = decode(request?)?;
        checked(check::range(&request))?;
        if !has_default_order(&request) {
            let text = "RangeStream does not support custom sort orders";
            return Err(Status::unimplemented(text));
        }
        if has_revision_filter(&request) {
            let text = "RangeStream does not support revision filters";
            return Err(Status::unimplemented(text));
        }
        if !request.serializable {
            self.member().linearizable().await?;
        }
        let request = self.permit(caller, request).await?;
        self.send_chunks(request, &mut responses).await
    }

    async fn send_chunks(
        &self,
        request: Permitted<pb::RangeRequest>,
        responses: &mut impl ResponseSink,
    ) -> Result<(), Status> {
        let mut left = (request.limit > 0).then_some(request.limit);
        let target = self.member().settings().max_request_bytes.max(GRPC_OVERHEAD_BYTES) as usize;
        let mut keys = FIRST_CHUNK_KEYS;
        let mut chunk = Arc::new(request);
        let mut first: Option<(i64, i64)> = None;
        loop {
            piece(&mut chunk)?.set_limit(left.map_or(keys, |left| left.min(keys)));
            let mut answer = self.answer_anywhere(&chunk).await?;
            // The first chunk pins what the rest is read at, and what the last one tells.
            let (revision, total) = *first.get_or_insert((answer.revision, answer.count));
            if let Some(left) = &mut left {
                *left -= answer.kvs.len() as i64;
            }
            let next = answer.kvs.last().and_then(key_of);
            let cut_by_limit = left == Some(0);
            let Some(next) = next.filter(|_| answer.more && !cut_by_limit) else {
                answer.count = total;
                let header = self.header_at(revision);
                responses.send(chunk_message(Some(&header), &answer)).await;
                return Ok(());
            };
            (answer.more, answer.count) = (false, 0);
            let message = chunk_message(None, &answer);
            keys = next_chunk(keys, message.len(), target);
            responses.send(message).await;
            let revision = if chunk.revision > 0 { chunk.revision } else { revision };
            piece(&mut chunk)?.next_piece(after(&next), revision);
        }
    }
}

/// The request of a stream, between two reads.
fn piece(
    chunk: &mut Arc<Permitted<pb::RangeRequest>>,
) -> Result<&mut Permitted<pb::RangeRequest>, Status> {
    Arc::get_mut(chunk).ok_or_else(|| Status::internal("a piece is still being read"))
}

/// etcd's order test: NONE whatever the target, or keys ascending.
fn has_default_order(request: &pb::RangeRequest) -> bool {
    is_plain(&pb::RangeRequest {
        sort_order: request.sort_order,
        sort_target: request.sort_target,
        ..Default::default()
    })
}

/// The first key after `key`.
fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// Keys of the next chunk: doubled while chunks are small, halved when they are
/// large (semantics, RangeStream s2).
fn next_chunk(keys: i64, bytes: usize, target: usize) -> i64 {
    if bytes < target / 2 {
        keys.saturating_mul(2)
    } else if bytes > target * 2 {
        (keys / 2).max(1)
    } else {
        keys
    }
}

/// A `RangeStreamResponse`: a `RangeResponse` in field 1.
fn chunk_message(header: Option<&pb::ResponseHeader>, answer: &RangeAnswer) -> Bytes {
    let mut range = BytesMut::with_capacity(range_len(header, answer));
    encode_range(&mut range, header, answer);
    let mut out = BytesMut::with_capacity(range.len() + 6);
    bytes_field_head(&mut out, 1, range.len());
    out.unsplit(range);
    out.freeze()
}

/// A refusal of the checks, all of which are named errors.
fn checked(result: Result<(), check::CheckError>) -> Result<(), Status> {
    result.map_err(|error| errors::from_text(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_and_shrink() {
        assert_eq!(next_chunk(10, 100, 1000), 20);
        assert_eq!(next_chunk(10, 500, 1000), 10);
        assert_eq!(next_chunk(10, 2001, 1000), 5);
        assert_eq!(next_chunk(1, 5000, 1000), 1);
    }

    #[test]
    fn every_check_has_its_place_in_the_table() {
        use check::CheckError::*;
        for error in [
            EmptyKey,
            EmptyOperation,
            ValueProvided,
            LeaseProvided,
            InvalidSortOption,
            TooManyOps,
            DuplicateKey,
        ] {
            let status = checked(Err(error)).expect_err("refused");
            assert_eq!(status.code, crate::status::Code::InvalidArgument, "{error}");
        }
    }
}
