//! The fields of etcd's messages that are printed as text. A test holds this table
//! against the `.proto` files.

use super::{Field, Kind, Shape};

/// `etcdserverpb.InternalRaftRequest`.
pub(crate) static INTERNAL_RAFT_REQUEST: Shape = Shape {
    name: "etcdserverpb.InternalRaftRequest",
    fields: &[
        Field { number: 100, name: "header", kind: Kind::Message(&REQUEST_HEADER) },
        Field { number: 1, name: "ID", kind: Kind::Uint },
        Field { number: 2, name: "v2", kind: Kind::Message(&REQUEST) },
        Field { number: 3, name: "range", kind: Kind::Message(&RANGE_REQUEST) },
        Field { number: 4, name: "put", kind: Kind::Message(&PUT_REQUEST) },
        Field { number: 5, name: "delete_range", kind: Kind::Message(&DELETE_RANGE_REQUEST) },
        Field { number: 6, name: "txn", kind: Kind::Message(&TXN_REQUEST) },
        Field { number: 7, name: "compaction", kind: Kind::Message(&COMPACTION_REQUEST) },
        Field { number: 8, name: "lease_grant", kind: Kind::Message(&LEASE_GRANT_REQUEST) },
        Field { number: 9, name: "lease_revoke", kind: Kind::Message(&LEASE_REVOKE_REQUEST) },
        Field { number: 10, name: "alarm", kind: Kind::Message(&ALARM_REQUEST) },
        Field {
            number: 11,
            name: "lease_checkpoint",
            kind: Kind::Message(&LEASE_CHECKPOINT_REQUEST),
        },
        Field { number: 1000, name: "auth_enable", kind: Kind::Message(&AUTH_ENABLE_REQUEST) },
        Field { number: 1011, name: "auth_disable", kind: Kind::Message(&AUTH_DISABLE_REQUEST) },
        Field { number: 1013, name: "auth_status", kind: Kind::Message(&AUTH_STATUS_REQUEST) },
        Field {
            number: 1012,
            name: "authenticate",
            kind: Kind::Message(&INTERNAL_AUTHENTICATE_REQUEST),
        },
        Field { number: 1100, name: "auth_user_add", kind: Kind::Message(&AUTH_USER_ADD_REQUEST) },
        Field {
            number: 1101,
            name: "auth_user_delete",
            kind: Kind::Message(&AUTH_USER_DELETE_REQUEST),
        },
        Field { number: 1102, name: "auth_user_get", kind: Kind::Message(&AUTH_USER_GET_REQUEST) },
        Field {
            number: 1103,
            name: "auth_user_change_password",
            kind: Kind::Message(&AUTH_USER_CHANGE_PASSWORD_REQUEST),
        },
        Field {
            number: 1104,
            name: "auth_user_grant_role",
            kind: Kind::Message(&AUTH_USER_GRANT_ROLE_REQUEST),
        },
        Field {
            number: 1105,
            name: "auth_user_revoke_role",
            kind: Kind::Message(&AUTH_USER_REVOKE_ROLE_REQUEST),
        },
        Field {
            number: 1106,
            name: "auth_user_list",
            kind: Kind::Message(&AUTH_USER_LIST_REQUEST),
        },
        Field {
            number: 1107,
            name: "auth_role_list",
            kind: Kind::Message(&AUTH_ROLE_LIST_REQUEST),
        },
        Field { number: 1200, name: "auth_role_add", kind: Kind::Message(&AUTH_ROLE_ADD_REQUEST) },
        Field {
            number: 1201,
            name: "auth_role_delete",
            kind: Kind::Message(&AUTH_ROLE_DELETE_REQUEST),
        },
        Field { number: 1202, name: "auth_role_get", kind: Kind::Message(&AUTH_ROLE_GET_REQUEST) },
        Field {
            number: 1203,
            name: "auth_role_grant_permission",
            kind: Kind::Message(&AUTH_ROLE_GRANT_PERMISSION_REQUEST),
        },
        Field {
            number: 1204,
            name: "auth_role_revoke_permission",
            kind: Kind::Message(&AUTH_ROLE_REVOKE_PERMISSION_REQUEST),
        },
        Field {
            number: 1300,
            name: "cluster_version_set",
            kind: Kind::Message(&CLUSTER_VERSION_SET_REQUEST),
        },
        Field {
            number: 1301,
            name: "cluster_member_attr_set",
            kind: Kind::Message(&CLUSTER_MEMBER_ATTR_SET_REQUEST),
        },
        Field {
            number: 1302,
            name: "downgrade_info_set",
            kind: Kind::Message(&DOWNGRADE_INFO_SET_REQUEST),
        },
        Field {
            number: 9900,
            name: "downgrade_version_test",
            kind: Kind::Message(&DOWNGRADE_VERSION_TEST_REQUEST),
        },
    ],
};
/// `etcdserverpb.Request`.
pub(crate) static REQUEST: Shape = Shape {
    name: "etcdserverpb.Request",
    fields: &[
        Field { number: 1, name: "ID", kind: Kind::Uint },
        Field { number: 2, name: "Method", kind: Kind::Text },
        Field { number: 3, name: "Path", kind: Kind::Text },
        Field { number: 4, name: "Val", kind: Kind::Text },
        Field { number: 5, name: "Dir", kind: Kind::Bool },
        Field { number: 6, name: "PrevValue", kind: Kind::Text },
        Field { number: 7, name: "PrevIndex", kind: Kind::Uint },
        Field { number: 8, name: "PrevExist", kind: Kind::Bool },
        Field { number: 9, name: "Expiration", kind: Kind::Int },
        Field { number: 10, name: "Wait", kind: Kind::Bool },
        Field { number: 11, name: "Since", kind: Kind::Uint },
        Field { number: 12, name: "Recursive", kind: Kind::Bool },
        Field { number: 13, name: "Sorted", kind: Kind::Bool },
        Field { number: 14, name: "Quorum", kind: Kind::Bool },
        Field { number: 15, name: "Time", kind: Kind::Int },
        Field { number: 16, name: "Stream", kind: Kind::Bool },
        Field { number: 17, name: "Refresh", kind: Kind::Bool },
    ],
};
/// `etcdserverpb.Metadata`.
pub(crate) static METADATA: Shape = Shape {
    name: "etcdserverpb.Metadata",
    fields: &[
        Field { number: 1, name: "NodeID", kind: Kind::Uint },
        Field { number: 2, name: "ClusterID", kind: Kind::Uint },
    ],
};
/// `raftpb.HardState`.
pub(crate) static HARD_STATE: Shape = Shape {
    name: "raftpb.HardState",
    fields: &[
        Field { number: 1, name: "term", kind: Kind::Uint },
        Field { number: 2, name: "vote", kind: Kind::Uint },
        Field { number: 3, name: "commit", kind: Kind::Uint },
    ],
};
/// `raftpb.ConfChange`.
pub(crate) static CONF_CHANGE: Shape = Shape {
    name: "raftpb.ConfChange",
    fields: &[
        Field { number: 2, name: "type", kind: Kind::Enum(&CONF_CHANGE_TYPE) },
        Field { number: 3, name: "node_id", kind: Kind::Uint },
        Field { number: 4, name: "context", kind: Kind::Bytes },
        Field { number: 1, name: "id", kind: Kind::Uint },
    ],
};
/// `raftpb.ConfChangeV2`.
pub(crate) static CONF_CHANGE_V2: Shape = Shape {
    name: "raftpb.ConfChangeV2",
    fields: &[
        Field { number: 1, name: "transition", kind: Kind::Enum(&CONF_CHANGE_TRANSITION) },
        Field { number: 2, name: "changes", kind: Kind::Message(&CONF_CHANGE_SINGLE) },
        Field { number: 3, name: "context", kind: Kind::Bytes },
    ],
};
/// `etcdserverpb.RequestHeader`.
pub(crate) static REQUEST_HEADER: Shape = Shape {
    name: "etcdserverpb.RequestHeader",
    fields: &[
        Field { number: 1, name: "ID", kind: Kind::Uint },
        Field { number: 2, name: "username", kind: Kind::Text },
        Field { number: 3, name: "auth_revision", kind: Kind::Uint },
    ],
};
/// `etcdserverpb.RangeRequest`.
pub(crate) static RANGE_REQUEST: Shape = Shape {
    name: "etcdserverpb.RangeRequest",
    fields: &[
        Field { number: 1, name: "key", kind: Kind::Bytes },
        Field { number: 2, name: "range_end", kind: Kind::Bytes },
        Field { number: 3, name: "limit", kind: Kind::Int },
        Field { number: 4, name: "revision", kind: Kind::Int },
        Field { number: 5, name: "sort_order", kind: Kind::Enum(&RANGE_REQUEST_SORT_ORDER) },
        Field { number: 6, name: "sort_target", kind: Kind::Enum(&RANGE_REQUEST_SORT_TARGET) },
        Field { number: 7, name: "serializable", kind: Kind::Bool },
        Field { number: 8, name: "keys_only", kind: Kind::Bool },
        Field { number: 9, name: "count_only", kind: Kind::Bool },
        Field { number: 10, name: "min_mod_revision", kind: Kind::Int },
        Field { number: 11, name: "max_mod_revision", kind: Kind::Int },
        Field { number: 12, name: "min_create_revision", kind: Kind::Int },
        Field { number: 13, name: "max_create_revision", kind: Kind::Int },
    ],
};
/// `etcdserverpb.PutRequest`.
pub(crate) static PUT_REQUEST: Shape = Shape {
    name: "etcdserverpb.PutRequest",
    fields: &[
        Field { number: 1, name: "key", kind: Kind::Bytes },
        Field { number: 2, name: "value", kind: Kind::Bytes },
        Field { number: 3, name: "lease", kind: Kind::Int },
        Field { number: 4, name: "prev_kv", kind: Kind::Bool },
        Field { number: 5, name: "ignore_value", kind: Kind::Bool },
        Field { number: 6, name: "ignore_lease", kind: Kind::Bool },
    ],
};
/// `etcdserverpb.DeleteRangeRequest`.
pub(crate) static DELETE_RANGE_REQUEST: Shape = Shape {
    name: "etcdserverpb.DeleteRangeRequest",
    fields: &[
        Field { number: 1, name: "key", kind: Kind::Bytes },
        Field { number: 2, name: "range_end", kind: Kind::Bytes },
        Field { number: 3, name: "prev_kv", kind: Kind::Bool },
    ],
};
/// `etcdserverpb.TxnRequest`.
pub(crate) static TXN_REQUEST: Shape = Shape {
    name: "etcdserverpb.TxnRequest",
    fields: &[
        Field { number: 1, name: "compare", kind: Kind::Message(&COMPARE) },
        Field { number: 2, name: "success", kind: Kind::Message(&REQUEST_OP) },
        Field { number: 3, name: "failure", kind: Kind::Message(&REQUEST_OP) },
    ],
};
/// `etcdserverpb.CompactionRequest`.
pub(crate) static COMPACTION_REQUEST: Shape = Shape {
    name: "etcdserverpb.CompactionRequest",
    fields: &[
        Field { number: 1, name: "revision", kind: Kind::Int },
        Field { number: 2, name: "physical", kind: Kind::Bool },
    ],
};
/// `etcdserverpb.LeaseGrantRequest`.
pub(crate) static LEASE_GRANT_REQUEST: Shape = Shape {
    name: "etcdserverpb.LeaseGrantRequest",
    fields: &[
        Field { number: 1, name: "TTL", kind: Kind::Int },
        Field { number: 2, name: "ID", kind: Kind::Int },
    ],
};
/// `etcdserverpb.LeaseRevokeRequest`.
pub(crate) static LEASE_REVOKE_REQUEST: Shape = Shape {
    name: "etcdserverpb.LeaseRevokeRequest",
    fields: &[Field { number: 1, name: "ID", kind: Kind::Int }],
};
/// `etcdserverpb.AlarmRequest`.
pub(crate) static ALARM_REQUEST: Shape = Shape {
    name: "etcdserverpb.AlarmRequest",
    fields: &[
        Field { number: 1, name: "action", kind: Kind::Enum(&ALARM_REQUEST_ALARM_ACTION) },
        Field { number: 2, name: "memberID", kind: Kind::Uint },
        Field { number: 3, name: "alarm", kind: Kind::Enum(&ALARM_TYPE) },
    ],
};
/// `etcdserverpb.LeaseCheckpointRequest`.
pub(crate) static LEASE_CHECKPOINT_REQUEST: Shape = Shape {
    name: "etcdserverpb.LeaseCheckpointRequest",
    fields: &[Field { number: 1, name: "checkpoints", kind: Kind::Message(&LEASE_CHECKPOINT) }],
};
/// `etcdserverpb.AuthEnableRequest`.
pub(crate) static AUTH_ENABLE_REQUEST: Shape =
    Shape { name: "etcdserverpb.AuthEnableRequest", fields: &[] };
