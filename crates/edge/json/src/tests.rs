//! What etcd's gateway takes and gives, field by field.

use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb::KeyValue;
use mainstay_proto::shape::{Shape, call};
use prost::Message;

use crate::{Cut, ReadError, Values, read, write};

fn asked(path: &str) -> &'static Shape {
    call(path).expect("a call").request
}

fn answered(path: &str) -> &'static Shape {
    call(path).expect("a call").response
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

fn message<T: Message + Default>(path: &str, text: &str) -> Result<T, ReadError> {
    let bytes = read(asked(path), text.as_bytes(), 1 << 20)?;
    Ok(T::decode(&bytes[..]).expect("what was read is a message"))
}

fn refused(path: &str, text: &str) -> String {
    message::<pb::RangeRequest>(path, text).expect_err(text).to_string()
}

#[test]
fn integers_are_numbers_or_strings() {
    let limit = |text: &str| {
        let text = format!("{{\"limit\":{text}}}");
        message::<pb::RangeRequest>(RANGE, &text).map(|range| range.limit)
    };
    for (text, value) in [
        ("7", 7),
        ("\"7\"", 7),
        ("-3", -3),
        ("\"-3\"", -3),
        ("7.0", 7),
        ("7e2", 700),
        ("\"7e2\"", 700),
        ("0", 0),
        ("null", 0),
        ("9223372036854775807", i64::MAX),
        ("\"-9223372036854775808\"", i64::MIN),
    ] {
        assert_eq!(limit(text), Ok(value), "{text}");
    }
    let bad = [
        "7.5",
        "9223372036854775808",
        "\"9223372036854775808\"",
        "1e30",
        "1e999999999",
        "\" 7\"",
        "\"7 \"",
        "\"+7\"",
        "\"07\"",
        "\"\"",
        "\"x\"",
        "\"0x7\"",
        "true",
        "[]",
        "[7]",
        "{}",
    ];
    for text in bad {
        assert!(limit(text).is_err(), "{text}");
    }
    let hash = answered("/etcdserverpb.Maintenance/HashKV");
    assert!(read(hash, b"{\"hash\":4294967295}", 100).is_ok());
    assert!(read(hash, b"{\"hash\":4294967296}", 100).is_err());
    assert!(read(hash, b"{\"hash\":-1}", 100).is_err());
}

#[test]
fn bytes_are_base64_of_either_alphabet() {
    let key = |text: &str| {
        let text = format!("{{\"key\":\"{text}\"}}");
        message::<pb::RangeRequest>(RANGE, &text).map(|range| range.key.to_vec())
    };
    assert_eq!(key(""), Ok(vec![]));
    assert_eq!(key("Zm9v"), Ok(b"foo".to_vec()));
    assert_eq!(key("Zm8="), Ok(b"fo".to_vec()));
    assert_eq!(key("Zg=="), Ok(b"f".to_vec()));
    assert_eq!(key("Zm8"), Ok(b"fo".to_vec()));
    assert_eq!(key("Zg"), Ok(b"f".to_vec()));
    assert_eq!(key("+/+/"), Ok(vec![0xfb, 0xff, 0xbf]));
    assert_eq!(key("-_-_"), Ok(vec![0xfb, 0xff, 0xbf]));
    assert_eq!(key("\\u005am9v"), Ok(b"foo".to_vec()), "escapes are undone first");
    for bad in
        ["Z", "Zg=", "Zg===", "Z===", "====", "Zm9v=", "Zg==Zg==", "Zm!v", "+_+_", "Zm9vZ", "é"]
    {
        assert!(key(bad).is_err(), "{bad}");
    }
    for len in 0..50 {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 37 + 11) as u8).collect();
        let mut text = Vec::new();
        crate::base64_encode(&bytes, &mut text);
        assert_eq!(key(std::str::from_utf8(&text).expect("text")), Ok(bytes));
    }
}

