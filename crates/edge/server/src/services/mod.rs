//! etcd's services: bytes in, bytes out, over a [`Member`].
//!
//! What holds for every call stands here, in etcd's order: what a learner may
//! answer, who asks (`client-api-version`), whether a leader is needed. Then
//! one exhaustive match finds the service.

mod auth;
mod cluster;
mod contest;
mod election;
pub(crate) mod health;
mod inside;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod range;
mod upgrade;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use mainstay_audit::Trail;
use mainstay_proto::Message;
use mainstay_proto::etcdserverpb::ResponseHeader;
use mainstay_types::MemberId;

use crate::answers::Answers;
use crate::audit::{Listening, Noted};
use crate::call::Call;
use crate::errors;
use crate::gate::{self, Caller, Permitted, Session};
use crate::grpc::Service;
use crate::member::Member;
use crate::method::Rpc;
use crate::metrics::{Calls, Registry};
use crate::net::shard::Stop;
use crate::status::{Code, Status};
use crate::stream::{RequestMessages, ResponseSink};

/// All services of one shard; cheap to clone, stays on its thread.
pub(crate) struct Services<M>(Rc<Inner<M>>);

struct Inner<M> {
    member: M,
    registry: Arc<Registry>,
    stop: Stop,
    /// Unary calls that take longer are logged (`--warning-unary-request-duration`).
    slow: Duration,
    /// Who did what, where that is recorded.
    trail: Option<Trail>,
    /// The room for large answers.
    answers: Answers,
    /// The version that the last caller named, and where it is counted.
    last_client: RefCell<Option<(Option<HeaderValue>, Arc<Calls>)>>,
}

impl<M> Clone for Services<M> {
    fn clone(&self) -> Services<M> {
        Services(Rc::clone(&self.0))
    }
}

/// A streaming call with `hasleader` ends after this many election timeouts
/// without one (etcd, `maxNoLeaderCnt`).
const NO_LEADER_ROUNDS: u32 = 3;

impl<M: Member> Services<M> {
    pub(crate) fn new(
        member: M,
        registry: Arc<Registry>,
        stop: Stop,
        slow: Duration,
        trail: Option<Trail>,
        answers: Answers,
    ) -> Services<M> {
        let last_client = RefCell::new(None);
        Services(Rc::new(Inner { member, registry, stop, slow, trail, answers, last_client }))
    }

    fn member(&self) -> &M {
        &self.0.member
    }

    fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// What is asked of every call before its message is looked at; who makes it.
    async fn admit(
        &self,
        call: &Call,
        unary: bool,
        noted: &mut Option<Noted>,
    ) -> Result<Caller, Status> {
        let standing = self.member().standing();
        if standing.learner {
            let allowed = match call.method.rpc {
                Rpc::Snapshot | Rpc::Status => true,
                // Serializable ones are; the handler looks.
                Rpc::Range => true,
                _ => false,
            };
            if !allowed {
                return Err(errors::NOT_SUPPORTED_FOR_LEARNER.status());
            }
        }
        let calls = self.client(call)?;
        if unary {
            calls.unary.inc()
        } else {
            calls.stream.inc()
        }
        if standing.leader == MemberId::NONE && call.requires_leader() {
            return Err(errors::NO_LEADER.status());
        }
        let caller = gate::who_calls(self.member(), call).await?;
        if let Some(noted) = noted {
            noted.by(&caller);
        }
        gate::let_in(self.member(), call, &caller).await?;
        Ok(caller)
    }

    /// The request, if its caller may make it: what an operation of the member takes.
    async fn permit<T: gate::Asked>(
        &self,
        caller: &Caller,
        request: T,
    ) -> Result<Permitted<T>, Status> {
        gate::permit(self.member(), caller, request).await
    }

    /// Whether what was read may still be given out.
    fn still<T>(&self, permitted: &Permitted<T>) -> Result<(), Status> {
        permitted.still(self.member().auth_enabled(), || self.member().auth().revision())
    }

    /// Where the caller's version is counted. Callers of a shard mostly name the
    /// same one.
    fn client(&self, call: &Call) -> Result<Arc<Calls>, Status> {
        let named = call.metadata.get("client-api-version");
        if let Some((last, calls)) = &*self.0.last_client.borrow()
            && last.as_ref() == named
        {
            return Ok(Arc::clone(calls));
        }
        let calls = self.registry().clients.of(call.client_api_version()?);
        *self.0.last_client.borrow_mut() = Some((named.cloned(), Arc::clone(&calls)));
        Ok(calls)
    }

    /// A header with the store's current revision.
    fn header(&self) -> ResponseHeader {
        self.header_at(self.member().revision())
    }

    fn header_at(&self, revision: i64) -> ResponseHeader {
        let identity = self.member().identity();
        ResponseHeader {
            cluster_id: identity.cluster.0,
            member_id: identity.member.0,
            revision,
            raft_term: self.member().standing().term.0,
        }
    }

