//! Events are what protobuf says they are.

use mainstay_proto::{Message as _, etcdserverpb as pb, mvccpb};

use super::*;

fn kv(key: &str, create: i64, modified: i64) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        create_revision: create,
        mod_revision: modified,
        version: 1,
        value: Bytes::from(vec![7; 300]),
        lease: 0,
    }
}

fn event(kind: EventKind, kv: &mvccpb::KeyValue) -> Event {
    Event { kind, key: kv.key.clone(), kv: kv.encode_to_vec().into(), prev: None }
}

#[test]
fn an_event_decodes_as_a_field_of_a_response() {
    for (kind, number) in [(EventKind::Put, 0), (EventKind::Delete, 1)] {
        for prev in [None, Some(kv("k", 3, 4))] {
            let now = kv("k", 3, 5);
            let raw = prev.as_ref().map(|prev| Bytes::from(prev.encode_to_vec()));
            let bytes = event(kind, &now).encode(raw.as_ref());
            let response = pb::WatchResponse::decode(bytes).unwrap();
            let want = mvccpb::Event { r#type: number, kv: Some(now), prev_kv: prev };
            assert_eq!(response.events, [want]);
        }
    }
}

#[test]
fn a_create_is_a_put_of_version_one() {
    assert!(event(EventKind::Put, &kv("k", 500, 500)).is_create());
    assert!(!event(EventKind::Put, &kv("k", 500, 501)).is_create());
    assert!(event(EventKind::Put, &kv("", 500, 500)).is_create());
    assert!(!event(EventKind::Delete, &kv("k", 0, 0)).is_create());
}

#[test]
fn a_previous_value_is_looked_up_once_and_only_when_wanted() {
    let batch = EventBatch { revision: 9, events: vec![event(EventKind::Put, &kv("k", 3, 9))] };
    let mut shared = Shared::live(std::sync::Arc::new(batch));
    let mut lookups = 0;
    let prev = Bytes::from(kv("k", 3, 8).encode_to_vec());
    let mut look = |key: &[u8], revision: i64| {
        assert_eq!((key, revision), (b"k".as_slice(), 8));
        lookups += 1;
        Ok(Some(prev.clone()))
    };
    let plain = shared.event(0, false, &mut look).unwrap();
    let first = shared.event(0, true, &mut look).unwrap();
    let second = shared.event(0, true, &mut look).unwrap();
    assert_eq!(lookups, 1);
    assert_eq!(first.as_ptr(), second.as_ptr(), "shared, not copied");
    assert!(first.len() > plain.len() + 300);
}
