//! From an endpoint's text to a channel.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Options;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint's text means nothing.
    #[error("endpoint {0:?} is not host:port or a URL with http, https, unix or unixs")]
    Endpoint(String),
    /// A certificate or key file is of no use.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
    /// The server does not let this user in.
    #[error("{}", .0.message())]
    Refused(#[from] tonic::Status),
    /// Nobody answers.
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Where an endpoint points.
#[derive(Clone, Debug)]
struct Target {
    place: Place,
    tls: bool,
}

#[derive(Clone, Debug)]
enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

pub(crate) async fn channel(endpoint: &str, options: &Options) -> Result<Channel, ConnectError> {
    let wants_tls = options.ca_file.is_some() || options.identity.is_some() || options.skip_verify;
    let target =
        parse(endpoint, wants_tls).ok_or_else(|| ConnectError::Endpoint(endpoint.to_owned()))?;
    let tls = if target.tls { Some(Arc::new(tls_config(options)?)) } else { None };
    let authority = match &target.place {
        Place::Tcp { host, port } => format!("http://{host}:{port}"),
        Place::Unix(_) => "http://localhost".to_owned(),
    };
    let uri: Uri = authority.parse().map_err(|_| ConnectError::Endpoint(endpoint.to_owned()))?;
    let channel = Endpoint::from(uri)
        .connect_timeout(options.dial_timeout)
        .http2_keep_alive_interval(options.keepalive_time)
        .keep_alive_timeout(options.keepalive_timeout)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .connect_with_connector(Connector { target, tls })
        .await?;
    Ok(channel)
}

fn parse(endpoint: &str, wants_tls: bool) -> Option<Target> {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let tls = match scheme {
        "https" | "unixs" => true,
        "" => wants_tls,
        "http" | "unix" => false,
        _ => return None,
    };
    if scheme.starts_with("unix") {
        return Some(Target { place: Place::Unix(PathBuf::from(rest)), tls });
    }
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
    if host.is_empty() {
        return None;
    }
    Some(Target { place: Place::Tcp { host: host.to_owned(), port: port.parse().ok()? }, tls })
}

fn tls_config(options: &Options) -> Result<ClientConfig, ConnectError> {
    let builder = ClientConfig::builder();
    let provider = Arc::clone(builder.crypto_provider());
    let builder = if options.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TakeAny(provider)))
    } else {
        let mut roots = rustls::RootCertStore::empty();
        if let Some(path) = &options.ca_file {
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| file_error(key, &e))?;
            builder.with_client_auth_cert(certificates(certificate)?, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| file_error(path, &e))
}

fn file_error(path: &Path, why: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::File { path: path.to_owned(), why: why.to_string() }
}

/// `--insecure-skip-tls-verify`: whoever asked for it takes any certificate.
#[derive(Debug)]
struct TakeAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Opens the socket for a channel, and again whenever it reconnects.
#[derive(Clone)]
struct Connector {
    target: Target,
    tls: Option<Arc<ClientConfig>>,
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

type Opening = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<Box<dyn Socket>>>> + Send>>;

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Socket>>;
    type Error = std::io::Error;
    type Future = Opening;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Opening {
        let this = self.clone();
        Box::pin(async move { this.open().await.map(TokioIo::new) })
    }
}

impl Connector {
    async fn open(self) -> std::io::Result<Box<dyn Socket>> {
        match self.target.place {
            Place::Tcp { host, port } => {
                let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let socket = TcpStream::connect((bare.as_str(), port)).await?;
                socket.set_nodelay(true)?;
                secure(socket, &bare, self.tls).await
            }
            Place::Unix(path) => {
                secure(UnixStream::connect(path).await?, "localhost", self.tls).await
            }
        }
    }
}

async fn secure<S: Socket + 'static>(
    socket: S,
    host: &str,
    tls: Option<Arc<ClientConfig>>,
) -> std::io::Result<Box<dyn Socket>> {
    let Some(config) = tls else { return Ok(Box::new(socket)) };
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(config).connect(name, socket).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_etcd_reads_them() {
        assert!(matches!(parse("127.0.0.1:2379", false), Some(Target { tls: false, .. })));
        assert!(matches!(parse("127.0.0.1:2379", true), Some(Target { tls: true, .. })));
        assert!(matches!(parse("http://a:1/", true), Some(Target { tls: false, .. })));
        assert!(matches!(parse("https://[::1]:2379", false), Some(Target { tls: true, .. })));
        assert!(matches!(
            parse("unix:///tmp/s", false),
            Some(Target { place: Place::Unix(_), .. })
        ));
        assert!(parse("ftp://a:1", false).is_none());
        assert!(parse("nowhere", false).is_none());
    }
}
