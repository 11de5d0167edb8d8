//! Real etcd and real clients against ours: processes, ports, folders.
//!
//! The tests beside this crate start our binaries and the real ones, and compare.
//! A peer that is missing, or of another version than the one named, is never
//! skipped in silence: [`peer`] prints what did not run, and in CI
//! (`MAINSTAY_REQUIRE_PEERS`) it is a failure.

pub mod cluster;
pub mod differential;
mod folder;
mod kubelet;
mod lives;
mod load;
mod member;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

pub use folder::Folder;
pub use kubelet::{Kubelet, program};
pub use lives::Lives;
pub use load::{Figures, Load, PREFIX, Ran};
pub use member::{Kind, Member, Start, free_ports};

/// The version of the named peer.
pub const PEER_VERSION: &str = "3.5.16";

/// A program of the real etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// `etcd` 3.5.16.
    Etcd,
    /// `etcdctl` 3.5.16.
    Etcdctl,
    /// `etcdutl` 3.5.16: beside its `etcdctl`.
    Etcdutl,
    /// `etcdctl` 3.4.
    Etcdctl34,
    /// `etcd` 3.4: beside its `etcdctl`.
    Etcd34,
}

/// Where a peer's program is, or `None` after saying loudly that it is missing.
///
/// # Panics
/// When the program is of another version than the one named, and when it is
/// missing while `MAINSTAY_REQUIRE_PEERS` is set.
pub fn peer(peer: Peer) -> Option<PathBuf> {
    let (variable, beside, arg, wanted) = match peer {
        Peer::Etcd => ("MAINSTAY_ETCD_3516", None, "--version", PEER_VERSION),
        Peer::Etcdctl => ("MAINSTAY_ETCDCTL_3516", None, "version", PEER_VERSION),
        Peer::Etcdutl => ("MAINSTAY_ETCDCTL_3516", Some("etcdutl"), "version", PEER_VERSION),
        Peer::Etcdctl34 => ("MAINSTAY_ETCDCTL_34", None, "version", "3.4."),
        Peer::Etcd34 => ("MAINSTAY_ETCDCTL_34", Some("etcd"), "--version", "3.4."),
    };
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = named.map(|path| beside.map_or(path.clone(), |name| path.with_file_name(name)));
    let Some(path) = path.filter(|path| path.is_file()) else {
        return missing(
            &beside.map_or(variable.to_owned(), |name| format!("{name} of {variable}")),
        );
    };
    let told = Command::new(&path).arg(arg).env("ETCDCTL_API", "3").output();
    let told = told.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let first = String::from_utf8_lossy(&told.stdout).lines().next().unwrap_or("").to_owned();
    eprintln!("peer {peer:?}: {first}");
    assert!(first.contains(wanted), "{variable} is {first:?}, and the tests are about {wanted}");
    Some(path)
}

/// A tool that some tests need (`go`, `python3`, `node`), or `None` after saying so.
///
/// # Panics
/// When it is missing while `MAINSTAY_REQUIRE_PEERS` is set.
pub fn tool(name: &str, version_arg: &str) -> Option<PathBuf> {
    let works = Command::new(name).arg(version_arg).output().is_ok_and(|o| o.status.success());
    if works { Some(PathBuf::from(name)) } else { missing(name) }
}

fn missing(what: &str) -> Option<PathBuf> {
    let message = format!("DID NOT RUN: {what} is missing (see CONTRIBUTING.md, real peers)");
    assert!(std::env::var_os("MAINSTAY_REQUIRE_PEERS").is_none(), "{message}");
    eprintln!("\n*** {message}\n");
    None
}

/// The folder that programs are built into.
fn beside() -> PathBuf {
    // A test's own binary is in target/PROFILE/deps, a program in target/PROFILE.
    let me = std::env::current_exe().expect("a running test has a path");
    let folder = me.parent().expect("a program lies in a folder");
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    folder.expect("target/PROFILE").to_owned()
}

/// Our own program of this name, built when it is not up to date; or the one in the
/// folder that `MAINSTAY_OURS` names, as it is, for long runs of a release.
///
/// # Panics
/// When it does not build.
pub fn our(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(folder) = std::env::var_os("MAINSTAY_OURS") {
        return PathBuf::from(folder).join(name);
    }
    let folder = BUILT.get_or_init(|| {
        let folder = beside();
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "mainstay-etcd",
            "-p",
            "mainstay-etcdctl",
            "-p",
            "mainstay-etcdutl",
        ]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let target = folder.parent().expect("target");
        let status = build.env("CARGO_TARGET_DIR", target).status().expect("cargo runs");
        assert!(status.success(), "our own binaries must build");
        folder
    });
    folder.join(name)
}
