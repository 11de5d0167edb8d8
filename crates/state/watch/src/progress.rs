//! Progress notifications (semantics 6.12 to 6.14): never sent for a watcher that
//! has something coming at or before the revision they name.

use std::time::Duration;

use crate::hub::{Hub, Phase, Port, StreamId};
use crate::interval::scramble;
use crate::response::{Body, NO_WATCHER, Response};

impl Hub {
    /// The client asks how far its watchers are. Answered, as watch id -1, only if
    /// every watcher of the stream is live and none starts in the future. While
    /// batches that the store has already shown are still on their way to the hub,
    /// the answer waits for them.
    pub fn progress_request(&mut self, stream: StreamId, port: &mut dyn Port) {
        if self.store_revision > self.revision {
            if let Some(entry) = self.streams.get_mut(&stream) {
                entry.progress_from = self.store_revision;
                self.progress_asked.insert(stream);
            }
            return;
        }
        self.answer_progress(stream, port);
    }

    /// Answers the requests that waited for a revision which is there now.
    pub(crate) fn answer_waiting_progress(&mut self, port: &mut dyn Port) {
        if self.progress_asked.is_empty() {
            return;
        }
        let due = |stream: &StreamId| {
            self.streams.get(stream).is_none_or(|entry| entry.progress_from <= self.revision)
        };
        let due: Vec<StreamId> = self.progress_asked.iter().copied().filter(due).collect();
        for stream in due {
            self.progress_asked.remove(&stream);
            self.answer_progress(stream, port);
        }
    }

    fn answer_progress(&mut self, stream: StreamId, port: &mut dyn Port) {
        let Some(entry) = self.streams.get(&stream) else { return };
        let synced = !entry.watchers.is_empty()
            && entry.behind == 0
            && entry.watchers.values().all(|&ix| self.has_everything(ix));
        if synced {
            self.offer_progress(stream, NO_WATCHER, port);
        }
    }

    /// Sends the scheduled notifications whose time has come. Call it at
    /// [`Hub::next_deadline`] or later.
    pub fn tick(&mut self, now: Duration, port: &mut dyn Port) {
        while let Some(&(deadline, stream)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.deadlines.remove(&(deadline, stream));
            let entry = self.streams.get_mut(&stream).expect("a closed stream has no deadline");
            entry.deadline = now + entry.interval;
            self.deadlines.insert((entry.deadline, stream));
            let watchers: Vec<(i64, u32)> =
                entry.watchers.iter().map(|(&id, &ix)| (id, ix)).collect();
            for (id, ix) in watchers {
                if !self.watcher(ix).progress_notify {
                    continue;
                }
                if self.watcher(ix).quiet && self.has_everything(ix) {
                    self.offer_progress(stream, id, port);
                }
                self.watcher_mut(ix).quiet = true;
            }
        }
    }

    /// When [`Hub::tick`] has something to do; `None` without streams.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// A stream's time between notifications: the configured one and up to a tenth
    /// more, so that streams opened together do not all fire together.
    pub(crate) fn draw_interval(&mut self) -> Duration {
        self.draws += 1;
        let roll = scramble(self.seed ^ scramble(self.draws));
        let nanos = u64::try_from(self.progress_interval.as_nanos() / 10).unwrap_or(u64::MAX);
        self.progress_interval + Duration::from_nanos(roll % nanos.max(1))
    }

    /// Whether every event of the watcher's range up to the hub's revision was
    /// queued for it, and it does not start later.
    fn has_everything(&self, ix: u32) -> bool {
        let watcher = self.watcher(ix);
        matches!(watcher.phase, Phase::Live { .. })
            && watcher.start_revision <= self.revision
            && watcher.next <= self.revision + 1
    }

    /// A full outbox loses a notification, never an event.
    fn offer_progress(&mut self, stream: StreamId, watch_id: i64, port: &mut dyn Port) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        if !entry.paused {
            let revision = self.revision;
            let response = Response { watch_id, revision, fragment: false, body: Body::Progress };
            entry.paused = !port.offer(stream, response);
        }
    }
}
