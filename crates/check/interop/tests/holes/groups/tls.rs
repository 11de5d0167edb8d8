//! Certificates, versions, and which port they are shown on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_interop::{Folder, Kind, Member, Start, free_ports};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::note;
use crate::Holes;
use crate::raw;

const USES: [ExtendedKeyUsagePurpose; 2] =
    [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
/// Serial number of the certificate that is revoked.
const REVOKED: u64 = 4711;

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a certificate says.
struct Wish<'a> {
    name: &'a str,
    uses: &'a [ExtendedKeyUsagePurpose],
    years: (i32, i32),
    serial: u64,
}

const fn wish(name: &str) -> Wish<'_> {
    Wish { name, uses: &USES, years: (2020, 2096), serial: 1 }
}

impl Authority {
    fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Writes `NAME.crt` and `NAME.key`.
    fn issue(&self, folder: &Path, wish: &Wish<'_>) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(wish.years.0, 1, 1);
        params.not_after = date_time_ymd(wish.years.1, 1, 1);
        params.serial_number = Some(SerialNumber::from(wish.serial));
        params.distinguished_name.push(DnType::CommonName, wish.name);
        params.extended_key_usages = wish.uses.to_vec();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let write = |end: &str, text: String| {
            let part = folder.join(format!("{}.part", wish.name));
            fs::write(&part, text).expect("a file");
            fs::rename(part, folder.join(format!("{}.{end}", wish.name))).expect("a file");
        };
        write("key", key.serialize_pem());
        write("crt", certificate.pem());
    }

    /// The list of revoked certificates: [`REVOKED`].
    fn revoke(&self, path: &Path) {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(REVOKED),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2096, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        fs::write(path, list.der()).expect("a file");
    }
}

/// A member with TLS on its client port.
struct Secured {
    member: Member,
    folder: Folder,
    ca: Authority,
    port: u16,
    http_port: u16,
}

/// More flags, from the folder and a free port.
type More = fn(&Path, u16) -> Vec<String>;

fn nothing_more(_folder: &Path, _port: u16) -> Vec<String> {
    Vec::new()
}

impl Secured {
    fn start(kind: Kind, name: &str, more: More) -> Secured {
        let folder = Folder::new(&format!("holes-{name}"));
        let ca = Authority::new("ca");
        fs::write(folder.path().join("ca.crt"), &ca.pem).expect("a file");
        ca.issue(folder.path(), &wish("server"));
        ca.issue(folder.path(), &wish("client"));
        ca.issue(folder.path(), &Wish { serial: REVOKED, ..wish("revoked") });
        ca.revoke(&folder.path().join("crl"));
        let (port, http_port) = free_ports();
        let start = Start::new(kind, &folder.path().join("m.etcd"));
        let plain = start.ports.0;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut flags = vec![
            format!("--listen-client-urls=https://127.0.0.1:{port}"),
            format!("--advertise-client-urls=https://127.0.0.1:{port}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{plain}"),
            format!("--cert-file={}", path("server.crt")),
            format!("--key-file={}", path("server.key")),
            format!("--trusted-ca-file={}", path("ca.crt")),
            "--client-cert-auth=true".to_owned(),
        ];
        flags.extend(more(folder.path(), http_port));
        let start = flags.iter().fold(start, |start, flag| start.flag(flag));
        let member = start.run().expect("the binary is there");
        Secured { member, folder, ca, port, http_port }
    }

    fn visitor(&self, name: Option<&str>) -> Visitor {
        Visitor::new(self.folder.path(), name, &[&TLS12, &TLS13])
    }
}

/// A client.
struct Visitor(Arc<ClientConfig>);

impl Visitor {
    fn new(
        folder: &Path,
        name: Option<&str>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Visitor {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(folder.join("ca.crt")).expect("a certificate");
        roots.add(ca).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).expect("versions");
        let builder = builder.with_root_certificates(roots);
        let mut config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let cert = folder.join(format!("{name}.crt"));
                let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
                let key = folder.join(format!("{name}.key"));
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                builder.with_client_auth_cert(vec![cert], key).expect("they fit")
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Visitor(Arc::new(config))
    }

