//! The servers that the short runs start, and folders for them.
//!
//! The judges' crate has richer ones; it stands above the tools, and its many clients
//! are not needed here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The version of the named peer.
const PEER_VERSION: &str = "3.5.16";

/// Our own etcd, built beside this test when it is not up to date.
pub(crate) fn our_etcd() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let folder = Path::new(env!("CARGO_BIN_EXE_bench")).parent().expect("target/PROFILE");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "mainstay-etcd"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let target = folder.parent().expect("target");
        let status = build.env("CARGO_TARGET_DIR", target).status().expect("cargo runs");
        assert!(status.success(), "our own etcd must build");
        folder.join("etcd")
    };
    BUILT.get_or_init(build).clone()
}

/// The real etcd, or `None` after saying loudly that it is missing.
pub(crate) fn real_etcd() -> Option<PathBuf> {
    let variable = "MAINSTAY_ETCD_3516";
    let Some(path) = std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_file()) else {
        let message = format!("DID NOT RUN: {variable} names no file");
        assert!(std::env::var_os("MAINSTAY_REQUIRE_PEERS").is_none(), "{message}");
        eprintln!("\n*** {message}\n");
        return None;
    };
    let told = Command::new(&path).arg("--version").output().expect("the peer starts");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains(PEER_VERSION), "{variable} is {told:?}, and not {PEER_VERSION}");
    Some(path)
}

/// A folder that goes away with its test, but stays when the test panics.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A fresh one; `name` is for whoever finds it.
    pub(crate) fn new(name: &str) -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (pid, n) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("mainstay-{name}-{pid}-{n}"));
        std::fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Folder(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept: {}", self.0.display());
        } else {
            // A left-over folder in the temporary one is no failure.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
