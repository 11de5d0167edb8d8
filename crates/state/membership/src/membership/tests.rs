//! Validation at apply (semantics 8.6) and loading from rows.

use super::*;

fn member(id: u64, learner: bool) -> Member {
    Member {
        id: MemberId(id),
        peer_urls: vec![format!("http://m{id}:2380")],
        is_learner: learner,
        name: format!("m{id}"),
        client_urls: vec![],
    }
}

fn cluster() -> Membership {
    let mut cluster = Membership::new([member(1, false), member(2, false), member(3, true)]);
    cluster.apply(Change::Remove(MemberId(2)));
    cluster
}

#[test]
fn changes_are_refused_in_etcds_order() {
    let cluster = cluster();
    let check = |change: Change| cluster.validate(&change, 1);
    let clash = Member { id: MemberId(9), ..member(3, true) };
    assert_eq!(check(Change::Add(member(2, false))), Err(ValidateError::IdRemoved));
    assert_eq!(check(Change::Remove(MemberId(2))), Err(ValidateError::IdRemoved));
    assert_eq!(check(Change::Add(member(1, false))), Err(ValidateError::IdExists));
    assert_eq!(check(Change::Add(clash)), Err(ValidateError::PeerUrlExists));
    assert_eq!(check(Change::Add(member(4, true))), Err(ValidateError::TooManyLearners));
    assert_eq!(cluster.validate(&Change::Add(member(4, true)), 2), Ok(()));
    assert_eq!(check(Change::Add(member(4, false))), Ok(()));
    assert_eq!(check(Change::Remove(MemberId(4))), Err(ValidateError::IdNotFound));
    assert_eq!(check(Change::Promote(MemberId(4))), Err(ValidateError::IdNotFound));
    assert_eq!(check(Change::Promote(MemberId(1))), Err(ValidateError::NotLearner));
    assert_eq!(check(Change::Promote(MemberId(3))), Ok(()));
    let update = |id, url: &str| Change::UpdatePeerUrls(MemberId(id), vec![url.to_owned()]);
    assert_eq!(check(update(4, "http://x")), Err(ValidateError::IdNotFound));
    assert_eq!(check(update(1, "http://m3:2380")), Err(ValidateError::PeerUrlExists));
    assert_eq!(check(update(1, "http://m1:2380")), Ok(()), "its own URL is free to it");
}

#[test]
fn changes_change_what_they_say() {
    let mut cluster = cluster();
    assert_eq!(cluster.voters(), [MemberId(1)]);
    assert_eq!(cluster.learners(), [MemberId(3)]);
    cluster.apply(Change::Promote(MemberId(3)));
    assert_eq!(cluster.voters(), [MemberId(1), MemberId(3)]);
    cluster.apply(Change::UpdatePeerUrls(MemberId(3), vec!["http://y".to_owned()]));
    assert_eq!(cluster.member(MemberId(3)).unwrap().peer_urls, ["http://y"]);
    assert_eq!(cluster.member(MemberId(3)).unwrap().name, "m3");
    let published = Attributes { name: "n".to_owned(), client_urls: vec!["c".to_owned()] };
    let changed = cluster.update_attributes(MemberId(1), published.clone()).unwrap().unwrap();
    assert_eq!((changed.name.as_str(), changed.client_urls.len()), ("n", 1));
    assert_eq!(cluster.update_attributes(MemberId(2), published.clone()), Ok(None));
    assert_eq!(
        cluster.update_attributes(MemberId(77), published),
        Err(UpdateAttributesError(MemberId(77)))
    );
}

#[test]
fn rows_load_and_damage_is_named() {
    let mut cluster = Membership::default();
    cluster.load_member(b"1", &member(1, false).to_json()).unwrap();
    cluster.load_removed(b"2e1259d415f2a040").unwrap();
    cluster.load_version(b"3.5.0").unwrap();
    cluster.load_downgrade(br#"{"target-version":"3.5.0","enabled":true}"#).unwrap();
    assert_eq!(cluster.members().collect::<Vec<_>>(), [&member(1, false)]);
    assert!(cluster.is_removed(MemberId(0x2e12_59d4_15f2_a040)));
    assert_eq!(cluster.version(), Some(Version::line(3, 5)));
    assert!(cluster.downgrade().enabled);
    let error = cluster.load_member(b"zz", b"{}").unwrap_err().to_string();
    assert!(error.contains("\"zz\"") && error.contains("members"), "{error}");
    let error = cluster.load_member(b"a", b"{").unwrap_err().to_string();
    assert!(error.contains("\"a\""), "{error}");
    assert!(cluster.load_version(b"new").is_err());
}
