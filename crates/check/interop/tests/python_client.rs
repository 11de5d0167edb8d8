//! The Python client `etcd3`, unmodified, against ours (and against the real one, so
//! that the tests themselves are judged).

mod kit;

use std::process::Command;

use mainstay_interop::{Kind, tool};

fn python_tests_pass_on(kind: Kind) {
    let Some(python) = tool("python3", "--version") else { return };
    let (sources, folder) = (kit::sources("python"), kit::installed("python"));
    let pins = sources.join("requirements.txt");
    let mut venv = Command::new(python);
    venv.args(["-m", "venv", "venv"]);
    let mut install = Command::new(folder.join("venv/bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&pins);
    if !kit::bring(&folder, &pins, &mut [venv, install]) {
        return;
    }
    let mut client = Command::new(folder.join("venv/bin/python"));
    client
        .args(["-m", "unittest", "test_etcd3"])
        .current_dir(sources)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // Messages of protobuf 3.19 and before, also where there is no compiled reader for them.
        .env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
    kit::passes_on(kind, "python-client", client, "Ran 15 tests");
}

#[test]
fn the_python_client_works_with_ours() {
    python_tests_pass_on(Kind::Ours);
}

#[test]
fn the_tests_themselves_hold_on_the_real_etcd() {
    python_tests_pass_on(Kind::Real);
}
