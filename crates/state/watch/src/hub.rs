//! The hub: streams, watchers, and where each of them stands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_types::KeyRange;
use mainstay_types::limits::WATCHERS_PER_STREAM_MAX;

use crate::event::{EventBatch, EventKind, Shared};
use crate::history::{HistoryRead, ReadId, Reader};
use crate::index::Index;
use crate::recent::Recent;
use crate::response::{Body, Events, Response};

/// A watch stream; chosen by whoever opens it, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Everything the hub wants from outside.
pub trait Port {
    /// Queues a response, or answers `false` when the stream's outbox is full. After
    /// a `false`, [`Hub::outbox_drained`] must be called once there is room.
    fn offer(&mut self, stream: StreamId, response: Response) -> bool;
    /// Queues a response even if the outbox is full. The client bounds these by what
    /// it asked for; who takes its requests stops while the outbox is full.
    fn push(&mut self, stream: StreamId, response: Response);
    /// The encoded `mvccpb.KeyValue` of `key` at `revision`; `None` when the key was
    /// not there or the revision is compacted. Only asked when a watcher wants it.
    ///
    /// # Errors
    /// Why it cannot be read: the watchers that want it are cancelled with these words, as an
    /// event without it would say something else.
    fn previous(&mut self, key: &[u8], revision: i64) -> Result<Option<Bytes>, String>;
    /// Starts a read, to be answered by [`Hub::history_done`].
    fn read(&mut self, read: HistoryRead);
}

/// How a hub starts.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The store's current revision.
    pub revision: i64,
    /// The store's compact revision; 0 or less when it was never compacted.
    pub compact_revision: i64,
    /// Time between progress notifications (`--watch-progress-notify-interval`).
    pub progress_interval: Duration,
    /// Decides the jitter of progress notifications.
    pub seed: u64,
}

/// Events that a watcher does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// `NOPUT`.
    pub no_put: bool,
    /// `NODELETE`.
    pub no_delete: bool,
}

/// A request to create a watcher (`WatchCreateRequest`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The keys, as [`KeyRange::from_wire`] reads them. May be empty: that is refused.
    pub range: KeyRange,
    /// The first revision wanted; 0 is what comes after now. Negative: that is refused.
    pub start_revision: i64,
    /// Events that are not wanted.
    pub filters: Filters,
    /// Whether events carry the value before them.
    pub prev_kv: bool,
    /// Whether silence is interrupted by progress notifications.
    pub progress_notify: bool,
    /// Whether large responses may be split.
    pub fragment: bool,
    /// The id to use; 0 picks one.
    pub watch_id: i64,
}

/// How many there are, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Open streams.
    pub streams: usize,
    /// Watchers, cancelled ones that the client has not acknowledged included.
    pub watchers: usize,
    /// Watchers that lag.
    pub slow_watchers: usize,
}

/// Where a watcher stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It gets each batch as it is published; its place in the index.
    Live { group: u32, place: u32 },
    /// It lags and is due for a slice of history.
    Ready,
    /// It lags, and its stream's outbox is full.
    Waiting,
    /// It lags, and a read for it is under way (or it is between two phases).
    Reading,
    /// It was cancelled by us; its id is taken until the client cancels it too.
    Dead,
}

pub(crate) struct Watcher {
    pub(crate) stream: StreamId,
    pub(crate) id: i64,
    pub(crate) range: KeyRange,
    pub(crate) start_revision: i64,
    pub(crate) filters: Filters,
    pub(crate) prev_kv: bool,
    pub(crate) progress_notify: bool,
    pub(crate) fragment: bool,
    /// No events since the last scheduled notification.
    pub(crate) quiet: bool,
    /// The next revision that it has not been given. For a live one a lower bound
    /// only: the hub's next revision counts when it is later.
    pub(crate) next: i64,
    pub(crate) phase: Phase,
    /// Tells a watcher from a later one in the same slot.
    pub(crate) serial: u64,
}

