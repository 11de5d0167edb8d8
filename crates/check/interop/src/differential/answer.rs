//! What came back, and how two of them differ.

use std::collections::BTreeMap;

use mainstay_proto::etcdserverpb as pb;

use super::op::shortened;
use super::stream::Item;

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A gRPC status that is not OK.
    Failed {
        /// The gRPC code.
        code: i32,
        /// The text, which clients compare.
        message: String,
    },
    /// Of `Range`.
    Range(pb::RangeResponse),
    /// Of `Put`.
    Put(pb::PutResponse),
    /// Of `DeleteRange`.
    Delete(pb::DeleteRangeResponse),
    /// Of `Txn`.
    Txn(pb::TxnResponse),
    /// Of `Compact`.
    Compact(pb::CompactionResponse),
    /// Of `LeaseGrant`.
    Grant(pb::LeaseGrantResponse),
    /// Of `LeaseRevoke`.
    Revoke(pb::LeaseRevokeResponse),
    /// Of `LeaseTimeToLive`.
    TimeToLive(pb::LeaseTimeToLiveResponse),
    /// Of `LeaseLeases`.
    Leases(pb::LeaseLeasesResponse),
    /// Of `LeaseKeepAlive`; `None` when the stream ended without one.
    KeepAlive(Option<pb::LeaseKeepAliveResponse>),
    /// Of `HashKV`.
    HashKv(pb::HashKvResponse),
    /// Of `MemberList`.
    Members(pb::MemberListResponse),
    /// Of `Alarm`.
    Alarm(pb::AlarmResponse),
    /// Of a watch create request that makes no watcher.
    Watch(Box<pb::WatchResponse>),
    /// Of an operation that sends more than one request.
    Several(Vec<Answer>),
    /// What was told shows later, in [`Outcome::delivered`].
    Done,
    /// No answer, in words.
    Missing(String),
}

/// What watchers were told between two moments at which all were in step: by stream
/// and watch id.
pub type Delivered = BTreeMap<(usize, i64), Vec<Item>>;

/// Everything that an operation brought to light.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The answer itself.
    pub answer: Answer,
    /// What the watchers were told before it, when the operation waits for them.
    pub delivered: Delivered,
    /// The newest revision that was known when it was sent.
    pub now: i64,
}

impl Answer {
    /// The header, when it has one.
    pub fn header_mut(&mut self) -> Option<&mut pb::ResponseHeader> {
        match self {
            Answer::Range(response) => response.header.as_mut(),
            Answer::Put(response) => response.header.as_mut(),
            Answer::Delete(response) => response.header.as_mut(),
            Answer::Txn(response) => response.header.as_mut(),
            Answer::Compact(response) => response.header.as_mut(),
            Answer::Grant(response) => response.header.as_mut(),
            Answer::Revoke(response) => response.header.as_mut(),
            Answer::TimeToLive(response) => response.header.as_mut(),
            Answer::Leases(response) => response.header.as_mut(),
            Answer::KeepAlive(response) => response.as_mut()?.header.as_mut(),
            Answer::HashKv(response) => response.header.as_mut(),
            Answer::Members(response) => response.header.as_mut(),
            Answer::Alarm(response) => response.header.as_mut(),
            Answer::Watch(response) => response.header.as_mut(),
            Answer::Several(_) | Answer::Failed { .. } | Answer::Done | Answer::Missing(_) => None,
        }
    }

    /// Itself, or the answers it is made of.
    pub(crate) fn parts_mut(&mut self) -> Vec<&mut Answer> {
        match self {
            Answer::Several(parts) => parts.iter_mut().collect(),
            whole => vec![whole],
        }
    }

    pub(crate) fn failed(status: &tonic::Status) -> Answer {
        Answer::Failed { code: status.code().into(), message: status.message().to_owned() }
    }
}

/// The lines in which the two differ, each with the fields that lead to it.
pub fn differences(ours: &Outcome, real: &Outcome) -> Vec<String> {
    let (ours, real) = (leaves(ours), leaves(real));
    let mut lines = Vec::new();
    for at in 0..ours.len().max(real.len()) {
        let nothing = "(nothing)".to_owned();
        let (left, right) = (ours.get(at).unwrap_or(&nothing), real.get(at).unwrap_or(&nothing));
        if left != right {
            lines.push(format!("ours {left}"));
            lines.push(format!("real {right}"));
        }
        if lines.len() >= 12 {
            lines.push("and so on".to_owned());
            break;
        }
    }
    lines
}

/// Every leaf of the printed form, with the names on the way to it.
fn leaves(outcome: &Outcome) -> Vec<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    let text = format!("{outcome:#?}");
    for line in text.lines() {
        let depth = (line.len() - line.trim_start().len()) / 4;
        let line = line.trim();
        path.truncate(depth);
        if let Some(opened) = line.strip_suffix(['{', '(', '[']) {
            path.resize(depth, "");
            path.push(opened.split([':', ' ']).next().unwrap_or(opened));
        } else if !line.starts_with(['}', ')', ']']) {
            let names: Vec<&str> = path.iter().copied().filter(|name| !name.is_empty()).collect();
            found.push(format!("{}: {}", names.join("."), shortened(line.trim_end_matches(','))));
        }
    }
    found
}
