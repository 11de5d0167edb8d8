//! What a lone member answers to other members: who it is and whether it lives.

use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::{Asked, Http, error, not_found, only_get, version, with_type};
use crate::grpc::Body;
use crate::member::Member;

const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");

/// Answers a request on the peer listener. Raft's own paths come with clusters.
pub(super) async fn answer<M: Member>(http: &Http<M>, asked: &Asked) -> Response<Body> {
    match asked.path() {
        "/version" => version(http, asked),
        "/members" => members(http, asked).await,
        "/raft/probing" => probing(),
        _ => not_found(),
    }
}

async fn members<M: Member>(http: &Http<M>, asked: &Asked) -> Response<Body> {
    if let Some(refusal) = only_get(asked) {
        return refusal;
    }
    let members = match http.member.members().await {
        Ok(members) => members,
        Err(status) => return error(StatusCode::INTERNAL_SERVER_ERROR, &status.message),
    };
    // Keys in the order of etcd's struct; ids are numbers up to 2^64-1.
    let mut body = String::from("[");
    for (n, member) in members.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        body.push_str(&format!(
            r#"{comma}{{"id":{},"peerURLs":{}"#,
            member.id,
            json!(member.peer_ur_ls)
        ));
        if member.is_learner {
            body.push_str(r#","isLearner":true"#);
        }
        if !member.name.is_empty() {
            body.push_str(&format!(r#","name":{}"#, json!(member.name)));
        }
        if !member.client_ur_ls.is_empty() {
            body.push_str(&format!(r#","clientURLs":{}"#, json!(member.client_ur_ls)));
        }
        body.push('}');
    }
    body.push_str("]\n");
    let mut response = with_type("application/json", body);
    let cluster = http.member.identity().cluster.to_string();
    let cluster = HeaderValue::from_str(&cluster).expect("hex digits are a header value");
    response.headers_mut().insert(CLUSTER_ID, cluster);
    response
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
