//! The thread that owns the watch hub, and what others hold of it.
//!
//! Everything reaches the hub through one queue, in order. Responses go to one
//! bounded outbox per stream, which the stream's task empties; a second thread
//! reads old revisions, so that a disk never delays what is live. Publishing never
//! waits: what does not fit is read back from history.

mod outbox;
mod past;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError, never, select, unbounded};
use mainstay_env::Clock;
use mainstay_types::limits::WATCH_BATCHES_WAITING_MAX;
use mainstay_watch::{
    Config, Create, EventBatch, HistoryError, HistoryRead, HistorySlice, Hub, Port, ReadId,
    Response, StreamId,
};

use crate::stats::Stats;
use outbox::{Outbox, OutboxEnd};
pub(crate) use past::Past;

/// What a client asks of its stream.
#[derive(Clone, Debug)]
pub enum WatchCommand {
    /// Watch a range.
    Create(Create),
    /// Stop the watcher with this id.
    Cancel(i64),
    /// Say how far all watchers are.
    Progress,
}

/// What the threads are started with.
pub(crate) struct WatchDeps {
    /// The store as published.
    pub(crate) past: Arc<dyn Past>,
    /// For progress notifications.
    pub(crate) clock: Arc<dyn Clock>,
    /// Where streams, watchers and events are counted.
    pub(crate) stats: Arc<Stats>,
    /// `--watch-progress-notify-interval`.
    pub(crate) progress_interval: Duration,
    /// Decides the jitter of progress notifications.
    pub(crate) seed: u64,
}

enum Input {
    Batch(Arc<EventBatch>),
    Compacted(i64),
    /// Nothing by itself: look at what was lost.
    Look,
    Open(StreamId, OutboxEnd),
    Command(StreamId, WatchCommand),
    Drained(StreamId),
    Close(StreamId),
    Stop,
}

/// The front of the watch thread; cheap to clone.
#[derive(Clone)]
pub(crate) struct WatchHandle {
    front: Arc<Front>,
}

struct Front {
    inputs: Sender<Input>,
    next_stream: AtomicU64,
    stats: Arc<Stats>,
    shared: Arc<Shared>,
}

/// Between publishers and the thread.
#[derive(Default)]
struct Shared {
    /// Streams that are open: without any, batches are not even queued.
    streams: AtomicUsize,
    /// Batches in the queue.
    batches: AtomicUsize,
    /// The newest revision whose batch was not queued.
    lost: AtomicI64,
}

/// Starts the two threads; they end when [`WatchHandle::stop`] is called or every
/// handle and stream is gone.
///
/// # Errors
/// The system refuses a thread.
pub(crate) fn start(deps: WatchDeps) -> std::io::Result<(WatchHandle, Vec<JoinHandle<()>>)> {
    let (inputs, inputs_out) = unbounded();
    let (reads, reads_out) = unbounded::<HistoryRead>();
    let (results_in, results) = unbounded();
    let shared = Arc::new(Shared::default());
    let past = deps.past.clone();
    let config = Config {
        revision: past.revision(),
        compact_revision: past.compact_revision(),
        progress_interval: deps.progress_interval,
        seed: deps.seed,
    };
    let worker = Worker {
        hub: Hub::new(config),
        desk: Desk { outboxes: BTreeMap::new(), past: deps.past, reads, stats: deps.stats.clone() },
        clock: deps.clock,
        stats: deps.stats.clone(),
        shared: shared.clone(),
        inputs: inputs_out,
        results,
    };
    let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let read_on = move || {
        for read in reads_out {
            let id = read.id;
            if results_in.send((id, past.read(&read))).is_err() {
                break;
            }
        }
    };
    let reader = named("watch-read").spawn(read_on)?;
    let watcher = named("watch").spawn(move || worker.run())?;
    let front = Front { inputs, next_stream: AtomicU64::new(0), stats: deps.stats, shared };
    Ok((WatchHandle { front: Arc::new(front) }, vec![watcher, reader]))
}

impl WatchHandle {
    /// Offers the events of the next revision. Call it after the view that shows
    /// them is published, best before the write is answered. Never waits.
    pub(crate) fn publish(&self, batch: Arc<EventBatch>) {
        let shared = &self.front.shared;
        if shared.streams.load(Ordering::SeqCst) == 0 {
            return self.skip_to(batch.revision);
        }
        if shared.batches.fetch_add(1, Ordering::Relaxed) >= WATCH_BATCHES_WAITING_MAX {
            shared.batches.fetch_sub(1, Ordering::Relaxed);
            return self.skip_to(batch.revision);
        }
        self.send(Input::Batch(batch));
    }

