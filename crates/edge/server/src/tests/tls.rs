//! TLS: who is let in, and with what.

mod refused;
mod revoked;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mainstay_proto::etcdserverpb as pb;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::client::{Client, eventually, get, http1, run};
use super::fake::{Running, host};
use super::net::scratch;
use crate::server::{BindError, Server, ServerConfig};
use crate::tls::{Allowed, TlsError, TlsFiles, TlsVersion};

/// A certificate authority of a test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
struct Leaf {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    fn leaf(&self) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("parameters");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Leaf { cert, key: key.serialize_pem() }
    }

    /// A client's, with a common name, for a host.
    fn named(&self, name: &str, host: &str) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Leaf { cert, key: key.serialize_pem() }
    }

    /// One that `change` has made what it is, for this machine.
    fn made(&self, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("parameters");
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Leaf { cert, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.pem)).expect("an authority");
        roots
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    // By rename, as certificate managers do.
    let new = dir.join(format!("{name}.new"));
    std::fs::write(&new, text).expect("written");
    std::fs::rename(new, &path).expect("renamed");
    path
}

fn files(dir: &Path, leaf: &Leaf) -> TlsFiles {
    TlsFiles::new(write(dir, "cert.pem", &leaf.cert), write(dir, "key.pem", &leaf.key))
}

fn serve(files: TlsFiles) -> Running {
    Running::start(ServerConfig {
        client_urls: vec!["https://127.0.0.1:0".into()],
        client_tls: Some(files),
        shards: 1,
        ..ServerConfig::default()
    })
}

fn client_config(roots: RootCertStore, own: Option<&Leaf>, alpn: &[&str]) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("PEM");
            let certs = CertificateDer::pem_slice_iter(leaf.cert.as_bytes());
            let certs = certs.collect::<Result<_, _>>().expect("PEM");
            builder.with_client_auth_cert(certs, key).expect("a pair")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

