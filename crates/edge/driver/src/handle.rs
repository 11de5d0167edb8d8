//! What the edge may ask of a running member.
//!
//! A [`Handle`] is a reference-counted front to the member's threads. Reads at
//! the current view never leave the caller's thread; everything else is a
//! message to the thread that owns the state, answered through a reply slot.

mod cluster;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mainstay_apply::{Alarms, ApplyError, Identity as Who, Machine, Reply};
use mainstay_backend::Backend;
use mainstay_membership::Membership;
use mainstay_mvcc::{HashKv, MvccError, View};
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::{ClusterId, Index, LeaseId, MemberId, Term};
use prost::Message;
use tokio::sync::oneshot;

use crate::consensus::desk::Place;
use crate::consensus::{Command, ReadSlot};
use crate::courier;
use crate::leases::Renewed;
use crate::queue::Refused;
use crate::shared::Shared;
use crate::waiters::{Answer, Forget};
use crate::watch_thread::WatchStream;

/// Who this member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
}

/// Why a request was not answered. The texts are etcd's; codes belong to the server.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// The state machine refused it, on every member alike.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The entry would exceed `--max-request-bytes`.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// Too much is committed and not yet applied, or too many proposals wait.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// There is no leader.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// No answer within the request timeout; the request may still take effect.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// As `Timeout`; a leader had failed when the request came.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailed,
    /// As `Timeout`; the leader, or a quorum, was not connected all the while.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// The member that was to lead does not yet.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    LeaderTransferTimeout,
    /// The member stops.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// This member cannot serve lease questions now.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// The disk failed under a read.
    #[error("etcdserver: storage failed: {0}")]
    Storage(String),
}

/// Which field of `InternalRaftRequest` holds a request (raft_internal.proto).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "each variant is the field of that name")]
pub enum RequestField {
    Put = 4,
    DeleteRange = 5,
    Txn = 6,
    Compaction = 7,
    LeaseGrant = 8,
    LeaseRevoke = 9,
    Alarm = 10,
    LeaseCheckpoint = 11,
    AuthEnable = 1000,
    AuthDisable = 1011,
    Authenticate = 1012,
    AuthStatus = 1013,
    AuthUserAdd = 1100,
    AuthUserDelete = 1101,
    AuthUserGet = 1102,
    AuthUserChangePassword = 1103,
    AuthUserGrantRole = 1104,
    AuthUserRevokeRole = 1105,
    AuthUserList = 1106,
    AuthRoleList = 1107,
    AuthRoleAdd = 1200,
    AuthRoleDelete = 1201,
    AuthRoleGet = 1202,
    AuthRoleGrantPermission = 1203,
    AuthRoleRevokePermission = 1204,
    ClusterVersionSet = 1300,
    DowngradeInfoSet = 1302,
}

/// The field of `InternalRaftRequest` that says in whose name it comes.
const HEADER: u32 = 100;

/// An `InternalRaftRequest` with this one field, in somebody's name. Written by hand: the
/// generated message has thirty fields, and would be moved about for every put.
fn encode_request<M: Message>(id: u64, who: &Who, field: RequestField, message: &M) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(length + 56 + who.user.len());
    prost::encoding::uint64::encode(1, &id, &mut out);
    let field = field as u32;
    if field < HEADER {
        prost::encoding::message::encode(field, message, &mut out);
    }
    if who.revision != 0 {
        let (username, auth_revision) = (who.user.clone(), who.revision);
        let header = pb::RequestHeader { id, username, auth_revision };
        prost::encoding::message::encode(HEADER, &header, &mut out);
    }
    if field > HEADER {
        prost::encoding::message::encode(field, message, &mut out);
    }
    out.freeze()
}

/// A member's standing, as `Status` reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Current term.
    pub term: Term,
    /// Known leader, or nobody.
    pub leader: MemberId,
    /// Last committed entry.
    pub committed: Index,
    /// Last applied entry.
    pub applied: Index,
}

