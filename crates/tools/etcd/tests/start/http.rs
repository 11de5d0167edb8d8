//! Plain HTTP/1.1 over TCP, unix sockets and TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::program::{Folder, PATIENCE};

/// Status and body.
pub(crate) type Answer = (u16, String);

/// GET `path` of `http://host:port` or `unix://path`.
pub(crate) fn get(url: &str, path: &str) -> Answer {
    ask(url, "GET", path, None).unwrap_or_else(|e| panic!("{url}{path}: {e}"))
}

/// Any method, and over `https://` with the certificates of `trust`.
pub(crate) fn ask(
    url: &str,
    method: &str,
    path: &str,
    trust: Option<&Trust>,
) -> std::io::Result<Answer> {
    let (scheme, place) = url.split_once("://").expect("a URL");
    match scheme {
        "unix" => exchange(UnixStream::connect(place)?, method, path),
        _ => {
            let socket = TcpStream::connect(place)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let Some(trust) = trust else { return exchange(socket, method, path) };
            let host = place.rsplit_once(':').expect("a port").0.to_owned();
            let name = ServerName::try_from(host).expect("a host");
            let tls = ClientConnection::new(trust.config(), name).map_err(std::io::Error::other)?;
            exchange(StreamOwned::new(tls, socket), method, path)
        }
    }
}

/// GET with these headers over TCP: the whole answer.
pub(crate) fn with_headers(url: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let place = url.strip_prefix("http://").expect("plain");
    let mut socket = TcpStream::connect(place).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(socket, "GET {path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    answer
}

fn exchange(mut stream: impl Read + Write, method: &str, path: &str) -> std::io::Result<Answer> {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // A TLS peer may close without saying goodbye.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        other => {
            other?;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not HTTP: {head:?}")))?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
        if size == 0 {
            break;
        }
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    out
}

/// An authority with a server's, a peer's and a client's certificate, as kubeadm lays them out.
pub(crate) struct Pki {
    folder: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a client shows and believes.
pub(crate) struct Trust {
    ca: String,
    shown: Option<(String, String)>,
}

impl Pki {
    /// Writes `ca.crt` and `{server,peer,client}.{crt,key}` into `folder`.
    pub(crate) fn new(folder: &Folder) -> Pki {
        let ca_key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, folder.at("ca"));
        folder.write("ca.crt", &params.self_signed(&ca_key).expect("a certificate").pem());
        let pki = Pki { folder: folder.at(""), issuer: Issuer::new(params, ca_key) };
        for name in ["server", "peer", "client"] {
            pki.issue(name, |_| {});
        }
        pki
    }

    /// Writes `NAME.crt` and `NAME.key`, for a certificate that `change` makes what it is.
    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().expect("a key");
        let names = ["localhost", "127.0.0.1", "127.0.0.2"].map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(names).expect("parameters");
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(&format!("{name}.crt"), cert.pem().as_bytes());
        self.write(&format!("{name}.key"), key.serialize_pem().as_bytes());
    }

    /// Replaces a file in one step, as those do who renew certificates.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let part = self.at(&format!("{name}.part"));
        std::fs::write(&part, bytes).expect("the folder takes files");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&part, mode).expect("our own");
        std::fs::rename(part, self.at(name)).expect("renamed");
    }

    /// Writes a list that revokes these serial numbers, in DER.
    pub(crate) fn revoke(&self, name: &str, serials: &[&[u8]]) {
        let then = date_time_ymd(2025, 1, 1);
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: then,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: then,
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write(name, list.signed_by(&self.issuer).expect("a list").der());
    }

    /// The path of a file of it.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    /// A client that shows the certificate `name`, or none.
    pub(crate) fn trust(&self, name: Option<&str>) -> Trust {
        let pair = |name| (self.at(&format!("{name}.crt")), self.at(&format!("{name}.key")));
        Trust { ca: self.at("ca.crt"), shown: name.map(pair) }
    }
}

impl Trust {
    /// A client that believes this authority and shows this certificate, with its key.
    pub(crate) fn of(ca: String, shown: (String, String)) -> Trust {
        Trust { ca, shown: Some(shown) }
    }

    fn config(&self) -> Arc<ClientConfig> {
        let cert = |path: &str| CertificateDer::from_pem_file(path).expect("PEM");
        let mut roots = RootCertStore::empty();
        roots.add(cert(&self.ca)).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_root_certificates(roots);
        Arc::new(match &self.shown {
            None => config.with_no_client_auth(),
            Some((path, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).expect("PEM");
                config.with_client_auth_cert(vec![cert(path)], key).expect("they fit")
            }
        })
    }
}
