//! Protobuf's wire format, as far as raft's messages need it.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::Malformed;

/// A field's value as it lies on the wire.
pub(super) enum Value {
    /// Of a variable length.
    Number(u64),
    /// With a length in front; a slice of the message, not a copy.
    Bytes(Bytes),
    /// Of a width that no field of ours has: skipped.
    Other,
}

/// How deep groups of unknown fields may lie in each other.
const GROUPS_MAX: usize = 64;

/// Takes the next field off `data`; `None` at its end.
pub(super) fn field(data: &mut Bytes) -> Result<Option<(u64, Value)>, Malformed> {
    if data.is_empty() {
        return Ok(None);
    }
    let tag = varint(data)?;
    let (number, kind) = (tag >> 3, tag & 7);
    if number == 0 || number > u64::from(u32::MAX >> 3) {
        return Err(Malformed("a field has an illegal number"));
    }
    let value = match kind {
        0 => Value::Number(varint(data)?),
        1 => skip(data, 8)?,
        2 => {
            let length = varint(data)?;
            Value::Bytes(take(data, length)?)
        }
        3 => {
            skip_group(data, number)?;
            Value::Other
        }
        5 => skip(data, 4)?,
        _ => return Err(Malformed("a field has an unknown wire type")),
    };
    Ok(Some((number, value)))
}

fn skip(data: &mut Bytes, count: u64) -> Result<Value, Malformed> {
    take(data, count).map(|_| Value::Other)
}

/// Skips to the end of a group: nobody sends one, and every reader must know how.
fn skip_group(data: &mut Bytes, number: u64) -> Result<(), Malformed> {
    let mut open = vec![number];
    while let Some(&innermost) = open.last() {
        let tag = varint(data)?;
        match tag & 7 {
            0 => drop(varint(data)?),
            1 => drop(take(data, 8)?),
            2 => {
                let length = varint(data)?;
                drop(take(data, length)?);
            }
            3 if open.len() < GROUPS_MAX => open.push(tag >> 3),
            4 if tag >> 3 == innermost => drop(open.pop()),
            5 => drop(take(data, 4)?),
            _ => return Err(Malformed("a group does not end")),
        }
    }
    Ok(())
}

fn take(data: &mut Bytes, count: u64) -> Result<Bytes, Malformed> {
    let count = usize::try_from(count).ok().filter(|count| *count <= data.len());
    Ok(data.split_to(count.ok_or(Malformed("a field is longer than what holds it"))?))
}

/// Takes a number off `data`.
pub(super) fn varint(data: &mut Bytes) -> Result<u64, Malformed> {
    let mut value = 0;
    for (at, byte) in data.iter().enumerate().take(10) {
        if at == 9 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            data.advance(at + 1);
            return Ok(value);
        }
    }
    Err(Malformed("a number does not end"))
}

/// Appends a field that holds a number. `field` is below 16.
pub(super) fn put_number(out: &mut BytesMut, field: u8, value: u64) {
    out.put_u8(field << 3);
    put_varint(out, value);
}

/// Appends the head of a field that holds `length` bytes. `field` is below 16.
pub(super) fn put_head(out: &mut BytesMut, field: u8, length: usize) {
    out.put_u8(field << 3 | 2);
    put_varint(out, length as u64);
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Bytes of a number.
pub(super) fn varint_len(value: u64) -> usize {
    (63 - (value | 1).leading_zeros() as usize) / 7 + 1
}

/// Bytes of a field of `length` bytes, its head included.
pub(super) fn bytes_len(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Bytes of a field that holds a number.
pub(super) fn number_len(value: u64) -> usize {
    1 + varint_len(value)
}