/// `etcdserverpb.AuthDisableRequest`.
pub(crate) static AUTH_DISABLE_REQUEST: Shape =
    Shape { name: "etcdserverpb.AuthDisableRequest", fields: &[] };
/// `etcdserverpb.AuthStatusRequest`.
pub(crate) static AUTH_STATUS_REQUEST: Shape =
    Shape { name: "etcdserverpb.AuthStatusRequest", fields: &[] };
/// `etcdserverpb.InternalAuthenticateRequest`.
pub(crate) static INTERNAL_AUTHENTICATE_REQUEST: Shape = Shape {
    name: "etcdserverpb.InternalAuthenticateRequest",
    fields: &[
        Field { number: 1, name: "name", kind: Kind::Text },
        Field { number: 2, name: "password", kind: Kind::Text },
        Field { number: 3, name: "simple_token", kind: Kind::Text },
    ],
};
/// `etcdserverpb.AuthUserAddRequest`.
pub(crate) static AUTH_USER_ADD_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthUserAddRequest",
    fields: &[
        Field { number: 1, name: "name", kind: Kind::Text },
        Field { number: 2, name: "password", kind: Kind::Text },
        Field { number: 3, name: "options", kind: Kind::Message(&USER_ADD_OPTIONS) },
        Field { number: 4, name: "hashedPassword", kind: Kind::Text },
    ],
};
/// `etcdserverpb.AuthUserDeleteRequest`.
pub(crate) static AUTH_USER_DELETE_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthUserDeleteRequest",
    fields: &[Field { number: 1, name: "name", kind: Kind::Text }],
};
/// `etcdserverpb.AuthUserGetRequest`.
pub(crate) static AUTH_USER_GET_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthUserGetRequest",
    fields: &[Field { number: 1, name: "name", kind: Kind::Text }],
};
/// `etcdserverpb.AuthUserChangePasswordRequest`.
pub(crate) static AUTH_USER_CHANGE_PASSWORD_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthUserChangePasswordRequest",
    fields: &[
        Field { number: 1, name: "name", kind: Kind::Text },
        Field { number: 2, name: "password", kind: Kind::Text },
        Field { number: 3, name: "hashedPassword", kind: Kind::Text },
    ],
};
/// `etcdserverpb.AuthUserGrantRoleRequest`.
pub(crate) static AUTH_USER_GRANT_ROLE_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthUserGrantRoleRequest",
    fields: &[
        Field { number: 1, name: "user", kind: Kind::Text },
        Field { number: 2, name: "role", kind: Kind::Text },
    ],
};
/// `etcdserverpb.AuthUserRevokeRoleRequest`.
pub(crate) static AUTH_USER_REVOKE_ROLE_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthUserRevokeRoleRequest",
    fields: &[
        Field { number: 1, name: "name", kind: Kind::Text },
        Field { number: 2, name: "role", kind: Kind::Text },
    ],
};
/// `etcdserverpb.AuthUserListRequest`.
pub(crate) static AUTH_USER_LIST_REQUEST: Shape =
    Shape { name: "etcdserverpb.AuthUserListRequest", fields: &[] };
