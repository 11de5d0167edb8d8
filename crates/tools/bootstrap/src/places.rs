//! Whether two lists of URLs name the same places (etcd's `URLStringsEqual`).

use std::net::IpAddr;
use std::time::Duration;

use mainstay_config::Url;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::names::Names;

/// Compares URLs, asking for names where it must.
pub(crate) struct Places<'a, N> {
    pub(crate) names: &'a N,
    /// When names are no longer waited for.
    pub(crate) until: Instant,
    /// Between two questions.
    pub(crate) rest: Duration,
}

impl<N: Names> Places<'_, N> {
    /// Whether `a` and `b` are the same as they stand, else with names resolved. `localhost` and
    /// sockets are never resolved. The error is etcd's.
    pub(crate) async fn same(&self, a: &[Url], b: &[Url]) -> Result<(), String> {
        if a.len() != b.len() {
            return Err(format!("len({}) != len({})", quoted(a), quoted(b)));
        }
        let (a, b) = (sorted(a.to_vec()), sorted(b.to_vec()));
        if a.iter().map(plain).eq(b.iter().map(plain)) {
            return Ok(());
        }
        let (a, b) = (self.resolved(&a).await?, self.resolved(&b).await?);
        match a.iter().zip(&b).find(|(a, b)| plain(a) != plain(b)) {
            None => Ok(()),
            Some((a, b)) => Err(format!("resolved urls: {:?} != {:?}", a.as_str(), b.as_str())),
        }
    }

    async fn resolved(&self, urls: &[Url]) -> Result<Vec<Url>, String> {
        let mut out = Vec::with_capacity(urls.len());
        for url in urls {
            let found = self.resolve(url).await;
            out.push(found.map_err(|e| format!("failed to resolve {:?} ({e})", url.as_str()))?);
        }
        Ok(sorted(out))
    }

    /// The URL with the address of its host. Names of a cluster that is just being set up may
    /// become known a little later than its members start.
    async fn resolve(&self, url: &Url) -> Result<Url, String> {
        if url.socket_path().is_some() || url.host() == "localhost" {
            return Ok(url.clone());
        }
        if let Ok(address) = url.host().parse::<IpAddr>() {
            return Ok(url.with_host(&address.to_string()));
        }
        let mut error = "context deadline exceeded".to_owned();
        while Instant::now() < self.until {
            match self.names.addresses(url.host(), url.port()).await {
                Ok(found) => {
                    let to = url.with_host(&found[0].to_string());
                    info!(url = %url, host = url.host(), "resolved-addr" = %to, "resolved URL Host");
                    return Ok(to);
                }
                Err(why) => error = why,
            }
            warn!(url = %url, host = url.host(), error = %error, "failed to resolve URL Host");
            sleep(self.rest.min(self.until.saturating_duration_since(Instant::now()))).await;
        }
        Err(error)
    }
}

/// Two spellings of an address are one.
fn plain(url: &Url) -> Url {
    match url.host().parse::<IpAddr>() {
        Ok(address) => url.with_host(&address.to_string()),
        Err(_) => url.clone(),
    }
}

fn sorted(mut urls: Vec<Url>) -> Vec<Url> {
    urls.sort();
    urls
}

/// As Go's `%q` shows a list.
fn quoted(urls: &[Url]) -> String {
    let texts: Vec<String> = urls.iter().map(|url| format!("{:?}", url.as_str())).collect();
    format!("[{}]", texts.join(" "))
}
