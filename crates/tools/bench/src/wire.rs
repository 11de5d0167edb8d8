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
    token: Option<Arc<str>>,
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
        Ok(Connection { sender, scheme, authority, token: None })
    }

    /// The same connection, for calls that show a token.
    pub(crate) fn with_token(&self, token: &str) -> Connection {
        Connection { token: Some(token.into()), ..self.clone() }
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
        let mut stream = self.open_call(path).await?;
        stream.send(framed, true)?;
        let Some(message) = stream.next().await? else {
            return Err(WireError::Malformed("no message and no status".into()));
        };
        if stream.next().await?.is_some() {
            return Err(WireError::Malformed("two messages from a unary call".into()));
        }
        Ok(message)
    }

    /// Opens a call whose messages follow; see [`Call::send`].
    pub(crate) async fn stream(&self, path: &str) -> Result<Call, WireError> {
        self.open_call(path).await
    }

    async fn open_call(&self, path: &str) -> Result<Call, WireError> {
        let mut sender = self.sender.clone().ready().await?;
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("{}://{}{path}", self.scheme, self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(token) = &self.token {
            request = request.header("token", &**token);
        }
        let request = request.body(()).map_err(|e| WireError::Malformed(e.to_string()))?;
        let (response, send) = sender.send_request(request, false)?;
        Ok(Call {
            response: Some(response),
            send,
            receive: None,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
        })
    }
}

/// A call under way; dropping it before its end cancels it.
pub(crate) struct Call {
    response: Option<h2::client::ResponseFuture>,
    send: h2::SendStream<Bytes>,
    receive: Option<h2::RecvStream>,
    /// What came last and is not cut yet.
    chunk: Bytes,
    /// The beginning of a message that spans chunks.
    partial: BytesMut,
}

impl Call {
    /// Sends one message; `last` closes the sending side.
    pub(crate) fn send(&mut self, framed: Bytes, last: bool) -> Result<(), WireError> {
        Ok(self.send.send_data(framed, last)?)
    }

    /// The next message, or `None` after a good end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, WireError> {
        if let Some(response) = self.response.take() {
            let response = response.await?;
            check_status(response.headers())?;
            self.receive = Some(response.into_body());
        }
        let Some(receive) = self.receive.as_mut() else {
            return Err(WireError::Malformed("the call has failed before".into()));
        };
        loop {
            if let Some(message) = cut_message(&mut self.partial, &mut self.chunk) {
                return Ok(Some(message));
            }
            match receive.data().await {
                Some(chunk) => {
                    self.chunk = chunk?;
                    receive.flow_control().release_capacity(self.chunk.len())?;
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

/// The next whole message; one that lies in one chunk is not copied.
///
/// After `None` the chunk is used up and the next one may take its place.
fn cut_message(partial: &mut BytesMut, chunk: &mut Bytes) -> Option<Bytes> {
    if partial.is_empty()
        && let Some(end) = message_end(chunk)
    {
        return Some(chunk.split_to(end).slice(HEAD..));
    }
    partial.extend_from_slice(chunk);
    *chunk = Bytes::new();
    let end = message_end(partial)?;
    let message = partial.split_to(end).freeze().slice(HEAD..);
    // What follows is a chunk again: its messages need no copy.
    *chunk = std::mem::take(partial).freeze();
    Some(message)
}

/// gRPC's bytes before a message: not compressed, and the length.
const HEAD: usize = 5;

fn message_end(bytes: &[u8]) -> Option<usize> {
    let head: [u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
    let end = HEAD + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    (bytes.len() >= end).then_some(end)
}

fn check_status(headers: &http::HeaderMap) -> Result<(), WireError> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "" | "0" => Ok(()),
        code => Err(WireError::Status { code: code.into(), message: text("grpc-message").into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(text: &str) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((text.len() as u32).to_be_bytes());
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn cuts_messages_wherever_chunks_end() {
        let whole = [framed("one"), framed(""), framed("three")].concat();
        for at in 0..whole.len() {
            let (mut partial, mut found) = (BytesMut::new(), Vec::new());
            for part in [&whole[..at], &whole[at..]] {
                let mut chunk = Bytes::copy_from_slice(part);
                while let Some(message) = cut_message(&mut partial, &mut chunk) {
                    found.push(message);
                }
                assert!(chunk.is_empty());
            }
            assert_eq!(found, ["one", "", "three"], "cut at {at}");
            assert!(partial.is_empty());
        }
    }

    #[test]
    fn frames_a_message() {
        let request =
            mainstay_proto::etcdserverpb::PutRequest { key: "k".into(), ..Default::default() };
        let bytes = frame(&request);
        assert_eq!(&bytes[..HEAD], [0, 0, 0, 0, 3]);
        assert_eq!(message_end(&bytes), Some(bytes.len()));
    }
}
