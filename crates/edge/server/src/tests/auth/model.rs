//! Random questions through the real API, beside a model that any reader can check: a
//! permission is a list of intervals, and what is asked must lie within their union.
//! `MAINSTAY_PERMISSION_QUESTIONS` says how many.

use mainstay_proto::authpb::permission::Type;
use mainstay_proto::etcdserverpb as pb;
use pb::request_op::Request as Op;

use super::super::client::{Client, run};
use super::super::real::put;
use super::*;
use crate::errors::PERMISSION_DENIED;

/// Beyond every key.
const TOP: [u8; 1] = [0xff];

/// Keys from the first on, and before the second.
type Interval = (Vec<u8>, Vec<u8>);

/// What a key and an end on the wire mean.
fn interval(key: &str, end: &str) -> Interval {
    let key = key.as_bytes().to_vec();
    let end = match end.as_bytes() {
        [] => [&key[..], &[0]].concat(),
        [0] => TOP.to_vec(),
        end => end.to_vec(),
    };
    (key, end)
}

/// Whether every key of `asked` is in one of the intervals: they are walked from its
/// beginning as far as they reach.
fn within(granted: &[Interval], asked: &Interval) -> bool {
    let mut reached = asked.0.clone();
    while reached < asked.1 {
        let further = granted.iter().filter(|one| one.0 <= reached && reached < one.1);
        match further.map(|one| &one.1).max() {
            Some(end) => reached = end.clone(),
            None => return false,
        }
    }
    true
}

/// Questions that a test's patience is enough for.
const AT_ONCE: u64 = 10_000;

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn key(&mut self) -> String {
        let length = 1 + self.below(2);
        (0..length).map(|_| char::from(b'a' + self.below(4) as u8)).collect()
    }

    /// A key and an end that make sense.
    fn range(&mut self) -> (String, String) {
        match self.below(4) {
            0 => (self.key(), String::new()),
            1 => (self.key(), "\0".to_owned()),
            _ => {
                let (one, other) = (self.key(), self.key());
                if one == other {
                    (one, String::new())
                } else {
                    (one.clone().min(other.clone()), one.max(other))
                }
            }
        }
    }
}

/// What is granted: the permission's kind and its place.
#[derive(Default)]
struct Model(Vec<(Type, String, String)>);

impl Model {
    fn allows(&self, kind: Type, key: &str, end: &str) -> bool {
        let granted = self.0.iter().filter(|one| one.0 == kind || one.0 == Type::Readwrite);
        let granted: Vec<Interval> = granted.map(|one| interval(&one.1, &one.2)).collect();
        within(&granted, &interval(key, end))
    }

    /// Grants something, or takes something back; at most twelve at a time.
    async fn change(&mut self, dice: &mut Dice, client: &Client, root: &str) {
        if !self.0.is_empty() && (self.0.len() > 12 || dice.below(3) == 0) {
            let (_, key, end) = self.0.swap_remove(dice.below(self.0.len() as u64) as usize);
            let revoke = pb::AuthRoleRevokePermissionRequest {
                role: "r".into(),
                key: key.into(),
                range_end: end.into(),
            };
            change(client, root, "RoleRevokePermission", &revoke).await;
            return;
        }
        let (key, end) = dice.range();
        // Two with one key are semantics 11.6, and another test's.
        if self.0.iter().any(|one| one.1 == key) {
            return;
        }
        let kind = [Type::Read, Type::Write, Type::Readwrite][dice.below(3) as usize];
        grant(client, root, "r", permission(kind, &key, &end)).await;
        self.0.push((kind, key, end));
    }
}

/// One question: the path, the message, and whether the model allows it.
fn question(dice: &mut Dice, model: &Model) -> (&'static str, Vec<u8>, bool) {
    let (key, end) = dice.range();
    let wire = |text: &str| Bytes::from(text.to_owned());
    let (reads, writes) =
        (model.allows(Type::Read, &key, &end), model.allows(Type::Write, &key, &end));
    let range = pb::RangeRequest {
        key: wire(&key),
        range_end: wire(&end),
        serializable: dice.below(2) == 0,
        count_only: dice.below(2) == 0,
        ..Default::default()
    };
    let delete =
        |prev_kv| pb::DeleteRangeRequest { key: wire(&key), range_end: wire(&end), prev_kv };
    let prev_kv = dice.below(2) == 0;
    match dice.below(5) {
        0 => ("/etcdserverpb.KV/Range", range.encode_to_vec(), reads),
        1 => ("/etcdserverpb.KV/RangeStream", range.encode_to_vec(), reads),
        2 => {
            let allowed = writes && (!prev_kv || reads);
            ("/etcdserverpb.KV/DeleteRange", delete(prev_kv).encode_to_vec(), allowed)
        }
        3 => {
            let allowed = model.allows(Type::Write, &key, "")
                && (!prev_kv || model.allows(Type::Read, &key, ""));
            let put = pb::PutRequest { prev_kv, ..put(&key, "v") };
            ("/etcdserverpb.KV/Put", put.encode_to_vec(), allowed)
        }
        _ => nested(dice, model, range, delete(false), (reads, writes)),
    }
}