/// The front of a running member; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Who this member is.
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// The newest published view of the key space. Everything acknowledged before
    /// the call is in it: views are published before replies leave.
    pub fn view(&self) -> Arc<View> {
        self.shared.view.load_full()
    }

    /// Term, leader, committed and applied index.
    pub fn standing(&self) -> Standing {
        let cells = &self.shared.cells;
        Standing {
            term: Term(cells.term.load(Ordering::Acquire)),
            leader: MemberId(cells.leader.load(Ordering::Acquire)),
            committed: Index(cells.committed.load(Ordering::Acquire)),
            applied: Index(cells.applied.load(Ordering::Acquire)),
        }
    }

    /// Whether the disk lacks room, so that writes that make the store grow are refused.
    pub fn lacks_room(&self) -> bool {
        self.shared.space.is_full()
    }

    /// Bytes that were free on the disk at the last look, half a second ago at most, and
    /// bytes that this member holds in reserve.
    pub fn disk_room(&self) -> (u64, u64) {
        (self.shared.space.free(), self.shared.space.held())
    }

    /// The store, for sizes, hashes and snapshots.
    pub fn backend(&self) -> &Backend {
        &self.shared.backend
    }

    /// Numbers for `/metrics`.
    pub fn stats(&self) -> &crate::stats::Stats {
        &self.shared.stats
    }

    /// Returns once [`Handle::view`] reflects every write acknowledged anywhere in
    /// the cluster before this call.
    ///
    /// # Errors
    /// `TooManyRequests`, a timeout, or `Stopped`. A change of leaders is none: the next one
    /// is asked (etcd answers "leader changed", and its clients ask again).
    pub async fn linearizable(&self) -> Result<(), RequestError> {
        // A lone voter that leads cannot be deposed behind its back, and its view
        // is published before any reply: the view at hand is linearizable.
        if self.shared.cells.lone_leader.load(Ordering::Acquire) {
            return Ok(());
        }
        let started = self.shared.clock.now();
        let (slot, answer) = ReadSlot::here();
        self.send_gathered(Command::Read { slot })?;
        let answer = self.within_timeout(started, answer).await;
        if answer == Err(RequestError::Timeout) {
            self.shared.stats.slow_read_indexes.inc();
        }
        answer?
    }

    /// As [`Handle::propose_as`], in nobody's name: the member's own, or while there is no
    /// authentication.
    ///
    /// # Errors
    /// As there.
    pub fn propose<M: Message>(
        &self,
        field: RequestField,
        message: &M,
    ) -> impl Future<Output = Result<Reply, RequestError>> + use<M> {
        self.propose_as(&Who::default(), field, message)
    }

    /// Proposes a request in somebody's name, which is looked at again when it is applied,
    /// and waits until it is applied here. The entry is encoded before this returns, so
    /// that the future holds nothing but the reply slot.
    ///
    /// # Errors
    /// What the state machine answers, or why there is no answer.
    pub fn propose_as<M: Message>(
        &self,
        who: &Who,
        field: RequestField,
        message: &M,
    ) -> impl Future<Output = Result<Reply, RequestError>> + use<M> {
        let this = self.clone();
        let sent = self.start_proposal(who, field, message);
        async move {
            let (id, answer) = sent?;
            let guard = Forget::new(&this.shared.waiters, id);
            let started = this.shared.clock.now();
            let reply = this.within_timeout(started, answer).await;
            match reply {
                Ok(_) => guard.answered(),
                Err(_) => {
                    this.shared.cells.proposals_failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            reply?
        }
    }

    /// Proposes a compaction. A physical one that has been applied is waited for as long as the
    /// deletion of its rows takes, as in etcd: that may be longer than a request's time.
    ///
    /// # Errors
    /// As [`Handle::propose`].
    pub async fn compact(
        &self,
        who: &Who,
        request: &pb::CompactionRequest,
    ) -> Result<Reply, RequestError> {
        let (id, mut answer) = self.start_proposal(who, RequestField::Compaction, request)?;
        let guard = Forget::new(&self.shared.waiters, id);
        let started = self.shared.clock.now();
        let reply = loop {
            match tokio::time::timeout(self.request_timeout(), &mut answer).await {
                Ok(Ok(reply)) => break Ok(reply),
                Ok(Err(_)) => break Err(RequestError::Stopped),
                Err(_) if request.physical && self.deletes_rows_of(request.revision) => {}
                Err(_) => break Err(self.timeout_since(started)),
            }
        };
        match reply {
            Ok(_) => guard.answered(),
            Err(_) => {
                self.shared.cells.proposals_failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        reply?
    }

    /// Whether a compaction at this revision or a later one is applied, and not at its end.
    fn deletes_rows_of(&self, revision: i64) -> bool {
        let finished = self.shared.backend.meta().ok().and_then(|meta| meta.finished_compaction);
        self.view().compact_revision() >= revision && finished.is_none_or(|at| at < revision)
    }

    fn start_proposal<M: Message>(
        &self,
        who: &Who,
        field: RequestField,
        message: &M,
    ) -> Result<(u64, oneshot::Receiver<Answer>), RequestError> {
        let id = self.shared.next_request_id();
        let data = encode_request(id, who, field, message);
        if data.len() as u64 > self.shared.options.max_request_bytes {
            return Err(RequestError::TooLarge);
        }
        self.refuse_when_behind()?;
        let answer = self.shared.waiters.expect_reply(id);
        if let Err(error) = self.send_gathered(Command::Propose { id, data }) {
            self.shared.waiters.forget(id);
            return Err(error);
        }
        Ok((id, answer))
    }

    /// Gathers what tasks of the calling thread propose, and their answers, so that
    /// many cost one wake-up each way. To be run as one task of a single-threaded
    /// runtime for as long as it serves; it never resolves.
    pub async fn gather_here(&self) {
        courier::gather(|| self.shared.consensus.work_here(Place::Shard)).await;
    }

    /// A lease id that nobody else has: a request id without its sign (semantics 7.1).
    pub fn next_lease_id(&self) -> LeaseId {
        LeaseId((self.shared.next_request_id() & (i64::MAX as u64)) as i64)
    }

    /// The hash of the key space up to `revision`, 0 being the newest; that of a compaction
    /// is remembered from when its rows were still there (etcd, `HashByRev`). Reads the
    /// whole history: to be run on the read pool.
    ///
    /// # Errors
    /// A compacted or future revision, or a disk that fails.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, MvccError> {
        match self.shared.hashes.of(revision) {
            Some(hash) => Ok(hash),
            None => self.view().hash_kv(revision),
        }
    }

    /// Opens a watch stream.
    pub fn watch_stream(&self) -> WatchStream {
        self.shared.watch.open_stream()
    }

    /// Runs `question` on the apply thread, between two entries.
    ///
    /// # Errors
    /// `Stopped` when the member stops.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Machine) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let (slot, answer) = oneshot::channel();
        let job = Box::new(move |machine: &Machine| {
            // The asker may have gone; then nobody wants the answer.
            let _ = slot.send(question(machine));
        });
        self.shared.apply.ask(job).map_err(|_| RequestError::Stopped)?;
        answer.await.map_err(|_| RequestError::Stopped)
    }

    /// Runs `work` on the read pool: disk reads and long scans, away from the shards.
    ///
    /// # Errors
    /// `TooManyRequests` when the pool's queue is full, `Stopped` when it is gone.
    pub async fn on_read_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let (slot, answer) = oneshot::channel();
        self.shared.read_pool.run(Box::new(move || {
            // The asker may have gone; then nobody wants the answer.
            let _ = slot.send(work());
        }))?;
        answer.await.map_err(|_| RequestError::Stopped)
    }

    /// Makes everything applied so far durable in the backend (as Snapshot, Hash and
    /// physical compaction need).
    ///
    /// # Errors
    /// `Storage` when the commit failed, `Stopped`.
    pub async fn commit_backend(&self) -> Result<(), RequestError> {
        self.shared.committer.commit_now().await
    }

    /// Gives the free space of the db file back, and answers when that is done, or when the rest
    /// waits for a snapshot that is still read. Nothing waits for it.
    ///
    /// # Errors
    /// `Storage` when a page could not be read, or the disk failed; then the member stops.
    pub async fn defragment(&self) -> Result<(), RequestError> {
        self.shared.committer.defragment().await
    }

    /// Extends a lease; returns its TTL in seconds.
    ///
    /// # Errors
    /// `LeaseNotFound` when there is no such lease or it has expired.
    pub async fn lease_renew(&self, lease: LeaseId) -> Result<i64, RequestError> {
        if self.has_slept() {
            // Somebody else may lead by now and have let it expire.
            self.linearizable().await?;
        }
        loop {
            match self.shared.leases.renew(lease) {
                Renewed::For(ttl) => return Ok(ttl),
                // Where it is cleared nobody makes another for a while.
                Renewed::ClearFirst => self.clear_checkpoint(lease).await?,
                Renewed::Missing => return Err(RequestError::LeaseNotFound),
                Renewed::NotLeading => return Err(RequestError::NoLeader),
                Renewed::Expired => {
                    // etcd answers once the revocation has been applied.
                    self.revoked(lease).await;
                    return Err(RequestError::LeaseNotFound);
                }
            }
        }
    }

    /// Remaining time of a lease, `None` when it is unknown. May be negative while
    /// an expired lease waits for its revocation.
    pub fn lease_times(&self, lease: LeaseId) -> Option<LeaseTimes> {
        self.shared.leases.times(lease)
    }

    /// How long a request may take before it is answered with a timeout:
    /// 5 s + 2 election timeouts (etcd, `ReqTimeout`).
    pub fn request_timeout(&self) -> Duration {
        self.shared.options.request_timeout()
    }

    /// The options the member runs with.
    pub fn options(&self) -> &crate::Options {
        &self.shared.options
    }

    /// Resolves when the member stops by itself (a failed disk), with the reason.
    pub async fn stopped(&self) -> String {
        self.shared.stop.wait().await
    }

    /// Leases; local, not linearizable. A leader's are in the order in which they expire;
    /// with the others none does.
    ///
    /// # Errors
    /// `Stopped` when the member stops.
    pub async fn leases(&self) -> Result<Vec<LeaseId>, RequestError> {
        match self.shared.leases.by_expiry() {
            Some(ids) => Ok(ids),
            None => {
                self.ask(|machine| machine.leases().leases().map(|lease| lease.id).collect()).await
            }
        }
    }

    /// Whether raft's clock has stood still (a stopped process, a stalled machine), so that
    /// this member may lead only in its own eyes (etcd, `isActive`: three ticks).
    fn has_slept(&self) -> bool {
        let ticked = Duration::from_millis(self.shared.cells.ticked_ms.load(Ordering::Acquire));
        self.shared.clock.now() > ticked + 3 * self.shared.options.tick
    }

    async fn revoked(&self, lease: LeaseId) {
        let patience = tokio::time::Instant::now() + self.request_timeout();
        while self.lease_times(lease).is_some() && tokio::time::Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Members, cluster version, downgrade job, as of the last applied entry.
    pub fn membership(&self) -> Arc<Membership> {
        self.shared.membership.load_full()
    }

    /// Raised alarms, as of the last applied entry.
    pub fn alarms(&self) -> Arc<Alarms> {
        self.shared.alarms.load_full()
    }

    /// Proposals without an answer yet.
    pub fn proposals_pending(&self) -> usize {
        self.shared.waiters.len()
    }

    /// Changes of the leader seen since the start.
    pub fn leader_changes(&self) -> u64 {
        self.shared.cells.leader_changes.load(Ordering::Relaxed)
    }

    /// Proposals that failed here since the start.
    pub fn proposals_failed(&self) -> u64 {
        self.shared.cells.proposals_failed.load(Ordering::Relaxed)
    }

    fn refuse_when_behind(&self) -> Result<(), RequestError> {
        let standing = self.standing();
        let behind = standing.committed.0.saturating_sub(standing.applied.0);
        if behind > mainstay_types::limits::APPLY_BACKLOG_ENTRIES_MAX {
            return Err(RequestError::TooManyRequests);
        }
        Ok(())
    }

    /// The wake-up is left to the courier of this thread, if it has one.
    fn send_gathered(&self, command: Command) -> Result<(), RequestError> {
        self.shared.consensus.try_send_quietly(command).map_err(refused)?;
        if !courier::owe() {
            self.shared.consensus.announce();
        }
        Ok(())
    }

    async fn within_timeout<T>(
        &self,
        started: Duration,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, RequestError> {
        match tokio::time::timeout(self.request_timeout(), answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(RequestError::Stopped),
            Err(_) => Err(self.timeout_since(started)),
        }
    }
}

/// What a full or closed queue means to who asked.
pub(crate) fn refused(error: Refused) -> RequestError {
    match error {
        Refused::Full => RequestError::TooManyRequests,
        Refused::Closed => RequestError::Stopped,
    }
}

/// Times of a lease, in whole seconds as etcd answers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// The TTL it was granted with.
    pub granted: i64,
    /// What is left of it.
    pub remaining: i64,
}

#[cfg(test)]
mod tests {
    use mainstay_proto::etcdserverpb as pb;

    use super::*;

    #[test]
    fn an_entry_is_what_the_generated_message_would_be() {
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
        let whole =
            pb::InternalRaftRequest { id: 1 << 60, put: Some(put.clone()), ..Default::default() };
        let nobody = Who::default();
        let encoded = encode_request(1 << 60, &nobody, RequestField::Put, &put);
        assert_eq!(encoded, whole.encode_to_vec());
        let alice = Who { user: "alice".into(), revision: 7 };
        let header = pb::RequestHeader { id: 9, username: alice.user.clone(), auth_revision: 7 };
        let whole = pb::InternalRaftRequest { id: 9, header: Some(header), ..whole };
        let encoded = encode_request(9, &alice, RequestField::Put, &put);
        assert_eq!(encoded, whole.encode_to_vec());
        let delete = pb::AuthUserDeleteRequest { name: "bob".into() };
        let whole =
            pb::InternalRaftRequest { put: None, auth_user_delete: Some(delete.clone()), ..whole };
        let encoded = encode_request(9, &alice, RequestField::AuthUserDelete, &delete);
        assert_eq!(encoded, whole.encode_to_vec());
    }
}
