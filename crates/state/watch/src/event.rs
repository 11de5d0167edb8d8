//! Events, and their encoding as one `events` field of a `WatchResponse`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::response::{put_varint, varint_len};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It got a value.
    Put,
    /// It was deleted, by a request or with its lease.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key.
    pub key: Bytes,
    /// The encoded `mvccpb.KeyValue`; of a delete, one with key and mod revision only.
    pub kv: Bytes,
    /// The encoded `mvccpb.KeyValue` before the change, where the store had it at
    /// hand; otherwise it is asked for when a watcher wants it.
    pub prev: Option<Bytes>,
}

/// All events of one revision, in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    /// The revision; the mod revision of every event.
    pub revision: i64,
    /// The events, at least one.
    pub events: Vec<Event>,
}

impl EventBatch {
    /// Bytes of keys and values, for bounds.
    pub fn bytes(&self) -> usize {
        self.events
            .iter()
            .map(|event| event.kv.len() + event.prev.as_ref().map_or(0, Bytes::len))
            .sum()
    }
}

impl Event {
    /// Whether the key did not exist before: a put whose create and mod revision are equal.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && created_by_itself(&self.kv).unwrap_or(false)
    }

    /// The event as field 11 (`events`) of a `WatchResponse`: tag, length, `mvccpb.Event`.
    pub(crate) fn encode(&self, prev: Option<&Bytes>) -> Bytes {
        let kind_len = if self.kind == EventKind::Delete { 2 } else { 0 };
        let field_len = |bytes: &Bytes| 1 + varint_len(bytes.len() as u64) + bytes.len();
        let len = kind_len + field_len(&self.kv) + prev.map_or(0, field_len);
        let mut out = BytesMut::with_capacity(1 + varint_len(len as u64) + len);
        out.put_u8(EVENTS_TAG);
        put_varint(&mut out, len as u64);
        if self.kind == EventKind::Delete {
            out.put_slice(&[0x08, 0x01]);
        }
        for (tag, bytes) in [(0x12, Some(&self.kv)), (0x1a, prev)] {
            if let Some(bytes) = bytes {
                out.put_u8(tag);
                put_varint(&mut out, bytes.len() as u64);
                out.put_slice(bytes);
            }
        }
        out.freeze()
    }
}

/// Field 11, length-delimited.
const EVENTS_TAG: u8 = 11 << 3 | 2;

/// Whether create and mod revision of an encoded `KeyValue` are equal; `None` when
/// it is not in canonical form.
fn created_by_itself(mut kv: &[u8]) -> Option<bool> {
    if kv.first() == Some(&0x0a) {
        kv = &kv[1..];
        let len = usize::try_from(take_varint(&mut kv)?).ok()?;
        kv = kv.get(len..)?;
    }
    let mut revisions = [0u64; 2];
    for (tag, revision) in [0x10, 0x18].into_iter().zip(&mut revisions) {
        if kv.first() == Some(&tag) {
            kv = &kv[1..];
            *revision = take_varint(&mut kv)?;
        }
    }
    Some(revisions[0] == revisions[1])
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// A batch with its events encoded at most once in each form, however many want them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) batch: std::sync::Arc<EventBatch>,
    /// A missing `prev` was looked for already and is not there.
    prev_is_final: bool,
    plain: Vec<Option<Bytes>>,
    with_prev: Vec<Option<Bytes>>,
}

/// Looks a previous value up; or says why it cannot be read.
pub(crate) type Previous<'p> = dyn FnMut(&[u8], i64) -> Result<Option<Bytes>, String> + 'p;

impl Shared {
    /// A published batch: previous values are looked up when wanted.
    pub(crate) fn live(batch: std::sync::Arc<EventBatch>) -> Shared {
        Shared { batch, prev_is_final: false, plain: Vec::new(), with_prev: Vec::new() }
    }

    /// A batch read from history, with the previous values that exist.
    pub(crate) fn read(batch: std::sync::Arc<EventBatch>) -> Shared {
        Shared { prev_is_final: true, ..Shared::live(batch) }
    }

    /// The encoded event number `n`.
    pub(crate) fn event(
        &mut self,
        n: usize,
        with_prev: bool,
        previous: &mut Previous<'_>,
    ) -> Result<Bytes, String> {
        let slots = if with_prev { &mut self.with_prev } else { &mut self.plain };
        if slots.is_empty() {
            slots.resize(self.batch.events.len(), None);
        }
        if let Some(bytes) = &slots[n] {
            return Ok(bytes.clone());
        }
        let event = &self.batch.events[n];
        let prev = if !with_prev || event.is_create() {
            None
        } else if event.prev.is_some() || self.prev_is_final {
            event.prev.clone()
        } else {
            previous(&event.key, self.batch.revision - 1)?
        };
        let bytes = event.encode(prev.as_ref());
        slots[n] = Some(bytes.clone());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
