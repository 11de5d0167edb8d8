//! Raft's messages and entries as bytes of raftpb.
//!
//! Written as etcd 3.5 writes them: every number is there, a zero too, and so is a
//! snapshot, an empty one too; empty bytes are left out, as Go leaves out nil. Read
//! from any of 3.5 to 3.7: what is missing is zero, an empty snapshot is none.

use bytes::{BufMut as _, Bytes, BytesMut};
use mainstay_raft::{ConfState, Entry, EntryKind, Message, MessageKind, Snapshot};
use mainstay_types::limits::PEER_MESSAGE_ENTRIES_MAX;
use mainstay_types::{Index, MemberId, Term};

use super::Malformed;
use super::wire::{Value, bytes_len, field, number_len, put_head, put_number, varint, varint_len};

/// Bytes that [`encode_entry`] appends.
pub fn entry_len(entry: &Entry) -> usize {
    let numbers = 2 + number_len(entry.term.0) + number_len(entry.index.0);
    numbers + optional_len(&entry.data)
}

/// Appends an entry.
pub fn encode_entry(entry: &Entry, out: &mut BytesMut) {
    let kind = match entry.kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    };
    put_number(out, 1, kind);
    put_number(out, 2, entry.term.0);
    put_number(out, 3, entry.index.0);
    put_optional(out, 4, &entry.data);
}

/// Reads an entry. Its data is a slice of `data`.
///
/// # Errors
/// Not an entry, or of a kind that is not known.
pub fn decode_entry(mut data: Bytes) -> Result<Entry, Malformed> {
    let mut entry = Entry::default();
    while let Some(field) = field(&mut data)? {
        match field {
            (1, Value::Number(0)) => entry.kind = EntryKind::Normal,
            (1, Value::Number(1)) => entry.kind = EntryKind::ConfChange,
            (1, Value::Number(2)) => entry.kind = EntryKind::ConfChangeV2,
            (1, Value::Number(_)) => return Err(Malformed("an entry is of an unknown kind")),
            (2, Value::Number(term)) => entry.term = Term(term),
            (3, Value::Number(index)) => entry.index = Index(index),
            (4, Value::Bytes(bytes)) => entry.data = bytes,
            (1..=4, _) => return Err(WIRE_TYPE),
            _ => {}
        }
    }
    Ok(entry)
}

/// Bytes that [`encode_message`] appends.
pub fn message_len(message: &Message) -> usize {
    let numbers = [
        message.kind as u64,
        message.to.0,
        message.from.0,
        message.term.0,
        message.log_term.0,
        message.index.0,
        message.commit.0,
        message.reject_hint.0,
    ];
    let numbers: usize = numbers.into_iter().map(number_len).sum();
    let entries: usize = message.entries.iter().map(|entry| bytes_len(entry_len(entry))).sum();
    let snapshot = message.snapshot.as_deref().map_or(EMPTY_SNAPSHOT.len(), snapshot_len);
    // The flag of a rejection takes two.
    numbers + 2 + entries + bytes_len(snapshot) + optional_len(&message.context)
}

/// Appends a message.
pub fn encode_message(message: &Message, out: &mut BytesMut) {
    put_number(out, 1, message.kind as u64);
    put_number(out, 2, message.to.0);
    put_number(out, 3, message.from.0);
    put_number(out, 4, message.term.0);
    put_number(out, 5, message.log_term.0);
    put_number(out, 6, message.index.0);
    for entry in &message.entries {
        put_head(out, 7, entry_len(entry));
        encode_entry(entry, out);
    }
    put_number(out, 8, message.commit.0);
    match message.snapshot.as_deref() {
        Some(snapshot) => {
            put_head(out, 9, snapshot_len(snapshot));
            encode_snapshot(snapshot, out);
        }
        None => {
            put_head(out, 9, EMPTY_SNAPSHOT.len());
            out.put_slice(&EMPTY_SNAPSHOT);
        }
    }
    put_number(out, 10, u64::from(message.reject));
    put_number(out, 11, message.reject_hint.0);
    put_optional(out, 12, &message.context);
}

/// Reads a message. Entries' data, the snapshot's and the context are slices of `data`.
///
/// # Errors
/// Not a message, of a kind that is not known, with absurd numbers or absurdly many entries.
pub fn decode_message(mut data: Bytes) -> Result<Message, Malformed> {
    let mut message = Message::default();
    while let Some(field) = field(&mut data)? {
        match field {
            (1, Value::Number(number)) => {
                let kind = i32::try_from(number).ok().and_then(MessageKind::from_number);
                message.kind = kind.ok_or(Malformed("a message is of an unknown kind"))?;
            }
            (2, Value::Number(to)) => message.to = MemberId(to),
            (3, Value::Number(from)) => message.from = MemberId(from),
            (4, Value::Number(term)) => message.term = Term(term),
            (5, Value::Number(term)) => message.log_term = Term(term),
            (6, Value::Number(index)) => message.index = Index(index),
            (7, Value::Bytes(bytes)) => {
                if message.entries.len() == PEER_MESSAGE_ENTRIES_MAX {
                    return Err(Malformed("a message has too many entries"));
                }
                message.entries.push(decode_entry(bytes)?);
            }
            (8, Value::Number(commit)) => message.commit = Index(commit),
            (9, Value::Bytes(bytes)) => {
                let snapshot = message.snapshot.get_or_insert_default();
                decode_snapshot(bytes, snapshot)?;
            }
            (10, Value::Number(reject)) => message.reject = reject != 0,
            (11, Value::Number(hint)) => message.reject_hint = Index(hint),
            (12, Value::Bytes(context)) => message.context = context,
            (1..=12, _) => return Err(WIRE_TYPE),
            // 13 and 14 pass between the threads of a Go member and mean nothing here.
            _ => {}
        }
    }
    message.snapshot = message.snapshot.filter(|snapshot| snapshot.index.0 > 0);
    check_numbers(&message)?;
    Ok(message)
}