#[test]
fn enumerations_are_names_or_numbers() {
    let range = |text: &str| message::<pb::RangeRequest>(RANGE, text).expect(text);
    assert_eq!(range(r#"{"sort_order":"DESCEND"}"#).sort_order, 2);
    assert_eq!(range(r#"{"sortOrder":1,"sortTarget":"MOD"}"#).sort_target, 3);
    assert_eq!(range(r#"{"sort_order":77}"#).sort_order, 77);
    // etcd discards what it does not know, and a name is nothing but that.
    assert_eq!(range(r#"{"sort_order":"UPWARD"}"#).sort_order, 0);
    assert!(!refused(RANGE, r#"{"sort_order":true}"#).is_empty());
    assert!(!refused(RANGE, r#"{"sort_order":4294967296}"#).is_empty());
    let text = r#"{"create_request":{"key":"YQ==","filters":["NODELETE",0,"?"]}}"#;
    let watch: pb::WatchRequest = message(WATCH, text).expect("a watch");
    let Some(pb::watch_request::RequestUnion::CreateRequest(create)) = watch.request_union else {
        panic!("a watch to create");
    };
    assert_eq!(create.filters, [1, 0]);
}

#[test]
fn unknown_fields_are_passed_over_whatever_they_hold() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for unknown in ["1", "\"x\"", "null", "[1,{}]", "{\"a\":{\"b\":[]}}", "1e999", &deep] {
        let text = format!("{{\"nope\":{unknown},\"key\":\"YQ==\",\"[ext]\":1}}");
        let range: pb::RangeRequest = message(RANGE, &text).expect("passed over");
        assert_eq!(&range.key[..], b"a");
    }
}

#[test]
fn fields_may_not_be_given_twice() {
    assert!(refused(PUT, r#"{"key":"YQ==","key":"YQ=="}"#).contains("duplicate field"));
    assert!(refused(RANGE, r#"{"range_end":"YQ==","rangeEnd":"YQ=="}"#).contains("duplicate"));
    assert!(message::<pb::PutRequest>(PUT, r#"{"key":null,"key":"YQ=="}"#).is_ok());
    let two = r#"{"compare":[{"version":"0","value":"YQ=="}]}"#;
    assert!(refused(TXN, two).contains("oneof"));
    let zero = r#"{"compare":[{"key":"YQ==","version":"0"}]}"#;
    let txn: pb::TxnRequest = message(TXN, zero).expect("a transaction");
    let union = &txn.compare[0].target_union;
    assert_eq!(union, &Some(pb::compare::TargetUnion::Version(0)), "zero, and there");
}

#[test]
fn other_texts_are_refused() {
    for text in [
        "",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{",
        "{]",
        "{\"key\"}",
        "{\"key\":}",
        "{key:1}",
        "{} x",
        "{\"key\":\"\\ud800\"}",
        "{\"key\":\"\u{1}\"}",
        "{\"key\":\"\\x\"}",
        "{\"key\":7}",
        "{\"key\":[\"YQ==\"]}",
        "{\"keys_only\":\"true\"}",
        "{\"keys_only\":1}",
        "{\"limit\":NaN}",
        "{\"key\":\"YQ==\",}",
        "{,}",
        "{\"a\":01}",
    ] {
        assert!(!refused(RANGE, text).is_empty(), "{text}");
    }
    for text in [
        "{\"compare\":{}}",
        "{\"compare\":[null]}",
        "{\"compare\":[[]]}",
        "{\"compare\":\"\"}",
        "{\"success\":[{\"request_put\":[]}]}",
        "{\"success\":[{\"request_put\":\"\"}]}",
    ] {
        assert!(!refused(TXN, text).is_empty(), "{text}");
    }
    let not_utf8 = b"{\"key\":\"\xff\"}";
    assert!(read(asked(RANGE), not_utf8, 100).is_err());
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |levels: usize| {
        let head = r#"{"success":[{"request_txn":"#.repeat(levels);
        format!("{head}{{}}{}", "}]}".repeat(levels))
    };
    assert!(message::<pb::TxnRequest>(TXN, &nested(40)).is_ok());
    assert!(refused(TXN, &nested(50)).contains("recursion"));
    assert!(refused(TXN, &nested(100_000)).contains("recursion"));
    let long = format!("{{\"key\":\"{}\"}}", "QUFB".repeat(100));
    let shape = asked(RANGE);
    let len = read(shape, long.as_bytes(), 1000).expect("short enough").len();
    assert_eq!(len, 303);
    assert!(read(shape, long.as_bytes(), len).is_ok());
    assert_eq!(read(shape, long.as_bytes(), len - 1), Err(ReadError::TooLong { max: len - 1 }));
    // What is short as text may be long as a message.
    let filters = vec!["-1"; 1000].join(",");
    let text = format!("{{\"create_request\":{{\"filters\":[{filters}]}}}}");
    let read = read(asked(WATCH), text.as_bytes(), text.len());
    assert_eq!(read, Err(ReadError::TooLong { max: text.len() }));
}

fn told(path: &str, message: &impl Message) -> String {
    let mut out = Vec::new();
    write(answered(path), &message.encode_to_vec(), &mut out).expect("a message");
    String::from_utf8(out).expect("text")
}

#[test]
fn answers_leave_zeros_out_and_quote_long_integers() {
    let header = |revision| {
        Some(pb::ResponseHeader { cluster_id: u64::MAX, member_id: 1, revision, raft_term: 0 })
    };
    let kv = KeyValue {
        key: "foo".into(),
        create_revision: 2,
        mod_revision: 3,
        version: 1,
        value: vec![0xfb, 0xff].into(),
        lease: -1,
    };
    let range = pb::RangeResponse {
        header: header(3),
        kvs: vec![kv.clone(), KeyValue::default()],
        more: true,
        count: 2,
    };
    assert_eq!(
        told(RANGE, &range),
        concat!(
            r#"{"header":{"cluster_id":"18446744073709551615","member_id":"1","revision":"3"},"#,
            r#""kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"3","version":"1","#,
            r#""value":"+/8=","lease":"-1"},{}],"more":true,"count":"2"}"#
        )
    );
    assert_eq!(told(PUT, &pb::PutResponse::default()), "{}");
    let hash = pb::HashKvResponse { hash: 4_000_000_000, ..Default::default() };
    assert_eq!(told("/etcdserverpb.Maintenance/HashKV", &hash), r#"{"hash":4000000000}"#);
    let event = |kind| mainstay_proto::mvccpb::Event { r#type: kind, kv: None, prev_kv: None };
    let events = pb::WatchResponse {
        events: vec![event(0), event(1), event(9)],
        cancel_reason: "a\"b\\\n\u{1}é".into(),
        ..Default::default()
    };
    assert_eq!(
        told(WATCH, &events),
        r#"{"cancel_reason":"a\"b\\\n\u0001é","events":[{},{"type":"DELETE"},{"type":9}]}"#
    );
    let members = pb::MemberListResponse {
        members: vec![pb::Member {
            id: 5,
            peer_ur_ls: vec!["http://a".into()],
            ..Default::default()
        }],
        header: header(0),
    };
    let text = told("/etcdserverpb.Cluster/MemberList", &members);
    assert!(text.ends_with(r#""members":[{"ID":"5","peerURLs":["http://a"]}]}"#), "{text}");
    let cut = &kv.encode_to_vec()[..4];
    assert!(write(answered(RANGE), cut, &mut Vec::new()).is_err());
}

#[test]
fn what_is_written_is_read_again() {
    let put = pb::PutRequest {
        key: "k".into(),
        value: (0..=255u8).collect::<Vec<_>>().into(),
        lease: i64::MIN,
        prev_kv: true,
        ..Default::default()
    };
    let (mut text, shape) = (Vec::new(), asked(PUT));
    write(shape, &put.encode_to_vec(), &mut text).expect("a message");
    assert_eq!(read(shape, &text, 1000).expect("what was written"), put.encode_to_vec());
}

#[test]
fn a_stream_is_cut_at_the_ends_of_objects() {
    let text = " {\"a\":\"}\\\"{\"}\n{}[";
    for step in 1..text.len() {
        let mut values = Values::default();
        let mut found = Vec::new();
        'pieces: for piece in text.as_bytes().chunks(step) {
            values.add(piece);
            loop {
                match values.cut() {
                    Cut::Object(object) => {
                        found.push(String::from_utf8_lossy(&object).into_owned())
                    }
                    Cut::More { .. } => break,
                    Cut::Other => {
                        found.push("?".into());
                        break 'pieces;
                    }
                }
            }
        }
        assert_eq!(found, ["{\"a\":\"}\\\"{\"}", "{}", "?"], "{step}");
    }
    let mut values = Values::default();
    values.add(b" \n");
    assert_eq!(values.cut(), Cut::More { begun: false });
    assert_eq!(values.waiting(), 0);
    values.add(b"{");
    assert_eq!(values.cut(), Cut::More { begun: true });
}
