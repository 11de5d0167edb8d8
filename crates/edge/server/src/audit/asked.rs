//! What a request asks, without values and secrets.
//!
//! One exhaustive match: a new call says here what of it may be told, or it does not compile.

use bytes::Bytes;
use mainstay_apply::nested;
use mainstay_audit::Asked;
use mainstay_proto::{Message, etcdserverpb as pb, v3electionpb, v3lockpb};
use pb::request_op::Request as Op;

use crate::method::Rpc;

/// What a request asks; of one that cannot be read, nothing.
pub(super) fn asked_for(rpc: Rpc, request: Bytes) -> Asked {
    let mut asked = Asked::default();
    // What cannot be read was refused, and the record says so.
    let _ = fill(&mut asked, rpc, request);
    asked
}

type Filled = Result<(), mainstay_proto::prost::DecodeError>;

fn fill(asked: &mut Asked, rpc: Rpc, request: Bytes) -> Filled {
    match rpc {
        Rpc::Range
        | Rpc::RangeStream
        | Rpc::Put
        | Rpc::DeleteRange
        | Rpc::Txn
        | Rpc::Compact
        | Rpc::Watch => about_keys(asked, rpc, request),
        Rpc::LeaseGrant
        | Rpc::LeaseRevoke
        | Rpc::LeaseKeepAlive
        | Rpc::LeaseTimeToLive
        | Rpc::LeaseLeases => about_leases(asked, rpc, request),
        Rpc::MemberAdd
        | Rpc::MemberRemove
        | Rpc::MemberUpdate
        | Rpc::MemberList
        | Rpc::MemberPromote
        | Rpc::MoveLeader
        | Rpc::Alarm
        | Rpc::HashKv
        | Rpc::Downgrade => about_members(asked, rpc, request),
        Rpc::Authenticate
        | Rpc::UserAdd
        | Rpc::UserGet
        | Rpc::UserDelete
        | Rpc::UserChangePassword
        | Rpc::UserGrantRole
        | Rpc::UserRevokeRole => about_users(asked, rpc, request),
        Rpc::RoleAdd
        | Rpc::RoleGet
        | Rpc::RoleDelete
        | Rpc::RoleGrantPermission
        | Rpc::RoleRevokePermission => about_roles(asked, rpc, request),
        Rpc::Lock
        | Rpc::Unlock
        | Rpc::Campaign
        | Rpc::Proclaim
        | Rpc::Leader
        | Rpc::Observe
        | Rpc::Resign => about_contests(asked, rpc, request),
        // These ask nothing but themselves.
        Rpc::Status
        | Rpc::Defragment
        | Rpc::Hash
        | Rpc::Snapshot
        | Rpc::AuthEnable
        | Rpc::AuthDisable
        | Rpc::AuthStatus
        | Rpc::UserList
        | Rpc::RoleList
        | Rpc::HealthCheck
        | Rpc::HealthWatch
        | Rpc::HealthList
        | Rpc::UpgradeStatus
        | Rpc::UpgradeFinalize => Ok(()),
    }
}

fn read<T: Message + Default>(request: Bytes) -> Result<T, mainstay_proto::prost::DecodeError> {
    T::decode(request)
}

/// Where in a request an operation stands. A transaction tells both of its branches; which one
/// was taken is not known here.
#[derive(Clone, Copy)]
enum Place {
    Alone,
    Then,
    Else,
}

