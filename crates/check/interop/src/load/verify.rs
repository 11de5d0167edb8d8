//! The judge.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use mainstay_client::Client;
use mainstay_proto::etcdserverpb as pb;

use super::model::{Change, Op, Row, State};
use super::observe::{History, Seen, behind, history, rows};
use super::writer::Writer;
use super::{Load, PREFIX, connect};

/// How long the history may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a verification has looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Operations that were acknowledged.
    pub acknowledged: usize,
    /// Operations without an answer that had happened.
    pub unanswered_there: usize,
    /// Operations without an answer that had not.
    pub unanswered_gone: usize,
    /// Revisions of the history.
    pub revisions: usize,
    /// Revisions that the watcher had seen.
    pub watched: usize,
}

impl Figures {
    /// Adds those of another verification.
    pub fn add(&mut self, other: Figures) {
        self.acknowledged += other.acknowledged;
        self.unanswered_there += other.unanswered_there;
        self.unanswered_gone += other.unanswered_gone;
        self.revisions += other.revisions;
        self.watched += other.watched;
    }
}

impl Load {
    /// Holds the member at `endpoint` to everything that the last run was promised;
    /// see [`Load`]'s module. The next run goes on from what is there.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn verify(&mut self, endpoint: &str) -> Result<Figures, String> {
        let client = connect(endpoint).await?;
        let (revision, found) = rows(&client, PREFIX).await?;
        if revision < self.verified {
            return Err(format!("revision {revision}, and it was {} before", self.verified));
        }
        let told = tokio::time::timeout(PATIENCE, history(&client, self.verified + 1, revision));
        let told = told.await.map_err(|_| format!("no history up to revision {revision}"))??;
        check_gapless(&told, self.verified, revision)?;
        let leases = leases(&client).await?;
        let mut figures = Figures { revisions: told.len(), ..Figures::default() };
        let mut left = told.clone();
        let before: Vec<State> = self.base.clone();
        for (writer, base) in self.writers.iter_mut().zip(&before) {
            settle(writer, base, &mut left, &leases, &mut figures)
                .map_err(|why| format!("writer {}: {why}", writer.number))?;
        }
        if let Some((revision, changes)) = left.first_key_value() {
            return Err(format!("nobody did what revision {revision} did: {changes:?}"));
        }
        check_rows(&self.writers, &found)?;
        check_leases(&self.writers, &leases)?;
        figures.watched = check_seen(&self.seen, &told, &before, revision)?;
        self.check_compaction(&client).await?;
        self.verified = revision;
        self.seen = Seen::default();
        self.base = self.writers.iter().map(|writer| writer.state.clone()).collect();
        Ok(figures)
    }

    /// A compaction that was acknowledged still answers so.
    async fn check_compaction(&self, client: &Client) -> Result<(), String> {
        if self.compacted < 2 {
            return Ok(());
        }
        let request = pb::RangeRequest {
            key: PREFIX.into(),
            revision: self.compacted - 1,
            ..Default::default()
        };
        match client.kv().range(request).await {
            Err(status) if status.message().contains("has been compacted") => Ok(()),
            other => Err(format!("compacted to {}, and {other:?} below it", self.compacted)),
        }
    }
}

/// Every revision has changes; all of them are the load's.
fn check_gapless(told: &History, from: i64, to: i64) -> Result<(), String> {
    let expected: Vec<i64> = (from + 1..=to).collect();
    let found: Vec<i64> = told.keys().copied().collect();
    if found == expected {
        return Ok(());
    }
    let missing: Vec<&i64> = expected.iter().filter(|r| !told.contains_key(r)).take(5).collect();
    Err(format!("of the revisions {} to {to}, {missing:?} are missing", from + 1))
}

/// Replays what a writer sent over what it began with, and takes what it explains
/// out of `left`.
fn settle(
    writer: &mut Writer,
    base: &State,
    left: &mut History,
    leases: &BTreeSet<i64>,
    figures: &mut Figures,
) -> Result<(), String> {
    let mut state = base.clone();
    let prefix = writer.prefix();
    for sent in std::mem::take(&mut writer.sent) {
        let happened = match sent.acknowledged {
            Some(revision) => Some(revision),
            None => left
                .iter()
                .find(|(_, changes)| changes.iter().any(|c| c.key.starts_with(prefix.as_bytes())))
                .map(|(revision, _)| *revision)
                .or_else(|| quietly_happened(&state, &sent.op, leases).then_some(0)),
        };
        let Some(revision) = happened else {
            figures.unanswered_gone += 1;
            continue;
        };
        let expected = state.apply(&sent.op, revision);
        if !expected.is_empty() {
            let found = left.remove(&revision).unwrap_or_default();
            compare(&sent.op, revision, &expected, &found)?;
        }
        match sent.acknowledged {
            Some(_) => figures.acknowledged += 1,
            None => figures.unanswered_there += 1,
        }
    }
    writer.state = state;
    Ok(())
}

