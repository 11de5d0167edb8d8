//! The watch thread: the real hub, small outboxes, slow reads of history.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_env::Dice as _;
use mainstay_mvcc::{History, MvccError, PastEvent, View};
use mainstay_watch::{
    Config, Create, Event, EventBatch, EventKind, HistoryError, HistoryRead, HistorySlice, Hub,
    Port, Response, StreamId,
};

use super::{Life, NodeEvent};
use crate::bug::Bug;
use crate::ctx::Ctx;
use crate::plan::MS;

/// Responses that wait for a slow client.
const OUTBOX: usize = 3;
/// Distinct revisions in a slice of history.
const SLICE: usize = 3;

/// The hub and its streams.
pub(crate) struct WatchEnd {
    hub: Hub,
    outboxes: BTreeMap<StreamId, Outbox>,
    streams: u64,
}

#[derive(Default)]
struct Outbox {
    queue: VecDeque<Response>,
    refused: bool,
}

impl WatchEnd {
    pub(super) fn new(view: &View, seed: u64) -> WatchEnd {
        let config = Config {
            revision: view.revision(),
            compact_revision: view.compact_revision(),
            progress_interval: Duration::from_secs(10),
            seed,
        };
        WatchEnd { hub: Hub::new(config), outboxes: BTreeMap::new(), streams: 0 }
    }

    /// A planted bug: the hub believes that nothing happened up to there.
    pub(super) fn forget_until(&mut self, revision: i64) {
        let mut nowhere = Nowhere;
        for missed in self.hub.revision() + 1..=revision {
            let batch = EventBatch { revision: missed, events: Vec::new() };
            self.hub.publish(Arc::new(batch), &mut nowhere);
        }
    }
}

struct Nowhere;

impl Port for Nowhere {
    fn offer(&mut self, _: StreamId, _: Response) -> bool {
        true
    }
    fn push(&mut self, _: StreamId, _: Response) {}
    fn previous(&mut self, _: &[u8], _: i64) -> Result<Option<Bytes>, String> {
        Ok(None)
    }
    fn read(&mut self, _: HistoryRead) {}
}

struct Desk<'a> {
    outboxes: &'a mut BTreeMap<StreamId, Outbox>,
    view: &'a View,
    reads: Vec<HistoryRead>,
    drops: bool,
}

impl Port for Desk<'_> {
    fn offer(&mut self, stream: StreamId, response: Response) -> bool {
        let Some(outbox) = self.outboxes.get_mut(&stream) else { return true };
        if outbox.queue.len() >= OUTBOX {
            outbox.refused = !self.drops;
            return self.drops;
        }
        outbox.queue.push_back(response);
        true
    }

    fn push(&mut self, stream: StreamId, response: Response) {
        if let Some(outbox) = self.outboxes.get_mut(&stream) {
            outbox.queue.push_back(response);
        }
    }

    fn previous(&mut self, key: &[u8], revision: i64) -> Result<Option<Bytes>, String> {
        self.view.previous(key, revision).map_err(|error| error.to_string())
    }

    fn read(&mut self, read: HistoryRead) {
        self.reads.push(read);
    }
}

