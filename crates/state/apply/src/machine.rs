//! The replicated state machine.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_auth::{Auth, Identity};
use mainstay_backend::{Backend, Batch, Bucket, meta};
use mainstay_lease::Book;
use mainstay_membership::{Change, Membership, ValidateError, gojson};
use mainstay_mvcc::{Counts, Event, Slice, Store, TxnEnd, View};
use mainstay_raft::{ConfChange, ConfState, Entry};
use mainstay_types::{Index, MemberId, Term, Version};
use serde::Serialize;

use crate::alarms::Alarms;
use crate::auth::permission;
use crate::committed::conf_state_of;
use crate::entry::{Command, Request, decode};
use crate::guard::{self, Failure};
use crate::quota::Quota;
use crate::reply::{Applied, ConfEffect, Effects, LeaseChange, MemberChange, Reply};
use crate::{ApplyError, Op, StopError};

/// The first version that names itself in the storage.
const STORAGE_VERSIONS: Version = Version::line(3, 6);

/// What a member brings of its own. All but `quota` must be alike on all
/// members for their states to be, as in etcd.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Shortest time to live of a lease in seconds: `ceil(1.5 * election timeout)`.
    pub lease_ttl_min: i64,
    /// `--max-learners`.
    pub learners_max: usize,
    /// `--quota-backend-bytes`.
    pub quota: Quota,
    /// Whether checkpoints of leases are persisted below cluster version 3.6
    /// (gate `LeaseCheckpointPersist`).
    pub persist_checkpoints: bool,
    /// Whether a directory with authentication on is opened. Only a caller that checks
    /// every client may say yes.
    pub allow_auth: bool,
}

/// All replicated state of a member. One thread owns it and applies entries in
/// order; [`Machine::view`] gives readers an unchanging view.
///
/// After each [`Machine::apply`] the caller appends the batch to
/// [`Machine::backend`] before it does anything else with the machine: what
/// follows reads this entry's rows there.
pub struct Machine {
    pub(crate) options: Options,
    pub(crate) backend: Backend,
    pub(crate) store: Store,
    pub(crate) leases: Book,
    pub(crate) auth: Arc<Auth>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) alarms: Arc<Alarms>,
    applied: (Index, Term),
    /// Row `storageVersion` of bucket `meta`.
    storage_version: Option<Version>,
    /// Members whose rows 3.5 has left behind, until the next batch.
    pub(crate) members_to_mend: BTreeSet<MemberId>,
}

/// What [`Machine::load`] has made from the rows.
pub(crate) struct Parts {
    pub(crate) backend: Backend,
    pub(crate) store: Store,
    pub(crate) leases: Book,
    pub(crate) auth: Auth,
    pub(crate) membership: Membership,
    pub(crate) alarms: Alarms,
    pub(crate) applied: (Index, Term),
    pub(crate) storage_version: Option<Version>,
}

/// What one entry has led to so far.
pub(crate) struct Turn {
    pub(crate) batch: Batch,
    pub(crate) events: Vec<Event>,
    pub(crate) leases: Vec<LeaseChange>,
    pub(crate) effects: Effects,
    pub(crate) op: Option<Op>,
    pub(crate) counts: Counts,
    /// Whether a client of this member waits for the outcome.
    pub(crate) local: bool,
}

impl Turn {
    /// Takes over what a transaction has changed.
    pub(crate) fn take(&mut self, end: TxnEnd) {
        end.rows.into_iter().for_each(|row| self.batch.put_revision(row));
        self.events = end.events;
        self.counts = end.counts;
    }
}

impl Machine {
    pub(crate) fn from_parts(options: Options, parts: Parts) -> Machine {
        Machine {
            options,
            backend: parts.backend,
            store: parts.store,
            leases: parts.leases,
            auth: Arc::new(parts.auth),
            membership: Arc::new(parts.membership),
            alarms: Arc::new(parts.alarms),
            applied: parts.applied,
            storage_version: parts.storage_version,
            members_to_mend: BTreeSet::new(),
        }
    }

