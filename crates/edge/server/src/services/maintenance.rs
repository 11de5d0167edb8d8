//! The Maintenance service.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mainstay_membership::{Downgrade, versions};
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::limits::SNAPSHOT_BLOB_BYTES;
use mainstay_types::{MemberId, SPOKEN_VERSION, Version};
use pb::downgrade_request::DowngradeAction;
use sha2::{Digest as _, Sha256};

use super::{Services, decode, encode};
use crate::errors;
use crate::gate::{Caller, Permitted};
use crate::member::{Member, SnapshotSource};
use crate::metrics::Kind;
use crate::status::{Code, Status};
use crate::stream::ResponseSink;

/// Blobs read and hashed in one turn of the read pool.
const BLOBS_PER_TURN: usize = 16;

impl<M: Member> Services<M> {
    pub(super) async fn alarm(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let start = Instant::now();
        let request: pb::AlarmRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let reply = self.member().alarm(request).await;
        self.registry().requests.record(Kind::Alarm, start, reply.is_ok());
        let mut reply = reply?;
        reply.header = self.complete(reply.header);
        encode(out, &reply)
    }

    pub(super) async fn status(&self, caller: &Caller, out: &mut BytesMut) -> Result<(), Status> {
        self.permit(caller, pb::StatusRequest {}).await?;
        let member = self.member();
        let (standing, sizes) = (member.standing(), member.sizes());
        let mut errors = Vec::new();
        if standing.leader == MemberId::NONE {
            errors.push(errors::NO_LEADER.text.to_owned());
        }
        for alarm in member.alarms().await? {
            let name = alarm.alarm().as_str_name();
            errors.push(format!("memberID:{} alarm:{name}", alarm.member_id));
        }
        let storage_version = member.storage_version();
        let reply = pb::StatusResponse {
            header: Some(self.header()),
            version: SPOKEN_VERSION.to_string(),
            db_size: sizes.db as i64,
            leader: standing.leader.0,
            raft_index: standing.committed.0,
            raft_term: standing.term.0,
            raft_applied_index: standing.applied.0,
            errors,
            db_size_in_use: sizes.db_in_use as i64,
            is_learner: standing.learner,
            storage_version: storage_version.map(|v| v.to_string()).unwrap_or_default(),
            db_size_quota: member.settings().quota_bytes.unwrap_or(0) as i64,
            downgrade_info: Some(self.downgrade_info()),
        };
        encode(out, &reply)
    }

    fn downgrade_info(&self) -> pb::DowngradeInfo {
        let membership = self.member().membership();
        let Downgrade { target, enabled } = membership.downgrade();
        pb::DowngradeInfo { enabled: *enabled, target_version: target.clone() }
    }

    pub(super) async fn defragment(
        &self,
        caller: &Caller,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request = self.permit(caller, pb::DefragmentRequest {}).await?;
        tracing::info!("starting defragment");
        let _not_serving = self.registry().serving.defragmenting();
        if let Err(status) = self.member().defragment(&request).await {
            tracing::warn!(error = %status, "failed to defragment");
            return Err(status);
        }
        tracing::info!("finished defragment");
        encode(out, &pb::DefragmentResponse { header: None })
    }

    pub(super) async fn hash(&self, caller: &Caller, out: &mut BytesMut) -> Result<(), Status> {
        let start = Instant::now();
        let request = self.permit(caller, pb::HashRequest {}).await?;
        let hash = self.member().hash(&request).await?;
        self.member().stats().hash.observe(start.elapsed());
        encode(out, &pb::HashResponse { header: Some(self.header()), hash })
    }

    pub(super) async fn hash_kv(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::HashKvRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let start = Instant::now();
        let hashed = self.member().hash_kv(&request).await?;
        self.member().stats().hash_rev.observe(start.elapsed());
        let reply = pb::HashKvResponse {
            header: Some(self.header_at(hashed.revision)),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
            hash_revision: hashed.hash_revision,
        };
        encode(out, &reply)
    }

    pub(super) async fn move_leader(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::MoveLeaderRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let own = self.member().identity().member;
        if self.member().standing().leader != own {
            return Err(errors::NOT_LEADER.status());
        }
        let to = MemberId(request.target_id);
        let votes = self.member().membership().member(to).is_some_and(|member| !member.is_learner);
        if !votes {
            return Err(errors::BAD_LEADER_TRANSFEREE.status());
        }
        // Who is asked to hand over to itself has done so already.
        if to != own {
            tracing::info!(
                "local-member-id" = %own,
                "transferee-member-id" = %to,
                "leadership transfer starting"
            );
            self.member().move_leader(request.meaning(to)).await?;
        }
        encode(out, &pb::MoveLeaderResponse { header: None })
    }