impl Life {
    /// Does something with the hub, and all the work that follows.
    fn with_hub<T>(&mut self, ctx: &mut Ctx, act: impl FnOnce(&mut Hub, &mut Desk<'_>) -> T) -> T {
        let view = Arc::clone(&self.view);
        let now = self.clock(ctx);
        let drops = ctx.has(Bug::WatchLostWhenFull);
        let WatchEnd { hub, outboxes, .. } = &mut self.watch;
        let mut desk = Desk { outboxes, view: &view, reads: Vec::new(), drops };
        let done = act(hub, &mut desk);
        hub.tick(now, &mut desk);
        while hub.work(&mut desk) {}
        for read in desk.reads {
            let read = HistoryRead { revisions_max: read.revisions_max.min(SLICE), ..read };
            let delay = ctx.dice.below(500 * MS);
            self.after(ctx, delay, NodeEvent::History(Box::new(read)));
        }
        done
    }

    fn is_watched(&self) -> bool {
        !self.watch.outboxes.is_empty()
    }

    pub(super) fn publish(&mut self, ctx: &mut Ctx, batch: Arc<EventBatch>) {
        if self.is_watched() {
            self.with_hub(ctx, |hub, desk| hub.publish(batch, desk));
        }
    }

    pub(super) fn watch_compacted(&mut self, ctx: &mut Ctx, revision: i64) {
        if !ctx.has(Bug::WatchLostAtCompaction) {
            self.with_hub(ctx, |hub, desk| hub.compacted(revision, desk));
        }
    }

    pub(super) fn watch_skips(&mut self, ctx: &mut Ctx, revision: i64) {
        self.with_hub(ctx, |hub, desk| hub.skip_to(revision, desk));
    }

    pub(super) fn history_turn(&mut self, ctx: &mut Ctx, read: &HistoryRead) {
        let view = Arc::clone(&self.view);
        let result = match (past(&view, read), ctx.bug) {
            (Err(HistoryError::Compacted(revision)), Some(Bug::WatchLostAtCompaction)) => {
                let at_revision = view.revision();
                Ok(HistorySlice { batches: Vec::new(), next_revision: revision, at_revision })
            }
            (result, _) => result,
        };
        if let Err(HistoryError::Failed(why)) = &result {
            panic!("history cannot be read from a healthy disk: {why}");
        }
        self.with_hub(ctx, |hub, desk| hub.history_done(read.id, result, desk));
    }

    /// A client watches.
    pub(crate) fn watch(&mut self, ctx: &mut Ctx, create: Create) -> StreamId {
        self.watch.streams += 1;
        let stream = StreamId(self.watch.streams);
        let now = self.clock(ctx);
        if !self.is_watched() {
            // Batches that nobody wanted were not published.
            let revision = self.view.revision();
            self.watch_skips(ctx, revision);
            self.watch_compacted(ctx, self.view.compact_revision());
        }
        self.watch.outboxes.insert(stream, Outbox::default());
        let shown = self.view.revision();
        self.with_hub(ctx, |hub, desk| {
            hub.open_stream(stream, now);
            hub.observe_store(shown);
            hub.create(stream, create, desk);
        });
        stream
    }

    /// A client asks how far it is.
    pub(crate) fn watch_progress(&mut self, ctx: &mut Ctx, stream: StreamId) {
        let shown = self.view.revision();
        self.with_hub(ctx, |hub, desk| {
            hub.observe_store(shown);
            hub.progress_request(stream, desk);
        });
    }

    /// A client takes what waits for it.
    pub(crate) fn watch_take(&mut self, ctx: &mut Ctx, stream: StreamId) -> Vec<Response> {
        let Some(outbox) = self.watch.outboxes.get_mut(&stream) else { return Vec::new() };
        let taken = outbox.queue.drain(..).collect();
        let drained = std::mem::take(&mut outbox.refused);
        self.with_hub(ctx, |hub, _| {
            if drained {
                hub.outbox_drained(stream);
            }
        });
        taken
    }

    /// A client has gone.
    pub(crate) fn watch_close(&mut self, stream: StreamId) {
        self.watch.hub.close_stream(stream);
        self.watch.outboxes.remove(&stream);
    }
}

/// As the driver reads old revisions from the newest view.
fn past(view: &View, read: &HistoryRead) -> Result<HistorySlice, HistoryError> {
    let failed = |error: MvccError| match error {
        MvccError::Compacted => HistoryError::Compacted(view.compact_revision()),
        error => HistoryError::Failed(error.to_string()),
    };
    let History { events, next } =
        view.history(&read.range, read.from, read.revisions_max, read.bytes_max).map_err(failed)?;
    let mut batches: Vec<EventBatch> = Vec::new();
    for past in events {
        let wants_prev = read.prev.as_ref().is_some_and(|range| range.contains(&past.key));
        let revision = past.revision.main;
        let event = event(view, past, wants_prev).map_err(failed)?;
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.events.push(event),
            _ => batches.push(EventBatch { revision, events: vec![event] }),
        }
    }
    Ok(HistorySlice {
        batches: batches.into_iter().map(Arc::new).collect(),
        next_revision: next,
        at_revision: view.revision(),
    })
}

fn event(view: &View, past: PastEvent, wants_prev: bool) -> Result<Event, MvccError> {
    let kind = if past.deleted { EventKind::Delete } else { EventKind::Put };
    let mut event = Event { kind, key: past.key, kv: past.kv, prev: None };
    if wants_prev && !event.is_create() {
        event.prev = view.previous(&event.key, past.revision.main - 1)?;
    }
    Ok(event)
}
