//! Whose binary a member of a cluster runs.

use std::path::PathBuf;
use std::process::Command;

use crate::{Peer, missing, our, peer};

/// Names the newest etcd 3.5 that the tests know.
const NEWEST_VARIABLE: &str = "MAINSTAY_ETCD_35";

/// A maker of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Ours.
    Ours,
    /// The real etcd: 3.5.16, or with `MAINSTAY_MIXED_WITH=newest` the program that
    /// `MAINSTAY_ETCD_35` names.
    Go,
}

impl Make {
    /// The program, or `None` after saying that it is missing.
    ///
    /// # Panics
    /// When a peer is missing while `MAINSTAY_REQUIRE_PEERS` is set, or is no 3.5.
    pub fn binary(self) -> Option<PathBuf> {
        match self {
            Make::Ours => Some(our("etcd")),
            Make::Go if std::env::var("MAINSTAY_MIXED_WITH").is_ok_and(|v| v == "newest") => {
                newest()
            }
            Make::Go => peer(Peer::Etcd),
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Make {
        match self {
            Make::Ours => Make::Go,
            Make::Go => Make::Ours,
        }
    }
}

fn newest() -> Option<PathBuf> {
    let path = std::env::var_os(NEWEST_VARIABLE).map(PathBuf::from).filter(|p| p.is_file());
    let Some(path) = path else { return missing(NEWEST_VARIABLE) };
    let told = Command::new(&path).arg("--version").output();
    let told = told.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let first = String::from_utf8_lossy(&told.stdout).lines().next().unwrap_or("").to_owned();
    assert!(first.contains("3.5."), "{NEWEST_VARIABLE} is {first:?}, and the tests are about 3.5");
    Some(path)
}
