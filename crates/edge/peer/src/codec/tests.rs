//! Golden bytes of Go members, round trips, and rubbish.

mod golden;
mod random;
mod streams;

use bytes::{Bytes, BytesMut};
use mainstay_raft::{Entry, Message, MessageKind};
use mainstay_types::{Index, MemberId, Term};

use super::{AppDecoder, AppEncoder, Arrival, Intake, Malformed, PlainDecoder};

/// An append as a leader of term `term` sends it after `index`.
fn append(term: u64, log_term: u64, index: u64, entries: Vec<Entry>, commit: u64) -> Message {
    Message {
        kind: MessageKind::App,
        from: MemberId(1),
        to: MemberId(2),
        term: Term(term),
        log_term: Term(log_term),
        index: Index(index),
        entries,
        commit: Index(commit),
        ..Message::default()
    }
}

fn entry(term: u64, index: u64, data: &'static str) -> Entry {
    Entry { term: Term(term), index: Index(index), data: data.into(), ..Entry::default() }
}

/// All that a stream of appends says, fed in pieces of `step` bytes.
fn read_apps(bytes: &[u8], step: usize) -> Result<Vec<Arrival>, Malformed> {
    let mut decoder = AppDecoder::new(MemberId(2), MemberId(1));
    read(bytes, step, |intake| decoder.decode(intake))
}

/// All that a stream of messages says, fed in pieces of `step` bytes.
fn read_plain(bytes: &[u8], step: usize) -> Result<Vec<Arrival>, Malformed> {
    let mut decoder = PlainDecoder::new(1 << 20);
    read(bytes, step, |intake| decoder.decode(intake))
}

fn read(
    bytes: &[u8],
    step: usize,
    mut decode: impl FnMut(&mut Intake) -> Result<Option<Arrival>, Malformed>,
) -> Result<Vec<Arrival>, Malformed> {
    let (mut intake, mut arrivals) = (Intake::default(), Vec::new());
    for chunk in bytes.chunks(step.max(1)) {
        intake.push(Bytes::copy_from_slice(chunk));
        while let Some(arrival) = decode(&mut intake)? {
            arrivals.push(arrival);
        }
    }
    Ok(arrivals)
}

fn write_apps(messages: &[Message]) -> BytesMut {
    let (mut encoder, mut out) = (AppEncoder::default(), BytesMut::new());
    messages.iter().for_each(|message| encoder.encode(message, &mut out));
    out
}
