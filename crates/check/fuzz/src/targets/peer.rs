//! The bytes of a peer's streams and posts, in pieces of any size.
//!
//! The first byte says what they are: 0 a message, 1 a stream of appends, 2 a stream
//! of messages. The second is the size of the pieces. What is understood may not
//! depend on the pieces, and what was understood is written the same way again.

use std::hash::{DefaultHasher, Hasher as _};

use bytes::{Bytes, BytesMut};
use mainstay_peer::codec::{
    AppDecoder, AppEncoder, Arrival, Intake, Malformed, PlainDecoder, decode_message,
    encode_message, encode_plain, encode_plain_heartbeat, message_len,
};
use mainstay_raft::{ConfState, Entry, Message, MessageKind, Snapshot};
use mainstay_types::{Index, MemberId, Term};

use crate::Target;

pub(crate) const TARGET: Target = Target { name: "peer", seeds, run };

const MESSAGE: u8 = 0;
const APPENDS: u8 = 1;
const MESSAGES: u8 = 2;
/// A bound that mutations can reach.
const MESSAGE_BYTES_MAX: usize = 1 << 12;

fn messages() -> Vec<Message> {
    let base = Message {
        from: MemberId(2),
        to: MemberId(1),
        term: Term(2),
        log_term: Term(2),
        index: Index(3),
        commit: Index(3),
        ..Message::default()
    };
    let make = |kind: MessageKind| {
        let mut message = Message { kind, ..base.clone() };
        if kind == MessageKind::Snap {
            let conf_state =
                ConfState { voters: vec![MemberId(1), MemberId(2)], ..ConfState::default() };
            let (index, term, data) = (Index(9), Term(2), Bytes::from_static(b"{}"));
            message.snapshot = Some(Box::new(Snapshot { data, index, term, conf_state }));
        }
        if kind == MessageKind::Heartbeat {
            message.context = Bytes::from_static(b"a read");
        }
        message
    };
    MessageKind::ALL.map(make).to_vec()
}

/// Three appends in sequence and one that is not.
fn appends() -> Vec<Message> {
    let append = |index: u64, count: u64| {
        let entry = |index| Entry {
            term: Term(2),
            index: Index(index),
            data: Bytes::from_static(b"data"),
            ..Entry::default()
        };
        Message {
            kind: MessageKind::App,
            from: MemberId(2),
            to: MemberId(1),
            term: Term(2),
            log_term: Term(2),
            index: Index(index),
            entries: (index + 1..=index + count).map(entry).collect(),
            commit: Index(index),
            ..Message::default()
        }
    };
    vec![append(3, 1), append(4, 3), append(7, 0), append(2, 2)]
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for message in messages().iter().chain(&appends()) {
        let mut out = BytesMut::from(&[MESSAGE, 0][..]);
        encode_message(message, &mut out);
        seeds.push(out.to_vec());
    }
    for step in [0, 1, 7] {
        let (mut encoder, mut out) = (AppEncoder::default(), BytesMut::from(&[APPENDS, step][..]));
        for message in appends() {
            encoder.encode(&message, &mut out);
            encoder.heartbeat(&mut out);
        }
        seeds.push(out.to_vec());
        let mut out = BytesMut::from(&[MESSAGES, step][..]);
        encode_plain_heartbeat(&mut out);
        messages().iter().for_each(|message| encode_plain(message, &mut out));
        seeds.push(out.to_vec());
    }
    seeds
}

fn run(bytes: &[u8]) -> u64 {
    let [kind, step, rest @ ..] = bytes else { return 0 };
    match *kind {
        APPENDS => {
            let read = |step| {
                let mut decoder = AppDecoder::new(MemberId(1), MemberId(2));
                pieces(rest, step, |intake| decoder.decode(intake))
            };
            stream(read, *step, rest.len())
        }
        MESSAGES => {
            let read = |step| {
                let mut decoder = PlainDecoder::new(MESSAGE_BYTES_MAX);
                pieces(rest, step, |intake| decoder.decode(intake))
            };
            stream(read, *step, rest.len())
        }
        _ => match decode_message(Bytes::copy_from_slice(rest)) {
            Ok(message) => {
                again(&message);
                hashed(&(message.kind as u8, message.entries.len().min(3), message.reject))
            }
            Err(error) => hashed(&error.to_string()),
        },
    }
}

type Read = (Vec<Arrival>, Option<Malformed>);

/// Reads a stream whole and in pieces: both understand the same.
fn stream(read: impl Fn(usize) -> Read, step: u8, length: usize) -> u64 {
    let (arrivals, error) = read(length);
    let in_pieces = read(usize::from(step));
    assert_eq!(in_pieces, (arrivals.clone(), error), "in pieces of {step}");
    for arrival in &arrivals {
        if let Arrival::Message(message) = arrival {
            again(message);
        }
    }
    let kinds = arrivals.iter().map(|arrival| match arrival {
        Arrival::Heartbeat => u8::MAX,
        Arrival::Message(message) => message.kind as u8,
    });
    let kinds: Vec<u8> = kinds.take(3).collect();
    hashed(&(kinds, error.map(|error| error.to_string())))
}

fn pieces(
    bytes: &[u8],
    step: usize,
    mut decode: impl FnMut(&mut Intake) -> Result<Option<Arrival>, Malformed>,
) -> Read {
    let (mut intake, mut arrivals) = (Intake::default(), Vec::new());
    for piece in bytes.chunks(step.max(1)) {
        intake.push(Bytes::copy_from_slice(piece));
        loop {
            match decode(&mut intake) {
                Ok(None) => break,
                Ok(Some(arrival)) => arrivals.push(arrival),
                Err(error) => return (arrivals, Some(error)),
            }
        }
    }
    (arrivals, None)
}

/// Writes a message and reads it: it is the same.
fn again(message: &Message) {
    let mut out = BytesMut::new();
    encode_message(message, &mut out);
    assert_eq!(out.len(), message_len(message));
    assert_eq!(decode_message(out.freeze()).as_ref(), Ok(message));
}

fn hashed(outcome: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    outcome.hash(&mut hasher);
    hasher.finish()
}
