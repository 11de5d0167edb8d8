//! What the audit log is told of a call: taken down beside it, and never in its way.
//!
//! A unary call, or a stream that has one request, is one record, made when it ends; one that
//! its caller gives up is recorded as `Canceled`, since what it asked may have been done. Of a
//! stream of requests (Watch, LeaseKeepAlive) each request is a record, made when it is
//! decided. Calls that the lock and election services make in a caller's name are records of
//! their own besides.

mod asked;

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mainstay_audit::{Asked, Record, Slot, Trail};

use crate::call::Call;
use crate::gate::Caller;
use crate::method::Rpc;
use crate::status::{Code, Status};
use crate::stream::RequestMessages;

use asked::asked_for;

/// A call that will be recorded when it ends.
pub(crate) struct Noted {
    trail: Trail,
    rpc: Rpc,
    request: Rc<RefCell<Option<Bytes>>>,
    /// Until it is written, or is not to be.
    record: Option<Record>,
    begun: Instant,
}

impl Noted {
    /// Takes a call down, once there is room for its record; `None` when none will be made.
    pub(crate) async fn begin(
        trail: Option<&Trail>,
        call: &Call,
        request: Option<&Bytes>,
    ) -> Option<Noted> {
        let trail = trail?;
        let record = begin(call);
        if !trail.may_record(record.call) {
            return None;
        }
        let begun = Instant::now();
        // Not kept: calls may wait for hours, and would keep all others out.
        drop(trail.slot().await);
        let request = Rc::new(RefCell::new(request.cloned()));
        let (trail, rpc) = (trail.clone(), call.method.rpc);
        Some(Noted { trail, rpc, request, record: Some(record), begun })
    }

    /// Who makes it.
    pub(crate) fn by(&mut self, caller: &Caller) {
        if let Some(record) = &mut self.record {
            name(record, caller);
        }
    }

    /// How it has ended; `answer` is the message that it was answered with. Waits for room:
    /// nobody is answered before the call is recorded.
    pub(crate) async fn end(mut self, result: Result<(), &Status>, answer: &[u8]) {
        // While it waits it has not ended: who gives up then is recorded by `Drop`.
        let slot = self.trail.slot().await;
        let revision = if result.is_ok() { revision_of(answer) } else { None };
        self.write(slot, result, revision);
    }

    /// It is not recorded: each of its messages is.
    pub(crate) fn forget(mut self) {
        self.record = None;
    }

    fn write(&mut self, slot: Option<Slot>, result: Result<(), &Status>, revision: Option<i64>) {
        let Some((slot, mut record)) = slot.zip(self.record.take()) else { return };
        finish(&mut record, result);
        record.revision = revision;
        record.took_micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let request = self.request.borrow_mut().take();
        record.asked = request.map(|request| asked_for(self.rpc, request));
        self.trail.record(slot, record);
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if self.record.is_some() {
            let gone = Status::new(Code::Canceled, "the caller went away");
            // Nobody is there to wait for room.
            let slot = self.trail.slot_now();
            self.write(slot, Err(&gone), None);
        }
    }
}

/// Records one message of a stream.
pub(crate) fn note_message(
    trail: &Trail,
    call: &Call,
    caller: Option<&Caller>,
    asked: impl FnOnce() -> Asked,
    result: Result<(), &Status>,
) {
    let mut record = begin(call);
    if !trail.may_record(record.call) {
        return;
    }
    let Some(slot) = trail.slot_now() else { return };
    if let Some(caller) = caller {
        name(&mut record, caller);
    }
    record.asked = Some(asked());
    finish(&mut record, result);
    trail.record(slot, record);
}

fn begin(call: &Call) -> Record {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Record {
        begun_micros: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        call: &call.method.path[1..],
        gateway: call.metadata.contains_key("grpcgateway-accept"),
        remote: call.peer.address.clone(),
        certificate: call.peer.common_name.clone(),
        ..Record::default()
    }
}

fn name(record: &mut Record, caller: &Caller) {
    record.user.clone_from(&caller.who().user);
    record.by = caller.by();
}

fn finish(record: &mut Record, result: Result<(), &Status>) {
    match result {
        Ok(()) => record.code = Code::Ok.name(),
        Err(status) => {
            record.code = status.code.name();
            record.message = status.message.to_string();
        }
    }
}

/// The revision in the header of an answer: every answer that has one has it in field 1.
fn revision_of(answer: &[u8]) -> Option<i64> {
    use mainstay_proto::Message as _;
    use mainstay_proto::etcdserverpb::LeaseRevokeResponse;
    // A message of a header alone; what else stands in an answer is passed over.
    let header = LeaseRevokeResponse::decode(answer).ok()?.header?;
    Some(header.revision)
}

/// Requests, of which the first is remembered.
pub(crate) struct Listening<R> {
    requests: R,
    heard: Option<Rc<RefCell<Option<Bytes>>>>,
}

impl<R> Listening<R> {
    /// `requests`, whose first message is what the call asks that is taken down, if one is.
    pub(crate) fn new(requests: R, noted: Option<&Noted>) -> Listening<R> {
        Listening { requests, heard: noted.map(|noted| Rc::clone(&noted.request)) }
    }
}

impl<R: RequestMessages> RequestMessages for Listening<R> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let next = self.requests.poll_next(cx);
        if let Poll::Ready(Some(Ok(request))) = &next
            && let Some(heard) = self.heard.take()
        {
            *heard.borrow_mut() = Some(request.clone());
        }
        next
    }
}
