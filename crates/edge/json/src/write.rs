//! A message's bytes into JSON.

use std::io::Write as _;

use mainstay_proto::prost::encoding::decode_varint;
use mainstay_proto::shape::{Enum, Field, Kind, Shape};

use crate::base64;

/// Bytes that are no message of the shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{shape}: the message's bytes cannot be read")]
pub struct Malformed {
    /// Which message.
    pub shape: &'static str,
}

/// Appends the JSON form of `message`, whose fields come in the order in which they are
/// declared. Of a field that is there twice the last counts.
///
/// # Errors
/// When the bytes are not a message of this shape; then part of it has been appended.
pub fn write(shape: &'static Shape, message: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let malformed = Malformed { shape: shape.name };
    out.push(b'{');
    let empty = out.len();
    for field in shape.fields {
        let begun = out.len();
        if begun != empty {
            out.push(b',');
        }
        name(field, out);
        let written =
            if field.repeated { many(field, message, out) } else { one(field, message, out) };
        if !written.ok_or_else(|| malformed.clone())? {
            out.truncate(begun);
        }
    }
    out.push(b'}');
    Ok(())
}

fn name(field: &Field, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(field.name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// The value of a single field; false when there is nothing to tell. `None` is a malformed
/// message, here and below.
fn one(field: &Field, message: &[u8], out: &mut Vec<u8>) -> Option<bool> {
    let mut last = None;
    for found in Fields(message) {
        let (number, value) = found?;
        if number == field.number {
            last = Some(value);
        }
    }
    let Some(last) = last else { return Some(false) };
    let zero = match last {
        Wire::Number(value) => value == 0,
        Wire::Bytes(value) => value.is_empty() && !matches!(field.kind, Kind::Message(_)),
        Wire::Other => return None,
    };
    if zero && field.oneof.is_none() {
        return Some(false);
    }
    value(field.kind, last, out)?;
    Some(true)
}

fn many(field: &Field, message: &[u8], out: &mut Vec<u8>) -> Option<bool> {
    out.push(b'[');
    let empty = out.len();
    let add = |wire, out: &mut Vec<u8>| {
        if out.len() != empty {
            out.push(b',');
        }
        value(field.kind, wire, out)
    };
    let packable = !matches!(field.kind, Kind::String | Kind::Bytes | Kind::Message(_));
    for found in Fields(message) {
        match found? {
            (number, _) if number != field.number => {}
            (_, Wire::Bytes(mut packed)) if packable => {
                while !packed.is_empty() {
                    add(Wire::Number(decode_varint(&mut packed).ok()?), out)?;
                }
            }
            (_, wire) => add(wire, out)?,
        }
    }
    let some = out.len() != empty;
    out.push(b']');
    Some(some)
}

fn value(kind: Kind, wire: Wire<'_>, out: &mut Vec<u8>) -> Option<()> {
    match (kind, wire) {
        (Kind::Bool, Wire::Number(value)) => {
            out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
        }
        (Kind::Int32, Wire::Number(value)) => digits(out, value as i32),
        (Kind::Uint32, Wire::Number(value)) => digits(out, value as u32),
        (Kind::Int64, Wire::Number(value)) => digits(out, format_args!("\"{}\"", value as i64)),
        (Kind::Uint64, Wire::Number(value)) => digits(out, format_args!("\"{value}\"")),
        (Kind::Enum(listed), Wire::Number(value)) => enumeration(listed, value as i32, out),
        (Kind::String, Wire::Bytes(value)) => text(&String::from_utf8_lossy(value), out),
        (Kind::Bytes, Wire::Bytes(value)) => {
            out.push(b'"');
            base64::encode(value, out);
            out.push(b'"');
        }
        (Kind::Message(shape), Wire::Bytes(value)) => write(shape, value, out).ok()?,
        _ => return None,
    }
    Some(())
}

fn digits(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("a Vec takes all that is written");
}

/// The name of a value; the number of one without a name.
fn enumeration(listed: &Enum, value: i32, out: &mut Vec<u8>) {
    match listed.values.iter().find(|(_, number)| *number == value) {
        Some((name, _)) => digits(out, format_args!("\"{name}\"")),
        None => digits(out, value),
    }
}

/// Appends `value` as a JSON string.
pub fn text(value: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 | 0x7f => digits(out, format_args!("\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// A value on the wire.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed width: no shape has one.
    Other,
}

/// The fields of a message, in the order of its bytes; `None` once it is malformed.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.field())
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Wire<'a>)> {
        let tag = decode_varint(&mut self.0).ok()?;
        let value = match tag & 7 {
            0 => Wire::Number(decode_varint(&mut self.0).ok()?),
            1 => self.skip(8)?,
            2 => {
                let len = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (value, rest) = self.0.split_at_checked(len)?;
                self.0 = rest;
                Wire::Bytes(value)
            }
            5 => self.skip(4)?,
            _ => return None,
        };
        Some((u32::try_from(tag >> 3).ok()?, value))
    }

    fn skip(&mut self, len: usize) -> Option<Wire<'a>> {
        self.0 = self.0.get(len..)?;
        Some(Wire::Other)
    }
}
