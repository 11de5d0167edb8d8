//! The one table of etcd's named errors: code and exact text.
//!
//! Clients recognise an error by its text, so a text here never changes
//! (reference: `rpctypes/error.go` of 3.7.1). Where the wire differs from the
//! client's own table (two errors travel as `Unknown`), the wire's code stands
//! here.

use crate::status::{Code, Status};

/// A named error of etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name in `rpctypes`, without `ErrGRPC`.
    pub name: &'static str,
    /// The code on the wire.
    pub code: Code,
    /// The exact text.
    pub text: &'static str,
}

impl Known {
    /// This error as the end of a call.
    pub fn status(self) -> Status {
        Status::new(self.code, self.text)
    }
}

impl From<Known> for Status {
    fn from(known: Known) -> Status {
        known.status()
    }
}

macro_rules! known {
    ($($constant:ident $name:ident $code:ident $text:literal;)*) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $constant: Known =
                Known { name: stringify!($name), code: Code::$code, text: $text };
        )*
        /// The whole table.
        pub const ALL: &[Known] = &[$($constant),*];
    };
}

known! {
    EMPTY_KEY EmptyKey InvalidArgument "etcdserver: key is not provided";
    KEY_NOT_FOUND KeyNotFound InvalidArgument "etcdserver: key not found";
    VALUE_PROVIDED ValueProvided InvalidArgument "etcdserver: value is provided";
    LEASE_PROVIDED LeaseProvided InvalidArgument "etcdserver: lease is provided";
    TOO_MANY_OPS TooManyOps InvalidArgument "etcdserver: too many operations in txn request";
    DUPLICATE_KEY DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request";
    INVALID_CLIENT_API_VERSION InvalidClientAPIVersion InvalidArgument "etcdserver: invalid client api version";
    INVALID_SORT_OPTION InvalidSortOption InvalidArgument "etcdserver: invalid sort option";
    COMPACTED Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FUTURE_REV FutureRev OutOfRange "etcdserver: mvcc: required revision is a future revision";
    NO_SPACE NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded";
    LEASE_NOT_FOUND LeaseNotFound NotFound "etcdserver: requested lease not found";
    LEASE_EXIST LeaseExist FailedPrecondition "etcdserver: lease already exists";
    LEASE_TTL_TOO_LARGE LeaseTTLTooLarge OutOfRange "etcdserver: too large lease TTL";
    WATCH_CANCELED WatchCanceled Canceled "etcdserver: watch canceled";
    MEMBER_EXIST MemberExist FailedPrecondition "etcdserver: member ID already exist";
    PEER_URL_EXIST PeerURLExist FailedPrecondition "etcdserver: Peer URLs already exists";
    // The client's table says FailedPrecondition; on the wire it is Unknown.
    MEMBER_NOT_ENOUGH_STARTED MemberNotEnoughStarted Unknown "etcdserver: re-configuration failed due to not enough started members";
    MEMBER_BAD_URLS MemberBadURLs InvalidArgument "etcdserver: given member URLs are invalid";
    MEMBER_NOT_FOUND MemberNotFound NotFound "etcdserver: member not found";
    MEMBER_NOT_LEARNER MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member";
    LEARNER_NOT_READY LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    TOO_MANY_LEARNERS TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster";
    CLUSTER_ID_MISMATCH ClusterIDMismatch FailedPrecondition "etcdserver: cluster ID mismatch";
    REQUEST_TOO_LARGE RequestTooLarge InvalidArgument "etcdserver: request is too large";
    // The client's table says ResourceExhausted; on the wire it is Unknown.
    TOO_MANY_REQUESTS RequestTooManyRequests Unknown "etcdserver: too many requests";
    ROOT_USER_NOT_EXIST RootUserNotExist FailedPrecondition "etcdserver: root user does not exist";
    ROOT_ROLE_NOT_EXIST RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role";
    USER_ALREADY_EXIST UserAlreadyExist FailedPrecondition "etcdserver: user name already exists";
    USER_EMPTY UserEmpty InvalidArgument "etcdserver: user name is empty";
    USER_NOT_FOUND UserNotFound FailedPrecondition "etcdserver: user name not found";
    ROLE_ALREADY_EXIST RoleAlreadyExist FailedPrecondition "etcdserver: role name already exists";
    ROLE_NOT_FOUND RoleNotFound FailedPrecondition "etcdserver: role name not found";
    ROLE_EMPTY RoleEmpty InvalidArgument "etcdserver: role name is empty";
    AUTH_FAILED AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password";
    PERMISSION_NOT_GIVEN PermissionNotGiven InvalidArgument "etcdserver: permission not given";
    PERMISSION_DENIED PermissionDenied PermissionDenied "etcdserver: permission denied";
    ROLE_NOT_GRANTED RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user";
    PERMISSION_NOT_GRANTED PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role";
    AUTH_NOT_ENABLED AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled";
    INVALID_AUTH_TOKEN InvalidAuthToken Unauthenticated "etcdserver: invalid auth token";
    INVALID_AUTH_MGMT InvalidAuthMgmt InvalidArgument "etcdserver: invalid auth management";
    AUTH_OLD_REVISION AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old";
    NO_LEADER NoLeader Unavailable "etcdserver: no leader";
    NOT_LEADER NotLeader FailedPrecondition "etcdserver: not leader";
    LEADER_CHANGED LeaderChanged Unavailable "etcdserver: leader changed";
    NOT_CAPABLE NotCapable FailedPrecondition "etcdserver: not capable";
    STOPPED Stopped Unavailable "etcdserver: server stopped";
    TIMEOUT Timeout Unavailable "etcdserver: request timed out";
    TIMEOUT_LEADER_FAIL TimeoutDueToLeaderFail Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    TIMEOUT_CONNECTION_LOST TimeoutDueToConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost";
    TIMEOUT_WAIT_APPLIED TimeoutWaitAppliedIndex Unavailable "etcdserver: request timed out, waiting for the applied index took too long";
    UNHEALTHY Unhealthy Unavailable "etcdserver: unhealthy cluster";
    CORRUPT Corrupt DataLoss "etcdserver: corrupt cluster";
    NOT_SUPPORTED_FOR_LEARNER NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner";
    BAD_LEADER_TRANSFEREE BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee";
    WRONG_DOWNGRADE_VERSION_FORMAT WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format";
    INVALID_DOWNGRADE_TARGET_VERSION InvalidDowngradeTargetVersion InvalidArgument "etcdserver: invalid downgrade target version";
    CLUSTER_VERSION_UNAVAILABLE ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade";
    DOWNGRADE_IN_PROCESS DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    NO_INFLIGHT_DOWNGRADE NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job";
    CANCELED Canceled Canceled "etcdserver: request canceled";
    DEADLINE_EXCEEDED DeadlineExceeded DeadlineExceeded "etcdserver: context deadline exceeded";
}

