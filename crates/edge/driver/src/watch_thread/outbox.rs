//! A stream's outbox: filled by the watch thread, emptied by the stream's task.
//!
//! One lock around a queue and the task's waker. The task takes everything that
//! waits in one go, so that a burst costs it one turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mainstay_types::limits::{
    WATCH_COMMANDS_WAITING_MAX, WATCH_OUTBOX_BYTES_MAX, WATCH_OUTBOX_RESPONSES_MAX,
};
use mainstay_watch::{Body, Response};
use parking_lot::Mutex;

#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Response>,
    bytes: usize,
    /// Watchers that were created: each may have two responses waiting beyond the
    /// bound, so that one event for all of them fits.
    watchers: usize,
    /// A response was refused; the hub must hear when there is room.
    refused: bool,
    /// Commands that the hub has not handled.
    commands: usize,
    closed: bool,
    waker: Option<Waker>,
}

impl State {
    fn is_full(&self) -> bool {
        self.queue.len() >= WATCH_OUTBOX_RESPONSES_MAX + 2 * self.watchers
            || self.bytes >= WATCH_OUTBOX_BYTES_MAX
    }

    fn put(&mut self, response: Response) -> Option<Waker> {
        self.bytes += response.cost();
        self.queue.push_back(response);
        self.waker.take()
    }
}

impl Outbox {
    /// Queues unless it is full.
    pub(super) fn offer(&self, response: Response) -> bool {
        let mut state = self.state.lock();
        if state.is_full() {
            state.refused = true;
            return false;
        }
        let waker = state.put(response);
        drop(state);
        wake(waker);
        true
    }

    /// Queues in any case.
    pub(super) fn push(&self, response: Response) {
        let mut state = self.state.lock();
        match response.body {
            Body::Created => state.watchers += 1,
            Body::Canceled => state.watchers = state.watchers.saturating_sub(1),
            _ => {}
        }
        let waker = state.put(response);
        drop(state);
        wake(waker);
    }

    /// Moves everything that waits into `into`, which must be empty and stays so only
    /// when the outbox is closed. Answers whether the hub must hear about the room.
    pub(super) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        into: &mut VecDeque<Response>,
    ) -> Poll<bool> {
        let mut state = self.state.lock();
        if state.queue.is_empty() && !state.closed {
            state.remember(cx);
            return Poll::Pending;
        }
        std::mem::swap(&mut state.queue, into);
        state.bytes = 0;
        Poll::Ready(std::mem::take(&mut state.refused))
    }

    /// Takes what waits when its task is gone.
    pub(super) fn drain(&self) -> VecDeque<Response> {
        std::mem::take(&mut self.state.lock().queue)
    }

    pub(super) fn command_sent(&self) {
        self.state.lock().commands += 1;
    }

    pub(super) fn command_done(&self) {
        let mut state = self.state.lock();
        let was_full = state.commands >= WATCH_COMMANDS_WAITING_MAX;
        state.commands -= 1;
        let waker = if was_full { state.waker.take() } else { None };
        drop(state);
        wake(waker);
    }

    /// Ready while another command may be sent, or when it is closed.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        let full = state.commands >= WATCH_COMMANDS_WAITING_MAX || state.is_full();
        if full && !state.closed {
            state.remember(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        wake(waker);
    }
}

impl State {
    fn remember(&mut self, cx: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The watch thread's end of an outbox. However it is lost, the task hears of it.
pub(super) struct OutboxEnd(pub(super) Arc<Outbox>);

impl Drop for OutboxEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}
