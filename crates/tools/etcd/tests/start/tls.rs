//! Who is let in over TLS, what is said about who is not, and files that change.

use std::net::TcpListener;

use rcgen::{DnType, ExtendedKeyUsagePurpose, SerialNumber, date_time_ymd};

use super::http::{Pki, Trust, ask, get};
use super::program::{Folder, Program, ours};

/// Flags of a lone member that encrypts everything and wants certificates, with a plain
/// listener for metrics.
fn flags(folder: &Folder, pki: &Pki) -> Vec<String> {
    let at = |name: &str| pki.at(name);
    vec![
        "--name=m1".to_owned(),
        format!("--data-dir={}", folder.at("data")),
        "--listen-client-urls=https://127.0.0.1:0".to_owned(),
        "--advertise-client-urls=https://127.0.0.1:0".to_owned(),
        "--listen-peer-urls=https://127.0.0.1:0".to_owned(),
        "--initial-advertise-peer-urls=https://127.0.0.1:2380".to_owned(),
        "--initial-cluster=m1=https://127.0.0.1:2380".to_owned(),
        "--listen-metrics-urls=http://127.0.0.1:0".to_owned(),
        format!("--cert-file={}", at("server.crt")),
        format!("--key-file={}", at("server.key")),
        format!("--trusted-ca-file={}", at("ca.crt")),
        "--client-cert-auth".to_owned(),
        format!("--peer-cert-file={}", at("peer.crt")),
        format!("--peer-key-file={}", at("peer.key")),
        format!("--peer-trusted-ca-file={}", at("ca.crt")),
        "--peer-client-cert-auth".to_owned(),
    ]
}

fn start(folder: &Folder, pki: &Pki, more: &[String]) -> Program {
    let mut command = ours();
    command.args(flags(folder, pki)).args(more);
    let member = Program::start(command);
    member.wait_line("ready to serve client requests");
    member
}

/// How often each of these texts is the error of a line with this message.
fn errors(lines: &[String], message: &str) -> Vec<String> {
    let json = lines.iter().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let of = json.filter(|line| line["msg"] == message);
    of.map(|line| line["error"].as_str().unwrap_or_default().to_owned()).collect()
}

const ON_PEERS: &str = "rejected connection on peer endpoint";
const ON_CLIENTS: &str = "rejected connection on client endpoint";

/// Everything there is on a peer listener.
const OF_PEERS: [(&str, &str); 10] = [
    ("POST", "/raft"),
    ("POST", "/raft/snapshot"),
    ("GET", "/raft/stream/message/1"),
    ("GET", "/raft/mainstay"),
    ("GET", "/raft/mainstay/db"),
    ("GET", "/members"),
    ("POST", "/members/promote/1"),
    ("POST", "/leases"),
    ("GET", "/version"),
    ("GET", "/downgrade/enabled"),
];