    /// Revisions up to this one are in the published view but were not offered: a
    /// snapshot was installed. Watchers read them back.
    pub(crate) fn skip_to(&self, revision: i64) {
        let shared = &self.front.shared;
        shared.lost.fetch_max(revision, Ordering::SeqCst);
        // Either a stream opened before this load is seen here, or the thread, which
        // looks after it has seen the stream, sees the number above.
        if shared.streams.load(Ordering::SeqCst) > 0 {
            self.send(Input::Look);
        }
    }

    /// Revisions below this one are gone from the published view.
    pub(crate) fn compacted(&self, revision: i64) {
        self.send(Input::Compacted(revision));
    }

    /// Opens a stream; dropping it closes it.
    pub(crate) fn open_stream(&self) -> WatchStream {
        let id = StreamId(self.front.next_stream.fetch_add(1, Ordering::Relaxed));
        self.front.shared.streams.fetch_add(1, Ordering::SeqCst);
        let outbox = Arc::new(Outbox::default());
        // When the thread is gone, the end is dropped with the message: that closes it.
        self.send(Input::Open(id, OutboxEnd(outbox.clone())));
        WatchStream { id, handle: self.clone(), outbox, taken: Default::default() }
    }

    /// Ends the threads and every stream.
    pub(crate) fn stop(&self) {
        self.send(Input::Stop);
    }

    fn send(&self, input: Input) {
        // Fails only when the thread has ended; then nobody watches any more.
        let _ = self.front.inputs.send(input);
    }
}

/// One watch stream, held by one task.
pub struct WatchStream {
    id: StreamId,
    handle: WatchHandle,
    outbox: Arc<Outbox>,
    /// Taken from the outbox in one go.
    taken: std::collections::VecDeque<Response>,
}

impl WatchStream {
    /// Passes a command to the hub. Wait for [`WatchStream::poll_ready`] first: that
    /// is what bounds a client that asks faster than it reads.
    pub fn send(&self, command: WatchCommand) {
        self.outbox.command_sent();
        self.handle.send(Input::Command(self.id, command));
    }

    /// Ready while the stream may pass on another command.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.outbox.poll_ready(cx)
    }

    /// The next response; `None` when the member stops. Nothing is lost when the
    /// caller stops polling half-way.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        if self.taken.is_empty() {
            match self.outbox.poll_take(cx, &mut self.taken) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(drained) => {
                    self.count_taken();
                    if drained {
                        self.handle.send(Input::Drained(self.id));
                    }
                }
            }
        }
        Poll::Ready(self.taken.pop_front())
    }

    /// [`WatchStream::poll_next`] as a future; cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Response> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn count_taken(&self) {
        let events: u64 = self.taken.iter().map(events_of).sum();
        let stats = &self.handle.front.stats;
        stats.events.add(events);
        stats.pending_events.add(-(events as i64));
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.handle.front.shared.streams.fetch_sub(1, Ordering::SeqCst);
        self.handle.send(Input::Close(self.id));
    }
}

/// What the hub reaches the world through.
struct Desk {
    outboxes: BTreeMap<StreamId, OutboxEnd>,
    past: Arc<dyn Past>,
    reads: Sender<HistoryRead>,
    stats: Arc<Stats>,
}

impl Desk {
    /// Events that lie in an outbox. Counted before they do: who takes them counts them off.
    fn pending(&self, events: u64, sign: i64) {
        if events > 0 {
            self.stats.pending_events.add(sign * events as i64);
        }
    }

    /// What nobody will take any more is not pending.
    fn close(&mut self, stream: StreamId) {
        if let Some(end) = self.outboxes.remove(&stream) {
            self.pending(end.0.drain().iter().map(events_of).sum(), -1);
        }
    }
}

fn events_of(response: &Response) -> u64 {
    response.events().len() as u64
}

impl Port for Desk {
    fn offer(&mut self, stream: StreamId, response: Response) -> bool {
        let Some(end) = self.outboxes.get(&stream) else { return true };
        let events = events_of(&response);
        self.pending(events, 1);
        let taken = end.0.offer(response);
        if !taken {
            self.pending(events, -1);
        }
        taken
    }

