//! The whole member with TLS and mutual TLS, and clients from outside: Debian's
//! etcdctl, ours, and the Go client. What is refused is refused with a word to the
//! client and a line in the log.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Member, Peer, Start, free_ports, our, peer, tool};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `NAME.crt` and `NAME.key` for this machine, valid until the first of this year.
    fn issue(&self, folder: &Path, name: &str, until: i32) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        write(folder, &format!("{name}.crt"), &certificate.pem());
        write(folder, &format!("{name}.key"), &key.serialize_pem());
    }
}

/// Replaced in one step, as those do who renew certificates.
fn write(folder: &Path, name: &str, text: &str) {
    let part = folder.join(format!("{name}.part"));
    fs::write(&part, text).expect("a file");
    fs::rename(part, folder.join(name)).expect("a file");
}

/// A member whose client port is TLS, with a plain port for metrics: kubeadm's shape.
struct Secured {
    member: Member,
    folder: Folder,
    port: u16,
}

impl Secured {
    fn start(mutual: bool) -> Secured {
        let folder = Folder::new("tls");
        let ca = Authority::new("ca");
        write(folder.path(), "ca.crt", &ca.pem);
        ca.issue(folder.path(), "server", 2096);
        ca.issue(folder.path(), "client", 2096);
        ca.issue(folder.path(), "expired", 2021);
        let other = Authority::new("other");
        write(folder.path(), "other-ca.crt", &other.pem);
        other.issue(folder.path(), "stranger", 2096);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (port, _) = free_ports();
        let start = Start::new(Kind::Ours, &folder.path().join("m.etcd"));
        let plain = start.ports.0;
        let mut start = start
            .flag(&format!("--listen-client-urls=https://127.0.0.1:{port}"))
            .flag(&format!("--advertise-client-urls=https://127.0.0.1:{port}"))
            .flag(&format!("--listen-metrics-urls=http://127.0.0.1:{plain}"))
            .flag(&format!("--cert-file={}", path("server.crt")))
            .flag(&format!("--key-file={}", path("server.key")));
        if mutual {
            start = start
                .flag("--client-cert-auth=true")
                .flag(&format!("--trusted-ca-file={}", path("ca.crt")));
        }
        let member = start.run().expect("ours is never missing");
        Secured { member, folder, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `put a 1`, trusting this CA and with this certificate.
    fn put(&self, ctl: &Path, ca: &str, client: Option<&str>) -> Output {
        let mut command = Command::new(ctl);
        command
            .args(["put", "a", "1", "--command-timeout=4s"])
            .arg(format!("--endpoints=https://127.0.0.1:{}", self.port))
            .arg(format!("--cacert={}", self.path(ca).display()));
        if let Some(name) = client {
            command
                .arg(format!("--cert={}", self.path(&format!("{name}.crt")).display()))
                .arg(format!("--key={}", self.path(&format!("{name}.key")).display()));
        }
        command.output().expect("etcdctl starts")
    }

    fn accepts(&self, ctl: &Path, ca: &str, client: Option<&str>) {
        let told = self.put(ctl, ca, client);
        assert_eq!(
            String::from_utf8_lossy(&told.stdout),
            "OK\n",
            "{told:?}\n{}",
            self.member.log()
        );
        assert!(told.status.success());
    }

    fn refuses(&self, ctl: &Path, ca: &str, client: Option<&str>) {
        let told = self.put(ctl, ca, client);
        assert!(told.stdout.is_empty() && !told.status.success(), "{told:?}");
        let err = String::from_utf8_lossy(&told.stderr);
        assert!(err.lines().any(|line| line.starts_with("Error: ")), "{err}");
    }

    /// Waits for a line of the log with these parts.
    fn logs(&self, parts: &[&str]) {
        let patience = Instant::now() + Duration::from_secs(10);
        let has = |line: &str| parts.iter().all(|part| line.contains(part));
        while !self.member.log().lines().any(has) {
            assert!(Instant::now() < patience, "no line with {parts:?}:\n{}", self.member.log());
            std::thread::yield_now();
        }
    }
}

fn clients() -> Vec<PathBuf> {
    let mut clients = vec![our("etcdctl")];
    clients.extend(peer(Peer::Etcdctl));
    clients
}

#[test]
fn tls_serves_who_trusts_it_and_no_plain_client() {
    let secured = Secured::start(false);
    for ctl in clients() {
        secured.accepts(&ctl, "ca.crt", None);
        secured.refuses(&ctl, "other-ca.crt", None);
        let plain = Command::new(&ctl)
            .args(["get", "a", "--command-timeout=2s"])
            .arg(format!("--endpoints=http://127.0.0.1:{}", secured.port))
            .output()
            .expect("etcdctl starts");
        assert!(!plain.status.success(), "{plain:?}");
    }
    secured.logs(&["rejected connection on client endpoint"]);
    let metrics = secured.member.http_get("/metrics").expect("the plain port answers");
    assert!(metrics.contains("etcd_server_has_leader 1"), "{metrics}");
    secured.member.stop();
}

#[test]
fn mutual_tls_serves_only_known_certificates() {
    let secured = Secured::start(true);
    for ctl in clients() {
        secured.accepts(&ctl, "ca.crt", Some("client"));
        for unknown in [None, Some("stranger"), Some("expired")] {
            secured.refuses(&ctl, "ca.crt", unknown);
        }
        secured.accepts(&ctl, "ca.crt", Some("client"));
    }
    secured.logs(&["rejected connection on client endpoint", "remote-addr"]);
    let health = secured.member.http_get("/health").expect("the plain port answers");
    assert!(health.contains("\"true\""), "{health}");
    secured.member.stop();
}

#[test]
fn certificates_are_read_again_while_it_runs() {
    let secured = Secured::start(false);
    let ctl = our("etcdctl");
    secured.accepts(&ctl, "ca.crt", None);
    let next = Authority::new("next");
    write(secured.folder.path(), "next-ca.crt", &next.pem);
    next.issue(secured.folder.path(), "server", 2096);
    secured.accepts(&ctl, "next-ca.crt", None);
    secured.refuses(&ctl, "ca.crt", None);
    secured.member.stop();
}

#[test]
fn the_go_client_works_over_mutual_tls() {
    let Some(go) = tool("go", "version") else { return };
    let secured = Secured::start(true);
    let told = Command::new(go)
        .args(["test", "-count=1", "-run", "^Test(PutGetDelete|RangeOptions|Txn|Watch.*|Lease.*)$"])
        .args(["-v", "./..."])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/go"))
        .env("INTEROP_ENDPOINT", format!("https://127.0.0.1:{}", secured.port))
        .env("INTEROP_CA", secured.path("ca.crt"))
        .env("INTEROP_CERT", secured.path("client.crt"))
        .env("INTEROP_KEY", secured.path("client.key"))
        .output()
        .expect("go starts");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}\n{}", String::from_utf8_lossy(&told.stderr));
    assert!(text.contains("--- PASS: TestPutGetDelete"), "tests must have run: {text}");
    secured.member.stop();
}
