//! The Rust client `etcd-client`, unmodified, against ours (and against the real one,
//! so that the tests themselves are judged).

mod kit;

use std::process::Command;

use mainstay_interop::{Kind, tool};

fn rust_tests_pass_on(kind: Kind) {
    // Its build script generates messages from protos.
    if tool("protoc", "--version").is_none() {
        return;
    }
    let sources = kit::sources("rust-client");
    let mut fetch = Command::new(env!("CARGO"));
    fetch.args(["fetch", "--locked", "--manifest-path"]).arg(sources.join("Cargo.toml"));
    if !kit::bring(&kit::installed("rust"), &sources.join("Cargo.lock"), &mut [fetch]) {
        return;
    }
    let mut client = Command::new(env!("CARGO"));
    client
        .args(["test", "--quiet", "--locked", "--tests", "--", "--test-threads=4"])
        .current_dir(sources)
        .env("CARGO_TARGET_DIR", kit::installed("rust"));
    kit::passes_on(kind, "rust-client", client, "9 passed");
}

#[test]
fn the_rust_client_works_with_ours() {
    rust_tests_pass_on(Kind::Ours);
}

#[test]
fn the_tests_themselves_hold_on_the_real_etcd() {
    rust_tests_pass_on(Kind::Real);
}
