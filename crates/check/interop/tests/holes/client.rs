//! A client that shows any token, calls any path, and says what it got.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::client::SendRequest;
use http::Request;
use mainstay_proto::Message;
use mainstay_proto::etcdserverpb as pb;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Nothing here takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a conversation within its patience.
pub(crate) fn talk<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("an event loop").block_on(async {
        tokio::time::timeout(PATIENCE, conversation).await.expect("it ends in time")
    })
}

/// How a call ended.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// gRPC's status; `None` when the call was cut without one.
    pub(crate) code: Option<u32>,
    /// Its message, still percent-encoded; for whoever reads what a test says.
    #[expect(dead_code, reason = "shown by Debug")]
    text: String,
    /// What came before it, prefixes included.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Whether it was done.
    pub(crate) fn done(&self) -> bool {
        self.code == Some(0)
    }

    /// The message of a call that was done.
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        assert!(self.done(), "{self:?}");
        M::decode(&self.body[5..]).expect("an answer of that type")
    }

    /// Whether these bytes stand in it.
    pub(crate) fn holds(&self, secret: &[u8]) -> bool {
        self.body.windows(secret.len()).any(|window| window == secret)
    }
}

/// A connection, and what is shown on it.
#[derive(Clone)]
pub(crate) struct Client {
    send: SendRequest<Bytes>,
    token: String,
}

/// An uncompressed message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).expect("small enough");
    [&[0], &len.to_be_bytes()[..], message].concat()
}

impl Client {
    pub(crate) async fn connect(endpoint: &str) -> Client {
        Client::over(TcpStream::connect(endpoint).await.expect("it listens")).await
    }

    pub(crate) async fn over<IO>(io: IO) -> Client
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = h2::client::handshake(io).await.expect("HTTP/2 is spoken");
        // It ends with the connection; how, the calls tell.
        tokio::spawn(connection);
        Client { send, token: String::new() }
    }

    /// The same connection, with this token.
    pub(crate) fn with(&self, token: &str) -> Client {
        Client { send: self.send.clone(), token: token.to_owned() }
    }

    /// What it shows.
    pub(crate) fn shown(&self) -> &str {
        &self.token
    }

    fn request(&self, path: &str) -> Request<()> {
        let mut request = Request::post(format!("http://member{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        if !self.token.is_empty() {
            let token = self.token.parse().expect("a header");
            request.headers_mut().insert("token", token);
        }
        request
    }

    /// Calls `path` with a body of exactly these bytes.
    pub(crate) async fn send(&self, path: &str, body: Vec<u8>) -> Answer {
        self.send_request(self.request(path), body).await
    }

    pub(crate) async fn send_request(&self, request: Request<()>, body: Vec<u8>) -> Answer {
        let Ok(mut send) = self.send.clone().ready().await else { return Answer::default() };
        let Ok((response, mut stream)) = send.send_request(request, false) else {
            return Answer::default();
        };
        // Refused before all was sent is as good.
        let _ = stream.send_data(Bytes::from(body), true);
        let Ok(response) = response.await else { return Answer::default() };
        let mut headers = response.headers().clone();
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(Ok(data)) = incoming.data().await {
            // Fails only on a stream that is over.
            let _ = incoming.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data);
        }
        if let Ok(Some(trailers)) = incoming.trailers().await {
            headers.extend(trailers);
        }
        let text = |name| {
            let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
            value.unwrap_or_default().into_owned()
        };
        Answer { code: text("grpc-status").parse().ok(), text: text("grpc-message"), body }
    }

    /// A call, however it ends.
    pub(crate) async fn call(&self, path: &str, message: &impl Message) -> Answer {
        self.send(path, framed(&message.encode_to_vec())).await
    }

    /// A call that must be done.
    pub(crate) async fn ask<M: Message + Default>(&self, path: &str, message: &impl Message) -> M {
        let answer = self.call(path, message).await;
        assert!(answer.done(), "{path}: {answer:?}");
        answer.message()
    }

    /// A call of many messages whose first is this.
    pub(crate) async fn stream(&self, path: &str, message: &impl Message) -> Stream {
        let mut send = self.send.clone().ready().await.expect("the connection lives");
        let (response, mut sending) =
            send.send_request(self.request(path), false).expect("it lives");
        sending.send_data(framed(&message.encode_to_vec()).into(), false).expect("it lives");
        let response = response.await.expect("an answer");
        let body = response.into_body();
        Stream { sending, body, held: BytesMut::new() }
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> Answer {
        self.call("/etcdserverpb.KV/Put", &put(key, value)).await
    }

    pub(crate) async fn get(&self, key: &str) -> Answer {
        let range = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
        self.call("/etcdserverpb.KV/Range", &range).await
    }
}

/// A call of many messages.
pub(crate) struct Stream {
    pub(crate) sending: h2::SendStream<Bytes>,
    body: RecvStream,
    held: BytesMut,
}

impl Stream {
    /// The next message within a time; `None` when there is none, or the call ends.
    pub(crate) async fn next(&mut self, within: Duration) -> Option<Bytes> {
        tokio::time::timeout(within, self.take()).await.ok().flatten()
    }

    async fn take(&mut self) -> Option<Bytes> {
        loop {
            if let Some([_, len @ ..]) = self.held.first_chunk::<5>() {
                let len = u32::from_be_bytes(*len) as usize;
                if self.held.len() >= 5 + len {
                    return Some(self.held.split_to(5 + len).freeze().slice(5..));
                }
            }
            let data = self.body.data().await?.ok()?;
            // Fails only on a stream that is over.
            let _ = self.body.flow_control().release_capacity(data.len());
            self.held.extend_from_slice(&data);
        }
    }
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    pb::PutRequest { key, value, ..Default::default() }
}
