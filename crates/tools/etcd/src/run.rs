//! Boots the member, serves it, and takes it down again.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_bootstrap::MemberList;
use mainstay_config::{AutoCompaction, Config, Gate, TlsFiles, TlsVersion, Url};
use mainstay_driver::{Driver, Founding, Handle, Options};
use mainstay_env_os::{OsClock, OsDice, OsDisk};
use mainstay_log::json_strings;
use mainstay_membership::Member;
use mainstay_peer::PeerTransport;
use mainstay_server::{
    Access, Allowed, Bridge, ClientTls, Expiry, Feature, Keepalive, Login, Server, ServerConfig,
    Serving, Sockets, TlsError,
};
use signal_hook::consts::{SIGINT, SIGTERM};
use tokio::signal::unix::{SignalKind, signal};

use crate::{audit, checks, self_made, tokens};

/// How long requests under way may take to end after a signal (the whole end is
/// expected within 1.5 s).
const LAST_REQUESTS: Duration = Duration::from_millis(800);

/// How long a member that was removed stays for its last messages (etcd: 1 s).
const REMOVED_DELAY: Duration = Duration::from_secs(1);

/// How long a member whose db or log is damaged asks the others: they may be starting, too.
const REPAIR_PATIENCE: Duration = Duration::from_secs(60);

/// Why the member ended.
enum End {
    Signal(i32),
    /// By itself, for this reason.
    Failed(String),
}

/// Runs until a signal stops the member; then the process ends by that signal. `greet` is called
/// once the member serves, with whether this start made it.
///
/// # Errors
///
/// When the member cannot be booted, its listeners cannot be opened, or it had to
/// stop by itself.
pub(crate) fn run(
    config: &Config,
    greet: impl FnOnce(&Config, bool),
) -> Result<(), Box<dyn Error>> {
    let mut options = options(config);
    checks::descriptors()?;
    checks::data_dir(&config.data_dir)?;
    checks::privacy(&options);
    let mut config = config.clone();
    self_made::certificates(&mut config)?;
    let config = &config;
    let login = tokens::login(config)?;
    options.simple_token_ttl = login.simple_ttl;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let clock = Arc::new(OsClock::new());
    // Before the member boots: a start that fails for an address in use must not have founded one.
    let expiry = Arc::<Expiry>::default();
    let sockets = Sockets::bind(server_config(config, &expiry))?;
    let peer_sockets = Sockets::bind(peer_server_config(config, &expiry))?;
    let trail = audit::start(config.audit.as_ref())?;
    if let Some(founding) = checks::founding(config, &options)? {
        options.founding = founding;
    }
    let transport = PeerTransport::start(peer_options(config), dialing_tls(config, &expiry)?)?;
    let as_transport = Arc::clone(&transport);
    let mut driver =
        Driver::start(options, Arc::new(OsDisk), clock, &mut OsDice::new(), as_transport)?;
    // Until here a signal ends the process at once, as in etcd: a boot may take long, and every
    // step of it can be cut short.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let handle = driver.handle();
    transport.attach(Arc::new(handle.clone()));
    let bridge = bridge(config, &handle, login.login);
    // The others are needed before clients can be served.
    let peers = Server::over(peer_sockets, bridge.clone()).with_raft(transport.face());
    let peer_urls = peers.peer_urls();
    let peers = peers.serve_on(|guest| transport.host(guest))?;
    let server =
        Server::over(sockets, bridge).with_network(transport.stats()).with_audit(trail.clone());
    let end = async {
        tokio::select! {
            _ = terminate.recv() => End::Signal(SIGTERM),
            _ = interrupt.recv() => End::Signal(SIGINT),
            reason = handle.stopped() => End::Failed(reason),
        }
    };
    let (serving, end) = runtime.block_on(async {
        tokio::pin!(end);
        tokio::select! {
            end = &mut end => return Ok((None, end)),
            () = driver.ready() => {}
        }
        let bound = Bound::of(&server, peer_urls);
        let serving = server.serve()?;
        announce(config, &driver, &bound);
        greet(config, driver.is_new());
        Ok::<_, std::io::Error>((Some(serving), end.await))
    })?;
    let led = handle.leads() && handle.membership().voters().len() > 1;
    runtime.block_on(before_the_end(config, &end, &handle));
    let is_handed_over = led && matches!(end, End::Signal(_));
    close_listeners(config, serving, is_handed_over);
    driver.stop();
    transport.stop();
    peers.shutdown(Duration::ZERO);
    runtime.block_on(audit::finish(trail, LAST_REQUESTS));
    conclude(config, end)
}