/// Neither who has no certificate of the members' authority, nor one that is for clients alone.
#[test]
fn nobody_but_members_is_heard_on_the_peer_listener() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let (pki, theirs) = (Pki::new(&folder), Pki::new(&elsewhere));
    let usages = |all: &[ExtendedKeyUsagePurpose], name| {
        pki.issue(name, |params| params.extended_key_usages = all.to_vec());
    };
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    usages(&[ServerAuth, ClientAuth], "peer");
    usages(&[ClientAuth], "apiserver-etcd-client");
    let member = start(&folder, &pki, &[]);
    let peers = member.serving("listen-peer-urls").remove(0);
    let stranger = Trust::of(pki.at("ca.crt"), (theirs.at("peer.crt"), theirs.at("peer.key")));
    for (method, path) in OF_PEERS {
        for who in [&pki.trust(None), &stranger, &pki.trust(Some("apiserver-etcd-client"))] {
            let answer = ask(&peers, method, path, Some(who));
            assert!(answer.is_err(), "{method} {path}: {answer:?}");
        }
        // Unencrypted: not a byte comes back.
        let plain = ask(&peers.replace("https://", "http://"), method, path, None);
        assert!(plain.is_err(), "{method} {path}: {plain:?}");
    }
    let one = pki.trust(Some("peer"));
    let (status, body) = ask(&peers, "GET", "/version", Some(&one)).expect("a member is heard");
    assert!(status == 200 && body.contains("etcdserver"), "{status} {body}");
    // Whose cluster it says it is, is looked at too.
    assert_eq!(ask(&peers, "POST", "/raft", Some(&one)).expect("an answer").0, 412);
    let lines = member.stop();
    let told = errors(&lines, ON_PEERS);
    assert_eq!(told.len(), 4 * OF_PEERS.len(), "a line for each: {told:#?}");
    for (text, count) in [
        ("tls: client didn't provide a certificate", 1),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", 1),
        ("client certificate authentication failed", 1),
        ("tls: first record does not look like a TLS handshake", 1),
    ] {
        let found = told.iter().filter(|error| *error == text).count();
        assert_eq!(found, count * OF_PEERS.len(), "{text}: {told:#?}");
    }
}

/// And who speaks TLS to a plain listener, and the reverse, is told off in a line.
#[test]
fn mistakes_with_encryption_cost_a_line() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    let more = ["--client-cert-allowed-hostname=api.example,localhost".to_owned()];
    pki.issue("other", |params| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(DnType::CommonName, "localhost");
    });
    pki.issue("expired", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    let member = start(&folder, &pki, &more);
    let client = member.client_url();
    let metrics = member.serving("listen-metrics-urls").remove(0);
    let plain = client.replace("https://", "http://");
    assert!(ask(&plain, "GET", "/health", None).is_err());
    let secure = metrics.replace("http://", "https://");
    assert!(ask(&secure, "GET", "/health", Some(&pki.trust(None))).is_err());
    // A name alone is no host (Go's rule since 1.15).
    for name in ["other", "expired"] {
        assert!(ask(&client, "GET", "/health", Some(&pki.trust(Some(name)))).is_err(), "{name}");
    }
    let good = ask(&client, "GET", "/health", Some(&pki.trust(Some("client"))));
    assert_eq!(good.expect("an answer").0, 200);
    let elsewhere = Folder::new();
    let theirs = Pki::new(&elsewhere);
    assert!(ask(&client, "GET", "/health", Some(&theirs.trust(None))).is_err());
    // The last is told when its alert has come.
    member.wait("an alert", |lines| {
        lines.iter().any(|line| line.contains("remote error")).then_some(())
    });
    let mut told = errors(&member.stop(), ON_CLIENTS);
    // Several threads shake hands.
    told.sort();
    assert_eq!(
        told,
        [
            "a TLS handshake on a plain listener",
            "client certificate authentication failed",
            "remote error: tls: unknown certificate authority",
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
            "tls: first record does not look like a TLS handshake",
        ],
    );
}

