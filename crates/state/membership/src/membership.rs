//! The membership as replicated state.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_types::{MemberId, Version};

use crate::{Change, Downgrade, Member, parse_member_id};

/// Name and client URLs, which a member publishes about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// Why a configuration change is refused when it is applied: the entry stays
/// in the log but changes nothing. Texts are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    /// The identity was removed once and may never return.
    #[error("membership: ID removed")]
    IdRemoved,
    /// The identity is a member's already.
    #[error("membership: ID exists")]
    IdExists,
    /// There is no such member.
    #[error("membership: ID not found")]
    IdNotFound,
    /// A peer URL belongs to another member, learners included.
    #[error("membership: peerURL exists")]
    PeerUrlExists,
    /// The member to promote votes already.
    #[error("membership: can only promote a learner member")]
    NotLearner,
    /// There are as many learners as `--max-learners` allows.
    #[error("membership: too many learner members in cluster")]
    TooManyLearners,
}

/// A row of the membership buckets that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// The key is not an identity in hex.
    #[error("row {key:?} of bucket {bucket}: the key is not a member id in hex")]
    Key {
        /// The bucket.
        bucket: &'static str,
        /// The key as text.
        key: String,
    },
    /// The value is not the JSON it must be.
    #[error("row {key:?} of bucket {bucket}: the value is not the expected JSON")]
    Json {
        /// The bucket.
        bucket: &'static str,
        /// The key as text.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The value is not a version.
    #[error("row \"clusterVersion\" of bucket cluster holds {0:?}, which is not a version")]
    Version(String),
}

/// Attributes for an identity that never was a member. etcd panics on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attributes published for member {0}, which is unknown and was never removed")]
pub struct UpdateAttributesError(pub MemberId);

/// Who is in the cluster, who was, and which version it runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) removed: BTreeSet<MemberId>,
    pub(crate) version: Option<Version>,
    downgrade: Downgrade,
}

impl Membership {
    /// The membership at a cluster's birth, or of a backup being restored.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Membership {
        let members = members.into_iter().map(|member| (member.id, member)).collect();
        Membership { members, ..Membership::default() }
    }

    /// Takes one row of bucket `members` into account. As in etcd an `id` in
    /// the value wins over the key's only in the stored member.
    pub fn load_member(&mut self, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let id = row_id("members", key)?;
        let member = Member::from_json(value).map_err(|source| RowError::Json {
            bucket: "members",
            key: id.to_string(),
            source,
        })?;
        self.members.insert(id, member);
        Ok(())
    }

    /// Takes one row of bucket `members_removed` into account.
    pub fn load_removed(&mut self, key: &[u8]) -> Result<(), RowError> {
        self.removed.insert(row_id("members_removed", key)?);
        Ok(())
    }

    /// Takes row `clusterVersion` of bucket `cluster` into account.
    pub fn load_version(&mut self, value: &[u8]) -> Result<(), RowError> {
        let text = String::from_utf8_lossy(value);
        let version = text.parse().map_err(|_| RowError::Version(text.into_owned()))?;
        self.version = Some(version);
        Ok(())
    }

    /// Takes row `downgrade` of bucket `cluster` into account.
    pub fn load_downgrade(&mut self, value: &[u8]) -> Result<(), RowError> {
        self.downgrade = serde_json::from_slice(value).map_err(|source| RowError::Json {
            bucket: "cluster",
            key: "downgrade".to_owned(),
            source,
        })?;
        Ok(())
    }

    /// Whether `change` may be applied now (semantics 8.6). `learners_max` is
    /// local configuration, as in etcd.
    pub fn validate(&self, change: &Change, learners_max: usize) -> Result<(), ValidateError> {
        let id = change.member();
        if self.removed.contains(&id) {
            return Err(ValidateError::IdRemoved);
        }
        match (change, self.members.get(&id)) {
            (Change::Add(_), Some(_)) => Err(ValidateError::IdExists),
            (Change::Add(member), None) => {
                self.check_urls_free(id, &member.peer_urls)?;
                let learners = self.members.values().filter(|other| other.is_learner).count();
                if member.is_learner && learners + 1 > learners_max {
                    return Err(ValidateError::TooManyLearners);
                }
                Ok(())
            }
            (_, None) => Err(ValidateError::IdNotFound),
            (Change::Promote(_), Some(member)) if !member.is_learner => {
                Err(ValidateError::NotLearner)
            }
            (Change::UpdatePeerUrls(_, urls), Some(_)) => self.check_urls_free(id, urls),
            (Change::Promote(_) | Change::Remove(_), Some(_)) => Ok(()),
        }
    }

    /// Applies a change that [`Membership::validate`] accepted. The row to
    /// write is then [`Membership::member`], or the removal of both.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Add(member) => {
                self.members.insert(member.id, member);
            }
            Change::Promote(id) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.is_learner = false;
                }
            }
            Change::Remove(id) => {
                self.members.remove(&id);
                self.removed.insert(id);
            }
            Change::UpdatePeerUrls(id, peer_urls) => {
                if let Some(member) = self.members.get_mut(&id) {
                    member.peer_urls = peer_urls;
                }
            }
        }
    }

    /// Applies what a member published about itself and returns the changed
    /// member, or `None` when it has been removed in the meantime.
    pub fn update_attributes(
        &mut self,
        id: MemberId,
        attributes: Attributes,
    ) -> Result<Option<&Member>, UpdateAttributesError> {
        if self.removed.contains(&id) && !self.members.contains_key(&id) {
            return Ok(None);
        }
        let member = self.members.get_mut(&id).ok_or(UpdateAttributesError(id))?;
        member.name = attributes.name;
        member.client_urls = attributes.client_urls;
        Ok(Some(member))
    }

    /// Sets the cluster version. The caller has refused one above its own.
    pub fn set_version(&mut self, version: Version) {
        self.version = Some(version);
    }

    /// Sets the downgrade job.
    pub fn set_downgrade(&mut self, downgrade: Downgrade) {
        self.downgrade = downgrade;
    }

    /// The members by identity.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// One member.
    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Whether the identity was a member once.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    /// The identities that were members once, ascending.
    pub fn removed(&self) -> impl ExactSizeIterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// The voters, ascending: what raft's configuration must be.
    pub fn voters(&self) -> Vec<MemberId> {
        self.ids(|member| !member.is_learner)
    }

    /// The learners, ascending.
    pub fn learners(&self) -> Vec<MemberId> {
        self.ids(|member| member.is_learner)
    }

    /// The cluster version; `None` until the first leader has set it.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The downgrade job; by default none.
    pub fn downgrade(&self) -> &Downgrade {
        &self.downgrade
    }

    fn ids(&self, of: impl Fn(&Member) -> bool) -> Vec<MemberId> {
        self.members.iter().filter(|(_, member)| of(member)).map(|(id, _)| *id).collect()
    }

    fn check_urls_free(&self, id: MemberId, urls: &[String]) -> Result<(), ValidateError> {
        let taken = self
            .members
            .values()
            .filter(|member| member.id != id)
            .flat_map(|member| &member.peer_urls)
            .any(|url| urls.contains(url));
        if taken { Err(ValidateError::PeerUrlExists) } else { Ok(()) }
    }
}

fn row_id(bucket: &'static str, key: &[u8]) -> Result<MemberId, RowError> {
    std::str::from_utf8(key)
        .ok()
        .and_then(parse_member_id)
        .ok_or_else(|| RowError::Key { bucket, key: String::from_utf8_lossy(key).into_owned() })
}

#[cfg(test)]
mod tests;
