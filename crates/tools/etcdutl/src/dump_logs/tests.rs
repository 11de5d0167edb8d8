//! How entries are shown.

use mainstay_proto::etcdserverpb as pb;

use super::*;

fn normal(data: Vec<u8>) -> raftpb::Entry {
    raftpb::Entry { term: Some(3), index: Some(6), r#type: Some(0), data: Some(data.into()) }
}

fn show(entry: &raftpb::Entry) -> String {
    shown(entry, &What::of(entry))
}

#[test]
fn requests_of_the_v2_api_are_shown() {
    let request = |method: &str, path: &str, val: &str| pb::Request {
        id: Some(1),
        method: Some(method.into()),
        path: Some(path.into()),
        val: Some(val.into()),
        time: Some(1),
        ..Default::default()
    };
    let shown = |r: pb::Request| show(&normal(r.encode_to_vec()));
    assert_eq!(
        shown(request("PUT", "/0/version", "3.5.0")),
        "norm\tmethod=PUT path=\"/0/version\" val=\"3.5.0\""
    );
    assert_eq!(shown(request("QGET", "/path1", "")), "norm\tmethod=QGET path=\"/path1\"");
    let sync = "norm\tmethod=SYNC time=\"1970-01-01 00:00:00.000000001 +0000 UTC\"";
    assert_eq!(shown(request("SYNC", "", "")), sync);
    let long = "x".repeat(200);
    let want = format!("{}...{}", quote(&[b'x'; 64]), quote(&[b'x'; 64]));
    assert_eq!(shown(request("DELETE", &long, "")), format!("norm\tmethod=DELETE path={want}"));
}

#[test]
fn a_changed_password_is_not_shown() {
    let change = pb::InternalRaftRequest {
        id: 19,
        auth_user_change_password: Some(pb::AuthUserChangePasswordRequest {
            name: "name1".into(),
            password: "a\"b\\".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let want =
        "norm\tID:19 auth_user_change_password:<name:\"name1\" password:\"<value removed>\" > ";
    assert_eq!(show(&normal(change.encode_to_vec())), want);
}

#[test]
fn what_is_nothing_is_shown_as_such() {
    assert_eq!(show(&normal(b"?".to_vec())), "norm\t???");
    assert_eq!(show(&normal(Vec::new())), "norm\t");
    let conf = raftpb::Entry { r#type: Some(1), ..normal(b"?".to_vec()) };
    assert_eq!(show(&conf), "conf\t???");
}
