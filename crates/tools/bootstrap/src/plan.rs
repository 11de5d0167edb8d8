//! From the flags to the way on: who is in the list of first members, and what is to be checked
//! before they found a cluster (etcd's `PeerURLsMapAndToken` and `bootstrapNewClusterNoWAL`).

use std::time::Duration;

use mainstay_config::{ClusterState, Config, Url};
use mainstay_driver::Founding;
use mainstay_membership::{Member, member_id};
use mainstay_types::MemberId;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::http::Http;
use crate::list::MemberList;
use crate::names::Names;
use crate::places::Places;
use crate::{Error, Waits, peers, srv, tls, v2, v3};

/// Everything that founding needs.
pub(crate) struct Founder<'a, N> {
    pub(crate) config: &'a Config,
    pub(crate) names: N,
    pub(crate) http: Http,
    pub(crate) waits: Waits,
}

impl<'a, N: Names> Founder<'a, N> {
    pub(crate) fn new(config: &'a Config, names: N, waits: Waits) -> Result<Self, Error> {
        let (min, max) = (config.tls_min_version, config.tls_max_version);
        let http = Http {
            tls: tls::towards_peers(&config.peer_tls, min, max)?,
            // etcd: for the queue, and for an election.
            dial: Duration::from_secs(1) + config.election_timeout,
            proxy: None,
        };
        Ok(Founder { config, names, http, waits })
    }

    pub(crate) async fn run(&self) -> Result<Founding, Error> {
        let (list, token) = self.list().await?;
        match self.config.initial_cluster_state {
            ClusterState::New => self.found(&list, &token).await,
            ClusterState::Existing => self.join(&list, &token).await,
        }
    }

    /// The list of members by the flags, and what is mixed into identities. With a discovery
    /// service it holds only this member, and the token is the service's.
    async fn list(&self) -> Result<(MemberList, String), Error> {
        let config = self.config;
        let token = config.initial_cluster_token.clone();
        let alone = || MemberList::of(&config.name, &config.initial_advertise_peer_urls);
        if !config.discovery.endpoints.is_empty() {
            return Ok((alone(), config.discovery.token.clone()));
        }
        if !config.discovery_url.is_empty() {
            return Ok((alone(), config.discovery_url.clone()));
        }
        let text = if config.discovery_srv.is_empty() {
            config.initial_cluster.clone()
        } else {
            srv::members(config, &self.names).await.map_err(Error::Setup)?
        };
        let list = MemberList::parse(&text).map_err(Error::Setup)?;
        if !config.discovery_srv.is_empty() && list.urls_of(&config.name).is_none() {
            let why = format!("cannot find local etcd member {:?} in SRV records", config.name);
            return Err(Error::Setup(why));
        }
        Ok((list, token))
    }

    async fn found(&self, list: &MemberList, token: &str) -> Result<Founding, Error> {
        self.has_local(list)?;
        self.advertises(list).await?;
        if list.has_duplicate_url() {
            return Err(Error::Refused(format!("initial cluster {list} has duplicate url")));
        }
        let members = list.founders(token).map_err(Error::Refused)?;
        // By the listed URLs: they may name by name what is advertised by address.
        let own = list.urls_of(&self.config.name).unwrap_or_default();
        let own: Vec<String> = own.iter().map(Url::to_string).collect();
        let me = member_id(&own, token, None);
        self.is_not_bootstrapped(me, &members).await?;
        if !self.discovers() {
            return Ok(Founding::New { me, members });
        }
        let found = if self.config.discovery_url.is_empty() {
            info!("Bootstrapping cluster using v3 discovery.");
            v3::join(&self.config.discovery, me, &list.to_string(), self.waits).await
        } else {
            let (url, proxy) = (&self.config.discovery_url, &self.config.discovery_proxy);
            v2::join(url, me, &list.to_string(), proxy, self.waits).await
        };
        let text = found.map_err(|why| self.no_discovery(why))?;
        let all = MemberList::parse(&text).map_err(Error::Refused)?;
        if all.has_duplicate_url() {
            return Err(Error::Refused(format!("discovery cluster {all} has duplicate url")));
        }
        let members = all.founders(token).map_err(Error::Refused)?;
        // etcd would begin with an identity that nobody knows when two members share a name.
        if !members.iter().any(|member| member.id == me) {
            return Err(self.no_discovery(v2::DUPLICATE_NAME.to_owned()));
        }
        Ok(Founding::New { me, members })
    }

