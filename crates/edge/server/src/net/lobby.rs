//! Connections that have not shown yet that they are worth anything.
//!
//! Whoever connects stands here until a call of its has succeeded (or its certificate was
//! verified). The lobby bounds how many may stand there, and what they may have sent: when
//! it is full, whoever has stood there for longest makes room for who comes next, and whoever
//! has sent most makes room for what comes next. So a crowd that says nothing, half a
//! handshake, half a header or half a message costs a bounded amount, and keeps nobody else
//! out for long. What was held by those who were sent away counts until it is free, and until
//! then nothing is read from the others. While there is room, nobody is hurried.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mainstay_types::limits::{
    LOBBY_BYTES_MAX, LOBBY_CONNECTION_BYTES, LOBBY_CONNECTIONS_MAX, LOBBY_HEADERS_FACTOR,
    LOBBY_STREAM_BYTES,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ender::Ender;

/// Nobody is sent away sooner: a crowd of honest clients gets its turn, and the rest of it
/// waits in the kernel's queue.
const SENT_AWAY_AFTER: Duration = Duration::from_secs(1);
/// How often it is told that somebody was sent away.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What connections take beside what they send, in bytes (measured, rounded up).
pub(crate) const TLS_BYTES: usize = 40 << 10;
/// One that speaks HTTP/1.
pub(crate) const HTTP1_BYTES: usize = 28 << 10;
/// One that speaks HTTP/2.
pub(crate) const HTTP2_BYTES: usize = 40 << 10;
/// What there must be room for before one more comes in.
const NEXT_BYTES: usize = LOBBY_CONNECTION_BYTES + TLS_BYTES + HTTP2_BYTES;

/// The lobby of a server.
pub(crate) struct Lobby {
    connections_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    /// Somebody left.
    left: Notify,
}

#[derive(Default)]
struct State {
    /// In the order in which they came.
    guests: BTreeMap<u64, Guest>,
    next: u64,
    /// What guests cost, and of that those who were sent away and are not gone yet.
    bytes: usize,
    leaving: usize,
    /// Somebody waits until there is less.
    paused: bool,
    /// Sent away since it was last told, and when that was.
    sent_away: u64,
    told: Option<Instant>,
}

struct Guest {
    since: Instant,
    /// What it costs in any case, and what it does now.
    base: usize,
    bytes: usize,
    /// It has been sent away.
    leaving: bool,
    /// Who waits to read from it.
    paused: Option<Waker>,
    ender: Ender,
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Guest> {
        let guest = self.guests.remove(&number)?;
        self.bytes -= guest.bytes;
        if guest.leaving {
            self.leaving -= guest.bytes;
        }
        Some(guest)
    }

    fn add(&mut self, number: u64, bytes: usize) {
        let Some(guest) = self.guests.get_mut(&number) else { return };
        guest.bytes += bytes;
        self.bytes += bytes;
        if guest.leaving {
            self.leaving += bytes;
        }
    }

    /// It is told to go; what it costs counts until it is gone.
    fn send_away(&mut self, number: u64) {
        let Some(guest) = self.guests.get_mut(&number) else { return };
        guest.leaving = true;
        self.leaving += guest.bytes;
        guest.ender.end();
        self.sent_away += 1;
        let now = Instant::now();
        if self.told.is_none_or(|told| now - told >= TOLD_EVERY) {
            self.told = Some(now);
            let count = std::mem::take(&mut self.sent_away);
            tracing::warn!(
                count,
                "closed connections that have not made a successful call, to make room for others"
            );
        }
    }
}

impl Lobby {
    /// A lobby of a server that may have so many connections.
    pub(crate) fn of(connections: usize) -> Lobby {
        Lobby::new(LOBBY_CONNECTIONS_MAX.min(connections / 2).max(1), LOBBY_BYTES_MAX)
    }

    fn new(connections_max: usize, bytes_max: usize) -> Lobby {
        Lobby { connections_max, bytes_max, state: Mutex::default(), left: Notify::new() }
    }

    /// Waits until one more may come in.
    pub(crate) async fn room(&self) {
        while let Err(wait) = self.make_room() {
            // Woken without need is as good.
            let _ = tokio::time::timeout(wait, self.left.notified()).await;
        }
    }

