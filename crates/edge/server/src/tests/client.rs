//! A gRPC client of a few lines that can also misbehave.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use mainstay_proto::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::status::Code;

/// Nothing in these tests takes longer on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on one thread, within its patience.
pub(super) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test).await.expect("the test ends in time")
    })
}

/// Looks until `holds`.
pub(super) async fn eventually(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) http: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) messages: Vec<Bytes>,
    pub(super) code: u8,
    pub(super) text: String,
}

impl Answer {
    /// The one message of a call that succeeded.
    pub(super) fn ok<T: Message + Default>(&self) -> T {
        assert_eq!((self.code, self.text.as_str()), (0, ""), "the call succeeds");
        assert_eq!(self.messages.len(), 1, "one message");
        T::decode(self.messages[0].clone()).expect("a message of that type")
    }

    #[track_caller]
    pub(super) fn assert_refused(&self, code: Code, text: &str) {
        assert_eq!((self.code, self.text.as_str()), (code as u8, text));
    }
}

#[derive(Clone)]
pub(super) struct Client {
    send: SendRequest<Bytes>,
    scheme: &'static str,
}

impl Client {
    pub(super) async fn connect(address: &str) -> Client {
        let socket = TcpStream::connect(address).await.expect("the server listens");
        Client::over(socket, "http").await
    }

    pub(super) async fn over<IO>(io: IO, scheme: &'static str) -> Client
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (send, connection) = h2::client::handshake(io).await.expect("HTTP/2 is spoken");
        tokio::spawn(connection);
        Client { send, scheme }
    }

    /// A well-formed request.
    pub(super) fn request(&self, path: &str) -> Request<()> {
        Request::post(format!("{}://member{path}", self.scheme))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request")
    }

    /// Opens a call and sends nothing yet.
    pub(super) async fn open(
        &self,
        request: Request<()>,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.expect("the connection is open");
        send.send_request(request, false).expect("a request may be sent")
    }

    /// A unary call.
    pub(super) async fn call(&self, path: &str, message: &impl Message) -> Answer {
        self.send(self.request(path), frame(&message.encode_to_vec())).await
    }

    /// A request with a body of any bytes.
    pub(super) async fn send(&self, request: Request<()>, body: Bytes) -> Answer {
        let (response, mut stream) = self.open(request).await;
        // A server that refuses at once resets the rest.
        let _ = stream.send_data(body, true);
        answer(response).await
    }
}

/// Reads an answer to its end.
pub(super) async fn answer(response: h2::client::ResponseFuture) -> Answer {
    let response = response.await.expect("a response comes");
    let (head, mut body) = response.into_parts();
    let mut joined = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.expect("the body is whole");
        body.flow_control().release_capacity(data.len()).expect("it was taken");
        joined.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.expect("trailers are readable");
    let ends = trailers.as_ref().unwrap_or(&head.headers);
    let text = |name: &str| {
        let value = ends.get(name).map_or("", |value| value.to_str().expect("ASCII"));
        value.to_owned()
    };
    let code = text("grpc-status").parse().unwrap_or(255);
    let text = text("grpc-message");
    let messages = cut(joined.freeze());
    Answer { http: head.status, headers: head.headers, messages, code, text }
}

/// The next message of a stream.
pub(super) async fn next_message(body: &mut RecvStream, held: &mut BytesMut) -> Option<Bytes> {
    loop {
        if let Some(prefix) = held.first_chunk::<5>() {
            let [_, len @ ..] = *prefix;
            let len = u32::from_be_bytes(len) as usize;
            if held.len() >= 5 + len {
                let message = held.split_to(5 + len).freeze();
                return Some(message.slice(5..));
            }
        }
        let data = body.data().await?.expect("the body is whole");
        body.flow_control().release_capacity(data.len()).expect("it was taken");
        held.extend_from_slice(&data);
    }
}

/// A message with its prefix.
pub(super) fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 5);
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.put_slice(message);
    out.freeze()
}

fn cut(mut body: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while let Some(prefix) = body.first_chunk::<5>() {
        let [_, len @ ..] = *prefix;
        let len = u32::from_be_bytes(len) as usize;
        messages.push(body.slice(5..5 + len));
        body = body.slice(5 + len..);
    }
    messages
}

/// One HTTP/1 request on a connection of its own: status, headers, body.
pub(super) async fn http1<IO>(mut io: IO, request: &str) -> (u16, String, String)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    io.write_all(request.as_bytes()).await.expect("the request is sent");
    let mut bytes = Vec::new();
    io.read_to_end(&mut bytes).await.expect("the server answers and closes");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// A GET that closes its connection.
pub(super) async fn get(address: &str, path: &str) -> (u16, String, String) {
    let socket = TcpStream::connect(address).await.expect("the server listens");
    http1(socket, &format!("GET {path} HTTP/1.1\r\nhost: member\r\nconnection: close\r\n\r\n"))
        .await
}
