//! What may go together: etcd's checks in etcd's order and words, then this release's refusals.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::build::{NAME_DEFAULT, Source};
use crate::config::{Config, TlsFiles, TlsVersion};
use crate::settings::{Value, default_of};
use crate::table::{self, Flag, Status};
use crate::{Gate, Invalid, Notice, Url, number};

/// Checks everything that no single value can tell.
///
/// # Errors
///
/// The first rule that is broken.
pub(crate) fn check(
    config: &Config,
    source: &Source,
    notices: &mut Vec<Notice>,
) -> Result<(), Invalid> {
    for (name, words) in table::DEPRECATED {
        if source.settings.is_set(name) {
            notices.push(Notice::warn(*words));
        }
    }
    listeners(config)?;
    advertised(config)?;
    bootstrap(config, source)?;
    times(config)?;
    features(config, source, notices)?;
    tls(config, source, notices)?;
    refusals(source, notices)?;
    sizes(config, notices);
    if config.name == NAME_DEFAULT {
        notices.push(Notice::warn(
            "it isn't recommended to use default name, please set a value for --name. Note that \
             etcd might run into issue when multiple members have the same default name",
        ));
    }
    Ok(())
}

fn wrong(text: impl Into<String>) -> Result<(), Invalid> {
    Err(Invalid(text.into()))
}

/// A listener is an address of this machine or `localhost`, never another name.
fn listeners(config: &Config) -> Result<(), Invalid> {
    let lists = [
        &config.listen_peer_urls,
        &config.listen_client_urls,
        &config.listen_client_http_urls,
        &config.listen_metrics_urls,
    ];
    for url in lists.into_iter().flatten().filter(|url| url.socket_path().is_none()) {
        if url.host() != "localhost" && url.host().parse::<IpAddr>().is_err() {
            return wrong(format!("expected IP in URL for binding ({url})"));
        }
    }
    if config.listen_client_urls.is_empty() {
        return wrong("--listen-client-urls must name at least one URL");
    }
    let place =
        |url: &Url| (url.host().to_owned(), url.port(), url.socket_path().map(str::to_owned));
    let both = |url: &&Url| {
        // Port 0 is another one each time.
        let fixed = url.port() != 0 || url.socket_path().is_some();
        fixed && config.listen_client_urls.iter().any(|other| place(other) == place(url))
    };
    if let Some(url) = config.listen_client_http_urls.iter().find(both) {
        return wrong(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url \
             {url}"
        ));
    }
    if config.listen_peer_urls.is_empty() {
        return wrong("--listen-peer-urls must name at least one URL");
    }
    Ok(())
}

fn advertised(config: &Config) -> Result<(), Invalid> {
    let nameless = |urls: &[Url]| {
        urls.iter().find(|url| url.socket_path().is_none() && url.host().is_empty()).cloned()
    };
    let list = |urls: &[Url]| urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",");
    if let Some(url) = nameless(&config.initial_advertise_peer_urls) {
        let all = list(&config.initial_advertise_peer_urls);
        return wrong(format!(
            "--initial-advertise-peer-urls {all:?} must be \"host:port\" (unexpected empty host ({url}))"
        ));
    }
    if let Some(url) = nameless(&config.advertise_client_urls) {
        let all = list(&config.advertise_client_urls);
        return wrong(format!(
            "--advertise-client-urls {all:?} must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host ({url}))"
        ));
    }
    Ok(())
}

fn bootstrap(config: &Config, source: &Source) -> Result<(), Invalid> {
    let endpoints = &config.discovery.endpoints;
    let has_url = !config.discovery_url.is_empty();
    let ways = [
        !config.initial_cluster.is_empty(),
        !config.discovery_srv.is_empty(),
        !endpoints.is_empty(),
        has_url,
    ];
    if ways.into_iter().filter(|on| *on).count() > 1 {
        // In the words of the release that had the flag.
        let services = if has_url { "discovery" } else { "discovery-endpoints" };
        return wrong(format!(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"{services}\" or \"discovery-srv\""
        ));
    }
    if config.discovery.token.is_empty() != endpoints.is_empty() {
        return wrong("both --discovery-token and --discovery-endpoints must be set");
    }
    if endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return wrong("--discovery-endpoints must not contain empty endpoints");
    }
    if source.text("discovery-fallback") == "proxy" {
        return wrong(
            "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"",
        );
    }
    Ok(())
}

fn times(config: &Config) -> Result<(), Invalid> {
    let (beat, election) =
        (config.heartbeat_interval.as_millis(), config.election_timeout.as_millis());
    if beat == 0 {
        return wrong("--heartbeat-interval must be >0 (set to 0ms)");
    }
    if election == 0 {
        return wrong("--election-timeout must be >0 (set to 0ms)");
    }
    if 5 * beat > election {
        return wrong(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{beat}ms]"
        ));
    }
    if config.election_timeout > ELECTION_TIMEOUT_MAX {
        return wrong(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {}ms",
            ELECTION_TIMEOUT_MAX.as_millis()
        ));
    }
    if config.advertise_client_urls.is_empty() {
        return wrong(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        );
    }
    Ok(())
}

