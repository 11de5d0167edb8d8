//! From a log entry's bytes to a request.
//!
//! An `InternalRaftRequest` has one field with the request in it. Decoding
//! walks the top level once and decodes that field alone, which is cheaper than
//! the generated message with its thirty options, and sees the field number 2
//! that 3.5 uses for v2 requests.

use bytes::Bytes;
use mainstay_auth::Identity;
use mainstay_membership::{Attributes, Change, ChangeError, parse_member_id};
use mainstay_proto::{Message as _, etcdserverpb as pb, membershippb, raftpb};
use mainstay_raft::{ConfChangeKind, Entry, EntryKind};
use mainstay_types::{Index, MemberId, SPOKEN_VERSION, Term, Version};
use serde::Deserialize;

pub use crate::auth::AuthRequest;
use crate::{StopError, StopReason, nested};

/// A log entry, decoded.
#[derive(Debug)]
pub struct Decoded {
    /// Its index.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The proposer's id of the request, by which it finds its waiting client; 0
    /// when nobody can wait.
    pub request_id: u64,
    /// In whose name a request comes.
    pub who: Identity,
    /// What to apply.
    pub command: Command,
}

/// What an entry asks the state machine to do.
#[derive(Debug)]
pub enum Command {
    /// The first entry of a leader's term; it only moves the index.
    FirstOfTerm,
    /// A change of the membership.
    ConfChange {
        /// What raft is told when the change is accepted.
        kind: ConfChangeKind,
        /// What happens to the membership.
        change: Change,
        /// The context as it was proposed, for raft.
        context: Bytes,
    },
    /// A request.
    Request(Request),
}

/// Every request that an entry can hold.
#[derive(Debug)]
#[expect(missing_docs, reason = "each variant is the request of that name")]
pub enum Request {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compaction(pb::CompactionRequest),
    LeaseGrant(pb::LeaseGrantRequest),
    LeaseRevoke(pb::LeaseRevokeRequest),
    LeaseCheckpoint(pb::LeaseCheckpointRequest),
    Alarm(pb::AlarmRequest),
    Auth(Box<AuthRequest>),
    ClusterVersionSet(Version),
    MemberAttributesSet(MemberId, Attributes),
    DowngradeInfoSet(membershippb::DowngradeInfoSetRequest),
    /// etcd's own tests put it into a log; it does nothing.
    DowngradeVersionTest,
}

/// Decodes an entry. What fails here fails on every member of our version.
pub fn decode(entry: &Entry) -> Result<Decoded, StopError> {
    let stop = |why| StopError { index: entry.index, why };
    let (head, command) = match entry.kind {
        EntryKind::Normal if entry.data.is_empty() => (Head::default(), Command::FirstOfTerm),
        EntryKind::Normal => {
            let (head, request) = decode_request(&entry.data).map_err(stop)?;
            (head, Command::Request(request))
        }
        EntryKind::ConfChange => {
            let (id, change) = decode_change(&entry.data).map_err(stop)?;
            (Head::nobodys(id), change)
        }
        EntryKind::ConfChangeV2 => return Err(stop(StopReason::ConfChangeV2)),
    };
    let Head { id: request_id, who } = head;
    Ok(Decoded { index: entry.index, term: entry.term, request_id, who, command })
}

fn decode_change(data: &Bytes) -> Result<(u64, Command), StopReason> {
    let entry = raftpb::ConfChange::decode(data.clone())
        .map_err(|error| StopReason::Undecodable(error.to_string()))?;
    let change = Change::decode(&entry)?;
    let kind = entry.r#type.unwrap_or(0);
    let kind = match raftpb::ConfChangeType::try_from(kind) {
        Ok(raftpb::ConfChangeType::ConfChangeAddNode) => ConfChangeKind::AddNode,
        Ok(raftpb::ConfChangeType::ConfChangeRemoveNode) => ConfChangeKind::RemoveNode,
        Ok(raftpb::ConfChangeType::ConfChangeUpdateNode) => ConfChangeKind::UpdateNode,
        Ok(raftpb::ConfChangeType::ConfChangeAddLearnerNode) => ConfChangeKind::AddLearnerNode,
        Err(_) => return Err(ChangeError::UnknownType(kind).into()),
    };
    let context = entry.context.unwrap_or_default();
    Ok((entry.id.unwrap_or(0), Command::ConfChange { kind, change, context }))
}

