//! What a run was made of, so that a clean one can be seen not to be an empty one.

use std::collections::BTreeMap;
use std::fmt;

use super::{Answer, Item, Op, Outcome};

/// Counts over any number of operations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    answers: BTreeMap<&'static str, Answers>,
    excused: BTreeMap<&'static str, u64>,
    events: u64,
    watchers_ended: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Answers {
    good: u64,
    refused: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts an operation with the answer that both gave.
    pub(crate) fn count(&mut self, op: &Op, outcome: &Outcome) {
        let answers = self.answers.entry(kind(op)).or_default();
        match &outcome.answer {
            Answer::Failed { message, .. } => {
                // Texts with sizes in them would make a line each.
                let text: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
                *answers.refused.entry(text).or_default() += 1;
            }
            _ => answers.good += 1,
        }
        for item in outcome.delivered.values().flatten() {
            match item {
                Item::Event(_) => self.events += 1,
                Item::Canceled(_) => self.watchers_ended += 1,
                Item::Created(_) | Item::Fault(_) => {}
            }
        }
    }

    /// Counts an answer that was the same thanks to this exception.
    pub(crate) fn excuse(&mut self, exception: &'static str) {
        *self.excused.entry(exception).or_default() += 1;
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Tally) {
        for (kind, theirs) in &other.answers {
            let ours = self.answers.entry(kind).or_default();
            ours.good += theirs.good;
            for (text, n) in &theirs.refused {
                *ours.refused.entry(text.clone()).or_default() += n;
            }
        }
        for (name, n) in &other.excused {
            *self.excused.entry(name).or_default() += n;
        }
        self.events += other.events;
        self.watchers_ended += other.watchers_ended;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, answers) in &self.answers {
            writeln!(f, "{kind}: {} answered", answers.good)?;
            for (text, n) in &answers.refused {
                writeln!(f, "    {n} {text}")?;
            }
        }
        writeln!(f, "events: {} told, {} watchers ended", self.events, self.watchers_ended)?;
        for (name, n) in &self.excused {
            writeln!(f, "excused by {name}: {n}")?;
        }
        Ok(())
    }
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Range(_) => "range",
        Op::Put(_) => "put",
        Op::Delete(_) => "delete",
        Op::Txn(_) if op.is_read() => "txn of ranges",
        Op::Txn(_) => "txn",
        Op::Compact(_) => "compact",
        Op::Grant(_) => "grant",
        Op::BriefLease(_) => "brief lease",
        Op::Revoke(_) => "revoke",
        Op::TimeToLive(_) => "time to live",
        Op::Leases => "leases",
        Op::KeepAlive(_) => "keep alive",
        Op::HashKv(_) => "hash",
        Op::Members(_) => "members",
        Op::Alarm(_) => "alarm",
        Op::Watch(..) | Op::WatchBeforeAll(_) => "watch",
        Op::CancelWatch(..) => "cancel a watcher",
        Op::CloseStream(_) => "close a watch stream",
        Op::Settle => "settle",
    }
}
