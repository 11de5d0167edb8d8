//! What stands between a decoded request and its execution.

use mainstay_proto::etcdserverpb::AlarmType;

use crate::alarms::Alarms;
use crate::entry::Request;
use crate::quota::{lease_cost, put_cost, txn_cost};
use crate::{ApplyError, StopReason};

/// A guard refuses a request before it has any effect.
type Guard = fn(&Alarms, &Request) -> Result<(), ApplyError>;

/// All guards, in etcd's order: the first to refuse decides the error. The
/// permission check (`auth::permission`) stands behind them. The quota is no guard:
/// a request that exceeds it is executed all the same (semantics 9.4), because
/// sizes differ between members.
const GUARDS: [Guard; 2] = [no_corruption, enough_space];

/// Why a request did not yield a reply.
pub(crate) enum Failure {
    /// Refused, on every member alike.
    Refused(ApplyError),
    /// The member cannot go on.
    Stop(StopReason),
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Failure {
        match error {
            // Other members read the row that we could not.
            ApplyError::Storage(why) => Failure::Stop(StopReason::Storage(why)),
            refused => Failure::Refused(refused),
        }
    }
}

impl From<StopReason> for Failure {
    fn from(why: StopReason) -> Failure {
        Failure::Stop(why)
    }
}

/// Asks every guard.
pub(crate) fn check(alarms: &Alarms, request: &Request) -> Result<(), ApplyError> {
    GUARDS.iter().try_for_each(|guard| guard(alarms, request))
}

/// A corrupt cluster neither changes nor reads keys through the log
/// (semantics 9.7).
fn no_corruption(alarms: &Alarms, request: &Request) -> Result<(), ApplyError> {
    let touches_keys = match request {
        Request::Put(_)
        | Request::Range(_)
        | Request::DeleteRange(_)
        | Request::Txn(_)
        | Request::Compaction(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_) => true,
        Request::LeaseCheckpoint(_)
        | Request::Alarm(_)
        | Request::Auth(_)
        | Request::ClusterVersionSet(_)
        | Request::MemberAttributesSet(..)
        | Request::DowngradeInfoSet(_)
        | Request::DowngradeVersionTest => false,
    };
    if touches_keys && alarms.has(AlarmType::Corrupt) {
        return Err(ApplyError::Corrupt);
    }
    Ok(())
}

/// While any member is out of space nothing that costs space is done
/// (semantics 9.5).
fn enough_space(alarms: &Alarms, request: &Request) -> Result<(), ApplyError> {
    if cost(request) > 0 && alarms.has(AlarmType::Nospace) {
        return Err(ApplyError::NoSpace);
    }
    Ok(())
}

/// What a request may add to the store, in bytes (semantics 9.2).
pub(crate) fn cost(request: &Request) -> u64 {
    match request {
        Request::Put(put) => put_cost(put),
        Request::Txn(txn) => txn_cost(txn),
        Request::LeaseGrant(_) => lease_cost(),
        Request::Range(_)
        | Request::DeleteRange(_)
        | Request::Compaction(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseCheckpoint(_)
        | Request::Alarm(_)
        | Request::Auth(_)
        | Request::ClusterVersionSet(_)
        | Request::MemberAttributesSet(..)
        | Request::DowngradeInfoSet(_)
        | Request::DowngradeVersionTest => 0,
    }
}