    /// The header of an applied request: its revision, or the current one if it
    /// set none.
    fn complete(&self, applied: Option<ResponseHeader>) -> Option<ResponseHeader> {
        Some(match applied.map_or(0, |header| header.revision) {
            0 => self.header(),
            revision => self.header_at(revision),
        })
    }

    /// Calls that are rare enough to be boxed.
    async fn rare(
        &self,
        caller: &Caller,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        match call.method.rpc {
            Rpc::Compact => self.compact(caller, request, out).await,
            Rpc::LeaseGrant => self.lease_grant(caller, request, out).await,
            Rpc::LeaseRevoke => self.lease_revoke(caller, request, out).await,
            Rpc::LeaseTimeToLive => self.lease_time_to_live(caller, request, out).await,
            Rpc::LeaseLeases => self.lease_leases(caller, out).await,
            Rpc::MemberList => self.member_list(caller, request, out).await,
            Rpc::MemberAdd => self.member_add(caller, request, out).await,
            Rpc::MemberRemove => self.member_remove(caller, request, out).await,
            Rpc::MemberUpdate => self.member_update(caller, request, out).await,
            Rpc::MemberPromote => self.member_promote(caller, request, out).await,
            Rpc::Alarm => self.alarm(caller, request, out).await,
            Rpc::Status => self.status(caller, out).await,
            Rpc::Defragment => self.defragment(caller, out).await,
            Rpc::Hash => self.hash(caller, out).await,
            Rpc::HashKv => self.hash_kv(caller, request, out).await,
            Rpc::MoveLeader => self.move_leader(caller, request, out).await,
            Rpc::Downgrade => self.downgrade(caller, request, out).await,
            Rpc::UpgradeStatus => self.upgrade_status(caller, request, out).await,
            Rpc::UpgradeFinalize => self.upgrade_finalize(caller, request, out).await,
            Rpc::Authenticate => self.authenticate(call, request, out).await,
            Rpc::AuthStatus
            | Rpc::AuthEnable
            | Rpc::AuthDisable
            | Rpc::UserAdd
            | Rpc::UserGet
            | Rpc::UserList
            | Rpc::UserDelete
            | Rpc::UserChangePassword
            | Rpc::UserGrantRole
            | Rpc::UserRevokeRole
            | Rpc::RoleAdd
            | Rpc::RoleGet
            | Rpc::RoleList
            | Rpc::RoleDelete
            | Rpc::RoleGrantPermission
            | Rpc::RoleRevokePermission => {
                self.auth_call(caller, call.method.rpc, request, out).await
            }
            Rpc::Lock => self.lock(call, request, out).await,
            Rpc::Unlock => self.unlock(call, request, out).await,
            Rpc::Campaign => self.campaign(call, request, out).await,
            Rpc::Proclaim => self.proclaim(call, request, out).await,
            Rpc::Leader => self.leader(call, request, out).await,
            Rpc::Resign => self.resign(call, request, out).await,
            Rpc::HealthCheck => health::check(&self.registry().serving, request, out),
            Rpc::HealthList => health::list(&self.registry().serving, out),
            // Routed before, or not unary.
            Rpc::Range
            | Rpc::Put
            | Rpc::DeleteRange
            | Rpc::Txn
            | Rpc::RangeStream
            | Rpc::Watch
            | Rpc::LeaseKeepAlive
            | Rpc::Snapshot
            | Rpc::Observe
            | Rpc::HealthWatch => Err(Status::internal("routed to the wrong place")),
        }
    }

    async fn streaming<R, W>(
        self,
        caller: Caller,
        call: Call,
        requests: R,
        responses: W,
    ) -> Result<(), Status>
    where
        R: RequestMessages,
        W: ResponseSink,
    {
        let rpc = call.method.rpc;
        if rpc == Rpc::Observe {
            return Box::pin(self.observe(&call, requests, responses)).await;
        }
        let trail = self.0.trail.clone();
        let session = || Session::new(self.member().clone(), call, caller.clone(), trail);
        match rpc {
            Rpc::Watch => self.member().watch(session(), requests, responses).await,
            Rpc::LeaseKeepAlive => self.lease_keep_alive(session(), requests, responses).await,
            Rpc::RangeStream => self.range_stream(&caller, requests, responses).await,
            Rpc::Snapshot => self.snapshot_while_root(&caller, responses).await,
            Rpc::HealthWatch => health::watch(&self.registry().serving, requests, responses).await,
            _ => Err(Status::internal("routed to the wrong place")),
        }
    }

    /// A snapshot takes long: it ends when its caller may not have one any more.
    async fn snapshot_while_root(
        &self,
        caller: &Caller,
        responses: impl ResponseSink,
    ) -> Result<(), Status> {
        let member = self.member().clone();
        let is_root = |caller: &Caller| self.member().auth().check_admin(caller.who());
        tokio::select! {
            biased;
            status = gate::expelled(member, caller.clone(), is_root) => Err(status),
            result = self.snapshot(caller, responses) => result,
        }
    }

