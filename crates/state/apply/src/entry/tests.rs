//! Entries as Go members and we write them.

use super::*;

fn normal(data: impl Into<Bytes>) -> Entry {
    Entry { term: Term(2), index: Index(9), kind: EntryKind::Normal, data: data.into() }
}

fn request(message: pb::InternalRaftRequest) -> Entry {
    normal(message.encode_to_vec())
}

fn v2(method: &str, path: &str, value: &str) -> pb::Request {
    // Go writes every scalar of this message.
    pb::Request {
        id: Some(77),
        method: Some(method.to_owned()),
        path: Some(path.to_owned()),
        val: Some(value.to_owned()),
        dir: Some(false),
        prev_value: Some(String::new()),
        prev_index: Some(0),
        expiration: Some(0),
        wait: Some(false),
        since: Some(0),
        recursive: Some(false),
        sorted: Some(false),
        quorum: Some(false),
        time: Some(0),
        stream: Some(false),
        ..Default::default()
    }
}

#[test]
fn requests_and_their_ids() {
    let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    let entry =
        request(pb::InternalRaftRequest { id: 5, put: Some(put.clone()), ..Default::default() });
    let decoded = decode(&entry).unwrap();
    assert_eq!((decoded.request_id, decoded.index, decoded.term), (5, Index(9), Term(2)));
    assert!(matches!(decoded.command, Command::Request(Request::Put(got)) if got == put));

    let header = pb::RequestHeader { id: 6, username: "u".into(), auth_revision: 1 };
    let entry = request(pb::InternalRaftRequest {
        header: Some(header),
        txn: Some(pb::TxnRequest::default()),
        ..Default::default()
    });
    let decoded = decode(&entry).unwrap();
    assert_eq!(decoded.request_id, 6);
    assert_eq!((decoded.who.user.as_str(), decoded.who.revision), ("u", 1));
    assert!(matches!(decoded.command, Command::Request(Request::Txn(_))));

    let decoded = decode(&normal(Bytes::new())).unwrap();
    assert!(matches!(decoded.command, Command::FirstOfTerm));
}

#[test]
fn the_field_numbers_are_the_protocols() {
    let one = |message: pb::InternalRaftRequest| match decode(&request(message)).unwrap().command {
        Command::Request(request) => format!("{request:?}"),
        other => panic!("{other:?}"),
    };
    let base = pb::InternalRaftRequest::default;
    macro_rules! check {
        ($($field:ident => $name:literal),* $(,)?) => {$(
            let text = one(pb::InternalRaftRequest {
                $field: Some(Default::default()), ..base()
            });
            assert!(text.starts_with($name), "{text}");
        )*};
    }
    check! {
        range => "Range", put => "Put", delete_range => "DeleteRange", txn => "Txn",
        compaction => "Compaction", lease_grant => "LeaseGrant", lease_revoke => "LeaseRevoke",
        alarm => "Alarm", lease_checkpoint => "LeaseCheckpoint",
        auth_enable => "Auth(auth_enable)", auth_disable => "Auth(auth_disable)",
        auth_status => "Auth(auth_status)", authenticate => "Auth(authenticate)",
        auth_user_add => "Auth(auth_user_add)", auth_user_delete => "Auth(auth_user_delete)",
        auth_user_get => "Auth(auth_user_get)",
        auth_user_change_password => "Auth(auth_user_change_password)",
        auth_user_grant_role => "Auth(auth_user_grant_role)",
        auth_user_revoke_role => "Auth(auth_user_revoke_role)",
        auth_user_list => "Auth(auth_user_list)", auth_role_list => "Auth(auth_role_list)",
        auth_role_add => "Auth(auth_role_add)", auth_role_delete => "Auth(auth_role_delete)",
        auth_role_get => "Auth(auth_role_get)",
        auth_role_grant_permission => "Auth(auth_role_grant_permission)",
        auth_role_revoke_permission => "Auth(auth_role_revoke_permission)",
        cluster_member_attr_set => "MemberAttributesSet",
        downgrade_info_set => "DowngradeInfoSet",
        downgrade_version_test => "DowngradeVersionTest",
    }
    let version = membershippb::ClusterVersionSetRequest { ver: "3.6.0".into() };
    let text = one(pb::InternalRaftRequest { cluster_version_set: Some(version), ..base() });
    assert!(text.starts_with("ClusterVersionSet"), "{text}");
}