    /// Or says how long to wait at most.
    fn make_room(&self) -> Result<(), Duration> {
        let mut state = self.state.lock();
        // One fits in any case.
        let full = state.bytes + NEXT_BYTES > self.bytes_max && !state.guests.is_empty();
        if state.guests.len() < self.connections_max && !full {
            return Ok(());
        }
        let first = state.guests.iter().find(|(_, guest)| !guest.leaving);
        let Some((&first, guest)) = first else { return Err(SENT_AWAY_AFTER) };
        let stood = guest.since.elapsed();
        if stood < SENT_AWAY_AFTER {
            return Err(SENT_AWAY_AFTER - stood);
        }
        state.send_away(first);
        // Its place is free when it is gone.
        Err(SENT_AWAY_AFTER)
    }

    /// Lets a connection in.
    pub(crate) fn enter(self: &Arc<Lobby>) -> Ticket {
        let ender = Ender::default();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        let (since, base, bytes) = (Instant::now(), LOBBY_CONNECTION_BYTES, LOBBY_CONNECTION_BYTES);
        let guest =
            Guest { since, base, bytes, leaving: false, paused: None, ender: ender.clone() };
        state.guests.insert(number, guest);
        state.bytes += bytes;
        drop(state);
        Ticket { lobby: Arc::clone(self), number, ender, known: Cell::new(false) }
    }

    fn leave(&self, number: u64) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.remove(number).is_none() {
            return;
        }
        if state.paused && state.bytes <= self.bytes_max {
            state.paused = false;
            let paused = state.guests.values_mut().filter_map(|guest| guest.paused.take());
            paused.for_each(Waker::wake);
        }
        drop(guard);
        self.left.notify_one();
    }

    fn add(&self, number: u64, bytes: usize) {
        let mut state = self.state.lock();
        state.add(number, bytes);
        while state.bytes - state.leaving > self.bytes_max {
            let stay = state.guests.iter().filter(|(_, guest)| !guest.leaving);
            let Some((&most, _)) = stay.max_by_key(|(_, guest)| guest.bytes) else { return };
            state.send_away(most);
        }
    }

    fn settle(&self, number: u64) {
        let mut state = self.state.lock();
        let Some(guest) = state.guests.get_mut(&number) else { return };
        let (freed, leaving) = (guest.bytes - guest.base, guest.leaving);
        guest.bytes = guest.base;
        state.bytes -= freed;
        if leaving {
            state.leaving -= freed;
        }
    }

    fn poll_read(&self, number: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.bytes <= self.bytes_max {
            return Poll::Ready(());
        }
        state.paused = true;
        match state.guests.get_mut(&number) {
            Some(guest) => guest.paused = Some(cx.waker().clone()),
            None => return Poll::Ready(()),
        }
        Poll::Pending
    }
}

/// A connection's place in the lobby, and its end.
pub(crate) struct Ticket {
    lobby: Arc<Lobby>,
    number: u64,
    ender: Ender,
    /// It stands there no more.
    known: Cell<bool>,
}

impl Ticket {
    /// Ends the connection.
    pub(crate) fn ender(&self) -> &Ender {
        &self.ender
    }

    /// Whether it has left the lobby for good.
    pub(crate) fn is_known(&self) -> bool {
        self.known.get()
    }

    /// It has shown who it is, or that it can do something here.
    pub(crate) fn become_known(&self) {
        if !self.known.replace(true) {
            self.lobby.leave(self.number);
        }
    }

    /// It is of a kind that costs so many bytes more, whatever it sends.
    pub(crate) fn costs(&self, bytes: usize) {
        if self.known.get() {
            return;
        }
        self.lobby.add(self.number, bytes);
        if let Some(guest) = self.lobby.state.lock().guests.get_mut(&self.number) {
            guest.base += bytes;
        }
    }

    /// Ready while more may be read from it: not while those who were sent away still hold
    /// what there is.
    pub(crate) fn poll_read(&self, cx: &Context<'_>) -> Poll<()> {
        if self.known.get() { Poll::Ready(()) } else { self.lobby.poll_read(self.number, cx) }
    }

    /// It has sent so many bytes, which may be held somewhere.
    pub(crate) fn sent(&self, bytes: usize) {
        if !self.known.get() {
            self.lobby.add(self.number, bytes);
        }
    }

    /// It has begun a call, with so many bytes of compressed headers.
    pub(crate) fn began(&self, headers: usize) {
        self.sent(LOBBY_STREAM_BYTES + LOBBY_HEADERS_FACTOR * headers);
    }

    /// Nothing of it is under way: what it had sent is gone.
    pub(crate) fn settled(&self) {
        if !self.known.get() {
            self.lobby.settle(self.number);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.known.get() {
            self.lobby.leave(self.number);
        }
    }
}
