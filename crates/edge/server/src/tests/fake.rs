//! A member made of a few maps, and a server over it.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mainstay_apply::{Auth, AuthRequest, Reply};
use mainstay_credentials::Origin;
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb::KeyValue;
use mainstay_types::{ClusterId, Index, KeyRange, MemberId, Term, Version};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::fake_cluster::Around;
use crate::cluster::{Cluster as _, Led};
use crate::errors;
use crate::gate::Permitted;
use crate::member::{
    Bearer, Doorkeeper, HashKv, Identity, Member, RangeAnswer, Settings, Sizes, SnapshotSource,
    Standing,
};
use crate::server::{Server, ServerConfig, Serving};
use crate::status::Status;
use crate::stream::{RequestMessages, ResponseSink};
use mainstay_driver::stats::Stats;

pub(super) const CLUSTER: u64 = 0xc;
pub(super) const MEMBER: u64 = 0xa;

#[derive(Clone)]
pub(super) struct Fake(pub(super) Arc<State>);

pub(super) struct State {
    pub(super) kvs: Mutex<BTreeMap<Bytes, KeyValue>>,
    pub(super) revision: Mutex<i64>,
    pub(super) alarms: Mutex<Vec<pb::AlarmMember>>,
    pub(super) standing: Mutex<Standing>,
    pub(super) db_size: Mutex<u64>,
    pub(super) lacks_room: AtomicBool,
    /// Refuses linearizable reads with this.
    pub(super) read_error: Mutex<Option<Status>>,
    /// Handlers that wait for ever, now.
    pub(super) hung: AtomicUsize,
    pub(super) pool_jobs: AtomicUsize,
    pub(super) around: Around,
    pub(super) auth: Mutex<Arc<Auth>>,
    /// Tokens and whose they are.
    pub(super) tokens: Mutex<BTreeMap<String, String>>,
    pub(super) auth_changes: watch::Sender<u64>,
    settings: Settings,
    stats: Stats,
}

impl Default for Fake {
    fn default() -> Fake {
        Fake::with_patience(Duration::from_secs(7))
    }
}

impl Fake {
    /// A member whose requests time out after so long.
    pub(super) fn with_patience(request_timeout: Duration) -> Fake {
        let standing = Standing {
            term: Term(2),
            leader: MemberId(MEMBER),
            committed: Index(5),
            applied: Index(4),
            learner: false,
        };
        let settings = Settings {
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            election_timeout: Duration::from_millis(20),
            request_timeout,
            quota_bytes: Some(2 << 30),
        };
        Fake(Arc::new(State {
            kvs: Mutex::default(),
            revision: Mutex::new(1),
            alarms: Mutex::default(),
            standing: Mutex::new(standing),
            db_size: Mutex::new(20_480),
            lacks_room: AtomicBool::new(false),
            read_error: Mutex::new(None),
            hung: AtomicUsize::new(0),
            pool_jobs: AtomicUsize::new(0),
            around: Around::default(),
            auth: Mutex::default(),
            tokens: Mutex::default(),
            auth_changes: watch::channel(0).0,
            settings,
            stats: Stats::default(),
        }))
    }
}

