//! What the server asks of the member about the cluster around it.
//!
//! Rules stand in `mainstay_membership` and in the services; this is only what they
//! need to know and do.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mainstay_driver::{CallAnswer, PeerCall};
use mainstay_membership::{Change, Downgrade, Membership};
use mainstay_types::{Index, MemberId, Version};

use crate::gate::Permitted;
use crate::status::Status;

/// What only the leader can say or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Led<T> {
    /// This member leads: its answer.
    Here(T),
    /// It does not lead: who does must be asked.
    Elsewhere,
}

/// The cluster, as a member of it sees it.
pub trait Cluster {
    /// Members, cluster version and downgrade job, as of the last applied entry.
    fn membership(&self) -> Arc<Membership>;

    /// For how long the connection to another member has worked; `None` while it does
    /// not.
    fn connected_for(&self, member: MemberId) -> Option<Duration>;

    /// The last entry that each member is known to hold, this one included; nobody's
    /// while this member does not lead.
    fn progress(&self) -> impl Future<Output = Result<Vec<(MemberId, Index)>, Status>>;

    /// Whether `--strict-reconfig-check` is on.
    fn strict_reconfig(&self) -> bool;

    /// Proposes a change and waits until it is applied here; the members after it.
    fn change_membership(
        &self,
        change: Permitted<Change>,
    ) -> impl Future<Output = Result<Vec<mainstay_membership::Member>, Status>>;

    /// Hands leadership over and waits until this member knows the new leader.
    fn move_leader(&self, to: Permitted<MemberId>) -> impl Future<Output = Result<(), Status>>;

    /// Proposes the beginning or the end of a downgrade.
    fn set_downgrade(
        &self,
        downgrade: Permitted<Downgrade>,
    ) -> impl Future<Output = Result<(), Status>>;

    /// Proposes a version for the cluster.
    fn set_cluster_version(
        &self,
        version: Permitted<Version>,
    ) -> impl Future<Output = Result<(), Status>>;

    /// Asks another member something outside raft.
    fn call(&self, to: MemberId, call: PeerCall) -> CallAnswer;
}