#[test]
fn the_two_v2_requests_of_3_5_bare_and_wrapped() {
    let attributes = v2(
        "PUT",
        "/0/members/2e1259d415f2a040/attributes",
        r#"{"name":"n1","clientURLs":["http://127.0.0.1:23790"]}"#,
    );
    let version = v2("PUT", "/0/version", "3.5.0");
    let wrap = |inner: &pb::Request| {
        let inner = inner.encode_to_vec();
        let mut data = vec![8, 1, 0x12];
        mainstay_proto::prost::encoding::encode_varint(inner.len() as u64, &mut data);
        data.extend(inner);
        data
    };
    for data in [attributes.encode_to_vec(), wrap(&attributes)] {
        let decoded = decode(&normal(data)).unwrap();
        assert_eq!(decoded.request_id, 77);
        let Command::Request(Request::MemberAttributesSet(id, attributes)) = decoded.command else {
            panic!("attributes");
        };
        assert_eq!(id, MemberId(0x2e12_59d4_15f2_a040));
        assert_eq!((attributes.name.as_str(), attributes.client_urls.len()), ("n1", 1));
    }
    for data in [version.encode_to_vec(), wrap(&version)] {
        let command = decode(&normal(data)).unwrap().command;
        assert!(matches!(
            command,
            Command::Request(Request::ClusterVersionSet(v)) if v == Version::line(3, 5)
        ));
    }
}

#[test]
fn other_v2_requests_stop_the_member_by_name() {
    let conditional = pb::Request { prev_exist: Some(true), ..v2("PUT", "/0/version", "3.5.0") };
    for (request, name) in [
        (v2("PUT", "/1/key", "v"), "PUT \"/1/key\""),
        (v2("DELETE", "/1/key", ""), "DELETE \"/1/key\""),
        (v2("POST", "/1/key", ""), "POST"),
        (v2("SYNC", "", ""), "SYNC"),
        (v2("QGET", "/1", ""), "QGET"),
        (v2("PUT", "/0/members/zz/attributes", "{}"), "/0/members/zz"),
        (v2("PUT", "/0/version", "new"), "\"new\""),
        (conditional, "PUT \"/0/version\""),
    ] {
        let error = decode(&normal(request.encode_to_vec())).unwrap_err();
        let text = format!("{error}");
        assert!(text.contains(name) && text.contains("entry 9"), "{text}");
    }
}

#[test]
fn nonsense_stops_the_member() {
    for data in [&b"\xff\xff\xff"[..], b"\x1a\x05ab", b"\x08\x01", b"\x0b"] {
        assert!(decode(&normal(data)).is_err(), "{data:?}");
    }
    let joint = Entry { kind: EntryKind::ConfChangeV2, ..normal(Bytes::new()) };
    assert!(matches!(decode(&joint).unwrap_err().why, StopReason::ConfChangeV2));
    let unknown = [0xe2, 0x12, 0];
    let error = decode(&normal(unknown.to_vec())).unwrap_err().to_string();
    assert!(error.contains("300"), "{error}");
}

#[test]
fn configuration_changes_keep_what_raft_needs() {
    let change = Change::Remove(MemberId(4));
    let entry = Entry { kind: EntryKind::ConfChange, ..normal(change.encode(12).encode_to_vec()) };
    let decoded = decode(&entry).unwrap();
    assert_eq!(decoded.request_id, 12);
    let Command::ConfChange { kind, change: got, .. } = decoded.command else { panic!("change") };
    assert_eq!((kind, got), (ConfChangeKind::RemoveNode, change));
}
