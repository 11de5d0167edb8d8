//! Clients that other people wrote: brought beside the build, never into the tree,
//! and run as they are against a member that the test starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use mainstay_interop::{Folder, Kind, Start};

/// A client's sources in this crate.
pub(crate) fn sources(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// `target/interop-clients/NAME`, where what a client needs is installed.
pub(crate) fn installed(name: &str) -> PathBuf {
    // A test's own binary is in target/PROFILE/deps.
    let me = std::env::current_exe().expect("a running test has a path");
    let target = me.ancestors().nth(3).expect("target/PROFILE/deps/test");
    target.join("interop-clients").join(name)
}

/// Runs the commands in `folder` unless they were run there for the same `pins`.
/// False, after saying so, when the client could not be had.
///
/// # Panics
/// When it cannot be had while `MAINSTAY_REQUIRE_PEERS` is set.
pub(crate) fn bring(folder: &Path, pins: &Path, commands: &mut [Command]) -> bool {
    // The tests of one file share what is installed.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let pinned = fs::read(pins).unwrap_or_else(|e| panic!("{}: {e}", pins.display()));
    let stamp = folder.join("pins");
    if fs::read(&stamp).is_ok_and(|had| had == pinned) {
        return true;
    }
    fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for command in commands {
        eprintln!("installing: {command:?}");
        let why = match command.current_dir(folder).output() {
            Ok(told) if told.status.success() => continue,
            Ok(told) => String::from_utf8_lossy(&told.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("DID NOT RUN: {command:?} failed: {why}");
        assert!(std::env::var_os("MAINSTAY_REQUIRE_PEERS").is_none(), "{message}");
        eprintln!("\n*** {message}\n");
        return false;
    }
    fs::write(&stamp, pinned).unwrap_or_else(|e| panic!("{}: {e}", stamp.display()));
    true
}

/// Starts a member of this kind and runs a client's tests against it; every one must
/// pass, and `ran` must be in what they say, or they have not run at all.
pub(crate) fn passes_on(kind: Kind, name: &str, mut client: Command, ran: &str) {
    let folder = Folder::new(name);
    let Some(member) = Start::new(kind, &folder.path().join("m.etcd")).run() else { return };
    let told = client.env("INTEROP_ENDPOINT", member.endpoint()).output();
    let told = told.unwrap_or_else(|e| panic!("{client:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{client:?}: {}\n{out}\n{err}\n{}", told.status, member.log());
    assert!(out.contains(ran) || err.contains(ran), "tests must have run: {out}\n{err}");
    member.stop();
}
