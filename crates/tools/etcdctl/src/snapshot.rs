//! `snapshot save`: a file that is whole or not there; `snapshot status` and `snapshot restore` of
//! old runbooks, which are etcdutl's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use mainstay_env_os::OsDisk;
use mainstay_etcdutl::{self as etcdutl, Run};
use mainstay_log::Settings;
use mainstay_print::args::Line;
use mainstay_print::duration;
use mainstay_print::size::humanized;
use mainstay_proto::etcdserverpb as pb;
use sha2::{Digest as _, Sha256};
use tracing::info;

use crate::exit::{Failure, INTERRUPTED, status_text};
use crate::session::Session;
use crate::show::{complain, say};

/// Bytes of the checksum behind the db.
const TRAILER: usize = 32;
/// So much is written before it is synced: a server on the same disk must not wait until
/// gigabytes have left the cache.
const SYNC_EVERY_BYTES: u64 = 1 << 20;

/// Writes a snapshot of one endpoint to a file.
pub(crate) async fn save(session: &Session) -> Result<(), Failure> {
    let [path] = session.line.args.as_slice() else {
        return Err(Failure::bad_args("snapshot save expects one argument <filename>"));
    };
    let endpoints = session.endpoints();
    let [endpoint] = endpoints.as_slice() else {
        return Err(broken(format!(
            "snapshot must be requested to one selected node, not multiple [{}]",
            endpoints.join(" ")
        )));
    };
    // etcd's lines on standard error; without a logger nothing is said, which is no failure.
    let _ = mainstay_log::init(&Settings::default());
    let path = PathBuf::from(path);
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let saved = match session.line.given("command-timeout") {
        false => receive(session, endpoint, &part).await,
        true => {
            let timeout = session.line.duration("command-timeout");
            let received = tokio::time::timeout(timeout, receive(session, endpoint, &part)).await;
            received.unwrap_or_else(|_| Err(broken("context deadline exceeded")))
        }
    };
    let saved = saved.and_then(|version| finish(&part, &path).map(|()| version));
    if saved.is_err() {
        // What is not whole must not be taken for a snapshot.
        let _ = fs::remove_file(&part);
    }
    let version = saved?;
    info!(path = %path.display(), "saved");
    say(&format!("Snapshot saved at {}", path.display()));
    if !version.is_empty() {
        say(&format!("Server version {version}"));
    }
    Ok(())
}

fn broken(why: impl Into<String>) -> Failure {
    Failure::new(INTERRUPTED, why)
}

async fn receive(session: &Session, endpoint: &str, part: &Path) -> Result<String, Failure> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(part).map_err(
            |error| {
                let part = part.display();
                broken(format!("could not open {part} (open {part}: {})", plainly(&error)))
            },
        )?;
    info!(path = %part.display(), "created temporary db file");
    let begun = Instant::now();
    let client = session.client().await.map_err(|f| Failure { code: INTERRUPTED, ..f })?;
    let mut stream = client
        .maintenance()
        .snapshot(pb::SnapshotRequest {})
        .await
        .map_err(|s| broken(status_text(&s)))?
        .into_inner();
    info!(endpoint, "fetching snapshot");
    let could_not = |error: io::Error| {
        let why = format!("write {}: {}", part.display(), plainly(&error));
        broken(format!("could not write snapshot: {why}"))
    };
    let mut sum = TrailingSum::default();
    let mut version = String::new();
    let (mut received, mut synced) = (0u64, 0u64);
    let mut progress = Progress::new();
    while let Some(piece) = stream.message().await.map_err(|s| broken(status_text(&s)))? {
        file.write_all(&piece.blob).map_err(could_not)?;
        sum.update(&piece.blob);
        received += piece.blob.len() as u64;
        if received - synced >= SYNC_EVERY_BYTES {
            file.sync_data().map_err(could_not)?;
            synced = received;
        }
        if !piece.version.is_empty() {
            version = piece.version;
        }
        progress.tell(received, piece.remaining_bytes);
    }
    drop(progress);
    if received % 512 != TRAILER as u64 {
        return Err(broken(format!(
            "sha256 checksum not found [bytes: {received}]: the stream ended early; try again"
        )));
    }
    if !sum.matches() {
        return Err(broken("the snapshot's checksum does not fit its bytes; try again"));
    }
    file.sync_all()
        .map_err(|error| broken(format!("could not fsync snapshot: {}", plainly(&error))))?;
    info!(
        endpoint,
        size = humanized(received),
        took = duration::show(begun.elapsed()),
        "etcd-version" = version,
        revision = mainstay_backup::revision(&OsDisk::new(), part).unwrap_or_default(),
        "fetched snapshot"
    );
    Ok(version)
}

