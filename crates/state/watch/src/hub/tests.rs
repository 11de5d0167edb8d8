//! The numbered rules of watching, one by one (semantics, section 6).

use std::collections::VecDeque;

use mainstay_types::limits::WATCH_CATCHUP_REVISIONS_MAX;

use super::*;
use crate::{Event, HistoryError, HistorySlice};

/// Outboxes without an end, or of a given capacity; lookups are counted.
struct Desk {
    capacity: usize,
    sent: VecDeque<(u64, Response)>,
    reads: Vec<HistoryRead>,
    lookups: usize,
    damaged: bool,
}

impl Port for Desk {
    fn offer(&mut self, stream: StreamId, response: Response) -> bool {
        let room = self.sent.len() < self.capacity;
        if room {
            self.push(stream, response);
        }
        room
    }
    fn push(&mut self, stream: StreamId, response: Response) {
        self.sent.push_back((stream.0, response));
    }
    fn previous(&mut self, _: &[u8], _: i64) -> Result<Option<Bytes>, String> {
        self.lookups += 1;
        match self.damaged {
            true => Err("page 7 is damaged".to_owned()),
            false => Ok(None),
        }
    }
    fn read(&mut self, read: HistoryRead) {
        self.reads.push(read);
    }
}

struct Test {
    hub: Hub,
    desk: Desk,
}

const S: StreamId = StreamId(7);

impl Test {
    /// A store at revision 10, compacted at 5, with one stream.
    fn new() -> Test {
        let progress_interval = Duration::from_secs(600);
        let config = Config { revision: 10, compact_revision: 5, progress_interval, seed: 3 };
        let mut hub = Hub::new(config);
        hub.open_stream(S, Duration::ZERO);
        let (sent, reads) = (VecDeque::new(), Vec::new());
        Test { hub, desk: Desk { capacity: usize::MAX, sent, reads, lookups: 0, damaged: false } }
    }

    fn create(&mut self, change: impl FnOnce(&mut Create)) -> Response {
        let mut create = Create {
            range: KeyRange::from_wire("a".into(), "b".into()),
            start_revision: 0,
            filters: Filters::default(),
            prev_kv: false,
            progress_notify: false,
            fragment: false,
            watch_id: 0,
        };
        change(&mut create);
        self.hub.create(S, create, &mut self.desk);
        self.next().expect("creation is always answered")
    }

    fn next(&mut self) -> Option<Response> {
        self.desk.sent.pop_front().map(|(_, response)| response)
    }

