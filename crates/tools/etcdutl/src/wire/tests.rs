//! The table against the `.proto` files, and messages as etcd prints them.

use std::collections::BTreeMap;
use std::path::Path;

use mainstay_proto::{Message as _, etcdserverpb as pb};

use super::*;

/// Fields by message and number: (name, type), from the `.proto` files. Nested messages
/// go by their full name.
fn declared() -> BTreeMap<(String, u64), (String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../base/proto/proto");
    let mut fields = BTreeMap::new();
    for file in std::fs::read_dir(folder).expect("the protos are there") {
        let text = std::fs::read_to_string(file.expect("entry").path()).expect("text");
        let mut package = String::new();
        let mut open: Vec<String> = Vec::new();
        for line in text.lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
            match words.as_slice() {
                ["package", name] => package = (*name).to_owned(),
                ["message" | "enum", name, "{"] => open.push((*name).to_owned()),
                ["oneof", _, "{"] | ["service", _, "{"] => open.push(String::new()),
                [.., "{"] => open.push(String::new()),
                ["}"] => {
                    open.pop();
                }
                words if words.contains(&"=") => {
                    let at = words.iter().position(|word| *word == "=").expect("it is there");
                    let number = words.get(at + 1).map_or("", |n| n.trim_end_matches(';'));
                    let (Some([kind, name]), Ok(number)) =
                        (at.checked_sub(2).and_then(|from| words.get(from..at)), number.parse())
                    else {
                        continue;
                    };
                    let path: Vec<&str> =
                        open.iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
                    let message = format!("{package}.{}", path.join("."));
                    fields.insert((message, number), ((*name).to_owned(), (*kind).to_owned()));
                }
                _ => {}
            }
        }
    }
    fields
}

fn compare(
    shape: &'static Shape,
    declared: &BTreeMap<(String, u64), (String, String)>,
    seen: &mut Vec<&'static str>,
) {
    if seen.contains(&shape.name) {
        return;
    }
    seen.push(shape.name);
    let of_message = declared.keys().filter(|(message, _)| message == shape.name).count();
    let extra = usize::from(shape.name == "etcdserverpb.InternalRaftRequest");
    assert_eq!(shape.fields.len(), of_message + extra, "{}", shape.name);
    for field in shape.fields {
        if field.name == "v2" {
            continue;
        }
        let (name, kind) = &declared[&(shape.name.to_owned(), field.number)];
        assert_eq!(field.name, name, "{}", shape.name);
        let fits = match field.kind {
            Kind::Int => kind == "int64" || kind == "int32",
            Kind::Uint => kind == "uint64" || kind == "uint32",
            Kind::Bool => kind == "bool",
            Kind::Text => kind == "string",
            Kind::Bytes => kind == "bytes",
            Kind::Enum(_) => kind.starts_with(char::is_uppercase) || kind.contains('.'),
            Kind::Message(inner) => {
                compare(inner, declared, seen);
                inner.name.ends_with(kind.rsplit('.').next().unwrap_or_default())
            }
        };
        assert!(fits, "{}.{} is a {kind}", shape.name, field.name);
    }
}

#[test]
fn the_table_is_that_of_the_protos() {
    let declared = declared();
    let mut seen = Vec::new();
    for shape in
        [&INTERNAL_RAFT_REQUEST, &REQUEST, &METADATA, &HARD_STATE, &CONF_CHANGE, &CONF_CHANGE_V2]
    {
        compare(shape, &declared, &mut seen);
    }
    assert!(seen.len() > 40, "{} messages", seen.len());
}

#[test]
fn requests_print_as_in_etcd() {
    let put = pb::InternalRaftRequest {
        id: 6,
        put: Some(pb::PutRequest {
            key: "foo1".into(),
            value: "bar1".into(),
            lease: 1,
            ignore_lease: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    let want = "ID:6 put:<key:\"foo1\" value:\"bar1\" lease:1 ignore_lease:true > ";
    assert_eq!(text(&INTERNAL_RAFT_REQUEST, &put.encode_to_vec()).as_deref(), Some(want));
    assert_eq!(text(&INTERNAL_RAFT_REQUEST, &[]).as_deref(), Some(""));
    assert_eq!(text(&INTERNAL_RAFT_REQUEST, b"?"), None);
    let empty = pb::InternalRaftRequest {
        auth_enable: Some(pb::AuthEnableRequest {}),
        ..Default::default()
    };
    assert_eq!(
        text(&INTERNAL_RAFT_REQUEST, &empty.encode_to_vec()).as_deref(),
        Some("auth_enable:<> ")
    );
}

#[test]
fn endless_nesting_is_not_followed() {
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        // success:<request_txn:<..> >
        for tag in [0x22_u8, 0x12] {
            let mut outer = vec![tag];
            let mut len = bytes.len();
            while len >= 0x80 {
                outer.push(len as u8 | 0x80);
                len >>= 7;
            }
            outer.push(len as u8);
            outer.extend_from_slice(&bytes);
            bytes = outer;
            if bytes.len() > 40_000 {
                break;
            }
        }
        if bytes.len() > 40_000 {
            break;
        }
    }
    assert_eq!(
        text(&INTERNAL_RAFT_REQUEST, &[&[0x32, 0xc0, 0xb8, 0x02][..], &bytes].concat()),
        None
    );
}

#[test]
fn quotes_are_protobufs() {
    assert_eq!(escaped(b"a\"\\\n\x00\xff"), "\"a\\\"\\\\\\n\\000\\377\"");
}
