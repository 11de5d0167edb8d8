//! Starts a server under test on loopback, plain or with mutual TLS, and stops it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_bench::Hosts;
use mainstay_proto::etcdserverpb as pb;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::measure::Target;
use crate::wire::{Connection, Endpoint};

/// Certificates of one comparison: a CA, and one leaf for both sides.
pub(crate) struct Certificates {
    folder: PathBuf,
    client: Arc<ClientConfig>,
}

impl Certificates {
    /// Makes them in `folder`.
    pub(crate) fn make(folder: &Path) -> Result<Certificates, String> {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        write_certificates(folder).map_err(|e| format!("certificates: {e}"))?;
        let [ca, cert, key] = ["ca.pem", "leaf.pem", "leaf.key"].map(|name| folder.join(name));
        let client = client_config(&ca, &cert, &key)?;
        Ok(Certificates { folder: folder.to_owned(), client })
    }

    fn flags(&self) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        vec![
            format!("--cert-file={}", path("leaf.pem")),
            format!("--key-file={}", path("leaf.key")),
            format!("--trusted-ca-file={}", path("ca.pem")),
            "--client-cert-auth=true".into(),
        ]
    }
}

fn write_certificates(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "bench-ca");
    let ca_cert = ca.self_signed(&ca_key)?;
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let leaf_key = rcgen::KeyPair::generate()?;
    let mut leaf =
        rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "bench");
    leaf.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let leaf_cert = leaf.signed_by(&leaf_key, &issuer)?;
    fs::write(folder.join("ca.pem"), ca_cert.pem())?;
    fs::write(folder.join("leaf.pem"), leaf_cert.pem())?;
    fs::write(folder.join("leaf.key"), leaf_key.serialize_pem())?;
    Ok(())
}

/// A client's side of mutual TLS, from PEM files.
pub(crate) fn client_config(
    ca: &Path,
    cert: &Path,
    key: &Path,
) -> Result<Arc<ClientConfig>, String> {
    let wrong = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let mut roots = rustls::RootCertStore::empty();
    for found in CertificateDer::pem_file_iter(ca).map_err(|e| wrong(ca, &e))? {
        roots.add(found.map_err(|e| wrong(ca, &e))?).map_err(|e| wrong(ca, &e))?;
    }
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(|found| found.collect::<Result<Vec<_>, _>>())
        .map_err(|e| wrong(cert, &e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, &e))?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|e| wrong(cert, &e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Room for the million keys and what the loads write over them, in bytes.
const QUOTA: u64 = 8 << 30;

/// A server under test.
pub(crate) struct Server {
    child: Child,
    pub(crate) endpoint: Endpoint,
}

/// What the binary says of itself: the first line of `--version`.
pub(crate) fn version(binary: &Path) -> Result<String, String> {
    let told = Command::new(binary).arg("--version").output();
    let told = told.map_err(|e| format!("{}: {e}", binary.display()))?;
    Ok(String::from_utf8_lossy(&told.stdout).lines().next().unwrap_or("").to_owned())
}

/// Two ports of loopback that nobody listens on.
pub(crate) fn free_ports() -> Result<(u16, u16), String> {
    let bound = || std::net::TcpListener::bind("127.0.0.1:0");
    let both = bound().and_then(|a| Ok((a, bound()?)));
    let port = |socket: std::net::TcpListener| socket.local_addr().map(|a| a.port());
    both.and_then(|(a, b)| Ok((port(a)?, port(b)?))).map_err(|e| format!("a free port: {e}"))
}

/// Removes a data folder, and is content when there is none.
pub(crate) fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {e}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// How to start one.
#[derive(Clone)]
pub(crate) struct Recipe<'a> {
    pub(crate) name: &'a str,
    pub(crate) binary: &'a Path,
    pub(crate) data_dir: PathBuf,
    /// The client's port and the peers'.
    pub(crate) ports: (u16, u16),
    pub(crate) certificates: Option<&'a Certificates>,
    /// Where it runs.
    pub(crate) place: Place<'a>,
    /// The other members' names and where their peers' listeners are.
    pub(crate) others: Vec<(String, String)>,
    /// Flags of this run.
    pub(crate) flags: Vec<String>,
}

/// Loopback, or a host of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place<'a>(pub(crate) Option<(&'a Hosts, usize)>);

impl Place<'_> {
    pub(crate) fn address(&self) -> String {
        match self.0 {
            None => "127.0.0.1".to_owned(),
            Some((hosts, n)) => hosts.address(n),
        }
    }

    fn command(&self, binary: &Path) -> Command {
        match self.0 {
            None => Command::new(binary),
            Some((hosts, n)) => hosts.command(n, binary),
        }
    }
}