    fn push(&mut self, stream: StreamId, response: Response) {
        if let Some(end) = self.outboxes.get(&stream) {
            self.pending(events_of(&response), 1);
            end.0.push(response);
        }
    }

    fn previous(&mut self, key: &[u8], revision: i64) -> Result<Option<Bytes>, String> {
        self.past.previous(key, revision)
    }

    fn read(&mut self, read: HistoryRead) {
        // The reader ends only after this thread has dropped the sender.
        let _ = self.reads.send(read);
    }
}

struct Worker {
    hub: Hub,
    desk: Desk,
    clock: Arc<dyn Clock>,
    stats: Arc<Stats>,
    shared: Arc<Shared>,
    inputs: Receiver<Input>,
    results: Receiver<(ReadId, Result<HistorySlice, HistoryError>)>,
}

/// Inputs between two looks at everything else.
const INPUTS_PER_TURN: usize = 256;

impl Worker {
    fn run(mut self) {
        while self.turn() && self.wait() {}
    }

    /// Handles what is there. `false` ends the thread.
    fn turn(&mut self) -> bool {
        loop {
            let mut more = true;
            for _ in 0..INPUTS_PER_TURN {
                match self.inputs.try_recv() {
                    Ok(input) => {
                        if !self.handle(input) {
                            return false;
                        }
                    }
                    Err(TryRecvError::Empty) => {
                        more = false;
                        break;
                    }
                    Err(TryRecvError::Disconnected) => return false,
                }
            }
            while let Ok((id, result)) = self.results.try_recv() {
                self.hub.history_done(id, result, &mut self.desk);
            }
            if !more {
                self.hub.skip_to(self.shared.lost.load(Ordering::SeqCst), &mut self.desk);
            }
            self.hub.tick(self.clock.now(), &mut self.desk);
            let worked = self.hub.work(&mut self.desk);
            self.count();
            if !more && !worked {
                return true;
            }
        }
    }

    /// Sleeps until there is something to do. `false` ends the thread.
    fn wait(&mut self) -> bool {
        let deadline = self.hub.next_deadline();
        let until = deadline.map(|deadline| deadline.saturating_sub(self.clock.now()));
        let timer = until.map_or_else(never, crossbeam_channel::after);
        select! {
            recv(self.inputs) -> input => input.is_ok_and(|input| self.handle(input)),
            recv(self.results) -> done => {
                // The reader cannot end before this thread does, unless it panicked.
                let Ok((id, result)) = done else { return false };
                self.hub.history_done(id, result, &mut self.desk);
                true
            }
            recv(timer) -> _ => true,
        }
    }

    /// `false` ends the thread.
    fn handle(&mut self, input: Input) -> bool {
        match input {
            Input::Batch(batch) => {
                self.shared.batches.fetch_sub(1, Ordering::Relaxed);
                self.hub.publish(batch, &mut self.desk);
            }
            Input::Compacted(revision) => self.hub.compacted(revision, &mut self.desk),
            Input::Look => {}
            Input::Open(stream, end) => {
                self.desk.outboxes.insert(stream, end);
                self.hub.open_stream(stream, self.clock.now());
            }
            Input::Command(stream, command) => self.command(stream, command),
            Input::Drained(stream) => self.hub.outbox_drained(stream),
            Input::Close(stream) => {
                self.hub.close_stream(stream);
                self.desk.close(stream);
            }
            Input::Stop => return false,
        }
        true
    }

    fn command(&mut self, stream: StreamId, command: WatchCommand) {
        // What readers have seen counts as past, even if its batch is still queued.
        self.hub.observe_store(self.desk.past.revision());
        match command {
            WatchCommand::Create(create) => self.hub.create(stream, create, &mut self.desk),
            WatchCommand::Cancel(id) => self.hub.cancel(stream, id, &mut self.desk),
            WatchCommand::Progress => self.hub.progress_request(stream, &mut self.desk),
        }
        if let Some(end) = self.desk.outboxes.get(&stream) {
            end.0.command_done();
        }
    }

    fn count(&self) {
        let numbers = self.hub.numbers();
        let gauge = |n| i64::try_from(n).unwrap_or(i64::MAX);
        self.stats.watch_streams.set(gauge(numbers.streams));
        self.stats.watchers.set(gauge(numbers.watchers));
        self.stats.slow_watchers.set(gauge(numbers.slow_watchers));
    }
}