    /// Whether a discovery service gives the list of members.
    pub(crate) fn discovers(&self) -> bool {
        !self.config.discovery.endpoints.is_empty() || !self.config.discovery_url.is_empty()
    }

    /// For a question to a member that runs (etcd's `ReqTimeout`).
    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.config.election_timeout
    }

    pub(crate) fn has_local(&self, list: &MemberList) -> Result<(), Error> {
        let name = &self.config.name;
        match list.urls_of(name) {
            Some(_) => Ok(()),
            None => Err(Error::Refused(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            ))),
        }
    }

    /// Whether this member is listed with the URLs that it advertises. The texts are etcd's, with
    /// what they show where.
    async fn advertises(&self, list: &MemberList) -> Result<(), Error> {
        let name = &self.config.name;
        let advertised = &self.config.initial_advertise_peer_urls;
        let listed = list.urls_of(name).unwrap_or_default();
        let places = Places {
            names: &self.names,
            until: Instant::now() + self.waits.resolve,
            rest: self.waits.resolve_rest,
        };
        let Err(why) = places.same(advertised, listed).await else { return Ok(()) };
        let lacking = |these: &[Url], those: &[Url]| -> Vec<String> {
            let missing = these.iter().filter(|url| !those.contains(url));
            missing.map(Url::to_string).collect()
        };
        let all = advertised.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
        let own = MemberList::of(name, advertised);
        let extra = lacking(listed, advertised);
        let missing = lacking(advertised, listed);
        Err(Error::Refused(if !extra.is_empty() {
            let extra: Vec<String> = extra.iter().map(|url| format!("{name}={url}")).collect();
            format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={all} \
                 ({why})",
                extra.join(",")
            )
        } else if !missing.is_empty() {
            format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={own}",
                missing.join(",")
            )
        } else {
            format!("failed to resolve {all} to match --initial-cluster={own} ({why})")
        }))
    }

    /// A member that has published itself before must not begin again with an empty directory: it
    /// would have forgotten its vote. Nobody who answers is as good as a no.
    async fn is_not_bootstrapped(&self, me: MemberId, members: &[Member]) -> Result<(), Error> {
        let urls = self.urls_of_others(members);
        let asked = peers::members_of_any(&self.http, urls, self.waits.before).await;
        let Some(existing) = asked else { return Ok(()) };
        match existing.members.iter().find(|known| known.id == me) {
            Some(known) if !known.client_urls.is_empty() => {
                Err(Error::Refused(format!("member {me} has already been bootstrapped")))
            }
            _ => Ok(()),
        }
    }

    /// The peer URLs of the other members, sorted by their text.
    pub(crate) fn urls_of_others(&self, members: &[Member]) -> Vec<Url> {
        let others = members.iter().filter(|member| member.name != self.config.name);
        let mut urls: Vec<Url> = others
            .flat_map(|member| &member.peer_urls)
            .filter_map(|url| Url::parse(url).ok())
            .collect();
        urls.sort();
        urls
    }

    /// Says what to look at, as etcd does, and makes the error.
    fn no_discovery(&self, why: String) -> Error {
        let v3 = &self.config.discovery;
        if v3.endpoints.is_empty() {
            let url = &self.config.discovery_url;
            v2::explain(&why, url, self.config);
        } else {
            warn!(
                "discovery-token" = %v3.token,
                "discovery-endpoints" = %v3.endpoints.join(","),
                error = %why,
                "failed to bootstrap; discovery token was already used"
            );
            warn!("do not reuse discovery token; generate a new one to bootstrap a cluster");
        }
        Error::Discovery(why)
    }
}
