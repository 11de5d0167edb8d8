//! The Node client `etcd3`, unmodified, against ours (and against the real one, so
//! that the tests themselves are judged).

mod kit;

use std::fs;
use std::process::Command;

use mainstay_interop::{Kind, tool};

fn node_tests_pass_on(kind: Kind) {
    let Some(node) = tool("node", "--version") else { return };
    let Some(npm) = tool("npm", "--version") else { return };
    let (sources, folder) = (kit::sources("node"), kit::installed("node"));
    let pins = sources.join("package.json");
    fs::create_dir_all(&folder).expect("a folder beside the build");
    // Node looks for modules beside the script, and nothing may be installed into the tree.
    for file in ["package.json", "etcd3.test.js"] {
        fs::copy(sources.join(file), folder.join(file)).expect("a copy of our own file");
    }
    let mut install = Command::new(npm);
    install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]);
    if !kit::bring(&folder, &pins, &mut [install]) {
        return;
    }
    let mut client = Command::new(node);
    client.args(["--test", "etcd3.test.js"]).current_dir(&folder);
    kit::passes_on(kind, "node-client", client, " pass 14");
}

#[test]
fn the_node_client_works_with_ours() {
    node_tests_pass_on(Kind::Ours);
}

#[test]
fn the_tests_themselves_hold_on_the_real_etcd() {
    node_tests_pass_on(Kind::Real);
}
