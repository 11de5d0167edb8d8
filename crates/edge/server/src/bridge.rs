//! The real member behind the services: `driver::Handle`.

mod auth;
mod cluster;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use mainstay_apply::{ApplyError, Auth, AuthRequest, Reply, classify};
use mainstay_backend::BackendError;
use mainstay_backend::bolt::{self, Copy};
use mainstay_credentials::Origin;
use mainstay_driver::{Handle, RequestError, RequestField, WatchCommand, WatchStream};
use mainstay_mvcc::MvccError;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::GRPC_OVERHEAD_BYTES;
use mainstay_types::{KeyRange, LeaseId, MemberId, Version};
use mainstay_watch::{Header, Response};

use crate::cluster::{Cluster as _, Led};
use crate::errors;
use crate::gate::Permitted;
use crate::member::{
    Bearer, Doorkeeper, HashKv, Identity, Member, RangeAnswer, Settings, Sizes, SnapshotSource,
    Standing,
};
use crate::status::{Code, Status};
use crate::stream::{RequestMessages, ResponseSink};
use crate::watch::{self, Ask, Sent, WatchLink};

pub use auth::Login;

/// A running member as the server wants it; clones share it.
#[derive(Clone)]
pub struct Bridge {
    handle: Handle,
    settings: Arc<Settings>,
    strict_reconfig: bool,
    login: Arc<Login>,
}

impl Bridge {
    /// The member behind `handle`.
    pub fn new(handle: Handle) -> Bridge {
        let options = handle.options();
        let quota = mainstay_apply::quota::Quota::from_flag(options.quota_bytes);
        let settings = Settings {
            max_request_bytes: options.max_request_bytes,
            max_txn_ops: options.max_txn_ops,
            election_timeout: options.election_timeout,
            request_timeout: options.request_timeout(),
            quota_bytes: quota.limit(),
        };
        Bridge {
            handle,
            settings: Arc::new(settings),
            strict_reconfig: true,
            login: Arc::default(),
        }
    }

    /// With `--strict-reconfig-check` on, as it is without this, or off.
    #[must_use]
    pub fn with_strict_reconfig(self, strict_reconfig: bool) -> Bridge {
        Bridge { strict_reconfig, ..self }
    }

    /// With a cost of passwords, and tokens of another kind than simple ones.
    #[must_use]
    pub fn with_login(self, login: Login) -> Bridge {
        Bridge { login: Arc::new(login), ..self }
    }

    /// Whether what was read in somebody's name may be given out.
    fn still<T>(&self, request: &Permitted<T>) -> Result<(), Status> {
        request.still(self.handle.auth_enabled(), || self.handle.auth().revision())
    }

    /// Whether this member only learns. A leader never does, and is asked most.
    fn is_learner(&self, leader: MemberId) -> bool {
        let own = self.handle.identity().member;
        let learns = |member: &mainstay_membership::Member| member.is_learner;
        leader != own && self.membership().member(own).is_some_and(learns)
    }

    /// The answer about a lease that is not counted down here. When it exists all the
    /// same, this member has just lost the leadership, and with it the countdown.
    async fn unless_known<T>(&self, lease: LeaseId, answer: T) -> Result<Led<T>, Status> {
        let known = self.handle.ask(move |machine| machine.leases().contains(lease));
        let known = known.await.map_err(refused)?;
        Ok(if known || !self.handle.leads() { Led::Elsewhere } else { Led::Here(answer) })
    }

    /// Commits what was applied, so that the file says it.
    async fn committed(&self) -> Result<(), Status> {
        self.handle.commit_backend().await.map_err(refused)
    }
}

fn refused(error: RequestError) -> Status {
    errors::from_text(error.to_string())
}

fn unreadable(error: MvccError) -> Status {
    match error {
        MvccError::Compacted => errors::COMPACTED.status(),
        MvccError::FutureRevision => errors::FUTURE_REV.status(),
        MvccError::Row { .. }
        | MvccError::Backend(BackendError::Bolt(bolt::Error::Damaged { .. })) => Status::new(
            Code::DataLoss,
            format!("etcdserver: {error}; `etcdutl repair` says what can be saved"),
        ),
        error => errors::from_text(error.to_string()),
    }
}