impl Place {
    /// The word for one of the three kinds of operations.
    fn word(self, words: [&'static str; 3]) -> &'static str {
        words[self as usize]
    }
}

fn about_keys(asked: &mut Asked, rpc: Rpc, request: Bytes) -> Filled {
    match rpc {
        Rpc::Range | Rpc::RangeStream => range(asked, Place::Alone, &read(request)?),
        Rpc::Put => put(asked, Place::Alone, &read(request)?),
        Rpc::DeleteRange => delete_range(asked, Place::Alone, &read(request)?),
        Rpc::Txn => txn(asked, &nested::decode_txn(request)?),
        Rpc::Compact => {
            let compact: pb::CompactionRequest = read(request)?;
            asked.detail = Some(format!("to revision {}", compact.revision));
        }
        _ => {
            // Only the first message of a stream comes here, when nobody looks at each.
            let watch: pb::WatchRequest = read(request)?;
            if let Some(pb::watch_request::RequestUnion::CreateRequest(create)) =
                &watch.request_union
            {
                asked.item("watch", &create.key, &create.range_end);
            }
        }
    }
    Ok(())
}

fn range(asked: &mut Asked, place: Place, range: &pb::RangeRequest) {
    asked.item(place.word(["range", "then range", "else range"]), &range.key, &range.range_end);
}

fn put(asked: &mut Asked, place: Place, put: &pb::PutRequest) {
    asked.item(place.word(["put", "then put", "else put"]), &put.key, b"");
    asked.lease = asked.lease.or(Some(put.lease).filter(|lease| *lease != 0));
}

fn delete_range(asked: &mut Asked, place: Place, delete: &pb::DeleteRangeRequest) {
    let words = ["delete_range", "then delete_range", "else delete_range"];
    asked.item(place.word(words), &delete.key, &delete.range_end);
}

/// As deep as [`nested::decode_txn`] lets it be.
fn txn(asked: &mut Asked, request: &pb::TxnRequest) {
    for compare in &request.compare {
        asked.item("compare", &compare.key, &compare.range_end);
    }
    for (place, ops) in [(Place::Then, &request.success), (Place::Else, &request.failure)] {
        for op in ops {
            match &op.request {
                Some(Op::RequestRange(one)) => range(asked, place, one),
                Some(Op::RequestPut(one)) => put(asked, place, one),
                Some(Op::RequestDeleteRange(one)) => delete_range(asked, place, one),
                Some(Op::RequestTxn(one)) => txn(asked, one),
                None => {}
            }
        }
    }
}

fn about_leases(asked: &mut Asked, rpc: Rpc, request: Bytes) -> Filled {
    match rpc {
        Rpc::LeaseGrant => {
            let grant: pb::LeaseGrantRequest = read(request)?;
            asked.lease = Some(grant.id).filter(|id| *id != 0);
            asked.detail = Some(format!("TTL {} s", grant.ttl));
        }
        Rpc::LeaseRevoke => {
            asked.lease = Some(read::<pb::LeaseRevokeRequest>(request)?.id);
        }
        Rpc::LeaseKeepAlive => {
            asked.lease = Some(read::<pb::LeaseKeepAliveRequest>(request)?.id);
        }
        Rpc::LeaseTimeToLive => {
            let times: pb::LeaseTimeToLiveRequest = read(request)?;
            asked.lease = Some(times.id);
            asked.detail = times.keys.then(|| "with its keys".to_owned());
        }
        _ => {}
    }
    Ok(())
}

fn about_members(asked: &mut Asked, rpc: Rpc, request: Bytes) -> Filled {
    match rpc {
        Rpc::MemberAdd => {
            let add: pb::MemberAddRequest = read(request)?;
            let kind = if add.is_learner { "learner at" } else { "at" };
            asked.detail = Some(format!("{kind} {}", add.peer_ur_ls.join(",")));
        }
        Rpc::MemberRemove => {
            asked.member = Some(read::<pb::MemberRemoveRequest>(request)?.id);
        }
        Rpc::MemberUpdate => {
            let update: pb::MemberUpdateRequest = read(request)?;
            asked.member = Some(update.id);
            asked.detail = Some(format!("at {}", update.peer_ur_ls.join(",")));
        }
        Rpc::MemberPromote => {
            asked.member = Some(read::<pb::MemberPromoteRequest>(request)?.id);
        }
        Rpc::MoveLeader => {
            asked.member = Some(read::<pb::MoveLeaderRequest>(request)?.target_id);
        }
        Rpc::Alarm => {
            let alarm: pb::AlarmRequest = read(request)?;
            asked.member = Some(alarm.member_id).filter(|id| *id != 0);
            let words = [alarm.action().as_str_name(), alarm.alarm().as_str_name()];
            asked.detail = Some(words.join(" "));
        }
        Rpc::HashKv => {
            let hash: pb::HashKvRequest = read(request)?;
            asked.detail = Some(format!("at revision {}", hash.revision));
        }
        Rpc::Downgrade => {
            let downgrade: pb::DowngradeRequest = read(request)?;
            let action = downgrade.action().as_str_name();
            asked.detail = Some(format!("{action} {}", downgrade.version));
        }
        _ => {}
    }
    Ok(())
}

fn about_users(asked: &mut Asked, rpc: Rpc, request: Bytes) -> Filled {
    let name = match rpc {
        Rpc::Authenticate => read::<pb::AuthenticateRequest>(request)?.name,
        Rpc::UserAdd => {
            let add: pb::AuthUserAddRequest = read(request)?;
            let without = add.options.is_some_and(|options| options.no_password);
            asked.detail = without.then(|| "without a password".to_owned());
            add.name
        }
        Rpc::UserGet => read::<pb::AuthUserGetRequest>(request)?.name,
        Rpc::UserDelete => read::<pb::AuthUserDeleteRequest>(request)?.name,
        Rpc::UserChangePassword => read::<pb::AuthUserChangePasswordRequest>(request)?.name,
        Rpc::UserGrantRole => {
            let grant: pb::AuthUserGrantRoleRequest = read(request)?;
            asked.role = Some(grant.role);
            grant.user
        }
        _ => {
            let revoke: pb::AuthUserRevokeRoleRequest = read(request)?;
            asked.role = Some(revoke.role);
            revoke.name
        }
    };
    asked.user = Some(name);
    Ok(())
}

fn about_roles(asked: &mut Asked, rpc: Rpc, request: Bytes) -> Filled {
    let name = match rpc {
        Rpc::RoleAdd => read::<pb::AuthRoleAddRequest>(request)?.name,
        Rpc::RoleGet => read::<pb::AuthRoleGetRequest>(request)?.role,
        Rpc::RoleDelete => read::<pb::AuthRoleDeleteRequest>(request)?.role,
        Rpc::RoleGrantPermission => {
            let grant: pb::AuthRoleGrantPermissionRequest = read(request)?;
            if let Some(permission) = &grant.perm {
                asked.detail = Some(permission.perm_type().as_str_name().to_owned());
                asked.item("grant", &permission.key, &permission.range_end);
            }
            grant.name
        }
        _ => {
            let revoke: pb::AuthRoleRevokePermissionRequest = read(request)?;
            asked.item("revoke", &revoke.key, &revoke.range_end);
            revoke.role
        }
    };
    asked.role = Some(name);
    Ok(())
}

/// Locks and elections: names are the beginnings of keys.
fn about_contests(asked: &mut Asked, rpc: Rpc, request: Bytes) -> Filled {
    let leader = |leader: Option<v3electionpb::LeaderKey>| leader.unwrap_or_default();
    match rpc {
        Rpc::Lock => {
            let lock: v3lockpb::LockRequest = read(request)?;
            asked.item("lock", &lock.name, b"");
            asked.lease = Some(lock.lease).filter(|lease| *lease != 0);
        }
        Rpc::Unlock => asked.item("unlock", &read::<v3lockpb::UnlockRequest>(request)?.key, b""),
        Rpc::Campaign => {
            let campaign: v3electionpb::CampaignRequest = read(request)?;
            asked.item("campaign", &campaign.name, b"");
            asked.lease = Some(campaign.lease).filter(|lease| *lease != 0);
        }
        Rpc::Proclaim => {
            let proclaim: v3electionpb::ProclaimRequest = read(request)?;
            asked.item("proclaim", &leader(proclaim.leader).key, b"");
        }
        Rpc::Resign => {
            let resign: v3electionpb::ResignRequest = read(request)?;
            asked.item("resign", &leader(resign.leader).key, b"");
        }
        // Leader and Observe ask the same.
        _ => {
            let which: v3electionpb::LeaderRequest = read(request)?;
            asked.item("leader", &which.name, b"");
        }
    }
    Ok(())
}
