//! `--peer-auto-tls` and `--auto-tls`: certificates that a member makes for itself, beside
//! the real etcd's.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use super::peers::real_etcd;
use super::program::{Folder, Program, anywhere, ours, outcome};

/// Addresses that were free a moment ago.
fn free(count: usize) -> Vec<String> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listeners: Vec<TcpListener> = (0..count).map(bind).collect();
    let address = |l: &TcpListener| l.local_addr().expect("it is bound").to_string();
    listeners.iter().map(address).collect()
}

fn flags(folder: &Folder, n: usize, peers: &[String]) -> Vec<String> {
    let name = |n: usize| format!("m{n}");
    let all: Vec<String> =
        peers.iter().enumerate().map(|(n, peer)| format!("{}=https://{peer}", name(n))).collect();
    vec![
        format!("--name={}", name(n)),
        format!("--data-dir={}", folder.at(&name(n))),
        "--listen-client-urls=http://127.0.0.1:0".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:0".to_owned(),
        format!("--listen-peer-urls=https://{}", peers[n]),
        format!("--initial-advertise-peer-urls=https://{}", peers[n]),
        format!("--initial-cluster={}", all.join(",")),
        "--peer-auto-tls".to_owned(),
    ]
}

#[test]
fn members_with_certificates_of_their_own_make_a_cluster() {
    let folder = Folder::new();
    let real = real_etcd();
    let peers = free(if real.is_some() { 3 } else { 2 });
    let start = |n: usize| {
        let mut command = ours();
        command.args(flags(&folder, n, &peers)).arg("--initial-cluster-version=3.5");
        Program::start(command)
    };
    let mut members = vec![start(0), start(1)];
    members.extend(real.map(|path| {
        let mut command = Command::new(path);
        command.env_clear().stdin(Stdio::null()).args(flags(&folder, 2, &peers));
        Program::start(command)
    }));
    for member in &members {
        member.wait_line("ready to serve client requests");
    }
    members[0].wait_line("automatically generate certificates");
    let fixtures = folder.path().join("m0/fixtures/peer");
    let key = std::fs::metadata(fixtures.join("key.pem")).expect("a key");
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let cert = std::fs::read(fixtures.join("cert.pem")).expect("a certificate");
    // The next start takes what is there.
    members.remove(0).stop();
    let again = start(0);
    again.wait_line("ready to serve client requests");
    assert_eq!(std::fs::read(fixtures.join("cert.pem")).expect("it is there"), cert);
    let lines = again.stop();
    assert!(!lines.iter().any(|line| line.contains("automatically generate")), "{lines:#?}");
}

#[test]
fn clients_are_served_with_a_certificate_that_was_made() {
    let folder = Folder::new();
    let mut command = ours();
    let flags = anywhere(&folder).into_iter().map(|flag| match flag.split_once("=http://") {
        Some((name, rest)) if name.contains("client") => format!("{name}=https://{rest}"),
        _ => flag,
    });
    command.args(flags).args(["--auto-tls", "--self-signed-cert-validity=2"]);
    let member = Program::start(command);
    assert!(member.client_url().starts_with("https://"));
    assert!(folder.path().join("data/fixtures/client/cert.pem").is_file());
    member.stop();
}

#[test]
fn what_checks_callers_does_not_go_with_it() {
    let folder = Folder::new();
    let ca = folder.write("ca.pem", "");
    for (flag, named) in [
        (format!("--peer-trusted-ca-file={ca}"), "--peer-auto-tls"),
        ("--peer-client-cert-auth".to_owned(), "--peer-auto-tls"),
        ("--peer-cert-allowed-cn=me".to_owned(), "--peer-auto-tls"),
        ("--self-signed-cert-validity=0".to_owned(), "selfSignedCertValidity is invalid"),
    ] {
        let mut command = ours();
        command.args(anywhere(&folder)).args(["--peer-auto-tls", &flag]);
        let (code, _, told) = outcome(command);
        assert!(code == 1 && told.contains(named), "{flag}: {code} {told}");
    }
}