pub(crate) struct Stream {
    pub(crate) watchers: BTreeMap<i64, u32>,
    next_id: i64,
    /// The outbox was full; nothing is offered until it has drained.
    pub(crate) paused: bool,
    /// Watchers that are not live.
    pub(crate) behind: usize,
    /// Watchers in [`Phase::Waiting`].
    waiting: BTreeSet<u32>,
    /// A progress request waits for this revision.
    pub(crate) progress_from: i64,
    pub(crate) deadline: Duration,
    pub(crate) interval: Duration,
}

/// Which events of a group a watcher gets; watchers that want the same share them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want {
    from: i64,
    filters: Filters,
    prev_kv: bool,
}

/// Knows who waits for what. See the crate's page for what it promises.
///
/// After any call, [`Hub::work`] until it answers `false`.
pub struct Hub {
    /// Every batch up to here was published (or skipped by a gap).
    pub(crate) revision: i64,
    /// The store is at least here; not below `revision`.
    pub(crate) store_revision: i64,
    compacted: i64,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    watchers: Vec<Option<Watcher>>,
    free: Vec<u32>,
    serial: u64,
    live: Index,
    /// Watchers in [`Phase::Ready`], by the revision they need next.
    pub(crate) ready: BTreeSet<(i64, u32)>,
    /// Watchers in `Ready`, `Waiting` or `Reading`.
    lagging: usize,
    pub(crate) recent: Recent,
    pub(crate) reader: Reader,
    pub(crate) progress_asked: BTreeSet<StreamId>,
    pub(crate) deadlines: BTreeSet<(Duration, StreamId)>,
    pub(crate) progress_interval: Duration,
    pub(crate) seed: u64,
    pub(crate) draws: u64,
    touched: Vec<u32>,
}

impl Hub {
    /// A hub without streams.
    pub fn new(config: Config) -> Hub {
        Hub {
            revision: config.revision,
            store_revision: config.revision,
            compacted: config.compact_revision,
            streams: BTreeMap::new(),
            watchers: Vec::new(),
            free: Vec::new(),
            serial: 0,
            live: Index::default(),
            ready: BTreeSet::new(),
            lagging: 0,
            recent: Recent::default(),
            reader: Reader::default(),
            progress_asked: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            progress_interval: config.progress_interval,
            seed: config.seed,
            draws: 0,
            touched: Vec::new(),
        }
    }

