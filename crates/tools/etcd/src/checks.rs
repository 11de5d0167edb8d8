//! What is looked at before the member boots: the machine, the data directory, and whether this
//! start may make a member.

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_config::Config;
use mainstay_driver::{Founding, Options};
use mainstay_env::Disk;
use mainstay_env_os::OsDisk;
use mainstay_types::limits::RESERVED_FDS;
use tracing::{info, warn};

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

/// Says so when others than the member's user may read or change what it has stored: a file that
/// was copied in, a folder that a mount brought along. As in etcd it starts all the same: who may
/// enter is often decided further up, by a folder of the host's or a container's.
///
/// The data directory itself is looked at where it is opened.
pub(crate) fn privacy(options: &Options) {
    let mut places = vec![options.member_dir()];
    places.extend(options.wal_dir.clone().filter(|dir| !dir.starts_with(options.member_dir())));
    let mut open = Open::default();
    for place in places {
        open.look(&place, FOLDERS_DEEP);
    }
    let Some((path, mode)) = open.first else { return };
    warn!(
        path = %path.display(),
        mode = %format!("{mode:o}"),
        count = open.count,
        "stored data may be read by others than the member's user; recommended are 0700 for \
         folders and 0600 for files"
    );
}

/// `member/mainstay/...` is the deepest that a member makes.
const FOLDERS_DEEP: usize = 4;

/// What others than its owner may read, write or enter.
#[derive(Default)]
struct Open {
    first: Option<(PathBuf, u32)>,
    count: usize,
}

impl Open {
    fn look(&mut self, path: &Path, deeper: usize) {
        // What is not there yet, or cannot be looked at, is told where it is opened.
        let Ok(found) = fs::metadata(path) else { return };
        let mode = found.mode() & 0o777;
        if mode & 0o077 != 0 {
            self.count += 1;
            self.first.get_or_insert_with(|| (path.to_owned(), mode));
        }
        if !found.is_dir() || deeper == 0 {
            return;
        }
        let Ok(entries) = fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            self.look(&entry.path(), deeper - 1);
        }
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

/// How a member without a log begins; `None` when there is a log: then it takes its identity and
/// its cluster from there, and flags that say otherwise are passed over.
///
/// # Errors
///
/// When this start would make a member, and nobody lets it.
pub(crate) fn founding(
    config: &Config,
    options: &Options,
) -> Result<Option<Founding>, Box<dyn Error>> {
    if mainstay_wal::exists(&OsDisk, &options.wal_path())? {
        if !config.discovery.endpoints.is_empty() || !config.discovery_url.is_empty() {
            warn!(
                "wal-dir" = %options.wal_path().display(),
                "discovery token is ignored since cluster already initialized; valid logs are found"
            );
        }
        return Ok(None);
    }
    // Before anybody is asked: who has lost a log is no new member, whatever the others say.
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    mainstay_driver::refuse_without_log(&disk, options)?;
    Ok(Some(mainstay_bootstrap::founding(config)?))
}
