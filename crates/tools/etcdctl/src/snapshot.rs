//! snapshot save: a file that is whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mainstay_proto::etcdserverpb as pb;
use sha2::{Digest as _, Sha256};

use crate::exit::{Failure, INTERRUPTED, status_text};
use crate::session::Session;
use crate::show::say;

/// Bytes of the checksum behind the db.
const TRAILER: usize = 32;

pub(crate) async fn save(session: &Session) -> Result<(), Failure> {
    let [path] = session.line.args.as_slice() else {
        return Err(Failure::bad_args("snapshot save expects one argument <filename>"));
    };
    let endpoints = session.endpoints();
    let [_] = endpoints.as_slice() else {
        return Err(Failure::new(
            INTERRUPTED,
            format!(
                "snapshot must be requested to one selected node, not multiple [{}]",
                endpoints.join(" ")
            ),
        ));
    };
    let path = PathBuf::from(path);
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let result = receive(session, &part).await;
    match result {
        Ok(version) => {
            finish(&part, &path)?;
            say(&format!("Snapshot saved at {}", path.display()));
            if !version.is_empty() {
                say(&format!("Server version {version}"));
            }
            Ok(())
        }
        Err(failure) => {
            // What is not whole must not be taken for a snapshot.
            let _ = fs::remove_file(&part);
            Err(failure)
        }
    }
}

async fn receive(session: &Session, part: &Path) -> Result<String, Failure> {
    let broken = |why: String| Failure::new(INTERRUPTED, why);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .map_err(|e| broken(format!("could not open {} ({e})", part.display())))?;
    let client = session.client().await?;
    let mut stream = client
        .maintenance()
        .snapshot(pb::SnapshotRequest {})
        .await
        .map_err(|s| broken(status_text(&s)))?
        .into_inner();
    let mut sum = TrailingSum::default();
    let mut version = String::new();
    let mut received = 0u64;
    while let Some(piece) = stream.message().await.map_err(|s| broken(status_text(&s)))? {
        file.write_all(&piece.blob).map_err(|e| broken(format!("{}: {e}", part.display())))?;
        sum.update(&piece.blob);
        received += piece.blob.len() as u64;
        if !piece.version.is_empty() {
            version = piece.version;
        }
        progress(received, piece.remaining_bytes);
    }
    if received % 512 != TRAILER as u64 {
        return Err(broken(format!(
            "sha256 checksum not found [bytes: {received}]: the stream ended early; try again"
        )));
    }
    if !sum.matches() {
        return Err(broken("the snapshot's checksum does not fit its bytes; try again".into()));
    }
    file.sync_all().map_err(|e| broken(format!("{}: {e}", part.display())))?;
    Ok(version)
}

/// On a terminal only.
fn progress(received: u64, remaining: u64) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let total = received + remaining;
        let percent = (received * 100).checked_div(total).unwrap_or(100);
        // Only decoration.
        let _ = write!(
            err,
            "\r{:>7.1} MB of {:.1} MB ({percent}%)",
            received as f64 / 1e6,
            total as f64 / 1e6
        );
        if remaining == 0 {
            let _ = writeln!(err);
        }
    }
}

fn finish(part: &Path, path: &Path) -> Result<(), Failure> {
    let broken = |e: std::io::Error| {
        Failure::new(
            INTERRUPTED,
            format!("could not rename {} to {} ({e})", part.display(), path.display()),
        )
    };
    fs::rename(part, path).map_err(broken)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|d| d.sync_all()).map_err(broken)
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