    /// The last published revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// How many there are.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            streams: self.streams.len(),
            watchers: self.watchers.len() - self.free.len(),
            slow_watchers: self.lagging,
        }
    }

    /// The store has shown this revision to readers. Batches up to it may still be
    /// on their way here; what is created now starts after it all the same.
    pub fn observe_store(&mut self, revision: i64) {
        self.store_revision = self.store_revision.max(revision);
    }

    /// Opens a stream. `now` is monotonic time, as in [`Hub::tick`].
    pub fn open_stream(&mut self, stream: StreamId, now: Duration) {
        let interval = self.draw_interval();
        let entry = Stream {
            watchers: BTreeMap::new(),
            next_id: 0,
            paused: false,
            behind: 0,
            waiting: BTreeSet::new(),
            progress_from: 0,
            deadline: now + interval,
            interval,
        };
        self.deadlines.insert((entry.deadline, stream));
        let old = self.streams.insert(stream, entry);
        assert!(old.is_none(), "a stream id is never used twice");
    }

    /// Closes a stream and forgets its watchers. Closing an unknown one does nothing.
    pub fn close_stream(&mut self, stream: StreamId) {
        let Some(entry) = self.streams.get(&stream) else { return };
        let watchers: Vec<u32> = entry.watchers.values().copied().collect();
        self.deadlines.remove(&(entry.deadline, stream));
        self.progress_asked.remove(&stream);
        for ix in watchers {
            self.forget(ix);
        }
        self.streams.remove(&stream);
        self.trim_recent();
    }

    /// Creates a watcher, or refuses to, and says so on the stream (semantics 6.1 to 6.4).
    pub fn create(&mut self, stream: StreamId, create: Create, port: &mut dyn Port) {
        let revision = self.store_revision;
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        let id = match entry.choose_id(&create) {
            Ok(id) => id,
            Err(reason) => return port.push(stream, Response::refused(revision, reason)),
        };
        let start_revision = create.start_revision;
        let watcher = Watcher {
            stream,
            id,
            range: create.range,
            start_revision,
            filters: create.filters,
            prev_kv: create.prev_kv,
            progress_notify: create.progress_notify,
            fragment: create.fragment,
            quiet: true,
            next: if start_revision == 0 { revision + 1 } else { start_revision },
            phase: Phase::Reading,
            serial: self.serial,
        };
        self.serial += 1;
        let ix = match self.free.pop() {
            Some(ix) => ix,
            None => {
                self.watchers.push(None);
                u32::try_from(self.watchers.len() - 1).expect("watchers fit in memory")
            }
        };
        self.watchers[ix as usize] = Some(watcher);
        entry.watchers.insert(id, ix);
        entry.behind += 1;
        self.lagging += 1;
        port.push(
            stream,
            Response { watch_id: id, revision, fragment: false, body: Body::Created },
        );
        self.settle(ix, port);
    }

    /// Cancels a watcher as the client asked; an unknown id is passed over in silence
    /// (semantics 6.15).
    pub fn cancel(&mut self, stream: StreamId, watch_id: i64, port: &mut dyn Port) {
        let Some(entry) = self.streams.get(&stream) else { return };
        let Some(&ix) = entry.watchers.get(&watch_id) else { return };
        self.forget(ix);
        self.trim_recent();
        let revision = self.store_revision;
        port.push(stream, Response { watch_id, revision, fragment: false, body: Body::Canceled });
    }

    /// Publishes the next revision's events. A batch that was published before is
    /// passed over; revisions left out before it are a gap ([`Hub::skip_to`]).
    pub fn publish(&mut self, batch: Arc<EventBatch>, port: &mut dyn Port) {
        if batch.revision <= self.revision {
            return;
        }
        self.skip_to(batch.revision - 1, port);
        self.revision = batch.revision;
        self.observe_store(batch.revision);
        let mut touched = std::mem::take(&mut self.touched);
        for (n, event) in batch.events.iter().enumerate() {
            self.live.concerned(&event.key, |number, group| {
                if group.hits.is_empty() {
                    touched.push(number);
                }
                group.hits.push((0, n as u32));
            });
        }
        let mut shared = Shared::live(batch);
        for group in touched.drain(..) {
            self.fan_out(group, &mut shared, port);
        }
        self.touched = touched;
        if self.lagging > 0 {
            self.recent.push(shared);
        }
        self.answer_waiting_progress(port);
    }

    /// Revisions up to `revision` exist but their batches will not come: a snapshot
    /// was installed, or the way here was full. Live watchers continue from history;
    /// those that start later stay as they are (semantics 6.19).
    pub fn skip_to(&mut self, revision: i64, port: &mut dyn Port) {
        if revision <= self.revision {
            return;
        }
        let next = self.revision + 1;
        self.revision = revision;
        self.observe_store(revision);
        self.recent.clear();
        for ix in self.all() {
            if let Phase::Live { .. } = self.watcher(ix).phase
                && self.watcher(ix).next <= revision
            {
                self.detach(ix);
                let watcher = self.watcher_mut(ix);
                watcher.next = watcher.next.max(next);
                self.settle(ix, port);
            }
        }
        self.answer_waiting_progress(port);
    }

    /// Revisions below `revision` are gone; watchers that still need one of them are
    /// cancelled (semantics 6.5).
    pub fn compacted(&mut self, revision: i64, port: &mut dyn Port) {
        self.compacted = self.compacted.max(revision);
        for ix in self.all() {
            let watcher = self.watcher(ix);
            let lags = matches!(watcher.phase, Phase::Ready | Phase::Waiting | Phase::Reading);
            if lags && watcher.next < self.compacted {
                self.kill_compacted(ix, port);
            }
        }
        self.trim_recent();
    }

    /// A stream whose outbox had refused a response has room again.
    pub fn outbox_drained(&mut self, stream: StreamId) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.paused = false;
        for ix in std::mem::take(&mut entry.waiting) {
            let watcher = self.watcher_mut(ix);
            watcher.phase = Phase::Ready;
            let next = watcher.next;
            self.ready.insert((next, ix));
        }
    }

    /// Offers the batch to a group's watchers; who cannot take it lags from here on.
    fn fan_out(&mut self, number: u32, shared: &mut Shared, port: &mut dyn Port) {
        let revision = shared.batch.revision;
        let mut hits = std::mem::take(&mut self.live.group(number).hits);
        let mut choices = Choices::default();
        // From the back: a member that leaves is replaced by one that was served.
        for place in (0..self.live.group(number).members.len()).rev() {
            let ix = self.live.group(number).members[place];
            if self.watcher(ix).next > revision {
                continue;
            }
            let want = self.watcher(ix).want(0);
            let batches = std::slice::from_mut(shared);
            let events = match choices.get(want, &hits, batches, port) {
                Ok(Some(events)) => events,
                Ok(None) => continue,
                Err(why) => {
                    self.kill(ix, self.revision, Body::Failed(why.into()), port);
                    continue;
                }
            };
            if !self.offer_events(ix, revision, events, port) {
                self.detach(ix);
                self.watcher_mut(ix).next = revision;
                self.settle(ix, port);
            }
        }
        hits.clear();
        self.live.group(number).hits = hits;
    }

    /// Queues events for a watcher, unless its stream is (or becomes) full.
    pub(crate) fn offer_events(
        &mut self,
        ix: u32,
        revision: i64,
        events: Events,
        port: &mut dyn Port,
    ) -> bool {
        let watcher = self.watchers[ix as usize].as_mut().expect(HELD);
        let entry = self.streams.get_mut(&watcher.stream).expect(OPEN);
        if entry.paused {
            return false;
        }
        let (watch_id, fragment) = (watcher.id, watcher.fragment);
        let body = Body::Events(events);
        let taken = port.offer(watcher.stream, Response { watch_id, revision, fragment, body });
        entry.paused = !taken;
        watcher.quiet &= !taken;
        taken
    }

    /// Puts a watcher that is between two phases where its next revision belongs.
    pub(crate) fn settle(&mut self, ix: u32, port: &mut dyn Port) {
        let watcher = self.watchers[ix as usize].as_mut().expect(HELD);
        debug_assert_eq!(watcher.phase, Phase::Reading);
        let entry = self.streams.get_mut(&watcher.stream).expect(OPEN);
        if watcher.next > self.revision {
            let (group, place) = self.live.add(&watcher.range, ix);
            watcher.phase = Phase::Live { group, place };
            entry.behind -= 1;
            self.lagging -= 1;
        } else if watcher.next < self.compacted {
            self.kill_compacted(ix, port);
        } else if entry.paused {
            self.wait(ix);
        } else {
            watcher.phase = Phase::Ready;
            self.ready.insert((watcher.next, ix));
        }
    }

    /// Lets a watcher that is between two phases wait until its outbox has drained.
    pub(crate) fn wait(&mut self, ix: u32) {
        let watcher = self.watchers[ix as usize].as_mut().expect(HELD);
        watcher.phase = Phase::Waiting;
        self.streams.get_mut(&watcher.stream).expect(OPEN).waiting.insert(ix);
    }

    /// Takes a watcher that is not dead out of the structure of its phase.
    pub(crate) fn detach(&mut self, ix: u32) {
        let watcher = self.watchers[ix as usize].as_mut().expect(HELD);
        let entry = self.streams.get_mut(&watcher.stream).expect(OPEN);
        match std::mem::replace(&mut watcher.phase, Phase::Reading) {
            Phase::Live { group, place } => {
                entry.behind += 1;
                self.lagging += 1;
                if let Some(moved) = self.live.remove(group, place) {
                    self.watcher_mut(moved).phase = Phase::Live { group, place };
                }
            }
            Phase::Ready => {
                self.ready.remove(&(watcher.next, ix));
            }
            Phase::Waiting => {
                entry.waiting.remove(&ix);
            }
            Phase::Reading => {}
            Phase::Dead => unreachable!("the dead have no structure"),
        }
    }

    fn kill_compacted(&mut self, ix: u32, port: &mut dyn Port) {
        self.kill(ix, 0, Body::Compacted(self.compacted), port);
    }

    /// Cancels a watcher on our side.
    pub(crate) fn kill(&mut self, ix: u32, revision: i64, body: Body, port: &mut dyn Port) {
        self.detach(ix);
        self.lagging -= 1;
        let watcher = self.watcher_mut(ix);
        watcher.phase = Phase::Dead;
        let (stream, watch_id) = (watcher.stream, watcher.id);
        port.push(stream, Response { watch_id, revision, fragment: false, body });
    }

    /// Removes a watcher and frees its id.
    fn forget(&mut self, ix: u32) {
        if self.watcher(ix).phase != Phase::Dead {
            self.detach(ix);
            self.lagging -= 1;
        }
        let watcher = self.watchers[ix as usize].take().expect(HELD);
        let entry = self.streams.get_mut(&watcher.stream).expect(OPEN);
        entry.behind -= 1;
        entry.watchers.remove(&watcher.id);
        self.free.push(ix);
    }

    /// Recent batches are only kept for those who lag.
    pub(crate) fn trim_recent(&mut self) {
        if self.lagging == 0 {
            self.recent.clear();
        }
    }

    fn all(&self) -> Vec<u32> {
        (0..self.watchers.len() as u32).filter(|&ix| self.watchers[ix as usize].is_some()).collect()
    }

    pub(crate) fn watcher(&self, ix: u32) -> &Watcher {
        self.watchers[ix as usize].as_ref().expect(HELD)
    }

    pub(crate) fn watcher_mut(&mut self, ix: u32) -> &mut Watcher {
        self.watchers[ix as usize].as_mut().expect(HELD)
    }

    /// Whether the slot still holds the watcher that a read was started for.
    pub(crate) fn still_reads(&self, ix: u32, serial: u64) -> bool {
        let watcher = self.watchers[ix as usize].as_ref();
        watcher.is_some_and(|watcher| watcher.serial == serial && watcher.phase == Phase::Reading)
    }

    /// Id of a read that is not under way.
    pub(crate) fn new_read_id(&mut self) -> ReadId {
        self.serial += 1;
        ReadId(self.serial)
    }
}

