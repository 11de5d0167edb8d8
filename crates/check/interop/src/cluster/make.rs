//! Whose binary a member of a cluster runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::{Peer, beside, missing, our, peer, tool};

/// Which real etcd members of the other make are, see [`Real`].
const VARIABLE: &str = "MAINSTAY_MIXED_WITH";
/// Names the newest etcd 3.5 that the tests know.
const NEWEST_VARIABLE: &str = "MAINSTAY_ETCD_35";

/// A maker of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// Ours.
    Ours,
    /// The real etcd, of the version that [`Real::of_this_run`] tells.
    Go,
}

impl Make {
    /// The program, or `None` after saying that it is missing.
    ///
    /// # Panics
    /// When a peer is missing while `MAINSTAY_REQUIRE_PEERS` is set, or is of another
    /// version.
    pub fn binary(self) -> Option<PathBuf> {
        match self {
            Make::Ours => Some(our("etcd")),
            Make::Go => Real::of_this_run().binary(),
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

/// The real etcd of a run; `MAINSTAY_MIXED_WITH` chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Real {
    /// 3.5.16, without the variable.
    Named,
    /// `newest`: the 3.5 that `MAINSTAY_ETCD_35` names.
    Newest35,
    /// `3.6`: etcd's module of that minor, as a Go test depends on it.
    V36,
    /// `3.7`, likewise.
    V37,
}

impl Real {
    /// What the variable says.
    ///
    /// # Panics
    /// When it says something else.
    pub fn of_this_run() -> Real {
        match std::env::var(VARIABLE).as_deref() {
            Err(_) => Real::Named,
            Ok("newest") => Real::Newest35,
            Ok("3.6") => Real::V36,
            Ok("3.7") => Real::V37,
            Ok(other) => panic!("{VARIABLE} is {other:?}; newest, 3.6 and 3.7 are known"),
        }
    }

    /// The version of the clusters that it is in: major and minor.
    pub fn cluster_version(self) -> &'static str {
        match self {
            Real::Named | Real::Newest35 => "3.5",
            Real::V36 => "3.6",
            Real::V37 => "3.7",
        }
    }

    /// As members tell it.
    pub fn cluster_version_told(self) -> String {
        format!("{}.0", self.cluster_version())
    }

    /// Whether it decides some entries otherwise while authentication is on (before 3.5.33,
    /// 3.6.14 and 3.7.1).
    pub fn decides_otherwise(self) -> bool {
        matches!(self, Real::Named | Real::Newest35)
    }

    /// The program, or `None` after saying that it is missing.
    ///
    /// # Panics
    /// As [`Make::binary`].
    pub fn binary(self) -> Option<PathBuf> {
        match self {
            Real::Named => peer(Peer::Etcd),
            Real::Newest35 => newest(),
            Real::V36 => built("v36", "3.6.16"),
            Real::V37 => built("v37", "3.7.3"),
        }
    }
}

fn newest() -> Option<PathBuf> {
    let path = std::env::var_os(NEWEST_VARIABLE).map(PathBuf::from).filter(|p| p.is_file());
    let Some(path) = path else { return missing(NEWEST_VARIABLE) };
    check(&path, "3.5.");
    Some(path)
}

/// The Go test that is a member, as a program of its own beside ours.
fn built(module: &str, version: &str) -> Option<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let go = tool("go", "version")?;
    let mut built = BUILT.lock().expect("nobody panics with it but who builds");
    let path = built.entry(version.to_owned()).or_insert_with(|| {
        let path = beside().join(format!("go-member-{version}"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("go-member").join(module);
        let mut build = Command::new(go);
        build.args(["test", "-c", "-o"]).arg(&path).current_dir(source);
        let told = build.output().expect("go starts");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        check(&path, version);
        path
    });
    Some(path.clone())
}

fn check(path: &Path, wanted: &str) {
    let told = Command::new(path).arg("--version").output();
    let told = told.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let first = String::from_utf8_lossy(&told.stdout).lines().next().unwrap_or("").to_owned();
    eprintln!("peer of mixed clusters: {first}");
    assert!(first.contains(wanted), "{} is {first:?}, and not {wanted}", path.display());
}
