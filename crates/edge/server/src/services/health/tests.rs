//! When health says not serving.

use bytes::{Bytes, BytesMut};
use mainstay_proto::Message as _;
use mainstay_proto::health::{HealthCheckRequest, HealthCheckResponse};

use super::{Health, check};

/// What a check is told: 1 is serving, 2 is not.
fn told(health: &Health) -> i32 {
    let mut out = BytesMut::new();
    let request = Bytes::from(HealthCheckRequest::default().encode_to_vec());
    check(health, request, &mut out).expect("the one service");
    HealthCheckResponse::decode(out.freeze()).expect("a response").status
}

#[test]
fn a_defragmentation_counts_with_the_gate_only() {
    let health = Health::new(false);
    let held = health.defragmenting();
    assert_eq!(told(&health), 1);
    drop(held);
    let health = Health::new(true);
    let mut changes = health.reasons.subscribe();
    let (one, other) = (health.defragmenting(), health.defragmenting());
    assert_eq!(told(&health), 2);
    assert!(changes.has_changed().expect("its sender lives"), "watchers are told");
    changes.mark_unchanged();
    drop(one);
    assert_eq!(told(&health), 2, "another still runs");
    drop(other);
    assert_eq!(told(&health), 1);
    assert!(changes.has_changed().expect("its sender lives"));
}