    pub(super) async fn downgrade(
        &self,
        caller: &Caller,
        request: Bytes,
        out: &mut BytesMut,
    ) -> Result<(), Status> {
        let request: pb::DowngradeRequest = decode(request)?;
        let request = self.permit(caller, request).await?;
        let action = DowngradeAction::try_from(request.action)
            .map_err(|_| Status::new(Code::Unknown, "etcdserver: unknown method"))?;
        match action {
            DowngradeAction::Validate => {
                self.may_downgrade(&request.version).await?;
            }
            DowngradeAction::Enable => {
                let target = self.may_downgrade(&request.version).await.inspect_err(|error| {
                    tracing::warn!(error = %error, "reject downgrade request");
                })?;
                let job = Downgrade { target: target.to_string(), enabled: true };
                self.member().set_downgrade(request.meaning(job)).await?;
            }
            // Nothing in flight is a success as well.
            DowngradeAction::Cancel => {
                if let Err(error) = self.cancel_downgrade(&request).await {
                    tracing::warn!(error = %error, "failed to cancel downgrade");
                }
            }
        }
        let cluster = self.member().cluster_version();
        let cluster = cluster.ok_or_else(|| errors::CLUSTER_VERSION_UNAVAILABLE.status())?;
        let version = format!("{}.{}", cluster.major, cluster.minor);
        encode(out, &pb::DowngradeResponse { header: Some(self.header()), version })
    }

    /// The target of a downgrade that may begin (semantics 12.3).
    async fn may_downgrade(&self, target: &str) -> Result<Version, Status> {
        let refused = |error: versions::DowngradeError| errors::from_text(error.to_string());
        let target = versions::downgrade_target(target).map_err(refused)?;
        self.member().linearizable().await?;
        versions::may_downgrade(&self.member().membership(), target).map_err(refused)?;
        Ok(target)
    }

    async fn cancel_downgrade(
        &self,
        request: &Permitted<pb::DowngradeRequest>,
    ) -> Result<(), Status> {
        self.member().linearizable().await?;
        versions::may_cancel_downgrade(&self.member().membership())
            .map_err(|error| errors::from_text(error.to_string()))?;
        self.member().set_downgrade(request.meaning(Downgrade::default())).await
    }

    /// The db in blobs, then its SHA-256 as the last.
    pub(super) async fn snapshot(
        &self,
        caller: &Caller,
        mut responses: impl ResponseSink,
    ) -> Result<(), Status> {
        let request = self.permit(caller, pb::SnapshotRequest {}).await?;
        let version = self.member().storage_version();
        let version = version.map(|version| version.to_string()).unwrap_or_default();
        let start = Instant::now();
        let source = self.member().snapshot(&request).await?;
        let total = source.len();
        tracing::info!(total_bytes = total, "sending database snapshot to client");
        let mut hasher = Sha256::new();
        let mut sent = 0;
        while sent < total {
            let source = Arc::clone(&source);
            let work = move |_: &M| read_turn(&*source, sent, total, hasher);
            let (bytes, hashed) = self.member().on_read_pool(work).await?.map_err(read_failed)?;
            hasher = hashed;
            let mut rest = bytes;
            while !rest.is_empty() {
                let blob = rest.split_to(rest.len().min(SNAPSHOT_BLOB_BYTES));
                sent += blob.len() as u64;
                send_blob(&mut responses, total - sent, blob, &version).await;
            }
        }
        let sum = Bytes::copy_from_slice(&hasher.finalize());
        send_blob(&mut responses, 0, sum, &version).await;
        self.member().stats().backend_snapshot.observe(start.elapsed());
        tracing::info!(total_bytes = total, "successfully sent database snapshot to client");
        Ok(())
    }
}

/// Reads and hashes the next few blobs.
fn read_turn(
    source: &dyn SnapshotSource,
    at: u64,
    total: u64,
    mut hasher: Sha256,
) -> std::io::Result<(Bytes, Sha256)> {
    let turn = (SNAPSHOT_BLOB_BYTES * BLOBS_PER_TURN) as u64;
    let mut bytes = vec![0; turn.min(total - at) as usize];
    source.read_at(at, &mut bytes)?;
    hasher.update(&bytes);
    Ok((Bytes::from(bytes), hasher))
}

fn read_failed(error: std::io::Error) -> Status {
    Status::new(Code::Unknown, format!("failed to read the db for a snapshot: {error}"))
}

async fn send_blob(
    responses: &mut impl ResponseSink,
    remaining_bytes: u64,
    blob: Bytes,
    version: &str,
) {
    let version = version.to_owned();
    let message = pb::SnapshotResponse { header: None, remaining_bytes, blob, version };
    responses.send(Bytes::from(message.encode_to_vec())).await;
}
