//! One member that operations are sent to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mainstay_client::stubs::etcdserverpb as stubs;
use mainstay_client::{Client, Conduit, Options};
use mainstay_proto::{etcdserverpb as pb, mvccpb};

use super::answer::{Answer, Delivered, Outcome};
use super::op::{FUTURE_STREAM, Op, STREAMS};
use super::stream::{Item, Stream};
use crate::{Kind, Member};

/// How long an answer may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// A lease of the shortest kind lives for two seconds: an operation that took longer
/// than this may have met its end.
const BRIEF: Duration = Duration::from_millis(1200);

/// The place of the stream that sees everything.
const ORACLE: usize = STREAMS;

#[derive(Clone)]
pub(crate) struct Stubs {
    kv: stubs::kv_client::KvClient<Conduit>,
    lease: stubs::lease_client::LeaseClient<Conduit>,
    cluster: stubs::cluster_client::ClusterClient<Conduit>,
    maintenance: stubs::maintenance_client::MaintenanceClient<Conduit>,
    watch: stubs::watch_client::WatchClient<Conduit>,
}

/// A watcher on [`FUTURE_STREAM`], where progress requests are of no use.
struct Waiting {
    watch_id: i64,
    request: pb::WatchCreateRequest,
    told: usize,
    seen: usize,
}

/// A member with what a client knows about it.
pub(crate) struct Side {
    kind: Kind,
    stubs: Stubs,
    revision: i64,
    streams: [Option<Stream>; STREAMS],
    oracle: Stream,
    history: Vec<(i64, mvccpb::Event)>,
    future: Vec<Waiting>,
}