/// `etcdserverpb.AuthRoleListRequest`.
pub(crate) static AUTH_ROLE_LIST_REQUEST: Shape =
    Shape { name: "etcdserverpb.AuthRoleListRequest", fields: &[] };
/// `etcdserverpb.AuthRoleAddRequest`.
pub(crate) static AUTH_ROLE_ADD_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthRoleAddRequest",
    fields: &[Field { number: 1, name: "name", kind: Kind::Text }],
};
/// `etcdserverpb.AuthRoleDeleteRequest`.
pub(crate) static AUTH_ROLE_DELETE_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthRoleDeleteRequest",
    fields: &[Field { number: 1, name: "role", kind: Kind::Text }],
};
/// `etcdserverpb.AuthRoleGetRequest`.
pub(crate) static AUTH_ROLE_GET_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthRoleGetRequest",
    fields: &[Field { number: 1, name: "role", kind: Kind::Text }],
};
/// `etcdserverpb.AuthRoleGrantPermissionRequest`.
pub(crate) static AUTH_ROLE_GRANT_PERMISSION_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthRoleGrantPermissionRequest",
    fields: &[
        Field { number: 1, name: "name", kind: Kind::Text },
        Field { number: 2, name: "perm", kind: Kind::Message(&PERMISSION) },
    ],
};
/// `etcdserverpb.AuthRoleRevokePermissionRequest`.
pub(crate) static AUTH_ROLE_REVOKE_PERMISSION_REQUEST: Shape = Shape {
    name: "etcdserverpb.AuthRoleRevokePermissionRequest",
    fields: &[
        Field { number: 1, name: "role", kind: Kind::Text },
        Field { number: 2, name: "key", kind: Kind::Bytes },
        Field { number: 3, name: "range_end", kind: Kind::Bytes },
    ],
};
/// `membershippb.ClusterVersionSetRequest`.
pub(crate) static CLUSTER_VERSION_SET_REQUEST: Shape = Shape {
    name: "membershippb.ClusterVersionSetRequest",
    fields: &[Field { number: 1, name: "ver", kind: Kind::Text }],
};
/// `membershippb.ClusterMemberAttrSetRequest`.
pub(crate) static CLUSTER_MEMBER_ATTR_SET_REQUEST: Shape = Shape {
    name: "membershippb.ClusterMemberAttrSetRequest",
    fields: &[
        Field { number: 1, name: "member_ID", kind: Kind::Uint },
        Field { number: 2, name: "member_attributes", kind: Kind::Message(&ATTRIBUTES) },
    ],
};
/// `membershippb.DowngradeInfoSetRequest`.
pub(crate) static DOWNGRADE_INFO_SET_REQUEST: Shape = Shape {
    name: "membershippb.DowngradeInfoSetRequest",
    fields: &[
        Field { number: 1, name: "enabled", kind: Kind::Bool },
        Field { number: 2, name: "ver", kind: Kind::Text },
    ],
};
/// `etcdserverpb.DowngradeVersionTestRequest`.
pub(crate) static DOWNGRADE_VERSION_TEST_REQUEST: Shape = Shape {
    name: "etcdserverpb.DowngradeVersionTestRequest",
    fields: &[Field { number: 1, name: "ver", kind: Kind::Text }],
};
/// `raftpb.ConfChangeSingle`.
pub(crate) static CONF_CHANGE_SINGLE: Shape = Shape {
    name: "raftpb.ConfChangeSingle",
    fields: &[
        Field { number: 1, name: "type", kind: Kind::Enum(&CONF_CHANGE_TYPE) },
        Field { number: 2, name: "node_id", kind: Kind::Uint },
    ],
};
/// `authpb.UserAddOptions`.
pub(crate) static USER_ADD_OPTIONS: Shape = Shape {
    name: "authpb.UserAddOptions",
    fields: &[Field { number: 1, name: "no_password", kind: Kind::Bool }],
};
/// `authpb.Permission`.
pub(crate) static PERMISSION: Shape = Shape {
    name: "authpb.Permission",
    fields: &[
        Field { number: 1, name: "permType", kind: Kind::Enum(&PERMISSION_TYPE) },
        Field { number: 2, name: "key", kind: Kind::Bytes },
        Field { number: 3, name: "range_end", kind: Kind::Bytes },
    ],
};
/// `etcdserverpb.Compare`.
pub(crate) static COMPARE: Shape = Shape {
    name: "etcdserverpb.Compare",
    fields: &[
        Field { number: 1, name: "result", kind: Kind::Enum(&COMPARE_COMPARE_RESULT) },
        Field { number: 2, name: "target", kind: Kind::Enum(&COMPARE_COMPARE_TARGET) },
        Field { number: 3, name: "key", kind: Kind::Bytes },
        Field { number: 4, name: "version", kind: Kind::Int },
        Field { number: 5, name: "create_revision", kind: Kind::Int },
        Field { number: 6, name: "mod_revision", kind: Kind::Int },
        Field { number: 7, name: "value", kind: Kind::Bytes },
        Field { number: 8, name: "lease", kind: Kind::Int },
        Field { number: 64, name: "range_end", kind: Kind::Bytes },
    ],
};
/// `etcdserverpb.RequestOp`.
pub(crate) static REQUEST_OP: Shape = Shape {
    name: "etcdserverpb.RequestOp",
    fields: &[
        Field { number: 1, name: "request_range", kind: Kind::Message(&RANGE_REQUEST) },
        Field { number: 2, name: "request_put", kind: Kind::Message(&PUT_REQUEST) },
        Field {
            number: 3,
            name: "request_delete_range",
            kind: Kind::Message(&DELETE_RANGE_REQUEST),
        },
        Field { number: 4, name: "request_txn", kind: Kind::Message(&TXN_REQUEST) },
    ],
};
/// `etcdserverpb.LeaseCheckpoint`.
pub(crate) static LEASE_CHECKPOINT: Shape = Shape {
    name: "etcdserverpb.LeaseCheckpoint",
    fields: &[
        Field { number: 1, name: "ID", kind: Kind::Int },
        Field { number: 2, name: "remaining_TTL", kind: Kind::Int },
    ],
};
/// `membershippb.Attributes`.
pub(crate) static ATTRIBUTES: Shape = Shape {
    name: "membershippb.Attributes",
    fields: &[
        Field { number: 1, name: "name", kind: Kind::Text },
        Field { number: 2, name: "client_urls", kind: Kind::Text },
    ],
};
static CONF_CHANGE_TYPE: [(i64, &str); 4] = [
    (0, "ConfChangeAddNode"),
    (1, "ConfChangeRemoveNode"),
    (2, "ConfChangeUpdateNode"),
    (3, "ConfChangeAddLearnerNode"),
];
static CONF_CHANGE_TRANSITION: [(i64, &str); 3] = [
    (0, "ConfChangeTransitionAuto"),
    (1, "ConfChangeTransitionJointImplicit"),
    (2, "ConfChangeTransitionJointExplicit"),
];
static ALARM_TYPE: [(i64, &str); 3] = [(0, "NONE"), (1, "NOSPACE"), (2, "CORRUPT")];
static RANGE_REQUEST_SORT_ORDER: [(i64, &str); 3] = [(0, "NONE"), (1, "ASCEND"), (2, "DESCEND")];
static RANGE_REQUEST_SORT_TARGET: [(i64, &str); 5] =
    [(0, "KEY"), (1, "VERSION"), (2, "CREATE"), (3, "MOD"), (4, "VALUE")];
static ALARM_REQUEST_ALARM_ACTION: [(i64, &str); 3] =
    [(0, "GET"), (1, "ACTIVATE"), (2, "DEACTIVATE")];
static PERMISSION_TYPE: [(i64, &str); 3] = [(0, "READ"), (1, "WRITE"), (2, "READWRITE")];
static COMPARE_COMPARE_RESULT: [(i64, &str); 4] =
    [(0, "EQUAL"), (1, "GREATER"), (2, "LESS"), (3, "NOT_EQUAL")];
static COMPARE_COMPARE_TARGET: [(i64, &str); 5] =
    [(0, "VERSION"), (1, "CREATE"), (2, "MOD"), (3, "VALUE"), (4, "LEASE")];
