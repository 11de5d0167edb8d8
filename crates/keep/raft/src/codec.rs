//! Configuration changes as bytes.
//!
//! The one place where raft looks into an entry: a leader must know whether a
//! forwarded change enters or leaves a joint configuration. The two messages are
//! small, so they are read and written here (raftpb.ConfChange and ConfChangeV2)
//! and the rest of the core stays free of protobuf.

use bytes::Bytes;
use mainstay_types::MemberId;

use crate::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfChangeV2, Entry,
    EntryKind,
};

/// The bytes are not a configuration change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no configuration change: {what} at offset {at}")]
pub struct DecodeError {
    what: &'static str,
    at: usize,
}

impl ConfChange {
    /// The bytes for an entry of kind [`EntryKind::ConfChange`]. All scalars are
    /// written, as etcd 3.5 does.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32 + self.context.len());
        put_number(&mut out, 1, self.id);
        put_number(&mut out, 2, kind_number(self.kind));
        put_number(&mut out, 3, self.node.0);
        if !self.context.is_empty() {
            put_bytes(&mut out, 4, &self.context);
        }
        Bytes::from(out)
    }

    /// Reads the data of an entry of kind [`EntryKind::ConfChange`].
    ///
    /// # Errors
    /// When the bytes are not such a message.
    pub fn decode(data: &Bytes) -> Result<ConfChange, DecodeError> {
        let mut change = ConfChange::default();
        let mut reader = Reader { data, at: 0 };
        while let Some(field) = reader.field()? {
            match field {
                (1, Value::Number(id)) => change.id = id,
                (2, Value::Number(kind)) => change.kind = reader.kind(kind)?,
                (3, Value::Number(node)) => change.node = MemberId(node),
                (4, Value::Bytes(context)) => change.context = context,
                _ => {}
            }
        }
        Ok(change)
    }
}

impl ConfChangeV2 {
    /// The bytes for an entry of kind [`EntryKind::ConfChangeV2`].
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        if self.transition != ConfChangeTransition::Auto {
            put_number(&mut out, 1, transition_number(self.transition));
        }
        for change in &self.changes {
            let mut inner = Vec::with_capacity(16);
            put_number(&mut inner, 1, kind_number(change.kind));
            put_number(&mut inner, 2, change.node.0);
            put_bytes(&mut out, 2, &inner);
        }
        if !self.context.is_empty() {
            put_bytes(&mut out, 3, &self.context);
        }
        Bytes::from(out)
    }

    /// Reads the data of an entry of kind [`EntryKind::ConfChangeV2`].
    ///
    /// # Errors
    /// When the bytes are not such a message.
    pub fn decode(data: &Bytes) -> Result<ConfChangeV2, DecodeError> {
        let mut change = ConfChangeV2::default();
        let mut reader = Reader { data, at: 0 };
        while let Some(field) = reader.field()? {
            match field {
                (1, Value::Number(number)) => {
                    change.transition = transition_from(number)
                        .ok_or_else(|| reader.wrong("an unknown transition"))?;
                }
                (2, Value::Bytes(inner)) => change.changes.push(decode_single(&inner)?),
                (3, Value::Bytes(context)) => change.context = context,
                _ => {}
            }
        }
        Ok(change)
    }

    /// The change that `entry` carries, whichever of the two forms it has; `None`
    /// for a normal entry.
    ///
    /// # Errors
    /// When its data is not what its kind says.
    pub fn of_entry(entry: &Entry) -> Result<Option<ConfChangeV2>, DecodeError> {
        match entry.kind {
            EntryKind::Normal => Ok(None),
            EntryKind::ConfChange => {
                ConfChange::decode(&entry.data).map(|change| Some(change.into()))
            }
            EntryKind::ConfChangeV2 => ConfChangeV2::decode(&entry.data).map(Some),
        }
    }
}

fn decode_single(data: &Bytes) -> Result<ConfChangeSingle, DecodeError> {
    let mut change = ConfChangeSingle::default();
    let mut reader = Reader { data, at: 0 };
    while let Some(field) = reader.field()? {
        match field {
            (1, Value::Number(kind)) => change.kind = reader.kind(kind)?,
            (2, Value::Number(node)) => change.node = MemberId(node),
            _ => {}
        }
    }
    Ok(change)
}

fn kind_number(kind: ConfChangeKind) -> u64 {
    match kind {
        ConfChangeKind::AddNode => 0,
        ConfChangeKind::RemoveNode => 1,
        ConfChangeKind::UpdateNode => 2,
        ConfChangeKind::AddLearnerNode => 3,
    }
}

fn transition_number(transition: ConfChangeTransition) -> u64 {
    match transition {
        ConfChangeTransition::Auto => 0,
        ConfChangeTransition::JointImplicit => 1,
        ConfChangeTransition::JointExplicit => 2,
    }
}

fn transition_from(number: u64) -> Option<ConfChangeTransition> {
    match number {
        0 => Some(ConfChangeTransition::Auto),
        1 => Some(ConfChangeTransition::JointImplicit),
        2 => Some(ConfChangeTransition::JointExplicit),
        _ => None,
    }
}

fn put_number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    put_varint(out, value);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

enum Value {
    Number(u64),
    Bytes(Bytes),
    /// A fixed-width field: no message here has one, so its value is skipped.
    Skipped,
}

struct Reader<'a> {
    data: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn field(&mut self) -> Result<Option<(u64, Value)>, DecodeError> {
        if self.at == self.data.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Skipped)?,
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Skipped)?,
            _ => return Err(self.wrong("an unknown wire type")),
        };
        Ok(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.data.get(self.at).ok_or_else(|| self.wrong("a cut number"))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number of more than 64 bits"))
    }

    fn take(&mut self, len: u64) -> Result<Bytes, DecodeError> {
        let left = (self.data.len() - self.at) as u64;
        if len > left {
            return Err(self.wrong("a length past the end"));
        }
        let end = self.at + len as usize;
        let bytes = self.data.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }

    fn kind(&self, number: u64) -> Result<ConfChangeKind, DecodeError> {
        match number {
            0 => Ok(ConfChangeKind::AddNode),
            1 => Ok(ConfChangeKind::RemoveNode),
            2 => Ok(ConfChangeKind::UpdateNode),
            3 => Ok(ConfChangeKind::AddLearnerNode),
            _ => Err(self.wrong("an unknown kind")),
        }
    }

    fn wrong(&self, what: &'static str) -> DecodeError {
        DecodeError { what, at: self.at }
    }
}

#[cfg(test)]
mod tests;