async fn connect(address: &str, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// Whether a request is not answered: the handshake itself succeeds.
async fn is_let_out(address: &str, config: ClientConfig) -> bool {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = connect(address, config).await.expect("a handshake");
    // It may be closed before it is sent.
    let _ = stream.write_all(GET_HEALTH.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.is_empty()
}

/// In TLS 1.3 a client learns that its certificate was refused when it reads.
async fn is_refused(address: &str, config: ClientConfig) -> bool {
    match connect(address, config).await {
        Err(_) => true,
        Ok(mut stream) => stream.read(&mut [0; 64]).await.is_err(),
    }
}

const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const GET_HEALTH: &str = "GET /health HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n";

#[test]
fn grpc_and_http_over_one_encrypted_port() {
    let (dir, authority) = (scratch("tls"), Authority::new());
    let server = serve(files(&dir, &authority.leaf()));
    assert!(server.client[0].starts_with("https://127.0.0.1:"));
    run(async {
        let address = server.address();
        let config = client_config(authority.roots(), None, &["h2"]);
        let stream = connect(&address, config).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let client = Client::over(stream, "https").await;
        let _: pb::StatusResponse = client.call(STATUS, &pb::StatusRequest {}).await.ok();
        // Over TLS, HTTP/2 that is not gRPC reaches the endpoints.
        let mut request = client.request("/health");
        *request.method_mut() = http::Method::GET;
        request.headers_mut().remove("content-type");
        let (response, mut stream) = client.open(request).await;
        stream.send_data(bytes::Bytes::new(), true).expect("sent");
        assert_eq!(response.await.expect("a response").status(), 200);
        let config = client_config(authority.roots(), None, &["http/1.1"]);
        let stream = connect(&address, config).await.expect("a handshake");
        assert_eq!(http1(stream, GET_HEALTH).await.0, 200);
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn plain_text_on_an_encrypted_port_is_refused() {
    let (dir, authority) = (scratch("plain-on-tls"), Authority::new());
    let server = serve(files(&dir, &authority.leaf()));
    run(async {
        let mut socket = TcpStream::connect(server.address()).await.expect("it listens");
        tokio::io::AsyncWriteExt::write_all(&mut socket, GET_HEALTH.as_bytes())
            .await
            .expect("sent");
        let mut answer = Vec::new();
        // Closed, or reset because the request was not read to its end.
        let _ = socket.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn one_port_may_be_plain_and_encrypted() {
    let (dir, authority) = (scratch("both"), Authority::new());
    let port = {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        probe.local_addr().expect("an address").port()
    };
    let server = Running::start(ServerConfig {
        client_urls: vec![format!("http://127.0.0.1:{port}"), format!("https://127.0.0.1:{port}")],
        client_tls: Some(files(&dir, &authority.leaf())),
        shards: 1,
        ..ServerConfig::default()
    });
    assert_eq!(server.client.len(), 2);
    run(async {
        assert_eq!(get(&host(&server.client[0]), "/health").await.0, 200);
        let config = client_config(authority.roots(), None, &["http/1.1"]);
        let stream = connect(&host(&server.client[1]), config).await.expect("a handshake");
        assert_eq!(http1(stream, GET_HEALTH).await.0, 200);
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn a_trusted_ca_alone_demands_client_certificates() {
    let (dir, authority, stranger) = (scratch("mutual"), Authority::new(), Authority::new());
    let mut files = files(&dir, &authority.leaf());
    files.trusted_ca_file = Some(write(&dir, "ca.pem", &authority.pem));
    let server = serve(files);
    let address = server.address();
    run(async {
        let roots = || authority.roots();
        assert!(is_refused(&address, client_config(roots(), None, &["http/1.1"])).await);
        let foreign = stranger.leaf();
        assert!(is_refused(&address, client_config(roots(), Some(&foreign), &["http/1.1"])).await);
        let ours = authority.leaf();
        let stream = connect(&address, client_config(roots(), Some(&ours), &["http/1.1"])).await;
        assert_eq!(http1(stream.expect("a handshake"), GET_HEALTH).await.0, 200);
        // A client that trusts somebody else leaves by itself.
        let wrong = client_config(stranger.roots(), Some(&ours), &["http/1.1"]);
        assert!(connect(&address, wrong).await.is_err());
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn certificates_are_read_again_when_they_change() {
    let (dir, authority) = (scratch("reload"), Authority::new());
    let first = authority.leaf();
    let server = serve(files(&dir, &first));
    let shown = async || {
        let config = client_config(authority.roots(), None, &["h2"]);
        let stream = connect(&server.address(), config).await.expect("a handshake");
        let certs = stream.get_ref().1.peer_certificates().expect("a certificate");
        certs[0].clone()
    };
    run(async {
        assert_eq!(shown().await, der(&first.cert));
        let config = client_config(authority.roots(), None, &["h2"]);
        let open = connect(&server.address(), config).await.expect("a handshake");
        let open = Client::over(open, "https").await;
        // A file that cannot be used changes nothing.
        write(&dir, "cert.pem", "not a certificate");
        assert_eq!(shown().await, der(&first.cert));
        let second = authority.leaf();
        files(&dir, &second);
        assert_eq!(shown().await, der(&second.cert));
        // Who was connected stays so.
        let _: pb::StatusResponse = open.call(STATUS, &pb::StatusRequest {}).await.ok();
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn versions_are_bounded() {
    let (dir, authority) = (scratch("versions"), Authority::new());
    let mut files = files(&dir, &authority.leaf());
    files.max_version = Some(TlsVersion::Tls12);
    let server = serve(files.clone());
    run(async {
        let config = client_config(authority.roots(), None, &["h2"]);
        let stream = connect(&server.address(), config).await.expect("a handshake");
        let version = stream.get_ref().1.protocol_version();
        assert_eq!(version, Some(rustls::ProtocolVersion::TLSv1_2));
    });
    files.min_version = TlsVersion::Tls13;
    let error = refused(files);
    assert!(matches!(error, BindError::Tls(TlsError::NoVersion)), "{error}");
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn errors_name_the_flag_and_the_file() {
    let (dir, authority) = (scratch("errors"), Authority::new());
    let good = files(&dir, &authority.leaf());
    let missing = TlsFiles { cert_file: dir.join("nope.pem"), ..good.clone() };
    let text = refused(missing).to_string();
    assert!(text.starts_with("--cert-file ") && text.contains("nope.pem"), "{text}");
    let empty = write(&dir, "empty.pem", "");
    let text = refused(TlsFiles { key_file: empty.clone(), ..good.clone() }).to_string();
    assert!(text.starts_with("--key-file ") && text.contains("empty.pem"), "{text}");
    let other = write(&dir, "other.pem", &authority.leaf().key);
    let text = refused(TlsFiles { key_file: other, ..good.clone() }).to_string();
    assert!(text.contains("--cert-file ") && text.contains("--key-file "), "{text}");
    let peer = TlsFiles { flag_prefix: "peer-", trusted_ca_file: Some(empty), ..good.clone() };
    let text = refused(peer).to_string();
    assert!(text.starts_with("--peer-trusted-ca-file "), "{text}");
    let text = refused(TlsFiles { client_cert_auth: true, ..good }).to_string();
    assert_eq!(text, "--client-cert-auth needs --trusted-ca-file");
    std::fs::remove_dir_all(&dir).expect("removed");
}

fn refused(files: TlsFiles) -> BindError {
    let config = ServerConfig {
        client_urls: vec!["https://127.0.0.1:0".into()],
        client_tls: Some(files),
        ..ServerConfig::default()
    };
    Server::bind(config, super::fake::Fake::default()).map(|_| ()).expect_err("refused")
}

#[test]
fn a_handshake_that_never_comes_frees_its_place() {
    let (dir, authority) = (scratch("half"), Authority::new());
    let server = Running::start(ServerConfig {
        client_urls: vec!["https://127.0.0.1:0".into()],
        client_tls: Some(files(&dir, &authority.leaf())),
        max_connections: Some(1),
        shards: 1,
        ..ServerConfig::default()
    });
    run(async {
        let half = TcpStream::connect(server.address()).await.expect("it listens");
        tokio::io::AsyncWriteExt::write_all(&mut { half }, b"\x16\x03\x01").await.expect("sent");
        // It was dropped just now; its place is free for the next.
        let config = client_config(authority.roots(), None, &["http/1.1"]);
        let stream = connect(&server.address(), config).await.expect("a handshake");
        assert_eq!(http1(stream, GET_HEALTH).await.0, 200);
        eventually(|| server.member.hung() == 0).await;
    });
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn only_allowed_names_and_hosts_are_let_in() {
    let (dir, authority) = (scratch("tls-allowed"), Authority::new());
    let ca = write(&dir, "ca.pem", &authority.pem);
    let some = |text: &str| vec![text.to_owned()];
    let rules = [
        Allowed { names: some("member"), hosts: Vec::new() },
        Allowed { names: Vec::new(), hosts: some("m1.example") },
    ];
    for allowed in rules {
        let files = files(&dir, &authority.leaf());
        let server = serve(TlsFiles { trusted_ca_file: Some(ca.clone()), allowed, ..files });
        run(async {
            let address = server.address();
            let config = |leaf: &Leaf| client_config(authority.roots(), Some(leaf), &["http/1.1"]);
            let welcome = authority.named("member", "m1.example");
            let stream = connect(&address, config(&welcome)).await.expect("a handshake");
            assert_eq!(http1(stream, GET_HEALTH).await.0, 200);
            let stranger = authority.named("members", "m2.example");
            assert!(is_refused(&address, config(&stranger)).await);
            // As Go says it.
            let mut stream = match connect(&address, config(&stranger)).await {
                Err(error) => panic!("TLS 1.3 ends for the client before that: {error}"),
                Ok(stream) => stream,
            };
            let error = stream.read(&mut [0; 1]).await.expect_err("refused");
            assert!(error.to_string().contains("BadCertificate"), "{error}");
        });
    }
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn a_peer_must_be_where_its_certificate_says() {
    let (dir, authority) = (scratch("tls-place"), Authority::new());
    let ca = write(&dir, "ca.pem", &authority.pem);
    let files = TlsFiles {
        trusted_ca_file: Some(ca),
        check_client_place: true,
        ..files(&dir, &authority.leaf())
    };
    let server = Running::start(ServerConfig {
        peer_urls: vec!["https://127.0.0.1:0".into()],
        peer_tls: Some(files),
        shards: 1,
        ..ServerConfig::default()
    });
    run(async {
        let address = host(&server.peer[0]);
        let config = |leaf: &Leaf| client_config(authority.roots(), Some(leaf), &["http/1.1"]);
        let here = authority.named("member", "127.0.0.1");
        let stream = connect(&address, config(&here)).await.expect("a handshake");
        let probe = GET_HEALTH.replace("/health", "/raft/probing");
        assert_eq!(http1(stream, &probe).await.0, 200);
        assert!(is_refused(&address, config(&authority.named("member", "10.9.8.7"))).await);
    });
    drop(server);
    std::fs::remove_dir_all(&dir).expect("removed");
}
