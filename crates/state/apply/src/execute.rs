//! Every request, in one match.

use std::sync::Arc;

use mainstay_backend::Bucket;
use mainstay_lease::{GrantError, Lease};
use mainstay_membership::{Attributes, Downgrade};
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::membershippb::DowngradeInfoSetRequest;
use mainstay_proto::{Message as _, leasepb};
use mainstay_types::{KeyRange, LeaseId, MemberId, SPOKEN_VERSION, Version};

use crate::entry::Request;
use crate::guard::Failure;
use crate::keys::{Keys, respond};
use crate::machine::{Machine, Turn};
use crate::reply::{Compaction, LeaseChange, Reply};
use crate::txn::{self, Writes as _, header};
use crate::{ApplyError, StopReason};

/// From this cluster version on checkpoints of leases are always persisted.
const CHECKPOINTS_PERSIST: Version = Version::line(3, 6);

impl Machine {
    /// Executes a request that every guard has let through.
    pub(crate) fn execute(&mut self, turn: &mut Turn, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Range(range) => self.range(turn, &range),
            Request::Put(put) => {
                self.write(turn, |keys, local| txn::put(keys, put, local).map(Reply::Put))
            }
            Request::DeleteRange(delete) => self.write(turn, |keys, local| {
                txn::delete_range(keys, delete, local).map(Reply::DeleteRange)
            }),
            Request::Txn(request) => {
                self.write(turn, |keys, local| txn::txn(keys, request, local).map(Reply::Txn))
            }
            Request::Compaction(request) => self.compact(turn, request),
            Request::LeaseGrant(request) => self.grant(turn, request),
            Request::LeaseRevoke(request) => self.revoke(turn, LeaseId(request.id)),
            Request::LeaseCheckpoint(request) => Ok(self.checkpoint(turn, &request)),
            Request::Alarm(request) => Ok(self.alarm(turn, request)),
            Request::Auth(request) => self.execute_auth(turn, *request),
            Request::ClusterVersionSet(version) => self.set_cluster_version(turn, version),
            Request::MemberAttributesSet(id, attributes) => {
                self.set_attributes(turn, id, attributes)
            }
            Request::DowngradeInfoSet(request) => Ok(self.set_downgrade(turn, request)),
            Request::DowngradeVersionTest => Ok(Reply::Done),
        }
    }

    fn write(
        &mut self,
        turn: &mut Turn,
        work: impl FnOnce(&mut Keys<'_>, bool) -> Result<Reply, ApplyError>,
    ) -> Result<Reply, Failure> {
        let mut keys = Keys::new(self.store.write(), &mut self.leases);
        // A refusal comes before the first change, so there is nothing to undo;
        // a storage error may come later, and stops the member.
        let reply = work(&mut keys, turn.local)?;
        turn.take(keys.end());
        Ok(reply)
    }

    fn range(&mut self, turn: &mut Turn, request: &pb::RangeRequest) -> Result<Reply, Failure> {
        if !turn.local {
            return Ok(Reply::Done);
        }
        turn.counts.ranges += 1;
        let reply = self.store.write().range(request).map_err(ApplyError::from)?;
        Ok(Reply::Range(respond(reply)?))
    }

    fn compact(
        &mut self,
        turn: &mut Turn,
        request: pb::CompactionRequest,
    ) -> Result<Reply, Failure> {
        let pb::CompactionRequest { revision, physical } = request;
        self.store.compact(revision, &mut turn.batch).map_err(ApplyError::from)?;
        turn.effects.compaction = Some(Compaction { revision, physical });
        Ok(Reply::Compaction(pb::CompactionResponse { header: header(self.store.revision()) }))
    }

    fn grant(&mut self, turn: &mut Turn, request: pb::LeaseGrantRequest) -> Result<Reply, Failure> {
        let granted = self.leases.grant(LeaseId(request.id), request.ttl);
        let lease = granted.map_err(|error| match error {
            GrantError::NoIdentity => ApplyError::LeaseNotFound,
            GrantError::TtlTooLarge => ApplyError::LeaseTtlTooLarge,
            GrantError::Exists => ApplyError::LeaseExists,
        })?;
        write_lease(turn, lease);
        turn.leases.push(LeaseChange::Granted(lease));
        Ok(Reply::LeaseGrant(pb::LeaseGrantResponse {
            header: header(self.store.revision()),
            id: lease.id.0,
            ttl: lease.ttl,
            ..Default::default()
        }))
    }

    /// Deletes the keys one by one, in byte order, as one revision.
    fn revoke(&mut self, turn: &mut Turn, id: LeaseId) -> Result<Reply, Failure> {
        let keys = self.leases.revoke(id).ok_or(ApplyError::LeaseNotFound)?;
        let mut deletes = Keys::new(self.store.write(), &mut self.leases);
        for key in keys {
            deletes.delete_range(&KeyRange::single(key), false)?;
        }
        turn.take(deletes.end());
        turn.batch.delete(Bucket::Lease, lease_key(id));
        turn.leases.push(LeaseChange::Revoked(id));
        Ok(Reply::LeaseRevoke(pb::LeaseRevokeResponse { header: header(self.store.revision()) }))
    }

    fn checkpoint(&mut self, turn: &mut Turn, request: &pb::LeaseCheckpointRequest) -> Reply {
        let persist = self.options.persist_checkpoints
            || self.membership.version().is_some_and(|version| version >= CHECKPOINTS_PERSIST);
        for checkpoint in &request.checkpoints {
            let (id, remaining) = (LeaseId(checkpoint.id), checkpoint.remaining_ttl);
            let Some(lease) = self.leases.checkpoint(id, remaining) else { continue };
            if persist {
                write_lease(turn, lease);
            }
            turn.leases.push(LeaseChange::Checkpointed(id, remaining));
        }
        Reply::LeaseCheckpoint(pb::LeaseCheckpointResponse {
            header: header(self.store.revision()),
        })
    }

    fn alarm(&mut self, turn: &mut Turn, request: pb::AlarmRequest) -> Reply {
        use pb::alarm_request::AlarmAction as Action;
        let alarm = pb::AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let none = alarm.alarm == pb::AlarmType::None as i32;
        let alarms = match Action::try_from(request.action) {
            Ok(Action::Get) => self.alarms.list(request.alarm),
            Ok(Action::Activate) if none => Vec::new(),
            Ok(Action::Activate) => {
                if Arc::make_mut(&mut self.alarms).raise(alarm) {
                    turn.batch.put(Bucket::Alarm, alarm.encode_to_vec(), bytes::Bytes::new());
                    turn.effects.alarms_changed = true;
                }
                vec![alarm]
            }
            Ok(Action::Deactivate) if Arc::make_mut(&mut self.alarms).clear(alarm) => {
                turn.batch.delete(Bucket::Alarm, alarm.encode_to_vec());
                turn.effects.alarms_changed = true;
                vec![alarm]
            }
            Ok(Action::Deactivate) | Err(_) => Vec::new(),
        };
        Reply::Alarm(pb::AlarmResponse { header: header(self.store.revision()), alarms })
    }

    fn set_cluster_version(&mut self, turn: &mut Turn, version: Version) -> Result<Reply, Failure> {
        if version.without_patch() > SPOKEN_VERSION.without_patch() {
            let (cluster, ours) = (version, SPOKEN_VERSION);
            return Err(StopReason::InvalidDowngrade { cluster, ours }.into());
        }
        let before = self.membership.version();
        Arc::make_mut(&mut self.membership).set_version(version);
        turn.batch.put(Bucket::Cluster, &b"clusterVersion"[..], version.to_string());
        self.follow_cluster_version(turn);
        turn.effects.membership_changed = true;
        turn.effects.snapshot_now = before.is_some_and(|before| version < before);
        Ok(Reply::Done)
    }

    fn set_attributes(
        &mut self,
        turn: &mut Turn,
        id: MemberId,
        attributes: Attributes,
    ) -> Result<Reply, Failure> {
        let membership = Arc::make_mut(&mut self.membership);
        let changed = membership.update_attributes(id, attributes).map_err(StopReason::from)?;
        if changed.is_some() {
            self.write_member(&mut turn.batch, id);
            turn.effects.membership_changed = true;
        }
        Ok(Reply::Done)
    }

    fn set_downgrade(&mut self, turn: &mut Turn, request: DowngradeInfoSetRequest) -> Reply {
        let target = if request.enabled { request.ver } else { String::new() };
        let downgrade = Downgrade { target, enabled: request.enabled };
        turn.batch.put(Bucket::Cluster, &b"downgrade"[..], downgrade.to_json());
        Arc::make_mut(&mut self.membership).set_downgrade(downgrade);
        turn.effects.membership_changed = true;
        Reply::Done
    }
}

fn write_lease(turn: &mut Turn, lease: Lease) {
    let row = leasepb::Lease { id: lease.id.0, ttl: lease.ttl, remaining_ttl: lease.remaining };
    turn.batch.put(Bucket::Lease, lease_key(lease.id), row.encode_to_vec());
}

fn lease_key(id: LeaseId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}
