//! The hub against a dumb model that knows every event.
//!
//! Random creates, cancels, publishes, losses on the way, compactions, slow
//! streams and reads answered in any order. Whatever happens, each watcher must
//! see exactly the events of its range from its start revision on, in order,
//! once, whole revisions only; and no progress notification may lie.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its finding")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_proto::{Message as _, etcdserverpb as pb, mvccpb};
use mainstay_types::KeyRange;
use mainstay_watch::{
    Config, Create, Event, EventBatch, EventKind, Filters, Header, HistoryError, HistoryRead,
    HistorySlice, Hub, Port, Response, StreamId,
};

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

const KEYS: [&str; 6] = ["a", "a/1", "a/2", "b", "b/1", "c"];
const RANGES: [(&str, &str); 8] = [
    ("a", ""),
    ("b/1", ""),
    ("a", "b"),
    ("a/", "a0"),
    ("b", "c"),
    ("a/2", "b/1"),
    ("\0", "\0"),
    ("b", "\0"),
];

/// Every event that ever was, and the values of every key over time.
struct Store {
    revision: i64,
    compacted: i64,
    batches: Vec<Arc<EventBatch>>,
    values: BTreeMap<Bytes, Vec<(i64, Option<mvccpb::KeyValue>)>>,
}

impl Store {
    fn value(&self, key: &[u8], at: i64) -> Option<mvccpb::KeyValue> {
        let history = self.values.get(key)?;
        history.iter().rev().find(|(revision, _)| *revision <= at)?.1.clone()
    }

    fn write(&mut self, dice: &mut Dice) -> Arc<EventBatch> {
        let revision = self.revision + 1;
        let mut events = Vec::new();
        let first = dice.below(KEYS.len() as u64) as usize;
        for n in 0..1 + dice.below(3) as usize {
            let key = Bytes::from_static(KEYS[(first + n) % KEYS.len()].as_bytes());
            let old = self.value(&key, self.revision);
            let delete = old.is_some() && dice.below(3) == 0;
            let kv = mvccpb::KeyValue {
                key: key.clone(),
                create_revision: match &old {
                    _ if delete => 0,
                    Some(old) => old.create_revision,
                    None => revision,
                },
                mod_revision: revision,
                version: if delete { 0 } else { old.as_ref().map_or(1, |old| old.version + 1) },
                value: if delete { Bytes::new() } else { Bytes::from(format!("{revision}")) },
                lease: 0,
            };
            let kind = if delete { EventKind::Delete } else { EventKind::Put };
            let known = old.filter(|_| dice.below(4) == 0).map(|old| old.encode_to_vec().into());
            events.push(Event {
                kind,
                key: key.clone(),
                kv: kv.encode_to_vec().into(),
                prev: known,
            });
            self.values.entry(key).or_default().push((revision, (!delete).then_some(kv)));
        }
        self.revision = revision;
        let batch = Arc::new(EventBatch { revision, events });
        self.batches.push(batch.clone());
        batch
    }

    fn read(&self, read: &HistoryRead, dice: &mut Dice) -> Result<HistorySlice, HistoryError> {
        if read.from < self.compacted {
            return Err(HistoryError::Compacted(self.compacted));
        }
        assert!(read.from <= self.revision, "reads are for what exists");
        let max = 1 + dice.below(4) as usize;
        let mut batches = Vec::new();
        let mut next_revision = self.revision + 1;
        for batch in &self.batches {
            let wanted = |event: &&Event| read.range.contains(&event.key);
            let mut events: Vec<Event> = batch.events.iter().filter(wanted).cloned().collect();
            if batch.revision < read.from || events.is_empty() {
                continue;
            }
            if batches.len() == max {
                next_revision = batch.revision;
                break;
            }
            for event in &mut events {
                event.prev = None;
                if read.prev.as_ref().is_some_and(|prev| prev.contains(&event.key))
                    && batch.revision > self.compacted
                {
                    let prev = self.value(&event.key, batch.revision - 1);
                    event.prev = prev.map(|prev| prev.encode_to_vec().into());
                }
            }
            batches.push(Arc::new(EventBatch { revision: batch.revision, events }));
        }
        Ok(HistorySlice { batches, next_revision, at_revision: self.revision })
    }
}

#[derive(Default)]
struct Outbox {
    queue: VecDeque<Response>,
    refused: bool,
    watchers: BTreeMap<i64, Seen>,
}

/// A watcher as its client sees it.
struct Seen {
    create: Create,
    /// `None` until the created message came.
    next: Option<i64>,
    dead: bool,
}

struct World {
    store: Store,
    outboxes: BTreeMap<StreamId, Outbox>,
    reads: Vec<HistoryRead>,
    capacity: usize,
    delivered: usize,
    progress: usize,
    compactions: usize,
}

