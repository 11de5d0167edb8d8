//! Command lines that are not accepted: in whose words, with which exit code, and the same as the
//! real etcd's wherever 3.5.16 has the flag.

use std::process::Command;

use super::peers::real_etcd;
use super::program::{Folder, any_ports, ours, outcome};

/// Arguments, exit code, part of what is said on standard error.
type Case = (&'static [&'static str], i32, &'static str);

/// What etcd 3.5.16 and 3.7 refuse in the same words.
const AS_ETCD: &[Case] = &[
    (&["--no-such-flag"], 2, "flag provided but not defined: -no-such-flag"),
    (&["-no-such-flag=1"], 2, "flag provided but not defined: -no-such-flag"),
    (&["--name"], 2, "flag needs an argument: -name"),
    (&["--=x"], 2, "bad flag syntax: --=x"),
    (&["--snapshot-count=many"], 2, "invalid value \"many\" for flag -snapshot-count: parse error"),
    (&["--snapshot-count=-1"], 2, "invalid value \"-1\" for flag -snapshot-count: parse error"),
    (&["--pre-vote=perhaps"], 2, "invalid boolean value \"perhaps\" for -pre-vote: parse error"),
    (
        &["--initial-cluster-state=old"],
        2,
        "invalid value \"old\" for flag -initial-cluster-state: invalid value",
    ),
    (&["--pre-vote", "false"], 1, "is not a valid flag"),
    (&["--heartbeat-interval=0"], 1, "--heartbeat-interval must be >0 (set to 0ms)"),
    (&["--election-timeout=0"], 1, "--election-timeout must be >0 (set to 0ms)"),
    (
        &["--election-timeout=100"],
        1,
        "--election-timeout[100ms] should be at least as 5 times as --heartbeat-interval[100ms]",
    ),
    (
        &["--election-timeout=60000"],
        1,
        "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
    ),
    (
        &["--listen-client-urls=http://127.0.0.1:0"],
        1,
        "--advertise-client-urls is required when --listen-client-urls is set explicitly",
    ),
    (
        &["--listen-peer-urls=http://example.com:2380"],
        1,
        "expected IP in URL for binding (http://example.com:2380)",
    ),
    (
        &["--initial-advertise-peer-urls=http://:2380"],
        1,
        "must be \\\"host:port\\\" (unexpected empty host (http://:2380))",
    ),
    (&["--auto-compaction-mode=sometimes"], 1, "unknown auto-compaction-mode \\\"sometimes\\\""),
    (&["--cors=nonsense"], 2, "invalid value \"nonsense\" for flag -cors: URL scheme must be http"),
    (&["--cors="], 2, "invalid value \"\" for flag -cors: URL scheme must be http"),
    (&["--logger=capnslog"], 1, "--logger=capnslog is removed in v3.5"),
    (&["--logger=other"], 1, "unknown logger option \\\"other\\\""),
    (
        &["--enable-log-rotation"],
        1,
        "--log-outputs requires a single file path when --log-rotate-config-json is defined",
    ),
    (
        &["--log-outputs=default,stdout"],
        1,
        "multi logoutput for \\\"default\\\" is not supported yet",
    ),
];

