//! Flags, variables and files: what counts, and what counts more.

use super::http::get;
use super::program::{Folder, Program, any_ports, anywhere, line_with, ours, outcome};

/// The line that says the whole configuration.
fn configuration(member: &Program) -> serde_json::Value {
    member.wait_line("starting an etcd server")
}

#[test]
fn every_flag_is_a_variable() {
    let folder = Folder::new();
    let mut command = ours();
    command
        .env("ETCD_NAME", "from-env")
        .env("ETCD_DATA_DIR", folder.at("data"))
        .env("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:0")
        .env("ETCD_ADVERTISE_CLIENT_URLS", "http://127.0.0.1:0")
        .env("ETCD_LISTEN_PEER_URLS", "http://127.0.0.1:0")
        .env("ETCD_SNAPSHOT_COUNT", "7000")
        .env("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", "7s")
        .env("ETCD_UNHEARD_OF", "1");
    let member = Program::start(command);
    let line = configuration(&member);
    assert_eq!(line["name"], "from-env");
    assert_eq!(line["snapshot-count"], 7000);
    assert_eq!(line["data-dir"], folder.at("data"));
    assert_eq!(line["initial-cluster"], "from-env=http://localhost:2380");
    let tuning = member.wait_line("tuning of this member");
    assert_eq!(tuning["watch-progress-notify-interval"], "7s");
    get(&member.client_url(), "/health");
    let lines = member.stop();
    let of = |part| line_with(&lines, part).unwrap_or_else(|| panic!("no {part} in {lines:#?}"));
    let used = of("recognized and used environment variable");
    assert!(used["variable-name"].as_str().is_some_and(|name| name.starts_with("ETCD_")));
    let unknown = of("unrecognized environment variable");
    assert_eq!(unknown["environment-variable"], "ETCD_UNHEARD_OF");
    let old = of("--experimental-watch-progress-notify-interval is deprecated");
    assert_eq!(old["level"], "warn");
}

#[test]
fn flags_and_variables_mix_but_never_say_the_same_thing_twice() {
    let folder = Folder::new();
    let mut command = ours();
    command.args(anywhere(&folder)).env("ETCD_MAX_TXN_OPS", "9");
    let member = Program::start(command);
    assert_eq!(member.wait_line("tuning of this member")["max-txn-ops"], 9);
    member.client_url();
    member.stop();

    let mut command = ours();
    command.args(anywhere(&folder)).env("ETCD_NAME", "m1");
    let (code, _, stderr) = outcome(command);
    assert_eq!(code, 1);
    assert!(
        stderr.contains(
            "conflicting environment variable is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag)"
        ) && stderr.contains("ETCD_NAME"),
        "{stderr}"
    );
}

#[test]
fn a_file_is_all_that_counts() {
    let folder = Folder::new();
    // Certificates lie in the file's own maps, durations are nanoseconds, keys fold their case.
    let file = folder.write(
        "etcd.yaml",
        &format!(
            "Name: from-file\n\
             data-dir: {}\n\
             listen-client-urls: http://127.0.0.1:0\n\
             listen-peer-urls: http://127.0.0.1:0\n\
             listen-metrics-urls: http://127.0.0.1:0\n\
             snapshot-count: 6000\n\
             experimental-compaction-batch-limit: 77\n\
             watch-progress-notify-interval: 5000000000\n\
             auto-compaction-mode: revision\n\
             auto-compaction-retention: '1000'\n\
             max-txn-ops: 10\n\
             log-level: info\n\
             unheard-of: true\n",
            folder.at("data")
        ),
    );
    for by_variable in [false, true] {
        let mut command = ours();
        // All of this is passed over, even what would not be accepted.
        command.args(["--name=from-flag", "--max-txn-ops=1", "--force-new-cluster"]);
        command.env("ETCD_SNAPSHOT_COUNT", "1").env("ETCD_NAME", "from-env");
        if by_variable {
            command.env("ETCD_CONFIG_FILE", &file);
        } else {
            command.arg(format!("--config-file={file}"));
        }
        let member = Program::start(command);
        let line = configuration(&member);
        assert_eq!(line["name"], "from-file");
        assert_eq!(line["snapshot-count"], 6000);
        assert_eq!(line["auto-compaction-mode"], "revision");
        assert_eq!(line["auto-compaction-retention"], "1000");
        let tuning = member.wait_line("tuning of this member");
        assert_eq!(tuning["max-txn-ops"], 10);
        assert_eq!(tuning["compaction-batch-limit"], 77);
        assert_eq!(tuning["watch-progress-notify-interval"], "5s");
        let used = member.wait_line("loaded server configuration, other configuration");
        assert_eq!(used["path"], file.as_str());
        let metrics = member.serving("listen-metrics-urls");
        assert_eq!(get(&metrics[0], "/readyz").0, 200);
        member.stop();
    }
}

#[test]
fn a_file_that_cannot_be_used_stops_the_start() {
    let folder = Folder::new();
    for (text, gist) in [
        ("name: 010\n", "name: expected a text"),
        ("name: m1\nsnapshot-count: many\n", "snapshot-count: expected a whole number"),
        ("name: m1\nwatch-progress-notify-interval: 5s\n", "whole number of nanoseconds"),
        ("name: [m1\n", "error parsing the configuration file"),
        ("just words\n", "not a map"),
        ("name: m1\ninitial-cluster-state: old\n", "unexpected clusterState"),
        ("name: m1\nallowed-hostname: [m1]\n", ""),
        (
            "name: m1\nclient-transport-security:\n  allowed-hostname: [m1]\n",
            "--client-cert-allowed-hostname needs --trusted-ca-file",
        ),
        (
            "name: m1\nexperimental-memory-mlock: true\nmemory-mlock: true\n",
            "cannot specify both flags: --experimental-memory-mlock=true and --memory-mlock=true at \
             the same time, please just use --memory-mlock=true",
        ),
    ] {
        if gist.is_empty() {
            // The same key outside of its map means nothing.
            continue;
        }
        let file = folder.write("etcd.yaml", text);
        let mut command = ours();
        command.arg(format!("--config-file={file}"));
        let (code, stdout, stderr) = outcome(command);
        assert_eq!((code, stdout.as_str()), (1, ""), "{text}: {stderr}");
        assert!(stderr.contains("failed to verify flags") && stderr.contains(gist), "{stderr}");
    }
    let mut command = ours();
    command.arg("--config-file=/nowhere/etcd.yaml");
    let (code, _, stderr) = outcome(command);
    assert!(code == 1 && stderr.contains("open /nowhere/etcd.yaml"), "{code}: {stderr}");
}

/// A password among the arguments or the variables reaches no log.
#[test]
fn passwords_stay_out_of_the_log() {
    let folder = Folder::new();
    for (args, env) in [
        (vec!["--discovery-password=canary-4711"], None),
        (vec!["--discovery-password", "canary-4711"], None),
        (vec![], Some("canary-4711")),
    ] {
        let mut command = ours();
        command.arg(format!("--data-dir={}", folder.at("data"))).args(any_ports()).args(args);
        command.arg("--discovery=nowhere");
        if let Some(password) = env {
            command.env("ETCD_DISCOVERY_PASSWORD", password);
        }
        let (code, stdout, stderr) = outcome(command);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("discovery: invalid URL"), "{stderr}");
        assert!(!stderr.contains("canary") && !stdout.contains("canary"), "{stderr}");
    }
}
