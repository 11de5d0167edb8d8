//! Which path of the gateway is which call.
//!
//! etcd's paths (its `rpc.proto`, `v3lock.proto` and `v3election.proto` carry them as
//! annotations); the shapes of the messages come from the generated tables.

use mainstay_proto::shape::{self, Call};

use crate::method::{Method, Rpc};

/// A path that leads to a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// The call's row.
    pub(crate) method: &'static Method,
    /// The shapes of its messages.
    pub(crate) call: &'static Call,
}

/// Every path. All are POST.
#[rustfmt::skip]
static PATHS: &[(Rpc, &str)] = &[
    (Rpc::Range, "/v3/kv/range"),
    (Rpc::Put, "/v3/kv/put"),
    (Rpc::DeleteRange, "/v3/kv/deleterange"),
    (Rpc::Txn, "/v3/kv/txn"),
    (Rpc::Compact, "/v3/kv/compaction"),
    (Rpc::Watch, "/v3/watch"),
    (Rpc::LeaseGrant, "/v3/lease/grant"),
    (Rpc::LeaseRevoke, "/v3/lease/revoke"),
    (Rpc::LeaseRevoke, "/v3/kv/lease/revoke"),
    (Rpc::LeaseKeepAlive, "/v3/lease/keepalive"),
    (Rpc::LeaseTimeToLive, "/v3/lease/timetolive"),
    (Rpc::LeaseTimeToLive, "/v3/kv/lease/timetolive"),
    (Rpc::LeaseLeases, "/v3/lease/leases"),
    (Rpc::LeaseLeases, "/v3/kv/lease/leases"),
    (Rpc::MemberAdd, "/v3/cluster/member/add"),
    (Rpc::MemberRemove, "/v3/cluster/member/remove"),
    (Rpc::MemberUpdate, "/v3/cluster/member/update"),
    (Rpc::MemberList, "/v3/cluster/member/list"),
    (Rpc::MemberPromote, "/v3/cluster/member/promote"),
    (Rpc::Alarm, "/v3/maintenance/alarm"),
    (Rpc::Status, "/v3/maintenance/status"),
    (Rpc::Defragment, "/v3/maintenance/defragment"),
    (Rpc::Hash, "/v3/maintenance/hash"),
    (Rpc::HashKv, "/v3/maintenance/hashkv"),
    (Rpc::Snapshot, "/v3/maintenance/snapshot"),
    (Rpc::MoveLeader, "/v3/maintenance/transfer-leadership"),
    (Rpc::Downgrade, "/v3/maintenance/downgrade"),
    (Rpc::AuthEnable, "/v3/auth/enable"),
    (Rpc::AuthDisable, "/v3/auth/disable"),
    (Rpc::AuthStatus, "/v3/auth/status"),
    (Rpc::Authenticate, "/v3/auth/authenticate"),
    (Rpc::UserAdd, "/v3/auth/user/add"),
    (Rpc::UserGet, "/v3/auth/user/get"),
    (Rpc::UserList, "/v3/auth/user/list"),
    (Rpc::UserDelete, "/v3/auth/user/delete"),
    (Rpc::UserChangePassword, "/v3/auth/user/changepw"),
    (Rpc::UserGrantRole, "/v3/auth/user/grant"),
    (Rpc::UserRevokeRole, "/v3/auth/user/revoke"),
    (Rpc::RoleAdd, "/v3/auth/role/add"),
    (Rpc::RoleGet, "/v3/auth/role/get"),
    (Rpc::RoleList, "/v3/auth/role/list"),
    (Rpc::RoleDelete, "/v3/auth/role/delete"),
    (Rpc::RoleGrantPermission, "/v3/auth/role/grant"),
    (Rpc::RoleRevokePermission, "/v3/auth/role/revoke"),
    (Rpc::Lock, "/v3/lock/lock"),
    (Rpc::Unlock, "/v3/lock/unlock"),
    (Rpc::Campaign, "/v3/election/campaign"),
    (Rpc::Proclaim, "/v3/election/proclaim"),
    (Rpc::Leader, "/v3/election/leader"),
    (Rpc::Observe, "/v3/election/observe"),
    (Rpc::Resign, "/v3/election/resign"),
];

/// The path below the gateway that a request names, without its escapes and under the
/// newest prefix; `None` when it is not the gateway's.
pub(crate) fn below(path: &str) -> Option<String> {
    let path = unescape(path)?;
    match path.strip_prefix("/v3beta/") {
        Some(rest) => Some(format!("/v3/{rest}")),
        None => path.starts_with("/v3/").then_some(path),
    }
}

/// The call behind a path.
pub(crate) fn find(path: &str) -> Option<Route> {
    let (rpc, _) = PATHS.iter().find(|(_, known)| *known == path)?;
    let method = rpc.method();
    Some(Route { method, call: shape::call(method.path)? })
}

/// Undoes the escapes of a path; `None` when they are none.
fn unescape(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::METHODS;

    #[test]
    fn every_call_of_etcd_has_a_path_or_a_reason_for_having_none() {
        for method in METHODS {
            let named = PATHS.iter().any(|(rpc, _)| *rpc == method.rpc);
            // etcd gives none to RangeStream and the health service; Upgrade is ours.
            let without = method.rpc == Rpc::RangeStream
                || method.service() == "grpc.health.v1.Health"
                || method.service() == "mainstaypb.Upgrade";
            assert_eq!(named, !without, "{}", method.path);
        }
        for (rpc, path) in PATHS {
            assert_eq!(find(path).map(|route| route.method.rpc), Some(*rpc), "{path}");
        }
    }

    #[test]
    fn paths_are_compared_whole() {
        assert_eq!(below("/v3beta/kv/range").as_deref(), Some("/v3/kv/range"));
        assert_eq!(below("/v3/kv%2frange").as_deref(), Some("/v3/kv/range"));
        assert_eq!(below("/v3"), None);
        assert_eq!(below("/v3/%"), None);
        assert_eq!(below("/v3/%f"), None);
        assert_eq!(below("/v3/%+f"), None);
        assert_eq!(below("/v3alpha/kv/range"), None);
        assert_eq!(below("/V3/kv/range"), None);
        for path in ["/v3/kv/range/", "/v3//kv/range", "/v3/kv/Range", "/v3/kv/range:x", "/v3/"] {
            assert!(find(path).is_none(), "{path}");
        }
    }
}
