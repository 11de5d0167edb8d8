//! The real etcd's programs, when they are there.

use std::path::PathBuf;
use std::process::Command;

/// The real etcd 3.5.16, or `None` after saying loudly that its half of the test did not run.
pub(crate) fn real_etcd() -> Option<PathBuf> {
    named("MAINSTAY_ETCD_3516", "--version")
}

/// The real etcdctl 3.5.16.
pub(crate) fn real_etcdctl() -> Option<PathBuf> {
    named("MAINSTAY_ETCDCTL_3516", "version")
}

fn named(variable: &str, arg: &str) -> Option<PathBuf> {
    let Some(path) = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file())
    else {
        let message = format!("DID NOT RUN: {variable} is missing (see CONTRIBUTING.md)");
        assert!(std::env::var_os("MAINSTAY_REQUIRE_PEERS").is_none(), "{message}");
        eprintln!("\n*** {message}\n");
        return None;
    };
    let told = Command::new(&path).arg(arg).output().expect("the peer runs");
    let told = String::from_utf8_lossy(&told.stdout);
    let first = told.lines().next().unwrap_or("");
    eprintln!("peer: {first}");
    assert!(first.contains("3.5.16"), "{variable} is {first:?}; the tests are about 3.5.16");
    Some(path)
}
