//! One watch stream, read as it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mainstay_client::Conduit;
use mainstay_client::stubs::etcdserverpb::watch_client::WatchClient;
use mainstay_proto::{etcdserverpb as pb, mvccpb};
use pb::watch_request::RequestUnion;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// What a watcher was told, with what depends on time left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// The answer to a create request.
    Created(Box<pb::WatchResponse>),
    /// One event.
    Event(mvccpb::Event),
    /// The end of the watcher.
    Canceled(Box<pb::WatchResponse>),
    /// Something that no response may be.
    Fault(String),
}

#[derive(Debug, Default)]
struct Log {
    items: BTreeMap<i64, Vec<Item>>,
    creations: usize,
    created: Option<pb::WatchResponse>,
    live: BTreeSet<i64>,
    compacted: BTreeSet<i64>,
    events: BTreeMap<i64, usize>,
    newest: BTreeMap<i64, i64>,
    open_fragments: BTreeSet<i64>,
    in_step_at: i64,
    ended: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Stream {
    requests: mpsc::UnboundedSender<pb::WatchRequest>,
    shared: Arc<(Mutex<Log>, Notify)>,
    reader: AbortHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Stream {
    pub(crate) fn open(mut client: WatchClient<Conduit>) -> Stream {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let shared: Arc<(Mutex<Log>, Notify)> = Arc::default();
        let theirs = Arc::clone(&shared);
        // The member answers the call itself only with its first response.
        let reader = tokio::spawn(async move {
            let end = match client.watch(UnboundedReceiverStream::new(outgoing)).await {
                Err(status) => status,
                Ok(answer) => {
                    let mut responses = answer.into_inner();
                    loop {
                        match responses.message().await {
                            Ok(Some(response)) => {
                                lock(&theirs).take(response);
                                theirs.1.notify_waiters();
                            }
                            Ok(None) => break tonic::Status::ok("no more responses"),
                            Err(status) => break status,
                        }
                    }
                }
            };
            lock(&theirs).ended = Some(format!("{:?}: {}", end.code(), end.message()));
            theirs.1.notify_waiters();
        });
        Stream { requests, shared, reader: reader.abort_handle() }
    }

    fn send(&self, request: RequestUnion) {
        // A stream that has ended says so when it is waited for.
        let _ = self.requests.send(pb::WatchRequest { request_union: Some(request) });
    }

    /// Waits until `done`; false when that does not happen within `patience` or the
    /// stream ends.
    async fn until(&self, patience: Duration, mut done: impl FnMut(&mut Log) -> bool) -> bool {
        let waited = tokio::time::timeout(patience, async {
            loop {
                let changed = self.shared.1.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                {
                    let mut log = lock(&self.shared);
                    if done(&mut log) {
                        return true;
                    }
                    if log.ended.is_some() {
                        return false;
                    }
                }
                changed.await;
            }
        });
        waited.await.unwrap_or(false)
    }

    /// Asks for a watcher and waits for the answer; the answer.
    pub(crate) async fn create(
        &self,
        request: pb::WatchCreateRequest,
        patience: Duration,
    ) -> Option<pb::WatchResponse> {
        let before = lock(&self.shared).creations;
        self.send(RequestUnion::CreateRequest(request));
        if !self.until(patience, |log| log.creations > before).await {
            return None;
        }
        lock(&self.shared).created.clone()
    }

    /// Cancels a watcher; waits for the answer when there must be one.
    pub(crate) async fn cancel(&self, watch_id: i64, patience: Duration) -> bool {
        let known = lock(&self.shared).live.contains(&watch_id);
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
        !known || self.until(patience, |log| !log.live.contains(&watch_id)).await
    }

    /// Waits until no watcher lags behind `revision`, by progress requests, which
    /// are answered only then. Watchers that a compaction ended are cancelled: as
    /// long as they are not, no progress request is answered.
    pub(crate) async fn in_step(&self, revision: i64, patience: Duration) -> bool {
        let end = tokio::time::Instant::now() + patience;
        lock(&self.shared).in_step_at = -1;
        let mut cancelled = BTreeSet::new();
        loop {
            if lock(&self.shared).live.is_empty() {
                return true;
            }
            self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
            let pause = Duration::from_millis(25);
            let mut ended = BTreeSet::new();
            let moved = self.until(pause, |log| {
                ended = log.compacted.difference(&cancelled).copied().collect();
                !ended.is_empty() || log.live.is_empty() || log.in_step_at >= revision
            });
            if moved.await && ended.is_empty() {
                return true;
            }
            for watch_id in ended {
                cancelled.insert(watch_id);
                self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
            }
            if tokio::time::Instant::now() > end || lock(&self.shared).ended.is_some() {
                return false;
            }
        }
    }

    /// Waits until this watcher was told at least so many events.
    pub(crate) async fn told(&self, watch_id: i64, events: usize, patience: Duration) -> bool {
        self.until(patience, |log| log.events.get(&watch_id).is_some_and(|n| *n >= events)).await
    }

    /// Waits for an event of this revision or a later one.
    pub(crate) async fn reached(&self, revision: i64, patience: Duration) -> bool {
        self.until(patience, |log| log.newest.values().any(|newest| *newest >= revision)).await
    }

    pub(crate) fn is_live(&self, watch_id: i64) -> bool {
        lock(&self.shared).live.contains(&watch_id)
    }

    pub(crate) fn ended(&self) -> Option<String> {
        lock(&self.shared).ended.clone()
    }

    /// What the watchers were told since the last call, by id.
    pub(crate) fn drain(&self) -> BTreeMap<i64, Vec<Item>> {
        std::mem::take(&mut lock(&self.shared).items)
    }
}

fn lock(shared: &(Mutex<Log>, Notify)) -> MutexGuard<'_, Log> {
    shared.0.lock().expect("nobody panics while holding it")
}

impl Log {
    fn take(&mut self, mut response: pb::WatchResponse) {
        let id = response.watch_id;
        let told = response.header.as_ref().map_or(0, |header| header.revision);
        if let Some(header) = &mut response.header {
            (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
        }
        if response.created {
            self.creations += 1;
            self.created = Some(response.clone());
            if !response.canceled {
                self.live.insert(id);
                self.events.insert(id, 0);
                self.newest.remove(&id);
            }
            self.push(id, Item::Created(Box::new(response)));
        } else if response.canceled {
            if response.compact_revision == 0 {
                self.live.remove(&id);
                self.compacted.remove(&id);
            } else {
                self.compacted.insert(id);
            }
            self.push(id, Item::Canceled(Box::new(response)));
        } else if response.events.is_empty() {
            if id == -1 {
                self.in_step_at = self.in_step_at.max(told);
            } else if !self.live.contains(&id) {
                self.push(id, Item::Fault("progress of a watcher that is not".to_owned()));
            }
        } else {
            self.take_events(id, told, response);
        }
    }

    fn take_events(&mut self, id: i64, told: i64, response: pb::WatchResponse) {
        let mut newest = self.newest.get(&id).copied().unwrap_or(0);
        let first = response.events[0].kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if first == newest && !self.open_fragments.contains(&id) {
            self.push(id, Item::Fault(format!("revision {first} comes in two responses")));
        }
        self.open_fragments.remove(&id);
        if response.fragment {
            self.open_fragments.insert(id);
        }
        if !self.live.contains(&id) {
            self.push(id, Item::Fault("events of a watcher that is not".to_owned()));
        }
        *self.events.entry(id).or_default() += response.events.len();
        for event in response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision < newest {
                self.push(id, Item::Fault(format!("revision {revision} after {newest}")));
            }
            newest = revision;
            self.push(id, Item::Event(event));
        }
        if told < newest {
            self.push(id, Item::Fault(format!("header.revision {told} below {newest}")));
        }
        self.newest.insert(id, newest);
    }

    fn push(&mut self, id: i64, item: Item) {
        self.items.entry(id).or_default().push(item);
    }
}