    fn open(&self, port: u16) -> StreamOwned<ClientConnection, TcpStream> {
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let session = ClientConnection::new(Arc::clone(&self.0), name).expect("a session");
        StreamOwned::new(session, raw::open(&format!("127.0.0.1:{port}")))
    }

    /// Whether it is let in: something is said to it in HTTP/2, or a request is answered.
    fn is_let_in(&self, port: u16) -> bool {
        let mut stream = self.open(port);
        // Turned away before all was sent is as good.
        let _ = stream.write_all(&raw::preface());
        let mut said = [0; 9];
        if stream.read_exact(&mut said).is_ok() {
            return true;
        }
        let mut stream = self.open(port);
        let _ = stream.write_all(b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        stream.read_exact(&mut said).is_ok()
    }

    /// The certificate that the server shows.
    fn shown(&self, port: u16) -> Option<CertificateDer<'static>> {
        let mut stream = self.open(port);
        let _ = stream.write_all(&raw::preface());
        let _ = stream.read(&mut [0; 9]);
        Some(stream.conn.peer_certificates()?.first()?.clone().into_owned())
    }
}

fn crl(folder: &Path, _port: u16) -> Vec<String> {
    vec![format!("--client-crl-file={}", folder.join("crl").display())]
}

fn split_with_crl(folder: &Path, port: u16) -> Vec<String> {
    let mut flags = crl(folder, port);
    flags.push(format!("--listen-client-http-urls=https://127.0.0.1:{port}"));
    flags
}

pub(crate) fn revoked(kind: Kind) -> Holes {
    let mut holes = Vec::new();
    for (what, more) in [("one listener", crl as More), ("listeners apart", split_with_crl)] {
        let world = Secured::start(kind, "revoked-cert", more);
        let ports = match what {
            "one listener" => vec![("client", world.port)],
            _ => vec![("gRPC", world.port), ("HTTP", world.http_port)],
        };
        let (good, bad) = (world.visitor(Some("client")), world.visitor(Some("revoked")));
        for (name, port) in ports {
            assert!(good.is_let_in(port), "{what}: {name}: a sound certificate is let in");
            note(&mut holes, bad.is_let_in(port), || {
                format!("{what}: a revoked certificate on the {name} listener")
            });
            // What was negotiated before may not let it in again.
            note(&mut holes, bad.is_let_in(port), || {
                format!("{what}: a revoked certificate again on the {name} listener")
            });
        }
    }
    holes
}

pub(crate) fn wrong(kind: Kind) -> Holes {
    let world = Secured::start(kind, "wrong-cert", nothing_more);
    let folder = world.folder.path();
    let server_only = [ExtendedKeyUsagePurpose::ServerAuth];
    world.ca.issue(folder, &Wish { uses: &server_only, ..wish("for-servers") });
    world.ca.issue(folder, &Wish { years: (2020, 2021), ..wish("expired") });
    world.ca.issue(folder, &Wish { years: (2095, 2096), ..wish("not-yet") });
    Authority::new("ca").issue(folder, &wish("stranger"));
    let mut holes = Vec::new();
    assert!(world.visitor(Some("client")).is_let_in(world.port));
    for name in [None, Some("for-servers"), Some("expired"), Some("not-yet"), Some("stranger")] {
        let is_let_in = world.visitor(name).is_let_in(world.port);
        note(&mut holes, is_let_in, || format!("let in with {name:?}"));
    }
    holes
}

fn only_tls13(_folder: &Path, _port: u16) -> Vec<String> {
    vec!["--tls-min-version=TLS1.3".to_owned()]
}

fn only_tls12(_folder: &Path, _port: u16) -> Vec<String> {
    vec!["--tls-min-version=TLS1.2".to_owned(), "--tls-max-version=TLS1.2".to_owned()]
}

