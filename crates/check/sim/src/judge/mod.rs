//! The judges. Each knows what must hold, learns what happens, and panics with the
//! story when the two part.

pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod linear;
pub(crate) mod raft;
pub(crate) mod watch;

use std::collections::BTreeSet;

use mainstay_raft::Entry;
use mainstay_types::MemberId;

use crate::ops::{Op, OpId, Reply, What};
use crate::plan::Time;

/// All of them.
#[derive(Default)]
pub(crate) struct Judge {
    pub(crate) raft: raft::RaftJudge,
    pub(crate) kv: kv::Model,
    pub(crate) leases: lease::LeaseJudge,
    /// The newest revision that a client was answered with.
    pub(crate) acked: i64,
    refused: BTreeSet<OpId>,
    proposed: BTreeSet<OpId>,
}

impl Judge {
    /// A member says that this proposal will never be applied.
    pub(crate) fn refused(&mut self, op: OpId) {
        assert!(!self.proposed.contains(&op), "request {op} is refused and was applied");
        self.refused.insert(op);
    }

    /// A member applies an entry.
    pub(crate) fn applying(&mut self, by: MemberId, entry: &Entry, now: Time) {
        if !self.raft.applying(by, entry) {
            return;
        }
        let Some(done) = self.kv.apply(entry) else { return };
        if done.id != 0 {
            assert!(self.proposed.insert(done.id), "request {} is applied twice", done.id);
            assert!(!self.refused.contains(&done.id), "request {} was refused", done.id);
        }
        if let Some(lease) = done.revoked {
            self.leases.revoked(lease, now);
        }
    }

    /// A client has an answer. Answers whether it says how it went.
    pub(crate) fn answered(&mut self, id: OpId, op: &Op, from: MemberId, reply: &Reply) {
        let revision = match (reply, &op.what) {
            (Reply::Applied(outcome), What::Propose(_)) => {
                let revision = self.kv.check_outcome(id, op, outcome);
                self.leases.answered(op, outcome);
                revision
            }
            (Reply::Range(found), What::Range { request, serializable }) => {
                self.kv.check_range(from, op, request, *serializable, found)
            }
            (Reply::Alive(ttl), What::KeepAlive(lease)) => {
                self.leases.renewed(*lease, *ttl, op.invoked);
                None
            }
            _ => None,
        };
        if let Some(revision) = revision {
            self.acked = self.acked.max(revision);
        }
    }
}
