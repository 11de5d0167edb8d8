//! Range answers on the wire, spliced from stored bytes.

use bytes::{BufMut as _, Bytes, BytesMut};
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb::{RangeRequest, ResponseHeader};
use mainstay_proto::prost::encoding::{
    WireType, encode_key, encode_varint, encoded_len_varint, key_len,
};
use mainstay_types::limits::{SHARD_RANGE_BYTES_MAX, SHARD_RANGE_KEYS_MAX};

use crate::member::{Member, RangeAnswer};

/// Field numbers of `RangeResponse`.
const HEADER: u32 = 1;
const KVS: u32 = 2;
const MORE: u32 = 3;
const COUNT: u32 = 4;

/// Appends a `RangeResponse`. The pairs are stored as they are sent, so they are
/// copied whole and never decoded.
pub(super) fn encode_range(
    out: &mut BytesMut,
    header: Option<&ResponseHeader>,
    answer: &RangeAnswer,
) {
    out.reserve(range_len(header, answer));
    if let Some(header) = header {
        bytes_field_head(out, HEADER, header.encoded_len());
        header.encode_raw(out);
    }
    for kv in &answer.kvs {
        bytes_field_head(out, KVS, kv.len());
        out.put_slice(kv);
    }
    if answer.more {
        encode_key(MORE, WireType::Varint, out);
        encode_varint(1, out);
    }
    if answer.count != 0 {
        encode_key(COUNT, WireType::Varint, out);
        encode_varint(answer.count as u64, out);
    }
}

/// Bytes that [`encode_range`] appends, at most.
pub(super) fn range_len(header: Option<&ResponseHeader>, answer: &RangeAnswer) -> usize {
    let field = |len: usize| key_len(KVS) + encoded_len_varint(len as u64) + len;
    let header = header.map_or(0, |header| field(header.encoded_len()));
    let kvs: usize = answer.kvs.iter().map(|kv| field(kv.len())).sum();
    header + kvs + 2 + 11
}

/// The key and length of a field of bytes or of a message.
pub(super) fn bytes_field_head(out: &mut BytesMut, field: u32, len: usize) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// Whether keys come in their own order and nothing is filtered, so that a limit
/// bounds what is read.
pub(super) fn is_plain(request: &RangeRequest) -> bool {
    let unsorted = request.sort_order == 0 || (request.sort_order == 1 && request.sort_target == 0);
    unsorted && !has_revision_filter(request)
}

/// Whether a bound on revisions is set.
pub(super) fn has_revision_filter(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| *bound != 0)
}

/// What an answer may come to, in bytes: its share of the keys, of all that the db holds.
pub(super) fn bytes_of<M: Member>(member: &M, request: &RangeRequest) -> usize {
    if request.count_only || request.keys_only {
        return 0;
    }
    let sizes = member.sizes();
    let mut keys = sizes.keys;
    // Nothing is known about an older view but that it may have held more.
    if request.revision <= 0 {
        keys = keys.min(member.keys_in(&request.key, &request.range_end));
    }
    if request.limit > 0 && is_plain(request) {
        keys = keys.min(request.limit as u64);
    }
    let share = u128::from(sizes.db_in_use) * u128::from(keys) / u128::from(sizes.keys.max(1));
    usize::try_from(share).unwrap_or(usize::MAX)
}

/// Whether a read is short enough for the connection's own thread.
pub(super) fn is_short<M: Member>(member: &M, request: &RangeRequest) -> bool {
    if request.range_end.is_empty() {
        return true;
    }
    has_few_keys(member, request) && bytes_of(member, request) <= SHARD_RANGE_BYTES_MAX
}

fn has_few_keys<M: Member>(member: &M, request: &RangeRequest) -> bool {
    let bounded = request.limit > 0 && is_plain(request);
    if bounded && request.limit <= SHARD_RANGE_KEYS_MAX {
        return true;
    }
    // Nothing is known about an older view but that it may have held more.
    if request.revision > 0 {
        return false;
    }
    if request.count_only {
        return true;
    }
    member.keys_in(&request.key, &request.range_end) <= SHARD_RANGE_KEYS_MAX as u64
}

/// The key of an encoded `KeyValue`, which is its first field.
pub(super) fn key_of(kv: &Bytes) -> Option<Bytes> {
    let pair = mainstay_proto::mvccpb::KeyValue::decode(kv.clone()).ok()?;
    Some(pair.key)
}

#[cfg(test)]
mod tests {
    use mainstay_proto::etcdserverpb::RangeResponse;
    use mainstay_proto::mvccpb::KeyValue;

    use super::*;

    #[test]
    fn spliced_answers_read_as_prost_writes_them() {
        let pair = |n: u8| KeyValue {
            key: Bytes::from(vec![n; 3]),
            value: Bytes::from(vec![n; usize::from(n) * 50]),
            create_revision: 2,
            mod_revision: i64::from(n),
            version: 1,
            lease: 0,
        };
        let header =
            ResponseHeader { cluster_id: 7, member_id: u64::MAX, revision: 9, raft_term: 2 };
        for (count, more) in [(0, false), (1, false), (3, true)] {
            let kvs: Vec<KeyValue> = (1..=count as u8).map(pair).collect();
            let raw = kvs.iter().map(|kv| Bytes::from(kv.encode_to_vec())).collect();
            let answer = RangeAnswer { kvs: raw, more, count, revision: 9 };
            let mut out = BytesMut::new();
            encode_range(&mut out, Some(&header), &answer);
            let expected = RangeResponse { header: Some(header), kvs, more, count };
            assert_eq!(out, expected.encode_to_vec());
            assert!(out.len() <= range_len(Some(&header), &answer));
        }
    }
}
