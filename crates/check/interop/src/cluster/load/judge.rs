//! What was promised against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::record::{Answered, Failure, Read, Record, Write};
use super::{PREFIX, STUCK};
use crate::load::model::{Change, Row};
use crate::load::observe::History;

/// A member may notice a new leader this much later than the first of them.
const NOTICE: Duration = Duration::from_millis(500);
/// An election that begins takes at most this long on a busy machine.
const ELECTION: Duration = Duration::from_secs(3);

/// What a load has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Writes that were acknowledged; all are there.
    pub acknowledged: usize,
    /// Writes without an answer that had happened.
    pub unanswered_there: usize,
    /// Writes without an answer that had not.
    pub unanswered_gone: usize,
    /// Linearizable reads, each of them judged.
    pub reads: usize,
    /// Revisions that the watcher saw.
    pub revisions: usize,
    /// How often the watcher went on at another member.
    pub resumed: usize,
    /// Requests that failed through a member that was being stopped.
    pub failed_stopping: usize,
    /// Requests that failed during an election.
    pub failed_electing: usize,
    /// Failures in words, and how often.
    pub words: BTreeMap<String, usize>,
}

impl Report {
    /// One line for a table.
    pub fn line(&self) -> String {
        format!(
            "{} acknowledged writes all there, {} of {} unanswered happened, {} linearizable \
             reads, {} revisions watched over {} resumptions, {} requests failed through members \
             being stopped and {} in elections",
            self.acknowledged,
            self.unanswered_there,
            self.unanswered_there + self.unanswered_gone,
            self.reads,
            self.revisions,
            self.resumed,
            self.failed_stopping,
            self.failed_electing,
        )
    }
}

/// Both say the same about what both have.
pub(super) fn same_history(watched: &History, told: &History) -> Result<(), String> {
    for (revision, changes) in told {
        if let Some(seen) = watched.get(revision)
            && seen != changes
        {
            return Err(short(&format!("revision {revision} is {changes:?} and was {seen:?}")));
        }
    }
    Ok(())
}

/// Judges a whole run.
pub(super) fn judge(record: &Record, watched: &History, revision: i64) -> Result<Report, String> {
    let mut report = Report {
        reads: record.reads.len(),
        revisions: watched.len(),
        resumed: record.resumed,
        ..Report::default()
    };
    let expected = record.from + 1..=revision;
    if !watched.keys().copied().eq(expected.clone()) {
        return Err(format!("watched {} revisions of {expected:?}", watched.len()));
    }
    let happened = judge_history(record, watched, &mut report)?;
    judge_failures(record, &happened, &mut report)?;
    Ok(report)
}

/// Goes through the history and explains every change of the load's. Answers the writes
/// that happened without an answer, by member and time.
fn judge_history(
    record: &Record,
    watched: &History,
    report: &mut Report,
) -> Result<BTreeSet<(usize, Duration)>, String> {
    let mut happened = BTreeSet::new();
    let mut by_value: BTreeMap<&str, &Write> =
        record.writes.iter().map(|write| (write.puts[0].1.as_str(), write)).collect();
    let mut reads: Vec<&Read> = record.reads.iter().collect();
    reads.sort_by_key(|read| read.revision);
    let mut reads = reads.into_iter().peekable();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    // Reads at the revision before the first write come first.
    for (revision, changes) in
        [(record.from, Vec::new())].iter().map(|(r, c)| (r, c)).chain(watched)
    {
        let ours: Vec<&Change> =
            changes.iter().filter(|change| change.key.starts_with(PREFIX.as_bytes())).collect();
        if !ours.is_empty() {
            let write = explain(&mut by_value, &ours, *revision)?;
            if write.revision.is_some() {
                report.acknowledged += 1;
            } else {
                report.unanswered_there += 1;
                happened.insert((write.member, write.sent));
            }
            apply(&mut rows, write, &ours, *revision)?;
        }
        while let Some(read) = reads.next_if(|read| read.revision <= *revision) {
            let found = rows
                .get(&read.key)
                .map(|row| (String::from_utf8_lossy(&row.value).into_owned(), row.modified));
            if found != read.found {
                return Err(short(&format!("{read:?}, and the history says {found:?}")));
            }
        }
    }
    if let Some(read) = reads.next() {
        return Err(short(&format!("{read:?} is of the future")));
    }
    for write in by_value.values() {
        if write.revision.is_some() {
            return Err(short(&format!("acknowledged and lost: {write:?}")));
        }
        report.unanswered_gone += 1;
    }
    Ok(happened)
}