impl Recipe<'_> {
    /// Where its standard error goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.data_dir.with_extension("log")
    }

    fn initial_cluster(&self) -> String {
        let me = (self.name.to_owned(), self.listens_to_peers());
        let member = |(name, at): &(String, String)| format!("{name}=http://{at}");
        let all: Vec<String> = std::iter::once(&me).chain(&self.others).map(member).collect();
        all.join(",")
    }

    /// Where its listener for other members is.
    pub(crate) fn listens_to_peers(&self) -> String {
        format!("{}:{}", self.place.address(), self.ports.1)
    }
}

impl Server {
    /// Starts it and waits for the first linearizable answer; returns how long that took.
    pub(crate) async fn start(recipe: &Recipe<'_>) -> Result<(Server, Duration), String> {
        let begun = Instant::now();
        let mut server = Server::spawn(recipe)?;
        server.wait_ready(begun, &recipe.log()).await?;
        Ok((server, begun.elapsed()))
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(recipe: &Recipe<'_>) -> Result<Server, String> {
        let scheme = if recipe.certificates.is_some() { "https" } else { "http" };
        let address = format!("{}:{}", recipe.place.address(), recipe.ports.0);
        let client = format!("{scheme}://{address}");
        let peer = format!("http://{}", recipe.listens_to_peers());
        let log_path = recipe.log();
        let log =
            fs::File::create(&log_path).map_err(|e| format!("{}: {e}", log_path.display()))?;
        let mut command = recipe.place.command(recipe.binary);
        command
            .arg(format!("--name={}", recipe.name))
            .arg(format!("--data-dir={}", recipe.data_dir.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster={}", recipe.initial_cluster()))
            .arg("--log-level=warn")
            .args(recipe.certificates.map(Certificates::flags).unwrap_or_default())
            .arg(format!("--quota-backend-bytes={QUOTA}"))
            .args(&recipe.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = command.spawn().map_err(|e| format!("{}: {e}", recipe.binary.display()))?;
        let endpoint =
            Endpoint { address, tls: recipe.certificates.map(|c| Arc::clone(&c.client)) };
        Ok(Server { child, endpoint })
    }

    /// Waits for the first linearizable answer.
    pub(crate) async fn wait_ready(&mut self, begun: Instant, log: &Path) -> Result<(), String> {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended with {status}; see {}", log.display()));
            }
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("no answer within 60 s; see {}", log.display()));
            }
            if self.answers().await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn answers(&self) -> bool {
        let Ok(connection) = Connection::open(&self.endpoint).await else { return false };
        let request = pb::RangeRequest { key: "ready".into(), ..Default::default() };
        let answer: Result<pb::RangeResponse, _> =
            connection.unary("/etcdserverpb.KV/Range", &request).await;
        answer.is_ok()
    }

    /// An error when the server has ended on its own.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(format!("the server ended with {status}")),
            _ => Ok(()),
        }
    }

    /// This one server as what is loaded.
    pub(crate) fn target(&self) -> Target {
        Target { endpoints: vec![self.endpoint.clone()], pids: vec![self.pid()] }
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_end(&mut self) {
        // Gone already is as good.
        let _ = self.child.wait();
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
