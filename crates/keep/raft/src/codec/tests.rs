//! Tests of the encoding of configuration changes.

use super::*;

#[test]
fn what_etcd_3_5_writes_is_read_and_written() {
    // raftpb.ConfChange{ID: 300, Type: AddLearner, NodeID: 5, Context: "ab"}, gogo-encoded.
    let golden: &[u8] = &[0x08, 0xac, 0x02, 0x10, 0x03, 0x18, 0x05, 0x22, 0x02, b'a', b'b'];
    let change = ConfChange {
        id: 300,
        kind: ConfChangeKind::AddLearnerNode,
        node: MemberId(5),
        context: Bytes::from_static(b"ab"),
    };
    assert_eq!(change.encode(), golden);
    assert_eq!(ConfChange::decode(&Bytes::from_static(golden)), Ok(change));
}

#[test]
fn the_empty_change_leaves_a_joint_configuration() {
    let change = ConfChangeV2::decode(&Bytes::new()).unwrap();
    assert!(change.leaves_joint());
    assert!(change.encode().is_empty());
    // As 3.5 writes it: the transition is there though it is 0.
    assert!(ConfChangeV2::decode(&Bytes::from_static(&[0x08, 0])).unwrap().leaves_joint());
}

#[test]
fn joint_changes_survive_the_round_trip() {
    let change = ConfChangeV2 {
        transition: ConfChangeTransition::JointExplicit,
        changes: vec![
            ConfChangeSingle { kind: ConfChangeKind::AddNode, node: MemberId(u64::MAX) },
            ConfChangeSingle { kind: ConfChangeKind::RemoveNode, node: MemberId(1) },
        ],
        context: Bytes::from_static(b"why"),
    };
    assert_eq!(ConfChangeV2::decode(&change.encode()), Ok(change));
}

#[test]
fn damaged_bytes_are_an_error() {
    for bad in [&[0x08][..], &[0x08, 0x80], &[0x22, 5, 1], &[0x10, 9], &[0x0f], &[0xff; 12]] {
        assert!(ConfChange::decode(&Bytes::from_static(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn every_byte_string_is_read_without_panic() {
    for a in 0..=255u8 {
        for b in 0..=255u8 {
            let data = Bytes::from(vec![a, b, 3, 1]);
            // Only that it returns matters.
            let _ = (ConfChange::decode(&data), ConfChangeV2::decode(&data));
        }
    }
}
