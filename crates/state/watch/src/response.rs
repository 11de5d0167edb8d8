//! Responses to watchers, and their `etcdserverpb.WatchResponse` bytes.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

/// Encoded events, shared between the watchers that get the same ones. Each is a
/// whole `events` field: tag, length, `mvccpb.Event`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Events {
    /// The common case: a single event, without a list around it.
    One(Bytes),
    /// Several, in order.
    Many(Arc<[Bytes]>),
}

impl Events {
    /// The encoded events in order.
    pub fn as_slice(&self) -> &[Bytes] {
        match self {
            Events::One(event) => std::slice::from_ref(event),
            Events::Many(events) => events,
        }
    }

    /// `None` when there is nothing to send.
    pub(crate) fn from_list(mut list: Vec<Bytes>) -> Option<Events> {
        match list.len() {
            0 => None,
            1 => list.pop().map(Events::One),
            _ => Some(Events::Many(list.into())),
        }
    }

    /// Encoded size.
    pub fn bytes(&self) -> usize {
        self.as_slice().iter().map(Bytes::len).sum()
    }
}

/// What a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The watcher exists now.
    Created,
    /// The watcher was not created, for this reason; its id is -1.
    Refused(Cow<'static, str>),
    /// The watcher was cancelled, as the client asked.
    Canceled,
    /// The watcher's next revision is gone; the argument is the compact revision.
    Compacted(i64),
    /// The watcher was cancelled because its history could not be read.
    Failed(Cow<'static, str>),
    /// Everything up to the response's revision was sent.
    Progress,
    /// Events.
    Events(Events),
}

/// One response, for one watcher (or, as watch id -1, for the whole stream).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The watcher's id on its stream.
    pub watch_id: i64,
    /// `header.revision`.
    pub revision: i64,
    /// Whether the client accepts the events in several messages.
    pub fragment: bool,
    /// What it says.
    pub body: Body,
}

/// The parts of a response header that the hub does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub cluster_id: u64,
    /// The answering member.
    pub member_id: u64,
    /// Its raft term when the response leaves.
    pub raft_term: u64,
}

/// The watch id of a response that belongs to no single watcher (etcd, `InvalidWatchID`).
pub(crate) const NO_WATCHER: i64 = -1;

impl Response {
    /// A watcher that was not created; also for reasons that the hub never sees
    /// (permissions, a negative start revision). `revision` is the store's current one.
    pub fn refused(revision: i64, reason: impl Into<Cow<'static, str>>) -> Response {
        let body = Body::Refused(reason.into());
        Response { watch_id: NO_WATCHER, revision, fragment: false, body }
    }

    /// Encoded events, if it carries any.
    pub fn events(&self) -> &[Bytes] {
        match &self.body {
            Body::Events(events) => events.as_slice(),
            _ => &[],
        }
    }

    /// What it costs an outbox, in bytes.
    pub fn cost(&self) -> usize {
        size_of::<Response>() + self.events().iter().map(Bytes::len).sum::<usize>()
    }

    /// Hands each message that the response becomes to `each`. There are several
    /// only when the client asked for fragments, the whole would be `fragment_bytes`
    /// or more, and it has two events or more (semantics 6.7).
    pub fn messages(
        &self,
        header: Header,
        fragment_bytes: usize,
        mut each: impl FnMut(Message<'_>),
    ) {
        let events = self.events();
        let whole = Message { response: self, header, more: false, events };
        if !self.fragment || events.len() < 2 || whole.encoded_len() < fragment_bytes {
            return each(whole);
        }
        let mut rest = events;
        while !rest.is_empty() {
            let head = Message { response: self, header, more: true, events: &[] }.encoded_len();
            let mut size = head + rest[0].len();
            let mut n = 1;
            while n < rest.len() && size + rest[n].len() < fragment_bytes {
                size += rest[n].len();
                n += 1;
            }
            let (events, after) = rest.split_at(n);
            rest = after;
            each(Message { response: self, header, more: !rest.is_empty(), events });
        }
    }
}

/// One `WatchResponse` as it goes on the wire: a small head and shared event bytes.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    response: &'a Response,
    header: Header,
    more: bool,
    events: &'a [Bytes],
}

impl<'a> Message<'a> {
    /// Size of the encoded message.
    pub fn encoded_len(&self) -> usize {
        self.head_len() + self.events.iter().map(Bytes::len).sum::<usize>()
    }

    /// Appends the whole message.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.encode_head(out);
        for event in self.events {
            out.put_slice(event);
        }
    }

    /// Appends everything but the events, whose bytes ([`Message::events`]) follow
    /// it on the wire: a sender may pass them on without a copy.
    pub fn encode_head(&self, out: &mut impl BufMut) {
        out.put_u8(0x0a);
        put_varint(out, self.header_len() as u64);
        for (tag, value) in self.header_fields() {
            put_number(out, tag, value);
        }
        let fields = self.fields();
        put_number(out, 0x10, self.response.watch_id as u64);
        put_number(out, 0x18, u64::from(fields.created));
        put_number(out, 0x20, u64::from(fields.canceled));
        put_number(out, 0x28, fields.compact_revision as u64);
        if !fields.reason.is_empty() {
            out.put_u8(0x32);
            put_varint(out, fields.reason.len() as u64);
            out.put_slice(fields.reason.as_bytes());
        }
        put_number(out, 0x38, u64::from(self.more));
    }

    /// The encoded events of this message.
    pub fn events(&self) -> &'a [Bytes] {
        self.events
    }

    fn head_len(&self) -> usize {
        let header = self.header_len();
        let fields = self.fields();
        let reason = fields.reason.len();
        1 + varint_len(header as u64)
            + header
            + number_len(self.response.watch_id as u64)
            + number_len(u64::from(fields.created))
            + number_len(u64::from(fields.canceled))
            + number_len(fields.compact_revision as u64)
            + if reason == 0 { 0 } else { 1 + varint_len(reason as u64) + reason }
            + number_len(u64::from(self.more))
    }

    fn header_len(&self) -> usize {
        self.header_fields().iter().map(|&(_, value)| number_len(value)).sum()
    }

    fn header_fields(&self) -> [(u8, u64); 4] {
        let Header { cluster_id, member_id, raft_term } = self.header;
        [
            (0x08, cluster_id),
            (0x10, member_id),
            (0x18, self.response.revision as u64),
            (0x20, raft_term),
        ]
    }

    fn fields(&self) -> Fields<'a> {
        let none = Fields { created: false, canceled: false, compact_revision: 0, reason: "" };
        match &self.response.body {
            Body::Created => Fields { created: true, ..none },
            Body::Refused(reason) => Fields { created: true, canceled: true, reason, ..none },
            Body::Canceled => Fields { canceled: true, ..none },
            Body::Compacted(revision) => {
                Fields { canceled: true, compact_revision: *revision, ..none }
            }
            Body::Failed(reason) => Fields { canceled: true, reason, ..none },
            Body::Progress | Body::Events(_) => none,
        }
    }
}

struct Fields<'a> {
    created: bool,
    canceled: bool,
    compact_revision: i64,
    reason: &'a str,
}

/// A number field; zero is left out (proto3).
fn put_number(out: &mut impl BufMut, tag: u8, value: u64) {
    if value != 0 {
        out.put_u8(tag);
        put_varint(out, value);
    }
}

fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests;
