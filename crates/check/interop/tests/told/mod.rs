//! Everything that a member tells about its state.

use std::collections::BTreeMap;
use std::fmt;

use mainstay_client::{Client, Options};
use mainstay_interop::Member;
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::mvccpb;

/// Old revisions that are read in full.
const OLD_REVISIONS: i64 = 8;

/// What a member tells. Equal for two members that have the same state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// The current revision.
    pub(crate) revision: i64,
    /// The newest compaction, -1 without one.
    pub(crate) compacted: i64,
    /// All rows at some revisions, the current one included.
    pub(crate) rows: BTreeMap<i64, Vec<mvccpb::KeyValue>>,
    /// Granted seconds and keys of every lease.
    pub(crate) leases: BTreeMap<i64, (i64, Vec<bytes::Bytes>)>,
    /// The members as the member list has them.
    pub(crate) members: Vec<pb::Member>,
    /// Alarms by member.
    pub(crate) alarms: Vec<pb::AlarmMember>,
    /// `etcdcluster` of `/version`.
    pub(crate) cluster_version: String,
    /// HashKV at every revision that can be asked for.
    pub(crate) hashes: BTreeMap<i64, u32>,
}

impl Told {
    /// What differs, in few words; empty when nothing does.
    pub(crate) fn against(&self, other: &Told) -> String {
        let mut text = String::new();
        let mut say = |what: &str, ours: &dyn fmt::Debug, theirs: &dyn fmt::Debug| {
            let line = format!("{what}: {ours:?} and {theirs:?}\n").replace("xxxxxxxxxxxxxxxx", "");
            text.push_str(&line);
        };
        let at = |told: &Told| (told.revision, told.compacted, told.cluster_version.clone());
        if at(self) != at(other) {
            say("revision, compaction, version", &at(self), &at(other));
        }
        if self.members != other.members {
            say("members", &self.members, &other.members);
        }
        if self.alarms != other.alarms {
            say("alarms", &self.alarms, &other.alarms);
        }
        for id in self.leases.keys().chain(other.leases.keys()) {
            let (ours, theirs) = (self.leases.get(id), other.leases.get(id));
            if ours != theirs {
                say(&format!("lease {id}"), &ours, &theirs);
            }
        }
        for revision in self.hashes.keys().chain(other.hashes.keys()) {
            let (ours, theirs) = (self.hashes.get(revision), other.hashes.get(revision));
            if ours != theirs {
                say(&format!("hash at {revision}"), &ours, &theirs);
            }
        }
        for (revision, rows) in &self.rows {
            let theirs = other.rows.get(revision).map(Vec::as_slice).unwrap_or_default();
            let differs = rows.iter().zip(theirs).find(|(ours, theirs)| ours != theirs);
            if differs.is_some() || rows.len() != theirs.len() {
                let counts = (rows.len(), theirs.len());
                say(&format!("rows at {revision}"), &counts, &differs);
            }
        }
        text
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { revision, compacted, leases, hashes, alarms, .. } = self;
        let (leases, hashes, alarms) = (leases.len(), hashes.len(), alarms.len());
        write!(
            f,
            "revision {revision}, compacted {compacted}, {leases} leases, {alarms} alarms, \
             {hashes} hashes"
        )
    }
}

async fn connect(endpoint: &str) -> Result<Client, String> {
    Client::connect(endpoint, &Options::default()).await.map_err(|e| e.to_string())
}

/// Asks for everything.
pub(crate) async fn tell(member: &Member) -> Result<Told, String> {
    let client = connect(&member.endpoint()).await?;
    ask(&client, &member.http_get("/version")?).await.map_err(|status| status.to_string())
}

async fn ask(client: &Client, version: &str) -> Result<Told, tonic::Status> {
    let newest = client.maintenance().hash_kv(pb::HashKvRequest { revision: 0 }).await?;
    let newest = newest.into_inner();
    let revision = newest.header.map(|header| header.revision).unwrap_or_default();
    let compacted = newest.compact_revision;
    let first = compacted.max(0) + 1;
    let mut hashes = BTreeMap::new();
    for revision in first..=revision {
        let hash = client.maintenance().hash_kv(pb::HashKvRequest { revision }).await?.into_inner();
        hashes.insert(revision, hash.hash);
    }
    let step = ((revision - first) / OLD_REVISIONS).max(1) as usize;
    let mut rows = BTreeMap::new();
    for at in (first..=revision).step_by(step).chain([revision]) {
        rows.insert(at, all_rows(client, at).await?);
    }
    let members = pb::MemberListRequest { linearizable: true };
    let get = alarm_request(pb::alarm_request::AlarmAction::Get, 0);
    let version: serde_json::Value = serde_json::from_str(version).unwrap_or_default();
    Ok(Told {
        revision,
        compacted,
        rows,
        leases: leases(client).await?,
        members: client.cluster().member_list(members).await?.into_inner().members,
        alarms: client.maintenance().alarm(get).await?.into_inner().alarms,
        cluster_version: version["etcdcluster"].as_str().unwrap_or_default().to_owned(),
        hashes,
    })
}

async fn all_rows(client: &Client, revision: i64) -> Result<Vec<mvccpb::KeyValue>, tonic::Status> {
    let everything = pb::RangeRequest {
        key: bytes::Bytes::from_static(&[0]),
        range_end: bytes::Bytes::from_static(&[0]),
        revision,
        ..Default::default()
    };
    Ok(client.kv().range(everything).await?.into_inner().kvs)
}

type Leases = BTreeMap<i64, (i64, Vec<bytes::Bytes>)>;

async fn leases(client: &Client) -> Result<Leases, tonic::Status> {
    let all = client.lease().lease_leases(pb::LeaseLeasesRequest {}).await?.into_inner().leases;
    let mut leases = BTreeMap::new();
    for lease in all {
        let ask = pb::LeaseTimeToLiveRequest { id: lease.id, keys: true };
        let mut told = client.lease().lease_time_to_live(ask).await?.into_inner();
        told.keys.sort_unstable();
        leases.insert(lease.id, (told.granted_ttl, told.keys));
    }
    Ok(leases)
}

fn alarm_request(action: pb::alarm_request::AlarmAction, member_id: u64) -> pb::AlarmRequest {
    let alarm = pb::AlarmType::Nospace as i32;
    pb::AlarmRequest { action: action as i32, member_id, alarm }
}

async fn set_alarm(endpoint: &str, action: pb::alarm_request::AlarmAction) -> Result<(), String> {
    let client = connect(endpoint).await?;
    let set = async {
        let status = client.maintenance().status(pb::StatusRequest {}).await?.into_inner();
        let member = status.header.map(|header| header.member_id).unwrap_or_default();
        client.maintenance().alarm(alarm_request(action, member)).await
    };
    set.await.map(drop).map_err(|status| status.to_string())
}

/// Raises NOSPACE for the member itself.
pub(crate) async fn raise_alarm(endpoint: &str) -> Result<(), String> {
    set_alarm(endpoint, pb::alarm_request::AlarmAction::Activate).await
}

/// Takes it back; nothing to take back is as good.
pub(crate) async fn lower_alarm(endpoint: &str) -> Result<(), String> {
    set_alarm(endpoint, pb::alarm_request::AlarmAction::Deactivate).await
}
