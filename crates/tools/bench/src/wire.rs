//! The cheapest gRPC client that is still a real one: h2 streams, our own framing.
//!
//! Client and server share the machine's cores, so every cycle saved here is a
//! cycle that the comparison does not lose.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use prost::Message;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("http2: {0}")]
    H2(#[from] h2::Error),
    #[error("malformed response: {0}")]
    Malformed(String),
    #[error("grpc status {code}: {message}")]
    Status { code: String, message: String },
}

/// Where and how to connect.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// `host:port`.
    pub(crate) address: String,
    /// Present for TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// One HTTP/2 connection; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    scheme: &'static str,
    authority: Arc<str>,
}

impl Connection {
    /// Connects; the connection's own work runs as a task of this runtime.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Connection, WireError> {
        let socket = TcpStream::connect(&endpoint.address).await?;
        socket.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(4 << 20).initial_connection_window_size(64 << 20);
        let authority = endpoint.address.as_str().into();
        let (sender, scheme) = match &endpoint.tls {
            None => {
                let (sender, work) = builder.handshake::<_, Bytes>(socket).await?;
                tokio::spawn(work);
                (sender, "http")
            }
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("a legal name");
                let stream = tokio_rustls::TlsConnector::from(Arc::clone(config))
                    .connect(name, socket)
                    .await?;
                let (sender, work) = builder.handshake::<_, Bytes>(stream).await?;
                tokio::spawn(work);
                (sender, "https")
            }
        };
        Ok(Connection { sender, scheme, authority })
    }

    /// A unary call.
    pub(crate) async fn unary<Q: Message, A: Message + Default>(
        &self,
        path: &str,
        request: &Q,
    ) -> Result<A, WireError> {
        let body = self.unary_bytes(path, frame(request)).await?;
        A::decode(body).map_err(|e| WireError::Malformed(e.to_string()))
    }

    /// A unary call with the request framed and the answer's message bytes as they came.
    pub(crate) async fn unary_bytes(&self, path: &str, framed: Bytes) -> Result<Bytes, WireError> {
        let mut stream = self.call(path, framed).await?;
        let Some(message) = stream.next().await? else {
            return Err(WireError::Malformed("no message and no status".into()));
        };
        if stream.next().await?.is_some() {
            return Err(WireError::Malformed("two messages from a unary call".into()));
        }
        Ok(message)
    }

    /// Opens a call with its only message.
    async fn call(&self, path: &str, framed: Bytes) -> Result<Call, WireError> {
        let mut sender = self.sender.clone().ready().await?;
        let request = Request::builder()
            .method("POST")
            .uri(format!("{}://{}{path}", self.scheme, self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|e| WireError::Malformed(e.to_string()))?;
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(framed, true)?;
        Ok(Call { response: Some(response), receive: None, buffer: BytesMut::new() })
    }
}

/// A call under way.
struct Call {
    response: Option<h2::client::ResponseFuture>,
    receive: Option<h2::RecvStream>,
    buffer: BytesMut,
}

impl Call {
    /// The next message, or `None` after a good end.
    async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        if let Some(response) = self.response.take() {
            let response = response.await?;
            check_status(response.headers())?;
            self.receive = Some(response.into_body());
        }
        let receive = self.receive.as_mut().expect("set with the response");
        loop {
            if let Some(message) = cut_message(&mut self.buffer) {
                return Ok(Some(message));
            }
            match receive.data().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    receive.flow_control().release_capacity(chunk.len())?;
                    self.buffer.extend_from_slice(&chunk);
                }
                None => {
                    if let Some(trailers) = receive.trailers().await? {
                        check_status(&trailers)?;
                    }
                    return Ok(None);
                }
            }
        }
    }
}

/// A message behind gRPC's five bytes: not compressed, and its length.
pub(crate) fn frame<Q: Message>(request: &Q) -> Bytes {
    let length = request.encoded_len();
    let mut framed = BytesMut::with_capacity(length + 5);
    framed.put_u8(0);
    framed.put_u32(length as u32);
    request.encode(&mut framed).expect("the buffer grows");
    framed.freeze()
}

fn cut_message(buffer: &mut BytesMut) -> Option<Bytes> {
    let head: [u8; 5] = buffer.get(..5)?.try_into().ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    Some(buffer.split_to(5 + length).freeze().slice(5..))
}

fn check_status(headers: &http::HeaderMap) -> Result<(), WireError> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "" | "0" => Ok(()),
        code => Err(WireError::Status { code: code.into(), message: text("grpc-message").into() }),
    }
}
