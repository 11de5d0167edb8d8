//! The Go client, unmodified, against ours (and against the real one, so that the
//! tests themselves are judged).

use std::process::Command;

use mainstay_interop::{Folder, Kind, Start, tool};

fn go_tests_pass_on(kind: Kind) {
    let Some(go) = tool("go", "version") else { return };
    let folder = Folder::new("go-clients");
    let Some(member) = Start::new(kind, &folder.path().join("m.etcd")).run() else { return };
    let mut tests = Command::new(go);
    if kind == Kind::Real && std::env::var_os("INTEROP_KUBE_OBJECTS").is_none() {
        // The run with a cluster's objects is ours to pass; the real one judges the test.
        tests.env("INTEROP_KUBE_OBJECTS", "20000");
    }
    let told = tests
        .args(["test", "-count=1", "./..."])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/go"))
        .env("INTEROP_ENDPOINT", member.endpoint())
        .output()
        .expect("go starts");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}\n{}", String::from_utf8_lossy(&told.stderr));
    assert!(text.contains("ok"), "go must have run tests: {text}");
    eprintln!("{text}");
    member.stop();
}

#[test]
fn the_go_client_works_with_ours() {
    go_tests_pass_on(Kind::Ours);
}

#[test]
fn the_tests_themselves_hold_on_the_real_etcd() {
    go_tests_pass_on(Kind::Real);
}
