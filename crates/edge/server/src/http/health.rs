//! `/health`, `/livez`, `/readyz`.

use bytes::Bytes;
use http::{Response, StatusCode};
use mainstay_driver::stats::{Counter, Gauge};
use mainstay_proto::etcdserverpb::{AlarmType, RangeRequest};
use mainstay_types::MemberId;

use super::{Asked, Http, SNIFF, TEXT, error, only_get, with_type};
use crate::errors;
use crate::gate::Permitted;
use crate::grpc::Body;
use crate::member::Member;
use crate::status::Status;

/// One check of `/livez` or `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

/// The endpoints and what each checks, in the order in which it is printed (etcd's
/// order is random).
const ENDPOINTS: [(&str, &[Check]); 2] = [
    ("livez", &[Check::SerializableRead]),
    (
        "readyz",
        &[
            Check::DataCorruption,
            Check::SerializableRead,
            Check::LinearizableRead,
            Check::NonLearner,
        ],
    ),
];

/// Counters of the endpoints.
#[derive(Debug, Default)]
pub(crate) struct HealthCells {
    /// `etcd_server_health_success`.
    pub(crate) success: Counter,
    /// `etcd_server_health_failures`.
    pub(crate) failures: Counter,
    /// Per endpoint and check, in the order of [`ENDPOINTS`].
    checks: [[CheckCells; 4]; 2],
}

#[derive(Debug, Default)]
struct CheckCells {
    /// 1 when the last run succeeded.
    last: Gauge,
    success: Counter,
    failures: Counter,
}

/// One check's numbers, for the metrics.
pub(crate) struct CheckCount {
    pub(crate) endpoint: &'static str,
    pub(crate) check: &'static str,
    pub(crate) last: i64,
    pub(crate) success: u64,
    pub(crate) failures: u64,
}

impl HealthCells {
    /// The checks that have run.
    pub(crate) fn counts(&self) -> Vec<CheckCount> {
        let mut counts = Vec::new();
        for ((endpoint, checks), cells) in ENDPOINTS.iter().zip(&self.checks) {
            for (check, cells) in checks.iter().zip(cells) {
                let (success, failures) = (cells.success.get(), cells.failures.get());
                if success + failures > 0 {
                    let last = cells.last.get();
                    let check = check.name();
                    counts.push(CheckCount { endpoint, check, last, success, failures });
                }
            }
        }
        counts
    }
}

/// Answers a health endpoint; `None` when the path is not one.
pub(super) async fn answer<M: Member>(http: &Http<M>, asked: &Asked) -> Option<Response<Body>> {
    let path = asked.path();
    if path == "/health" {
        return Some(match only_get(asked) {
            Some(refusal) => refusal,
            None => health(http, asked).await,
        });
    }
    for (place, (endpoint, checks)) in ENDPOINTS.iter().enumerate() {
        let Some(rest) = path.strip_prefix('/').and_then(|path| path.strip_prefix(endpoint)) else {
            continue;
        };
        let named = rest.strip_prefix('/');
        let chosen: Vec<usize> = match (rest, named) {
            ("", _) => {
                let excluded: Vec<String> = asked.query("exclude").collect();
                let keep = |n: &usize| !excluded.iter().any(|name| name == checks[*n].name());
                (0..checks.len()).filter(keep).collect()
            }
            (_, Some(name)) => (0..checks.len()).filter(|n| checks[*n].name() == name).collect(),
            _ => return None,
        };
        if !rest.is_empty() && chosen.is_empty() {
            return None;
        }
        if let Some(refusal) = only_get(asked) {
            return Some(refusal);
        }
        return Some(run(http, asked, place, &chosen).await);
    }
    None
}

