//! Which version a cluster may run as next, when it is asked to: by a downgrade
//! (semantics 12.3), or by our own `upgrade finalize`.
//!
//! Versions of members are those that they answer at `/version`; cluster versions
//! have no patch.

use mainstay_types::{MemberId, Version};

use crate::Membership;

/// Why a downgrade may not begin or end. Texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DowngradeError {
    /// The target is no version.
    #[error("etcdserver: wrong downgrade target version format")]
    WrongFormat,
    /// The first leader has not set the cluster version yet.
    #[error("etcdserver: cluster version not found during downgrade")]
    NoClusterVersion,
    /// Only the next lower minor can be reached.
    #[error("etcdserver: invalid downgrade target version")]
    InvalidTarget,
    /// One is under way already.
    #[error("etcdserver: cluster has a downgrade job in progress")]
    InProgress,
    /// None is under way.
    #[error("etcdserver: no inflight downgrade job")]
    NotInProgress,
}

/// Reads the target of a downgrade: `X.Y`, or `X.Y.Z` whose patch does not count.
///
/// # Errors
/// [`DowngradeError::WrongFormat`].
pub fn downgrade_target(text: &str) -> Result<Version, DowngradeError> {
    // As etcd's semver reads it: a suffix is read off the whole form only.
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let parts: Option<Vec<u64>> = text[..end].split('.').map(number).collect();
    match parts.as_deref() {
        Some([major, minor]) if end == text.len() => Ok(Version::line(*major, *minor)),
        Some([major, minor, _]) => Ok(Version::line(*major, *minor)),
        _ => Err(DowngradeError::WrongFormat),
    }
}

/// A number without a sign.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { text.parse().ok()? } else { return None };
    // etcd reads it into a signed number.
    i64::try_from(number).is_ok().then_some(number)
}

/// Whether a downgrade to `target` may begin.
///
/// # Errors
/// Why not; the target is judged before a job that is under way, as in etcd.
pub fn may_downgrade(cluster: &Membership, target: Version) -> Result<(), DowngradeError> {
    let version = cluster.version().ok_or(DowngradeError::NoClusterVersion)?;
    if below(version) != Some(target.without_patch()) {
        return Err(DowngradeError::InvalidTarget);
    }
    if cluster.downgrade().enabled { Err(DowngradeError::InProgress) } else { Ok(()) }
}

/// Whether there is a downgrade to cancel.
///
/// # Errors
/// [`DowngradeError::NotInProgress`].
pub fn may_cancel_downgrade(cluster: &Membership) -> Result<(), DowngradeError> {
    if cluster.downgrade().enabled { Ok(()) } else { Err(DowngradeError::NotInProgress) }
}

/// The lowest of the members' versions; `None` while one is not known.
fn lowest(versions: impl IntoIterator<Item = Option<Version>>) -> Option<Version> {
    let versions: Option<Vec<Version>> = versions.into_iter().collect();
    versions?.into_iter().min()
}

/// One minor lower.
fn below(version: Version) -> Option<Version> {
    version.minor.checked_sub(1).map(|minor| Version::line(version.major, minor))
}

/// A member and what it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberVersion {
    /// The member.
    pub id: MemberId,
    /// Its name; empty while it has not started.
    pub name: String,
    /// What it runs; `None` when it does not answer.
    pub server: Option<Version>,
}

/// What keeps the cluster's version from rising.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// A downgrade is under way.
    #[error("a downgrade to {0} is under way")]
    Downgrade(String),
    /// What a member runs is not known.
    #[error("member {} does not answer", shown(.0, .1))]
    Silent(MemberId, String),
    /// A member runs an older version than others.
    #[error("member {} runs {}", shown(.0, .1), .2)]
    Older(MemberId, String, Version),
    /// Nothing but that nobody has said so yet.
    #[error("it is held until `etcdctl upgrade finalize`")]
    NotFinalized,
}

fn shown(id: &MemberId, name: &str) -> String {
    if name.is_empty() { id.to_string() } else { format!("{name} ({id})") }
}

/// Everything that keeps the cluster below the newest version that one of its members
/// runs; nothing when it is there.
pub fn holds(cluster: &Membership, members: &[MemberVersion]) -> Vec<Hold> {
    let mut holds = Vec::new();
    if cluster.downgrade().enabled {
        holds.push(Hold::Downgrade(cluster.downgrade().target.clone()));
    }
    let silent = members.iter().filter(|member| member.server.is_none());
    holds.extend(silent.map(|member| Hold::Silent(member.id, member.name.clone())));
    let newest = members.iter().filter_map(|member| member.server).max();
    for member in members {
        let Some((version, newest)) = member.server.zip(newest) else { continue };
        if version.without_patch() < newest.without_patch() {
            holds.push(Hold::Older(member.id, member.name.clone(), version));
        }
    }
    let reachable = lowest(members.iter().map(|member| member.server));
    let lags = |lowest: Version| cluster.version().is_none_or(|v| v < lowest.without_patch());
    if holds.iter().all(|hold| matches!(hold, Hold::Older(..))) && reachable.is_some_and(lags) {
        holds.push(Hold::NotFinalized);
    }
    holds
}

/// The version that `upgrade finalize` gives the cluster: the lowest of its members',
/// without the patch. It may be the one that the cluster has.
///
/// # Errors
/// The first thing that forbids it: a downgrade, or a member that does not answer.
pub fn finalized(cluster: &Membership, members: &[MemberVersion]) -> Result<Version, Hold> {
    if cluster.downgrade().enabled {
        return Err(Hold::Downgrade(cluster.downgrade().target.clone()));
    }
    let silent = members.iter().find(|member| member.server.is_none());
    if let Some(member) = silent {
        return Err(Hold::Silent(member.id, member.name.clone()));
    }
    let lowest = lowest(members.iter().map(|member| member.server));
    let lowest = lowest.ok_or(Hold::NotFinalized)?.without_patch();
    // Nobody runs less than the cluster's version; should one claim to, nothing is lowered.
    Ok(cluster.version().map_or(lowest, |version| version.max(lowest)))
}

#[cfg(test)]
mod tests;
