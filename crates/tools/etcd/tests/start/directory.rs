//! The data directory: whose it is, what it may hold, and what start flags mean once it has a
//! member.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::http::get;
use super::peers::{real_etcd, real_etcdctl};
use super::program::{Folder, Program, any_ports, anywhere, line_with, ours, outcome};

fn founded(folder: &Folder) {
    let mut command = ours();
    command.args(anywhere(folder));
    let member = Program::start(command);
    member.client_url();
    member.stop();
}

#[test]
fn a_directory_has_one_member_at_a_time() {
    let folder = Folder::new();
    let mut command = ours();
    command.args(anywhere(&folder));
    let member = Program::start(command);
    member.client_url();
    let mut command = ours();
    command.args(anywhere(&folder));
    let (code, _, stderr) = outcome(command);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("is locked: another process, perhaps another etcd, is using it"));
    member.stop();
    founded(&folder);
}

#[test]
fn directories_are_private_and_what_does_not_belong_there_is_named() {
    let folder = Folder::new();
    let mut command = ours();
    command.args(anywhere(&folder));
    let member = Program::start(command);
    let new = member.wait_line("Initialize and start etcd server");
    assert_eq!(new["dir-type"], "empty");
    member.client_url();
    member.stop();
    for dir in ["data", "data/member", "data/member/snap", "data/member/wal"] {
        let mode = std::fs::metadata(folder.at(dir)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }
    std::fs::write(folder.at("data/notes.txt"), "mine").expect("written");
    std::fs::set_permissions(folder.at("data"), std::fs::Permissions::from_mode(0o755))
        .expect("our own folder");
    let mut command = ours();
    command.args(anywhere(&folder));
    let member = Program::start(command);
    member.client_url();
    let known = member.wait_line("server has already been initialized");
    assert_eq!(known["dir-type"], "member");
    let odd = member.wait_line("found invalid file under data directory");
    assert_eq!((&odd["filename"], &odd["level"]), (&"notes.txt".into(), &"warn".into()));
    let mode = member.wait_line("different file permission than the recommended");
    assert_eq!(mode["level"], "warn");
    member.stop();
    assert!(Path::new(&folder.at("data/notes.txt")).exists());

    std::fs::create_dir(folder.at("data/proxy")).expect("made");
    let mut command = ours();
    command.args(anywhere(&folder));
    let (code, _, stderr) = outcome(command);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("both member and proxy directories exist"), "{stderr}");
}

/// The mode of everything below a folder, itself included.
fn modes(path: &Path, found: &mut Vec<(String, bool, u32)>) {
    let data = std::fs::symlink_metadata(path).expect("it is there");
    let shown = path.display().to_string();
    found.push((shown, data.is_dir(), data.permissions().mode() & 0o777));
    if data.is_dir() {
        for entry in std::fs::read_dir(path).expect("our own") {
            modes(&entry.expect("our own").path(), found);
        }
    }
}

/// Whatever the process's umask lets through: folders are 0700, files 0600.
#[test]
fn nobody_else_may_read_what_a_member_stores() {
    let folder = Folder::new();
    let start = || {
        let mut command = Command::new("sh");
        command.env_clear().args(["-c", "umask 0 && exec \"$0\" \"$@\""]);
        command.arg(ours().get_program()).args(anywhere(&folder)).args([
            "--snapshot-count=1",
            "--auto-tls",
            "--peer-auto-tls",
            "--listen-peer-urls=https://127.0.0.1:0",
            &format!("--wal-dir={}", folder.at("log")),
        ]);
        Program::start(command)
    };
    for _ in 0..2 {
        let member = start();
        member.client_url();
        member.stop();
    }
    let mut found = Vec::new();
    modes(Path::new(&folder.at("data")), &mut found);
    modes(Path::new(&folder.at("log")), &mut found);
    for name in ["data/member/snap/db", "data/fixtures/peer/key.pem", "data/member/mainstay"] {
        let at = folder.at(name);
        assert!(found.iter().any(|(path, ..)| *path == at), "no {name} among {found:#?}");
    }
    for (path, is_dir, mode) in &found {
        assert_eq!(*mode, if *is_dir { 0o700 } else { 0o600 }, "{path}: {mode:o}");
    }
    // One that others may read is named; the member starts all the same.
    for name in ["data/member/snap/db", "log"] {
        let path = folder.at(name);
        let before = std::fs::metadata(&path).expect("it is there").permissions();
        let open = std::fs::Permissions::from_mode(before.mode() | 0o044);
        std::fs::set_permissions(&path, open).expect("our own");
        let member = start();
        let line = member.wait_line("stored data may be read by others");
        assert_eq!((&line["path"], &line["count"]), (&path.clone().into(), &1.into()), "{line}");
        member.client_url();
        member.stop();
        std::fs::set_permissions(&path, before).expect("our own");
    }
    let member = start();
    member.client_url();
    let lines = member.stop();
    assert!(line_with(&lines, "stored data may be read by others").is_none(), "{lines:#?}");
}

