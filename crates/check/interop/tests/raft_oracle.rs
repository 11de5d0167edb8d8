//! Our raft beside the published `raft` crate (`crates/keep/raft/oracle`, a package of its
//! own): clusters of both kinds, and a shadow of theirs for each core of ours.

#[expect(dead_code, reason = "the tests of other clients use the rest")]
mod kit;

use std::path::Path;
use std::process::Command;

#[test]
fn the_published_crate_agrees() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../keep/raft/oracle");
    let mut fetch = Command::new(env!("CARGO"));
    fetch.args(["fetch", "--locked", "--manifest-path"]).arg(sources.join("Cargo.toml"));
    let installed = kit::installed("raft-oracle");
    if !kit::bring(&installed, &sources.join("Cargo.lock"), &mut [fetch]) {
        return;
    }
    let mut tests = Command::new(env!("CARGO"));
    tests.args(["test", "--quiet", "--locked", "--tests"]).current_dir(sources);
    let told = tests.env("CARGO_TARGET_DIR", installed).output();
    let told = told.unwrap_or_else(|e| panic!("{tests:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{tests:?}: {}\n{out}\n{err}", told.status);
    assert!(out.contains("2 passed"), "tests must have run: {out}\n{err}");
}
