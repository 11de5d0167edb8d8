//! One question over HTTP/1.1 at a time, to other members and to the old discovery service.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, LOCATION, PROXY_AUTHORIZATION};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use mainstay_config::Url;
use mainstay_types::limits::BOOTSTRAP_ANSWER_BYTES_MAX;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::proxy::Proxy;

/// Where a question goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    tls: bool,
    place: Place,
    /// For the header `Host`.
    authority: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Host without brackets.
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Target {
    /// The place of a peer URL.
    pub(crate) fn peer(url: &Url) -> Target {
        match url.socket_path() {
            Some(path) => Target {
                tls: url.is_tls(),
                place: Place::Unix(path.into()),
                authority: "localhost".to_owned(),
            },
            None => Target::tcp(url.is_tls(), url.host(), url.port()),
        }
    }

    /// A host by name or address.
    pub(crate) fn tcp(tls: bool, host: &str, port: u16) -> Target {
        let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Target {
            tls,
            place: Place::Tcp(host.to_owned(), port),
            authority: format!("{shown}:{port}"),
        }
    }

    /// The place of `host`, `host:port` or `[v6]:port` in a URL; `None` when it is none.
    pub(crate) fn authority(tls: bool, text: &str) -> Option<Target> {
        let (host, port) = match text.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']')?;
                (host, if port.is_empty() { port } else { port.strip_prefix(':')? })
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let usual = if tls { 443 } else { 80 };
        let port = if port.is_empty() { usual } else { port.parse().ok()? };
        (!host.is_empty()).then(|| Target::tcp(tls, host, port))
    }

    fn host(&self) -> &str {
        match &self.place {
            Place::Tcp(host, _) => host,
            Place::Unix(_) => "localhost",
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// The encoded form of a PUT.
    pub(crate) form: Option<String>,
}

impl Ask {
    /// GET of `path`.
    pub(crate) fn get(path: impl Into<String>) -> Ask {
        Ask { method: Method::GET, path: path.into(), form: None }
    }
}

/// What came back, whichever its status is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header's text; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Where the answer sends the asker, when it does.
    pub(crate) fn location(&self) -> Option<&str> {
        if !self.status.is_redirection() {
            return None;
        }
        Some(self.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No connection in time.
    #[error("dial tcp {0}: i/o timeout")]
    DialTimeout(String),
    /// No answer in time.
    #[error("context deadline exceeded")]
    Timeout,
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// What came is not HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The question cannot be written.
    #[error("{0}")]
    Ask(#[from] hyper::http::Error),
    /// The body broke off, or is longer than any answer can be.
    #[error("reading the answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// Asks.
#[derive(Clone)]
pub(crate) struct Http {
    /// For targets with TLS.
    pub(crate) tls: Arc<ClientConfig>,
    /// For a connection to come up.
    pub(crate) dial: Duration,
    /// Whom to ask instead, for targets that are not sockets.
    pub(crate) proxy: Option<Proxy>,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Http {
    /// Asks once, on a connection of its own.
    ///
    /// # Errors
    /// When there is no whole answer within `within`.
    pub(crate) async fn ask(
        &self,
        target: &Target,
        ask: Ask,
        within: Duration,
    ) -> Result<Answer, HttpError> {
        timeout(within, self.exchange(target, ask)).await.unwrap_or(Err(HttpError::Timeout))
    }

    async fn exchange(&self, target: &Target, ask: Ask) -> Result<Answer, HttpError> {
        let late = |_| HttpError::DialTimeout(target.authority.clone());
        let stream = timeout(self.dial, self.connect(target)).await.map_err(late)??;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let by_proxy = self.proxy_for(target).filter(|_| !target.tls);
        let uri = match by_proxy {
            Some(_) => format!("http://{}{}", target.authority, ask.path),
            None => ask.path,
        };
        let mut request =
            Request::builder().method(ask.method).uri(uri).header(HOST, &target.authority);
        if let Some(value) = by_proxy.and_then(|proxy| proxy.authorization.as_ref()) {
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        if ask.form.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body = Bytes::from(ask.form.unwrap_or_default());
        let request = request.body(Full::new(body))?;
        let answer = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let limited = Limited::new(body, BOOTSTRAP_ANSWER_BYTES_MAX);
            let body = limited.collect().await.map_err(HttpError::Body)?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        // The connection does its work only while somebody looks at it.
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended?;
                answer.await
            }
        }
    }

    fn proxy_for(&self, target: &Target) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| matches!(target.place, Place::Tcp(..)))
    }

    async fn connect(&self, target: &Target) -> Result<Box<dyn Stream>, HttpError> {
        let Some(proxy) = self.proxy_for(target) else { return self.reach(target).await };
        let mut stream = self.reach(&proxy.target).await?;
        if !target.tls {
            return Ok(stream);
        }
        proxy.tunnel(&mut stream, &target.authority).await?;
        self.secure(stream, target).await
    }

    async fn reach(&self, target: &Target) -> Result<Box<dyn Stream>, HttpError> {
        match &target.place {
            Place::Tcp(host, port) => {
                let socket = TcpStream::connect((host.as_str(), *port)).await?;
                socket.set_nodelay(true)?;
                self.secure(socket, target).await
            }
            Place::Unix(path) => self.secure(UnixStream::connect(path).await?, target).await,
        }
    }

    async fn secure<S: Stream + 'static>(
        &self,
        socket: S,
        target: &Target,
    ) -> Result<Box<dyn Stream>, HttpError> {
        if !target.tls {
            return Ok(Box::new(socket));
        }
        let name = ServerName::try_from(target.host().to_owned()).map_err(std::io::Error::other)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        Ok(Box::new(connector.connect(name, socket).await?))
    }
}