/// An error of the system as Go prints it.
fn plainly(error: &io::Error) -> String {
    let text = error.to_string();
    let Some((text, _)) = text.split_once(" (os error") else { return text };
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// How much has come, on a terminal only; its line ends with it.
struct Progress {
    is_shown: bool,
    shown: Option<u64>,
}

impl Progress {
    fn new() -> Progress {
        Progress { is_shown: io::stderr().is_terminal(), shown: None }
    }

    fn tell(&mut self, received: u64, remaining: u64) {
        let total = received.saturating_add(remaining);
        let percent = (u128::from(received) * 100 / u128::from(total.max(1))) as u64;
        if self.is_shown && self.shown.replace(percent) != Some(percent) {
            let (received, total) = (humanized(received), humanized(total));
            // Only decoration.
            let _ = write!(io::stderr(), "\r{received:>8} of {total} ({percent}%) ");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}

fn finish(part: &Path, path: &Path) -> Result<(), Failure> {
    fs::rename(part, path).map_err(|error| {
        let (part, path) = (part.display(), path.display());
        let why = format!("rename {part} {path}: {}", plainly(&error));
        broken(format!("could not rename {part} to {path} ({why})"))
    })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| {
        broken(format!("could not fsync {}: {}", folder.display(), plainly(&error)))
    })
}

/// `snapshot status` as 3.5 had it.
pub(crate) fn status(line: &Line) -> Result<(), Failure> {
    complain("Deprecated: Use `etcdutl snapshot status` instead.\n");
    offline(line, etcdutl::snapshot::status)
}

/// `snapshot restore` as 3.5 had it.
pub(crate) fn restore(line: &Line) -> Result<(), Failure> {
    complain("Deprecated: Use `etcdutl snapshot restore` instead.\n");
    offline(line, etcdutl::snapshot::restore)
}

/// Runs a command of etcdutl's.
fn offline(
    line: &Line,
    command: fn(&Line, &mut Run<'_>) -> Result<(), etcdutl::Failure>,
) -> Result<(), Failure> {
    let (mut out, mut log) = (io::stdout(), io::stderr());
    let mut run = Run::new(Arc::new(OsDisk::new()), &mut out, &mut log);
    command(line, &mut run).map_err(|failure| {
        let etcdutl::Failure { code, message, usage } = failure;
        Failure { code, message, usage }
    })
}

/// SHA-256 of everything but the last 32 bytes, which must be that sum.
#[derive(Default)]
struct TrailingSum {
    sum: Sha256,
    tail: Vec<u8>,
}

impl TrailingSum {
    fn update(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let sure = self.tail.len().saturating_sub(TRAILER);
        self.sum.update(&self.tail[..sure]);
        self.tail.drain(..sure);
    }

    fn matches(self) -> bool {
        self.sum.finalize().as_slice() == self.tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trailer_is_found_however_the_bytes_are_cut() {
        let body = vec![7u8; 1000];
        let mut all = body.clone();
        all.extend_from_slice(&Sha256::digest(&body));
        for cut in [1, 7, 31, 32, 33, 500, 2000] {
            let mut sum = TrailingSum::default();
            all.chunks(cut).for_each(|c| sum.update(c));
            assert!(sum.matches(), "cut at {cut}");
        }
        all[3] ^= 1;
        let mut sum = TrailingSum::default();
        sum.update(&all);
        assert!(!sum.matches());
    }
}
