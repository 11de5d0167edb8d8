//! Small encodings: revisions, key-values, configuration changes, ids.

use bytes::Bytes;
use mainstay_backend::{KeyValueRef, decode_revision, encode_key_value, encode_revision};
use mainstay_membership::parse_member_id;
use mainstay_proto::{Message as _, mvccpb, raftpb};
use mainstay_raft::{ConfChange, ConfChangeKind, ConfChangeV2};
use mainstay_types::{MemberId, Revision, Version};

use crate::Target;
use crate::pieces::Kind;

pub(crate) const TARGET: Target = Target { name: "encodings", seeds, run };

fn seeds() -> Vec<Vec<u8>> {
    let kv = KeyValueRef {
        key: b"key",
        create_revision: 2,
        mod_revision: 300,
        version: 7,
        value: b"value",
        lease: -1,
    };
    let change = ConfChange {
        id: 1,
        kind: ConfChangeKind::AddLearnerNode,
        node: MemberId(u64::MAX),
        context: Bytes::from_static(b"{}"),
    };
    let seed = |how: u8, bytes: &[u8]| [&[how], bytes].concat();
    vec![
        seed(0, &encode_revision(Revision::new(5, 1), true)),
        seed(1, &encode_key_value(&kv)),
        seed(2, &change.encode()),
        seed(2, &ConfChangeV2::from(change).encode()),
        seed(3, b"8e9e05c52164694d"),
        seed(3, b"3.5.16"),
    ]
}

fn run(input: &[u8]) -> u64 {
    let mut kind = Kind::default();
    let Some((how, bytes)) = input.split_first() else { return 0 };
    kind.add(u64::from(how % 4));
    match how % 4 {
        0 => revision(bytes, &mut kind),
        1 => key_value(bytes, &mut kind),
        2 => change(bytes, &mut kind),
        _ => {
            let text = String::from_utf8_lossy(bytes);
            kind.add(u64::from(parse_member_id(&text).is_some()));
            if let Ok(version) = text.parse::<Version>() {
                assert_eq!(version.to_string().parse(), Ok(version));
                kind.add(1);
            }
        }
    }
    kind.end()
}

fn revision(bytes: &[u8], kind: &mut Kind) {
    match decode_revision(bytes) {
        Ok((revision, tombstone)) => {
            assert_eq!(encode_revision(revision, tombstone), bytes, "one form only");
            kind.add(u64::from(tombstone));
        }
        Err(error) => kind.add_text(&error.to_string()),
    }
}

/// Ours against the generated decoder: what it takes we take, with the same fields.
fn key_value(bytes: &[u8], kind: &mut Kind) {
    let ours = KeyValueRef::decode(bytes);
    kind.add(u64::from(ours.is_some()));
    let Ok(theirs) = mvccpb::KeyValue::decode(bytes) else { return };
    kind.add(1);
    let Some(ours) = ours else {
        // Groups, which prost skips and nothing writes.
        return;
    };
    assert_eq!((ours.key, ours.value), (&theirs.key[..], &theirs.value[..]));
    let numbers = (ours.create_revision, ours.mod_revision, ours.version, ours.lease);
    assert_eq!(
        numbers,
        (theirs.create_revision, theirs.mod_revision, theirs.version, theirs.lease)
    );
    let encoded = encode_key_value(&ours);
    assert_eq!(KeyValueRef::decode(&encoded), Some(ours));
    assert_eq!(encoded, theirs.encode_to_vec(), "one canonical form");
}

fn change(bytes: &[u8], kind: &mut Kind) {
    let data = Bytes::copy_from_slice(bytes);
    if let Ok(change) = ConfChange::decode(&data) {
        assert_eq!(ConfChange::decode(&change.encode()).as_ref(), Ok(&change));
        kind.add(2);
        if let Ok(theirs) = raftpb::ConfChange::decode(bytes) {
            assert_eq!(theirs.node_id.unwrap_or(0), change.node.0);
        }
    }
    if let Ok(change) = ConfChangeV2::decode(&data) {
        assert_eq!(ConfChangeV2::decode(&change.encode()).as_ref(), Ok(&change));
        kind.add(3);
    }
}
