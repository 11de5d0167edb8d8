//! Leases: none ends before its time, and all end.

use std::collections::BTreeMap;

use mainstay_apply::{ApplyError, Reply};

use crate::ops::{Op, What};
use crate::plan::{MS, SECOND, Time};

#[derive(Debug)]
struct Promise {
    ttl: Time,
    until: Time,
    /// A client wants it gone.
    revoked: bool,
}

/// What clients were promised.
#[derive(Default)]
pub(crate) struct LeaseJudge {
    promises: BTreeMap<i64, Promise>,
}

impl LeaseJudge {
    /// A client asks for a revocation; from now on the lease may end at any time.
    pub(crate) fn revoking(&mut self, lease: i64) {
        let gone = Promise { ttl: 0, until: 0, revoked: true };
        self.promises.entry(lease).or_insert(gone).revoked = true;
    }

    pub(crate) fn answered(&mut self, op: &Op, outcome: &Result<Reply, ApplyError>) {
        let What::Propose(request) = &op.what else { return };
        if let (Some(grant), Ok(Reply::LeaseGrant(response))) = (&request.lease_grant, outcome) {
            let ttl = response.ttl as Time * SECOND;
            let until = op.invoked + ttl;
            self.promises.entry(grant.id).or_insert(Promise { ttl, until, revoked: false });
        }
    }

    /// It lives for its whole time from when the client asked.
    pub(crate) fn renewed(&mut self, lease: i64, ttl: i64, invoked: Time) {
        if let Some(promise) = self.promises.get_mut(&lease) {
            assert_eq!(promise.ttl, ttl as Time * SECOND, "lease {lease} changes its time to live");
            promise.until = promise.until.max(invoked + promise.ttl);
        }
    }

    /// It is gone. Clocks may differ by a twentieth.
    pub(crate) fn revoked(&mut self, lease: i64, now: Time) {
        let Some(promise) = self.promises.get(&lease) else { return };
        let early = promise.until.saturating_sub(now);
        let allowed = promise.ttl / 15 + 100 * MS;
        assert!(
            promise.revoked || early <= allowed,
            "lease {lease} ends {early} us before its time ({} us)",
            promise.ttl
        );
    }
}