/// The numbers of the fields of an `InternalRaftRequest` that are no request.
const FIELD_ID: u32 = 1;
const FIELD_V2: u32 = 2;
const FIELD_HEADER: u32 = 100;

/// What comes with a request.
#[derive(Default)]
struct Head {
    id: u64,
    who: Identity,
}

impl Head {
    fn nobodys(id: u64) -> Head {
        Head { id, who: Identity::default() }
    }
}

fn decode_request(data: &Bytes) -> Result<(Head, Request), StopReason> {
    let top = match TopLevel::scan(data) {
        Ok(top) if top.v2.is_none() => top,
        // 3.5: first as a request with a v2 request inside, else as a bare one.
        Ok(TopLevel { v2: Some(inner), .. }) => {
            let request = pb::Request::decode(inner)
                .or_else(|_| pb::Request::decode(data.clone()))
                .map_err(undecodable)?;
            return v2_request(request);
        }
        Ok(_) | Err(_) => {
            return v2_request(pb::Request::decode(data.clone()).map_err(undecodable)?);
        }
    };
    let header = top.header.map(pb::RequestHeader::decode).transpose().map_err(undecodable)?;
    let pb::RequestHeader { id, username: user, auth_revision: revision } =
        header.unwrap_or_default();
    let id = if top.id == 0 { id } else { top.id };
    let head = Head { id, who: Identity { user, revision } };
    match top.request {
        Some((field, body)) if top.more.is_empty() => Ok((head, decode_field(field, body)?)),
        first => {
            let fields = first.map(|(field, _)| field).into_iter().chain(top.more).collect();
            Err(StopReason::UnknownRequest { ours: SPOKEN_VERSION, fields })
        }
    }
}

fn decode_field(field: u32, body: Bytes) -> Result<Request, StopReason> {
    Ok(match field {
        3 => Request::Range(message(body)?),
        4 => Request::Put(message(body)?),
        5 => Request::DeleteRange(message(body)?),
        6 => Request::Txn(nested::decode_txn(body).map_err(undecodable)?),
        7 => Request::Compaction(message(body)?),
        8 => Request::LeaseGrant(message(body)?),
        9 => Request::LeaseRevoke(message(body)?),
        10 => Request::Alarm(message(body)?),
        11 => Request::LeaseCheckpoint(message(body)?),
        1300 => cluster_version_set(message(body)?)?,
        1301 => member_attributes_set(message(body)?),
        1302 => Request::DowngradeInfoSet(message(body)?),
        9900 => Request::DowngradeVersionTest,
        other => match AuthRequest::decode(other, body)? {
            Some(request) => Request::Auth(Box::new(request)),
            None => {
                let fields = vec![other];
                return Err(StopReason::UnknownRequest { ours: SPOKEN_VERSION, fields });
            }
        },
    })
}

pub(crate) fn message<M: mainstay_proto::Message + Default>(body: Bytes) -> Result<M, StopReason> {
    M::decode(body).map_err(undecodable)
}

fn undecodable(error: mainstay_proto::prost::DecodeError) -> StopReason {
    StopReason::Undecodable(error.to_string())
}

fn cluster_version_set(
    request: membershippb::ClusterVersionSetRequest,
) -> Result<Request, StopReason> {
    match request.ver.parse() {
        Ok(version) => Ok(Request::ClusterVersionSet(version)),
        Err(_) => Err(StopReason::ClusterVersion(request.ver)),
    }
}

