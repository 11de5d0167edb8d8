//! What is looked at before the member boots: the machine, the data directory, and whether this
//! start may make a member.

use std::error::Error;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_config::{Config, Url};
use mainstay_driver::Options;
use mainstay_env_os::OsDisk;
use mainstay_types::limits::RESERVED_FDS;
use tracing::{info, warn};

/// How long a name of `--initial-cluster` may take to become known (etcd: 30 s), and the rest
/// between two questions.
const RESOLVE_WAIT: Duration = Duration::from_secs(30);
const RESOLVE_REST: Duration = Duration::from_secs(1);

/// Refuses a process that may open hardly more files than the member needs itself.
///
/// # Errors
///
/// In etcd's words.
pub(crate) fn descriptors() -> Result<(), Box<dyn Error>> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        Some(limit) if limit <= RESERVED_FDS => Err(format!(
            "file descriptor limit of etcd process is too low; please set higher (limit {limit}, \
             recommended more than {RESERVED_FDS})"
        )
        .into()),
        _ => Ok(()),
    }
}

/// Looks at what lies in the data directory, and says in etcd's words what does not belong there.
///
/// # Errors
///
/// When the directory cannot be listed, or is that of a v2 proxy.
pub(crate) fn data_dir(dir: &Path) -> Result<(), Box<dyn Error>> {
    let shown = dir.display();
    let listed = match std::fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return announce(dir, "empty");
        }
        Err(e) => return Err(format!("failed to list data directory {shown}: {e}").into()),
    };
    let (mut member, mut proxy) = (false, false);
    for entry in listed {
        let name = entry?.file_name();
        match name.to_str() {
            Some("member") => member = true,
            Some("proxy") => proxy = true,
            _ => warn!(
                filename = %name.to_string_lossy(),
                "data-dir" = %shown,
                "found invalid file under data directory"
            ),
        }
    }
    match (member, proxy) {
        (true, true) => Err("invalid datadir; both member and proxy directories exist".into()),
        (false, true) => Err(format!(
            "v2 http proxy has already been deprecated in 3.6: {shown} is the directory of one"
        )
        .into()),
        (true, false) => announce(dir, "member"),
        (false, false) => announce(dir, "empty"),
    }
}

fn announce(dir: &Path, kind: &str) -> Result<(), Box<dyn Error>> {
    let message = match kind {
        "member" => "server has already been initialized",
        _ => "Initialize and start etcd server",
    };
    info!("data-dir" = %dir.display(), "dir-type" = kind, "{message}");
    Ok(())
}

/// Holds what only counts for a new member against the directory: a member that has a log takes
/// its identity and its cluster from there, and flags that say otherwise are passed over.
///
/// # Errors
///
/// When this start would make a member, and the flags do not describe one that can be made.
pub(crate) fn founding(config: &Config, options: &Options) -> Result<(), Box<dyn Error>> {
    if mainstay_wal::exists(&OsDisk, &options.wal_path())? {
        if let Some(obstacle) = &config.new_member_obstacle {
            warn!(
                reason = %obstacle,
                "wal-dir" = %options.wal_path().display(),
                "flag is ignored since cluster already initialized; valid logs are found"
            );
        }
        return Ok(());
    }
    if let Some(obstacle) = &config.new_member_obstacle {
        return Err(obstacle.clone().into());
    }
    config.initial_members(&resolve)?;
    Ok(())
}

/// The address of a URL's host. Names of a cluster that is just being set up may become known a
/// little later than its members start.
fn resolve(url: &Url) -> Result<IpAddr, String> {
    let begun = Instant::now();
    loop {
        let error = match (url.host(), url.port()).to_socket_addrs().map(|mut found| found.next()) {
            Ok(Some(address)) => return Ok(address.ip()),
            Ok(None) => format!("lookup {}: no such host", url.host()),
            Err(e) => format!("lookup {}: {e}", url.host()),
        };
        warn!(url = %url, host = url.host(), error = %error, "failed to resolve URL Host");
        if begun.elapsed() >= RESOLVE_WAIT {
            return Err(error);
        }
        std::thread::sleep(RESOLVE_REST);
    }
}
