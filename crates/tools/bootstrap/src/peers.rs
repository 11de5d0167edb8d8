//! What other members are asked before this one begins (http.md 4).

use std::time::Duration;

use mainstay_config::{Url, number};
use mainstay_membership::{Member, parse_member_id};
use mainstay_types::{ClusterId, SPOKEN_VERSION, Version};
use serde::Deserialize;
use tracing::warn;

use crate::http::{Ask, Http, Target};

/// A cluster as one of its members tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Existing {
    /// Its identity.
    pub(crate) cluster: ClusterId,
    /// By ascending identity; at least one.
    pub(crate) members: Vec<Member>,
}

/// GET `/members` of each URL in turn, until one answers.
///
/// # Errors
/// When none does, or the one that does knows of nobody; in etcd's words.
pub(crate) async fn members(
    http: &Http,
    urls: &[Url],
    within: Duration,
) -> Result<Existing, String> {
    for url in urls {
        match members_of(http, url, within).await {
            Ok(existing) if existing.members.is_empty() => {
                return Err("failed to get raft cluster member(s) from the given URLs".to_owned());
            }
            Ok(existing) => return Ok(existing),
            Err(error) => {
                warn!(address = %format!("{url}/members"), error = %error, "failed to get cluster response");
            }
        }
    }
    Err("could not retrieve cluster information from the given URLs".to_owned())
}

/// GET `/members` of all URLs at once; the first that tells of somebody. etcd asks in turn: its
/// first members, which listen but do not answer yet, wait for each other one by one.
pub(crate) async fn members_of_any(
    http: &Http,
    urls: Vec<Url>,
    within: Duration,
) -> Option<Existing> {
    let mut asking = tokio::task::JoinSet::new();
    for url in urls {
        let http = http.clone();
        asking.spawn(async move { members_of(&http, &url, within).await });
    }
    while let Some(answer) = asking.join_next().await {
        if let Ok(Ok(existing)) = answer
            && !existing.members.is_empty()
        {
            return Some(existing);
        }
    }
    None
}

async fn members_of(http: &Http, url: &Url, within: Duration) -> Result<Existing, String> {
    let answer = http.ask(&Target::peer(url), Ask::get("/members"), within).await;
    let answer = answer.map_err(|e| e.to_string())?;
    // As in etcd the body decides, not the status.
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&answer.body).map_err(|e| format!("not a list of members: {e}"))?;
    let member = |row: serde_json::Value| Member::from_json(row.to_string().as_bytes());
    let mut members = rows.into_iter().map(member).collect::<Result<Vec<Member>, _>>();
    if let Ok(members) = &mut members {
        members.sort_by_key(|member| member.id);
        members.dedup_by_key(|member| member.id);
    }
    let id = answer.header("X-Etcd-Cluster-ID");
    let cluster =
        parse_member_id(id).ok_or_else(|| format!("failed to parse cluster ID {id:?}"))?;
    Ok(Existing {
        cluster: ClusterId(cluster.0),
        members: members.map_err(|e| format!("not a list of members: {e}"))?,
    })
}

/// A member that is asked, by the URLs that the flags give it.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    /// As the cluster knows it; for the log.
    pub(crate) id: String,
    /// Tried in this order.
    pub(crate) urls: Vec<Url>,
}

/// Whether this member can work in the cluster of `remotes`: at least one cluster version is
/// known, and none is outside what this release takes.
pub(crate) async fn is_compatible(http: &Http, remotes: &[Remote], within: Duration) -> bool {
    let mut versions = Vec::new();
    for remote in remotes {
        match version_of(http, remote, within).await {
            Ok(cluster) => versions.push((remote.id.as_str(), cluster)),
            Err(error) => {
                warn!("remote-member-id" = %remote.id, error = %error, "failed to get version");
            }
        }
    }
    let window = Window::of(downgrade_enabled(http, remotes, within).await);
    window.takes(&versions)
}

/// The cluster versions that a member may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    min: Version,
    max: Version,
}

/// What a cluster has that has just been born, until its leader knows better.
const NEWBORN: Version = Version::line(3, 0);
/// The oldest that this release works with (design.md: the floor is 3.5). etcd says 3.0.
const FLOOR: Version = Version::line(3, 5);

impl Window {
    /// While a downgrade is under way only the member that is downgraded may come: one whose
    /// cluster is still one minor above it.
    fn of(downgrading: bool) -> Window {
        let own = SPOKEN_VERSION.without_patch();
        if downgrading {
            let above = Version::line(own.major, own.minor + 1);
            Window { min: above, max: above }
        } else {
            Window { min: NEWBORN, max: own }
        }
    }

