//! Members and configuration changes, with their JSON forms.

use mainstay_proto::raftpb::{ConfChange, ConfChangeType};
use mainstay_types::MemberId;
use serde::{Deserialize, Serialize};

use crate::gojson;

/// A member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
    pub id: MemberId,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Whether it only learns and does not vote.
    pub is_learner: bool,
    /// Its name; empty until it has published itself, which is what "not
    /// started" means.
    pub name: String,
    /// Where clients reach it; empty until it has published itself.
    pub client_urls: Vec<String>,
}

impl Member {
    /// The value of its row in bucket `members`.
    pub fn to_json(&self) -> Vec<u8> {
        gojson::to_vec(&MemberJson::from(self))
    }

    /// Reads the value of a row in bucket `members`.
    pub fn from_json(json: &[u8]) -> Result<Member, serde_json::Error> {
        Ok(serde_json::from_slice::<MemberJson>(json)?.into())
    }

    /// Whether it has published its name.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// Whether and whereto the cluster is being downgraded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    /// The version to reach, such as "3.6.0"; empty when none.
    #[serde(rename = "target-version", default)]
    pub target: String,
    /// Whether a downgrade is under way.
    #[serde(default)]
    pub enabled: bool,
}

impl Downgrade {
    /// The value of its row in bucket `cluster`.
    pub fn to_json(&self) -> Vec<u8> {
        gojson::to_vec(self)
    }
}

/// What a configuration change does to the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new member joins: as a learner when `is_learner`, else with a vote.
    Add(Member),
    /// A learner gets a vote.
    Promote(MemberId),
    /// A member leaves for ever.
    Remove(MemberId),
    /// A member gets other peer URLs; nothing else of it changes.
    UpdatePeerUrls(MemberId, Vec<String>),
}

/// A configuration change that etcd would panic on. It can only come from a
/// foreign or damaged log, so it stops the member.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The context is not the JSON it must be.
    #[error("the context of the configuration change of member {id} is not a member's JSON")]
    Context {
        /// The member named by the entry.
        id: MemberId,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Entry and context name different members.
    #[error("the configuration change is about member {entry} but its context about {context}")]
    OtherMember {
        /// The member named by the entry.
        entry: MemberId,
        /// The member named by the context.
        context: MemberId,
    },
    /// A type that raft does not know.
    #[error("configuration change of unknown type {0}")]
    UnknownType(i32),
}

impl Change {
    /// Reads the change that a log entry carries.
    pub fn decode(entry: &ConfChange) -> Result<Change, ChangeError> {
        let id = MemberId(entry.node_id.unwrap_or(0));
        let kind = entry.r#type.unwrap_or(0);
        let kind = ConfChangeType::try_from(kind).map_err(|_| ChangeError::UnknownType(kind))?;
        if kind == ConfChangeType::ConfChangeRemoveNode {
            return Ok(Change::Remove(id));
        }
        let context = entry.context.as_deref().unwrap_or_default();
        let context: ContextJson = serde_json::from_slice(context)
            .map_err(|source| ChangeError::Context { id, source })?;
        let (is_promote, member) = (context.is_promote, Member::from(context.member));
        if member.id != id {
            return Err(ChangeError::OtherMember { entry: id, context: member.id });
        }
        Ok(match kind {
            ConfChangeType::ConfChangeUpdateNode => Change::UpdatePeerUrls(id, member.peer_urls),
            _ if is_promote => Change::Promote(id),
            _ => Change::Add(member),
        })
    }

    /// The change as the log carries it, under the proposer's request id.
    /// Every scalar is present, as older Go members write it.
    pub fn encode(&self, request_id: u64) -> ConfChange {
        let (kind, context) = match self {
            Change::Add(member) => {
                let kind = if member.is_learner {
                    ConfChangeType::ConfChangeAddLearnerNode
                } else {
                    ConfChangeType::ConfChangeAddNode
                };
                (kind, context(member, Some(false)))
            }
            Change::Promote(id) => {
                // etcd passes a member with nothing but its identity.
                let member = Member { id: *id, ..Member::default() };
                (ConfChangeType::ConfChangeAddNode, context(&member, Some(true)))
            }
            Change::Remove(_) => (ConfChangeType::ConfChangeRemoveNode, Vec::new()),
            Change::UpdatePeerUrls(id, peer_urls) => {
                let member = Member { id: *id, peer_urls: peer_urls.clone(), ..Member::default() };
                (ConfChangeType::ConfChangeUpdateNode, context(&member, None))
            }
        };
        ConfChange {
            r#type: Some(kind as i32),
            node_id: Some(self.member().0),
            // Go leaves a nil context out.
            context: (!context.is_empty()).then(|| context.into()),
            id: Some(request_id),
        }
    }

    /// The member that the change is about.
    pub fn member(&self) -> MemberId {
        match self {
            Change::Add(member) => member.id,
            Change::Promote(id) | Change::Remove(id) | Change::UpdatePeerUrls(id, _) => *id,
        }
    }
}

fn context(member: &Member, is_promote: Option<bool>) -> Vec<u8> {
    let json = MemberJson::from(member);
    match is_promote {
        Some(is_promote) => gojson::to_vec(&ContextJson { member: json, is_promote }),
        None => gojson::to_vec(&json),
    }
}

/// `RaftAttributes` of etcd. Go writes a nil slice as `null`, and an empty list
/// of peer URLs never reaches it as anything else.
#[derive(Serialize, Deserialize)]
pub(crate) struct RaftAttributesJson {
    #[serde(rename = "peerURLs", default)]
    pub(crate) peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub(crate) is_learner: bool,
}

/// `Attributes` of etcd.
#[derive(Serialize, Deserialize)]
pub(crate) struct AttributesJson {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "is_none_or_empty")]
    pub(crate) client_urls: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct MemberJson {
    #[serde(default)]
    id: u64,
    #[serde(flatten)]
    raft: RaftAttributesJson,
    #[serde(flatten)]
    attributes: AttributesJson,
}

#[derive(Serialize, Deserialize)]
struct ContextJson {
    #[serde(flatten)]
    member: MemberJson,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

impl From<&Member> for MemberJson {
    fn from(member: &Member) -> MemberJson {
        MemberJson {
            id: member.id.0,
            raft: RaftAttributesJson::from(member),
            attributes: AttributesJson::from(member),
        }
    }
}

impl From<&Member> for RaftAttributesJson {
    fn from(member: &Member) -> RaftAttributesJson {
        let urls = &member.peer_urls;
        RaftAttributesJson {
            peer_urls: (!urls.is_empty()).then(|| urls.clone()),
            is_learner: member.is_learner,
        }
    }
}

impl From<&Member> for AttributesJson {
    fn from(member: &Member) -> AttributesJson {
        AttributesJson { name: member.name.clone(), client_urls: Some(member.client_urls.clone()) }
    }
}

impl From<MemberJson> for Member {
    fn from(json: MemberJson) -> Member {
        Member {
            id: MemberId(json.id),
            peer_urls: json.raft.peer_urls.unwrap_or_default(),
            is_learner: json.raft.is_learner,
            name: json.attributes.name,
            client_urls: json.attributes.client_urls.unwrap_or_default(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn is_none_or_empty(urls: &Option<Vec<String>>) -> bool {
    urls.as_ref().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests;