    /// Resolves when the server ends, to what its callers are told.
    fn stopped(&self) -> impl Future<Output = Status> + use<M> {
        let stop = self.0.stop.clone();
        async move {
            stop.wait().await;
            errors::STOPPED.status()
        }
    }

    /// Resolves once there has been no leader for too long.
    async fn leaderless(&self) {
        let mut rounds = 0;
        while rounds < NO_LEADER_ROUNDS {
            tokio::time::sleep(self.member().settings().election_timeout).await;
            let leaderless = self.member().standing().leader == MemberId::NONE;
            rounds = if leaderless { rounds + 1 } else { 0 };
        }
    }

    /// Counts a stream that ends because its client's message cannot be read.
    fn note_unreadable(&self, rpc: Rpc, result: Result<(), Status>) -> Result<(), Status> {
        let [watch, keep_alive] = &self.registry().unreadable;
        let unreadable = matches!(&result, Err(status) if status.code == Code::Internal);
        match rpc {
            Rpc::Watch if unreadable => watch.1.inc(),
            Rpc::LeaseKeepAlive if unreadable => keep_alive.1.inc(),
            _ => {}
        }
        result
    }

    /// Logs a call that took long (etcd's line, which operators search for).
    fn note_slow(&self, call: &Call, start: Instant, request: usize, response: usize) {
        let spent = start.elapsed();
        if spent > self.0.slow {
            tracing::warn!(
                time_spent = ?spent,
                remote = call.peer.address,
                response_type = call.method.path,
                request_size = request,
                response_size = response,
                "request stats"
            );
        }
    }
}

impl<M: Member> Service for Services<M> {
    async fn unary(&self, call: &Call, request: Bytes, out: &mut BytesMut) -> Result<(), Status> {
        let mut noted = Noted::begin(self.0.trail.as_ref(), call, Some(&request)).await;
        let before = out.len();
        let result = match self.admit(call, true, &mut noted).await {
            Ok(caller) => self.carry_out(&caller, call, request, out).await,
            Err(status) => Err(status),
        };
        if let Some(noted) = noted {
            noted.end(result.as_ref().copied(), out.get(before..).unwrap_or_default()).await;
        }
        result
    }

    async fn stream<R, W>(self, call: Call, requests: R, responses: W) -> Result<(), Status>
    where
        R: RequestMessages,
        W: ResponseSink,
    {
        let mut noted = Noted::begin(self.0.trail.as_ref(), &call, None).await;
        let result = match self.admit(&call, false, &mut noted).await {
            Ok(caller) => {
                if matches!(call.method.rpc, Rpc::Watch | Rpc::LeaseKeepAlive) {
                    noted.take().into_iter().for_each(Noted::forget);
                }
                let requests = Listening::new(requests, noted.as_ref());
                self.serve_stream(caller, call, requests, responses).await
            }
            Err(status) => Err(status),
        };
        if let Some(noted) = noted {
            noted.end(result.as_ref().copied(), &[]).await;
        }
        result
    }
}

impl<M: Member> Services<M> {
    /// Answers a unary call whose caller was let in.
    async fn carry_out(
        &self,
        caller: &Caller,
        call: &Call,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let (size, before) = (request.len(), out.len());
        let result = match call.method.rpc {
            Rpc::Range => self.range(caller, call, request, out, start).await,
            Rpc::Put => self.put(caller, request, out, start).await,
            Rpc::Txn => Box::pin(self.txn(caller, request, out, start)).await,
            Rpc::DeleteRange => Box::pin(self.delete_range(caller, request, out, start)).await,
            _ => Box::pin(self.rare(caller, call, request, out)).await,
        };
        self.note_slow(call, start, size, out.len().saturating_sub(before));
        result
    }

    /// Serves a stream whose caller was let in.
    async fn serve_stream<R, W>(
        self,
        caller: Caller,
        call: Call,
        requests: R,
        responses: W,
    ) -> Result<(), Status>
    where
        R: RequestMessages,
        W: ResponseSink,
    {
        let requires_leader = call.requires_leader();
        let (this, rpc) = (self.clone(), call.method.rpc);
        let serving = self.streaming(caller, call, requests, responses);
        tokio::select! {
            biased;
            result = serving => this.note_unreadable(rpc, result),
            () = this.0.stop.wait() => Err(errors::STOPPED.status()),
            () = this.leaderless(), if requires_leader => Err(errors::NO_LEADER.status()),
        }
    }
}

/// Reads a request message.
fn decode<T: Message + Default>(request: Bytes) -> Result<T, Status> {
    T::decode(request).map_err(undecodable)
}

fn undecodable(error: mainstay_proto::prost::DecodeError) -> Status {
    Status::internal(format!("grpc: error unmarshalling request: proto: {error}"))
}

/// Appends a response message.
fn encode(out: &mut BytesMut, message: &impl Message) -> Result<(), Status> {
    message.encode(out).map_err(|error| Status::internal(error.to_string()))
}