fn member_attributes_set(request: membershippb::ClusterMemberAttrSetRequest) -> Request {
    let attributes = request.member_attributes.unwrap_or_default();
    Request::MemberAttributesSet(
        MemberId(request.member_id),
        Attributes { name: attributes.name, client_urls: attributes.client_urls },
    )
}

/// What a member of 3.5 publishes about itself, as JSON.
#[derive(Deserialize)]
struct AttributesJson {
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
}

/// The two v2 requests that 3.5 still writes (disk.md, addendum); every other
/// one changed a store that is gone.
fn v2_request(request: pb::Request) -> Result<(Head, Request), StopReason> {
    let head = Head::nobodys(request.id.unwrap_or(0));
    let method = request.method.clone().unwrap_or_default();
    let path = request.path.clone().unwrap_or_default();
    let unconditional = request.prev_exist.is_none()
        && request.prev_index.unwrap_or(0) == 0
        && request.prev_value.as_deref().unwrap_or_default().is_empty();
    if method != "PUT" || !unconditional {
        return Err(StopReason::V2Request { method, path });
    }
    let value = request.val.unwrap_or_default();
    if path == "/0/version" {
        return match value.parse() {
            Ok(version) => Ok((head, Request::ClusterVersionSet(version))),
            Err(_) => Err(StopReason::V2Value { path, value }),
        };
    }
    let Some(member) = attributes_path(&path) else {
        return Err(StopReason::V2Request { method, path });
    };
    match serde_json::from_str::<AttributesJson>(&value) {
        Ok(json) => {
            let client_urls = json.client_urls.unwrap_or_default();
            let attributes = Attributes { name: json.name, client_urls };
            Ok((head, Request::MemberAttributesSet(member, attributes)))
        }
        Err(_) => Err(StopReason::V2Value { path, value }),
    }
}

/// The member of `/0/members/ID/attributes`.
fn attributes_path(path: &str) -> Option<MemberId> {
    parse_member_id(path.strip_prefix("/0/members/")?.strip_suffix("/attributes")?)
}

/// The top level of an `InternalRaftRequest`, its messages not decoded.
#[derive(Default)]
struct TopLevel {
    id: u64,
    header: Option<Bytes>,
    v2: Option<Bytes>,
    request: Option<(u32, Bytes)>,
    /// Fields beside the one that must be alone.
    more: Vec<u32>,
}

impl TopLevel {
    fn scan(data: &Bytes) -> Result<TopLevel, ()> {
        let mut top = TopLevel::default();
        let mut at = 0;
        while at < data.len() {
            let tag = varint(data, &mut at)?;
            let field = u32::try_from(tag >> 3).map_err(|_| ())?;
            match tag & 7 {
                0 => {
                    let value = varint(data, &mut at)?;
                    if field == FIELD_ID {
                        top.id = value;
                    }
                }
                1 => at += 8,
                2 => {
                    let len = usize::try_from(varint(data, &mut at)?).map_err(|_| ())?;
                    let end = at.checked_add(len).filter(|end| *end <= data.len()).ok_or(())?;
                    top.take(field, data.slice(at..end))?;
                    at = end;
                }
                5 => at += 4,
                _ => return Err(()),
            }
        }
        if at == data.len() { Ok(top) } else { Err(()) }
    }

    fn take(&mut self, field: u32, body: Bytes) -> Result<(), ()> {
        match field {
            0 | FIELD_ID => return Err(()),
            FIELD_V2 => self.v2 = Some(body),
            FIELD_HEADER => self.header = Some(body),
            _ if self.request.is_none() => self.request = Some((field, body)),
            _ => self.more.push(field),
        }
        Ok(())
    }
}

pub(crate) fn varint(data: &[u8], at: &mut usize) -> Result<u64, ()> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at).ok_or(())?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(())
}

#[cfg(test)]
mod tests;
