//! The stream for appends ("msgappv2"): what the receiver knows already is left out.
//!
//! | first byte | what follows |
//! | --- | --- |
//! | 0 | nothing: the link is alive |
//! | 1 | count of entries, per entry its length and itself, the commit index |
//! | 2 | a length and a whole message |
//!
//! Every number has eight bytes, the highest first. Both sides remember the term
//! and the index at which the last append ended; an append that continues there, in
//! the same term, goes as 1.

use bytes::{BufMut as _, BytesMut};
use mainstay_raft::{Entry, Message, MessageKind};
use mainstay_types::limits::{PEER_MESSAGE_BYTES_MAX, PEER_MESSAGE_ENTRIES_MAX};
use mainstay_types::{Index, MemberId, Term};

use super::message::{
    check_numbers, decode_entry, decode_message, encode_entry, encode_message, entry_len,
    message_len,
};
use super::{Arrival, Intake, Malformed};

const HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const MESSAGE: u8 = 2;

/// Where the next append of a stream is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    term: Term,
    index: Index,
}

impl Position {
    /// The position after a whole message.
    fn after(message: &Message) -> Position {
        let index = message.entries.last().map_or(message.index, |entry| entry.index);
        Position { term: message.term, index }
    }
}

/// Writes such a stream.
#[derive(Debug, Default)]
pub struct AppEncoder {
    position: Position,
}

impl AppEncoder {
    /// Appends the heartbeat of the link.
    pub fn heartbeat(&mut self, out: &mut BytesMut) {
        out.put_u8(HEARTBEAT);
    }

    /// Appends an append. Messages of other kinds have no place on this stream.
    pub fn encode(&mut self, message: &Message, out: &mut BytesMut) {
        debug_assert_eq!(message.kind, MessageKind::App);
        let here = Position { term: message.log_term, index: message.index };
        if here == self.position && message.log_term == message.term {
            out.put_u8(ENTRIES);
            out.put_u64(message.entries.len() as u64);
            for entry in &message.entries {
                let length = entry_len(entry);
                out.reserve(8 + length);
                out.put_u64(length as u64);
                encode_entry(entry, out);
            }
            out.put_u64(message.commit.0);
            self.position.index.0 += message.entries.len() as u64;
        } else {
            let length = message_len(message);
            out.reserve(9 + length);
            out.put_u8(MESSAGE);
            out.put_u64(length as u64);
            encode_message(message, out);
            self.position = Position::after(message);
        }
    }
}

/// Reads such a stream.
#[derive(Debug)]
pub struct AppDecoder {
    local: MemberId,
    remote: MemberId,
    position: Position,
    step: Step,
}

/// What is expected next.
#[derive(Debug)]
enum Step {
    Type,
    Count,
    Entry(Partial),
    Commit(Message),
    Length,
    Message(usize),
}

/// An append whose entries arrive.
#[derive(Debug)]
struct Partial {
    message: Message,
    missing: u64,
    /// Bytes of entries so far.
    bytes: usize,
    /// The length of the entry that arrives now.
    length: Option<usize>,
}

impl AppDecoder {
    /// A reader of what `remote` sends to `local`.
    pub fn new(local: MemberId, remote: MemberId) -> AppDecoder {
        AppDecoder { local, remote, position: Position::default(), step: Step::Type }
    }

    /// Takes the next message, if it has arrived whole.
    ///
    /// # Errors
    /// The stream cannot be read on.
    pub fn decode(&mut self, intake: &mut Intake) -> Result<Option<Arrival>, Malformed> {
        loop {
            self.step = match std::mem::replace(&mut self.step, Step::Type) {
                Step::Type => match intake.byte() {
                    None => return Ok(None),
                    Some(HEARTBEAT) => return Ok(Some(Arrival::Heartbeat)),
                    Some(ENTRIES) => Step::Count,
                    Some(MESSAGE) => Step::Length,
                    Some(_) => return Err(Malformed("an append is of an unknown type")),
                },
                Step::Count => match intake.number() {
                    None => return self.wait(Step::Count),
                    Some(count) => self.begin(count)?,
                },
                Step::Entry(mut partial) => match partial.entry(intake)? {
                    None => return self.wait(Step::Entry(partial)),
                    Some(entry) => self.add(partial, entry)?,
                },
                Step::Commit(mut message) => match intake.number() {
                    None => return self.wait(Step::Commit(message)),
                    Some(commit) => {
                        message.commit = Index(commit);
                        check_numbers(&message)?;
                        return Ok(Some(Arrival::Message(message)));
                    }
                },
                Step::Length => match intake.number() {
                    None => return self.wait(Step::Length),
                    Some(length) => Step::Message(bounded(length)?),
                },
                Step::Message(length) => match intake.take(length) {
                    None => return self.wait(Step::Message(length)),
                    Some(bytes) => {
                        let message = decode_message(bytes)?;
                        if message.kind != MessageKind::App {
                            return Err(Malformed("a stream of appends carries another message"));
                        }
                        self.position = Position::after(&message);
                        return Ok(Some(Arrival::Message(message)));
                    }
                },
            };
        }
    }

    /// Bytes of the entries of a message that has not arrived whole.
    pub fn waiting(&self) -> usize {
        match &self.step {
            Step::Entry(partial) => {
                partial.bytes + partial.message.entries.len() * size_of::<Entry>()
            }
            _ => 0,
        }
    }

    /// More must arrive first.
    fn wait(&mut self, step: Step) -> Result<Option<Arrival>, Malformed> {
        self.step = step;
        Ok(None)
    }

    fn begin(&self, count: u64) -> Result<Step, Malformed> {
        if count > PEER_MESSAGE_ENTRIES_MAX as u64 {
            return Err(Malformed("an append has too many entries"));
        }
        let Position { term, index } = self.position;
        let message = Message {
            kind: MessageKind::App,
            from: self.remote,
            to: self.local,
            term,
            log_term: term,
            index,
            ..Message::default()
        };
        Ok(match count {
            0 => Step::Commit(message),
            missing => Step::Entry(Partial { message, missing, bytes: 0, length: None }),
        })
    }

    fn add(&mut self, mut partial: Partial, entry: Entry) -> Result<Step, Malformed> {
        let next = self.position.index.0.checked_add(1);
        self.position.index.0 = next.ok_or(Malformed("an append goes beyond the last index"))?;
        partial.message.entries.push(entry);
        partial.missing -= 1;
        Ok(match partial.missing {
            0 => Step::Commit(partial.message),
            _ => Step::Entry(partial),
        })
    }
}

impl Partial {
    fn entry(&mut self, intake: &mut Intake) -> Result<Option<Entry>, Malformed> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(length) = intake.number() else { return Ok(None) };
                let length = bounded(length)?;
                self.bytes += length;
                bounded(self.bytes as u64)?;
                length
            }
        };
        self.length = Some(length);
        let Some(bytes) = intake.take(length) else { return Ok(None) };
        self.length = None;
        decode_entry(bytes).map(Some)
    }
}

fn bounded(length: u64) -> Result<usize, Malformed> {
    let length = usize::try_from(length).ok().filter(|length| *length <= PEER_MESSAGE_BYTES_MAX);
    length.ok_or(Malformed("an append is too long"))
}
