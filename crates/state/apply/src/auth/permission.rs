//! Who may do what an entry asks for: etcd 3.7.1's answer when it applies the entry.
//!
//! What is decided on the proposing member alone (compactions, alarms, members and all
//! else that only root may do) is not asked here again: etcd does not, and an entry
//! must do the same on every member.

use bytes::Bytes;
use mainstay_auth::{Auth, AuthError, Identity};
use mainstay_lease::Book;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::LeaseId;
use pb::request_op::Request as Op;

use crate::auth::AuthRequest;
use crate::entry::Request;

/// No end: a range of one key.
const POINT: Bytes = Bytes::new();

/// Checks a request against the users and roles before it is executed. While
/// authentication is off, everything is allowed.
pub(crate) fn check(
    auth: &Auth,
    leases: &Book,
    who: &Identity,
    request: &Request,
) -> Result<(), AuthError> {
    if !auth.is_enabled() {
        return Ok(());
    }
    let asked = Asked { auth, leases: Some(leases), who };
    match request {
        Request::Range(range) => auth.check_read(who, &range.key, &range.range_end),
        Request::Put(put) => asked.put(put),
        Request::DeleteRange(delete) => asked.delete(delete),
        Request::Txn(txn) => asked.txn(txn),
        Request::LeaseRevoke(revoke) => asked.lease(LeaseId(revoke.id)),
        Request::Auth(request) => asked.about_auth(request),
        Request::Compaction(_)
        | Request::LeaseGrant(_)
        | Request::LeaseCheckpoint(_)
        | Request::Alarm(_)
        | Request::ClusterVersionSet(_)
        | Request::MemberAttributesSet(..)
        | Request::DowngradeInfoSet(_)
        | Request::DowngradeVersionTest => Ok(()),
    }
}

/// Whether somebody may make a put, as far as the keys that it names go: a look before it
/// is proposed. What hangs on its lease is looked at when it is applied.
///
/// # Errors
/// Why not.
pub fn put(auth: &Auth, who: &Identity, put: &pb::PutRequest) -> Result<(), AuthError> {
    before(auth, who, |asked| asked.put(put))
}

/// As [`put`], for a deletion.
///
/// # Errors
/// Why not.
pub fn delete_range(
    auth: &Auth,
    who: &Identity,
    delete: &pb::DeleteRangeRequest,
) -> Result<(), AuthError> {
    before(auth, who, |asked| asked.delete(delete))
}

/// As [`put`], for everything in a transaction.
///
/// # Errors
/// Why not.
pub fn txn(auth: &Auth, who: &Identity, txn: &pb::TxnRequest) -> Result<(), AuthError> {
    before(auth, who, |asked| asked.txn(txn))
}

/// As [`put`], for a request about users and roles.
///
/// # Errors
/// Why not.
pub fn about_auth(auth: &Auth, who: &Identity, request: &AuthRequest) -> Result<(), AuthError> {
    before(auth, who, |asked| asked.about_auth(request))
}

fn before(
    auth: &Auth,
    who: &Identity,
    check: impl FnOnce(&Asked<'_>) -> Result<(), AuthError>,
) -> Result<(), AuthError> {
    if auth.is_enabled() { check(&Asked { auth, leases: None, who }) } else { Ok(()) }
}

/// A request in somebody's name.
struct Asked<'a> {
    auth: &'a Auth,
    /// `None` where they are not at hand: before a proposal.
    leases: Option<&'a Book>,
    who: &'a Identity,
}

impl Asked<'_> {
    /// A put writes its key, may hang it on a lease, and reads it for the previous pair.
    fn put(&self, put: &pb::PutRequest) -> Result<(), AuthError> {
        self.auth.check_write(self.who, &put.key, &POINT)?;
        self.lease(LeaseId(put.lease))?;
        if put.prev_kv {
            self.auth.check_read(self.who, &put.key, &POINT)?;
        }
        Ok(())
    }

    fn delete(&self, delete: &pb::DeleteRangeRequest) -> Result<(), AuthError> {
        self.auth.check_write(self.who, &delete.key, &delete.range_end)?;
        if delete.prev_kv {
            self.auth.check_read(self.who, &delete.key, &delete.range_end)?;
        }
        Ok(())
    }

    /// Everything in a transaction, whichever branch it will take, nested ones included.
    fn txn(&self, txn: &pb::TxnRequest) -> Result<(), AuthError> {
        for compare in &txn.compare {
            self.auth.check_read(self.who, &compare.key, &compare.range_end)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match &op.request {
                Some(Op::RequestRange(range)) => {
                    self.auth.check_read(self.who, &range.key, &range.range_end)?;
                }
                Some(Op::RequestPut(put)) => self.put(put)?,
                Some(Op::RequestDeleteRange(delete)) => self.delete(delete)?,
                Some(Op::RequestTxn(nested)) => self.txn(nested)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Who hangs a key on a lease, or revokes it, must be allowed to write all keys that
    /// hang on it. Root may at any auth revision. A lease that is not there is refused
    /// later, under its own name.
    fn lease(&self, id: LeaseId) -> Result<(), AuthError> {
        let Some(leases) = self.leases.filter(|leases| leases.contains(id)) else { return Ok(()) };
        if self.auth.check_admin(self.who).is_ok() {
            return Ok(());
        }
        leases.keys(id).try_for_each(|key| self.auth.check_write(self.who, key, &POINT))
    }

    fn about_auth(&self, request: &AuthRequest) -> Result<(), AuthError> {
        use AuthRequest as A;
        let admin = || self.auth.check_admin(self.who);
        match request {
            A::Status | A::Authenticate(_) => Ok(()),
            // Everybody may look at themselves, and at the roles that they have.
            A::UserGet(request) if request.name == self.who.user => Ok(()),
            A::RoleGet(request) if self.auth.has_role(&self.who.user, &request.role) => Ok(()),
            A::UserGet(_)
            | A::RoleGet(_)
            | A::Enable
            | A::Disable
            | A::UserAdd(_)
            | A::UserDelete(_)
            | A::UserChangePassword(_)
            | A::UserGrantRole(_)
            | A::UserRevokeRole(_)
            | A::UserList
            | A::RoleList
            | A::RoleAdd(_)
            | A::RoleDelete(_)
            | A::RoleGrantPermission(_)
            | A::RoleRevokePermission(_) => admin(),
        }
    }
}
