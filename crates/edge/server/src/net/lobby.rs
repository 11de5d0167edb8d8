//! Connections that have not shown yet that they are worth anything.
//!
//! Whoever connects stands here until a call of its has succeeded (or its certificate was
//! verified). The lobby bounds how many may stand there, and what they may have sent: when
//! it is full, whoever has stood there for longest makes room for who comes next, and whoever
//! has sent most makes room for what comes next. So a crowd that says nothing, half a
//! handshake, half a header or half a message costs a bounded amount, and keeps nobody else
//! out for long; while there is room, nobody is hurried.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
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
    bytes: usize,
    /// Sent away since it was last told, and when that was.
    sent_away: u64,
    told: Option<Instant>,
}

struct Guest {
    since: Instant,
    bytes: usize,
    ender: Ender,
}

impl State {
    fn remove(&mut self, number: u64) -> Option<Guest> {
        let guest = self.guests.remove(&number)?;
        self.bytes -= guest.bytes;
        Some(guest)
    }

    fn send_away(&mut self, number: u64) {
        let Some(guest) = self.remove(number) else { return };
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
        if state.guests.len() < self.connections_max {
            return Ok(());
        }
        let Some((&first, guest)) = state.guests.first_key_value() else { return Ok(()) };
        let stood = guest.since.elapsed();
        if stood < SENT_AWAY_AFTER {
            return Err(SENT_AWAY_AFTER - stood);
        }
        state.send_away(first);
        Ok(())
    }

    /// Lets a connection in.
    pub(crate) fn enter(self: &Arc<Lobby>) -> Ticket {
        let ender = Ender::default();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        let guest =
            Guest { since: Instant::now(), bytes: LOBBY_CONNECTION_BYTES, ender: ender.clone() };
        state.guests.insert(number, guest);
        state.bytes += LOBBY_CONNECTION_BYTES;
        drop(state);
        Ticket { lobby: Arc::clone(self), number, ender, known: Cell::new(false) }
    }

    fn leave(&self, number: u64) {
        let left = self.state.lock().remove(number).is_some();
        if left {
            self.left.notify_one();
        }
    }

    fn add(&self, number: u64, bytes: usize) {
        let mut state = self.state.lock();
        let Some(guest) = state.guests.get_mut(&number) else { return };
        guest.bytes += bytes;
        state.bytes += bytes;
        while state.bytes > self.bytes_max {
            let most = state.guests.iter().max_by_key(|(_, guest)| guest.bytes);
            let Some((&most, _)) = most else { return };
            state.send_away(most);
        }
    }

    fn settle(&self, number: u64) {
        let mut state = self.state.lock();
        let Some(guest) = state.guests.get_mut(&number) else { return };
        let freed = guest.bytes - LOBBY_CONNECTION_BYTES;
        guest.bytes = LOBBY_CONNECTION_BYTES;
        state.bytes -= freed;
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
