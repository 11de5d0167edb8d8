//! Peers with TLS: certificates on both sides.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::found;
use crate::fakes::FakeNames;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A folder of certificates that goes away with the test.
struct Certificates {
    folder: PathBuf,
    issuer: Issuer,
}

impl Certificates {
    fn new(name: &str) -> Certificates {
        let folder = std::env::temp_dir().join(format!("bootstrap-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        std::fs::write(folder.join("ca.pem"), issuer.pem()).expect("written");
        Certificates { folder, issuer }
    }

    /// Certificate and key for 127.0.0.1, on disk and for a server.
    fn leaf(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::write(self.at(&format!("{name}.pem")), cert.pem()).expect("written");
        std::fs::write(self.at(&format!("{name}-key.pem")), key.serialize_pem()).expect("written");
        (cert, key)
    }

    fn at(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A member that tells of itself and of ours to whoever shows a certificate.
fn member(certificates: &Certificates) -> SocketAddr {
    let (cert, key) = certificates.leaf("server");
    let mut roots = RootCertStore::empty();
    roots.add(certificates.issuer.der().clone()).expect("an authority");
    let asked = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("roots");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder().with_client_cert_verifier(asked);
    let config = config.with_single_cert(vec![cert.der().clone()], key).expect("they fit");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("set");
    let members = format!(
        "[{{\"id\":1,\"peerURLs\":[\"https://{address}\"],\"name\":\"m1\"}},\
         {{\"id\":2,\"peerURLs\":[\"https://localhost:2380\"]}}]"
    );
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(socket).await else { continue };
                let mut asked = [0; 1024];
                let len = stream.read(&mut asked).await.unwrap_or(0);
                let body = match &asked[..len] {
                    ask if ask.starts_with(b"GET /members ") => members.as_str(),
                    ask if ask.starts_with(b"GET /version ") => "{\"etcdcluster\":\"3.5.0\"}",
                    _ => "false",
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: 9\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
    });
    address
}

fn shown(flag: &str, path: &Path) -> String {
    format!("--{flag}={}", path.display())
}

#[test]
fn members_know_each_other_by_their_certificates() {
    let certificates = Certificates::new("mutual");
    let address = member(&certificates);
    certificates.leaf("own");
    certificates.leaf("calling");
    let base = [
        "--name=me".to_owned(),
        "--initial-cluster-state=existing".to_owned(),
        "--initial-advertise-peer-urls=https://localhost:2380".to_owned(),
        format!("--initial-cluster=m1=https://{address},me=https://localhost:2380"),
    ];
    let ask = |more: &[String]| {
        let flags: Vec<&str> = base.iter().chain(more).map(String::as_str).collect();
        found(&flags, FakeNames::default())
    };
    let (ca, own) = (
        shown("peer-trusted-ca-file", &certificates.at("ca.pem")),
        [
            shown("peer-cert-file", &certificates.at("own.pem")),
            shown("peer-key-file", &certificates.at("own-key.pem")),
        ],
    );
    let calling = [
        shown("peer-client-cert-file", &certificates.at("calling.pem")),
        shown("peer-client-key-file", &certificates.at("calling-key.pem")),
    ];
    assert!(ask(&[std::slice::from_ref(&ca), &own[..]].concat()).is_ok(), "its own certificate");
    assert!(ask(&[std::slice::from_ref(&ca), &calling[..]].concat()).is_ok(), "one for calls");
    // No certificate of ours, or an authority that nobody here trusts.
    assert!(ask(&[ca]).is_err());
    assert!(ask(&own).is_err());
    let stranger = Certificates::new("stranger");
    let other = shown("peer-trusted-ca-file", &stranger.at("ca.pem"));
    assert!(ask(&[&[other], &own[..]].concat()).is_err());
}

#[test]
fn a_certificate_file_that_is_none_is_named() {
    let config = crate::fakes::config(&["--peer-trusted-ca-file=/nowhere/ca.pem"]);
    let founder = crate::plan::Founder::new(&config, FakeNames::default(), crate::fakes::waits());
    let error = founder.map(|_| ()).expect_err("no file").to_string();
    assert!(error.starts_with("/nowhere/ca.pem: "), "{error}");
}
