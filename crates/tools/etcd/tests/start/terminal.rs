//! What somebody sees who just types `etcd`, and what a log collector sees.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value as Json;

use super::http::get;
use super::program::{Folder, PATIENCE, Program, anywhere, ours};

/// A start without any flag takes etcd's ports, so it gets a network of its own where the machine
/// allows that, and else the ports of the machine.
fn bare(folder: &Folder) -> std::process::Command {
    let own_network = ["-rn", "sh", "-c", "ip link set lo up"];
    let allowed = std::process::Command::new("unshare").args(own_network).output();
    let mut command = if allowed.is_ok_and(|out| out.status.success()) {
        let mut command = std::process::Command::new("unshare");
        command.args([
            "-rn",
            "sh",
            "-c",
            "ip link set lo up && exec \"$0\"",
            env!("CARGO_BIN_EXE_etcd"),
        ]);
        command
    } else {
        ours()
    };
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.current_dir(folder.path());
    command
}

#[test]
fn a_bare_start_on_a_terminal_says_what_it_did_and_how_to_go_on() {
    let folder = Folder::new();
    for made in ["just made", "as it was left"] {
        let member = Program::start_on_terminal(bare(&folder));
        member.wait("invitation", |lines| {
            lines.iter().any(|line| line.contains("Ctrl-C stops it")).then_some(())
        });
        assert!(folder.path().join("default.etcd/member/snap/db").is_file());
        member.signal(Signal::INT);
        let (_, lines) = member.end();
        let text = lines.join("\n");
        assert!(lines.len() < 20, "{text}");
        for part in [
            "etcd 3.7.1 (Mainstay",
            "default.etcd",
            made,
            "http://localhost:2379",
            "etcdctl put greeting hello",
            "etcdctl get greeting",
        ] {
            assert!(text.contains(part), "no {part} in\n{text}");
        }
        assert!(!text.contains('{'), "log lines beside the greeting:\n{text}");
    }
}

#[test]
fn a_bare_start_elsewhere_logs_json() {
    let folder = Folder::new();
    let member = Program::start(bare(&folder));
    let urls = member.serving("listen-client-urls");
    assert!(urls.iter().all(|url| url.ends_with(":2379")), "{urls:?}");
    let lines = member.stop();
    lines.iter().for_each(|line| check_shape(line));
}

/// A flag asks for the log, on a terminal too, and then without colours.
#[test]
fn a_start_with_flags_on_a_terminal_logs_json() {
    let folder = Folder::new();
    let mut command = ours();
    command.args(anywhere(&folder));
    let member = Program::start_on_terminal(command);
    member.client_url();
    let lines = member.stop();
    lines.iter().for_each(|line| check_shape(line.trim_end_matches('\r')));
}

/// One object per line with a level, a time as Go writes it, a caller and a message.
fn check_shape(line: &str) {
    let json: Json = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("no {key} in {line}"));
    assert!(matches!(text("level"), "info" | "warn"), "{line}");
    assert!(!text("msg").is_empty(), "{line}");
    let (file, number) = text("caller").rsplit_once(':').expect("file:line");
    assert!(file.ends_with(".rs") && number.parse::<u32>().is_ok(), "{line}");
    let form = "0000-00-00T00:00:00.000000Z";
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    assert_eq!(text("ts").chars().map(digits).collect::<String>(), form, "{line}");
}

#[test]
fn log_outputs_levels_and_forms() {
    let folder = Folder::new();
    let log = folder.at("etcd.log");
    let mut command = ours();
    command.args(anywhere(&folder)).args([
        &format!("--log-outputs=stderr,{log}"),
        "--log-format=console",
        "--enable-log-rotation",
        "--log-rotation-config-json={\"maxsize\": 1}",
    ]);
    let member = Program::start(command);
    let ready = member.wait("readiness", |lines| {
        lines.iter().find(|line| line.contains("ready to serve client requests")).cloned()
    });
    assert_eq!(ready.split('\t').count(), 4, "{ready}");
    let lines = member.stop();
    let kept = std::fs::read_to_string(&log).expect("the log file");
    assert_eq!(kept.lines().collect::<Vec<_>>(), lines);

    let mut command = ours();
    command.current_dir(folder.path()).args(anywhere(&folder));
    command.args(["--log-level=error", "--listen-metrics-urls=unix://m"]);
    let member = Program::start(command);
    // It says nothing, so the socket tells when it is there.
    let deadline = Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(folder.at("m")).is_err() {
        assert!(Instant::now() < deadline, "no metrics listener");
        std::thread::yield_now();
    }
    assert_eq!(get(&format!("unix://{}", folder.at("m")), "/livez").0, 200);
    assert_eq!(member.stop(), Vec::<String>::new());
}
