//! What clients of the gateway send: texts of JSON, one after another, in pieces of any size.
//!
//! The first byte says which call they are for, the second how long the pieces are. What is
//! cut out of them does not depend on the pieces; what is read is written and read again as
//! the same message.

use mainstay_json::{Cut, Values, read, write};
use mainstay_proto::shape::{Shape, call};

use crate::Target;
use crate::pieces::Kind;

pub(crate) const TARGET: Target = Target { name: "json", seeds, run };

/// Calls whose requests have every kind of field.
const CALLS: [&str; 8] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Auth/RoleGrantPermission",
    "/etcdserverpb.Maintenance/Alarm",
];
/// Bound of a message that mutations can reach.
const MESSAGE_BYTES_MAX: usize = 4_096;

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        (
            0,
            r#"{"key":"YQ==","range_end":"-_8","limit":"7","sort_order":"DESCEND","keys_only":true}"#,
        ),
        (1, r#"{"key":"a2V5","value":"\u0059Q==","lease":1e2,"prev_kv":false}{"key":null}"#),
        (
            2,
            r#"{"compare":[{"key":"YQ==","target":"MOD","mod_revision":-1.0e1}],"success":
            [{"request_txn":{"failure":[{"request_put":{"key":"YQ==","lease":12}}]}}]}"#,
        ),
        (3, r#"{"revision":"9223372036854775807","physical":true}"#),
        (
            4,
            r#"{"create_request":{"key":"YQ==","filters":["NODELETE",1],"progress_notify":false},
            "x":[{"y":null}]} {"cancel_request":{"watch_id":1}}"#,
        ),
        (5, r#"{"TTL":-1,"ID":"0"}"#),
        (6, r#"{"name":"r\ud83d\ude00","perm":{"permType":"READWRITE","key":"AA=="}}"#),
        (7, r#"{"action":"ACTIVATE","memberID":"18446744073709551615","alarm":"NOSPACE"}"#),
    ];
    let deep = format!("{}{}", r#"{"success":[{"request_txn":"#.repeat(60), "{}".repeat(3));
    let seed = |(call, text): (u8, &str)| [&[call, 7], text.as_bytes()].concat();
    texts.into_iter().map(seed).chain([seed((2, &deep))]).collect()
}

fn run(input: &[u8]) -> u64 {
    let Some((&[which, piece], text)) = input.split_first_chunk() else { return 0 };
    let which = usize::from(which) % CALLS.len();
    let shape = call(CALLS[which]).expect("a call of the API").request;
    let mut kind = Kind::default();
    kind.add(which as u64);
    let objects = cut(text, text.len().max(1));
    assert_eq!(objects, cut(text, usize::from(piece).max(1)), "whatever the pieces");
    for object in &objects {
        match object {
            None => kind.add(1),
            Some(object) => one(shape, object, &mut kind),
        }
    }
    kind.end()
}

/// The objects of a text, and `None` behind them when there is something else.
fn cut(text: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
    let (mut values, mut found) = (Values::default(), Vec::new());
    for piece in text.chunks(piece) {
        values.add(piece);
        loop {
            match values.cut() {
                Cut::Object(object) => found.push(Some(object.to_vec())),
                Cut::More { .. } => break,
                Cut::Other => {
                    found.push(None);
                    return found;
                }
            }
        }
        assert!(values.waiting() <= text.len(), "it holds what came");
    }
    found
}

fn one(shape: &'static Shape, text: &[u8], kind: &mut Kind) {
    match read(shape, text, MESSAGE_BYTES_MAX) {
        Err(error) => kind.add_text(&error.to_string()),
        Ok(message) => {
            assert!(message.len() <= MESSAGE_BYTES_MAX);
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            write(shape, &message, &mut once).expect("what was read is a message");
            let again = read(shape, &once, MESSAGE_BYTES_MAX).expect("what was written is read");
            write(shape, &again, &mut twice).expect("what was read is a message");
            assert_eq!(once, twice);
            kind.add_size(message.len());
        }
    }
}