fn features(config: &Config, source: &Source, notices: &mut Vec<Notice>) -> Result<(), Invalid> {
    let rate = source.int("distributed-tracing-sampling-rate");
    if source.on("enable-distributed-tracing") && !(0..=1_000_000).contains(&rate) {
        return wrong(format!(
            "distributed tracing configurition is not valid: (sampling rate {rate} must be \
             between 0 and 1000000)"
        ));
    }
    match (config.gates.on(Gate::LeaseCheckpoint), config.gates.on(Gate::LeaseCheckpointPersist)) {
        (false, true) => {
            return wrong(
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
                 LeaseCheckpoint",
            );
        }
        (true, false) => notices.push(Notice::warn(
            "Detected that checkpointing is enabled without persistence. Consider enabling \
             feature gate LeaseCheckpointPersist",
        )),
        _ => {}
    }
    if config.lease_checkpoint_interval < LEASE_CHECKPOINT_INTERVAL_MIN {
        return wrong(format!(
            "--lease-checkpoint-interval={} must be at least {}",
            number::show(config.lease_checkpoint_interval),
            number::show(LEASE_CHECKPOINT_INTERVAL_MIN)
        ));
    }
    if config.backend.quota_auto_disarm_percent > QUOTA_AUTO_DISARM_PERCENT_MAX {
        return wrong(format!(
            "--quota-auto-disarm-percent={} must be at most {QUOTA_AUTO_DISARM_PERCENT_MAX}",
            config.backend.quota_auto_disarm_percent
        ));
    }
    for gate in Gate::all().filter(|gate| !gate.works()) {
        let on = config.gates.on(gate);
        if on != gate.default_on() {
            notices.push(Notice::warn(format!(
                "--feature-gates={}={on} has no effect in this release",
                gate.name()
            )));
        }
    }
    Ok(())
}

fn tls(config: &Config, source: &Source, notices: &mut Vec<Notice>) -> Result<(), Invalid> {
    if let Some(max) = config.tls_max_version
        && config.tls_min_version > max
    {
        return wrong(format!(
            "min version ({}) is greater than max version ({})",
            source.text("tls-min-version"),
            source.text("tls-max-version")
        ));
    }
    let no_suite = config.cipher_suites.as_ref().is_some_and(Vec::is_empty);
    if no_suite && config.tls_max_version == Some(TlsVersion::V12) {
        return wrong(
            "--cipher-suites names no suite of TLS1.2, and --tls-max-version allows no other version",
        );
    }
    let (cns, hostnames) = (&config.peer_tls.allowed_cns, &config.peer_tls.allowed_hostnames);
    if !cns.is_empty() && !hostnames.is_empty() {
        let quoted = |names: &[String]| {
            names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" ")
        };
        return wrong(format!(
            "AllowedCNs and AllowedHostnames are mutually exclusive (cns=[{}], hostnames=[{}])",
            quoted(cns),
            quoted(hostnames)
        ));
    }
    let (cert, key) = (&config.peer_tls.client_cert, &config.peer_tls.client_key);
    if cert.is_some() != key.is_some() {
        let shown = |path: &Option<PathBuf>| {
            path.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
        };
        return wrong(format!(
            "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, cert: \
             {}]",
            shown(key),
            shown(cert)
        ));
    }
    for (side, files) in [("", &config.client_tls), ("peer-", &config.peer_tls)] {
        if files.cert.is_some() != files.key.is_some() {
            return wrong(format!(
                "KeyFile and CertFile must both be present: --{side}cert-file and --{side}key-file"
            ));
        }
    }
    own_certificates(config)?;
    https_has_certificates(config)?;
    let clients = [&config.listen_client_urls[..], &config.listen_client_http_urls].concat();
    plain_beside_tls("peer", &config.listen_peer_urls, &config.peer_tls, notices);
    plain_beside_tls("client", &clients, &config.client_tls, notices);
    Ok(())
}

