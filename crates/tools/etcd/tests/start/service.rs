//! A member as a service: the unit file, readiness, signals and how it ends.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value as Json;

use super::http::get;
use super::program::{Folder, PATIENCE, Program, anywhere, line_with, ours, outcome};

/// systemd is told once the member serves, and not before.
fn wait_ready(socket: &UnixDatagram, member: &Program) {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut told = [0; 64];
    let size = socket.recv(&mut told).expect("a message");
    // Lines of assignments; systemd needs no end of the last one.
    assert_eq!(String::from_utf8_lossy(&told[..size]).trim_end(), "READY=1");
    let serves = |lines: &[String]| line_with(lines, "ready to serve client requests").map(|_| ());
    member.wait("readiness", serves);
}

#[test]
fn systemd_is_told_once_the_member_serves() {
    let folder = Folder::new();
    let socket = UnixDatagram::bind(folder.at("notify")).expect("a socket");
    let mut command = ours();
    command.args(anywhere(&folder)).env("NOTIFY_SOCKET", folder.at("notify"));
    let member = Program::start(command);
    wait_ready(&socket, &member);
    assert_eq!(get(&member.client_url(), "/readyz").0, 200);
    member.stop();
}

/// The unit that we hand out, with its paths replaced.
#[test]
fn the_unit_file_starts_a_member() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/etcd.service");
    let unit = std::fs::read_to_string(&path).expect("the unit");
    let values = |key: &str| {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(values("Type"), ["notify"]);
    assert_eq!(values("ExecStart"), ["/usr/bin/etcd"], "flags would clash with /etc/default/etcd");
    let folder = Folder::new();
    let socket = UnixDatagram::bind(folder.at("notify")).expect("a socket");
    let mut command = ours();
    command.env("NOTIFY_SOCKET", folder.at("notify"));
    for setting in values("Environment") {
        let (name, value) = setting.split_once('=').expect("NAME=value");
        let value = value.replace("/var/lib/etcd", &folder.at("data")).replace("%H", "node-1");
        command.env(name, value);
    }
    // What an operator would write into /etc/default/etcd.
    for name in ["ETCD_LISTEN_CLIENT_URLS", "ETCD_ADVERTISE_CLIENT_URLS", "ETCD_LISTEN_PEER_URLS"] {
        command.env(name, "http://127.0.0.1:0");
    }
    let member = Program::start(command);
    wait_ready(&socket, &member);
    assert_eq!(member.wait_line("starting an etcd server")["name"], "node-1");
    assert!(Path::new(&folder.at("data/member/snap/db")).is_file());
    let lines = member.stop();
    assert!(line_with(&lines, "unrecognized environment variable").is_none(), "{lines:#?}");
}

#[test]
fn it_ends_by_the_signal_and_says_so() {
    let folder = Folder::new();
    for (signal, number, word) in [(Signal::TERM, 15, "terminated"), (Signal::INT, 2, "interrupt")]
    {
        let mut command = ours();
        command.args(anywhere(&folder));
        let member = Program::start(command);
        member.client_url();
        member.signal(signal);
        let (status, lines) = member.end();
        assert_eq!(status.signal(), Some(number), "{status}: {lines:#?}");
        let line = line_with(&lines, "received signal; shutting down").expect("it says so");
        assert_eq!(line["signal"], word);
        let closed = line_with(&lines, "closed etcd server").expect("it says so");
        assert_eq!(closed["name"], "m1");
        // Nobody has to look at a normal start and stop.
        let notable = |line: &&String| {
            let json: Json = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            // This one etcd says at every start.
            json["level"] != "info" && json["msg"] != "simple token is not cryptographically signed"
        };
        assert_eq!(lines.iter().find(notable), None, "{lines:#?}");
    }
}

/// As the first process of a container, which no signal ends by itself, it leaves with 0.
#[test]
fn the_first_process_of_a_container_leaves_with_zero() {
    let folder = Folder::new();
    let unshare = ["-r", "-p", "-f", "--kill-child"];
    let allowed = std::process::Command::new("unshare").args(unshare).arg("true").output();
    if !allowed.is_ok_and(|out| out.status.success()) {
        eprintln!("\n*** DID NOT RUN: this machine makes no namespaces\n");
        return;
    }
    let mut command = std::process::Command::new("unshare");
    command.args(unshare).arg(env!("CARGO_BIN_EXE_etcd")).args(anywhere(&folder));
    let program = Program::start(command);
    program.client_url();
    // unshare waits for its child and passes its exit code on, but no signals.
    let children = format!("/proc/{0}/task/{0}/children", program.id());
    let children = std::fs::read_to_string(children).expect("a list of children");
    let child: i32 = children.trim().parse().expect("one child");
    let child = rustix::process::Pid::from_raw(child).expect("a process");
    rustix::process::kill_process(child, Signal::TERM).expect("it runs");
    let (status, lines) = program.end();
    assert_eq!(status.code(), Some(0), "{status}: {lines:#?}");
    assert!(line_with(&lines, "closed etcd server").is_some(), "{lines:#?}");
}

/// The limit that connections share leaves nothing to such a process, so etcd refuses it.
#[test]
fn too_few_descriptors_stop_the_start() {
    let folder = Folder::new();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 150; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_etcd")]);
    command.args(anywhere(&folder)).env_clear();
    let (code, _, stderr) = outcome(command);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("file descriptor limit of etcd process is too low; please set higher"));
    assert!(!Path::new(&folder.at("data")).exists());
}