/// What only 3.7 says, and what this release says by itself.
const OURS: &[Case] = &[
    (&["--enable-v2=false"], 2, "--enable-v2 was removed: the v2 API is gone"),
    (&["--proxy=on"], 2, "--proxy was removed"),
    (&["--debug"], 2, "--debug was removed: use --log-level=debug"),
    (&["--ca-file=/ca"], 2, "--ca-file was removed: use --trusted-ca-file"),
    (
        &["--experimental-memory-mlock=false", "--memory-mlock=false"],
        1,
        "cannot specify both flags: --experimental-memory-mlock=false and --memory-mlock=false at \
         the same time, please just use --memory-mlock=false",
    ),
    (&["--feature-gates=Nonsense=true"], 2, "unrecognized feature gate: Nonsense"),
    (&["--feature-gates=AllAlpha"], 2, "missing bool value for AllAlpha"),
    (
        &["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"],
        1,
        "AllowedCNs and AllowedHostnames are mutually exclusive",
    ),
    (
        &["--client-cert-allowed-hostname=a"],
        1,
        "--client-cert-allowed-hostname needs --trusted-ca-file",
    ),
    (&["--auth-token=jwt,pub-key=k"], 1, "auth: invalid auth options"),
    (
        &["--cipher-suites=TLS_RSA_WITH_RC4_128_SHA"],
        1,
        "--cipher-suites: TLS_RSA_WITH_RC4_128_SHA is not spoken",
    ),
    (
        &["--listen-client-http-urls=http://localhost:2379"],
        1,
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url \
         http://localhost:2379",
    ),
    (&["--log-level=loud"], 1, "unrecognized level: \\\"loud\\\""),
    // What is only asked of a new member is refused before a directory is made.
    (
        &["--initial-cluster-state=existing"],
        1,
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from \
         the given URLs",
    ),
    (
        &["--discovery-srv=example.invalid"],
        1,
        "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl",
    ),
    (&["--discovery=nowhere"], 1, "failed to join discovery cluster (discovery: invalid URL)"),
    (
        &["--name=m1", "--initial-cluster=m2=http://localhost:2380"],
        1,
        "couldn't find local name \\\"m1\\\" in the initial cluster configuration",
    ),
    (
        &["--initial-cluster=default=http://127.0.0.1:9"],
        1,
        "--initial-cluster has default=http://127.0.0.1:9 but missing from \
         --initial-advertise-peer-urls=http://localhost:2380",
    ),
    (
        &["--initial-cluster=default=http://localhost:2380,m2=http://localhost:2380"],
        1,
        "has duplicate url",
    ),
];

fn check(mut command: Command, case: &Case, folder: &Folder) {
    let (args, wanted, gist) = case;
    command.env_clear().current_dir(folder.path()).args(*args);
    let (code, stdout, stderr) = outcome(command);
    assert_eq!((code, stdout.as_str()), (*wanted, ""), "{args:?}: {stderr}");
    assert!(stderr.contains(gist), "{args:?}: no {gist} in {stderr}");
    let usage = stderr.contains("Usage:");
    assert_eq!(usage, *wanted == 2, "{args:?}: {stderr}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).expect("our folder").collect();
    assert!(left.is_empty(), "{args:?} left {left:?}");
}

#[test]
fn a_command_line_is_refused_in_etcds_words() {
    let folder = Folder::new();
    for case in AS_ETCD {
        check(ours(), case, &folder);
    }
    let Some(real) = real_etcd() else { return };
    for case in AS_ETCD {
        check(Command::new(&real), case, &folder);
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let folder = Folder::new();
    for case in OURS {
        let mut command = ours();
        let listens = case.0.iter().any(|arg| arg.starts_with("--listen"));
        command.args(if listens { Vec::new() } else { any_ports() });
        check(command, case, &folder);
    }
}

#[test]
fn a_bad_variable_is_refused_and_an_empty_one_is_none() {
    let folder = Folder::new();
    let mut command = ours();
    command.current_dir(folder.path()).env("ETCD_SNAPSHOT_COUNT", "many");
    let (code, _, stderr) = outcome(command);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("invalid value \\\"many\\\" for ETCD_SNAPSHOT_COUNT: parse error"));

    let mut command = ours();
    command.current_dir(folder.path()).env("ETCD_NAME", "").arg("--election-timeout=0");
    let (code, _, stderr) = outcome(command);
    assert!(code == 1 && stderr.contains("--election-timeout must be >0"), "{stderr}");
}

#[test]
fn help_and_versions_are_printed() {
    for arg in ["-h", "--help", "-help"] {
        let mut command = ours();
        command.arg(arg);
        let (code, stdout, stderr) = outcome(command);
        assert_eq!(code, 0);
        assert!(stderr.starts_with("Usage:"), "{stderr}");
        assert!(stdout.contains("--listen-client-urls 'http://localhost:2379'"), "{stdout}");
    }
    let mut command = ours();
    command.arg("--version");
    let (code, stdout, stderr) = outcome(command);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "etcd Version: 3.7.1");
    for (line, start) in lines[1..].iter().zip(["Git SHA: ", "Go Version: ", "Go OS/Arch: "]) {
        assert!(line.starts_with(start) && line.len() > start.len(), "{stdout}");
    }
    for proxy in ["gateway", "grpc-proxy"] {
        let mut command = ours();
        command.args([proxy, "start"]);
        let (code, _, stderr) = outcome(command);
        assert!(code == 1 && stderr.contains("is not part of this release"), "{stderr}");
    }
}
