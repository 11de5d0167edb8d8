//! The members of the new cluster, from flags, as etcd reads and checks them.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mainstay_backup::{Founders, FoundersError};
use mainstay_config::Url;

/// How long a name may take to become known (etcd: 30 s).
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions for a name (etcd: 1 s).
const REST: Duration = Duration::from_secs(1);

/// Reads the flags of a restore and checks them in etcd's order.
///
/// # Errors
/// In etcd's words.
pub(super) fn founders(
    name: &str,
    advertised: &str,
    initial_cluster: &str,
    token: &str,
) -> Result<Founders, String> {
    let mut own = advertised.split(',').map(url).collect::<Result<Vec<Url>, String>>()?;
    own.sort();
    let mut by_name = BTreeMap::<String, Vec<Url>>::new();
    for part in initial_cluster.split(',').filter(|part| !part.is_empty()) {
        let (of, text) = part.split_once('=').unwrap_or((part, ""));
        by_name.entry(of.to_owned()).or_default().push(url(text)?);
    }
    by_name.values_mut().for_each(|urls| urls.sort());
    let Some(listed) = by_name.get(name) else {
        return Err(FoundersError::NotListed(name.to_owned()).to_string());
    };
    advertises(name, &own, listed)?;
    let texts = |urls: &Vec<Url>| urls.iter().map(Url::to_string).collect();
    let by_name = by_name.iter().map(|(name, urls)| (name.clone(), texts(urls))).collect();
    Founders::new(&by_name, token, name).map_err(|error| error.to_string())
}

fn url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| error.to_string())
}

/// Whether the member is listed with the URLs that it advertises (etcd,
/// `advertiseMatchesCluster`).
fn advertises(name: &str, advertised: &[Url], listed: &[Url]) -> Result<(), String> {
    let Err(why) = same_places(advertised, listed) else { return Ok(()) };
    let lacking = |these: &[Url], those: &[Url]| -> Vec<String> {
        these.iter().filter(|url| !those.contains(url)).map(Url::to_string).collect()
    };
    let named = |urls: &[String]| -> String {
        urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
    };
    let all: Vec<String> = advertised.iter().map(Url::to_string).collect();
    let (extra, missing) = (lacking(listed, advertised), lacking(advertised, listed));
    Err(if !extra.is_empty() {
        format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({why})",
            named(&extra),
            all.join(",")
        )
    } else if !missing.is_empty() {
        format!(
            "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
            missing.join(","),
            named(&all)
        )
    } else {
        let listed = named(&all);
        format!("failed to resolve {} to match --initial-cluster={listed} ({why})", all.join(","))
    })
}

/// Whether two lists are the same as they stand, else with names resolved (etcd,
/// `URLStringsEqual`).
fn same_places(a: &[Url], b: &[Url]) -> Result<(), String> {
    let quoted = |urls: &[Url]| {
        let texts: Vec<String> = urls.iter().map(|url| format!("{:?}", url.as_str())).collect();
        format!("[{}]", texts.join(" "))
    };
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", quoted(a), quoted(b)));
    }
    if a.iter().map(plain).eq(b.iter().map(plain)) {
        return Ok(());
    }
    let until = Instant::now() + PATIENCE;
    let resolved = |urls: &[Url]| -> Result<Vec<Url>, String> {
        let mut out = urls.iter().map(|url| resolve(url, until)).collect::<Result<Vec<_>, _>>()?;
        out.sort();
        Ok(out)
    };
    let (a, b) = (resolved(a)?, resolved(b)?);
    match a.iter().zip(&b).find(|(a, b)| plain(a) != plain(b)) {
        None => Ok(()),
        Some((a, b)) => Err(format!("resolved urls: {:?} != {:?}", a.as_str(), b.as_str())),
    }
}

/// The URL with the address of its host; `localhost` and sockets stay as they are.
fn resolve(url: &Url, until: Instant) -> Result<Url, String> {
    if url.socket_path().is_some() || url.host() == "localhost" {
        return Ok(url.clone());
    }
    if let Ok(address) = url.host().parse::<IpAddr>() {
        return Ok(url.with_host(&address.to_string()));
    }
    loop {
        let why = match (url.host(), url.port()).to_socket_addrs() {
            Ok(mut found) => match found.next() {
                Some(address) => return Ok(url.with_host(&address.ip().to_string())),
                None => format!("lookup {}: no such host", url.host()),
            },
            Err(error) => format!("lookup {}: {error}", url.host()),
        };
        if Instant::now() + REST >= until {
            return Err(format!("failed to resolve {:?} ({why})", url.as_str()));
        }
        sleep(REST);
    }
}

/// Two spellings of an address are one.
fn plain(url: &Url) -> Url {
    match url.host().parse::<IpAddr>() {
        Ok(address) => url.with_host(&address.to_string()),
        Err(_) => url.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::founders;

    #[test]
    fn flags_are_read_as_etcd_reads_them() {
        let cluster = "b=http://10.0.0.2:2380,,a=http://10.0.0.1:1,a=http://10.0.0.1:2";
        let two = founders("a", "http://10.0.0.1:2, http://10.0.0.1:1", cluster, "t");
        assert_eq!(two.expect("it fits").members().len(), 2);
        let refused = |name, own, cluster| founders(name, own, cluster, "t").expect_err("refused");
        let here = "http://127.0.0.1:1";
        for (name, own, cluster, why) in [
            (
                "c",
                here,
                "a=http://127.0.0.1:1",
                "couldn't find local name \"c\" in the initial cluster configuration",
            ),
            (
                "a",
                "http://localhost:2380",
                "a=http://127.0.0.1:1",
                "--initial-cluster has a=http://127.0.0.1:1 but missing from \
              --initial-advertise-peer-urls=http://localhost:2380 (resolved urls: \
              \"http://localhost:2380\" != \"http://127.0.0.1:1\")",
            ),
            (
                "a",
                "http://127.0.0.1:1,http://127.0.0.1:2",
                "a=http://127.0.0.1:1",
                "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from \
              --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2",
            ),
            (
                "a",
                here,
                "a=http://127.0.0.1:1,b=http://127.0.0.1:1",
                "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
            ),
            ("a", "", "a=http://127.0.0.1:1", "URL scheme must be http, https, unix, or unixs: "),
            ("a", here, "a", "URL scheme must be http, https, unix, or unixs: "),
        ] {
            assert_eq!(refused(name, own, cluster), why);
        }
    }
}
