//! A gRPC client that sends what it is told to, right or wrong.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use mainstay_proto::Message;
use tokio::net::TcpStream;

/// Nothing here takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Answer {
    /// gRPC's status; `None` when the call was cut without one.
    pub(crate) code: Option<u32>,
    /// Its message, still percent-encoded.
    pub(crate) text: String,
    /// What came before it, prefixes included.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The message of a call that succeeded.
    pub(crate) fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.code, Some(0), "{self:?}");
        M::decode(&self.body[5..]).expect("an answer of that type")
    }
}

/// Runs a conversation within its patience.
pub(crate) fn talk<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("an event loop").block_on(async {
        tokio::time::timeout(PATIENCE, conversation).await.expect("it ends in time")
    })
}

/// A connection.
pub(crate) struct Raw {
    send: SendRequest<Bytes>,
}

/// An uncompressed message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).expect("small enough");
    [&[0], &len.to_be_bytes()[..], message].concat()
}

impl Raw {
    /// Connects to `host:port`.
    pub(crate) async fn connect(endpoint: &str) -> Raw {
        let socket = TcpStream::connect(endpoint).await.expect("the member listens");
        let (send, connection) = h2::client::handshake(socket).await.expect("HTTP/2 is spoken");
        // It ends with the connection; how, the calls tell.
        tokio::spawn(connection);
        Raw { send }
    }

    /// Calls `path` with a body of exactly these bytes.
    pub(crate) async fn call(&self, path: &str, body: Vec<u8>) -> Answer {
        let request = Request::post(format!("http://member{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .expect("a request");
        let cut = |error: h2::Error| Answer { code: None, text: error.to_string(), body: vec![] };
        let mut send = self.send.clone().ready().await.expect("the connection lives");
        let (response, mut stream) = send.send_request(request, false).expect("it lives");
        // Refused before all was sent is as good.
        let _ = stream.send_data(Bytes::from(body), true);
        let response = match response.await {
            Ok(response) => response,
            Err(error) => return cut(error),
        };
        let mut headers = response.headers().clone();
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(data) = incoming.data().await {
            match data {
                Ok(data) => {
                    // Fails only on a stream that is over.
                    let _ = incoming.flow_control().release_capacity(data.len());
                    body.extend_from_slice(&data);
                }
                Err(error) => return cut(error),
            }
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

    /// A sound call.
    pub(crate) async fn ask<M: Message + Default>(&self, path: &str, request: &impl Message) -> M {
        self.call(path, framed(&request.encode_to_vec())).await.message()
    }
}
