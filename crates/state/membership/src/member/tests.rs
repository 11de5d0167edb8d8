//! JSON goldens of members and configuration changes.

use super::*;

fn member() -> Member {
    Member {
        id: MemberId(3_319_814_642_761_637_952),
        peer_urls: vec!["http://127.0.0.1:23800".to_owned()],
        is_learner: false,
        name: "n<1>".to_owned(),
        client_urls: vec!["http://127.0.0.1:23790?a=1&b=2".to_owned()],
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn rows_are_gos_json() {
    let json = member().to_json();
    assert_eq!(
        text(&json),
        concat!(
            r#"{"id":3319814642761637952,"peerURLs":["http://127.0.0.1:23800"],"#,
            r#""name":"n\u003c1\u003e","clientURLs":["http://127.0.0.1:23790?a=1\u0026b=2"]}"#
        )
    );
    assert_eq!(Member::from_json(&json).unwrap(), member());
    let bare = Member { id: MemberId(1), is_learner: true, ..Member::default() };
    assert_eq!(text(&bare.to_json()), r#"{"id":1,"peerURLs":null,"isLearner":true}"#);
    assert_eq!(Member::from_json(&bare.to_json()).unwrap(), bare);
    assert!(Member::from_json(b"{\"id\":\"1\"}").is_err());
}

#[test]
fn downgrade_rows_are_gos_json() {
    let job = Downgrade { target: "3.6.0".to_owned(), enabled: true };
    assert_eq!(text(&job.to_json()), r#"{"target-version":"3.6.0","enabled":true}"#);
    assert_eq!(text(&Downgrade::default().to_json()), r#"{"target-version":"","enabled":false}"#);
}

#[test]
fn contexts_are_gos_json() {
    let added = Change::Add(Member { name: String::new(), client_urls: vec![], ..member() });
    let entry = added.encode(7);
    assert_eq!(
        text(entry.context.as_ref().unwrap()),
        r#"{"id":3319814642761637952,"peerURLs":["http://127.0.0.1:23800"],"isPromote":false}"#
    );
    assert_eq!(entry.r#type, Some(0));
    let promoted = Change::Promote(MemberId(5)).encode(8);
    assert_eq!(
        text(promoted.context.as_ref().unwrap()),
        r#"{"id":5,"peerURLs":null,"isPromote":true}"#
    );
    let updated = Change::UpdatePeerUrls(MemberId(5), vec!["http://a".to_owned()]).encode(9);
    assert_eq!(text(updated.context.as_ref().unwrap()), r#"{"id":5,"peerURLs":["http://a"]}"#);
    assert_eq!(Change::Remove(MemberId(5)).encode(10).context, None);
}

#[test]
fn changes_come_back_from_their_entries() {
    let learner = Member { is_learner: true, ..member() };
    for change in [
        Change::Add(member()),
        Change::Add(learner),
        Change::Promote(MemberId(9)),
        Change::Remove(MemberId(9)),
        Change::UpdatePeerUrls(MemberId(9), vec!["http://b".to_owned()]),
    ] {
        assert_eq!(Change::decode(&change.encode(1)).unwrap(), change);
    }
}

#[test]
fn a_real_first_entry_is_read() {
    // The first entry of etcd 3.5.16's log: written at bootstrap, without isPromote.
    let entry = ConfChange {
        r#type: Some(0),
        node_id: Some(3_319_814_642_761_637_952),
        context: Some(
            r#"{"id":3319814642761637952,"peerURLs":["http://127.0.0.1:23800"],"name":"n1"}"#
                .into(),
        ),
        id: Some(0),
    };
    let Change::Add(added) = Change::decode(&entry).unwrap() else { panic!("an addition") };
    assert_eq!(added.name, "n1");
}

#[test]
fn damage_is_named() {
    let mut entry = Change::Add(member()).encode(1);
    entry.node_id = Some(4);
    assert!(matches!(Change::decode(&entry), Err(ChangeError::OtherMember { .. })));
    entry.context = None;
    assert!(matches!(Change::decode(&entry), Err(ChangeError::Context { .. })));
    entry.r#type = Some(9);
    assert!(matches!(Change::decode(&entry), Err(ChangeError::UnknownType(9))));
}
