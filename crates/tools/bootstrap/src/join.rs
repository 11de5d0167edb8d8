//! Joining a cluster that runs (etcd's `bootstrapExistingClusterNoWAL`).

use std::fmt::Write as _;

use mainstay_config::Url;
use mainstay_driver::Founding;
use mainstay_membership::Member;
use mainstay_types::MemberId;
use tokio::time::Instant;
use tracing::warn;

use crate::list::MemberList;
use crate::names::Names;
use crate::peers::{Existing, Remote};
use crate::places::Places;
use crate::plan::Founder;
use crate::{Error, peers};

impl<N: Names> Founder<'_, N> {
    pub(crate) async fn join(&self, list: &MemberList, token: &str) -> Result<Founding, Error> {
        let refused = |why: String| Err(Error::Refused(why));
        self.has_local(list)?;
        if list.has_duplicate_url() {
            return refused(format!("initial cluster {list} has duplicate url"));
        }
        if self.discovers() {
            return refused(
                "discovery URL should not be set when joining existing initial cluster".to_owned(),
            );
        }
        let local = list.founders(token).map_err(Error::Refused)?;
        let urls = self.urls_of_others(&local);
        let existing = match peers::members(&self.http, &urls, self.waits.members).await {
            Ok(existing) => existing,
            Err(e) => return refused(format!("cannot fetch cluster info from peer urls: {e}")),
        };
        let ids = match self.assign(&local, &existing).await {
            Ok(ids) => ids,
            Err(e) => {
                return refused(format!("error validating peerURLs {}: {e}", shown(&existing)));
            }
        };
        let mine = local.iter().position(|member| member.name == self.config.name);
        let mine = mine.expect("every name of the list is a founder, and this one is in it");
        let me = ids[mine];
        let others = local.iter().zip(&ids).enumerate().filter(|(n, _)| *n != mine);
        let remotes: Vec<Remote> = others
            .map(|(_, (member, id))| Remote { id: id.to_string(), urls: urls_of(member) })
            .collect();
        if !peers::is_compatible(&self.http, &remotes, self.request_timeout()).await {
            return refused("incompatible with current running cluster".to_owned());
        }
        let learners = existing.members.iter().filter(|member| member.is_learner).count();
        if learners as u64 > self.config.max_learners {
            return refused("membership: too many learner members in cluster".to_owned());
        }
        if existing.members.iter().any(|member| member.id == me && member.is_started()) {
            warn!(
                "local-member-id" = %me,
                "this member has run before and its data directory is gone: what it had voted \
                 for is forgotten. Remove it and add it again when the cluster can spare it"
            );
        }
        Ok(Founding::Join { cluster: existing.cluster, me, members: existing.members })
    }

    /// The identities of the listed members in the running cluster, by their URLs.
    async fn assign(&self, local: &[Member], existing: &Existing) -> Result<Vec<MemberId>, String> {
        if local.len() != existing.members.len() {
            return Err("member count is unequal".to_owned());
        }
        let places = Places {
            names: &self.names,
            until: Instant::now() + self.waits.resolve,
            rest: self.waits.resolve_rest,
        };
        let mut ids: Vec<Option<MemberId>> = vec![None; local.len()];
        for member in &existing.members {
            let theirs = parsed(&member.peer_urls)?;
            let mut last = "every listed member is another".to_owned();
            let mut found = false;
            for (id, ours) in ids.iter_mut().zip(local) {
                match places.same(&theirs, &urls_of(ours)).await {
                    Ok(()) => {
                        *id = Some(member.id);
                        found = true;
                        break;
                    }
                    Err(why) => last = why,
                }
            }
            if !found {
                return Err(format!(
                    "PeerURLs: no match found for existing member ({}, [{}]), last resolver error \
                     ({last})",
                    member.id,
                    member.peer_urls.join(" ")
                ));
            }
        }
        let all: Option<Vec<MemberId>> = ids.into_iter().collect();
        all.ok_or_else(|| "two members of the cluster have the same peer URLs".to_owned())
    }
}

/// The peer URLs of a listed member.
fn urls_of(member: &Member) -> Vec<Url> {
    parsed(&member.peer_urls).expect("they were URLs when they were listed")
}

fn parsed(urls: &[String]) -> Result<Vec<Url>, String> {
    let one = |url: &String| {
        Url::parse(url).map_err(|_| format!("failed to parse string to URL: {url:?}"))
    };
    urls.iter().map(one).collect()
}

/// A cluster as Go prints it.
fn shown(existing: &Existing) -> String {
    let mut out = format!("{{ClusterID:{} Members:[", existing.cluster);
    for (n, member) in existing.members.iter().enumerate() {
        let _ = write!(
            out,
            "{}&{{ID:{} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} \
             ClientURLs:[{}]}}}}",
            if n == 0 { "" } else { " " },
            member.id,
            member.peer_urls.join(" "),
            member.is_learner,
            member.name,
            member.client_urls.join(" ")
        );
    }
    out + "] RemovedMemberIDs:[]}"
}
