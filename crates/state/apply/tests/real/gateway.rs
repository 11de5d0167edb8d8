//! etcd's JSON gateway: requests as JSON, answers as plain values.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb;
use pb::compare::TargetUnion;
use pb::request_op::Request as Op;
use pb::response_op::Response;
use serde_json::{Map, Value, json};

/// Posts `body` and returns the answer's JSON, errors included.
pub(crate) fn post(port: u16, path: &str, body: &Value) -> Value {
    post_as(port, None, path, body)
}

/// As [`post`], in the name of whoever holds the token.
pub(crate) fn post_as(port: u16, token: Option<&str>, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let who = token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
    // In one piece: of one that comes in many etcd has been seen to close the connection.
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: x\r\n{who}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("the gateway reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the gateway answers in text");
    let (_, json) = answer.split_once("\r\n\r\n").expect("an HTTP answer has a head");
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
}

pub(crate) fn bytes(data: &[u8]) -> Value {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in data.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let index = (word >> (18 - 6 * at)) as usize & 63;
            out.push(if at <= chunk.len() { char::from(ALPHABET[index]) } else { '=' });
        }
    }
    Value::String(out)
}

pub(crate) fn put(request: &pb::PutRequest) -> Value {
    json!({
        "key": bytes(&request.key),
        "value": bytes(&request.value),
        "lease": request.lease.to_string(),
        "prev_kv": request.prev_kv,
        "ignore_value": request.ignore_value,
        "ignore_lease": request.ignore_lease,
    })
}

pub(crate) fn delete(request: &pb::DeleteRangeRequest) -> Value {
    json!({
        "key": bytes(&request.key),
        "range_end": bytes(&request.range_end),
        "prev_kv": request.prev_kv,
    })
}

fn range(request: &pb::RangeRequest) -> Value {
    json!({
        "key": bytes(&request.key),
        "range_end": bytes(&request.range_end),
        "limit": request.limit.to_string(),
        "revision": request.revision.to_string(),
        "sort_order": request.sort_order,
        "sort_target": request.sort_target,
        "keys_only": request.keys_only,
        "count_only": request.count_only,
        "min_mod_revision": request.min_mod_revision.to_string(),
        "max_create_revision": request.max_create_revision.to_string(),
    })
}

fn compare(request: &pb::Compare) -> Value {
    let mut value = json!({
        "result": request.result,
        "target": request.target,
        "key": bytes(&request.key),
        "range_end": bytes(&request.range_end),
    });
    let (name, union) = match &request.target_union {
        Some(TargetUnion::Version(n)) => ("version", json!(n.to_string())),
        Some(TargetUnion::CreateRevision(n)) => ("create_revision", json!(n.to_string())),
        Some(TargetUnion::ModRevision(n)) => ("mod_revision", json!(n.to_string())),
        Some(TargetUnion::Lease(n)) => ("lease", json!(n.to_string())),
        Some(TargetUnion::Value(data)) => ("value", bytes(data)),
        None => return value,
    };
    value[name] = union;
    value
}

pub(crate) fn txn(request: &pb::TxnRequest) -> Value {
    let ops = |ops: &[pb::RequestOp]| ops.iter().map(op).collect::<Vec<_>>();
    json!({
        "compare": request.compare.iter().map(compare).collect::<Vec<_>>(),
        "success": ops(&request.success),
        "failure": ops(&request.failure),
    })
}

fn op(op: &pb::RequestOp) -> Value {
    match op.request.as_ref().expect("the generator fills every operation") {
        Op::RequestRange(request) => json!({ "request_range": range(request) }),
        Op::RequestPut(request) => json!({ "request_put": put(request) }),
        Op::RequestDeleteRange(request) => json!({ "request_delete_range": delete(request) }),
        Op::RequestTxn(request) => json!({ "request_txn": txn(request) }),
    }
}

/// A response of ours in the gateway's form, defaults left out as it does.
pub(crate) struct Answer(Map<String, Value>);

impl Answer {
    pub(crate) fn header(header: Option<&pb::ResponseHeader>) -> Answer {
        let mut answer = Answer(Map::new());
        let mut inner = Answer(Map::new());
        if let Some(header) = header {
            inner.number("revision", header.revision);
        }
        answer.0.insert("header".to_owned(), Value::Object(inner.0));
        answer
    }

    pub(crate) fn number(&mut self, name: &str, number: i64) {
        if number != 0 {
            self.0.insert(name.to_owned(), json!(number.to_string()));
        }
    }

    pub(crate) fn flag(&mut self, name: &str, flag: bool) {
        if flag {
            self.0.insert(name.to_owned(), json!(true));
        }
    }

    pub(crate) fn list(&mut self, name: &str, list: Vec<Value>) {
        if !list.is_empty() {
            self.0.insert(name.to_owned(), Value::Array(list));
        }
    }

    pub(crate) fn done(self) -> Value {
        Value::Object(self.0)
    }
}

fn kv(kv: &mvccpb::KeyValue) -> Value {
    let mut answer = Answer(Map::new());
    for (name, data) in [("key", &kv.key), ("value", &kv.value)] {
        if !data.is_empty() {
            answer.0.insert(name.to_owned(), bytes(data));
        }
    }
    answer.number("create_revision", kv.create_revision);
    answer.number("mod_revision", kv.mod_revision);
    answer.number("version", kv.version);
    answer.number("lease", kv.lease);
    answer.done()
}

pub(crate) fn put_answer(response: &pb::PutResponse) -> Value {
    let mut answer = Answer::header(response.header.as_ref());
    if let Some(prev) = &response.prev_kv {
        answer.0.insert("prev_kv".to_owned(), kv(prev));
    }
    answer.done()
}

pub(crate) fn delete_answer(response: &pb::DeleteRangeResponse) -> Value {
    let mut answer = Answer::header(response.header.as_ref());
    answer.number("deleted", response.deleted);
    answer.list("prev_kvs", response.prev_kvs.iter().map(kv).collect());
    answer.done()
}

fn range_answer(response: &pb::RangeResponse) -> Value {
    let mut answer = Answer::header(response.header.as_ref());
    answer.list("kvs", response.kvs.iter().map(kv).collect());
    answer.flag("more", response.more);
    answer.number("count", response.count);
    answer.done()
}

pub(crate) fn txn_answer(response: &pb::TxnResponse) -> Value {
    let mut answer = Answer::header(response.header.as_ref());
    answer.flag("succeeded", response.succeeded);
    let ops = response.responses.iter().map(|op| match op.response.as_ref() {
        Some(Response::ResponseRange(inner)) => json!({ "response_range": range_answer(inner) }),
        Some(Response::ResponsePut(inner)) => json!({ "response_put": put_answer(inner) }),
        Some(Response::ResponseDeleteRange(inner)) => {
            json!({ "response_delete_range": delete_answer(inner) })
        }
        Some(Response::ResponseTxn(inner)) => json!({ "response_txn": txn_answer(inner) }),
        None => json!({}),
    });
    answer.list("responses", ops.collect());
    answer.done()
}

/// The real answer with the parts of its headers removed that belong to the
/// server (cluster, member, term).
pub(crate) fn strip(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            if let Some(Value::Object(header)) = fields.get_mut("header") {
                for name in ["cluster_id", "member_id", "raft_term"] {
                    header.remove(name);
                }
            }
            for (_, inner) in fields.iter_mut() {
                *inner = strip(inner.take());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| *inner = strip(inner.take())),
        _ => {}
    }
    value
}
