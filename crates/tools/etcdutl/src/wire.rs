//! Protobuf messages as text, from a table of their fields: what etcd's dump tools print
//! (the compact text form of its 3.4 to 3.6).

mod schema;

use std::fmt::Write as _;

use mainstay_types::limits::TXN_DEPTH_MAX;

pub(crate) use schema::{
    CONF_CHANGE, CONF_CHANGE_V2, HARD_STATE, INTERNAL_RAFT_REQUEST, METADATA, PERMISSION, REQUEST,
    USER_ADD_OPTIONS,
};

/// Deepest nesting that is read: a level of a transaction is two messages.
const DEPTH_MAX: usize = 2 * TXN_DEPTH_MAX + 8;

/// A message type.
pub(crate) struct Shape {
    /// Its full name.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test finds the declaration by it"))]
    pub(crate) name: &'static str,
    /// Its fields, in the order in which they are printed.
    pub(crate) fields: &'static [Field],
}

/// A field of a message.
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) name: &'static str,
    kind: Kind,
}

/// What a field holds.
enum Kind {
    Int,
    Uint,
    Bool,
    Text,
    Bytes,
    Enum(&'static [(i64, &'static str)]),
    Message(&'static Shape),
}

/// A field as it was found: its number and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// Takes a message apart; `None` when it is none.
pub(crate) fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let (number, kind) = (tag >> 3, tag & 7);
        if number == 0 {
            return None;
        }
        let value = match kind {
            0 => Value::Number(varint(&mut bytes)?),
            1 => Value::Fixed64(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            2 => {
                let len = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, len)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?)),
            // Groups: nobody here writes them.
            _ => return None,
        };
        found.push((number, value));
    }
    Some(found)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

/// A number of up to ten bytes.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// A message as text, each field followed by a space; `None` when the bytes are no such
/// message. Fields that the table does not know stand behind the others, by number.
pub(crate) fn text(shape: &Shape, bytes: &[u8]) -> Option<String> {
    let mut out = String::new();
    write(shape, bytes, &mut out, 0)?;
    Some(out)
}

/// Whether the bytes are such a message, and which of its fields are there.
pub(crate) fn has(shape: &Shape, bytes: &[u8]) -> Option<Vec<u64>> {
    text(shape, bytes)?;
    Some(fields(bytes)?.into_iter().map(|(number, _)| number).collect())
}

fn write(shape: &Shape, bytes: &[u8], out: &mut String, depth: usize) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let found = fields(bytes)?;
    for field in shape.fields {
        for (_, value) in found.iter().filter(|(number, _)| *number == field.number) {
            write_field(field, *value, out, depth)?;
        }
    }
    for (number, value) in &found {
        if shape.fields.iter().any(|field| field.number == *number) {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = match value {
            Value::Number(n) | Value::Fixed64(n) => write!(out, "{number}:{n} "),
            Value::Fixed32(n) => write!(out, "{number}:{n} "),
            Value::Bytes(bytes) => write!(out, "{number}:{} ", escaped(bytes)),
        };
    }
    Some(())
}

fn write_field(field: &Field, value: Value<'_>, out: &mut String, depth: usize) -> Option<()> {
    let name = field.name;
    // Writing to a String cannot fail.
    let _ = match (&field.kind, value) {
        (Kind::Int, Value::Number(n)) => write!(out, "{name}:{} ", n as i64),
        (Kind::Uint, Value::Number(n)) => write!(out, "{name}:{n} "),
        (Kind::Bool, Value::Number(n)) => write!(out, "{name}:{} ", n != 0),
        (Kind::Enum(names), Value::Number(n)) => {
            match names.iter().find(|(number, _)| *number == n as i64) {
                Some((_, value)) => write!(out, "{name}:{value} "),
                None => write!(out, "{name}:{} ", n as i64),
            }
        }
        // Numbers that are repeated may be packed.
        (Kind::Int | Kind::Uint, Value::Bytes(mut packed)) => {
            while !packed.is_empty() {
                let n = varint(&mut packed)?;
                let _ = write!(out, "{name}:{n} ");
            }
            Ok(())
        }
        (Kind::Text | Kind::Bytes, Value::Bytes(bytes)) => {
            write!(out, "{name}:{} ", escaped(bytes))
        }
        (Kind::Message(shape), Value::Bytes(bytes)) => {
            let _ = write!(out, "{name}:<");
            write(shape, bytes, out, depth + 1)?;
            out.push_str("> ");
            Ok(())
        }
        _ => return None,
    };
    Some(())
}

/// Bytes in double quotes as protobuf's text form has them: others than printable ASCII
/// in octal.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x20..0x7f => out.push(char::from(*byte)),
            other => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\{other:03o}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