impl Side {
    /// Connects to a member that nobody else talks to.
    pub(crate) async fn connect(member: &Member) -> Result<Side, String> {
        let options = Options { send_bytes_max: 64 << 20, ..Options::default() };
        let endpoint = member.endpoint();
        let client = Client::connect(&endpoint, &options).await;
        let client = client.map_err(|e| format!("{endpoint}: {e}"))?;
        let stubs = Stubs {
            kv: client.kv(),
            lease: client.lease(),
            cluster: client.cluster(),
            maintenance: client.maintenance(),
            watch: client.watch(),
        };
        let oracle = Stream::open(stubs.watch.clone());
        let everything = pb::WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..pb::WatchCreateRequest::default()
        };
        let created = oracle.create(everything, PATIENCE).await;
        let revision = created.and_then(|c| c.header).map(|header| header.revision);
        let revision = revision.ok_or("no watcher on everything")?;
        Ok(Side {
            kind: member.start().kind,
            stubs,
            revision,
            streams: [const { None }; STREAMS],
            oracle,
            history: Vec::new(),
            future: Vec::new(),
        })
    }

    /// Sends these, reads that follow each other at once, and returns as many outcomes.
    pub(crate) async fn perform(&mut self, ops: &[Op]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(ops.len());
        let mut rest = ops;
        while let Some(op) = rest.first() {
            let reads = rest.iter().take(32).take_while(|op| op.is_read()).count();
            if reads > 1 {
                let (together, after) = rest.split_at(reads);
                outcomes.extend(self.read_together(together).await);
                rest = after;
                continue;
            }
            outcomes.push(self.step(op).await);
            rest = &rest[1..];
        }
        outcomes
    }

    async fn read_together(&mut self, ops: &[Op]) -> Vec<Outcome> {
        let now = self.revision;
        let asked: Vec<_> = ops
            .iter()
            .map(|op| tokio::spawn(ask(self.stubs.clone(), op.at(now).as_asked(self.kind))))
            .collect();
        let mut outcomes = Vec::with_capacity(ops.len());
        for answer in asked {
            let answer = answer.await.unwrap_or_else(|e| Answer::Missing(e.to_string()));
            outcomes.push(Outcome { answer, delivered: Delivered::new(), now });
        }
        outcomes
    }

    async fn step(&mut self, op: &Op) -> Outcome {
        let now = self.revision;
        let delivered = if op.needs_settled() { self.settle().await } else { Delivered::new() };
        let asked = op.at(now).as_asked(self.kind);
        let mut answer = match asked {
            Op::Watch(stream, request) => self.watch(stream, request).await,
            Op::WatchBeforeAll(request) => self.watch_before_all(request).await,
            Op::CancelWatch(stream, watch_id) => self.cancel(stream, watch_id).await,
            Op::CloseStream(stream) => {
                self.streams[stream] = None;
                if stream == FUTURE_STREAM {
                    self.future.clear();
                }
                Answer::Done
            }
            Op::Settle => Answer::Done,
            Op::BriefLease(request) => self.brief_lease(request).await,
            Op::Compact(request) => self.compact(request).await,
            plain => ask(self.stubs.clone(), plain).await,
        };
        for part in answer.parts_mut() {
            if let Some(header) = part.header_mut() {
                self.revision = self.revision.max(header.revision);
            }
        }
        Outcome { answer, delivered, now }
    }

    async fn watch(&mut self, at: usize, request: pb::WatchCreateRequest) -> Answer {
        let client = &self.stubs.watch;
        let stream = self.streams[at].get_or_insert_with(|| Stream::open(client.clone()));
        let Some(created) = stream.create(request.clone(), PATIENCE).await else {
            return Answer::Missing(format!("no watcher; the stream: {:?}", stream.ended()));
        };
        if at == FUTURE_STREAM && !created.canceled {
            let watch_id = created.watch_id;
            self.future.retain(|waiting| waiting.watch_id != watch_id);
            self.future.push(Waiting { watch_id, request, told: 0, seen: self.history.len() });
        }
        Answer::Done
    }

    async fn watch_before_all(&mut self, request: pb::WatchCreateRequest) -> Answer {
        let refused = pb::WatchResponse {
            header: Some(pb::ResponseHeader { revision: self.revision, ..Default::default() }),
            watch_id: -1,
            created: true,
            canceled: true,
            cancel_reason: "etcdserver: mvcc: required revision has been compacted".to_owned(),
            ..pb::WatchResponse::default()
        };
        if self.kind == Kind::Real {
            return Answer::Watch(Box::new(refused));
        }
        let stream = Stream::open(self.stubs.watch.clone());
        match stream.create(request, PATIENCE).await {
            Some(mut created) => {
                if let Some(header) = &mut created.header {
                    (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
                }
                Answer::Watch(Box::new(created))
            }
            None => Answer::Missing("no answer to a negative start".to_owned()),
        }
    }

    async fn cancel(&mut self, at: usize, watch_id: i64) -> Answer {
        let Some(stream) = &self.streams[at] else { return Answer::Done };
        let answered = stream.cancel(watch_id, PATIENCE).await;
        if at == FUTURE_STREAM {
            self.future.retain(|waiting| waiting.watch_id != watch_id);
        }
        if answered { Answer::Done } else { Answer::Missing("no end of a watcher".to_owned()) }
    }

    /// Compacts, and waits for the work behind it: see `hash-while-compacting`.
    async fn compact(&mut self, request: pb::CompactionRequest) -> Answer {
        let answer = ask(self.stubs.clone(), Op::Compact(request)).await;
        if matches!(answer, Answer::Compact(_)) && !request.physical {
            let again = pb::CompactionRequest { physical: true, ..request };
            // Refused as already compacted, but not before the work is done.
            ask(self.stubs.clone(), Op::Compact(again)).await;
        }
        answer
    }

    async fn brief_lease(&mut self, request: pb::LeaseGrantRequest) -> Answer {
        let begin = Instant::now();
        let granted = ask(self.stubs.clone(), Op::Grant(request)).await;
        let id = if let Answer::Grant(grant) = &granted { grant.id } else { request.id };
        let look = pb::LeaseTimeToLiveRequest { id, keys: true };
        let looked = ask(self.stubs.clone(), Op::TimeToLive(look)).await;
        let revoke = Op::Revoke(pb::LeaseRevokeRequest { id });
        let revoked = ask(self.stubs.clone(), revoke).await;
        if begin.elapsed() > BRIEF {
            return Answer::Several(vec![granted, Answer::Missing(TOO_SLOW.to_owned())]);
        }
        Answer::Several(vec![granted, looked, revoked])
    }

    /// Waits until every watcher was told everything, and returns what they were told.
    async fn settle(&mut self) -> Delivered {
        let mut delivered = Delivered::new();
        let mut late = Vec::new();
        // Nothing was written before the first event can come.
        if self.revision > 1 && !self.oracle.reached(self.revision, PATIENCE).await {
            late.push((ORACLE, 0));
        }
        for (at, stream) in self.streams.iter().enumerate() {
            let Some(stream) = stream else { continue };
            if at != FUTURE_STREAM && !stream.in_step(self.revision, PATIENCE).await {
                late.push((at, -1));
            }
        }
        self.collect(ORACLE, self.oracle.drain(), &mut delivered);
        self.remember(&delivered);
        if let Some(stream) = &self.streams[FUTURE_STREAM] {
            for waiting in &mut self.future {
                let new = &self.history[waiting.seen..];
                waiting.told +=
                    new.iter().filter(|event| concerns(&waiting.request, event)).count();
                waiting.seen = self.history.len();
                let alive = stream.is_live(waiting.watch_id);
                if alive && !stream.told(waiting.watch_id, waiting.told, PATIENCE).await {
                    late.push((FUTURE_STREAM, waiting.watch_id));
                }
            }
        }
        for (at, stream) in self.streams.iter().enumerate() {
            let Some(stream) = stream else { continue };
            self.collect(at, stream.drain(), &mut delivered);
            if let Some(end) = stream.ended() {
                let fault = Item::Fault(format!("the stream ended: {end}"));
                delivered.entry((at, -1)).or_default().push(fault);
            }
        }
        for place in late {
            let fault = Item::Fault("not in step in time".to_owned());
            delivered.entry(place).or_default().push(fault);
        }
        delivered
    }

    fn collect(&self, at: usize, items: BTreeMap<i64, Vec<Item>>, delivered: &mut Delivered) {
        delivered.extend(items.into_iter().map(|(id, items)| ((at, id), items)));
    }

    fn remember(&mut self, delivered: &Delivered) {
        for item in delivered.values().flatten() {
            if let Item::Event(event) = item {
                let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                self.history.push((revision, event.clone()));
            }
        }
    }
}