/// Lets requests end that are under way; `is_handed_over` says that another member leads now.
fn close_listeners(config: &Config, serving: Option<Serving>, is_handed_over: bool) {
    let handed_over = Instant::now();
    if let Some(serving) = serving {
        serving.shutdown(LAST_REQUESTS);
    }
    if is_handed_over {
        // Others know their leader by its first heartbeat; what they send here before is passed on.
        let beat = config.heartbeat_interval.min(LAST_REQUESTS);
        std::thread::sleep(beat.saturating_sub(handed_over.elapsed()));
    }
}

/// The member as it shows itself to clients.
fn bridge(config: &Config, handle: &Handle, login: Login) -> Bridge {
    Bridge::new(handle.clone()).with_strict_reconfig(config.strict_reconfig_check).with_login(login)
}

/// How the process ends.
fn conclude(config: &Config, end: End) -> Result<(), Box<dyn Error>> {
    match end {
        // As in etcd its end is no failure: whoever restarts it would only see it end again.
        End::Failed(reason) if reason == mainstay_driver::REMOVED => Ok(()),
        End::Failed(reason) => Err(reason.into()),
        End::Signal(number) => {
            tracing::info!(
                name = %config.name,
                "data-dir" = %config.data_dir.display(),
                "closed etcd server"
            );
            end_by(number)
        }
    }
}

/// What is said, and what is waited for, before the listeners close.
async fn before_the_end(config: &Config, end: &End, handle: &Handle) {
    match end {
        End::Signal(number) => {
            tracing::info!(signal = signal_name(*number), "received signal; shutting down");
            tracing::info!(
                name = %config.name,
                "data-dir" = %config.data_dir.display(),
                "closing etcd server"
            );
            // While clients are still served: what they ask meanwhile goes to the next leader.
            let handed_over = tokio::time::timeout(LAST_REQUESTS, handle.hand_over()).await;
            if let Ok(Err(error)) = handed_over {
                tracing::warn!(%error, "leadership transfer failed");
            }
        }
        End::Failed(reason) if reason == mainstay_driver::REMOVED => {
            tracing::warn!(error = %reason, "server error");
            // Others may have to hear from it what was agreed on, its client too.
            tokio::time::sleep(REMOVED_DELAY).await;
            tracing::warn!("data-dir used by this member must be removed");
        }
        End::Failed(_) => {}
    }
}

/// URLs as they were bound, with the ports that the system chose for port 0.
struct Bound {
    clients: Vec<String>,
    http: Vec<String>,
    peers: Vec<String>,
    metrics: Vec<String>,
}

impl Bound {
    fn of(server: &Server<Bridge>, peers: Vec<String>) -> Bound {
        Bound {
            clients: server.client_urls(),
            http: server.http_only_urls(),
            peers,
            metrics: server.metrics_urls(),
        }
    }
}

/// Lines that tools wait for, and systemd's readiness.
fn announce(config: &Config, driver: &Driver, bound: &Bound) {
    let identity = driver.handle().identity();
    tracing::info!(
        "local-member-id" = %identity.member,
        "cluster-id" = %identity.cluster,
        "new-member" = driver.is_new(),
        "published local member to cluster through raft"
    );
    tracing::info!(
        "local-member-id" = %identity.member,
        "initial-advertise-peer-urls.json" = %json_strings(texts(&config.initial_advertise_peer_urls)),
        "listen-peer-urls.json" = %json_strings(&bound.peers),
        "advertise-client-urls.json" = %json_strings(texts(&config.advertise_client_urls)),
        "listen-client-urls.json" = %json_strings(&bound.clients),
        "listen-client-http-urls.json" = %json_strings(&bound.http),
        "listen-metrics-urls.json" = %json_strings(&bound.metrics),
        "now serving peer/client/metrics"
    );
    tracing::info!("ready to serve client requests");
    for url in &bound.clients {
        // Tools look for the common part of etcd's two lines.
        let (scheme, address) = url.split_once("://").unwrap_or(("http", url));
        let secure = matches!(scheme, "https" | "unixs");
        tracing::info!(
            traffic = "grpc+http",
            address,
            "serving client traffic {}",
            if secure { "securely" } else { "insecurely; this is strongly discouraged!" }
        );
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "failed to notify systemd for readiness");
    }
}