/// Whether an operation that changes no key has left its trace among the leases.
fn quietly_happened(state: &State, op: &Op, leases: &BTreeSet<i64>) -> bool {
    match op {
        Op::Grant(id) => leases.contains(id),
        Op::Revoke(id) => {
            let holds = state.rows.values().any(|row| row.lease == *id);
            !holds && !leases.contains(id)
        }
        Op::Put(_) | Op::Delete(_) | Op::Txn(_) => false,
    }
}

fn compare(op: &Op, revision: i64, expected: &[Change], found: &[Change]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(short(&format!("{op:?} at {revision} should be {expected:?} and is {found:?}")))
}

/// Large values make a failure unreadable.
fn short(text: &str) -> String {
    text.replace("xxxxxxxxxxxxxxxx", "")
}

/// What is there now is what the history leads to.
fn check_rows(writers: &[Writer], found: &[(Bytes, Row)]) -> Result<(), String> {
    let expected: BTreeMap<&Bytes, &Row> =
        writers.iter().flat_map(|writer| &writer.state.rows).collect();
    let found: BTreeMap<&Bytes, &Row> = found.iter().map(|(key, row)| (key, row)).collect();
    for key in expected.keys().chain(found.keys()) {
        let (wanted, is) = (expected.get(key), found.get(key));
        if wanted != is {
            return Err(short(&format!("{key:?} should be {wanted:?} and is {is:?}")));
        }
    }
    Ok(())
}

async fn leases(client: &Client) -> Result<BTreeSet<i64>, String> {
    let answer = client.lease().lease_leases(pb::LeaseLeasesRequest {}).await;
    let answer = answer.map_err(|e| e.to_string())?.into_inner();
    Ok(answer.leases.iter().map(|lease| lease.id).collect())
}

fn check_leases(writers: &[Writer], found: &BTreeSet<i64>) -> Result<(), String> {
    let expected: BTreeSet<i64> =
        writers.iter().flat_map(|writer| writer.state.leases.iter().copied()).collect();
    if expected == *found {
        return Ok(());
    }
    let lost: Vec<_> = expected.difference(found).collect();
    let more: Vec<_> = found.difference(&expected).collect();
    Err(format!("leases {lost:?} are lost, and {more:?} are nobody's"))
}

/// What watcher and reader saw before the end is what the history says after it.
fn check_seen(
    seen: &Seen,
    told: &History,
    before: &[State],
    revision: i64,
) -> Result<usize, String> {
    for ((seen_at, seen), (at, changes)) in seen.watched.iter().zip(told) {
        if (seen_at, seen) != (at, changes) {
            let why = format!("watched {seen:?} at {seen_at}, and {at} is {changes:?} now");
            return Err(short(&why));
        }
    }
    if seen.watched.len() > told.len() {
        return Err("a watcher saw more than there is now".into());
    }
    let Some((at, prefix, rows)) = &seen.read else { return Ok(seen.watched.len()) };
    if *at > revision {
        return Err(format!("a reader was at revision {at}, and it is {revision} now"));
    }
    let inside = |key: &Bytes| *key >= prefix.as_bytes() && *key < behind(prefix);
    let mut expected: BTreeMap<&Bytes, &Row> =
        before.iter().flat_map(|state| &state.rows).filter(|(key, _)| inside(key)).collect();
    for change in told.range(..=at).flat_map(|(_, changes)| changes) {
        match &change.row {
            _ if !inside(&change.key) => {}
            Some(row) => drop(expected.insert(&change.key, row)),
            None => drop(expected.remove(&change.key)),
        }
    }
    let read: BTreeMap<&Bytes, &Row> = rows.iter().map(|(key, row)| (key, row)).collect();
    if read != expected {
        return Err(short(&format!("a reader saw {read:?} at {at}, where {expected:?} was")));
    }
    Ok(seen.watched.len())
}