/// Refuses terms and positions that no cluster ever comes to. With one of them a member
/// that believes it could never be elected, or count on, again.
pub(crate) fn check_numbers(message: &Message) -> Result<(), Malformed> {
    let Message { term, log_term, index, commit, reject_hint, .. } = message;
    let own = [term.0, log_term.0, index.0, commit.0, reject_hint.0];
    let snapshot = message.snapshot.iter().flat_map(|of| [of.index.0, of.term.0]);
    let entries = message.entries.iter().flat_map(|of| [of.index.0, of.term.0]);
    let absurd = own.into_iter().chain(snapshot).chain(entries).any(|n| n > NUMBER_MAX);
    if absurd { Err(Malformed("a term or an index is out of range")) } else { Ok(()) }
}

/// As far as our own raft goes.
const NUMBER_MAX: u64 = u64::MAX >> 1;

const WIRE_TYPE: Malformed = Malformed("a field has the wrong wire type");

/// What Go 3.5 writes for no snapshot.
const EMPTY_SNAPSHOT: [u8; 10] = [0x12, 8, 0x0a, 2, 0x28, 0, 0x10, 0, 0x18, 0];

fn snapshot_len(snapshot: &Snapshot) -> usize {
    optional_len(&snapshot.data) + bytes_len(metadata_len(snapshot))
}

fn metadata_len(snapshot: &Snapshot) -> usize {
    let conf_state = bytes_len(conf_state_len(&snapshot.conf_state));
    conf_state + number_len(snapshot.index.0) + number_len(snapshot.term.0)
}

fn encode_snapshot(snapshot: &Snapshot, out: &mut BytesMut) {
    put_optional(out, 1, &snapshot.data);
    put_head(out, 2, metadata_len(snapshot));
    put_head(out, 1, conf_state_len(&snapshot.conf_state));
    encode_conf_state(&snapshot.conf_state, out);
    put_number(out, 2, snapshot.index.0);
    put_number(out, 3, snapshot.term.0);
}

fn decode_snapshot(mut data: Bytes, snapshot: &mut Snapshot) -> Result<(), Malformed> {
    while let Some(field) = field(&mut data)? {
        match field {
            (1, Value::Bytes(bytes)) => snapshot.data = bytes,
            (2, Value::Bytes(bytes)) => decode_metadata(bytes, snapshot)?,
            (1..=2, _) => return Err(WIRE_TYPE),
            _ => {}
        }
    }
    Ok(())
}

fn decode_metadata(mut data: Bytes, snapshot: &mut Snapshot) -> Result<(), Malformed> {
    while let Some(field) = field(&mut data)? {
        match field {
            (1, Value::Bytes(bytes)) => decode_conf_state(bytes, &mut snapshot.conf_state)?,
            (2, Value::Number(index)) => snapshot.index = Index(index),
            (3, Value::Number(term)) => snapshot.term = Term(term),
            (1..=3, _) => return Err(WIRE_TYPE),
            _ => {}
        }
    }
    Ok(())
}

fn members(state: &ConfState) -> [&Vec<MemberId>; 4] {
    [&state.voters, &state.learners, &state.voters_outgoing, &state.learners_next]
}

fn conf_state_len(state: &ConfState) -> usize {
    let ids = members(state).into_iter().flatten();
    ids.map(|id| number_len(id.0)).sum::<usize>() + 2
}

fn encode_conf_state(state: &ConfState, out: &mut BytesMut) {
    for (number, ids) in (1..).zip(members(state)) {
        ids.iter().for_each(|id| put_number(out, number, id.0));
    }
    put_number(out, 5, u64::from(state.auto_leave));
}

fn decode_conf_state(mut data: Bytes, state: &mut ConfState) -> Result<(), Malformed> {
    while let Some((number, value)) = field(&mut data)? {
        let ids = match number {
            1 => &mut state.voters,
            2 => &mut state.learners,
            3 => &mut state.voters_outgoing,
            4 => &mut state.learners_next,
            5 => {
                let Value::Number(flag) = value else { return Err(WIRE_TYPE) };
                state.auto_leave = flag != 0;
                continue;
            }
            _ => continue,
        };
        match value {
            Value::Number(id) => push_id(ids, id)?,
            // Packed: not what Go writes, but what its readers take.
            Value::Bytes(mut packed) => {
                while !packed.is_empty() {
                    push_id(ids, varint(&mut packed)?)?;
                }
            }
            Value::Other => return Err(WIRE_TYPE),
        }
    }
    Ok(())
}

fn push_id(ids: &mut Vec<MemberId>, id: u64) -> Result<(), Malformed> {
    if ids.len() == CONFIGURATION_IDS_MAX {
        return Err(Malformed("a configuration has too many members"));
    }
    ids.push(MemberId(id));
    Ok(())
}

/// Members of one role in a configuration that is read; no cluster comes near it.
const CONFIGURATION_IDS_MAX: usize = 4_096;

fn optional_len(bytes: &Bytes) -> usize {
    if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() }
}

fn put_optional(out: &mut BytesMut, field: u8, bytes: &Bytes) {
    if !bytes.is_empty() {
        put_head(out, field, bytes.len());
        out.put_slice(bytes);
    }
}
