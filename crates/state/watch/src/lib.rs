//! Who waits for which keys, who lags, and what to send next.
//!
//! The [`Hub`] knows every watch stream and its watchers. A watcher is *live*
//! (it gets each batch of events as it is published) or in *history* (it lags,
//! and is fed bounded slices read from a view) until it has caught up. A stream
//! whose outbox is full turns its watchers to history; nobody ever waits for them.
//!
//! Each watcher receives the events of its range from its start revision on: in
//! order, once, none left out, and never a part of a revision. A progress
//! notification at revision R says that every event up to R was queued before it.
//!
//! What is absent: threads, clocks, disk, protobuf decoding, headers' identity.
//! Time is an argument; everything the hub wants goes through a [`Port`].

mod event;
mod history;
mod hub;
mod index;
mod interval;
mod progress;
mod recent;
mod response;

pub use event::{Event, EventBatch, EventKind};
pub use history::{HistoryError, HistoryRead, HistorySlice, ReadId};
pub use hub::{Config, Create, Filters, Hub, Numbers, Port, StreamId};
pub use response::{Body, Events, Header, Message, Response};
