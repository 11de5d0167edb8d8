//! The v2 store against one that etcd 3.5.16 wrote.

use serde_json::Value;

use super::*;
use crate::Change;

/// The store inside the first `.snap` of `etcd --snapshot-count 10`, 3.5.16.
const REAL: &str = include_str!("../../tests/data/etcd-3.5.16-v2.json");

fn real_membership() -> Membership {
    let mut membership = Membership::new([Member {
        id: MemberId(0x2e12_59d4_15f2_a040),
        peer_urls: vec!["http://127.0.0.1:23800".to_owned()],
        is_learner: false,
        name: "n1".to_owned(),
        client_urls: vec!["http://127.0.0.1:23790".to_owned()],
    }]);
    membership.set_version(Version::line(3, 5));
    membership
}

#[test]
fn a_real_store_is_read() {
    let snapshot = V2Snapshot::parse(REAL.as_bytes()).unwrap();
    assert_eq!(snapshot, V2Snapshot { membership: real_membership(), has_v2_keys: false });
}

#[test]
fn what_we_write_is_a_real_store_without_its_statistics() {
    let json = real_membership().to_v2_json();
    let text = String::from_utf8(json).unwrap();
    // The root, byte for byte, as the real one wrote it.
    let root_end = REAL.find(",\"WatcherHub\"").unwrap();
    assert!(text.starts_with(&REAL[..root_end]), "{text}");
    assert_eq!(&text[root_end..], ",\"CurrentIndex\":3,\"CurrentVersion\":2}");
    let real: Value = serde_json::from_str(REAL).unwrap();
    assert_eq!(real["CurrentIndex"], 3);
}

#[test]
fn learners_removed_and_unpublished_members_survive_the_round_trip() {
    let mut membership = real_membership();
    let learner = Member {
        id: MemberId(0xab),
        peer_urls: vec!["http://l:1?x=<&>".to_owned()],
        is_learner: true,
        ..Member::default()
    };
    membership.apply(Change::Add(learner));
    membership.apply(Change::Add(Member { id: MemberId(5), ..Member::default() }));
    membership.apply(Change::Remove(MemberId(5)));
    let json = membership.to_v2_json();
    assert_eq!(V2Snapshot::parse(&json).unwrap().membership, membership);
    let text = String::from_utf8(json).unwrap();
    // Escaped once as a value of its own, and once more as a string in the store.
    assert!(text.contains(r#"http://l:1?x=\\u003c\\u0026\\u003e"#), "{text}");
    assert!(text.contains(r#""removed_members":{"Path":"/0/removed_members","CreatedIndex":4"#));
    let empty = String::from_utf8(Membership::default().to_v2_json()).unwrap();
    assert!(empty.contains(r#""0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}}"#));
}

#[test]
fn v2_keys_are_noticed_and_damage_is_named() {
    let store = |children: &str| format!(r#"{{"Root":{{"Children":{children}}}}}"#);
    let keys = |children: &str| V2Snapshot::parse(store(children).as_bytes()).unwrap().has_v2_keys;
    assert!(!keys(r#"{"1":{"Children":{}}}"#));
    assert!(keys(r#"{"1":{"Children":{"a":{"Value":"v"}}}}"#));
    assert!(!keys(r#"{"2":{"Children":{"users":{"Children":{}},"enabled":{"Value":"false"}}}}"#));
    assert!(keys(r#"{"2":{"Children":{"users":{"Children":{"root":{}}}}}}"#));
    for (children, path) in [
        (r#"{"0":{"Children":{"members":{"Children":{"xyz":{}}}}}}"#, "/0/members/xyz"),
        (r#"{"0":{"Children":{"members":{"Children":{"a":{}}}}}}"#, "raftAttributes"),
        (
            r#"{"0":{"Children":{"members":{"Children":{"a":{"Children":{"b":{}}}}}}}}"#,
            "/0/members/a/b",
        ),
        (r#"{"0":{"Children":{"version":{"Value":"x"}}}}"#, "/0/version"),
    ] {
        let error = V2Snapshot::parse(store(children).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");
    }
    assert!(V2Snapshot::parse(b"{").is_err());
}