/// What [`Answer::Missing`] says when a brief lease may have ended by itself.
pub(crate) const TOO_SLOW: &str = "too slow to say";

/// Whether a watcher made by `request` is to be told this event.
fn concerns(request: &pb::WatchCreateRequest, (revision, event): &(i64, mvccpb::Event)) -> bool {
    let Some(kv) = &event.kv else { return false };
    let key = if request.key.is_empty() { &b"\0"[..] } else { &request.key[..] };
    let inside = match &request.range_end[..] {
        b"" => kv.key == key,
        b"\0" => &kv.key[..] >= key,
        end => &kv.key[..] >= key && &kv.key[..] < end,
    };
    inside && *revision >= request.start_revision && !request.filters.contains(&event.r#type)
}

/// One request that needs no stream of ours.
pub(crate) async fn ask(stubs: Stubs, op: Op) -> Answer {
    match tokio::time::timeout(PATIENCE, ask_patiently(stubs, op)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => Answer::failed(&status),
        Err(_) => Answer::Missing(format!("no answer in {PATIENCE:?}")),
    }
}

async fn ask_patiently(mut to: Stubs, op: Op) -> Result<Answer, tonic::Status> {
    Ok(match op {
        Op::Range(request) => Answer::Range(to.kv.range(request).await?.into_inner()),
        Op::Put(request) => Answer::Put(to.kv.put(request).await?.into_inner()),
        Op::Delete(request) => Answer::Delete(to.kv.delete_range(request).await?.into_inner()),
        Op::Txn(request) => Answer::Txn(to.kv.txn(request).await?.into_inner()),
        Op::Compact(request) => Answer::Compact(to.kv.compact(request).await?.into_inner()),
        Op::Grant(request) => Answer::Grant(to.lease.lease_grant(request).await?.into_inner()),
        Op::Revoke(request) => Answer::Revoke(to.lease.lease_revoke(request).await?.into_inner()),
        Op::TimeToLive(request) => {
            Answer::TimeToLive(to.lease.lease_time_to_live(request).await?.into_inner())
        }
        Op::Leases => {
            let request = pb::LeaseLeasesRequest {};
            Answer::Leases(to.lease.lease_leases(request).await?.into_inner())
        }
        Op::KeepAlive(request) => {
            let mut answers = to.lease.lease_keep_alive(tokio_stream::once(request)).await?;
            Answer::KeepAlive(answers.get_mut().message().await?)
        }
        Op::HashKv(request) => Answer::HashKv(to.maintenance.hash_kv(request).await?.into_inner()),
        Op::Members(request) => {
            Answer::Members(to.cluster.member_list(request).await?.into_inner())
        }
        Op::Alarm(request) => Answer::Alarm(to.maintenance.alarm(request).await?.into_inner()),
        other => Answer::Missing(format!("{other} is no plain request")),
    })
}
