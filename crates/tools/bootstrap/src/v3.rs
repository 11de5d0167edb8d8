//! Discovery by a v3 cluster of somebody's (etcd's `v3discovery`): members write themselves below
//! `/_etcd/registry/TOKEN/members/`, and the first so many in the order of their writing are it.

use std::collections::BTreeMap;

use mainstay_config::DiscoveryConfig;
use mainstay_proto::etcdserverpb as pb;
use mainstay_types::MemberId;
use mainstay_types::limits::DISCOVERY_MEMBERS_MAX;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::client::{Service, Watch};
use crate::list::MemberList;
use crate::{Waits, v2};

const INVALID_URL: &str = "discovery: invalid peer URL";
const SIZE_NOT_FOUND: &str = "discovery: size key not found";

/// Registers `me` as `own` (`name=url,...`), waits for the others, and gives the list of all.
///
/// # Errors
/// In etcd's words: when the token has no size or a bad one, the cluster is full, or somebody's URL
/// is none. A service that cannot be reached is tried for ever.
pub(crate) async fn join(
    settings: &DiscoveryConfig,
    me: MemberId,
    own: &str,
    waits: Waits,
) -> Result<String, String> {
    let mut discovery = Discovery {
        keys: Keys::of(&settings.token),
        me,
        service: Service::open(settings).await?,
        failures: 0,
        waits,
    };
    let joined = discovery.join(own).await;
    match &joined {
        Ok(cluster) => info!(cluster = %cluster, "discovery joined cluster successfully"),
        Err(why) => error!(error = %why, "discovery failed to join cluster"),
    }
    joined
}

/// Where things are at the service.
struct Keys {
    size: String,
    members: String,
}

impl Keys {
    fn of(token: &str) -> Keys {
        let prefix = v2::clean(&format!("/_etcd/registry/{token}"));
        Keys { size: format!("{prefix}/_config/size"), members: format!("{prefix}/members") }
    }

    fn member(&self, id: MemberId) -> String {
        format!("{}/{id}", self.members)
    }
}

struct Discovery<'a> {
    keys: Keys,
    me: MemberId,
    service: Service<'a>,
    /// In a row.
    failures: u32,
    waits: Waits,
}

/// Who is there, as of a revision.
struct Found {
    members: Registered,
    size: usize,
    revision: i64,
}

/// Members by the order in which they wrote themselves.
#[derive(Default)]
struct Registered {
    /// Key to value, by the revision of the key's creation.
    by_revision: BTreeMap<(i64, String), String>,
}

impl Registered {
    /// Takes one registration, or tells what is wrong with it.
    fn add(&mut self, keys: &Keys, kv: &Entry) -> Result<(), &'static str> {
        if !kv.key.starts_with(&keys.members) {
            return Err("invalid peer registry key");
        }
        if !kv.value.contains('=') {
            return Err("invalid peer info returned from discovery service");
        }
        if self.by_revision.keys().any(|(_, known)| *known == kv.key) {
            return Err("found duplicate peer from discovery service");
        }
        self.by_revision.insert((kv.revision, kv.key.clone()), kv.value.clone());
        Ok(())
    }

    fn len(&self) -> usize {
        self.by_revision.len()
    }

    /// Whether `key` is among the first `size`, or there is room for it.
    fn admits(&self, key: &str, size: usize) -> bool {
        let first = self.by_revision.keys().take(size);
        self.len() < size || first.into_iter().any(|(_, known)| known == key)
    }

    fn list(&self, size: usize) -> Result<String, String> {
        let first: Vec<&str> = self.by_revision.values().take(size).map(String::as_str).collect();
        let list = first.join(",");
        match MemberList::parse(&list) {
            Ok(_) => Ok(list),
            Err(_) => Err(INVALID_URL.to_owned()),
        }
    }
}

/// A key of the service as text.
struct Entry {
    key: String,
    value: String,
    revision: i64,
}

