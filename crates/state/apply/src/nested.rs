//! Transactions nested deeper than the generated decoder follows.
//!
//! It gives up below fifty levels; etcd's accepts what the budget of operations allows,
//! [`TXN_DEPTH_MAX`] levels by default. Such a transaction may come from a client as well
//! as from the log of a Go member, where not being able to read it would stop us.

use bytes::{Bytes, BytesMut};
use mainstay_proto::prost::DecodeError;
use mainstay_proto::{Message as _, etcdserverpb as pb};
use mainstay_types::limits::TXN_DEPTH_MAX;
use pb::request_op::Request as Op;

use crate::entry::varint;

/// Decodes a transaction of up to [`TXN_DEPTH_MAX`] levels.
///
/// # Errors
/// When the bytes are none, or nested deeper.
pub fn decode_txn(bytes: Bytes) -> Result<pb::TxnRequest, DecodeError> {
    // Copying a `Bytes` is counting; nearly always the first way succeeds.
    pb::TxnRequest::decode(bytes.clone()).or_else(|error| deep(&bytes, TXN_DEPTH_MAX).ok_or(error))
}

fn deep(bytes: &Bytes, depth_left: usize) -> Option<pb::TxnRequest> {
    let depth_left = depth_left.checked_sub(1)?;
    let mut txn = pb::TxnRequest::default();
    fields(bytes, &mut |number, body| {
        match number {
            1 => txn.compare.push(pb::Compare::decode(body).ok()?),
            2 => txn.success.push(operation(&body, depth_left)?),
            3 => txn.failure.push(operation(&body, depth_left)?),
            _ => {}
        }
        Some(())
    })?;
    Some(txn)
}

/// One operation: the last one named counts, and the same one named twice is both merged,
/// which is to say their bytes one after the other.
fn operation(bytes: &Bytes, depth_left: usize) -> Option<pb::RequestOp> {
    let mut last: Option<(u64, Bytes)> = None;
    fields(bytes, &mut |number, body| {
        if (1..=4).contains(&number) {
            last = Some(match last.take() {
                Some((before, first)) if before == number => {
                    (number, [first, body].into_iter().flatten().collect::<BytesMut>().freeze())
                }
                _ => (number, body),
            });
        }
        Some(())
    })?;
    let request = match last {
        None => None,
        Some((1, body)) => Some(Op::RequestRange(pb::RangeRequest::decode(body).ok()?)),
        Some((2, body)) => Some(Op::RequestPut(pb::PutRequest::decode(body).ok()?)),
        Some((3, body)) => Some(Op::RequestDeleteRange(pb::DeleteRangeRequest::decode(body).ok()?)),
        Some((_, body)) => Some(Op::RequestTxn(deep(&body, depth_left)?)),
    };
    Some(pb::RequestOp { request })
}

/// Shows `take` every length-delimited field; others, which no message here has, are skipped.
fn fields(bytes: &Bytes, take: &mut dyn FnMut(u64, Bytes) -> Option<()>) -> Option<()> {
    let mut at = 0;
    while at < bytes.len() {
        let tag = varint(bytes, &mut at).ok()?;
        match tag & 7 {
            // A known field of the wrong type is no message of ours.
            0 if tag >> 3 > 4 => drop(varint(bytes, &mut at).ok()?),
            1 if tag >> 3 > 4 => at += 8,
            5 if tag >> 3 > 4 => at += 4,
            2 if tag >> 3 > 0 => {
                let len = usize::try_from(varint(bytes, &mut at).ok()?).ok()?;
                let end = at.checked_add(len).filter(|end| *end <= bytes.len())?;
                take(tag >> 3, bytes.slice(at..end))?;
                at = end;
            }
            _ => return None,
        }
    }
    (at == bytes.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nest(levels: usize) -> pb::TxnRequest {
        let put = pb::PutRequest { key: "k".into(), ..Default::default() };
        let compare = pb::Compare { key: "c".into(), ..Default::default() };
        let mut txn = pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp { request: Some(Op::RequestPut(put)) }],
            ..Default::default()
        };
        for _ in 1..levels {
            let failure = vec![pb::RequestOp { request: Some(Op::RequestTxn(txn)) }];
            txn = pb::TxnRequest { failure, ..Default::default() };
        }
        txn
    }

    #[test]
    fn every_depth_that_etcd_takes_is_read() {
        for levels in [1, 2, 40, 49, 50, 51, 100, TXN_DEPTH_MAX - 1, TXN_DEPTH_MAX] {
            let txn = nest(levels);
            let bytes = Bytes::from(txn.encode_to_vec());
            assert_eq!(decode_txn(bytes.clone()).as_ref(), Ok(&txn), "{levels} levels");
            assert_eq!(deep(&bytes, TXN_DEPTH_MAX).as_ref(), Some(&txn), "{levels} levels");
        }
        let deeper = nest(TXN_DEPTH_MAX + 1).encode_to_vec();
        assert!(decode_txn(deeper.into()).is_err(), "a bound there is");
    }

    #[test]
    fn an_operation_named_twice_is_merged_and_the_last_kind_counts() {
        let key = pb::PutRequest { key: "k".into(), ..Default::default() };
        let value = pb::PutRequest { value: "v".into(), ..Default::default() };
        let range = pb::RangeRequest { key: "r".into(), ..Default::default() };
        let op = |request| pb::RequestOp { request: Some(request) }.encode_to_vec();
        let (key, value) = (op(Op::RequestPut(key)), op(Op::RequestPut(value)));
        let range = op(Op::RequestRange(range));
        for parts in [vec![&key, &value], vec![&range, &key, &value], vec![&key, &range]] {
            let bytes = Bytes::from(parts.into_iter().flatten().copied().collect::<Vec<u8>>());
            let wanted = pb::RequestOp::decode(bytes.clone()).expect("an operation");
            assert_eq!(operation(&bytes, 1), Some(wanted));
        }
        let cut = Bytes::from_static(&[0x12, 5, 1]);
        assert_eq!(operation(&cut, 1), None);
    }
}
