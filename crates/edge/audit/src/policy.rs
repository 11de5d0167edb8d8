//! Which calls are recorded, and how much of them.

use serde::Deserialize;

use crate::record::{Record, shown_key};

/// How much is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Nothing.
    None,
    /// Who made which call, and what came of it.
    Call,
    /// That, and what it asked for: keys, names, numbers.
    Keys,
}

/// Which calls a rule is about, by what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcomes {
    /// Done and refused alike.
    #[default]
    All,
    /// Those that were done.
    Done,
    /// Those that ended with an error.
    Failed,
}

/// One rule: it fits a call that every one of its lists fits. A list that is left out fits all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    detail: Detail,
    /// `Put` or `etcdserverpb.KV/Put`.
    #[serde(default)]
    calls: Vec<String>,
    /// Names of users; `""` is a caller who showed nothing.
    #[serde(default)]
    users: Option<Vec<String>>,
    /// Every key and range of the call lies below one of them.
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    outcomes: Outcomes,
}

/// Rules, of which the first that fits decides; what none fits is recorded with its keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not the YAML that is expected.
    #[error("{0}")]
    Syntax(String),
    /// A call that there is none of.
    #[error(
        "rule {rule}: there is no call {call:?}; write a method such as Put, or etcdserverpb.KV/Put"
    )]
    Call {
        /// Which rule, from 1.
        rule: usize,
        /// What it names.
        call: String,
    },
}

/// Calls that only read, or keep alive, and are made all the time: by default recorded only when
/// they fail.
const READS: &[&str] = &[
    "Range",
    "RangeStream",
    "LeaseKeepAlive",
    "LeaseTimeToLive",
    "LeaseLeases",
    "MemberList",
    "AuthStatus",
    "etcdserverpb.Maintenance/Status",
    "mainstaypb.Upgrade/Status",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.health.v1.Health/List",
];

impl Default for Policy {
    /// Everything with its keys, but for what only reads and succeeds.
    fn default() -> Policy {
        let calls = READS.iter().map(|call| (*call).to_owned()).collect();
        let reads = Rule {
            detail: Detail::None,
            calls,
            users: None,
            prefixes: Vec::new(),
            outcomes: Outcomes::Done,
        };
        Policy { rules: vec![reads] }
    }
}

impl Policy {
    /// Reads the text of a policy file. `calls` are all that there are, as
    /// `package.Service/Method`.
    ///
    /// # Errors
    /// What cannot be read, or a call that is none: a rule that never fits would go unnoticed.
    pub fn read(text: &str, calls: &[&str]) -> Result<Policy, PolicyError> {
        let mut policy: Policy =
            serde_saphyr::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        for (n, rule) in policy.rules.iter_mut().enumerate() {
            let known = |call: &String| calls.iter().any(|known| names(call, known));
            if let Some(call) = rule.calls.iter().find(|call| !known(call)) {
                return Err(PolicyError::Call { rule: n + 1, call: call.clone() });
            }
            // As the keys that they are compared with.
            for prefix in &mut rule.prefixes {
                *prefix = shown_key(prefix.as_bytes());
            }
        }
        Ok(policy)
    }

    /// Whether a call of this name can come to be recorded at all, whoever makes it.
    pub fn may_record(&self, call: &str) -> bool {
        for rule in self.rules.iter().filter(|rule| rule.is_about(call)) {
            if rule.detail > Detail::None {
                return true;
            }
            let decides =
                rule.users.is_none() && rule.prefixes.is_empty() && rule.outcomes == Outcomes::All;
            if decides {
                return false;
            }
        }
        true
    }

    /// How much of this call is recorded.
    pub(crate) fn detail_of(&self, record: &Record) -> Detail {
        let rule = self.rules.iter().find(|rule| rule.fits(record));
        rule.map_or(Detail::Keys, |rule| rule.detail)
    }
}

impl Rule {
    fn is_about(&self, call: &str) -> bool {
        self.calls.is_empty() || self.calls.iter().any(|named| names(named, call))
    }

    fn fits(&self, record: &Record) -> bool {
        let done = record.code == "OK";
        let outcome = match self.outcomes {
            Outcomes::All => true,
            Outcomes::Done => done,
            Outcomes::Failed => !done,
        };
        outcome
            && self.is_about(record.call)
            && self.users.as_ref().is_none_or(|users| users.contains(&record.user))
            && (self.prefixes.is_empty() || self.holds_all_keys(record))
    }

    /// Whether the call has keys, and all of them lie below the prefixes.
    fn holds_all_keys(&self, record: &Record) -> bool {
        let Some(asked) = &record.asked else { return false };
        asked.more_items == 0
            && !asked.items.is_empty()
            && asked.items.iter().all(|item| {
                self.prefixes.iter().any(|prefix| lies_below(&item.key, &item.range_end, prefix))
            })
    }
}

/// Whether `named` in a rule means `call`.
fn names(named: &str, call: &str) -> bool {
    named == call || call.rsplit_once('/').is_some_and(|(_, method)| method == named)
}

/// Whether a range lies below a prefix: its last key does as well as its first, or it ends with
/// the prefix itself.
fn lies_below(key: &str, range_end: &str, prefix: &str) -> bool {
    key.starts_with(prefix)
        && (range_end.is_empty() || range_end.starts_with(prefix) || range_end == end_of(prefix))
}

/// The smallest text that is above all that begin with `prefix`: as clients write `--prefix`.
fn end_of(prefix: &str) -> String {
    let mut bytes = prefix.as_bytes().to_vec();
    while let Some(last) = bytes.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return shown_key(&bytes);
        }
        bytes.pop();
    }
    String::new()
}
