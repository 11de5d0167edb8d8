//! The service over a hub's end made of two queues.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use mainstay_watch::Body;

use super::*;
use crate::gate::Permitted;
use crate::status::Code;

#[derive(Default)]
struct Desk {
    requests: VecDeque<Option<Result<Bytes, Status>>>,
    room: usize,
    asked: Vec<Ask>,
    responses: VecDeque<Option<Response>>,
    sent: Vec<pb::WatchResponse>,
    barred: Vec<Bytes>,
    change: Option<Result<(), Status>>,
}

#[derive(Clone, Default)]
struct End(Rc<RefCell<Desk>>);

impl WatchLink for End {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.0.borrow().room > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
    fn ask(&mut self, ask: Ask) {
        let mut desk = self.0.borrow_mut();
        desk.room -= 1;
        desk.asked.push(ask);
    }
    fn revision(&self) -> i64 {
        9
    }
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Response>> {
        self.0.borrow_mut().responses.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Doorkeeper for End {
    fn admit(
        &mut self,
        create: pb::WatchCreateRequest,
    ) -> Result<Permitted<pb::WatchCreateRequest>, Cow<'static, str>> {
        self.may_see(&create.key, &create.range_end)?;
        Ok(Permitted::of_a_member(create))
    }
    fn poll_changed(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        match self.0.borrow_mut().change.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
    fn may_see(&self, key: &Bytes, _: &Bytes) -> Result<(), Cow<'static, str>> {
        let barred = self.0.borrow().barred.iter().any(|barred| barred == key);
        if barred { Err("barred".into()) } else { Ok(()) }
    }
    fn is_watched(&self) -> bool {
        true
    }
}

impl RequestMessages for End {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        self.0.borrow_mut().requests.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

impl ResponseSink for End {
    async fn send_parts(&mut self, head: Bytes, tail: Bytes) {
        let message = [head, tail].concat();
        let message = pb::WatchResponse::decode(message.as_slice()).unwrap();
        self.0.borrow_mut().sent.push(message);
    }
}

/// Polls a stream once, for as long as it finds something to do.
fn poll(end: &End) -> Poll<Result<(), Status>> {
    let header = || Header { cluster_id: 1, member_id: 2, raft_term: 3 };
    let future = serve(end.clone(), header, 1 << 20, end.clone(), end.clone(), end.clone());
    std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn request(union: RequestUnion) -> Option<Result<Bytes, Status>> {
    let request = pb::WatchRequest { request_union: Some(union) };
    Some(Ok(request.encode_to_vec().into()))
}

#[test]
fn requests_mean_what_etcd_means() {
    let end = End::default();
    let create = pb::WatchCreateRequest {
        start_revision: -4,
        filters: vec![1, 9],
        prev_kv: true,
        watch_id: 6,
        ..Default::default()
    };
    let cancel = pb::WatchCancelRequest { watch_id: 8 };
    let progress = pb::WatchProgressRequest {};
    end.0.borrow_mut().room = 9;
    end.0.borrow_mut().requests.extend([
        request(RequestUnion::CreateRequest(create)),
        Some(Ok(Bytes::new())),
        request(RequestUnion::CancelRequest(cancel)),
        request(RequestUnion::ProgressRequest(progress)),
        None,
    ]);
    assert!(poll(&end).is_pending(), "the client's half-close ends nothing");
    let want = Create {
        range: KeyRange::single(Bytes::from_static(b"\0")),
        start_revision: -4,
        filters: Filters { no_put: false, no_delete: true },
        prev_kv: true,
        progress_notify: false,
        fragment: false,
        watch_id: 6,
    };
    assert_eq!(end.0.borrow().asked, [Ask::Create(want), Ask::Cancel(8), Ask::Progress]);
}

#[test]
fn who_does_not_read_may_not_ask() {
    let end = End::default();
    end.0.borrow_mut().room = 1;
    let progress = || request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    end.0.borrow_mut().requests.extend([progress(), progress()]);
    assert!(poll(&end).is_pending());
    assert_eq!(end.0.borrow().asked.len(), 1);
    assert_eq!(end.0.borrow().requests.len(), 1);
}

#[test]
fn responses_carry_the_header_and_end_with_the_member() {
    let end = End::default();
    let response = |watch_id, body| Some(Response { watch_id, revision: 9, fragment: false, body });
    end.0.borrow_mut().responses.extend([
        response(0, Body::Created),
        response(-1, Body::Progress),
        None,
    ]);
    let Poll::Ready(Err(status)) = poll(&end) else { panic!("the member has stopped") };
    assert_eq!(status.code, Code::Canceled);
    let header = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 9, raft_term: 3 };
    let desk = end.0.borrow();
    assert!(desk.sent.iter().all(|sent| sent.header == Some(header)));
    assert_eq!(
        desk.sent.iter().map(|sent| (sent.watch_id, sent.created)).collect::<Vec<_>>(),
        [(0, true), (-1, false)]
    );
}

#[test]
fn a_request_that_cannot_be_read_ends_the_stream() {
    let end = End::default();
    end.0.borrow_mut().room = 1;
    end.0.borrow_mut().requests.push_back(Some(Ok(Bytes::from_static(b"\x0a\xff"))));
    let Poll::Ready(Err(status)) = poll(&end) else { panic!("it must end") };
    assert_eq!(status.code, Code::Internal);
}
