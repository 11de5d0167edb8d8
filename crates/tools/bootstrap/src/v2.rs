//! Discovery by the old keys API (`--discovery URL`, last in etcd 3.5), which any etcd with v2 keys
//! serves: the URL names a folder, `_config/size` in it says how many members there will be, and
//! each writes itself beside it.

use std::time::Duration;

use mainstay_config::Config;
use mainstay_types::MemberId;
use mainstay_types::limits::DISCOVERY_MEMBERS_MAX;
use serde::Deserialize;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::http::{Answer, Ask, Http, HttpError, Target};
use crate::list::MemberList;
use crate::proxy::Proxy;
use crate::{Waits, tls};

/// The cluster has all its members, and we are none of them.
pub(crate) const FULL_CLUSTER: &str = "discovery: cluster is full";
/// The size is no number that a cluster can have.
pub(crate) const BAD_SIZE: &str = "discovery: size key is bad";
/// Two members have one name.
pub(crate) const DUPLICATE_NAME: &str = "discovery: found duplicate name";
const DUPLICATE_ID: &str = "discovery: found duplicate id";
const INVALID_URL: &str = "discovery: invalid URL";
const BAD_ENDPOINT: &str = "discovery: bad discovery endpoint";
const INVALID_JSON: &str =
    "client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint";

/// The API's code for a key that is there already.
const NODE_EXISTS: i64 = 105;
/// Redirections that are followed (as in Go's client).
const REDIRECTS_MAX: usize = 10;

/// Registers `me` as `own` (`name=url,...`), waits for the others, and gives the list of all.
/// The service is reached through `proxy`, if it is not empty.
///
/// # Errors
/// In the words of etcd 3.5.
pub(crate) async fn join(
    url: &str,
    me: MemberId,
    own: &str,
    proxy: &str,
    waits: Waits,
) -> Result<String, String> {
    let proxy = Proxy::parse(proxy)?;
    let (target, path) =
        split(url).filter(|(_, path)| !path.contains('?')).ok_or_else(|| INVALID_URL.to_owned())?;
    let folder = clean(&path);
    let http = Http { tls: tls::towards_strangers(), dial: waits.discovery_dial, proxy };
    let mut discovery = Discovery { http, target, folder, me, url, waits, failures: 0 };
    discovery.join(own).await
}

/// What the log says of a failure, as etcd 3.5 does.
pub(crate) fn explain(why: &str, url: &str, config: &Config) {
    match why {
        DUPLICATE_ID => {
            warn!(name = %config.name, "discovery-token" = url, error = why, "member has been registered with discovery service");
            warn!("data-dir" = %config.data_dir.display(), "but could not find valid cluster configuration");
            warn!("check data dir if previous bootstrap succeeded");
            warn!("or use a new discovery token if previous bootstrap failed");
        }
        DUPLICATE_NAME => {
            warn!(
                "discovery-token" = url,
                error = why,
                "member with duplicated name has already been registered"
            );
            warn!("cURL the discovery token URL for details");
            warn!("do not reuse discovery token; generate a new one to bootstrap a cluster");
        }
        _ => {
            warn!(
                "discovery-token" = url,
                error = why,
                "failed to bootstrap; discovery token was already used"
            );
            warn!("do not reuse discovery token; generate a new one to bootstrap a cluster");
        }
    }
}

struct Discovery<'a> {
    http: Http,
    target: Target,
    /// The path of the URL: where the members are.
    folder: String,
    me: MemberId,
    url: &'a str,
    waits: Waits,
    /// In a row.
    failures: u32,
}

/// A key of the API, as far as we read it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    nodes: Vec<Node>,
    #[serde(default)]
    created_index: u64,
    #[serde(default)]
    modified_index: u64,
}

impl Node {
    fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
struct Success {
    #[serde(default)]
    node: Node,
}

/// The API's error.
#[derive(Debug, Default, Deserialize, thiserror::Error)]
#[error("{code}: {message} ({cause}) [{index}]")]
#[serde(default)]
struct ApiError {
    #[serde(rename = "errorCode")]
    code: i64,
    message: String,
    cause: String,
    index: u64,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The service is away or has no leader: worth another try, where etcd tries again.
    #[error("client: etcd cluster is unavailable or misconfigured; error #0: {0}\n")]
    Away(String),
    #[error("context deadline exceeded")]
    Timeout,
    #[error("{0}")]
    Api(ApiError),
    #[error("{INVALID_JSON}")]
    Json,
    /// An answer without a body: a watch that took too long.
    #[error("client: response body is empty")]
    Empty,
}

/// Who is there as of an index.
struct Found {
    /// In the order of their registration.
    members: Vec<Node>,
    size: usize,
    index: u64,
}

/// What a look at the service comes to.
enum Look {
    There(Found),
    Again(Failure),
    Never(String),
}

impl Discovery<'_> {
    async fn join(&mut self, own: &str) -> Result<String, String> {
        // A full cluster is seen before anything is written.
        self.check().await?;
        self.register(own).await?;
        let found = self.check().await?;
        let (members, size) = self.wait(found).await?;
        let list: Vec<&str> = members.iter().map(|node| node.value.as_str()).collect();
        let list = list.join(",");
        match MemberList::parse(&list) {
            Err(_) => Err(INVALID_URL.to_owned()),
            Ok(parsed) if parsed.len() != size => Err(DUPLICATE_NAME.to_owned()),
            Ok(_) => Ok(list),
        }
    }

