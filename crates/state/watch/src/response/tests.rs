//! Responses are what protobuf says they are, and fragments add up.

use mainstay_proto::{Message as _, etcdserverpb as pb, mvccpb};

use super::*;
use crate::{Event, EventKind};

const HEADER: Header = Header { cluster_id: u64::MAX, member_id: 77, raft_term: 3 };

fn decode_all(response: &Response, limit: usize) -> Vec<pb::WatchResponse> {
    let mut all = Vec::new();
    response.messages(HEADER, limit, |message| {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(bytes.len(), message.encoded_len());
        let decoded = pb::WatchResponse::decode(bytes.as_slice()).unwrap();
        assert_eq!(decoded.encode_to_vec(), bytes, "canonical form");
        all.push(decoded);
    });
    all
}

fn events(n: usize) -> Events {
    let one = |n: usize| {
        let kv = mvccpb::KeyValue { key: vec![n as u8; 100].into(), ..Default::default() };
        let kv = Bytes::from(kv.encode_to_vec());
        Event { kind: EventKind::Put, key: Bytes::new(), kv, prev: None }.encode(None)
    };
    Events::from_list((0..n).map(one).collect()).unwrap()
}

#[test]
fn every_body_has_its_fields() {
    let header = |revision| pb::ResponseHeader {
        cluster_id: u64::MAX,
        member_id: 77,
        revision,
        raft_term: 3,
    };
    let cases = [
        (Body::Created, true, false, 0, ""),
        (Body::Refused("mvcc: no".into()), true, true, 0, "mvcc: no"),
        (Body::Canceled, false, true, 0, ""),
        (Body::Compacted(300), false, true, 300, ""),
        (Body::Failed("disk".into()), false, true, 0, "disk"),
        (Body::Progress, false, false, 0, ""),
    ];
    for (body, created, canceled, compact_revision, reason) in cases {
        for watch_id in [0, 5, -1] {
            for revision in [0, 9, 1 << 40] {
                let body = body.clone();
                let response = Response { watch_id, revision, fragment: false, body };
                let want = pb::WatchResponse {
                    header: Some(header(revision)),
                    watch_id,
                    created,
                    canceled,
                    compact_revision,
                    cancel_reason: reason.into(),
                    ..Default::default()
                };
                assert_eq!(decode_all(&response, 1 << 20), [want]);
            }
        }
    }
}

#[test]
fn fragments_only_when_asked_for_and_too_large() {
    let mut response =
        Response { watch_id: 1, revision: 9, fragment: false, body: Body::Events(events(10)) };
    assert_eq!(decode_all(&response, 300).len(), 1);
    response.fragment = true;
    assert_eq!(decode_all(&response, 3000).len(), 1);
    let pieces = decode_all(&response, 300);
    assert!(pieces.len() > 3);
    let (last, first) = pieces.split_last().unwrap();
    assert!(first.iter().all(|piece| piece.fragment && piece.events.len() > 1) && !last.fragment);
    assert!(pieces.iter().all(|piece| piece.encoded_len() < 300));
    let keys: Vec<u8> =
        pieces.iter().flat_map(|p| &p.events).map(|e| e.kv.as_ref().unwrap().key[0]).collect();
    assert_eq!(keys, (0..10).collect::<Vec<u8>>());
    // Events larger than the limit still go, one by one.
    assert_eq!(decode_all(&response, 10).len(), 10);
}

#[test]
fn varints_have_their_length() {
    for shift in 0..64 {
        for value in [1u64 << shift, (1u64 << shift) - 1] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
        }
    }
}