impl Port for World {
    fn offer(&mut self, stream: StreamId, response: Response) -> bool {
        let capacity = self.capacity;
        let outbox = self.outboxes.get_mut(&stream).unwrap();
        assert!(!outbox.refused, "nothing is offered before the outbox has drained");
        outbox.refused = outbox.queue.len() >= capacity;
        if !outbox.refused {
            outbox.queue.push_back(response);
        }
        !outbox.refused
    }

    fn push(&mut self, stream: StreamId, response: Response) {
        self.outboxes.get_mut(&stream).unwrap().queue.push_back(response);
    }

    fn previous(&mut self, key: &[u8], revision: i64) -> Result<Option<Bytes>, String> {
        if revision < self.store.compacted {
            return Ok(None);
        }
        Ok(self.store.value(key, revision).map(|kv| kv.encode_to_vec().into()))
    }

    fn read(&mut self, read: HistoryRead) {
        self.reads.push(read);
    }
}

/// What is on its way from the store to the hub.
enum Pipe {
    Batch(Arc<EventBatch>),
    Compacted(i64),
}

struct Run {
    dice: Dice,
    hub: Hub,
    world: World,
    pipe: VecDeque<Pipe>,
    now: Duration,
    streams: u64,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut dice = Dice(seed);
        let world = World {
            store: Store {
                revision: 1,
                compacted: 0,
                batches: Vec::new(),
                values: BTreeMap::new(),
            },
            outboxes: BTreeMap::new(),
            reads: Vec::new(),
            capacity: 1 + dice.below(6) as usize,
            delivered: 0,
            progress: 0,
            compactions: 0,
        };
        let progress_interval = Duration::from_secs(600);
        let config = Config { revision: 1, compact_revision: 0, progress_interval, seed };
        let pipe = VecDeque::new();
        Run { dice, hub: Hub::new(config), world, pipe, now: Duration::ZERO, streams: 0 }
    }

    fn step(&mut self) {
        match self.dice.below(24) {
            0..=5 => {
                let batch = self.world.store.write(&mut self.dice);
                // Now and then a batch is lost on the way.
                if self.dice.below(20) != 0 {
                    self.pipe.push_back(Pipe::Batch(batch));
                }
            }
            6..=10 => self.deliver_from_pipe(),
            11..=12 => self.create(),
            13 => self.cancel(),
            14 => {
                if let Some(stream) = self.any_stream() {
                    self.hub.observe_store(self.world.store.revision);
                    self.hub.progress_request(stream, &mut self.world);
                }
            }
            15..=17 => self.consume(),
            18..=19 => self.answer_read(),
            20..=21 => {
                self.hub.work(&mut self.world);
            }
            22 => {
                self.now += Duration::from_secs(self.dice.below(700));
                self.hub.tick(self.now, &mut self.world);
            }
            _ => self.rare(),
        }
    }

    fn rare(&mut self) {
        match self.dice.below(4) {
            0 => {
                let span = (self.world.store.revision - self.world.store.compacted) as u64;
                let to = self.world.store.compacted + self.dice.below(span + 1) as i64;
                if to > self.world.store.compacted {
                    self.world.store.compacted = to;
                    self.pipe.push_back(Pipe::Compacted(to));
                }
            }
            1 => {
                // A snapshot was installed: what is on its way never comes.
                self.pipe.clear();
                self.skip_to_store();
            }
            2 if self.streams < 6 => {
                let stream = StreamId(self.streams);
                self.streams += 1;
                self.world.outboxes.insert(stream, Outbox::default());
                self.hub.open_stream(stream, self.now);
            }
            3 if self.dice.below(3) == 0 => {
                if let Some(stream) = self.any_stream() {
                    self.hub.close_stream(stream);
                    self.world.outboxes.remove(&stream);
                }
            }
            _ => {}
        }
    }

    fn skip_to_store(&mut self) {
        self.hub.compacted(self.world.store.compacted, &mut self.world);
        self.hub.skip_to(self.world.store.revision, &mut self.world);
    }

    fn any_stream(&mut self) -> Option<StreamId> {
        let n = self.world.outboxes.len() as u64;
        let n = if n == 0 { return None } else { self.dice.below(n) as usize };
        self.world.outboxes.keys().nth(n).copied()
    }

    fn deliver_from_pipe(&mut self) {
        match self.pipe.pop_front() {
            Some(Pipe::Batch(batch)) => self.hub.publish(batch, &mut self.world),
            Some(Pipe::Compacted(revision)) => self.hub.compacted(revision, &mut self.world),
            None => {}
        }
    }

    fn create(&mut self) {
        let Some(stream) = self.any_stream() else { return };
        let (key, end) = RANGES[self.dice.below(RANGES.len() as u64) as usize];
        let revision = self.world.store.revision;
        let start_revision = match self.dice.below(3) {
            0 => 0,
            1 => revision + self.dice.below(6) as i64,
            _ => 1 + self.dice.below(revision as u64) as i64,
        };
        let mut odds = |n| self.dice.below(n) == 0;
        let create = Create {
            range: KeyRange::from_wire(key.into(), end.into()),
            start_revision,
            filters: Filters { no_put: odds(5), no_delete: odds(5) },
            prev_kv: odds(2),
            progress_notify: odds(2),
            fragment: odds(3),
            watch_id: if odds(3) { self.dice.below(5) as i64 } else { 0 },
        };
        let watchers = &mut self.world.outboxes.get_mut(&stream).unwrap().watchers;
        let mut id = create.watch_id;
        if id == 0 {
            // Found out when the created message comes.
            id = -2;
            while watchers.contains_key(&id) {
                id -= 1;
            }
        } else if watchers.contains_key(&id) || watchers.values().any(|seen| seen.next.is_none()) {
            return;
        }
        watchers.insert(id, Seen { create: create.clone(), next: None, dead: false });
        self.hub.observe_store(revision);
        self.hub.create(stream, create, &mut self.world);
        // The model learns automatic ids in order, so it reads up to the message.
        while self.world.outboxes[&stream].watchers.values().any(|seen| seen.next.is_none()) {
            self.consume_one(stream);
        }
        self.drained(stream);
    }

    fn cancel(&mut self) {
        let Some(stream) = self.any_stream() else { return };
        let ids: Vec<i64> = self.world.outboxes[&stream].watchers.keys().copied().collect();
        let Some(&id) = ids.get(self.dice.below(ids.len() as u64 + 1) as usize) else { return };
        self.hub.cancel(stream, id, &mut self.world);
        while self.world.outboxes[&stream].watchers.contains_key(&id) {
            self.consume_one(stream);
        }
        self.drained(stream);
    }

    fn consume(&mut self) {
        let Some(stream) = self.any_stream() else { return };
        for _ in 0..1 + self.dice.below(4) {
            if self.world.outboxes[&stream].queue.is_empty() {
                break;
            }
            self.consume_one(stream);
        }
        self.drained(stream);
    }

    fn drained(&mut self, stream: StreamId) {
        let outbox = self.world.outboxes.get_mut(&stream).unwrap();
        if outbox.refused && outbox.queue.len() <= self.world.capacity / 2 {
            outbox.refused = false;
            self.hub.outbox_drained(stream);
        }
    }

    fn answer_read(&mut self) {
        if self.world.reads.is_empty() {
            return;
        }
        let n = self.dice.below(self.world.reads.len() as u64) as usize;
        let read = self.world.reads.swap_remove(n);
        let result = self.world.store.read(&read, &mut self.dice);
        self.hub.history_done(read.id, result, &mut self.world);
    }

    /// Takes one response as the client would, and checks it.
    fn consume_one(&mut self, stream: StreamId) {
        let World { store, outboxes, delivered, progress, compactions, .. } = &mut self.world;
        let outbox = outboxes.get_mut(&stream).unwrap();
        let response = outbox.queue.pop_front().expect("a message that must come");
        let mut pieces = Vec::new();
        response.messages(Header::default(), 60, |message| {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            pieces.push(pb::WatchResponse::decode(bytes.as_slice()).unwrap());
        });
        let (last, before) = pieces.split_last().unwrap();
        assert!(!last.fragment && before.iter().all(|piece| piece.fragment));
        let events: Vec<mvccpb::Event> = pieces.iter().flat_map(|p| p.events.clone()).collect();
        let revision = last.header.as_ref().unwrap().revision;
        let id = last.watch_id;
        if last.created {
            assert!(!last.canceled, "the model creates nothing that is refused");
            let key = outbox.watchers.iter().find(|(_, seen)| seen.next.is_none()).unwrap().0;
            let mut seen = outbox.watchers.remove(&key.clone()).unwrap();
            let start = seen.create.start_revision;
            assert!(seen.create.watch_id == 0 || seen.create.watch_id == id);
            assert_eq!(revision, store.revision, "created at the store's revision");
            seen.next = Some(if start == 0 { revision + 1 } else { start });
            assert!(outbox.watchers.insert(id, seen).is_none(), "ids in use are not given out");
        } else if last.canceled && last.compact_revision != 0 {
            *compactions += 1;
            let seen = outbox.watchers.get_mut(&id).unwrap();
            assert!(!std::mem::replace(&mut seen.dead, true));
            assert_eq!(revision, 0);
            assert!(last.compact_revision <= store.compacted);
            assert!(seen.next.unwrap() < last.compact_revision);
        } else if last.canceled {
            outbox.watchers.remove(&id).unwrap();
        } else if events.is_empty() {
            *progress += 1;
            for (&each, seen) in &mut outbox.watchers {
                if seen.next.is_none() || (id != -1 && each != id) {
                    continue;
                }
                assert!(!seen.dead && (id == -1 || seen.create.progress_notify), "{each}");
                assert!(seen.create.start_revision <= revision, "nothing about the future");
                let hidden = expected(store, seen, revision);
                assert!(hidden.is_empty(), "progress at {revision} lies to {each}");
                assert!(seen.next.unwrap() <= revision + 1, "progress never goes back");
                seen.next = Some(revision + 1);
            }
        } else {
            *delivered += events.len();
            let seen = outbox.watchers.get_mut(&id).unwrap();
            assert!(!seen.dead && seen.next.is_some(), "between created and canceled");
            let newest = events.last().unwrap().kv.as_ref().unwrap().mod_revision;
            assert!(revision >= newest);
            let want = expected(store, seen, newest);
            check_events(&events, &want, seen.create.prev_kv, store);
            seen.next = Some(newest + 1);
        }
    }

    /// Everything on its way arrives; then nobody may miss anything.
    fn settle(&mut self) {
        while !self.pipe.is_empty() {
            self.deliver_from_pipe();
        }
        self.skip_to_store();
        for _ in 0..10_000 {
            let mut busy = self.hub.work(&mut self.world);
            busy |= !self.world.reads.is_empty();
            self.answer_read();
            let streams: Vec<StreamId> = self.world.outboxes.keys().copied().collect();
            for stream in streams {
                while !self.world.outboxes[&stream].queue.is_empty() {
                    busy = true;
                    self.consume_one(stream);
                }
                busy |= self.world.outboxes[&stream].refused;
                self.drained(stream);
            }
            if !busy {
                return self.check_settled();
            }
        }
        panic!("the hub does not come to rest");
    }

    fn check_settled(&mut self) {
        let revision = self.world.store.revision;
        assert_eq!(self.hub.revision(), revision);
        assert_eq!(self.hub.numbers().slow_watchers, 0);
        let streams: Vec<StreamId> = self.world.outboxes.keys().copied().collect();
        for stream in streams {
            let outbox = &self.world.outboxes[&stream];
            for (id, seen) in outbox.watchers.iter().filter(|(_, seen)| !seen.dead) {
                let missing = expected(&self.world.store, seen, revision);
                assert!(missing.is_empty(), "watcher {id} misses {missing:?}");
            }
            let live = |seen: &Seen| !seen.dead && seen.create.start_revision <= revision;
            let answered = !outbox.watchers.is_empty() && outbox.watchers.values().all(live);
            self.hub.progress_request(stream, &mut self.world);
            assert_eq!(self.world.outboxes[&stream].queue.len(), usize::from(answered));
            if answered {
                self.consume_one(stream);
            }
        }
    }
}