#[test]
fn a_data_directory_may_be_a_symbolic_link() {
    let folder = Folder::new();
    std::fs::create_dir(folder.at("disk")).expect("made");
    std::os::unix::fs::symlink(folder.at("disk"), folder.at("data")).expect("made");
    for _ in 0..2 {
        founded(&folder);
    }
    assert!(Path::new(&folder.at("disk/member/snap/db")).is_file());
    // One that leads nowhere is no place to found a member in.
    std::fs::rename(folder.at("disk"), folder.at("elsewhere")).expect("renamed");
    let mut command = ours();
    command.args(anywhere(&folder));
    let (code, _, stderr) = outcome(command);
    assert_eq!(code, 1, "{stderr}");
    assert!(!Path::new(&folder.at("disk")).exists(), "nothing was made behind the link");
}

/// A member that has a log is who the log says, in the cluster that the log says; flags that only
/// count at the first start are passed over, with a warning, as in etcd, where a service would be
/// asked.
#[test]
fn flags_of_a_new_member_mean_nothing_to_one_that_has_data() {
    let folder = Folder::new();
    let mut command = ours();
    command.args(anywhere(&folder));
    let member = Program::start(command);
    member.client_url();
    let identity = |member: &Program| {
        let line = member.wait_line("published local member to cluster through raft");
        (line["local-member-id"].clone(), line["cluster-id"].clone())
    };
    let born = identity(&member);
    member.stop();
    for (flags, warned) in [
        (vec!["--initial-cluster-state=existing"], false),
        (vec!["--initial-cluster=m1=http://localhost:2380,m2=http://127.0.0.1:1"], false),
        (vec!["--discovery-srv=example.invalid", "--initial-cluster="], false),
        (vec!["--discovery=http://127.0.0.1:1/t", "--initial-cluster="], true),
        (
            vec!["--discovery-endpoints=127.0.0.1:1", "--discovery-token=t", "--initial-cluster="],
            true,
        ),
        (vec!["--initial-cluster=other=http://127.0.0.1:7"], false),
        (vec!["--initial-cluster-token=other"], false),
        (vec!["--initial-advertise-peer-urls=http://127.0.0.1:7"], false),
        (vec!["--initial-cluster-version=3.5"], false),
    ] {
        let mut command = ours();
        command.args(anywhere(&folder)).args(&flags);
        let member = Program::start(command);
        member.client_url();
        assert_eq!(identity(&member), born, "{flags:?}");
        let lines = member.stop();
        let line = line_with(&lines, "is ignored since cluster already initialized");
        assert_eq!(line.is_some(), warned, "{flags:?}: {lines:#?}");
    }
}

#[test]
fn a_log_that_is_gone_is_not_made_anew() {
    let folder = Folder::new();
    founded(&folder);
    std::fs::remove_dir_all(folder.at("data/member/wal")).expect("removed");
    let mut command = ours();
    command.args(anywhere(&folder));
    let (code, _, stderr) = outcome(command);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("has no log: the log was removed or --wal-dir points elsewhere"));
}

/// What a client is told, run by the real etcdctl: the exit code and all that is printed.
fn told(etcdctl: &Path, endpoint: &str, words: &str) -> (i32, String) {
    let mut command = Command::new(etcdctl);
    command.env_clear().arg(format!("--endpoints={endpoint}")).args(words.split(' '));
    let (code, stdout, stderr) = outcome(command);
    (code, format!("{stdout}{stderr}"))
}