    /// Applies the next entry. `is_local` says whether the proposer of a request
    /// with this id waits here; it decides which answers are made, never what
    /// changes. An entry that the store had applied before the start is only
    /// decoded.
    ///
    /// # Errors
    /// When the entry cannot be applied as on every other member; this one must
    /// stop then, and neither publish nor persist anything more.
    ///
    /// # Panics
    /// When entries are skipped, or one is applied twice after the start.
    pub fn apply(
        &mut self,
        entry: &Entry,
        is_local: impl FnOnce(u64) -> bool,
    ) -> Result<Applied, StopError> {
        let decoded = decode(entry)?;
        let request_id = decoded.request_id;
        if decoded.index <= self.applied.0 {
            return Ok(Applied::before_start(request_id));
        }
        assert!(decoded.index == self.applied.0.next(), "entries are applied one by one");
        let applied = (decoded.index, decoded.term);
        let mut turn = Turn {
            batch: Batch::new(applied),
            events: Vec::new(),
            leases: Vec::new(),
            effects: Effects::default(),
            op: None,
            counts: Counts::default(),
            local: request_id != 0 && is_local(request_id),
        };
        self.mend_members(&mut turn);
        if !self.auth.is_stored() {
            Arc::make_mut(&mut self.auth).store_first_revision(&mut turn.batch);
        }
        let result = match decoded.command {
            Command::FirstOfTerm => {
                turn.effects.first_of_term = true;
                self.follow_cluster_version(&mut turn);
                Ok(Reply::Done)
            }
            Command::ConfChange { kind, change, context } => {
                let raft = ConfChange { id: request_id, kind, node: change.member(), context };
                self.change_membership(&mut turn, change, raft).map_err(Failure::from)
            }
            Command::Request(request) => {
                turn.op = Some(Op::of(&request));
                self.guarded(&mut turn, &decoded.who, request)
            }
        };
        let outcome = match result {
            Ok(reply) => Ok(reply),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Stop(why)) => return Err(StopError { index: decoded.index, why }),
        };
        self.applied = applied;
        let Turn { batch, events, leases, effects, op, counts, local: _ } = turn;
        let batch = Some(batch);
        Ok(Applied { request_id, batch, outcome, events, leases, op, counts, effects })
    }

    /// Guards, then who may, then the request, then the quota: the order in which
    /// etcd's appliers stand around each other.
    fn guarded(
        &mut self,
        turn: &mut Turn,
        who: &Identity,
        request: Request,
    ) -> Result<Reply, Failure> {
        let cost = guard::cost(&request);
        let fits = cost == 0 || self.options.quota.allows(self.backend.size(), cost);
        guard::check(&self.alarms, &request)?;
        permission::check(&self.auth, &self.leases, who, &request).map_err(ApplyError::from)?;
        let reply = self.execute(turn, request)?;
        if !fits {
            // No NOSPACE alarm is raised, or the guard had refused the request.
            turn.effects.raise_nospace = true;
            return Err(ApplyError::NoSpace.into());
        }
        Ok(reply)
    }

    fn change_membership(
        &mut self,
        turn: &mut Turn,
        change: Change,
        raft: ConfChange,
    ) -> Result<Reply, ApplyError> {
        if let Err(error) = self.membership.validate(&change, self.options.learners_max) {
            turn.effects.conf_change = Some(Box::new(refused(raft, error)));
            return Err(error.into());
        }
        let id = change.member();
        let membership = Arc::make_mut(&mut self.membership);
        membership.apply(change.clone());
        let outcome = match change {
            Change::Add(member) => MemberChange::Added(member),
            Change::Promote(id) => MemberChange::Promoted(id),
            Change::Remove(id) => MemberChange::Removed(id),
            Change::UpdatePeerUrls(id, urls) => MemberChange::PeerUrls(id, urls),
        };
        self.write_member(&mut turn.batch, id);
        let conf_state = self.conf_state();
        turn.batch.put(Bucket::Meta, meta::CONF_STATE, conf_state_json(&conf_state));
        turn.effects.membership_changed = true;
        turn.effects.conf_change =
            Some(Box::new(ConfEffect { raft, conf_state: Some(conf_state), outcome: Ok(outcome) }));
        Ok(Reply::Members(self.membership.members().cloned().collect()))
    }

    /// The schema's version is the cluster's, from 3.6 on; a 3.5 knows no such row
    /// (etcd 3.6+, `UpdateStorageVersionIfNeeded`). The schemas differ in nothing else.
    pub(crate) fn follow_cluster_version(&mut self, turn: &mut Turn) {
        let version = self.membership.version().map(Version::without_patch);
        let version = version.filter(|version| *version >= STORAGE_VERSIONS);
        if version == self.storage_version {
            return;
        }
        match version {
            Some(version) => {
                turn.batch.put(Bucket::Meta, meta::STORAGE_VERSION, version.to_string());
            }
            None => turn.batch.delete(Bucket::Meta, meta::STORAGE_VERSION),
        }
        self.storage_version = version;
    }

    /// Writes what the membership says about `id` now.
    pub(crate) fn write_member(&self, batch: &mut Batch, id: MemberId) {
        let key = id.to_string();
        match self.membership.member(id) {
            Some(member) => batch.put(Bucket::Members, key, member.to_json()),
            None => {
                batch.delete(Bucket::Members, key.clone());
                batch.put(Bucket::MembersRemoved, key, &b"removed"[..]);
            }
        }
    }

    /// An unchanging view of the key space as of the last applied entry, whose
    /// batch must have been appended.
    pub fn view(&self) -> Arc<View> {
        Arc::new(self.store.view())
    }

    /// The version that the storage names; 3.5 names none.
    pub(crate) fn storage_version(&self) -> Option<Version> {
        self.storage_version
    }

    /// The last applied entry.
    pub fn applied(&self) -> (Index, Term) {
        self.applied
    }

    /// The raft configuration that the membership stands for. What a start takes
    /// instead of what any file says, as 3.7 does.
    pub fn conf_state(&self) -> ConfState {
        conf_state_of(&self.membership)
    }

    /// Members, removed members, cluster version and downgrade job; to be published
    /// whenever [`Effects::membership_changed`].
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// The alarms; to be published whenever [`Effects::alarms_changed`].
    pub fn alarms(&self) -> &Arc<Alarms> {
        &self.alarms
    }

    /// Users, roles, permissions, and whether authentication is on; to be published
    /// whenever [`Effects::auth_changed`].
    pub fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }

    /// The leases and their keys.
    pub fn leases(&self) -> &Book {
        &self.leases
    }

    /// The store below.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The quota in force.
    pub fn quota(&self) -> Quota {
        self.options.quota
    }

    /// What a `.snap` at the last applied entry holds: the membership as etcd 3.5
    /// boots from it.
    pub fn snapshot_v2_json(&self) -> Vec<u8> {
        self.membership.to_v2_json()
    }

    /// Whether rows of a compaction wait to be deleted.
    pub fn is_compacting(&self) -> bool {
        self.store.is_compacting()
    }

    /// Deletes the next rows of a compaction, up to about `limit`. The batch is
    /// the caller's to append at once; `None` when nothing is to be done.
    pub fn compaction_slice(&mut self, limit: usize) -> Option<(Batch, Slice)> {
        let mut batch = Batch::new(self.applied);
        let slice = self.store.compaction_slice(limit, &mut batch)?;
        Some((batch, slice))
    }
}

/// Raft is told of a change of nobody, so that the next one may be proposed.
fn refused(raft: ConfChange, error: ValidateError) -> ConfEffect {
    let raft = ConfChange { node: MemberId::NONE, ..raft };
    ConfEffect { raft, conf_state: None, outcome: Err(error) }
}

/// Go's JSON of a `ConfState` (disk.md 5).
#[derive(Serialize)]
struct ConfStateJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    voters: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    learners: Vec<u64>,
    auto_leave: bool,
}

fn conf_state_json(conf_state: &ConfState) -> Vec<u8> {
    let ids = |ids: &[MemberId]| ids.iter().map(|id| id.0).collect();
    gojson::to_vec(&ConfStateJson {
        voters: ids(&conf_state.voters),
        learners: ids(&conf_state.learners),
        auto_leave: false,
    })
}

#[cfg(test)]
mod tests;