/// Events that the watcher has not seen, up to `until`.
fn expected(store: &Store, seen: &Seen, until: i64) -> Vec<(i64, Event)> {
    let Create { range, filters, .. } = &seen.create;
    let next = seen.next.expect("created");
    let wanted = |event: &&Event| {
        let filtered = match event.kind {
            EventKind::Put => filters.no_put,
            EventKind::Delete => filters.no_delete,
        };
        range.contains(&event.key) && !filtered
    };
    let inside = store.batches.iter().filter(|b| b.revision >= next && b.revision <= until);
    inside.flat_map(|b| b.events.iter().filter(wanted).map(|e| (b.revision, e.clone()))).collect()
}

fn check_events(got: &[mvccpb::Event], want: &[(i64, Event)], prev_kv: bool, store: &Store) {
    assert_eq!(got.len(), want.len(), "{got:?} is not {want:?}");
    for (got, (revision, want)) in got.iter().zip(want) {
        let kv = got.kv.as_ref().unwrap();
        assert_eq!(kv.encode_to_vec(), want.kv);
        assert_eq!(got.r#type == 1, want.kind == EventKind::Delete);
        let prev = store.value(&want.key, revision - 1);
        let may_be_gone = *revision <= store.compacted && got.prev_kv.is_none();
        if !prev_kv {
            assert_eq!(got.prev_kv, None);
        } else if !may_be_gone {
            assert_eq!(got.prev_kv, prev);
        }
    }
}

#[test]
fn every_watcher_sees_exactly_its_events() {
    let (mut delivered, mut progress, mut compactions) = (0, 0, 0);
    for seed in 0..1500 {
        let mut run = Run::new(seed);
        for _ in 0..3 {
            for _ in 0..200 {
                run.step();
            }
            run.settle();
        }
        delivered += run.world.delivered;
        progress += run.world.progress;
        compactions += run.world.compactions;
    }
    // The walk must reach what it is there to check.
    assert!(delivered > 50_000, "{delivered}");
    assert!(progress > 1_000, "{progress}");
    assert!(compactions > 500, "{compactions}");
}
