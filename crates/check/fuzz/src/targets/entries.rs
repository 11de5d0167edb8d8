//! Entries of a log or a peer, applied: nothing in them makes a member panic, the
//! proposer and the others come to the same state, and so does a restart.
//!
//! Each entry is a byte (its kind, and whether its client waits here) and a string.

use mainstay_apply::{Applied, StopError};
use mainstay_proto::{Message as _, etcdserverpb as pb};
use mainstay_raft::EntryKind;
use pb::compare::{CompareTarget, TargetUnion};
use pb::request_op::Request as Op;

use crate::Target;
use crate::bed::{Bed, LEASE, internal, put, script};
use crate::pieces::{Kind, Pieces, put_string};

pub(crate) const TARGET: Target = Target { name: "entries", seeds, run };

/// Entries of one input.
const ENTRIES_MAX: usize = 16;
/// The bit that says that a client waits for the entry.
const LOCAL: u8 = 4;

fn op(op: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(op) }
}

/// A transaction with every kind of operation, nested once.
pub(crate) fn txn() -> pb::TxnRequest {
    let compare = pb::Compare {
        target: CompareTarget::Version as i32,
        key: "a".into(),
        target_union: Some(TargetUnion::Version(2)),
        ..Default::default()
    };
    let range = pb::RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: "d".into(), range_end: "\0".into(), prev_kv: true };
    let kept = pb::PutRequest { ignore_value: true, value: "".into(), ..put("b", LEASE) };
    let inner = pb::TxnRequest {
        success: vec![op(Op::RequestPut(put("e", 0))), op(Op::RequestDeleteRange(delete))],
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            op(Op::RequestRange(range.clone())),
            op(Op::RequestTxn(inner)),
            op(Op::RequestPut(kept)),
        ],
        failure: vec![op(Op::RequestRange(range))],
    }
}

/// One request of each kind that is not in the script.
fn requests() -> Vec<Vec<u8>> {
    let alarm = pb::AlarmRequest { action: 1, member_id: 7, alarm: 1 };
    let checkpoint = pb::LeaseCheckpoint { id: LEASE, remaining_ttl: 5 };
    let attributes = mainstay_proto::membershippb::ClusterMemberAttrSetRequest {
        member_id: 7,
        ..Default::default()
    };
    vec![
        internal(2, |r| r.txn = Some(txn())),
        internal(3, |r| r.alarm = Some(alarm)),
        internal(4, |r| {
            let checkpoints = vec![checkpoint];
            r.lease_checkpoint = Some(pb::LeaseCheckpointRequest { checkpoints });
        }),
        internal(5, |r| r.lease_revoke = Some(pb::LeaseRevokeRequest { id: LEASE })),
        internal(6, |r| r.cluster_member_attr_set = Some(attributes)),
        internal(7, |r| r.range = Some(pb::RangeRequest { key: "a".into(), ..Default::default() })),
        internal(8, |r| r.auth_status = Some(pb::AuthStatusRequest {})),
        pb::Request {
            id: Some(9),
            method: Some("PUT".into()),
            path: Some("/0/members/7/attributes".into()),
            val: Some(r#"{"name":"x","clientURLs":["http://x"]}"#.into()),
            ..Default::default()
        }
        .encode_to_vec(),
    ]
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut all = Vec::new();
    for (kind, data) in script() {
        let mut seed = vec![LOCAL | u8::from(kind == EntryKind::ConfChange)];
        put_string(&mut seed, &data);
        seeds.push(seed);
    }
    for data in requests() {
        let mut seed = vec![LOCAL];
        put_string(&mut seed, &data);
        all.extend_from_slice(&seed);
        seeds.push(seed);
    }
    seeds.push(all);
    seeds
}

fn run(input: &[u8]) -> u64 {
    let mut pieces = Pieces::new(input);
    let (mut here, mut there) = (Bed::new(), Bed::new());
    let mut kind = Kind::default();
    for _ in 0..ENTRIES_MAX {
        if pieces.is_empty() {
            break;
        }
        let (flags, data) = (pieces.byte(), pieces.string());
        let entry = match flags % 4 {
            1 => EntryKind::ConfChange,
            2 => EntryKind::ConfChangeV2,
            _ => EntryKind::Normal,
        };
        let result = here.apply(entry, data, flags & LOCAL != 0);
        let other = there.apply(entry, data, flags & LOCAL == 0);
        assert_eq!(result.is_ok(), other.is_ok(), "members agree on what stops them");
        tell(&mut kind, &result);
        if result.is_err() {
            break;
        }
    }
    let digest = here.digest();
    assert_eq!(digest, there.digest(), "the proposer and the others come to the same state");
    kind.add_size(here.read_all().expect("a sound disk"));
    let again = here.restart();
    assert_eq!(digest, again.digest(), "a restart comes to the same state");
    kind.end()
}

/// Notes an outcome by its variant.
pub(crate) fn tell(kind: &mut Kind, result: &Result<Applied, StopError>) {
    match result {
        Ok(applied) => {
            match &applied.outcome {
                Ok(reply) => {
                    kind.add_text(format!("{reply:?}").split(['(', ' ']).next().unwrap_or(""))
                }
                Err(error) => kind.add_text(&error.to_string()),
            }
            kind.add_size(applied.events.len());
            kind.add_size(applied.leases.len());
        }
        Err(stop) => kind.add_text(&stop.why.to_string()),
    }
}
