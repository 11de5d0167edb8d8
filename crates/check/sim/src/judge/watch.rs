//! Watchers: ordered, unique, reliable, atomic by revision, resumable, bookmarkable.

use mainstay_proto::{Message as _, etcdserverpb as pb, mvccpb};
use mainstay_types::{KeyRange, MemberId};
use mainstay_watch::{Body, Response};

use crate::judge::kv::{Change, Model};

/// What a watching client has seen.
#[derive(Debug)]
pub(crate) struct WatchJudge {
    pub(crate) range: KeyRange,
    pub(crate) prev_kv: bool,
    /// Everything before this revision was seen; 0 before the first answer.
    pub(crate) next: i64,
    pub(crate) events: u64,
}

/// Whether the stream goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Goes {
    On,
    /// It was cancelled; begin again.
    Ended,
}

impl WatchJudge {
    pub(crate) fn took(&mut self, model: &Model, from: MemberId, response: &Response) -> Goes {
        match &response.body {
            Body::Created => {
                if self.next == 0 {
                    self.next = response.revision + 1;
                }
                Goes::On
            }
            Body::Events(events) => {
                let events: Vec<mvccpb::Event> = events.as_slice().iter().map(decode).collect();
                self.took_events(model, from, response.revision, &events);
                Goes::On
            }
            Body::Progress => {
                self.nothing_missed(model, from, response.revision, "a progress notification");
                self.next = self.next.max(response.revision + 1);
                Goes::On
            }
            Body::Compacted(revision) => {
                let next = self.next;
                assert!(
                    next < *revision,
                    "{from} cancels a watcher at {next}, compacted is {revision}"
                );
                assert!(*revision <= model.compacted(), "nobody compacted at {revision}");
                self.next = *revision;
                Goes::Ended
            }
            Body::Canceled | Body::Refused(_) | Body::Failed(_) => {
                panic!("{from} answers a watcher with {:?}", response.body)
            }
        }
    }

    /// Whole revisions, the next ones, and nothing else.
    fn took_events(&mut self, model: &Model, from: MemberId, header: i64, got: &[mvccpb::Event]) {
        let mut got = got.iter().peekable();
        while let Some(first) = got.peek() {
            let revision = first.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            assert!(
                revision >= self.next,
                "{from} sends revision {revision} to a watcher that has seen it (next {})",
                self.next
            );
            assert!(revision <= header, "{from} sends {revision} under a header of {header}");
            self.nothing_missed(model, from, revision - 1, "an event");
            for change in model.changes(revision).iter().filter(|c| self.range.contains(&c.key)) {
                let event = got.next();
                let event = event.unwrap_or_else(|| {
                    panic!("{from} sends a part of revision {revision}, without {:?}", change.key)
                });
                self.same(from, change, event);
                self.events += 1;
            }
            self.next = revision + 1;
            let more = got.peek().and_then(|event| event.kv.as_ref());
            let again = more.is_some_and(|kv| kv.mod_revision == revision);
            assert!(!again, "{from} sends more than there is of revision {revision}");
        }
    }

    fn same(&self, from: MemberId, change: &Change, event: &mvccpb::Event) {
        assert_eq!(event.kv.as_ref(), Some(&change.kv), "{from} sends another event");
        let deletes = event.r#type == mvccpb::event::EventType::Delete as i32;
        assert_eq!(deletes, change.deleted, "{from} sends another event");
        // The value before may be compacted.
        if let Some(prev) = &event.prev_kv {
            assert!(self.prev_kv, "{from} sends a value that nobody asked for");
            assert_eq!(Some(prev), change.prev.as_ref(), "{from} sends another value before");
        }
    }

    /// Every event of the range up to `revision` has been seen.
    pub(crate) fn nothing_missed(&self, model: &Model, from: MemberId, revision: i64, what: &str) {
        assert!(revision <= model.revision(), "{from} sends {what} of the future");
        for at in self.next.max(2)..=revision {
            let missed = model.changes(at).iter().find(|c| self.range.contains(&c.key));
            assert!(
                missed.is_none(),
                "{from} sends {what} at {revision} without the change of {:?} at {at}",
                missed.map(|change| &change.key)
            );
        }
    }

    /// Whether nothing is left to be seen.
    pub(crate) fn is_up_to_date(&self, model: &Model) -> bool {
        let concerns = |at| model.changes(at).iter().any(|c| self.range.contains(&c.key));
        self.next != 0 && !(self.next.max(2)..=model.revision()).any(concerns)
    }
}

fn decode(bytes: &bytes::Bytes) -> mvccpb::Event {
    let response = pb::WatchResponse::decode(bytes.clone()).expect("the hub encodes events");
    let [event] = <[mvccpb::Event; 1]>::try_from(response.events).expect("one event a field");
    event
}
