//! Encodings of the `key` bucket: revisions and key-values.

use bytes::{BufMut, Bytes, BytesMut};
use mainstay_types::Revision;

/// Bytes of a revision; a tombstone's has one more.
const REVISION_BYTES: usize = 17;

/// A key of the `key` bucket that is no revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of bucket \"key\" is {0} bytes {1:02x?}, not a revision")]
pub struct BadRevision(usize, Vec<u8>);

/// `main`, `_`, `sub` in big-endian, and `t` behind a tombstone's.
pub fn encode_revision(revision: Revision, tombstone: bool) -> Bytes {
    let mut out = BytesMut::with_capacity(REVISION_BYTES + 1);
    out.put_i64(revision.main);
    out.put_u8(b'_');
    out.put_i64(revision.sub);
    if tombstone {
        out.put_u8(b't');
    }
    out.freeze()
}

/// The key of a put: as [`encode_revision`], but in place.
pub(crate) fn revision_key(revision: Revision) -> [u8; REVISION_BYTES] {
    let mut key = [b'_'; REVISION_BYTES];
    key[..8].copy_from_slice(&revision.main.to_be_bytes());
    key[9..].copy_from_slice(&revision.sub.to_be_bytes());
    key
}

/// Reads what [`encode_revision`] writes: the revision and whether it is a tombstone.
///
/// # Errors
/// When the bytes have another form.
pub fn decode_revision(bytes: &[u8]) -> Result<(Revision, bool), BadRevision> {
    let bad = || BadRevision(bytes.len(), bytes.iter().copied().take(32).collect());
    let tombstone = match bytes.get(REVISION_BYTES..) {
        Some([]) => false,
        Some([b't']) => true,
        _ => return Err(bad()),
    };
    let number = |at: usize| -> Option<i64> {
        Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    match (number(0), bytes[8], number(9)) {
        (Some(main), b'_', Some(sub)) if main >= 0 && sub >= 0 => {
            Ok((Revision::new(main, sub), tombstone))
        }
        _ => Err(bad()),
    }
}

/// The fields of an `mvccpb.KeyValue`, borrowed from its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of the message")]
pub struct KeyValueRef<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

impl<'a> KeyValueRef<'a> {
    /// Reads an encoded `KeyValue`; unknown fields are skipped. `None` when it is
    /// not well-formed.
    pub fn decode(mut bytes: &'a [u8]) -> Option<KeyValueRef<'a>> {
        let mut kv = KeyValueRef::default();
        while !bytes.is_empty() {
            let tag = take_varint(&mut bytes)?;
            match (tag >> 3, tag & 7) {
                (1, 2) => kv.key = take_bytes(&mut bytes)?,
                (2, 0) => kv.create_revision = take_varint(&mut bytes)? as i64,
                (3, 0) => kv.mod_revision = take_varint(&mut bytes)? as i64,
                (4, 0) => kv.version = take_varint(&mut bytes)? as i64,
                (5, 2) => kv.value = take_bytes(&mut bytes)?,
                (6, 0) => kv.lease = take_varint(&mut bytes)? as i64,
                (_, 0) => drop(take_varint(&mut bytes)?),
                (_, 2) => drop(take_bytes(&mut bytes)?),
                (_, 1) => bytes = bytes.get(8..)?,
                (_, 5) => bytes = bytes.get(4..)?,
                _ => return None,
            }
        }
        Some(kv)
    }
}

/// The canonical form: fields ascending, zeros left out. HashKV compares these
/// bytes between members, Go's among them.
pub fn encode_key_value(kv: &KeyValueRef<'_>) -> Bytes {
    let numbers = [(0x10, kv.create_revision), (0x18, kv.mod_revision), (0x20, kv.version)];
    let mut out = BytesMut::with_capacity(kv.key.len() + kv.value.len() + 64);
    put_bytes(&mut out, 0x0a, kv.key);
    for (tag, number) in numbers {
        put_number(&mut out, tag, number);
    }
    put_bytes(&mut out, 0x2a, kv.value);
    put_number(&mut out, 0x30, kv.lease);
    out.freeze()
}

fn put_bytes(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(tag);
        put_varint(out, bytes.len() as u64);
        out.put_slice(bytes);
    }
}

fn put_number(out: &mut BytesMut, tag: u8, number: i64) {
    if number != 0 {
        out.put_u8(tag);
        put_varint(out, number as u64);
    }
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift < 64 {
            value |= u64::from(byte & 0x7f) << shift;
        }
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use mainstay_proto::{Message as _, mvccpb};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn revisions_have_etcds_form() {
        let encoded = encode_revision(Revision::new(0x0102, 3), true);
        assert_eq!(encoded.as_ref(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t");
        assert_eq!(decode_revision(&encoded), Ok((Revision::new(0x0102, 3), true)));
        assert_eq!(revision_key(Revision::new(0x0102, 3))[..], encoded[..REVISION_BYTES]);
        assert!(decode_revision(b"short").is_err());
        assert!(decode_revision(&[0; 17]).is_err(), "no underscore");
    }

    proptest! {
        #[test]
        fn key_values_are_as_protobuf_has_them(
            key: Vec<u8>, create in 0i64.., modified in 0i64.., version in 0i64.., value: Vec<u8>, lease: i64,
        ) {
            let kv = KeyValueRef {
                key: &key, create_revision: create, mod_revision: modified, version, value: &value, lease,
            };
            let message = mvccpb::KeyValue {
                key: key.clone().into(), create_revision: create, mod_revision: modified, version,
                value: value.clone().into(), lease,
            };
            let encoded = encode_key_value(&kv);
            prop_assert_eq!(encoded.as_ref(), message.encode_to_vec());
            prop_assert_eq!(KeyValueRef::decode(&encoded), Some(kv));
        }

        #[test]
        fn nonsense_is_no_key_value(bytes: Vec<u8>) {
            // Whatever it is, it does not panic.
            let _ = KeyValueRef::decode(&bytes);
            let _ = decode_revision(&bytes);
        }
    }
}
