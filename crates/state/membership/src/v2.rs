//! The v2 store's JSON: what a `.snap` file carries.
//!
//! etcd 3.5 boots its membership and cluster version from it; 3.6 and 3.7
//! write it for the way back. Only these nodes are ours to write:
//! `/0/members/ID/{raftAttributes,attributes}`, `/0/removed_members/ID`,
//! `/0/version` and the empty directory `/1`. `WatcherHub` and `Stats` are left
//! out: 3.5 keeps its fresh ones then, while a null in their place stops it.

use std::collections::BTreeMap;

use mainstay_types::{MemberId, Version};
use serde::{Deserialize, Serialize};

use crate::member::{AttributesJson, RaftAttributesJson};
use crate::{Member, Membership, gojson, parse_member_id};

/// Go's zero time, which marks a node that does not expire.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// The format version that every etcd writes.
const FORMAT: u32 = 2;

/// What a v2 store in a `.snap` file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V2Snapshot {
    /// Members and removed members, and the version.
    pub membership: Membership,
    /// Whether it holds anything else: keys of etcd's v2 API, which etcd 3.6
    /// and later refuse.
    pub has_v2_keys: bool,
}

/// A v2 store that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum V2Error {
    /// Not JSON, or not the store's.
    #[error("the snapshot's v2 store is not the expected JSON")]
    Json(#[from] serde_json::Error),
    /// A node has a name or value that etcd would not write there.
    #[error("the snapshot's v2 store has an unexpected node {path}: {why}")]
    Node {
        /// The node's path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Serialize)]
struct StoreOut {
    #[serde(rename = "Root")]
    root: NodeOut,
    #[serde(rename = "CurrentIndex")]
    index: u64,
    #[serde(rename = "CurrentVersion")]
    format: u32,
}

#[derive(Serialize)]
struct NodeOut {
    #[serde(rename = "Path")]
    path: String,
    #[serde(rename = "CreatedIndex")]
    created: u64,
    #[serde(rename = "ModifiedIndex")]
    modified: u64,
    #[serde(rename = "ExpireTime")]
    expires: &'static str,
    #[serde(rename = "Value")]
    value: String,
    /// `null` for a file, as Go writes a nil map.
    #[serde(rename = "Children")]
    children: Option<BTreeMap<String, NodeOut>>,
}

impl NodeOut {
    fn dir(path: &str, index: u64) -> NodeOut {
        NodeOut { children: Some(BTreeMap::new()), ..NodeOut::file(path, index, String::new()) }
    }

    fn file(path: &str, index: u64, value: String) -> NodeOut {
        NodeOut {
            path: path.to_owned(),
            created: index,
            modified: index,
            expires: NEVER,
            value,
            children: None,
        }
    }

    /// Creates the file at `path` below this directory, and the directories
    /// between, all with `index`, as etcd's `internalCreate` does.
    fn create(&mut self, path: &str, index: u64, value: String) {
        let mut node = self;
        for (at, _) in path.match_indices('/').skip(1) {
            node = node.child(&path[..at], || NodeOut::dir(&path[..at], index));
        }
        node.child(path, || NodeOut::file(path, index, value));
    }

    fn child(&mut self, path: &str, new: impl FnOnce() -> NodeOut) -> &mut NodeOut {
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name).to_owned();
        self.children.get_or_insert_default().entry(name).or_insert_with(new)
    }
}

impl Membership {
    /// The v2 store that says the same, in the order of etcd 3.7's own writer:
    /// each member's nodes, the removed ones, the version. It must be written
    /// at the very entry that the `.snap` is named after.
    pub fn to_v2_json(&self) -> Vec<u8> {
        let mut root = NodeOut::dir("/", 0);
        root.child("/0", || NodeOut::dir("/0", 0));
        root.child("/1", || NodeOut::dir("/1", 0));
        let mut index = 0;
        let mut create = |path: String, value: String| {
            index += 1;
            root.create(&path, index, value);
        };
        for member in self.members.values() {
            let home = format!("/0/members/{}", member.id);
            let raft = gojson::to_string(&RaftAttributesJson::from(member));
            create(format!("{home}/raftAttributes"), raft);
            if !member.client_urls.is_empty() {
                let attributes = gojson::to_string(&AttributesJson::from(member));
                create(format!("{home}/attributes"), attributes);
            }
        }
        for id in &self.removed {
            create(format!("/0/removed_members/{id}"), String::new());
        }
        if let Some(version) = self.version {
            create("/0/version".to_owned(), version.to_string());
        }
        gojson::to_vec(&StoreOut { root, index, format: FORMAT })
    }
}

#[derive(Deserialize)]
struct StoreIn {
    #[serde(rename = "Root")]
    root: NodeIn,
}

#[derive(Deserialize, Default)]
struct NodeIn {
    #[serde(rename = "Value", default)]
    value: String,
    #[serde(rename = "Children", default)]
    children: Option<BTreeMap<String, NodeIn>>,
}

impl NodeIn {
    fn children(&self) -> impl Iterator<Item = (&String, &NodeIn)> {
        self.children.iter().flatten()
    }

    fn has_grandchildren(&self) -> bool {
        self.children().any(|(_, child)| child.children().next().is_some())
    }
}

impl V2Snapshot {
    /// Reads the store that any etcd from 3.5 on, or we, wrote.
    pub fn parse(json: &[u8]) -> Result<V2Snapshot, V2Error> {
        let store: StoreIn = serde_json::from_slice(json)?;
        let mut membership = Membership::default();
        let mut has_v2_keys = false;
        for (name, node) in store.root.children() {
            match name.as_str() {
                "0" => read_cluster(node, &mut membership)?,
                // Users and roles of v2 leave empty directories behind.
                "2" => has_v2_keys |= node.has_grandchildren(),
                _ => has_v2_keys |= node.children().next().is_some(),
            }
        }
        Ok(V2Snapshot { membership, has_v2_keys })
    }
}

fn read_cluster(node: &NodeIn, membership: &mut Membership) -> Result<(), V2Error> {
    for (name, child) in node.children() {
        match name.as_str() {
            "members" => {
                for (name, node) in child.children() {
                    let member = read_member(name, node)?;
                    membership.members.insert(member.id, member);
                }
            }
            "removed_members" => {
                for (name, _) in child.children() {
                    let path = format!("/0/removed_members/{name}");
                    membership.removed.insert(node_id(name, &path)?);
                }
            }
            "version" => membership.version = Some(read_version(&child.value)?),
            _ => {}
        }
    }
    Ok(())
}

fn read_version(text: &str) -> Result<Version, V2Error> {
    text.parse().map_err(|_| wrong("/0/version", format!("{text:?} is not a version")))
}

fn read_member(name: &str, node: &NodeIn) -> Result<Member, V2Error> {
    let path = format!("/0/members/{name}");
    let id = node_id(name, &path)?;
    let (mut raft, mut attributes) = (None, None);
    for (name, child) in node.children() {
        let path = format!("{path}/{name}");
        let explain = |error: serde_json::Error| wrong(&path, error.to_string());
        match name.as_str() {
            "raftAttributes" => {
                raft = Some(
                    serde_json::from_str::<RaftAttributesJson>(&child.value).map_err(explain)?,
                );
            }
            "attributes" => {
                attributes =
                    Some(serde_json::from_str::<AttributesJson>(&child.value).map_err(explain)?);
            }
            _ => return Err(wrong(&path, "etcd keeps no such node there".to_owned())),
        }
    }
    let raft = raft.ok_or_else(|| wrong(&path, "it has no raftAttributes".to_owned()))?;
    let (name, client_urls) = attributes.map_or_else(Default::default, |attributes| {
        (attributes.name, attributes.client_urls.unwrap_or_default())
    });
    Ok(Member {
        id,
        peer_urls: raft.peer_urls.unwrap_or_default(),
        is_learner: raft.is_learner,
        name,
        client_urls,
    })
}

fn node_id(name: &str, path: &str) -> Result<MemberId, V2Error> {
    parse_member_id(name).ok_or_else(|| wrong(path, "its name is not a member id".to_owned()))
}

fn wrong(path: &str, why: String) -> V2Error {
    V2Error::Node { path: path.to_owned(), why }
}

#[cfg(test)]
mod tests;