fn not_applied(error: ApplyError) -> Status {
    errors::from_text(error.to_string())
}

/// A reply of another kind than the request asks for would be a bug of ours.
fn wrong_kind<T>(reply: Reply) -> Result<T, Status> {
    Err(errors::from_text(format!("etcdserver: unexpected reply {reply:?}")))
}

/// The proposal of one kind of request, and the reply of the same kind.
macro_rules! proposal {
    ($self:ident, $kind:ident, $permitted:expr) => {{
        let permitted = &$permitted;
        let proposed = $self.handle.propose_as(permitted.who(), RequestField::$kind, &**permitted);
        match proposed.await.map_err(refused)? {
            Reply::$kind(reply) => Ok(reply),
            other => wrong_kind(other),
        }
    }};
}

impl Member for Bridge {
    async fn attend(&self) {
        self.handle.gather_here().await;
    }

    fn identity(&self) -> Identity {
        let identity = self.handle.identity();
        Identity { cluster: identity.cluster, member: identity.member }
    }

    fn standing(&self) -> Standing {
        let standing = self.handle.standing();
        Standing {
            term: standing.term,
            leader: standing.leader,
            committed: standing.committed,
            applied: standing.applied,
            learner: self.is_learner(standing.leader),
        }
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn revision(&self) -> i64 {
        self.handle.view().revision()
    }

    fn keys_in(&self, key: &Bytes, range_end: &Bytes) -> u64 {
        self.handle.view().count(&KeyRange::from_wire(key.clone(), range_end.clone())) as u64
    }

    fn db_size(&self) -> u64 {
        self.handle.backend().size()
    }

    fn lacks_room(&self) -> bool {
        self.handle.lacks_room()
    }

    fn sizes(&self) -> Sizes {
        let view = self.handle.view();
        let backend = self.handle.backend();
        let (disk_free, disk_reserve) = self.handle.disk_room();
        Sizes {
            db: backend.size(),
            db_in_use: backend.size_in_use(),
            keys: view.len() as u64,
            revision: view.revision(),
            compacted: view.compact_revision(),
            open_readers: backend.open_readers() as u64,
            proposals_pending: self.handle.proposals_pending() as u64,
            proposals_failed: self.handle.proposals_failed(),
            leader_changes: self.handle.leader_changes(),
            disk_free,
            disk_reserve,
        }
    }

    fn stats(&self) -> &mainstay_driver::stats::Stats {
        self.handle.stats()
    }

    fn auth_enabled(&self) -> bool {
        self.handle.auth_enabled()
    }

    fn auth(&self) -> Arc<Auth> {
        self.handle.auth()
    }

    fn auth_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.handle.auth_changes()
    }

    fn bearer_of(&self, token: &str) -> Option<Bearer> {
        self.login.bearer_of(&self.handle, token)
    }

    fn has_simple_tokens(&self) -> bool {
        self.handle.has_simple_tokens()
    }

    async fn authenticate(
        &self,
        request: pb::AuthenticateRequest,
        from: Origin,
    ) -> Result<pb::AuthenticateResponse, Status> {
        self.log_in(request, from).await
    }

    async fn change_auth(&self, request: Permitted<AuthRequest>) -> Result<Reply, Status> {
        let (request, who) = request.into_parts();
        self.propose_auth(&who, request).await
    }

    async fn lease_keys(&self, lease: i64) -> Result<Vec<Bytes>, Status> {
        let keys = move |machine: &mainstay_apply::Machine| {
            machine.leases().keys(LeaseId(lease)).cloned().collect()
        };
        self.handle.ask(keys).await.map_err(refused)
    }

    fn cluster_version(&self) -> Option<Version> {
        self.handle.membership().version()
    }

    fn storage_version(&self) -> Option<Version> {
        // The schema follows the cluster version; 3.5 has no key for it.
        self.cluster_version().filter(|version| *version >= Version::line(3, 6))
    }

