//! Listeners, multiplexing, limits, and the end.

use std::time::{Duration, Instant};

use mainstay_proto::etcdserverpb as pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::client::{Client, eventually, frame, get, http1, run};
use super::fake::{Running, local};
use crate::errors;
use crate::server::{BindError, Server, ServerConfig};

fn status() -> pb::StatusRequest {
    pb::StatusRequest {}
}

const STATUS: &str = "/etcdserverpb.Maintenance/Status";

#[test]
fn one_port_speaks_grpc_and_http() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let reply: pb::StatusResponse = client.call(STATUS, &status()).await.ok();
        assert_eq!((reply.version.as_str(), reply.leader), ("3.7.1", 0xa));
        assert_eq!(get(&server.address(), "/health").await.0, 200);
    });
}

#[test]
fn a_client_may_name_the_server_by_a_url() {
    let server = Running::plain();
    run(async {
        let mut socket = TcpStream::connect(server.address()).await.expect("it listens");
        let mut headers =
            b"\x83\x86\x45\x20/etcdserverpb.Maintenance/Status\x41\x12http://member:2379".to_vec();
        headers.extend(b"\x5f\x10application/grpc\x40\x02te\x08trailers");
        let mut request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        request.extend([0, 0, headers.len().to_be_bytes()[7], 1, 4, 0, 0, 0, 1]);
        request.extend(headers);
        request.extend(b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0");
        socket.write_all(&request).await.expect("sent");
        // The first frame of the first stream is an answer's headers, and no reset.
        loop {
            let mut header = [0; 9];
            socket.read_exact(&mut header).await.expect("the server answers");
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; usize::try_from(length).expect("64 bits")];
            socket.read_exact(&mut payload).await.expect("a whole frame");
            if header[8] == 1 {
                assert_eq!(header[3], 1, "{header:x?} {payload:x?}");
                assert_eq!(payload.first(), Some(&0x88), "status 200");
                return;
            }
        }
    });
}

#[test]
fn a_preface_in_single_bytes_is_understood() {
    let server = Running::plain();
    run(async {
        let mut socket = TcpStream::connect(server.address()).await.expect("it listens");
        socket.set_nodelay(true).expect("an option");
        for byte in b"GET /version HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n" {
            socket.write_all(&[*byte]).await.expect("sent");
            tokio::task::yield_now().await;
        }
        let (status, _, _) = http1(socket, "").await;
        assert_eq!(status, 200);
    });
}

#[test]
fn unix_sockets_work_and_their_file_is_replaced() {
    let dir = scratch("unix");
    let path = dir.join("localhost:m1");
    std::fs::write(&path, "left by somebody").expect("written");
    let url = format!("unix://{}", path.display());
    let server =
        Running::start(ServerConfig { client_urls: vec![url.clone()], ..ServerConfig::default() });
    assert_eq!(server.client, [url]);
    run(async {
        let socket = UnixStream::connect(&path).await.expect("it listens");
        let client = Client::over(socket, "http").await;
        let _: pb::StatusResponse = client.call(STATUS, &status()).await.ok();
        let socket = UnixStream::connect(&path).await.expect("it listens");
        let request = "GET /health HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n";
        assert_eq!(http1(socket, request).await.0, 200);
    });
    drop(server);
    std::fs::remove_dir_all(&dir).expect("removed");
}

#[test]
fn connections_past_the_limit_wait() {
    let server = Running::start(ServerConfig { max_connections: Some(1), shards: 1, ..local() });
    run(async {
        let first = Client::connect(&server.address()).await;
        let _: pb::StatusResponse = first.call(STATUS, &status()).await.ok();
        let address = server.address();
        let mut second = TcpStream::connect(&address).await.expect("the kernel queues it");
        let request = b"GET /health HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n";
        second.write_all(request).await.expect("sent");
        let mut byte = [0];
        let early = tokio::time::timeout(Duration::from_millis(50), second.read(&mut byte)).await;
        assert!(early.is_err(), "nobody answers yet");
        drop(first);
        assert_eq!(second.read(&mut byte).await.expect("answered"), 1);
    });
}

#[test]
fn streams_past_the_limit_are_held_back() {
    let server = Running::start(ServerConfig { max_concurrent_streams: 1, ..local() });
    run(async {
        let client = Client::connect(&server.address()).await;
        // The limit is known once the first answer is here.
        let _: pb::StatusResponse = client.call(STATUS, &status()).await.ok();
        let (_response, mut stream) =
            client.open(client.request("/etcdserverpb.Watch/Watch")).await;
        stream.send_data(frame(b"hang"), false).expect("sent");
        eventually(|| server.member.hung() == 1).await;
        let request = status();
        let late = client.call(STATUS, &request);
        let late = tokio::time::timeout(Duration::from_millis(50), late).await;
        assert!(late.is_err(), "the second call waits for the first");
    });
}

#[test]
fn shutdown_ends_streams_and_closes_in_time() {
    let mut server = Running::plain();
    let serving = server.serving.take().expect("it serves");
    let address = server.address();
    run(async {
        let client = Client::connect(&address).await;
        let (response, mut stream) = client.open(client.request("/etcdserverpb.Watch/Watch")).await;
        stream.send_data(frame(b"x"), false).expect("sent");
        let mut body = response.await.expect("a response").into_body();
        let start = Instant::now();
        let ended = tokio::task::spawn_blocking(move || serving.shutdown(Duration::from_secs(5)));
        while body.data().await.is_some() {}
        let trailers = body.trailers().await.expect("readable").expect("trailers");
        assert_eq!(trailers["grpc-message"], errors::STOPPED.text);
        ended.await.expect("no panic");
        assert!(start.elapsed() < Duration::from_secs(4), "nothing was waited for");
        assert!(TcpStream::connect(&address).await.is_err(), "nobody listens");
    });
}

#[test]
fn shutdown_gives_up_on_calls_that_hang() {
    let mut server = Running::plain();
    let serving = server.serving.take().expect("it serves");
    run(async {
        let client = Client::connect(&server.address()).await;
        let put = pb::PutRequest { key: "hang".into(), ..Default::default() };
        let (_response, mut stream) = client.open(client.request("/etcdserverpb.KV/Put")).await;
        let body = frame(&mainstay_proto::Message::encode_to_vec(&put));
        stream.send_data(body, true).expect("sent");
        eventually(|| server.member.hung() == 1).await;
        let ended =
            tokio::task::spawn_blocking(move || serving.shutdown(Duration::from_millis(50)));
        ended.await.expect("no panic");
        assert_eq!(server.member.hung(), 0);
    });
}

#[test]
fn urls_that_cannot_be_used_are_named() {
    let bind = |config: ServerConfig| {
        Server::bind(config, super::fake::Fake::default()).map(|_| ()).expect_err("refused")
    };
    let error = bind(ServerConfig { client_urls: vec!["ftp://x".into()], ..local() });
    assert!(matches!(error, BindError::Url { flag: "--listen-client-urls", .. }), "{error}");
    let metrics = vec!["https://127.0.0.1:0".into()];
    let error = bind(ServerConfig { metrics_urls: metrics, ..local() });
    assert_eq!(
        error.to_string(),
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url \
         https://127.0.0.1:0"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", taken.local_addr().expect("an address"));
    let error = bind(ServerConfig { client_urls: vec![url], ..ServerConfig::default() });
    assert!(error.to_string().starts_with("listen tcp 127.0.0.1:"), "{error}");
}

/// An empty directory of its own for a test.
pub(super) fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("mainstay-server-{name}-{}", std::process::id()));
    // Left over from a run that failed.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}