impl Discovery<'_> {
    async fn join(&mut self, own: &str) -> Result<String, String> {
        self.check().await?;
        self.register(own).await;
        let mut found = self.check().await?;
        while found.members.len() < found.size {
            self.wait(&mut found).await;
        }
        found.members.list(found.size)
    }

    /// Who is there; an error when it is full without us.
    async fn check(&mut self) -> Result<Found, String> {
        let found = loop {
            match self.look().await {
                Ok(found) => break found?,
                Err(()) => self.rest("cluster status check").await,
            }
        };
        self.failures = 0;
        if found.members.admits(&self.keys.member(self.me), found.size) {
            Ok(found)
        } else {
            Err(v2::FULL_CLUSTER.to_owned())
        }
    }

    /// One look: `Err` when it is worth another try.
    async fn look(&mut self) -> Result<Result<Found, String>, ()> {
        let size = match self.range(&self.keys.size.clone(), "").await {
            Ok(answer) => answer,
            Err(error) => {
                let key = &self.keys.size;
                warn!("clusterSizeKey" = %key, error = %error, "failed to get cluster size from discovery service");
                return Err(());
            }
        };
        let Some(kv) = size.kvs.first() else { return Ok(Err(SIZE_NOT_FOUND.to_owned())) };
        let Some(size) = read_size(&kv.value) else { return Ok(Err(v2::BAD_SIZE.to_owned())) };
        let (from, to) = (self.keys.members.clone(), after_prefix(&self.keys.members));
        let answer = match self.range(&from, &to).await {
            Ok(answer) => answer,
            Err(error) => {
                warn!("membersKeyPrefix" = %from, error = %error, "failed to get cluster members from discovery service");
                return Err(());
            }
        };
        let mut members = Registered::default();
        for kv in &answer.kvs {
            self.take(&mut members, kv);
        }
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok(Ok(Found { members, size, revision }))
    }

    async fn register(&mut self, own: &str) {
        let key = self.keys.member(self.me);
        loop {
            let ask = pb::PutRequest {
                key: key.clone().into(),
                value: own.to_owned().into(),
                ..pb::PutRequest::default()
            };
            let Err(error) = self.service.put(ask).await else { break };
            warn!("memberKey" = %key, error = %error, "failed to register members itself to the discovery service");
            self.rest("register member itself").await;
        }
        self.failures = 0;
        info!("memberKey" = %key, "memberInfo" = %own, "register member itself successfully");
    }

    /// Follows the registrations after `found` until there are enough, or the watch ends; then the
    /// next one goes on where this one stopped.
    async fn wait(&mut self, found: &mut Found) {
        info!(
            "clusterSize" = found.size,
            "found-peers" = found.members.len(),
            "waiting for peers from discovery service"
        );
        let ask = pb::WatchCreateRequest {
            key: self.keys.members.clone().into(),
            range_end: after_prefix(&self.keys.members).into(),
            start_revision: found.revision + 1,
            ..pb::WatchCreateRequest::default()
        };
        let why = match self.service.watch(ask).await {
            Ok(watch) => match self.follow(watch, found).await {
                Ok(()) => {
                    info!(
                        "clusterSize" = found.size,
                        "found-peers" = found.members.len(),
                        "found all needed peers from discovery service"
                    );
                    return;
                }
                Err(why) => why,
            },
            Err(why) => why,
        };
        warn!(error = %why, "error while waiting for peers");
        self.service.turn();
        self.rest("waiting for other members").await;
    }

    async fn follow(&mut self, mut watch: Watch, found: &mut Found) -> Result<(), String> {
        while found.members.len() < found.size {
            let answer = watch.answers.message().await.map_err(|s| s.message().to_owned())?;
            let answer = answer.ok_or("the service ended the watch")?;
            self.failures = 0;
            for kv in answer.events.iter().filter_map(|event| event.kv.as_ref()) {
                self.take(&mut found.members, kv);
            }
            let revision = answer.header.map_or(0, |header| header.revision);
            if !answer.created {
                found.revision = found.revision.max(revision);
            }
            if answer.canceled {
                // What was compacted away cannot be followed; it can be read.
                if answer.compact_revision > 0 {
                    found.revision = answer.compact_revision - 1;
                    if let Ok(Ok(again)) = self.look().await {
                        (found.members, found.revision) = (again.members, again.revision);
                    }
                }
                return Err(answer.cancel_reason);
            }
        }
        Ok(())
    }

    fn take(&self, members: &mut Registered, kv: &mainstay_proto::mvccpb::KeyValue) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let entry =
            Entry { key: text(&kv.key), value: text(&kv.value), revision: kv.create_revision };
        let (key, value) = (&entry.key, &entry.value);
        match members.add(&self.keys, &entry) {
            Ok(()) => {
                info!("memberKey" = %key, "memberInfo" = %value, "found peer from discovery service");
            }
            Err(why) => warn!("memberKey" = %key, "memberInfo" = %value, "{why}"),
        }
    }

    async fn range(&mut self, key: &str, end: &str) -> Result<pb::RangeResponse, String> {
        let ask = pb::RangeRequest {
            key: key.to_owned().into(),
            range_end: end.to_owned().into(),
            ..pb::RangeRequest::default()
        };
        self.service.range(ask).await
    }

    async fn rest(&mut self, step: &str) {
        self.failures = self.failures.saturating_add(1);
        let backoff = self.waits.rest_after(self.failures);
        warn!(reason = step, backoff = ?backoff, "retry connecting to discovery service");
        sleep(backoff).await;
    }
}