impl Fake {
    pub(super) fn set(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> i64 {
        let mut revision = self.0.revision.lock();
        *revision += 1;
        let (key, value) = (key.into(), value.into());
        let kv = KeyValue {
            key: key.clone(),
            value,
            create_revision: *revision,
            mod_revision: *revision,
            version: 1,
            lease: 0,
        };
        self.0.kvs.lock().insert(key, kv);
        *revision
    }

    pub(super) fn hung(&self) -> usize {
        self.0.hung.load(Ordering::SeqCst)
    }

    async fn hang(&self) {
        struct Hanging(Arc<State>);
        impl Drop for Hanging {
            fn drop(&mut self) {
                self.0.hung.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.0.hung.fetch_add(1, Ordering::SeqCst);
        let _hanging = Hanging(Arc::clone(&self.0));
        pending::<()>().await;
    }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

struct Zeros(u64);

impl SnapshotSource for Zeros {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, _: u64, out: &mut [u8]) -> std::io::Result<()> {
        out.fill(0);
        Ok(())
    }
}

impl Member for Fake {
    fn identity(&self) -> Identity {
        Identity { cluster: ClusterId(CLUSTER), member: MemberId(MEMBER) }
    }

    fn standing(&self) -> Standing {
        *self.0.standing.lock()
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn revision(&self) -> i64 {
        *self.0.revision.lock()
    }

    fn keys_in(&self, key: &Bytes, range_end: &Bytes) -> u64 {
        let range = KeyRange::from_wire(key.clone(), range_end.clone());
        self.0.kvs.lock().keys().filter(|key| range.contains(key)).count() as u64
    }

    fn db_size(&self) -> u64 {
        *self.0.db_size.lock()
    }

    fn lacks_room(&self) -> bool {
        self.0.lacks_room.load(Ordering::SeqCst)
    }

    fn sizes(&self) -> Sizes {
        let keys = self.0.kvs.lock().len() as u64;
        Sizes {
            db: self.db_size(),
            db_in_use: 16_384,
            keys,
            revision: self.revision(),
            compacted: -1,
            ..Sizes::default()
        }
    }

    fn stats(&self) -> &Stats {
        &self.0.stats
    }

    fn auth_enabled(&self) -> bool {
        self.0.auth.lock().is_enabled()
    }

    fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.0.auth.lock())
    }

    fn auth_changes(&self) -> watch::Receiver<u64> {
        self.0.auth_changes.subscribe()
    }

    fn bearer_of(&self, token: &str) -> Option<Bearer> {
        let user = self.0.tokens.lock().get(token)?.clone();
        Some(Bearer { user, revision: None })
    }

    fn has_simple_tokens(&self) -> bool {
        false
    }

    async fn authenticate(
        &self,
        _: pb::AuthenticateRequest,
        _: Origin,
    ) -> Result<pb::AuthenticateResponse, Status> {
        if self.auth_enabled() {
            return Ok(pb::AuthenticateResponse { header: header(0), token: "t".into() });
        }
        Err(errors::AUTH_NOT_ENABLED.status())
    }

    async fn change_auth(&self, request: Permitted<AuthRequest>) -> Result<Reply, Status> {
        let (enabled, auth_revision) = (self.auth_enabled(), self.auth().revision());
        Ok(match *request {
            AuthRequest::Status => {
                let header = header(0);
                Reply::AuthStatus(pb::AuthStatusResponse { header, enabled, auth_revision })
            }
            _ => Reply::AuthUserList(pb::AuthUserListResponse::default()),
        })
    }

    async fn lease_keys(&self, lease: i64) -> Result<Vec<Bytes>, Status> {
        Ok(if lease == 1 { vec![Bytes::from_static(b"k")] } else { Vec::new() })
    }

    fn cluster_version(&self) -> Option<Version> {
        self.membership().version()
    }

    fn storage_version(&self) -> Option<Version> {
        None
    }

    async fn linearizable(&self) -> Result<(), Status> {
        self.0.read_error.lock().clone().map_or(Ok(()), Err)
    }

    fn range(&self, request: &Permitted<pb::RangeRequest>) -> Result<RangeAnswer, Status> {
        let revision = self.revision();
        if request.revision > revision {
            return Err(errors::FUTURE_REV.status());
        }
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let kvs = self.0.kvs.lock();
        let found: Vec<&KeyValue> = kvs.values().filter(|kv| range.contains(&kv.key)).collect();
        let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        let count = found.len() as i64;
        let more = found.len() > limit;
        let raw = found.iter().take(limit).map(|kv| Bytes::from(kv.encode_to_vec()));
        let kvs = if request.count_only { Vec::new() } else { raw.collect() };
        Ok(RangeAnswer { kvs, more: more && !request.count_only, count, revision })
    }

    fn read_txn(&self, request: &Permitted<pb::TxnRequest>) -> Result<pb::TxnResponse, Status> {
        let _ = request;
        Ok(pb::TxnResponse { header: header(0), succeeded: true, responses: Vec::new() })
    }

    async fn on_read_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Status> {
        self.0.pool_jobs.fetch_add(1, Ordering::SeqCst);
        Ok(work(self))
    }

    async fn put(&self, request: Permitted<pb::PutRequest>) -> Result<pb::PutResponse, Status> {
        let (request, _) = request.into_parts();
        if request.key.as_ref() == b"hang" {
            self.hang().await;
        }
        let revision = self.set(request.key, request.value);
        Ok(pb::PutResponse { header: header(revision), prev_kv: None })
    }

    async fn delete_range(
        &self,
        request: Permitted<pb::DeleteRangeRequest>,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        let (request, _) = request.into_parts();
        let range = KeyRange::from_wire(request.key, request.range_end);
        let before = self.0.kvs.lock().len();
        self.0.kvs.lock().retain(|key, _| !range.contains(key));
        let deleted = (before - self.0.kvs.lock().len()) as i64;
        Ok(pb::DeleteRangeResponse { header: header(0), deleted, prev_kvs: Vec::new() })
    }

    async fn txn(&self, _: Permitted<pb::TxnRequest>) -> Result<pb::TxnResponse, Status> {
        Ok(pb::TxnResponse { header: header(0), succeeded: true, responses: Vec::new() })
    }

    async fn compact(
        &self,
        _: Permitted<pb::CompactionRequest>,
    ) -> Result<pb::CompactionResponse, Status> {
        Err(errors::COMPACTED.status())
    }

    async fn lease_grant(
        &self,
        request: Permitted<pb::LeaseGrantRequest>,
    ) -> Result<pb::LeaseGrantResponse, Status> {
        let (id, ttl) = (request.id.max(1), request.ttl.max(2));
        Ok(pb::LeaseGrantResponse { header: header(0), id, ttl, error: String::new() })
    }

    async fn lease_revoke(
        &self,
        _: Permitted<pb::LeaseRevokeRequest>,
    ) -> Result<pb::LeaseRevokeResponse, Status> {
        Err(errors::LEASE_NOT_FOUND.status())
    }

    async fn lease_renew(
        &self,
        request: &Permitted<pb::LeaseKeepAliveRequest>,
    ) -> Result<Led<Option<i64>>, Status> {
        Ok(self.if_leading((request.id == 1).then_some(60)))
    }

    async fn lease_time_to_live(
        &self,
        request: &Permitted<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Led<pb::LeaseTimeToLiveResponse>, Status> {
        let missing = pb::LeaseTimeToLiveResponse { id: request.id, ttl: -1, ..Default::default() };
        let keys = if request.keys { vec![Bytes::from_static(b"k")] } else { Vec::new() };
        let found =
            pb::LeaseTimeToLiveResponse { ttl: 42, granted_ttl: 60, keys, ..missing.clone() };
        Ok(self.if_leading(if request.id == 1 { found } else { missing }))
    }

    async fn leases(&self, _: &Permitted<pb::LeaseLeasesRequest>) -> Result<Vec<i64>, Status> {
        Ok(vec![1, 7])
    }

    async fn alarm(
        &self,
        request: Permitted<pb::AlarmRequest>,
    ) -> Result<pb::AlarmResponse, Status> {
        if request.action() == pb::alarm_request::AlarmAction::Activate {
            let raised = pb::AlarmMember { member_id: request.member_id, alarm: request.alarm };
            self.0.alarms.lock().push(raised);
        }
        Ok(pb::AlarmResponse { header: header(0), alarms: self.0.alarms.lock().clone() })
    }

    async fn alarms(&self) -> Result<Vec<pb::AlarmMember>, Status> {
        Ok(self.0.alarms.lock().clone())
    }

    async fn members(
        &self,
        _: &Permitted<pb::MemberListRequest>,
    ) -> Result<Vec<pb::Member>, Status> {
        let membership = self.membership();
        let members = membership.members().map(|member| pb::Member {
            id: member.id.0,
            name: member.name.clone(),
            peer_ur_ls: member.peer_urls.clone(),
            client_ur_ls: member.client_urls.clone(),
            is_learner: member.is_learner,
        });
        Ok(members.collect())
    }

    async fn hash(&self, _: &Permitted<pb::HashRequest>) -> Result<u32, Status> {
        Ok(77)
    }

    async fn hash_kv(&self, request: &Permitted<pb::HashKvRequest>) -> Result<HashKv, Status> {
        let revision = request.revision;
        let now = self.revision();
        if revision >= 1000 {
            return Err(errors::FUTURE_REV.status());
        }
        Ok(HashKv { hash: 5, compact_revision: -1, hash_revision: revision.max(1), revision: now })
    }

    async fn defragment(&self, _: &Permitted<pb::DefragmentRequest>) -> Result<(), Status> {
        Ok(())
    }

    async fn snapshot(
        &self,
        _: &Permitted<pb::SnapshotRequest>,
    ) -> Result<Arc<dyn SnapshotSource>, Status> {
        Ok(Arc::new(Zeros(100_000)))
    }

    /// Echoes every message; `flood` answers with a megabyte in small messages.
    async fn watch(
        &self,
        _: impl Doorkeeper,
        mut requests: impl RequestMessages,
        mut responses: impl ResponseSink,
    ) -> Result<(), Status> {
        while let Some(request) = requests.next().await {
            let request = request?;
            if request.as_ref() == b"flood" {
                self.0.hung.fetch_add(1, Ordering::SeqCst);
                for _ in 0..4096 {
                    responses.send(Bytes::from(vec![7; 1024])).await;
                }
                self.0.hung.fetch_sub(1, Ordering::SeqCst);
            } else if request.as_ref() == b"hang" {
                self.hang().await;
            } else {
                let tail = request.slice(1..);
                responses.send_parts(request.slice(..1), tail).await;
            }
        }
        Ok(())
    }
}

/// A running server over a fake member.
pub(super) struct Running {
    pub(super) member: Fake,
    pub(super) client: Vec<String>,
    pub(super) metrics: Vec<String>,
    pub(super) peer: Vec<String>,
    /// Those of `--listen-client-http-urls`.
    pub(super) http: Vec<String>,
    pub(super) serving: Option<Serving>,
}

impl Running {
    pub(super) fn start(config: ServerConfig) -> Running {
        Running::over(Fake::default(), config)
    }

    pub(super) fn over(member: Fake, config: ServerConfig) -> Running {
        let server = Server::bind(config, member.clone()).expect("the listeners bind");
        let (client, metrics, peer) =
            (server.client_urls(), server.metrics_urls(), server.peer_urls());
        let http = server.http_only_urls();
        let serving = Some(server.serve().expect("the shards start"));
        Running { member, client, metrics, peer, http, serving }
    }

    /// A server with one plain client listener.
    pub(super) fn plain() -> Running {
        Running::start(ServerConfig { shards: 2, ..local() })
    }

    /// `host:port` of the first client listener.
    pub(super) fn address(&self) -> String {
        host(&self.client[0])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.shutdown(Duration::from_millis(100));
        }
    }
}

/// A configuration with a plain client listener on a free port.
pub(super) fn local() -> ServerConfig {
    ServerConfig {
        client_urls: vec!["http://127.0.0.1:0".into()],
        shards: 1,
        ..ServerConfig::default()
    }
}

/// `host:port` of a URL.
pub(super) fn host(url: &str) -> String {
    url.split_once("://").expect("a URL").1.to_owned()
}
