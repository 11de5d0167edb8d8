//! Watch fan-out: many watchers, puts, and how long each event takes to arrive.
//!
//! A put's value begins with the time at which it was meant to leave, so the watcher
//! that reads it knows the event's age, which includes the put itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainstay_proto::etcdserverpb as pb;
use prost::Message as _;
use tokio::time::Instant;

use crate::loads::Dice;
use crate::measure::{Plan, Shown, Target, Window};
use crate::pace::Pace;
use crate::rows::Loop;
use crate::wire::{Call, Connection, WireError, frame};

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fan {
    /// All of them together.
    pub(crate) watchers: u64,
    /// Watch streams that carry them, evenly.
    pub(crate) streams: u64,
    /// Each watches a key of its own instead of all the same prefix.
    pub(crate) own_key: bool,
}

impl Fan {
    /// Reads `1000s100`: 1000 watchers on 100 streams.
    pub(crate) fn parse(text: &str, own_key: bool) -> Option<Fan> {
        let (watchers, streams) = text.split_once('s')?;
        let (watchers, streams) = (watchers.parse().ok()?, streams.parse().ok()?);
        (streams > 0 && watchers >= streams).then_some(Fan { watchers, streams, own_key })
    }

    /// Connections that carry the streams.
    pub(crate) fn connections(self) -> usize {
        self.streams.min(CONNECTIONS) as usize
    }

    fn deliveries_per_put(self) -> u64 {
        if self.own_key { 1 } else { self.watchers }
    }
}

/// Connections for the watch streams, at most.
const CONNECTIONS: u64 = 10;
/// Puts in flight at most in an open loop.
const PUTTERS: usize = 64;
/// How long events are waited for after the last put.
const PATIENCE: Duration = Duration::from_secs(5);
/// Watchers that one stream creates before it reads the first answer, at most.
const CREATED_AT_ONCE: u64 = 100;

/// What all tasks of a run share.
struct Shared {
    fan: Fan,
    window: Window,
    epoch: Instant,
    value_bytes: usize,
    /// Puts meant to leave in the window, and answered.
    puts: AtomicU64,
    /// Events of those that arrived.
    events: AtomicU64,
}

/// Runs the row.
pub(crate) async fn run(target: &Target, plan: &Plan, fan: Fan) -> Result<Shown, WireError> {
    let mut connections = Vec::new();
    for number in 0..fan.connections() {
        connections.push(Connection::open(target.endpoint(number)).await?);
    }
    let mut calls = Vec::new();
    for stream in 0..fan.streams {
        let connection = &connections[(stream % connections.len() as u64) as usize];
        calls.push(create(connection, fan, stream).await?);
    }
    let putting = Connection::open(target.endpoint(0)).await?;
    let shared = Arc::new(Shared {
        fan,
        window: Window::new(plan.warm_up, plan.time),
        epoch: Instant::now(),
        value_bytes: plan.space.value_bytes.max(8),
        puts: AtomicU64::new(0),
        events: AtomicU64::new(0),
    });
    let readers: Vec<_> =
        calls.into_iter().map(|call| tokio::spawn(read(call, Arc::clone(&shared)))).collect();
    let putters = start_putters(&putting, plan, &shared)?;
    let counters = shared.window.watch(target).await;
    for putter in putters {
        putter.await.map_err(|e| WireError::Malformed(e.to_string()))?;
    }
    wait_for_events(&shared).await;
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(shared.window.shown(&counters))
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("watched/{number:010}"))
}

/// Opens stream `number` and creates its watchers, in steps; returns when all stand.
async fn create(connection: &Connection, fan: Fan, number: u64) -> Result<Call, WireError> {
    let mut call = connection.stream("/etcdserverpb.Watch/Watch").await?;
    let mine: Vec<u64> = (number..fan.watchers).step_by(fan.streams as usize).collect();
    for some in mine.chunks(CREATED_AT_ONCE as usize) {
        for watcher in some {
            let (key, range_end) = match fan.own_key {
                true => (key(*watcher), Bytes::new()),
                false => (Bytes::from_static(b"watched/"), Bytes::from_static(b"watched0")),
            };
            let create = pb::WatchCreateRequest { key, range_end, ..Default::default() };
            let request = pb::WatchRequest {
                request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
            };
            call.send(frame(&request), false)?;
        }
        for _ in some {
            let message = call.next().await?;
            let message = message.ok_or_else(|| WireError::Malformed("the stream ended".into()))?;
            let answer = decode(message)?;
            if !answer.created || answer.canceled {
                return Err(WireError::Malformed("a watcher was not created".into()));
            }
        }
    }
    Ok(call)
}

