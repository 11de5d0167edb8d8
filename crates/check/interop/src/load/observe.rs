//! Who looks on while the writers write, and what a member says about its past.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use mainstay_client::Client;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::PREFIX;
use super::model::{Change, Row};

/// Changes by the revision that made them.
pub(crate) type History = BTreeMap<i64, Vec<Change>>;

/// An answer to a reader: its revision, what was asked for, and the rows.
pub(crate) type Answer = (i64, String, Vec<(Bytes, Row)>);

/// What was seen in a run.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) watched: History,
    /// The newest answer to a reader.
    pub(crate) read: Option<Answer>,
}

/// The first key behind all of those that begin with `prefix`, which ends in `/`.
pub(crate) fn behind(prefix: &str) -> Bytes {
    let body = prefix.strip_suffix('/').expect("prefixes end in a slash");
    format!("{body}0").into()
}

/// A watch on everything that the load writes. The sender keeps it open.
async fn open_watch(
    client: &Client,
    from: i64,
) -> Result<(mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>), String> {
    let (requests, stream) = mpsc::channel(1);
    let create = pb::WatchCreateRequest {
        key: PREFIX.into(),
        range_end: behind(PREFIX),
        start_revision: from,
        ..Default::default()
    };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.try_send(create).map_err(|e| e.to_string())?;
    let answers = client.watch().watch(ReceiverStream::new(stream)).await;
    Ok((requests, answers.map_err(|e| e.to_string())?.into_inner()))
}

/// Adds an answer's events.
pub(crate) fn note(history: &mut History, answer: &pb::WatchResponse) -> Result<(), String> {
    if answer.canceled {
        return Err(format!("the watch was canceled: {answer:?}"));
    }
    for event in &answer.events {
        let kv = event.kv.as_ref().ok_or("an event without a key")?;
        let deleted = event.r#type == mvccpb::event::EventType::Delete as i32;
        let change = Change { key: kv.key.clone(), row: (!deleted).then(|| Row::of(kv)) };
        history.entry(kv.mod_revision).or_default().push(change);
    }
    Ok(())
}

/// Watches until the member ends.
pub(crate) async fn watch(client: Client, from: i64, seen: Rc<RefCell<Seen>>) {
    let Ok((_open, mut answers)) = open_watch(&client, from).await else { return };
    while let Ok(Some(answer)) = answers.message().await {
        if note(&mut seen.borrow_mut().watched, &answer).is_err() {
            return;
        }
    }
}

/// Reads one writer's keys over and over until the member ends.
pub(crate) async fn read(client: Client, prefix: String, seen: Rc<RefCell<Seen>>) {
    while let Ok((revision, rows)) = rows(&client, &prefix).await {
        seen.borrow_mut().read = Some((revision, prefix.clone(), rows));
    }
}

/// The rows of a prefix now, with the revision of the answer.
pub(crate) async fn rows(
    client: &Client,
    prefix: &str,
) -> Result<(i64, Vec<(Bytes, Row)>), String> {
    let request = pb::RangeRequest {
        key: prefix.to_owned().into(),
        range_end: behind(prefix),
        ..Default::default()
    };
    let answer = client.kv().range(request).await.map_err(|e| e.to_string())?.into_inner();
    let revision = answer.header.as_ref().ok_or("no header")?.revision;
    Ok((revision, answer.kvs.iter().map(|kv| (kv.key.clone(), Row::of(kv))).collect()))
}

/// Everything that changed from revision `from` to `to`, as a watch tells it.
pub(crate) async fn history(client: &Client, from: i64, to: i64) -> Result<History, String> {
    let mut history = History::new();
    if from > to {
        return Ok(history);
    }
    let (_open, mut answers) = open_watch(client, from).await?;
    // Every revision has a change under the prefix, or the history never gets there.
    while history.last_key_value().is_none_or(|(revision, _)| *revision < to) {
        let answer = answers.message().await.map_err(|e| e.to_string())?;
        note(&mut history, &answer.ok_or("the watch ended")?)?;
    }
    Ok(history)
}
