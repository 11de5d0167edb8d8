//! What a member answers to other members outside raft: who there is, what only the
//! leader knows, and hashes (http.md 3.3).

mod leases;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use mainstay_membership as membership;
use mainstay_proto::etcdserverpb::{HashKvRequest, MemberPromoteRequest};
use mainstay_types::MemberId;
use mainstay_types::limits::PEER_QUESTION_BYTES_MAX;
use serde_json::{Value, json};

use super::{Asked, Http, error, not_found, only_get, version, with_type};
use crate::errors::{self, Known};
use crate::forward;
use crate::gate::Permitted;
use crate::grpc::Body;
use crate::member::Member;

const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
const PROMOTE: &str = "/members/promote/";

/// Answers a request on the peer listener.
pub(super) async fn answer<M: Member>(http: &Http<M>, asked: Asked) -> Response<Body> {
    match asked.path() {
        "/version" => version(http, &asked),
        "/members" => members(http, &asked),
        "/members/hashkv" => hash_kv(http, asked).await,
        "/leases" => leases::renew(http, asked).await,
        "/leases/internal" => leases::times(http, asked).await,
        "/downgrade/enabled" => downgrade_enabled(http, &asked).await,
        "/raft/probing" => probing(),
        path if path.starts_with(PROMOTE) => promote(http, &asked).await,
        _ => not_found(),
    }
}

/// A body that is not what it should be.
enum BadBody {
    TooLarge,
    Broken,
}

impl Asked {
    /// The body, read within `patience`.
    async fn read(&mut self, patience: Duration) -> Result<Bytes, BadBody> {
        let Some(body) = self.body.take() else { return Ok(Bytes::new()) };
        let reading = Limited::new(body, PEER_QUESTION_BYTES_MAX).collect();
        match tokio::time::timeout(patience, reading).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(why)) if why.is::<LengthLimitError>() => Err(BadBody::TooLarge),
            Ok(Err(_)) | Err(_) => Err(BadBody::Broken),
        }
    }
}

fn members<M: Member>(http: &Http<M>, asked: &Asked) -> Response<Body> {
    if let Some(refusal) = only_get(asked) {
        return refusal;
    }
    let cluster = http.member.membership();
    of_cluster(http, with_type("application/json", members_json(cluster.members())))
}

/// As Go's encoder writes them: ids are numbers up to 2^64-1.
fn members_json<'a>(members: impl IntoIterator<Item = &'a membership::Member>) -> Vec<u8> {
    let mut body = vec![b'['];
    for (n, member) in members.into_iter().enumerate() {
        if n > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&member.to_json());
    }
    body.extend_from_slice(b"]\n");
    body
}

/// Says which cluster answers.
fn of_cluster<M: Member>(http: &Http<M>, mut response: Response<Body>) -> Response<Body> {
    let cluster = http.member.identity().cluster.to_string();
    let cluster = HeaderValue::from_str(&cluster).expect("hex digits are a header value");
    response.headers_mut().insert(CLUSTER_ID, cluster);
    response
}

/// Refuses every method but POST.
fn only_post(asked: &Asked) -> Option<Response<Body>> {
    let refusal = || error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    (asked.request.method() != Method::POST).then(refusal)
}

