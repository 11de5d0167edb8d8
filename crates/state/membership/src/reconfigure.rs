//! Whether a change of the membership may be proposed (`--strict-reconfig-check`,
//! semantics 8.2 to 8.5).
//!
//! The member that got the request decides this from what it sees of the others,
//! before the log hears of it. What replicated state alone decides is decided at
//! apply, on every member alike: [`Membership::validate`].

use std::time::Duration;

use mainstay_types::{Index, MemberId};

use crate::{Member, Membership};

/// Only who has been connected for longer than this counts as connected (etcd,
/// `HealthInterval`).
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

/// The share of the leader's log that a learner must have to be promoted (etcd,
/// `readyPercentThreshold`).
const READY_SHARE: f64 = 0.9;

/// Why a change may not be proposed now. Texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too few voters have ever started for a quorum after the change.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few voters are connected now.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
    /// The leader replicates to no such member.
    #[error("membership: ID not found")]
    IdNotFound,
    /// The learner's log is too far behind the leader's.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
}

/// What a member sees of the others.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The member that looks.
    pub me: MemberId,
    /// For how long the connection to another member has worked; `None` while it
    /// does not, and for a member that is not known.
    pub connected_for: &'a dyn Fn(MemberId) -> Option<Duration>,
}

impl Sight<'_> {
    /// How many of the voters have been connected long enough; who looks counts.
    fn connected(&self, cluster: &Membership) -> usize {
        let long = |id| (self.connected_for)(id).is_some_and(|time| time > HEALTH_INTERVAL);
        voters(cluster).filter(|voter| voter.id == self.me || long(voter.id)).count()
    }
}

/// How far logs have come, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last entry that the member in question is known to hold; `None` when the
    /// leader replicates to no such member.
    pub member: Option<Index>,
    /// The leader's own.
    pub leader: Index,
}

/// Whether `member` may be added, as a voter or as a learner.
///
/// # Errors
/// [`Refusal::NotEnoughStarted`] or [`Refusal::Unhealthy`].
pub fn may_add(cluster: &Membership, member: &Member, sight: Sight<'_>) -> Result<(), Refusal> {
    if !member.is_learner && !enough_started_to_add(cluster) {
        return Err(Refusal::NotEnoughStarted);
    }
    let voters = voters(cluster).count();
    // A lone voter may always grow. The newcomer counts as one that is away.
    if voters != 1 && sight.connected(cluster) < quorum(voters + 1) {
        return Err(Refusal::Unhealthy);
    }
    Ok(())
}

/// Whether the member `id` may be removed.
///
/// # Errors
/// [`Refusal::NotEnoughStarted`] or [`Refusal::Unhealthy`].
pub fn may_remove(cluster: &Membership, id: MemberId, sight: Sight<'_>) -> Result<(), Refusal> {
    if cluster.member(id).is_some_and(|member| member.is_learner) {
        return Ok(());
    }
    let rest = || voters(cluster).filter(|voter| voter.id != id);
    if started(rest()) < quorum(rest().count()) {
        return Err(Refusal::NotEnoughStarted);
    }
    // One that is away is no part of the active quorum.
    if id != sight.me && (sight.connected_for)(id).is_none() {
        return Ok(());
    }
    let voters = voters(cluster).count();
    let left = sight.connected(cluster).saturating_sub(1);
    if left < 1 + voters.saturating_sub(1) / 2 { Err(Refusal::Unhealthy) } else { Ok(()) }
}

/// Whether a member's log is close enough to the leader's to give it a vote. Asked
/// whether or not the strict check is on.
///
/// # Errors
/// [`Refusal::IdNotFound`] or [`Refusal::LearnerNotReady`].
pub fn is_in_sync(progress: Progress) -> Result<(), Refusal> {
    let member = progress.member.ok_or(Refusal::IdNotFound)?;
    // As floats, like etcd: the same two numbers must give the same answer.
    let share = member.0 as f64 / progress.leader.0 as f64;
    if share < READY_SHARE { Err(Refusal::LearnerNotReady) } else { Ok(()) }
}

/// Whether the quorum survives a learner's promotion. The learner counts as started.
///
/// # Errors
/// [`Refusal::NotEnoughStarted`].
pub fn may_promote(cluster: &Membership) -> Result<(), Refusal> {
    let (started, voters) = (started(voters(cluster)) + 1, voters(cluster).count() + 1);
    if started < quorum(voters) { Err(Refusal::NotEnoughStarted) } else { Ok(()) }
}

fn enough_started_to_add(cluster: &Membership) -> bool {
    let (started, after) = (started(voters(cluster)), voters(cluster).count() + 1);
    // A lone voter that has started may always grow: that is how a restored one does.
    (started == 1 && after == 2) || started >= quorum(after)
}

fn voters(cluster: &Membership) -> impl Iterator<Item = &Member> {
    cluster.members().filter(|member| !member.is_learner)
}

fn started<'a>(members: impl Iterator<Item = &'a Member>) -> usize {
    members.filter(|member| member.is_started()).count()
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests;
