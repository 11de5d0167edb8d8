//! The published views as the watch threads read them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use mainstay_mvcc::{History, MvccError, PastEvent, View};
use mainstay_watch::{Event, EventBatch, EventKind, HistoryError, HistoryRead, HistorySlice};

use crate::watch_thread::Past;

/// Reads whatever view is published at the time of the call.
pub(crate) struct ViewPast(pub(crate) Arc<ArcSwap<View>>);

impl Past for ViewPast {
    fn revision(&self) -> i64 {
        self.0.load().revision()
    }

    fn compact_revision(&self) -> i64 {
        self.0.load().compact_revision()
    }

    fn previous(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, String> {
        self.0.load_full().previous(key, revision).map_err(|error| error.to_string())
    }

    fn read(&self, read: &HistoryRead) -> Result<HistorySlice, HistoryError> {
        let view = self.0.load_full();
        let failed = |error: MvccError| match error {
            MvccError::Compacted => HistoryError::Compacted(view.compact_revision()),
            error => HistoryError::Failed(error.to_string()),
        };
        let History { events, next } = view
            .history(&read.range, read.from, read.revisions_max, read.bytes_max)
            .map_err(failed)?;
        let mut batches: Vec<EventBatch> = Vec::new();
        for past in events {
            let wants_prev = read.prev.as_ref().is_some_and(|range| range.contains(&past.key));
            let revision = past.revision.main;
            let event = event(&view, past, wants_prev).map_err(failed)?;
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
}

fn event(view: &View, past: PastEvent, wants_prev: bool) -> Result<Event, MvccError> {
    let kind = if past.deleted { EventKind::Delete } else { EventKind::Put };
    let mut event = Event { kind, key: past.key, kv: past.kv, prev: None };
    if wants_prev && !event.is_create() {
        event.prev = view.previous(&event.key, past.revision.main - 1)?;
    }
    Ok(event)
}
