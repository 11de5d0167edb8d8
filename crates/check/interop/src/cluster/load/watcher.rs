//! One watcher that goes from member to member and must miss nothing.

use std::rc::Rc;
use std::time::Duration;

use mainstay_client::{Client, Options};
use mainstay_proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::drive::Shared;
use crate::load::observe::{History, note};

/// How long the watcher stays at a member.
const STAY: Duration = Duration::from_secs(4);
/// A member that tells nothing for this long is left sooner.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long the last revision may take, and a whole history.
const END_PATIENCE: Duration = Duration::from_secs(45);

type Stream = (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>);

/// A watch on everything from a revision on. The sender keeps it open.
async fn open(endpoint: &str, from: i64) -> Result<Stream, String> {
    let options = Options { dial_timeout: Duration::from_secs(1), ..Options::default() };
    let client = Client::connect(endpoint, &options).await.map_err(|e| e.to_string())?;
    let (requests, stream) = mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: from,
        ..Default::default()
    };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.try_send(create).map_err(|e| e.to_string())?;
    let answers = timeout(SILENCE, client.watch().watch(ReceiverStream::new(stream))).await;
    let answers = answers.map_err(|_| "no answer")?.map_err(|e| e.to_string())?;
    Ok((requests, answers.into_inner()))
}

/// Adds an answer's events: they go on where the history ends, without a gap.
fn follow(history: &mut History, from: i64, answer: &pb::WatchResponse) -> Result<(), String> {
    let before = history.last_key_value().map_or(from - 1, |(revision, _)| *revision);
    let mut last = before;
    for event in &answer.events {
        let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if revision != last + 1 && (revision != last || last == before) {
            return Err(format!("revision {revision} comes after {last} (answer after {before})"));
        }
        last = revision;
    }
    note(history, answer)
}

/// Watches until it has seen the revision that it is told at the end.
pub(super) async fn watch(shared: Rc<Shared>) -> Result<History, String> {
    let from = shared.with(|record| record.from) + 1;
    let mut history = History::new();
    let mut turn = 0;
    let mut end: Option<Instant> = None;
    loop {
        if shared.has_failed() {
            return Err("failed".to_owned());
        }
        let seen = history.last_key_value().map_or(from - 1, |(revision, _)| *revision);
        if let Some(until) = shared.until.get() {
            if seen >= until {
                return Ok(history);
            }
            let end = end.get_or_insert_with(|| Instant::now() + END_PATIENCE);
            if Instant::now() > *end {
                return Err(format!("watched up to {seen}, and the end is {until}"));
            }
        }
        turn += 1;
        let Some((n, endpoint)) = next_member(&shared, turn) else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let mut stream = match open(&endpoint, seen + 1).await {
            Ok(stream) => stream,
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        stay(&shared, &mut stream, &mut history, from)
            .await
            .map_err(|why| format!("watching member {} from {}: {why}", n + 1, seen + 1))
            .inspect_err(|why| shared.fail(why.clone()))?;
        shared.with(|record| record.resumed += 1);
    }
}

/// Follows one member's stream for a while. An end of the stream is none of the watch.
async fn stay(
    shared: &Shared,
    (_open, answers): &mut Stream,
    history: &mut History,
    from: i64,
) -> Result<(), String> {
    let begun = Instant::now();
    while begun.elapsed() < STAY {
        let seen = history.last_key_value().map_or(0, |(revision, _)| *revision);
        if shared.until.get().is_some_and(|until| seen >= until) {
            return Ok(());
        }
        let Ok(Ok(Some(answer))) = timeout(SILENCE, answers.message()).await else {
            return Ok(());
        };
        if answer.canceled && answer.compact_revision == 0 {
            return Ok(());
        }
        follow(history, from, &answer)?;
        if let Some((revision, _)) = history.last_key_value() {
            shared.with(|record| record.watched = *revision);
        }
    }
    Ok(())
}

/// The next member that nobody stops just now, or any when all are.
fn next_member(shared: &Shared, turn: usize) -> Option<(usize, String)> {
    let members = shared.members.borrow();
    let there = |n: &usize| !shared.with(|record| record.left.contains(n));
    let calm = |n: &usize| !shared.with(|record| record.is_excused(*n));
    let there: Vec<&(usize, String)> = members.iter().filter(|(n, _)| there(n)).collect();
    let calm: Vec<&(usize, String)> = there.iter().filter(|(n, _)| calm(n)).copied().collect();
    let some = if calm.is_empty() { there } else { calm };
    (!some.is_empty()).then(|| some[turn % some.len()].clone())
}

/// Everything that one member tells about the revisions from `from` to `to`.
pub(super) async fn whole(endpoint: &str, from: i64, to: i64) -> Result<History, String> {
    let mut history = History::new();
    let all = async {
        if from > to {
            return Ok(());
        }
        let (_open, mut answers) = open(endpoint, from).await?;
        while history.last_key_value().is_none_or(|(revision, _)| *revision < to) {
            let answer = answers.message().await.map_err(|e| e.to_string())?;
            follow(&mut history, from, &answer.ok_or("the watch ended")?)?;
        }
        Ok::<(), String>(())
    };
    timeout(END_PATIENCE, all).await.map_err(|_| "it does not come".to_owned())??;
    Ok(history)
}
