//! Requests of clients: decoded, checked as the server checks them, and what passes is
//! applied. What a client can get past the checks never stops a member.
//!
//! The first byte says which request the rest is.

use bytes::Bytes;
use mainstay_apply::{check, classify, quota};
use mainstay_proto::{Message, etcdserverpb as pb};
use mainstay_raft::EntryKind;
use mainstay_types::limits::TXN_OPS_DEFAULT;

use super::entries::{tell, txn};
use crate::Target;
use crate::bed::{Bed, LEASE, internal, put};
use crate::pieces::Kind;

pub(crate) const TARGET: Target = Target { name: "requests", seeds, run };

/// Kinds of requests.
const KINDS: u8 = 10;

fn seeds() -> Vec<Vec<u8>> {
    let range = pb::RangeRequest {
        key: "a".into(),
        range_end: "z".into(),
        limit: 3,
        revision: 6,
        sort_order: 1,
        sort_target: 2,
        min_mod_revision: 1,
        max_create_revision: 9,
        ..Default::default()
    };
    let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "\0".into(), prev_kv: true };
    let compaction = pb::CompactionRequest { revision: 7, physical: true };
    let mut deep = txn();
    for _ in 0..40 {
        let op = pb::request_op::Request::RequestTxn(deep);
        let success = vec![pb::RequestOp { request: Some(op) }];
        deep = pb::TxnRequest { success, ..Default::default() };
    }
    let watch = pb::WatchCreateRequest { key: "a".into(), start_revision: 3, ..Default::default() };
    let union = Some(pb::watch_request::RequestUnion::CreateRequest(watch));
    vec![
        seed(0, &range),
        seed(1, &pb::PutRequest { prev_kv: true, ..put("a", LEASE) }),
        seed(2, &delete),
        seed(3, &txn()),
        seed(3, &deep),
        seed(4, &compaction),
        seed(5, &pb::LeaseGrantRequest { ttl: 10, id: 3 }),
        seed(6, &pb::LeaseRevokeRequest { id: LEASE }),
        seed(7, &pb::AlarmRequest { action: 1, member_id: 7, alarm: 2 }),
        seed(8, &pb::WatchRequest { request_union: union }),
        seed(9, &pb::LeaseTimeToLiveRequest { id: LEASE, keys: true }),
    ]
}

fn seed(kind: u8, message: &impl Message) -> Vec<u8> {
    [&[kind], &message.encode_to_vec()[..]].concat()
}

fn run(input: &[u8]) -> u64 {
    let Some((which, rest)) = input.split_first() else { return 0 };
    let which = which % KINDS;
    let bytes = Bytes::copy_from_slice(rest);
    let mut kind = Kind::default();
    kind.add(u64::from(which));
    let mut bed = Bed::new();
    let entry = match which {
        0 => range(&bed, bytes, &mut kind),
        3 => transaction(&bed, bytes, &mut kind),
        8 => decoded::<pb::WatchRequest>(bytes).map(|_| Vec::new()),
        9 => decoded::<pb::LeaseTimeToLiveRequest>(bytes).map(|_| Vec::new()),
        _ => proposal(which, bytes),
    };
    match entry {
        Err(error) => kind.add_text(&error),
        Ok(entry) if entry.is_empty() => {}
        Ok(entry) => {
            let applied = bed.apply(EntryKind::Normal, &entry, true);
            tell(&mut kind, &applied);
            let applied = applied.expect("no client can stop a member");
            // The client gets its answer, whatever it is.
            if let Err(error) = applied.outcome {
                kind.add_text(&error.to_string());
            }
            kind.add_size(bed.read_all().expect("a sound disk"));
        }
    }
    kind.end()
}

fn decoded<M: Message + Default>(bytes: Bytes) -> Result<M, String> {
    M::decode(bytes).map_err(|error| error.to_string())
}

fn range(bed: &Bed, bytes: Bytes, kind: &mut Kind) -> Result<Vec<u8>, String> {
    let request: pb::RangeRequest = decoded(bytes)?;
    check::range(&request).map_err(|error| error.to_string())?;
    match bed.machine.view().range(&request) {
        Ok(reply) => kind.add_size(reply.kvs.len()),
        Err(error) => kind.add_text(&error.to_string()),
    }
    Ok(Vec::new())
}

fn transaction(bed: &Bed, bytes: Bytes, kind: &mut Kind) -> Result<Vec<u8>, String> {
    let request: pb::TxnRequest = decoded(bytes)?;
    kind.add_size(quota::txn_cost(&request) as usize);
    check::txn(&request, TXN_OPS_DEFAULT).map_err(|error| error.to_string())?;
    if classify::is_read_only(&request) {
        match classify::read_only_txn(&bed.machine.view(), &request) {
            Ok(reply) => kind.add_size(reply.responses.len()),
            Err(error) => kind.add_text(&error.to_string()),
        }
    }
    Ok(internal(1, |r| r.txn = Some(request)))
}

fn proposal(which: u8, bytes: Bytes) -> Result<Vec<u8>, String> {
    let refused = |error: check::CheckError| error.to_string();
    Ok(match which {
        1 => {
            let request: pb::PutRequest = decoded(bytes)?;
            check::put(&request).map_err(refused)?;
            internal(1, |r| r.put = Some(request))
        }
        2 => {
            let request: pb::DeleteRangeRequest = decoded(bytes)?;
            check::delete_range(&request).map_err(refused)?;
            internal(1, |r| r.delete_range = Some(request))
        }
        4 => {
            let request = decoded(bytes)?;
            internal(1, |r| r.compaction = Some(request))
        }
        5 => {
            let request = decoded(bytes)?;
            internal(1, |r| r.lease_grant = Some(request))
        }
        6 => {
            let request = decoded(bytes)?;
            internal(1, |r| r.lease_revoke = Some(request))
        }
        _ => {
            let request = decoded(bytes)?;
            internal(1, |r| r.alarm = Some(request))
        }
    })
}