/// The named error with this text.
pub fn by_text(text: &str) -> Option<Known> {
    ALL.iter().copied().find(|known| known.text == text)
}

/// What the membership says inside a member, and what clients are told (etcd,
/// `toGRPCErrorMap`).
const INSIDE: &[(&str, Known)] = &[
    ("membership: ID removed", MEMBER_NOT_FOUND),
    ("membership: ID not found", MEMBER_NOT_FOUND),
    ("membership: ID exists", MEMBER_EXIST),
    ("membership: peerURL exists", PEER_URL_EXIST),
    ("membership: can only promote a learner member", MEMBER_NOT_LEARNER),
    ("membership: too many learner members in cluster", TOO_MANY_LEARNERS),
];

/// An error that has only its text: the named one where the text is etcd's, else
/// `Unknown` with the raw text, as etcd sends errors without a mapping.
pub fn from_text(text: String) -> Status {
    let inside = || INSIDE.iter().find(|(inside, _)| *inside == text).map(|(_, known)| *known);
    by_text(&text).or_else(inside).map_or_else(|| Status::new(Code::Unknown, text), Known::status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_names_are_unique() {
        for (n, one) in ALL.iter().enumerate() {
            for other in &ALL[n + 1..] {
                assert_ne!(one.text, other.text);
                assert_ne!(one.name, other.name);
            }
        }
        assert_eq!(ALL.len(), 63);
    }

    #[test]
    fn errors_that_travel_as_unknown() {
        assert_eq!(TOO_MANY_REQUESTS.code, Code::Unknown);
        assert_eq!(MEMBER_NOT_ENOUGH_STARTED.code, Code::Unknown);
        assert_eq!(from_text("etcdserver: no leader".into()), NO_LEADER.status());
        let removed = "membership: ID removed".to_owned();
        assert_eq!(from_text(removed), MEMBER_NOT_FOUND.status());
        assert_eq!(from_text("strange".into()), Status::new(Code::Unknown, "strange"));
    }
}