/// A size as Go's `ParseInt` reads it, above zero; larger than any cluster is bad too.
fn read_size(value: &[u8]) -> Option<usize> {
    let size = str::from_utf8(value).ok()?.parse().ok()?;
    (1..=DISCOVERY_MEMBERS_MAX).contains(&size).then_some(size)
}

/// The end of the range of all keys with this prefix, which ends with a letter.
fn after_prefix(prefix: &str) -> String {
    let (last, rest) = prefix.as_bytes().split_last().expect("a prefix of ours is not empty");
    let mut end = String::from_utf8_lossy(rest).into_owned();
    end.push(char::from(last + 1));
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str, revision: i64) -> Entry {
        Entry { key: key.to_owned(), value: value.to_owned(), revision }
    }

    #[test]
    fn the_first_so_many_by_their_registration_are_the_cluster() {
        let keys = Keys::of("t/");
        assert_eq!(keys.size, "/_etcd/registry/t/_config/size");
        assert_eq!(after_prefix(&keys.members), "/_etcd/registry/t/membert");
        let mut members = Registered::default();
        for (id, revision) in [("a", 9), ("b", 4), ("c", 7)] {
            let (key, value) = (format!("{}/{id}", keys.members), format!("{id}=http://{id}:1"));
            assert_eq!(members.add(&keys, &entry(&key, &value, revision)), Ok(()));
        }
        let again = entry(&format!("{}/a", keys.members), "a=http://a:2", 10);
        let double = Err("found duplicate peer from discovery service");
        assert_eq!(members.add(&keys, &again), double);
        let odd = Err("invalid peer info returned from discovery service");
        assert_eq!(members.add(&keys, &entry(&keys.member(MemberId(1)), "x", 1)), odd);
        let elsewhere = Err("invalid peer registry key");
        assert_eq!(members.add(&keys, &entry("/else", "a=b", 1)), elsewhere);
        assert_eq!(members.list(2).as_deref(), Ok("b=http://b:1,c=http://c:1"));
        let key = |id: &str| format!("{}/{id}", keys.members);
        assert!(members.admits(&key("c"), 2) && !members.admits(&key("a"), 2));
        assert!(members.admits(&key("new"), 4) && !members.admits(&key("new"), 3));
        let wrong = entry(&key("d"), "d=nowhere", 1);
        assert_eq!(members.add(&keys, &wrong), Ok(()));
        assert_eq!(members.list(2), Err(INVALID_URL.to_owned()));
    }

    #[test]
    fn sizes_are_whole_numbers_above_zero() {
        for (text, size) in [
            ("3", Some(3)),
            ("+3", Some(3)),
            ("0", None),
            ("-1", None),
            ("x", None),
            ("", None),
            ("99999999", None),
        ] {
            assert_eq!(read_size(text.as_bytes()), size, "{text}");
        }
    }
}