/// The write that made these changes, which nobody else made.
fn explain<'a>(
    by_value: &mut BTreeMap<&str, &'a Write>,
    changes: &[&Change],
    revision: i64,
) -> Result<&'a Write, String> {
    let value = changes.iter().find_map(|change| change.row.as_ref()).map(|row| &row.value);
    let value = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    let Some(write) = by_value.remove(value) else {
        return Err(short(&format!("revision {revision} is nobody's, or again: {changes:?}")));
    };
    match write.revision {
        Some(acknowledged) if acknowledged != revision => {
            Err(short(&format!("{write:?} is at revision {revision}")))
        }
        _ => Ok(write),
    }
}

/// Does the write and compares what it should change with what changed.
fn apply(
    rows: &mut BTreeMap<String, Row>,
    write: &Write,
    found: &[&Change],
    revision: i64,
) -> Result<(), String> {
    let mut expected = Vec::new();
    for (key, value) in &write.puts {
        let before = rows.get(key);
        let row = Row {
            value: value.clone().into(),
            created: before.map_or(revision, |row| row.created),
            modified: revision,
            version: before.map_or(0, |row| row.version) + 1,
            lease: 0,
        };
        rows.insert(key.clone(), row.clone());
        expected.push(Change { key: key.clone().into(), row: Some(row) });
    }
    if let Some(key) = &write.deletes
        && rows.remove(key).is_some()
    {
        expected.push(Change { key: key.clone().into(), row: None });
    }
    if expected.iter().eq(found.iter().copied()) {
        return Ok(());
    }
    Err(short(&format!("revision {revision} should be {expected:?} and is {found:?}")))
}

/// Every failure has an excuse.
fn judge_failures(
    record: &Record,
    happened: &BTreeSet<(usize, Duration)>,
    report: &mut Report,
) -> Result<(), String> {
    let mut inexcusable = Vec::new();
    for failure in &record.failures {
        let why = if is_stopping(record, failure) {
            report.failed_stopping += 1;
            "stopping"
        } else if is_electing(record, failure) {
            report.failed_electing += 1;
            "electing"
        } else {
            inexcusable.push(failure);
            continue;
        };
        let after = match happened.contains(&(failure.member, failure.sent)) {
            true if failure.what == "write" => " (it happened)",
            _ => "",
        };
        let long = if failure.at - failure.sent > STUCK { " (after long)" } else { "" };
        let words = format!("{why}: {}: {}{after}{long}", failure.what, failure.message);
        *report.words.entry(words).or_default() += 1;
    }
    if inexcusable.is_empty() {
        return Ok(());
    }
    let some: Vec<String> =
        inexcusable.iter().take(5).map(|failure| explain_failure(record, failure)).collect();
    Err(format!("{} requests failed without an excuse:\n{}", inexcusable.len(), some.join("\n")))
}

fn explain_failure(record: &Record, failure: &Failure) -> String {
    let answers = record.answers.get(&failure.member);
    let (before, after) = around(record, failure);
    format!(
        "{failure:?}; of {} answers of the member the last before is {before:?} and the first \
         after is {after:?}; excused {:?}",
        answers.map_or(0, Vec::len),
        record.excused
    )
}

/// The last answer of the member before it was asked, and the first after it had failed.
fn around<'a>(
    record: &'a Record,
    failure: &Failure,
) -> (Option<&'a Answered>, Option<&'a Answered>) {
    let answers = record.answers.get(&failure.member).map_or(&[][..], Vec::as_slice);
    let before = answers.iter().rfind(|answer| answer.at <= failure.sent);
    let after = answers.iter().find(|answer| answer.sent >= failure.at);
    (before, after)
}

fn is_stopping(record: &Record, failure: &Failure) -> bool {
    record.excused.iter().any(|(n, from, to)| {
        *n == failure.member && *from <= failure.at && to.is_none_or(|to| failure.sent <= to)
    })
}

/// A new term began about then: somebody's first answer of it came while the request
/// was out, or soon after it had failed, or just before it was sent.
fn is_electing(record: &Record, failure: &Failure) -> bool {
    let mut began: BTreeMap<u64, Duration> = BTreeMap::new();
    for answer in record.answers.values().flatten() {
        let first = began.entry(answer.term).or_insert(answer.at);
        *first = answer.at.min(*first);
    }
    // The first of them is no new one.
    let mut new = began.values().skip(1);
    new.any(|led| failure.sent <= *led + NOTICE && *led <= failure.at + ELECTION)
}

/// Large values make a failure unreadable.
fn short(text: &str) -> String {
    text.replace("xxxxxxxx", "").chars().take(1_500).collect()
}