    /// Creates our key, which nobody may have made before, and sees it at the server.
    async fn register(&mut self, own: &str) -> Result<(), String> {
        let key = self.own_key();
        let put = Ask {
            method: hyper::Method::PUT,
            path: format!("{key}?prevExist=false"),
            form: Some(format!("value={}", escaped(own))),
        };
        let node = match self.keys(put, self.waits.discovery).await {
            Ok((node, _)) => node,
            Err(Failure::Api(error)) if error.code == NODE_EXISTS => {
                return Err(DUPLICATE_ID.to_owned());
            }
            // Tried once only: a second PUT would find the first.
            Err(Failure::Away(why)) => return Err(why),
            Err(failure) => return Err(failure.to_string()),
        };
        self.next(&key, node.created_index, false).await.map(drop).map_err(|e| e.to_string())
    }

    async fn check(&mut self) -> Result<Found, String> {
        let found = loop {
            match self.look().await {
                Look::There(found) => break found,
                Look::Never(why) => return Err(why),
                Look::Again(failure) => self.rest("cluster status check", &failure).await,
            }
        };
        let own = self.me.to_string();
        let first = &found.members[..found.members.len().min(found.size)];
        if found.members.len() < found.size || first.iter().any(|node| node.name() == own) {
            Ok(found)
        } else {
            Err(FULL_CLUSTER.to_owned())
        }
    }

    async fn look(&mut self) -> Look {
        let size = clean(&format!("{}/_config/size", self.folder));
        let size = match self.keys(get(&size), self.waits.discovery).await {
            Ok((node, _)) => node.value.parse::<usize>().ok(),
            Err(Failure::Json) => return Look::Never(BAD_ENDPOINT.to_owned()),
            Err(failure @ Failure::Away(_)) => return Look::Again(failure),
            Err(failure) => return Look::Never(failure.to_string()),
        };
        let Some(size) = size.filter(|size| (1..=DISCOVERY_MEMBERS_MAX).contains(size)) else {
            return Look::Never(BAD_SIZE.to_owned());
        };
        match self.keys(get(&self.folder), self.waits.discovery).await {
            Ok((node, index)) => {
                let others = node.nodes.into_iter().filter(|node| node.name() != "_config");
                let mut members: Vec<Node> = others.collect();
                members.sort_by_key(|node| node.created_index);
                Look::There(Found { members, size, index })
            }
            Err(failure @ Failure::Away(_)) => Look::Again(failure),
            Err(failure) => Look::Never(failure.to_string()),
        }
    }

    /// Waits until as many are there as shall be.
    async fn wait(&mut self, mut found: Found) -> Result<(Vec<Node>, usize), String> {
        loop {
            found.members.truncate(found.size);
            let mut at = found.index + 1;
            for node in &found.members {
                info!(
                    "discovery-url" = self.url,
                    peer = node.name(),
                    "found peer from discovery server"
                );
            }
            let failure = loop {
                if found.members.len() >= found.size {
                    info!(
                        "discovery-url" = self.url,
                        "found-peers" = found.members.len(),
                        "found all needed peers from discovery server"
                    );
                    return Ok((found.members, found.size));
                }
                info!(
                    "discovery-url" = self.url,
                    "found-peers" = found.members.len(),
                    "needed-peers" = found.size - found.members.len(),
                    "found peers from discovery server; waiting for more"
                );
                match self.next(&self.folder.clone(), at, true).await {
                    Ok(node) => {
                        info!(
                            "discovery-url" = self.url,
                            peer = node.name(),
                            "found peer from discovery server"
                        );
                        at = node.modified_index + 1;
                        found.members.push(node);
                    }
                    Err(failure @ Failure::Away(_)) => break failure,
                    Err(failure) => return Err(failure.to_string()),
                }
            };
            self.rest("waiting for other nodes", &failure).await;
            found = self.check().await?;
        }
    }

