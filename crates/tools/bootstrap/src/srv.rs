//! First members from DNS: `--discovery-srv` (etcd's `client/pkg/srv`).

use std::net::SocketAddr;

use mainstay_config::{Config, Url};
use mainstay_log::json_strings;
use tracing::{info, warn};

use crate::names::Names;

/// The list of members, `name=url,...`, from the records for TLS and those without.
///
/// # Errors
/// When neither names a member; one line for each kind.
pub(crate) async fn members<N: Names>(config: &Config, names: &N) -> Result<String, String> {
    let suffix = match config.discovery_srv_name.as_str() {
        "" => String::new(),
        name => format!("-{name}"),
    };
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for (scheme, base) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let service = format!("{base}{suffix}");
        let one = of_service(config, names, scheme, &service).await;
        info!(
            "service-scheme" = scheme,
            "service-name" = %service,
            "server-name" = %config.name,
            "discovery-srv" = %config.discovery_srv,
            "found-cluster.json" = %json_strings(one.as_deref().unwrap_or_default()),
            error = one.as_ref().err().map(tracing::field::display),
            "get cluster for {base} SRV"
        );
        match one {
            Ok(members) => found.extend(members),
            Err(error) => errors.push(error),
        }
    }
    let error = errors.join("\n");
    if !error.is_empty() {
        warn!(error = %error, "failed to resolve during SRV discovery");
    }
    if found.is_empty() {
        return Err(error);
    }
    for node in &found {
        info!(node = %node, "got bootstrap from DNS for etcd-server");
    }
    Ok(found.join(","))
}

/// The members that one kind of record names. The record that leads to where this member is
/// advertised gets its name, others get numbers: the names of the others are not known, and
/// identities do not need them.
async fn of_service<N: Names>(
    config: &Config,
    names: &N,
    scheme: &str,
    service: &str,
) -> Result<Vec<String>, String> {
    let mut own = Vec::new();
    for url in &config.initial_advertise_peer_urls {
        own.push((address(names, url.host(), url.port()).await?, url));
    }
    let about = |why: String| format!("error querying DNS SRV records for _{service} {why}");
    let records = names.services(service, &config.discovery_srv).await.map_err(about)?;
    let (mut members, mut error, mut number) = (Vec::new(), String::new(), 0);
    for record in &records {
        let place = match address(names, &record.target, record.port).await {
            Ok(place) => place,
            Err(why) => {
                error = why;
                continue;
            }
        };
        let mine: Option<&Url> =
            own.iter().rev().find(|(known, _)| *known == place).map(|(_, url)| *url);
        let name = if mine.is_some() && !config.name.is_empty() {
            config.name.clone()
        } else {
            number += 1;
            (number - 1).to_string()
        };
        // A record's name ends with a dot, a URL's must not.
        let host = record.target.strip_suffix('.').unwrap_or(&record.target);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("{scheme}://{host}:{}", record.port);
        match mine.filter(|own| own.as_str().split(':').next() != Some(scheme)) {
            Some(own) => {
                error = format!(
                    "bootstrap at {url} from DNS for {service} has scheme mismatch with expected \
                     peer {own}"
                );
            }
            None => members.push(format!("{name}={url}")),
        }
    }
    if members.is_empty() && !error.is_empty() { Err(about(error)) } else { Ok(members) }
}

/// The address of a host, IPv4 before IPv6 (Go's `ResolveTCPAddr`).
async fn address<N: Names>(names: &N, host: &str, port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = host.parse() {
        return Ok(SocketAddr::new(address, port));
    }
    let found = names.addresses(host, port).await?;
    let best = found.iter().find(|address| address.is_ipv4()).unwrap_or(&found[0]);
    Ok(SocketAddr::new(*best, port))
}
