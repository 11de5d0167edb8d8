//! `/debug/vars`: what Go's `expvar` shows, as far as it means something here.

use http::Response;
use serde_json::json;

use super::{Asked, Http, only_get, with_type};
use crate::grpc::Body;
use crate::member::Member;
use crate::metrics::process;

pub(super) fn answer<M: Member>(http: &Http<M>, asked: &Asked) -> Response<Body> {
    if let Some(refusal) = only_get(asked) {
        return refusal;
    }
    let cmdline: Vec<String> = std::env::args().collect();
    let memory = process::read().map_or(0, |process| process.resident_bytes);
    let standing = http.member.standing();
    let id = http.member.identity().member.to_string();
    let is_leader = http.member.identity().member == standing.leader;
    let state = if is_leader { "StateLeader" } else { "StateFollower" };
    let raft = json!({
        "id": id,
        "term": standing.term.0,
        "vote": "0",
        "commit": standing.committed.0,
        "lead": standing.leader.to_string(),
        "raftState": state,
        "applied": standing.applied.0,
        "progress": {},
        "leadtransferee": "0",
    });
    let vars = [
        ("cmdline", json!(cmdline)),
        ("file_descriptor_limit", json!(process::fd_limit())),
        ("memstats", json!({ "Sys": memory })),
        ("raft.status", raft),
    ];
    let lines: Vec<String> =
        vars.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    let body = format!("{{\n{}\n}}\n", lines.join(",\n"));
    with_type("application/json; charset=utf-8", body)
}