async fn read(mut call: Call, shared: Arc<Shared>) {
    loop {
        let answer = match call.next().await {
            Ok(Some(message)) => decode(message),
            Ok(None) => Err(WireError::Malformed("the watch stream ended".into())),
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return shared.window.fail(1, error),
        };
        let now = Instant::now();
        for event in answer.events {
            let Some(meant) = event.kv.and_then(|kv| sent_at(&shared, &kv.value)) else {
                shared.window.fail(1, "an event without a time");
                continue;
            };
            shared.window.count(meant, now);
            if (shared.window.begin..shared.window.end).contains(&meant) {
                shared.events.fetch_add(1, Ordering::Relaxed);
            }
        }
        if answer.canceled {
            return shared.window.fail(1, "a watcher was canceled");
        }
    }
}

fn sent_at(shared: &Shared, value: &[u8]) -> Option<Instant> {
    let nanos = u64::from_be_bytes(value.get(..8)?.try_into().ok()?);
    shared.epoch.checked_add(Duration::from_nanos(nanos))
}

fn start_putters(
    connection: &Connection,
    plan: &Plan,
    shared: &Arc<Shared>,
) -> Result<Vec<tokio::task::JoinHandle<()>>, WireError> {
    let (count, pace) = match plan.row.loop_ {
        Loop::Closed(clients) => (clients, None),
        Loop::Open(rate) => (PUTTERS, Some(Pace::start(rate, shared.window.end)?)),
    };
    Ok((0..count)
        .map(|number| {
            let task = put(connection.clone(), Arc::clone(shared), pace.clone(), number as u64);
            tokio::spawn(task)
        })
        .collect())
}

async fn put(connection: Connection, shared: Arc<Shared>, pace: Option<Arc<Pace>>, seed: u64) {
    let mut dice = Dice(seed);
    loop {
        let meant = match &pace {
            Some(pace) => match pace.next().await {
                Some(due) => due,
                None => return,
            },
            None => Instant::now(),
        };
        if meant >= shared.window.end {
            return;
        }
        let mut value = vec![b'v'; shared.value_bytes];
        let age = meant.saturating_duration_since(shared.epoch).as_nanos() as u64;
        value[..8].copy_from_slice(&age.to_be_bytes());
        let request = pb::PutRequest {
            key: key(dice.below(shared.fan.watchers)),
            value: Bytes::from(value),
            ..Default::default()
        };
        match connection.unary_bytes("/etcdserverpb.KV/Put", frame(&request)).await {
            Ok(_) if meant >= shared.window.begin => {
                shared.puts.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) => return shared.window.fail(1, error),
        }
    }
}

async fn wait_for_events(shared: &Shared) {
    let expected = shared.puts.load(Ordering::Relaxed) * shared.fan.deliveries_per_put();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = shared.events.load(Ordering::Relaxed);
        if events == expected {
            return;
        }
        if Instant::now() > deadline {
            let wrong = events.abs_diff(expected);
            return shared.window.fail(wrong, format!("{events} events of {expected} arrived"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn decode(message: Bytes) -> Result<Delivery, WireError> {
    Delivery::decode(message).map_err(|e| WireError::Malformed(e.to_string()))
}

/// The fields of a WatchResponse that are looked at, to spend little on the rest.
#[derive(Clone, PartialEq, prost::Message)]
struct Delivery {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    canceled: bool,
    #[prost(message, repeated, tag = "11")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(message, optional, tag = "2")]
    kv: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_watchers_and_streams() {
        let fan = Fan::parse("1000s100", false).expect("a fan");
        assert_eq!((fan.watchers, fan.streams, fan.deliveries_per_put()), (1000, 100, 1000));
        assert_eq!(Fan::parse("10s2", true).expect("a fan").deliveries_per_put(), 1);
        for text in ["", "10", "0s1", "1s2", "5s0", "s"] {
            assert!(Fan::parse(text, false).is_none(), "{text}");
        }
    }

    #[test]
    fn reads_the_fields_of_a_real_response() {
        let kv = mainstay_proto::mvccpb::KeyValue {
            key: "k".into(),
            value: "12345678rest".into(),
            mod_revision: 7,
            ..Default::default()
        };
        let event = mainstay_proto::mvccpb::Event { kv: Some(kv), ..Default::default() };
        let response = pb::WatchResponse { watch_id: 5, events: vec![event], ..Default::default() };
        let read = decode(response.encode_to_vec().into()).expect("decodes");
        assert!(!read.created && !read.canceled);
        assert_eq!(read.events[0].kv.as_ref().expect("a kv").value, "12345678rest");
        let created = pb::WatchResponse { created: true, ..Default::default() };
        assert!(decode(created.encode_to_vec().into()).expect("decodes").created);
    }
}
