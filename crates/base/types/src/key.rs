//! Key ranges, as etcd's requests mean them.

use bytes::Bytes;

/// Where a [`KeyRange`] ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// Just the one key (`range_end` empty on the wire).
    Single,
    /// Up to this key, which is not part of it.
    Before(Bytes),
    /// To the end of the key space (`range_end` is a single zero byte on the wire).
    Unbounded,
}

/// A set of consecutive keys, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// The end.
    pub end: RangeEnd,
}

impl KeyRange {
    /// A single key.
    pub fn single(key: Bytes) -> KeyRange {
        KeyRange { start: key, end: RangeEnd::Single }
    }

    /// Reads the `key` and `range_end` of a request (`rpc.proto`, RangeRequest).
    pub fn from_wire(key: Bytes, range_end: Bytes) -> KeyRange {
        let end = if range_end.is_empty() {
            RangeEnd::Single
        } else if range_end.as_ref() == [0] {
            RangeEnd::Unbounded
        } else {
            RangeEnd::Before(range_end)
        };
        KeyRange { start: key, end }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            RangeEnd::Unbounded => key >= self.start.as_ref(),
        }
    }

    /// Whether no key can lie in the range (its end is not after its start).
    pub fn is_empty(&self) -> bool {
        match &self.end {
            RangeEnd::Before(end) => end.as_ref() <= self.start.as_ref(),
            RangeEnd::Single | RangeEnd::Unbounded => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_forms_mean_what_etcd_means() {
        let b = |s: &'static [u8]| Bytes::from_static(s);
        assert!(KeyRange::from_wire(b(b"a"), b(b"")).contains(b"a"));
        assert!(!KeyRange::from_wire(b(b"a"), b(b"")).contains(b"aa"));
        assert!(KeyRange::from_wire(b(b"a"), b(b"\0")).contains(b"zz"));
        assert!(KeyRange::from_wire(b(b"\0"), b(b"\0")).contains(b"\0"));
        assert!(!KeyRange::from_wire(b(b"a"), b(b"c")).contains(b"c"));
        assert!(KeyRange::from_wire(b(b"c"), b(b"a")).is_empty());
    }
}