/// On a real etcd's directory with authentication a member asks as the real one did, and a
/// real one asks on as ours did: users, roles and passwords move both ways.
#[test]
fn a_directory_with_authentication_moves_both_ways() {
    let (Some(etcd), Some(etcdctl)) = (real_etcd(), real_etcdctl()) else { return };
    let changes = [
        "user add root:secret",
        "user grant-role root root",
        "user add alice:old",
        "role add r",
        "role grant-permission r readwrite k",
        "user grant-role alice r",
        "auth enable",
    ];
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let folder = Folder::new();
        change_really(&etcd, &etcdctl, &folder, &changes, signal);
        let mut command = ours();
        command.args(anywhere(&folder));
        let member = Program::start(command);
        let client = member.client_url();
        let expect = |endpoint: &str, words: &str, code: i32, part: &str| {
            let (found, text) = told(&etcdctl, endpoint, words);
            assert!(found == code && text.contains(part), "{words}: {found} {text}");
        };
        expect(&client, "get k", 1, "user name is empty");
        expect(&client, "--user=alice:new get k", 2, "authentication failed");
        expect(&client, "--user=alice:old get other", 1, "permission denied");
        expect(&client, "--user=alice:old put k v", 0, "OK");
        expect(&client, "--user=alice:old auth disable", 1, "permission denied");
        let (status, body) = get(&client, "/health");
        assert_eq!((status, body.contains("true")), (200, true), "{body}");
        expect(&client, "--user=root:secret user add bob:b", 0, "created");
        expect(&client, "--user=root:secret user grant-role bob r", 0, "granted");
        expect(&client, "--user=root:secret role grant-permission r read m z", 0, "updated");
        member.stop();
        // And back: what ours has changed holds for the real one.
        let mut command = Command::new(&etcd);
        command.env_clear().args(anywhere(&folder));
        let member = Program::start(command);
        member.wait_line("ready to serve client requests");
        let line = member.wait_line("serving client traffic insecurely");
        let endpoint = line["address"].as_str().expect("an address").to_owned();
        expect(&endpoint, "get k", 1, "user name is empty");
        expect(&endpoint, "--user=bob:b get k", 0, "v");
        expect(&endpoint, "--user=bob:b get n", 0, "");
        expect(&endpoint, "--user=bob:b put n v", 1, "permission denied");
        expect(&endpoint, "--user=root:secret auth status", 0, "AuthRevision: 10");
        member.signal(signal);
        member.end();
    }
}

/// Runs a real member, changes its cluster, and ends it by `signal`.
fn change_really(
    etcd: &Path,
    etcdctl: &Path,
    folder: &Folder,
    changes: &[&str],
    signal: rustix::process::Signal,
) {
    let mut command = Command::new(etcd);
    command.env_clear().args(anywhere(folder));
    let member = Program::start(command);
    member.wait_line("ready to serve client requests");
    let line = member.wait_line("serving client traffic insecurely");
    let endpoint = line["address"].as_str().expect("an address").to_owned();
    for change in changes {
        let mut command = Command::new(etcdctl);
        command.env_clear().arg(format!("--endpoints={endpoint}")).args(change.split(' '));
        let (code, _, stderr) = outcome(command);
        assert_eq!(code, 0, "{change}: {stderr}");
    }
    member.signal(signal);
    member.end();
}

/// The default directory is named after the member, below the working directory.
#[test]
fn the_default_directory_is_named_after_the_member() {
    let folder = Folder::new();
    let mut command = ours();
    command.current_dir(folder.path()).arg("--name=node-7").args(any_ports());
    command.arg(format!("--wal-dir={}", folder.at("log")));
    let member = Program::start(command);
    member.client_url();
    let lines = member.stop();
    assert!(line_with(&lines, "'data-dir' was empty; using default node-7.etcd").is_some());
    assert!(Path::new(&folder.at("node-7.etcd/member/snap/db")).is_file());
    assert!(!Path::new(&folder.at("node-7.etcd/member/wal")).exists());
    let segments = std::fs::read_dir(folder.at("log")).expect("the log").count();
    assert!(segments >= 1, "the log is elsewhere");
}
