//! The one routing table: which calls there are, by path.
//!
//! Routing, metric labels, the learner's allow list and the tests read this
//! table. A call without a row does not exist.

use mainstay_proto::RPCS;

/// How many messages flow each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One in, one out.
    Unary,
    /// One in, many out.
    ServerStream,
    /// Many in, many out.
    BidiStream,
}

impl Kind {
    /// The value of the label `grpc_type`.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

/// A call.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// Which one.
    pub rpc: Rpc,
    /// `/<package>.<Service>/<Method>`.
    pub path: &'static str,
    /// How many messages.
    pub kind: Kind,
    /// Who may make it at all, while authentication is on.
    pub rule: Rule,
}

/// Who may make a call, before what it asks for is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Everybody, and nobody is asked who they are.
    Open,
    /// Everybody; but who shows a token must show a good one.
    Asks,
    /// Everybody: each message is looked at by itself, and refused by itself.
    Each,
    /// Whoever shows who they are.
    User,
    /// Whoever shows who they are, as far as the keys or names in the request are theirs.
    Keys,
    /// Users with role `root`.
    Root,
}

impl Method {
    /// `<package>.<Service>`.
    pub fn service(&self) -> &'static str {
        split(self.path).0
    }

    /// The method's own name.
    pub fn name(&self) -> &'static str {
        split(self.path).1
    }
}

fn split(path: &'static str) -> (&'static str, &'static str) {
    path[1..].rsplit_once('/').expect("every path of the table is /service/method")
}

macro_rules! methods {
    ($($rpc:ident $kind:ident $rule:ident $path:literal;)*) => {
        /// Every call that is served; also its place in [`METHODS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are etcd's own, in the table below")]
        pub enum Rpc { $($rpc),* }

        /// The paths of the table.
        const PATHS: &[&str] = &[$($path),*];

        /// The table, in the order of [`Rpc`].
        pub static METHODS: &[Method] = &[
            $(Method { rpc: Rpc::$rpc, path: $path, kind: Kind::$kind, rule: Rule::$rule }),*
        ];
    };
}

methods! {
    Range Unary Keys "/etcdserverpb.KV/Range";
    RangeStream ServerStream Keys "/etcdserverpb.KV/RangeStream";
    Put Unary Keys "/etcdserverpb.KV/Put";
    DeleteRange Unary Keys "/etcdserverpb.KV/DeleteRange";
    Txn Unary Keys "/etcdserverpb.KV/Txn";
    Compact Unary Root "/etcdserverpb.KV/Compact";
    Watch BidiStream Each "/etcdserverpb.Watch/Watch";
    LeaseGrant Unary User "/etcdserverpb.Lease/LeaseGrant";
    LeaseRevoke Unary Keys "/etcdserverpb.Lease/LeaseRevoke";
    LeaseKeepAlive BidiStream Keys "/etcdserverpb.Lease/LeaseKeepAlive";
    LeaseTimeToLive Unary Keys "/etcdserverpb.Lease/LeaseTimeToLive";
    LeaseLeases Unary Keys "/etcdserverpb.Lease/LeaseLeases";
    MemberAdd Unary Root "/etcdserverpb.Cluster/MemberAdd";
    MemberRemove Unary Root "/etcdserverpb.Cluster/MemberRemove";
    MemberUpdate Unary Root "/etcdserverpb.Cluster/MemberUpdate";
    MemberList Unary User "/etcdserverpb.Cluster/MemberList";
    MemberPromote Unary Root "/etcdserverpb.Cluster/MemberPromote";
    Alarm Unary User "/etcdserverpb.Maintenance/Alarm";
    Status Unary User "/etcdserverpb.Maintenance/Status";
    Defragment Unary Root "/etcdserverpb.Maintenance/Defragment";
    Hash Unary Root "/etcdserverpb.Maintenance/Hash";
    HashKv Unary Root "/etcdserverpb.Maintenance/HashKV";
    Snapshot ServerStream Root "/etcdserverpb.Maintenance/Snapshot";
    MoveLeader Unary Root "/etcdserverpb.Maintenance/MoveLeader";
    Downgrade Unary Root "/etcdserverpb.Maintenance/Downgrade";
    AuthEnable Unary Root "/etcdserverpb.Auth/AuthEnable";
    AuthDisable Unary Root "/etcdserverpb.Auth/AuthDisable";
    AuthStatus Unary Asks "/etcdserverpb.Auth/AuthStatus";
    Authenticate Unary Open "/etcdserverpb.Auth/Authenticate";
    UserAdd Unary Root "/etcdserverpb.Auth/UserAdd";
    UserGet Unary Keys "/etcdserverpb.Auth/UserGet";
    UserList Unary Root "/etcdserverpb.Auth/UserList";
    UserDelete Unary Root "/etcdserverpb.Auth/UserDelete";
    UserChangePassword Unary Root "/etcdserverpb.Auth/UserChangePassword";
    UserGrantRole Unary Root "/etcdserverpb.Auth/UserGrantRole";
    UserRevokeRole Unary Root "/etcdserverpb.Auth/UserRevokeRole";
    RoleAdd Unary Root "/etcdserverpb.Auth/RoleAdd";
    RoleGet Unary Keys "/etcdserverpb.Auth/RoleGet";
    RoleList Unary Root "/etcdserverpb.Auth/RoleList";
    RoleDelete Unary Root "/etcdserverpb.Auth/RoleDelete";
    RoleGrantPermission Unary Root "/etcdserverpb.Auth/RoleGrantPermission";
    RoleRevokePermission Unary Root "/etcdserverpb.Auth/RoleRevokePermission";
    Lock Unary Each "/v3lockpb.Lock/Lock";
    Unlock Unary Each "/v3lockpb.Lock/Unlock";
    Campaign Unary Each "/v3electionpb.Election/Campaign";
    Proclaim Unary Each "/v3electionpb.Election/Proclaim";
    Leader Unary Each "/v3electionpb.Election/Leader";
    Observe ServerStream Each "/v3electionpb.Election/Observe";
    Resign Unary Each "/v3electionpb.Election/Resign";
    HealthCheck Unary Open "/grpc.health.v1.Health/Check";
    HealthWatch ServerStream Open "/grpc.health.v1.Health/Watch";
    HealthList Unary Open "/grpc.health.v1.Health/List";
    UpgradeStatus Unary User "/mainstaypb.Upgrade/Status";
    UpgradeFinalize Unary Root "/mainstaypb.Upgrade/Finalize";
}