/// A file that cannot be used is told once, with its name, and changes nothing.
#[test]
fn broken_files_are_told_once_and_change_nothing() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    pki.revoke("list.crl", &[]);
    let more = [format!("--client-crl-file={}", pki.at("list.crl"))];
    let member = start(&folder, &pki, &more);
    let client = member.client_url();
    let metrics = member.serving("listen-metrics-urls").remove(0);
    // The authority's file is one of those that break.
    let authority = std::fs::read(pki.at("ca.crt")).expect("it is there");
    pki.write("known.crt", &authority);
    let who = Trust::of(pki.at("known.crt"), (pki.at("client.crt"), pki.at("client.key")));
    let health = || ask(&client, "GET", "/health", Some(&who));
    let failures = || {
        let (_, text) = get(&metrics, "/metrics");
        let line = "mainstay_tls_reload_failures_total{side=\"client\"} ";
        let count = text.lines().find_map(|l| l.strip_prefix(line)?.parse::<u64>().ok());
        count.unwrap_or_else(|| panic!("no {line} in {text}"))
    };
    let broken = [
        ("server.crt", &b"nothing"[..]),
        ("list.crl", b"nothing"),
        ("ca.crt", b"-----BEGIN CERTIFICATE-----\n"),
        ("server.key", b""),
    ];
    for (told, (name, bytes)) in (0_u64..).zip(broken) {
        let good = std::fs::read(pki.at(name)).expect("it is there");
        pki.write(name, bytes);
        // With connections or without, it is seen once.
        while failures() == told {
            assert_eq!(health().expect("an answer").0, 200, "{name}");
        }
        for _ in 0..3 {
            assert_eq!(health().expect("an answer").0, 200, "{name}");
        }
        pki.write(name, &good);
    }
    let lines = member.stop();
    let kept = |message: &str| lines.iter().filter(|line| line.contains(message)).count();
    assert_eq!(kept("kept the old certificates"), 3, "{lines:#?}");
    assert_eq!(kept("kept the old list of revoked certificates"), 1, "{lines:#?}");
    for name in ["--cert-file ", "--trusted-ca-file ", "--key-file ", "list.crl"] {
        let named = |line: &&String| line.contains("kept the old") && line.contains(name);
        assert_eq!(lines.iter().filter(named).count(), 1, "{name}: {lines:#?}");
    }
}

/// Two members, of which one is revoked: both ends let go of it, within seconds.
#[test]
fn a_revoked_member_is_cut_off() {
    let folder = Folder::new();
    let pki = Pki::new(&folder);
    pki.issue("peer2", |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[0x99, 7, 7]));
    });
    pki.revoke("list.crl", &[]);
    let free = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let held = [free(), free()];
    let peers = held.each_ref().map(|l| l.local_addr().expect("bound").to_string());
    drop(held);
    let begin = |n: usize| {
        let cert = ["peer", "peer2"][n];
        let mut command = ours();
        command.arg(format!("--name=m{n}")).arg(format!("--data-dir={}", folder.at(cert))).args([
            "--listen-client-urls=http://127.0.0.1:0".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:0".to_owned(),
            format!("--listen-peer-urls=https://{}", peers[n]),
            format!("--initial-advertise-peer-urls=https://{}", peers[n]),
            format!("--initial-cluster=m0=https://{},m1=https://{}", peers[0], peers[1]),
            format!("--peer-cert-file={}", pki.at(&format!("{cert}.crt"))),
            format!("--peer-key-file={}", pki.at(&format!("{cert}.key"))),
            format!("--peer-trusted-ca-file={}", pki.at("ca.crt")),
            "--peer-client-cert-auth".to_owned(),
        ]);
        if n == 0 {
            command.arg(format!("--peer-crl-file={}", pki.at("list.crl")));
        }
        Program::start(command)
    };
    let members = [begin(0), begin(1)];
    for member in &members {
        member.client_url();
    }
    pki.revoke("list.crl", &[&[0x99, 7, 7]]);
    let closed = members[0].wait_line("closed connections whose certificates were revoked");
    assert!(closed["connections"].as_u64().is_some_and(|count| count >= 1), "{closed}");
    // It is dialled no more, and let in no more.
    let lost = members[0].wait_line("peer became inactive");
    let text = "transport: certificate serial 990707 revoked";
    members[0].wait("its refusal", |lines| {
        errors(lines, ON_PEERS).iter().any(|error| error == text).then_some(())
    });
    assert_eq!(lost["level"], "warn");
    // Taken back, they find each other again.
    pki.revoke("list.crl", &[]);
    members[0].wait_line("peer became active");
    let health = |member: &Program| {
        let client = member.client_url();
        let mut last = (0, String::new());
        for _ in 0..200 {
            last = get(&client, "/health");
            if last.0 == 200 {
                return;
            }
        }
        panic!("{last:?}");
    };
    members.iter().for_each(health);
}
