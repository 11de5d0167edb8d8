//! Streams over real threads: nothing lost, nothing twice, whatever the pace.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use mainstay_proto::Message as _;
use mainstay_proto::{etcdserverpb as pb, mvccpb};
use mainstay_types::KeyRange;
use mainstay_types::limits::{WATCH_COMMANDS_WAITING_MAX, WATCH_OUTBOX_RESPONSES_MAX};
use mainstay_watch::{Body, Event, EventKind, Filters, Header};
use parking_lot::Mutex;

use super::*;

/// A store of one key per revision: `k0` to `k9` in turn.
#[derive(Default)]
struct Store {
    batches: Mutex<Vec<Arc<EventBatch>>>,
}

impl Store {
    fn write(&self) -> Arc<EventBatch> {
        let mut batches = self.batches.lock();
        let revision = batches.len() as i64 + 2;
        let key = Bytes::from(format!("k{}", revision % 10));
        let kv = mvccpb::KeyValue {
            key: key.clone(),
            create_revision: revision % 10 + 10,
            mod_revision: revision,
            ..Default::default()
        };
        let kv = Bytes::from(kv.encode_to_vec());
        let events = vec![Event { kind: EventKind::Put, key, kv, prev: None }];
        let batch = Arc::new(EventBatch { revision, events });
        batches.push(batch.clone());
        batch
    }
}

impl Past for Store {
    fn revision(&self) -> i64 {
        self.batches.lock().len() as i64 + 1
    }
    fn compact_revision(&self) -> i64 {
        -1
    }
    fn previous(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, String> {
        let batches = self.batches.lock();
        let mut known = batches.iter().rev().filter(|batch| batch.revision <= revision);
        let found = known.find(|batch| batch.events[0].key == key);
        Ok(found.map(|batch| batch.events[0].kv.clone()))
    }
    fn read(&self, read: &HistoryRead) -> Result<HistorySlice, HistoryError> {
        let batches = self.batches.lock();
        let at_revision = batches.len() as i64 + 1;
        let wanted = |batch: &&Arc<EventBatch>| {
            batch.revision >= read.from && read.range.contains(&batch.events[0].key)
        };
        let mut batches: Vec<_> =
            batches.iter().filter(wanted).take(read.revisions_max + 1).cloned().collect();
        let mut next_revision = at_revision + 1;
        if batches.len() > read.revisions_max {
            next_revision = batches.pop().unwrap().revision;
        }
        Ok(HistorySlice { batches, next_revision, at_revision })
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
    fn wall(&self) -> Duration {
        Duration::ZERO
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn next(stream: &mut WatchStream) -> Option<Response> {
    wait(|cx| stream.poll_next(cx))
}

/// Spins until the threads have come to something.
fn until(mut true_at_last: impl FnMut() -> bool) {
    while !true_at_last() {
        std::thread::yield_now();
    }
}

fn begin() -> (Arc<Store>, Arc<Stats>, WatchHandle, Vec<JoinHandle<()>>) {
    let store = Arc::new(Store::default());
    let stats = Arc::new(Stats::default());
    let deps = WatchDeps {
        past: store.clone(),
        clock: Arc::new(Still),
        stats: stats.clone(),
        progress_interval: Duration::from_secs(600),
        seed: 1,
    };
    let (handle, joins) = start(deps).unwrap();
    (store, stats, handle, joins)
}

fn create(key: &'static str, end: &'static str, start_revision: i64) -> WatchCommand {
    WatchCommand::Create(Create {
        range: KeyRange::from_wire(key.into(), end.into()),
        start_revision,
        filters: Filters::default(),
        prev_kv: key == "k3",
        progress_notify: false,
        fragment: false,
        watch_id: 0,
    })
}

/// Reads until revision `last` was seen; the mod revisions of everything on the way.
fn revisions(stream: &mut WatchStream, last: i64) -> Vec<i64> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|seen| *seen < last) {
        let response = next(stream).expect("the member lives");
        response.messages(Header::default(), usize::MAX, |message| {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            let message = pb::WatchResponse::decode(bytes.as_slice()).unwrap();
            let kvs = message.events.into_iter().map(|event| event.kv.unwrap());
            seen.extend(kvs.map(|kv| kv.mod_revision));
        });
    }
    seen
}

#[test]
fn a_slow_stream_gets_everything() {
    let (store, stats, handle, joins) = begin();
    let mut stream = handle.open_stream();
    stream.send(create("k", "l", 0));
    assert_eq!(next(&mut stream).unwrap().body, Body::Created);
    for _ in 0..5_000 {
        handle.publish(store.write());
    }
    until(|| stats.slow_watchers.get() == 1);
    assert!(stats.pending_events.get() > 0, "they lie in the outbox");
    assert_eq!(revisions(&mut stream, 5_001), (2..=5_001).collect::<Vec<_>>());
    assert_eq!(stats.events.get(), 5_000);
    assert_eq!(stats.pending_events.get(), 0);
    handle.stop();
    assert_eq!(next(&mut stream), None);
    joins.into_iter().for_each(|join| join.join().unwrap());
    assert_eq!(next(&mut handle.open_stream()), None, "opened after the end");
}

#[test]
fn what_was_written_without_streams_is_read_back() {
    let (store, stats, handle, _) = begin();
    for _ in 0..3_000 {
        handle.publish(store.write());
    }
    let mut stream = handle.open_stream();
    stream.send(create("k3", "", 1_500));
    stream.send(WatchCommand::Progress);
    let seen = revisions(&mut stream, 2_993);
    assert_eq!(seen, (1_503..3_000).step_by(10).collect::<Vec<_>>());
    let late = store.write();
    until(|| stats.slow_watchers.get() == 0);
    handle.publish(late);
    stream.send(WatchCommand::Progress);
    let progress = next(&mut stream).unwrap();
    assert_eq!((progress.watch_id, progress.revision, progress.body), (-1, 3_002, Body::Progress));
    handle.publish(store.write());
    drop(stream);
    until(|| stats.watch_streams.get() == 0);
    assert_eq!((stats.watchers.get(), stats.pending_events.get()), (0, 0));
}

#[test]
fn what_readers_have_seen_is_past_and_what_was_skipped_is_read() {
    let (store, _, handle, _) = begin();
    let mut stream = handle.open_stream();
    let shown = store.write();
    stream.send(create("k", "l", 0));
    let created = next(&mut stream).unwrap();
    assert_eq!((created.revision, created.body), (2, Body::Created));
    handle.publish(shown);
    handle.publish(store.write());
    assert_eq!(revisions(&mut stream, 3), [3], "2 was there before the watcher");
    for _ in 4..=9 {
        store.write();
    }
    handle.skip_to(9);
    assert_eq!(revisions(&mut stream, 9), (4..=9).collect::<Vec<_>>());
}

#[test]
fn readers_of_any_pace_beside_a_writer() {
    const LAST: i64 = 20_001;
    let (store, _, handle, _) = begin();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let mut stream = handle.open_stream();
            let store = &store;
            scope.spawn(move || {
                let start = if n == 0 { 1 } else { store.revision() + 1 };
                stream.send(create("k", "l", start));
                let step = [1, 1_000, 3_000, 7_000][n];
                let mut from = start.max(2);
                while from <= LAST {
                    let until_there = (from + step).min(LAST);
                    until(|| store.revision() >= until_there);
                    let seen = revisions(&mut stream, until_there);
                    let last = *seen.last().unwrap();
                    assert_eq!(seen, (from..=last).collect::<Vec<_>>());
                    from = last + 1;
                }
            });
        }
        while store.revision() < LAST {
            handle.publish(store.write());
        }
    });
}