async fn promote<M: Member>(http: &Http<M>, asked: &Asked) -> Response<Body> {
    if let Some(mut refusal) = only_post(asked) {
        refusal.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    let id = asked.path().strip_prefix(PROMOTE).unwrap_or_default();
    // Decimal, without a sign.
    let number = id.bytes().all(|b| b.is_ascii_digit()).then(|| id.parse().ok()).flatten();
    let Some(number) = number else {
        let text = format!("member {id} not found in cluster");
        return of_cluster(http, error(StatusCode::NOT_FOUND, &text));
    };
    let request = Permitted::of_a_member(MemberPromoteRequest { id: number });
    let response = match forward::promote(&http.member, &request).await {
        Ok(members) => with_type("application/json", members_json(&members)),
        Err(status) => {
            tracing::warn!(
                "member-id" = %MemberId(number),
                error = %status,
                "failed to promote a member"
            );
            not_promoted(&status.message)
        }
    };
    of_cluster(http, response)
}

/// The members that ask compare these texts.
fn not_promoted(message: &str) -> Response<Body> {
    let says = |known: Known| known.text == message;
    if says(errors::MEMBER_NOT_FOUND) {
        let text = membership::ValidateError::IdNotFound.to_string();
        return error(StatusCode::NOT_FOUND, &text);
    }
    if says(errors::MEMBER_NOT_LEARNER) {
        let text = membership::ValidateError::NotLearner.to_string();
        return error(StatusCode::PRECONDITION_FAILED, &text);
    }
    if says(errors::LEARNER_NOT_READY) {
        return error(StatusCode::PRECONDITION_FAILED, errors::LEARNER_NOT_READY.text);
    }
    let body = json!({ "message": "Internal Server Error" }).to_string();
    let mut response = with_type("application/json", body);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn asked_by_a_member(revision: i64) -> Permitted<HashKvRequest> {
    Permitted::of_a_member(HashKvRequest { revision })
}

async fn hash_kv<M: Member>(http: &Http<M>, mut asked: Asked) -> Response<Body> {
    if let Some(refusal) = only_get(&asked) {
        return refusal;
    }
    let cluster = http.member.identity().cluster.to_string();
    let theirs = asked.request.headers().get(CLUSTER_ID);
    if theirs.is_some_and(|theirs| !theirs.is_empty() && theirs.as_bytes() != cluster.as_bytes()) {
        return error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
    }
    let Ok(body) = asked.read(http.member.settings().request_timeout).await else {
        return error(StatusCode::BAD_REQUEST, "error reading body");
    };
    let Some(revision) = wanted_revision(&body) else {
        return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    let hashed = match http.member.hash_kv(&asked_by_a_member(revision)).await {
        Ok(hashed) => hashed,
        Err(status) => {
            // As the store says it, which is what etcd's members look for.
            let text = status.message.strip_prefix("etcdserver: ").unwrap_or(&status.message);
            return error(StatusCode::BAD_REQUEST, text);
        }
    };
    let mut body = String::from("{\"header\":{");
    if hashed.revision != 0 {
        body.push_str(&format!("\"revision\":{}", hashed.revision));
    }
    body.push('}');
    for (name, value) in [
        ("hash", i64::from(hashed.hash)),
        ("compact_revision", hashed.compact_revision),
        ("hash_revision", hashed.hash_revision),
    ] {
        if value != 0 {
            body.push_str(&format!(",\"{name}\":{value}"));
        }
    }
    body.push('}');
    of_cluster(http, with_type("application/json", body))
}

/// The revision in `{"revision":N}`; 0 where it is left out.
fn wanted_revision(body: &[u8]) -> Option<i64> {
    let value: Value = serde_json::from_slice(body).ok()?;
    match value {
        Value::Null => Some(0),
        Value::Object(fields) => match fields.get("revision") {
            None | Some(Value::Null) => Some(0),
            Some(revision) => revision.as_i64(),
        },
        _ => None,
    }
}

async fn downgrade_enabled<M: Member>(http: &Http<M>, asked: &Asked) -> Response<Body> {
    if let Some(refusal) = only_get(asked) {
        return refusal;
    }
    if let Err(status) = http.member.linearizable().await {
        let text = format!("failed linearized read: {}", status.message);
        return of_cluster(http, error(StatusCode::INTERNAL_SERVER_ERROR, &text));
    }
    let enabled = http.member.membership().downgrade().enabled;
    of_cluster(http, with_type("text/plain", enabled.to_string()))
}

fn probing() -> Response<Body> {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let body = format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", rfc3339(now));
    with_type("application/json", body)
}

/// A time since the epoch as RFC 3339 in UTC, with nanoseconds.
fn rfc3339(since_epoch: std::time::Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day count, over eras of 400 years that start in March.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    let nanos = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rfc3339;

    #[test]
    fn dates_of_known_instants() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000000000Z");
        let leap = Duration::new(951_782_400, 5);
        assert_eq!(rfc3339(leap), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(rfc3339(Duration::from_secs(1_795_247_999)), "2026-11-21T07:59:59.000000000Z");
    }
}