/// Go's name of a signal that ends us.
fn signal_name(number: i32) -> &'static str {
    if number == SIGINT { "interrupt" } else { "terminated" }
}

/// As etcd: the process dies of the signal; as the first process of a container,
/// which no signal kills, it ends well.
fn end_by(signal: i32) -> Result<(), Box<dyn Error>> {
    if std::process::id() != 1 {
        signal_hook::low_level::emulate_default_handler(signal)?;
    }
    Ok(())
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().to_owned()).collect()
}

/// The members that the flags name, with ids that are worth nothing here.
fn listed(config: &Config) -> Vec<Member> {
    let list = MemberList::parse(&config.initial_cluster);
    let all = list.and_then(|list| list.founders(&config.initial_cluster_token));
    all.unwrap_or_default().into_iter().filter(|member| member.name != config.name).collect()
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn options(config: &Config) -> Options {
    Options {
        name: config.name.clone(),
        data_dir: config.data_dir.clone(),
        wal_dir: config.wal_dir.clone(),
        founding: Founding::alone(
            &config.name,
            texts(&config.initial_advertise_peer_urls),
            &config.initial_cluster_token,
        ),
        force_new_cluster: config.force_new_cluster,
        hold_cluster_version: config.hold_cluster_version,
        learners_max: count(config.max_learners),
        initial_election_tick_advance: config.initial_election_tick_advance,
        client_urls: texts(&config.advertise_client_urls),
        initial_cluster_version: config.initial_cluster_version,
        tick: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        pre_vote: config.pre_vote,
        snapshot_count: config.snapshot_count,
        snapshot_catchup_entries: config.snapshot_catchup_entries,
        max_snapshots: count(config.max_snapshots),
        max_wals: count(config.max_wals),
        quota_bytes: config
            .backend
            .quota_bytes
            .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        backend_batch_interval: config.backend.batch_interval,
        backend_batch_ops: count(config.backend.batch_limit),
        max_txn_ops: count(config.max_txn_ops),
        max_request_bytes: config.max_request_bytes,
        compaction_batch: count(config.compaction.batch_limit),
        compaction_pause: config.compaction.sleep_interval,
        auto_compaction: match config.compaction.auto {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(age) => Some(mainstay_driver::AutoCompaction::Periodic(age)),
            AutoCompaction::Revision(keep) => Some(mainstay_driver::AutoCompaction::Revision(keep)),
        },
        corrupt_check_every: Some(config.corrupt_check_time).filter(|every| !every.is_zero()),
        compact_hash_check_every: config
            .gates
            .on(Gate::CompactHashCheck)
            .then_some(config.compact_hash_check_time),
        downgrade_check_every: Some(config.downgrade_check_time).filter(|every| !every.is_zero()),
        lease_checkpoint_every: config
            .gates
            .on(Gate::LeaseCheckpoint)
            .then_some(config.lease_checkpoint_interval),
        old_members_with_auth: config.old_members_with_auth,
        simple_token_ttl: None,
        persist_lease_checkpoints: config.gates.on(Gate::LeaseCheckpointPersist),
        initial_corrupt_check: config.gates.on(Gate::InitialCorruptCheck),
        quota_auto_disarm_percent: config.backend.quota_auto_disarm_percent,
        disk_reserve_mib: config.backend.disk_reserve_megabytes,
        bootstrap_defrag_threshold_mib: config.backend.bootstrap_defrag_threshold_megabytes,
        watch_progress_interval: config.watch_progress_notify_interval,
        warning_apply: config.warning_apply_duration,
        repair_from_peers: config.repair_from_peers,
        repair_patience: REPAIR_PATIENCE,
        scrub_period: config.scrub_period,
        scrub_bytes_per_second: config.scrub_rate_megabytes.saturating_mul(1_000_000),
        listed: listed(config),
        no_fsync: config.unsafe_no_fsync,
    }
}

fn server_config(config: &Config, expiry: &Arc<Expiry>) -> ServerConfig {
    let interval = Some(config.keepalive.interval).filter(|time| !time.is_zero());
    ServerConfig {
        client_urls: texts(&config.listen_client_urls),
        client_http_urls: texts(&config.listen_client_http_urls),
        metrics_urls: texts(&config.listen_metrics_urls),
        client_tls: tls(config, &config.client_tls, "", expiry),
        expiry: Arc::clone(expiry),
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive: Keepalive { interval, timeout: config.keepalive.timeout },
        slow_request: config.warning_unary_request_duration,
        access: Access { hosts: config.host_whitelist.clone(), origins: config.cors.clone() },
        gateway: config.enable_grpc_gateway,
        extensive_metrics: config.metrics_extensive,
        features: features(config),
        ..ServerConfig::default()
    }
}

fn features(config: &Config) -> Vec<Feature> {
    let gates = config.gates.shown();
    gates.map(|(name, stage, on)| Feature { name, stage, on }).collect()
}

/// What listens to other members: apart, because it has to long before clients are served.
fn peer_server_config(config: &Config, expiry: &Arc<Expiry>) -> ServerConfig {
    ServerConfig {
        peer_urls: texts(&config.listen_peer_urls),
        peer_tls: tls(config, &config.peer_tls, "peer-", expiry),
        peer_write_timeout: config.peer_write_timeout,
        shards: 1,
        ..ServerConfig::default()
    }
}

fn peer_options(config: &Config) -> mainstay_peer::Options {
    mainstay_peer::Options {
        peer_urls: texts(&config.initial_advertise_peer_urls),
        // etcd: for the queue, and for an election.
        dial_timeout: Duration::from_secs(1) + config.election_timeout,
        read_timeout: config.peer_read_timeout,
        write_timeout: config.peer_write_timeout,
        local_addr: config.gates.on(Gate::SetMemberLocalAddr).then(|| local_addr(config)).flatten(),
    }
}

/// The first address among the advertised peer URLs that other machines can see.
fn local_addr(config: &Config) -> Option<IpAddr> {
    let urls = &config.initial_advertise_peer_urls;
    let addresses = urls.iter().filter_map(|url| url.host().parse::<IpAddr>().ok());
    let found = addresses.into_iter().find(|one| !one.is_loopback() && !one.is_unspecified());
    let shown = json_strings(texts(urls));
    match found {
        Some(address) => tracing::info!("LocalAddr" = %address, "setting member local address"),
        None => tracing::warn!(
            "advertise-peer-urls.json" = %shown,
            "unable to set a member local address due to lack of suitable local addresses"
        ),
    }
    found
}

/// What this member shows and trusts when it dials another.
fn dialing_tls(config: &Config, expiry: &Arc<Expiry>) -> Result<Option<ClientTls>, TlsError> {
    let files = &config.peer_tls;
    let shown = match (&files.client_cert, &files.client_key) {
        (Some(cert), Some(key)) => {
            TlsFiles { cert: Some(cert.clone()), key: Some(key.clone()), ..files.clone() }
        }
        _ => files.clone(),
    };
    // Those that members have made themselves nobody vouches for.
    let load = if files.auto { ClientTls::load_trusting_anyone } else { ClientTls::load };
    tls(config, &shown, "peer-", expiry).map(load).transpose()
}

fn tls(
    config: &Config,
    files: &TlsFiles,
    prefix: &'static str,
    expiry: &Arc<Expiry>,
) -> Option<mainstay_server::TlsFiles> {
    let version = |version: TlsVersion| match version {
        TlsVersion::V12 => mainstay_server::TlsVersion::Tls12,
        TlsVersion::V13 => mainstay_server::TlsVersion::Tls13,
    };
    let (cert, key) = files.cert.as_ref().zip(files.key.as_ref())?;
    let allowed =
        Allowed { names: files.allowed_cns.clone(), hosts: files.allowed_hostnames.clone() };
    Some(mainstay_server::TlsFiles {
        flag_prefix: prefix,
        trusted_ca_file: files.trusted_ca.clone(),
        client_cert_auth: files.requires_caller_cert(),
        common_name_is_user: prefix.is_empty() && files.cert_auth,
        crl_file: files.crl.clone(),
        // Members with certificates of their own for dialling may have ones for clients alone.
        servers_only: prefix == "peer-" && allowed.is_everyone() && files.client_cert.is_none(),
        allowed,
        check_client_place: prefix == "peer-" && !files.skip_client_san_verification,
        min_version: version(config.tls_min_version),
        max_version: config.tls_max_version.map(version),
        cipher_suites: config.cipher_suites.clone(),
        expiry: Arc::clone(expiry),
        ..mainstay_server::TlsFiles::new(cert, key)
    })
}