    fn put(&mut self, revision: i64, keys: &[&'static str]) -> Arc<EventBatch> {
        let batch = put(revision, keys);
        self.hub.publish(batch.clone(), &mut self.desk);
        batch
    }

    fn work(&mut self) {
        while self.hub.work(&mut self.desk) {}
    }

    fn progress(&mut self) -> Option<Response> {
        self.hub.progress_request(S, &mut self.desk);
        self.next()
    }
}

fn put(revision: i64, keys: &[&'static str]) -> Arc<EventBatch> {
    let event = |key: &&'static str| Event {
        kind: EventKind::Put,
        key: Bytes::from_static(key.as_bytes()),
        kv: Bytes::from_static(b"\x18\x01"),
        prev: None,
    };
    Arc::new(EventBatch { revision, events: keys.iter().map(event).collect() })
}

fn response(watch_id: i64, revision: i64, body: Body) -> Option<Response> {
    Some(Response { watch_id, revision, fragment: false, body })
}

fn refused(reason: &'static str) -> Response {
    Response::refused(10, reason)
}

#[test]
fn rule_6_1_and_6_2_refusals() {
    let mut t = Test::new();
    let empty = t.create(|c| c.range = KeyRange::from_wire("b".into(), "b".into()));
    assert_eq!(empty, refused("mvcc: watcher range is empty"));
    let negative = t.create(|c| c.start_revision = -1);
    assert_eq!(negative, refused("etcdserver: mvcc: required revision has been compacted"));
    assert_eq!(t.hub.numbers().watchers, 0);
}

#[test]
fn rule_6_3_ids() {
    let mut t = Test::new();
    assert_eq!(t.create(|c| c.watch_id = 1).watch_id, 1);
    assert_eq!(t.create(|_| ()).watch_id, 0);
    assert_eq!(t.create(|_| ()).watch_id, 2, "1 is in use");
    let duplicate = t.create(|c| c.watch_id = 2);
    assert_eq!(duplicate, refused("mvcc: duplicate watch ID provided on the WatchStream"));
    // One cancelled by compaction keeps its id until the client cancels it too.
    t.create(|c| (c.watch_id, c.start_revision) = (9, 2));
    assert_eq!(t.next(), response(9, 0, Body::Compacted(5)));
    assert!(t.create(|c| c.watch_id = 9).watch_id == -1);
    t.hub.cancel(S, 9, &mut t.desk);
    assert_eq!(t.next(), response(9, 10, Body::Canceled));
    assert_eq!(t.create(|c| c.watch_id = 9).watch_id, 9);
}

#[test]
fn rule_6_5_start_at_the_compact_revision_is_accepted() {
    let mut t = Test::new();
    assert_eq!(Some(t.create(|c| c.start_revision = 5)), response(0, 10, Body::Created));
    t.work();
    assert_eq!(t.desk.reads.len(), 1);
    assert_eq!((t.desk.reads[0].from, t.next()), (5, None));
    t.create(|c| c.start_revision = 4);
    assert_eq!(t.next(), response(1, 0, Body::Compacted(5)));
}

#[test]
fn rule_6_10_a_response_without_events_is_not_sent() {
    let mut t = Test::new();
    t.create(|c| c.filters.no_put = true);
    t.put(11, &["a"]);
    assert_eq!(t.next(), None);
    assert_eq!(
        t.progress(),
        response(0, 11, Body::Progress).map(|r| Response { watch_id: -1, ..r })
    );
}

#[test]
fn rule_6_11_previous_values_are_read_once_and_only_for_those_who_want_them() {
    let mut t = Test::new();
    t.create(|_| ());
    t.put(11, &["a"]);
    assert_eq!(t.desk.lookups, 0);
    for _ in 0..10 {
        t.create(|c| c.prev_kv = true);
    }
    t.put(12, &["a"]);
    assert_eq!(t.desk.lookups, 1);
    t.put(13, &["z"]);
    assert_eq!(t.desk.lookups, 1);
}

#[test]
fn rule_6_12_scheduled_progress_needs_silence() {
    let mut t = Test::new();
    t.create(|c| c.progress_notify = true);
    t.create(|_| ());
    let tick = |t: &mut Test| {
        let deadline = t.hub.next_deadline().unwrap();
        t.hub.tick(deadline - Duration::from_nanos(1), &mut t.desk);
        assert_eq!(t.next(), None);
        t.hub.tick(deadline, &mut t.desk);
        deadline
    };
    let first = tick(&mut t);
    assert!((600..660).contains(&first.as_secs()));
    assert_eq!(t.next(), response(0, 10, Body::Progress));
    t.put(11, &["a"]);
    t.desk.sent.clear();
    assert_eq!(tick(&mut t), 2 * first);
    assert_eq!(t.next(), None, "events were sent");
    t.put(12, &["z"]);
    tick(&mut t);
    assert_eq!(t.next(), response(0, 12, Body::Progress));
    assert_eq!(t.next(), None);
}

#[test]
fn rule_6_13_progress_on_request() {
    let mut t = Test::new();
    assert_eq!(t.progress(), None, "no watchers");
    t.create(|_| ());
    assert_eq!(t.progress(), response(-1, 10, Body::Progress));
    t.create(|c| (c.watch_id, c.start_revision) = (5, 12));
    assert_eq!(t.progress(), None, "one starts in the future");
    t.put(11, &["z"]);
    assert_eq!(t.progress(), None, "it still does");
    t.put(12, &["z"]);
    assert_eq!(t.progress(), response(-1, 12, Body::Progress));
    t.create(|c| (c.watch_id, c.start_revision) = (6, 1));
    t.next();
    assert_eq!(t.progress(), None, "cancelled by compaction, not by the client");
    t.hub.cancel(S, 6, &mut t.desk);
    t.next();
    assert_eq!(t.progress(), response(-1, 12, Body::Progress));
}

#[test]
fn progress_waits_for_what_the_store_has_shown() {
    let mut t = Test::new();
    t.create(|_| ());
    t.hub.observe_store(12);
    assert_eq!(t.create(|_| ()).revision, 12, "created after what was shown");
    assert_eq!(t.progress(), None);
    t.put(11, &["z"]);
    assert_eq!(t.next(), None);
    t.put(12, &["a"]);
    assert_eq!(t.next().unwrap().watch_id, 0, "the second one starts after 12");
    assert_eq!(t.next(), response(-1, 12, Body::Progress));
    assert_eq!(t.next(), None);
}

#[test]
fn rule_6_15_cancel() {
    let mut t = Test::new();
    t.create(|_| ());
    t.hub.cancel(S, 3, &mut t.desk);
    assert_eq!(t.next(), None);
    t.hub.cancel(S, 0, &mut t.desk);
    assert_eq!(t.next(), response(0, 10, Body::Canceled));
    t.put(11, &["a"]);
    assert_eq!(t.next(), None);
}

#[test]
fn rule_6_19_an_installed_snapshot_leaves_future_watchers_alone() {
    let mut t = Test::new();
    t.create(|_| ());
    t.create(|c| c.start_revision = i64::MAX - 2);
    t.hub.compacted(40, &mut t.desk);
    assert_eq!(t.next(), None, "live watchers have everything that was compacted");
    t.hub.skip_to(50, &mut t.desk);
    assert_eq!(t.next(), response(0, 0, Body::Compacted(40)));
    assert_eq!(t.next(), None);
    t.put(51, &["a"]);
    assert_eq!(t.next(), None);
}

#[test]
fn a_slow_stream_gets_the_rest_in_bounded_slices_from_memory() {
    let mut t = Test::new();
    t.create(|_| ());
    t.desk.capacity = 1;
    for revision in 11..=1_500 {
        t.put(revision, &["a", "z"]);
    }
    t.work();
    assert!(t.desk.reads.is_empty(), "nothing is read back");
    assert_eq!(t.next().map(|r| (r.revision, r.events().len())), Some((11, 1)));
    t.hub.outbox_drained(S);
    t.work();
    let batch = t.next().unwrap();
    assert_eq!((batch.revision, batch.events().len()), (1_500, WATCH_CATCHUP_REVISIONS_MAX));
    t.hub.outbox_drained(S);
    t.work();
    assert_eq!(t.next().unwrap().events().len(), 1_489 - WATCH_CATCHUP_REVISIONS_MAX);
    assert_eq!(t.hub.numbers().slow_watchers, 0);
    assert_eq!(t.hub.recent.oldest(), None, "kept only while somebody lags");
    t.put(1_501, &["a"]);
    assert_eq!(t.next().unwrap().revision, 1_501);
}

#[test]
fn a_watcher_catches_up_while_revisions_keep_coming() {
    let mut t = Test::new();
    t.create(|c| c.start_revision = 6);
    t.create(|c| (c.start_revision, c.range) = (7, KeyRange::single("ab".into())));
    t.work();
    let read = t.desk.reads.pop().expect("one read serves both");
    let range = KeyRange::from_wire("a".into(), "b".into());
    assert_eq!((read.from, &read.range, &read.prev), (6, &range, &None));
    t.put(11, &["a"]);
    t.put(12, &["ab"]);
    let batches = vec![put(8, &["a", "ab"])];
    let slice = HistorySlice { batches, next_revision: 11, at_revision: 10 };
    t.hub.history_done(read.id, Ok(slice), &mut t.desk);
    t.work();
    assert!(t.desk.reads.is_empty(), "what came meanwhile is at hand");
    let got: Vec<_> =
        t.desk.sent.drain(..).map(|(_, r)| (r.watch_id, r.revision, r.events().len())).collect();
    assert_eq!(got, [(0, 10, 2), (1, 10, 1), (0, 12, 2), (1, 12, 1)]);
    assert_eq!(t.hub.numbers().slow_watchers, 0);
}

#[test]
fn failed_reads_end_the_watcher_and_late_answers_are_dropped() {
    let mut t = Test::new();
    t.create(|c| c.start_revision = 6);
    t.create(|c| c.start_revision = 6);
    t.work();
    let read = t.desk.reads.pop().unwrap();
    t.hub.cancel(S, 0, &mut t.desk);
    assert_eq!(t.next(), response(0, 10, Body::Canceled));
    let failed = Err(HistoryError::Failed("disk".into()));
    t.hub.history_done(read.id, failed, &mut t.desk);
    assert_eq!(t.next(), response(1, 10, Body::Failed("disk".into())));
    assert_eq!(t.next(), None);
    t.hub.close_stream(S);
    assert_eq!(t.hub.numbers(), Numbers::default());
    assert_eq!(t.hub.next_deadline(), None);
}

/// An event without its previous value would say that the key was made just now.
#[test]
fn a_previous_value_that_cannot_be_read_ends_who_wants_it() {
    let mut t = Test::new();
    t.create(|_| ());
    t.create(|c| c.prev_kv = true);
    t.create(|c| c.prev_kv = true);
    t.desk.damaged = true;
    t.put(11, &["a"]);
    let mut got: Vec<_> = std::iter::from_fn(|| t.next()).collect();
    got.sort_by_key(|response| response.watch_id);
    let failed = |id| response(id, 11, Body::Failed("page 7 is damaged".into()));
    assert_eq!(got[0].events().len(), 1, "who does not want it has it");
    assert_eq!(got[1..], [failed(1).unwrap(), failed(2).unwrap()]);
    t.desk.damaged = false;
    t.put(12, &["a"]);
    assert_eq!(t.next().map(|response| response.watch_id), Some(0));
    assert_eq!(t.next(), None);
    t.hub.close_stream(S);
    assert_eq!(t.hub.numbers(), Numbers::default());
}

#[test]
fn a_thousand_watchers_share_the_bytes_of_an_event() {
    let mut t = Test::new();
    for _ in 0..1_000 {
        t.create(|_| ());
    }
    t.put(11, &["a"]);
    let first = t.next().unwrap();
    while let Some(next) = t.next() {
        assert_eq!(next.events()[0].as_ptr(), first.events()[0].as_ptr());
    }
}