async fn run<M: Member>(
    http: &Http<M>,
    asked: &Asked,
    endpoint: usize,
    chosen: &[usize],
) -> Response<Body> {
    let (_, checks) = ENDPOINTS[endpoint];
    let mut lines = String::new();
    let mut failed = false;
    for n in chosen.iter().copied() {
        let name = checks[n].name();
        let cells = &http.registry.health.checks[endpoint][n];
        match check(&http.member, checks[n]).await {
            Ok(()) => {
                lines.push_str(&format!("[+]{name} ok\n"));
                cells.success.inc();
                cells.last.set(1);
            }
            Err(why) => {
                lines.push_str(&format!("[-]{name} failed: {why}\n"));
                cells.failures.inc();
                cells.last.set(0);
                failed = true;
            }
        }
    }
    if failed {
        return error(StatusCode::SERVICE_UNAVAILABLE, &lines);
    }
    if asked.query("verbose").next().is_none() {
        lines.clear();
    }
    lines.push_str("ok\n");
    let mut response = with_type(TEXT, lines);
    response.headers_mut().insert(SNIFF, http::HeaderValue::from_static("nosniff"));
    response
}

async fn check<M: Member>(member: &M, check: Check) -> Result<(), String> {
    match check {
        Check::DataCorruption => {
            let alarms = member.alarms().await.map_err(|status| status.message.into_owned())?;
            let corrupt = alarms.iter().any(|alarm| alarm.alarm() == AlarmType::Corrupt);
            if corrupt { Err("alarm activated: CORRUPT".to_owned()) } else { Ok(()) }
        }
        Check::SerializableRead => read(member, true).await,
        Check::LinearizableRead => read(member, false).await,
        Check::NonLearner => {
            if member.standing().learner {
                Err("not supported for learner".to_owned())
            } else {
                Ok(())
            }
        }
    }
}

/// Reads one key, as a client would.
async fn read<M: Member>(member: &M, serializable: bool) -> Result<(), String> {
    let reading = async {
        if !serializable {
            member.linearizable().await?;
        }
        // etcd reads the empty key, which no client may name; so does this.
        let request = RangeRequest {
            key: Bytes::from_static(b"\0"),
            limit: 1,
            keys_only: true,
            serializable,
            ..RangeRequest::default()
        };
        member.range(&Permitted::of_a_member(request)).map(drop)
    };
    let timeout = member.settings().request_timeout;
    let result: Result<(), Status> = match tokio::time::timeout(timeout, reading).await {
        Ok(result) => result,
        Err(_) => Err(errors::TIMEOUT.status()),
    };
    result.map_err(|status| status.message.into_owned())
}

async fn health<M: Member>(http: &Http<M>, asked: &Asked) -> Response<Body> {
    let cells = &http.registry.health;
    match unhealthy(&http.member, asked).await {
        None => {
            cells.success.inc();
            with_type(TEXT, r#"{"health":"true","reason":""}"#)
        }
        Some(reason) => {
            cells.failures.inc();
            let reason = serde_json::Value::from(reason);
            let body = format!(r#"{{"health":"false","reason":{reason}}}"#);
            tracing::warn!(output = body, "/health error");
            error(StatusCode::SERVICE_UNAVAILABLE, &body)
        }
    }
}

/// Why the member is not healthy.
async fn unhealthy<M: Member>(member: &M, asked: &Asked) -> Option<String> {
    let excluded: Vec<String> = asked.query("exclude").collect();
    let serializable = asked.query("serializable").next().is_some_and(|value| value == "true");
    let alarms = match member.alarms().await {
        Ok(alarms) => alarms,
        Err(status) => return Some(format!("RANGE ERROR:{}", status.message)),
    };
    for alarm in alarms {
        let name = match alarm.alarm() {
            AlarmType::Nospace => "NOSPACE",
            AlarmType::Corrupt => "CORRUPT",
            AlarmType::None => "UNKNOWN",
        };
        if !excluded.iter().any(|excluded| excluded == name) {
            return Some(format!("ALARM {name}"));
        }
    }
    if !serializable && member.standing().leader == MemberId::NONE {
        return Some("RAFT NO LEADER".to_owned());
    }
    let failed = read(member, serializable).await.err()?;
    Some(format!("RANGE ERROR:{failed}"))
}