    fn takes(self, versions: &[(&str, String)]) -> bool {
        let mut known = false;
        for (id, text) in versions {
            // Only the whole form is a version here; a cluster too young for one says
            // "not_decided".
            let version = Some(text).filter(|text| text.matches('.').count() == 2);
            let Some(version) = version.and_then(|text| text.parse::<Version>().ok()) else {
                warn!(
                    "remote-member-id" = id,
                    "remote-member-cluster-version" = %text,
                    "failed to parse cluster version of remote member"
                );
                continue;
            };
            let old = version < FLOOR && version != NEWBORN;
            if version < self.min || old {
                warn!(
                    "remote-member-id" = id,
                    "remote-member-cluster-version" = %version,
                    "minimum-cluster-version-supported" = %self.min.max(FLOOR),
                    "cluster version of remote member is not compatible; too low"
                );
                return false;
            }
            if version > self.max {
                warn!(
                    "remote-member-id" = id,
                    "remote-member-cluster-version" = %version,
                    "maximum-cluster-version-supported" = %self.max,
                    "cluster version of remote member is not compatible; too high"
                );
                return false;
            }
            known = true;
        }
        known
    }
}

/// The answer to GET `/version`, of which only the cluster's counts here.
#[derive(Deserialize)]
struct Versions {
    #[serde(default, rename = "etcdcluster")]
    cluster: String,
}

async fn version_of(http: &Http, remote: &Remote, within: Duration) -> Result<String, String> {
    first_answer(http, remote, "/version", within, |body| {
        serde_json::from_slice::<Versions>(body).map(|v| v.cluster).map_err(|e| e.to_string())
    })
    .await
}

/// The first member that answers decides; none means no.
async fn downgrade_enabled(http: &Http, remotes: &[Remote], within: Duration) -> bool {
    for remote in remotes {
        let read = |body: &[u8]| {
            let text = str::from_utf8(body).map_err(|e| e.to_string())?;
            number::parse_bool(text).map_err(|e| e.to_string())
        };
        match first_answer(http, remote, "/downgrade/enabled", within, read).await {
            Ok(enabled) => return enabled,
            Err(error) => {
                warn!(
                    "remote-member-id" = %remote.id,
                    error = %error,
                    "failed to get downgrade enabled status"
                );
            }
        }
    }
    false
}

/// Asks at each URL of a member until one gives what can be read; else the last error.
async fn first_answer<T>(
    http: &Http,
    remote: &Remote,
    path: &str,
    within: Duration,
    read: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, String> {
    let mut last = "the member has no peer URL".to_owned();
    for url in &remote.urls {
        let address = format!("{url}{path}");
        let answer = http.ask(&Target::peer(url), Ask::get(path), within).await;
        last = match answer.map_err(|e| ("failed to reach the peer URL", e.to_string())) {
            Ok(answer) => match read(&answer.body) {
                Ok(found) => return Ok(found),
                Err(e) => {
                    warn!(address = %address, "remote-member-id" = %remote.id, error = %e, "failed to unmarshal response");
                    e
                }
            },
            Err((what, e)) => {
                warn!(address = %address, "remote-member-id" = %remote.id, error = %e, "{what}");
                e
            }
        };
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_joined_within_the_window_of_versions() {
        for (downgrading, clusters, fits) in [
            (false, vec!["3.7.0"], true),
            (false, vec!["3.5.0", "3.5.0"], true),
            (false, vec!["3.0.0"], true),
            (false, vec!["3.4.0"], false),
            (false, vec!["2.3.0"], false),
            (false, vec!["3.8.0"], false),
            (false, vec!["3.7.1"], false),
            (false, vec!["3.6.0", "3.8.0"], false),
            (false, vec!["not_decided"], false),
            (false, vec!["not_decided", "3.6.0"], true),
            (false, vec!["3.6"], false),
            (false, vec![""], false),
            (false, vec![], false),
            (true, vec!["3.8.0"], true),
            (true, vec!["3.7.0"], false),
            (true, vec!["3.9.0"], false),
        ] {
            let versions: Vec<(&str, String)> =
                clusters.iter().map(|text| ("1", (*text).to_owned())).collect();
            assert_eq!(
                Window::of(downgrading).takes(&versions),
                fits,
                "{downgrading} {clusters:?}"
            );
        }
    }
}