#[test]
fn a_thousand_streams_get_an_event_each() {
    let (store, _, handle, _) = begin();
    let mut streams: Vec<WatchStream> = (0..1_000).map(|_| handle.open_stream()).collect();
    for stream in &mut streams {
        stream.send(create("k", "l", 0));
        assert_eq!(next(stream).unwrap().body, Body::Created);
    }
    handle.publish(store.write());
    for stream in &mut streams {
        assert_eq!(revisions(stream, 2), [2]);
    }
}

#[test]
fn an_outbox_is_bounded_both_ways() {
    let outbox = Outbox::default();
    let mut cx = Context::from_waker(Waker::noop());
    let response = || Response::refused(1, "no");
    for _ in 0..WATCH_OUTBOX_RESPONSES_MAX {
        assert!(outbox.poll_ready(&mut cx).is_ready());
        assert!(outbox.offer(response()));
    }
    assert!(!outbox.offer(response()), "full");
    assert!(outbox.poll_ready(&mut cx).is_pending(), "who does not read may not ask");
    let mut taken = Default::default();
    assert_eq!(outbox.poll_take(&mut cx, &mut taken), Poll::Ready(true));
    assert_eq!(taken.len(), WATCH_OUTBOX_RESPONSES_MAX);
    for _ in 0..WATCH_COMMANDS_WAITING_MAX {
        assert!(outbox.poll_ready(&mut cx).is_ready());
        outbox.command_sent();
    }
    assert!(outbox.poll_ready(&mut cx).is_pending());
    outbox.command_done();
    assert!(outbox.poll_ready(&mut cx).is_ready());
    taken.clear();
    assert_eq!(outbox.poll_take(&mut cx, &mut taken), Poll::Pending);
    drop(OutboxEnd(Arc::new(outbox)));
}