/// `--auto-tls` and `--peer-auto-tls`; and that what lets in clients by name is asked of them.
fn own_certificates(config: &Config) -> Result<(), Invalid> {
    for (side, files) in [("", &config.client_tls), ("peer-", &config.peer_tls)] {
        let checks = files.requires_caller_cert()
            || files.crl.is_some()
            || !files.allowed_cns.is_empty()
            || !files.allowed_hostnames.is_empty();
        if files.auto && checks {
            return wrong(format!(
                "--{side}auto-tls makes a certificate that nobody vouches for, and asks callers for \
                 none: it cannot be combined with flags that check the certificates of callers \
                 (--{side}trusted-ca-file and others); etcd would pass over them"
            ));
        }
    }
    let clients = &config.client_tls;
    if !clients.allowed_hostnames.is_empty() && !clients.requires_caller_cert() {
        return wrong(
            "--client-cert-allowed-hostname needs --trusted-ca-file: without it clients are asked \
             for no certificate, and etcd would let in everybody",
        );
    }
    let makes_own = config.client_tls.auto || config.peer_tls.auto;
    if makes_own && config.self_signed_cert_validity == 0 {
        return wrong(
            "selfSignedCertValidity is invalid,it should be greater than 0: \
             --self-signed-cert-validity",
        );
    }
    Ok(())
}

/// Every listener that encrypts has something to show.
fn https_has_certificates(config: &Config) -> Result<(), Invalid> {
    let lacks = |urls: &[Url], files: &TlsFiles| {
        let bare = files.cert.is_none() && !files.auto;
        urls.iter().find(|url| bare && url.is_tls()).map(Url::to_string)
    };
    if let Some(url) = lacks(&config.listen_peer_urls, &config.peer_tls) {
        return wrong(format!(
            "TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url {url} \
             with HTTPS scheme"
        ));
    }
    let clients = [&config.listen_client_urls[..], &config.listen_client_http_urls].concat();
    if let Some(url) = lacks(&clients, &config.client_tls) {
        return wrong(format!(
            "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with \
             HTTPS scheme"
        ));
    }
    if let Some(url) = lacks(&config.listen_metrics_urls, &config.client_tls) {
        return wrong(format!(
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure \
             url {url}"
        ));
    }
    Ok(())
}

/// Plain listeners beside certificates work as plain ones; etcd only warns, and so do we.
fn plain_beside_tls(side: &str, urls: &[Url], files: &TlsFiles, notices: &mut Vec<Notice>) {
    for url in urls.iter().filter(|url| !url.is_tls()) {
        if files.cert.is_some() {
            notices.push(Notice::warn(format!(
                "scheme is http or unix while key and cert files are present; ignoring key and \
                 cert files for {side} url {url}"
            )));
        }
        if files.cert_auth {
            notices.push(Notice::warn(format!(
                "scheme is http or unix while client cert auth is enabled; ignoring client cert \
                 auth for {side} url {url}"
            )));
        }
    }
}

/// What etcd can and this release cannot. Flags that restrict access or decide identity,
/// membership or placement stop the start; others are warned about.
fn refusals(source: &Source, notices: &mut Vec<Notice>) -> Result<(), Invalid> {
    for flag in table::all() {
        let value = source.settings.value(flag);
        if value == default_of(flag) || !source.settings.is_set(flag.name) {
            continue;
        }
        match flag.status {
            Status::Refused => return wrong(unsupported(flag, &value)),
            Status::Tunes if flag.name != "v2-deprecation" => notices.push(Notice::warn(format!(
                "--{}={value} has no effect in this release",
                flag.name
            ))),
            _ => {}
        }
    }
    Ok(())
}

fn unsupported(flag: &Flag, value: &Value) -> String {
    let shown = if flag.name.contains("password") { "..." } else { &value.to_string() };
    format!("--{}={shown} is not supported in this release", flag.name)
}

/// Sizes that work but that etcd warns about.
fn sizes(config: &Config, notices: &mut Vec<Notice>) {
    if config.backend.quota_bytes.is_some_and(|bytes| bytes > QUOTA_BYTES_SUGGESTED_MAX) {
        notices.push(Notice::warn("quota exceeds the suggested maximum of 8 GiB"));
    }
    if config.max_request_bytes > REQUEST_BYTES_SUGGESTED_MAX {
        notices.push(Notice::warn(format!(
            "exceeded recommended request limit: --max-request-bytes={} is more than 10 MiB",
            config.max_request_bytes
        )));
    }
    if config.unsafe_no_fsync {
        notices.push(Notice::warn(
            "--unsafe-no-fsync is set: a crash of the machine will lose acknowledged writes",
        ));
    }
    if config.warning_apply_duration.is_zero() {
        notices.push(Notice::warn(format!(
            "--warning-apply-duration={} logs every apply",
            number::show(config.warning_apply_duration)
        )));
    }
}

/// Longer election timeouts are refused (etcd's `maxElectionMs`).
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(50_000);
/// Closer to the quota an alarm would come and go with every few writes.
const QUOTA_AUTO_DISARM_PERCENT_MAX: u64 = 95;
/// What is left of a lease is told in whole seconds.
const LEASE_CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_secs(1);
const QUOTA_BYTES_SUGGESTED_MAX: u64 = 8 << 30;
const REQUEST_BYTES_SUGGESTED_MAX: u64 = 10 << 20;