    async fn linearizable(&self) -> Result<(), Status> {
        self.handle.linearizable().await.map_err(refused)
    }

    fn range(&self, request: &Permitted<pb::RangeRequest>) -> Result<RangeAnswer, Status> {
        let reply = self.handle.view().range(request).map_err(unreadable)?;
        self.still(request)?;
        Ok(RangeAnswer {
            kvs: reply.kvs,
            more: reply.more,
            count: reply.count,
            revision: reply.revision,
        })
    }

    fn read_txn(&self, request: &Permitted<pb::TxnRequest>) -> Result<pb::TxnResponse, Status> {
        let reply = classify::read_only_txn(&self.handle.view(), request).map_err(not_applied)?;
        self.still(request)?;
        Ok(reply)
    }

    async fn on_read_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let this = self.clone();
        self.handle.on_read_pool(move || work(&this)).await.map_err(refused)
    }

    async fn put(&self, request: Permitted<pb::PutRequest>) -> Result<pb::PutResponse, Status> {
        proposal!(self, Put, request)
    }

    async fn delete_range(
        &self,
        request: Permitted<pb::DeleteRangeRequest>,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        proposal!(self, DeleteRange, request)
    }

    async fn txn(&self, request: Permitted<pb::TxnRequest>) -> Result<pb::TxnResponse, Status> {
        proposal!(self, Txn, request)
    }

    async fn compact(
        &self,
        request: Permitted<pb::CompactionRequest>,
    ) -> Result<pb::CompactionResponse, Status> {
        let physical = request.physical;
        let reply = match self.handle.compact(request.who(), &request).await.map_err(refused)? {
            Reply::Compaction(reply) => reply,
            other => return wrong_kind(other),
        };
        if physical {
            self.committed().await?;
        }
        Ok(reply)
    }

    async fn lease_grant(
        &self,
        request: Permitted<pb::LeaseGrantRequest>,
    ) -> Result<pb::LeaseGrantResponse, Status> {
        let (mut request, who) = request.into_parts();
        if request.id == 0 {
            request.id = self.handle.next_lease_id().0;
        }
        let proposed = self.handle.propose_as(&who, RequestField::LeaseGrant, &request);
        match proposed.await.map_err(refused)? {
            Reply::LeaseGrant(reply) => Ok(reply),
            other => wrong_kind(other),
        }
    }

    async fn lease_revoke(
        &self,
        request: Permitted<pb::LeaseRevokeRequest>,
    ) -> Result<pb::LeaseRevokeResponse, Status> {
        proposal!(self, LeaseRevoke, request)
    }

    async fn lease_renew(
        &self,
        request: &Permitted<pb::LeaseKeepAliveRequest>,
    ) -> Result<Led<Option<i64>>, Status> {
        let lease = request.id;
        match self.handle.lease_renew(LeaseId(lease)).await {
            Ok(ttl) => Ok(Led::Here(Some(ttl))),
            Err(RequestError::LeaseNotFound) => self.unless_known(LeaseId(lease), None).await,
            Err(RequestError::NoLeader) => Ok(Led::Elsewhere),
            Err(error) => Err(refused(error)),
        }
    }

    async fn lease_time_to_live(
        &self,
        request: &Permitted<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Led<pb::LeaseTimeToLiveResponse>, Status> {
        let id = LeaseId(request.id);
        let mut answer =
            pb::LeaseTimeToLiveResponse { id: request.id, ttl: -1, ..Default::default() };
        let Some(times) = self.handle.lease_times(id) else {
            return self.unless_known(id, answer).await;
        };
        answer.ttl = times.remaining;
        answer.granted_ttl = times.granted;
        if request.keys {
            let keys = self.handle.ask(move |machine| machine.leases().keys(id).cloned().collect());
            answer.keys = keys.await.map_err(refused)?;
        }
        self.still(request)?;
        Ok(Led::Here(answer))
    }

    async fn leases(
        &self,
        request: &Permitted<pb::LeaseLeasesRequest>,
    ) -> Result<Vec<i64>, Status> {
        let ids = self.handle.leases().await.map_err(refused)?;
        self.still(request)?;
        Ok(ids.into_iter().map(|id| id.0).collect())
    }

    async fn alarm(
        &self,
        request: Permitted<pb::AlarmRequest>,
    ) -> Result<pb::AlarmResponse, Status> {
        proposal!(self, Alarm, request)
    }

    async fn alarms(&self) -> Result<Vec<pb::AlarmMember>, Status> {
        Ok(self.handle.alarms().list(pb::AlarmType::None as i32))
    }

    async fn members(
        &self,
        _: &Permitted<pb::MemberListRequest>,
    ) -> Result<Vec<pb::Member>, Status> {
        let membership = self.handle.membership();
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
        self.committed().await?;
        let hash = self
            .on_read_pool(|this| mainstay_backend::hash(this.handle.backend().snapshot().reader()));
        hash.await?.map_err(|error| errors::from_text(error.to_string()))
    }

    async fn hash_kv(&self, request: &Permitted<pb::HashKvRequest>) -> Result<HashKv, Status> {
        let revision = request.revision;
        self.on_read_pool(move |this| {
            let view = this.handle.view();
            let hash = this.handle.hash_kv(revision).map_err(unreadable)?;
            Ok(HashKv {
                hash: hash.hash,
                compact_revision: hash.compact_revision,
                hash_revision: hash.revision,
                revision: view.revision(),
            })
        })
        .await?
    }

    async fn defragment(&self, _: &Permitted<pb::DefragmentRequest>) -> Result<(), Status> {
        self.handle.defragment().await.map_err(refused)
    }

    async fn snapshot(
        &self,
        _: &Permitted<pb::SnapshotRequest>,
    ) -> Result<Arc<dyn SnapshotSource>, Status> {
        self.committed().await?;
        Ok(Arc::new(Source(self.handle.backend().snapshot().reader().copy())))
    }

    fn watch(
        &self,
        doorkeeper: impl Doorkeeper,
        requests: impl RequestMessages,
        responses: impl ResponseSink,
    ) -> impl Future<Output = Result<(), Status>> {
        let this = self.clone();
        let link = Link { stream: self.handle.watch_stream(), handle: self.handle.clone() };
        let header = move || {
            let identity = this.handle.identity();
            Header {
                cluster_id: identity.cluster.0,
                member_id: identity.member.0,
                raft_term: this.handle.standing().term.0,
            }
        };
        let fragment = (self.settings.max_request_bytes + GRPC_OVERHEAD_BYTES) as usize;
        watch::serve(link, header, fragment, doorkeeper, requests, responses)
    }
}

/// The bytes of a snapshot.
struct Source(Copy);

impl SnapshotSource for Source {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, at: u64, out: &mut [u8]) -> std::io::Result<()> {
        let read = self.0.read_at(at, out).map_err(std::io::Error::other)?;
        if read == out.len() { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}

struct Link {
    stream: WatchStream,
    handle: Handle,
}

impl WatchLink for Link {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_ready(cx)
    }

    fn ask(&mut self, ask: Ask) {
        self.stream.send(match ask {
            Ask::Create(create) => WatchCommand::Create(create),
            Ask::Cancel(id) => WatchCommand::Cancel(id),
            Ask::Progress => WatchCommand::Progress,
        });
    }

    fn revision(&self) -> i64 {
        self.handle.view().revision()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Response>> {
        self.stream.poll_next(cx)
    }

    fn sent(&self, kind: Sent, events: usize, begun: Instant) {
        let (stats, took) = (self.handle.stats(), begun.elapsed());
        match kind {
            Sent::Events => {
                stats.watch_send.observe(took);
                stats.watch_send_per_event.observe_value(took.as_secs_f64() / events as f64);
            }
            Sent::Control => stats.watch_send_control.observe(took),
            Sent::Progress => stats.watch_send_progress.observe(took),
        }
    }
}