const HELD: &str = "indexes and queues only name watchers that exist";
const OPEN: &str = "closing a stream forgets its watchers";

impl Stream {
    /// The id of a new watcher, or why there is none (etcd's texts).
    fn choose_id(&mut self, create: &Create) -> Result<i64, &'static str> {
        if create.start_revision < 0 {
            return Err("etcdserver: mvcc: required revision has been compacted");
        }
        if create.range.is_empty() {
            return Err("mvcc: watcher range is empty");
        }
        if self.watchers.len() >= WATCHERS_PER_STREAM_MAX {
            return Err("etcdserver: too many watchers on the stream");
        }
        if create.watch_id != 0 {
            let taken = self.watchers.contains_key(&create.watch_id);
            let reason = "mvcc: duplicate watch ID provided on the WatchStream";
            return if taken { Err(reason) } else { Ok(create.watch_id) };
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }
}

impl Watcher {
    /// What it wants of batches from revision `from` on.
    pub(crate) fn want(&self, from: i64) -> Want {
        Want { from, filters: self.filters, prev_kv: self.prev_kv }
    }
}

/// The events of one group, chosen once for all watchers that want the same.
#[derive(Default)]
pub(crate) struct Choices {
    known: Vec<(Want, Option<Events>)>,
}

impl Choices {
    /// The wanted ones among `hits`: (batch, event) positions in order.
    pub(crate) fn get(
        &mut self,
        want: Want,
        hits: &[(u32, u32)],
        batches: &mut [Shared],
        port: &mut dyn Port,
    ) -> Result<Option<Events>, String> {
        if let Some((_, events)) = self.known.iter().rev().find(|known| known.0 == want) {
            return Ok(events.clone());
        }
        let mut list = Vec::new();
        for &(batch, event) in hits {
            let shared = &mut batches[batch as usize];
            let unwanted = match shared.batch.events[event as usize].kind {
                EventKind::Put => want.filters.no_put,
                EventKind::Delete => want.filters.no_delete,
            };
            if shared.batch.revision >= want.from && !unwanted {
                let mut previous = |key: &[u8], revision| port.previous(key, revision);
                list.push(shared.event(event as usize, want.prev_kv, &mut previous)?);
            }
        }
        let events = Events::from_list(list);
        self.known.push((want, events.clone()));
        Ok(events)
    }
}

#[cfg(test)]
mod tests;