// A call that is new in the `.proto` files needs a row here, with its rule, before anything
// compiles.
const _: () = {
    let mut n = 0;
    while n < RPCS.len() {
        let known = holds(PATHS, RPCS[n]);
        assert!(known, "a call of the .proto files has no row in the table");
        n += 1;
    }
    let mut n = 0;
    while n < PATHS.len() {
        assert!(holds(RPCS, PATHS[n]), "a row of the table is no call of the .proto files");
        n += 1;
    }
};

const fn holds(list: &[&str], wanted: &str) -> bool {
    let mut n = 0;
    while n < list.len() {
        if same(list[n].as_bytes(), wanted.as_bytes()) {
            return true;
        }
        n += 1;
    }
    false
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut n = 0;
    while n < one.len() && n < other.len() && one[n] == other[n] {
        n += 1;
    }
    n == one.len() && n == other.len()
}

impl Rpc {
    /// The row of this call.
    pub fn method(self) -> &'static Method {
        &METHODS[self as usize]
    }
}

/// The row for a path, or why there is none, in grpc-go's words.
///
/// # Errors
/// The text of the `Unimplemented` status.
pub fn route(path: &str) -> Result<&'static Method, String> {
    // The two calls that make up nearly all traffic.
    for hot in [Rpc::Range, Rpc::Put] {
        if path == hot.method().path {
            return Ok(hot.method());
        }
    }
    if let Some(method) = METHODS.iter().find(|method| method.path == path) {
        return Ok(method);
    }
    // Refused before anything is looked up: a path without its slash must not
    // slip past a check that compares whole paths (CVE-2026-33186).
    let Some(rest) = path.strip_prefix('/') else {
        return Err(format!("malformed method name: {path:?}"));
    };
    let Some((service, name)) = rest.rsplit_once('/') else {
        return Err(format!("malformed method name: {path:?}"));
    };
    if METHODS.iter().any(|method| method.service() == service) {
        Err(format!("unknown method {name} for service {service}"))
    } else {
        Err(format!("unknown service {service}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_its_enum() {
        for (n, method) in METHODS.iter().enumerate() {
            assert_eq!(method.rpc as usize, n);
            assert_eq!(route(method.path), Ok(method));
            assert_eq!(format!("/{}/{}", method.service(), method.name()), method.path);
        }
    }

    #[test]
    fn paths_that_are_almost_right_are_refused() {
        let refused = |path: &str| route(path).expect_err("refused");
        assert_eq!(
            refused("/etcdserverpb.KV/Nope"),
            "unknown method Nope for service etcdserverpb.KV"
        );
        assert_eq!(refused("/nope.KV/Range"), "unknown service nope.KV");
        assert_eq!(
            refused("etcdserverpb.KV/Range"),
            "malformed method name: \"etcdserverpb.KV/Range\""
        );
        assert_eq!(refused("//etcdserverpb.KV/Range"), "unknown service /etcdserverpb.KV");
        assert_eq!(refused("/etcdserverpb.KV/Range/"), "unknown service etcdserverpb.KV/Range");
        assert_eq!(refused("/etcdserverpb.kv/range"), "unknown service etcdserverpb.kv");
        assert_eq!(refused("/"), "malformed method name: \"/\"");
        assert_eq!(
            refused("/etcdserverpb.KV%2FRange"),
            "malformed method name: \"/etcdserverpb.KV%2FRange\""
        );
    }
}