    /// The next change at `index` or later; the server may end the wait many times before.
    async fn next(&self, key: &str, index: u64, recursive: bool) -> Result<Node, Failure> {
        let path = format!("{key}?recursive={recursive}&wait=true&waitIndex={index}");
        loop {
            match self.keys(Ask::get(path.clone()), self.waits.poll).await {
                Ok((node, _)) => return Ok(node),
                Err(Failure::Empty | Failure::Timeout) => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    /// One call, with the redirections that it leads to: the node, and the index of the store.
    async fn keys(&self, ask: Ask, within: Duration) -> Result<(Node, u64), Failure> {
        let (mut target, mut ask) = (self.target.clone(), ask);
        let mut answer = self.one(&target, ask.clone(), within).await?;
        for _ in 0..REDIRECTS_MAX {
            let Some(to) = answer.location() else { return read(&answer) };
            let Some((next, path)) = split(to) else {
                let why = if to.is_empty() {
                    "location header not set".to_owned()
                } else {
                    format!("location header not valid URL: {to}")
                };
                return Err(Failure::Away(why));
            };
            (target, ask.path) = (next, path);
            answer = self.one(&target, ask.clone(), within).await?;
        }
        if answer.location().is_some() {
            return Err(Failure::Away("client: too many redirects".to_owned()));
        }
        read(&answer)
    }

    async fn one(&self, target: &Target, ask: Ask, within: Duration) -> Result<Answer, Failure> {
        match self.http.ask(target, ask, within).await {
            Ok(answer) if answer.status.is_server_error() => Err(Failure::Away(format!(
                "client: etcd member {} has no leader or fails [{}]",
                self.url, answer.status
            ))),
            Ok(answer) => Ok(answer),
            Err(HttpError::Timeout) => Err(Failure::Timeout),
            Err(error) => Err(Failure::Away(error.to_string())),
        }
    }

    fn own_key(&self) -> String {
        clean(&format!("{}/{}", self.folder, self.me))
    }

    async fn rest(&mut self, step: &str, why: &Failure) {
        self.failures = self.failures.saturating_add(1);
        let backoff = self.waits.rest_after(self.failures);
        warn!("discovery-url" = self.url, error = %why, "failed to get from discovery server");
        info!(url = self.url, reason = step, backoff = ?backoff, "retry connecting to discovery service");
        sleep(backoff).await;
    }
}

fn get(key: &str) -> Ask {
    Ask::get(format!("{key}?quorum=false&recursive=false&sorted=false"))
}

fn read(answer: &Answer) -> Result<(Node, u64), Failure> {
    if !matches!(answer.status.as_u16(), 200 | 201) {
        let error = serde_json::from_slice(&answer.body);
        return Err(error.map_or(Failure::Json, Failure::Api));
    }
    if answer.body.is_empty() {
        return Err(Failure::Empty);
    }
    let success: Success = serde_json::from_slice(&answer.body).map_err(|_| Failure::Json)?;
    let index = answer.header("X-Etcd-Index").parse().unwrap_or(0);
    Ok((success.node, index))
}

/// A URL's place, and its path with the query.
fn split(url: &str) -> Option<(Target, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    if url.bytes().any(|b| b.is_ascii_control() || b == b' ' || b == b'#' || b >= 0x80) {
        return None;
    }
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    if authority.is_empty() || authority.contains(['@', '?']) {
        return None;
    }
    Some((Target::authority(tls, authority)?, path.to_owned()))
}

/// A path without doubled slashes, `.`, `..`, or a slash at its end (Go's `path.Clean` of a rooted
/// one).
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A value in a form (Go's `url.QueryEscape`).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_place_and_a_path() {
        let of = |url: &str| split(url);
        let (target, path) = of("http://h:2379/v2/keys/_etcd/registry/t").expect("it is one");
        assert_eq!(
            (target, path.as_str()),
            (Target::tcp(false, "h", 2379), "/v2/keys/_etcd/registry/t")
        );
        assert_eq!(of("https://h/x").expect("usual port").0, Target::tcp(true, "h", 443));
        assert_eq!(of("http://[::1]:1/x").expect("v6").0, Target::tcp(false, "::1", 1));
        for wrong in [
            "",
            "h/x",
            "ftp://h/x",
            "http:///x",
            "http://u@h/x",
            "http://h:x/",
            "http://h/ x",
            "http://h?x",
        ] {
            assert!(of(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn paths_and_values_are_written_as_go_writes_them() {
        assert_eq!(clean("//a/./b//../c/"), "/a/c");
        assert_eq!(clean("/../.."), "/");
        assert_eq!(escaped("m 1=http://h:1,b"), "m+1%3Dhttp%3A%2F%2Fh%3A1%2Cb");
    }
}