pub(crate) fn versions(kind: Kind) -> Holes {
    let mut holes = Vec::new();
    for (more, good, bad) in [(only_tls13 as More, &TLS13, &TLS12), (only_tls12, &TLS12, &TLS13)] {
        let world = Secured::start(kind, "tls-versions", more);
        let visitor = |version| Visitor::new(world.folder.path(), Some("client"), &[version]);
        assert!(visitor(good).is_let_in(world.port), "{good:?}");
        note(&mut holes, visitor(bad).is_let_in(world.port), || format!("{bad:?} is spoken"));
    }
    holes
}

pub(crate) fn replaced(kind: Kind) -> Holes {
    let world = Secured::start(kind, "replaced-cert", nothing_more);
    // Each time another visitor: one that comes again may be shown nothing.
    let shown = || world.visitor(Some("client")).shown(world.port);
    let before = shown().expect("a certificate");
    world.ca.issue(world.folder.path(), &wish("server"));
    let patience = Instant::now() + Duration::from_secs(30);
    while Instant::now() < patience {
        if shown().is_some_and(|shown| shown != before) {
            return Vec::new();
        }
    }
    vec!["30 s after it was replaced the old certificate is shown".to_owned()]
}

fn secured_peers(folder: &Path, port: u16) -> Vec<String> {
    let ca = Authority::new("peers");
    fs::write(folder.join("peers.crt"), &ca.pem).expect("a file");
    ca.issue(folder, &wish("peer"));
    let path = |name: &str| folder.join(name).display().to_string();
    let url = format!("https://127.0.0.1:{port}");
    vec![
        format!("--listen-peer-urls={url}"),
        format!("--initial-advertise-peer-urls={url}"),
        format!("--initial-cluster=m1={url}"),
        format!("--peer-cert-file={}", path("peer.crt")),
        format!("--peer-key-file={}", path("peer.key")),
        format!("--peer-trusted-ca-file={}", path("peers.crt")),
        "--peer-client-cert-auth=true".to_owned(),
    ]
}

/// A client's certificate is none of a member's.
pub(crate) fn peers(kind: Kind) -> Holes {
    let world = Secured::start(kind, "peer-port", secured_peers);
    let folder = world.folder.path();
    // The visitor must trust what the peer port shows.
    fs::copy(folder.join("peers.crt"), folder.join("ca.crt")).expect("a file");
    let mut holes = Vec::new();
    assert!(world.visitor(Some("peer")).is_let_in(world.http_port), "a peer is let in");
    for name in [None, Some("client")] {
        let is_let_in = world.visitor(name).is_let_in(world.http_port);
        note(&mut holes, is_let_in, || format!("on the peer port with {name:?}"));
    }
    holes
}

pub(crate) fn plain(kind: Kind) -> Holes {
    let world = Secured::start(kind, "plain", nothing_more);
    let mut holes = Vec::new();
    let endpoint = format!("127.0.0.1:{}", world.port);
    for path in ["/version", "/health", "/metrics", "/v3/kv/range"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1");
        let answer = raw::http(&endpoint, &head, "");
        note(&mut holes, answer.contains(" 200 "), || format!("{path} in plain text"));
    }
    let mut socket = raw::open(&endpoint);
    // Refused before all was sent is as good.
    let _ = socket.write_all(&raw::preface());
    let said = raw::drain(&mut socket, Duration::from_millis(500));
    // The first frame of a server is of settings.
    note(&mut holes, said.get(3) == Some(&4), || "HTTP/2 in plain text".to_owned());
    let plain_port = world.member.start().ports.0;
    let encrypted = world.visitor(Some("client")).is_let_in(plain_port);
    note(&mut holes, encrypted, || "TLS on a plain port".to_owned());
    assert!(world.visitor(Some("client")).is_let_in(world.port), "it still serves");
    holes
}

/// For [`super::weight`]: a member whose client port is TLS, and that port.
pub(crate) struct Guarded {
    /// Kept for as long as the member runs.
    _world: Secured,
    pub(crate) endpoint: String,
}

/// A member whose client port is TLS.
pub(crate) fn guarded(kind: Kind, name: &str) -> Guarded {
    let world = Secured::start(kind, name, nothing_more);
    let endpoint = format!("127.0.0.1:{}", world.port);
    Guarded { _world: world, endpoint }
}