/// The same, some transactions deep, in a branch that is taken or not.
fn nested(
    dice: &mut Dice,
    model: &Model,
    range: pb::RangeRequest,
    delete: pb::DeleteRangeRequest,
    (reads, writes): (bool, bool),
) -> (&'static str, Vec<u8>, bool) {
    let compared = dice.key();
    let compares = dice.below(3) == 0;
    let compare = pb::Compare {
        key: compared.clone().into(),
        target: pb::compare::CompareTarget::Version.into(),
        target_union: Some(pb::compare::TargetUnion::Version(0)),
        ..Default::default()
    };
    let (op, mut allowed) = if dice.below(2) == 0 {
        (Op::RequestRange(range), reads)
    } else {
        (Op::RequestDeleteRange(delete), writes)
    };
    let mut op = pb::RequestOp { request: Some(op) };
    for _ in 0..dice.below(4) {
        let mut txn = pb::TxnRequest::default();
        if dice.below(2) == 0 { &mut txn.success } else { &mut txn.failure }.push(op);
        op = pb::RequestOp { request: Some(Op::RequestTxn(txn)) };
    }
    let mut txn = pb::TxnRequest::default();
    if compares {
        allowed &= model.allows(Type::Read, &compared, "");
        txn.compare.push(compare);
    }
    if dice.below(2) == 0 { &mut txn.success } else { &mut txn.failure }.push(op);
    ("/etcdserverpb.KV/Txn", txn.encode_to_vec(), allowed)
}

#[test]
fn random_questions_are_answered_as_the_model_answers_them() {
    let variable = std::env::var("MAINSTAY_PERMISSION_QUESTIONS").ok();
    let questions: u64 = variable.and_then(|text| text.parse().ok()).unwrap_or(4000);
    let member = member("auth-model");
    let (root, token) = run(async {
        let client = Client::connect(&member.address).await;
        let root = enable(&client).await;
        add_user(&client, &root, "u").await;
        change(&client, &root, "RoleAdd", &pb::AuthRoleAddRequest { name: "r".into() }).await;
        give(&client, &root, "u", "r").await;
        let token = log_in(&client, "u").await;
        (root, token)
    });
    let (mut dice, mut model, mut allowed_ones) = (Dice(42), Model::default(), 0);
    let mut asked = 0;
    while asked < questions {
        let until = questions.min(asked + AT_ONCE);
        run(async {
            let client = Client::connect(&member.address).await;
            for n in asked..until {
                if n % 16 == 0 {
                    model.change(&mut dice, &client, &root).await;
                }
                let (path, message, allowed) = question(&mut dice, &model);
                let answer = send(&client, &token, path, message.clone()).await;
                let expected = if allowed { "" } else { PERMISSION_DENIED.text };
                let granted = &model.0;
                assert_eq!(answer.text, expected, "{n}: {path} {message:?} with {granted:?}");
                allowed_ones += u64::from(allowed);
            }
        });
        asked = until;
    }
    let share = allowed_ones * 100 / questions.max(1);
    assert!(questions < 100 || (10..90).contains(&share), "{share}% allowed: both happen");
}

#[test]
fn the_model_knows_what_lies_within_what() {
    let granted = [interval("a", "c"), interval("c", "d"), interval("x", "")];
    assert!(within(&granted, &interval("a", "d")), "side by side");
    assert!(within(&granted, &interval("x", "")));
    assert!(!within(&granted, &interval("x", "y")));
    assert!(!within(&granted, &interval("a", "dd")));
    assert!(within(&[interval("b", "\0")], &interval("q", "\0")));
    assert!(!within(&[interval("b", "\0")], &interval("a", "\0")));
}
