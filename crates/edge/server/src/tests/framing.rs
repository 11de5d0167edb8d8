//! gRPC over HTTP/2, and everything that a client can get wrong.

use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode};
use mainstay_proto::Message as _;
use mainstay_proto::etcdserverpb as pb;

use super::client::{Client, answer, eventually, frame, next_message, run};
use super::fake::Running;
use crate::status::Code;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

fn put(key: &'static str, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn range(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), ..Default::default() }
}

#[test]
fn a_put_can_be_read_back() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let reply: pb::PutResponse = client.call(PUT, &put("k", "v")).await.ok();
        let header = reply.header.expect("a header");
        assert_eq!((header.cluster_id, header.member_id), (0xc, 0xa));
        assert_eq!((header.revision, header.raft_term), (2, 2));
        let answer = client.call(RANGE, &range("k")).await;
        assert_eq!(answer.http, StatusCode::OK);
        assert_eq!(answer.headers["content-type"], "application/grpc");
        let reply: pb::RangeResponse = answer.ok();
        assert_eq!((reply.count, reply.more, &reply.kvs[0].value[..]), (1, false, &b"v"[..]));
    });
}

#[test]
fn a_message_may_come_in_any_pieces() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let body = frame(&put("k", vec![9; 300]).encode_to_vec());
        for piece in [1, 3, 7, 200] {
            let (response, mut stream) = client.open(client.request(PUT)).await;
            for at in (0..body.len()).step_by(piece) {
                let end = body.len().min(at + piece);
                stream.send_data(body.slice(at..end), false).expect("sent");
            }
            stream.send_data(Bytes::new(), true).expect("sent");
            let _: pb::PutResponse = answer(response).await.ok();
        }
    });
}

#[test]
fn unknown_paths_are_unimplemented() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        for (path, text) in [
            ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
            ("/nope.Nope/Range", "unknown service nope.Nope"),
            ("//etcdserverpb.KV/Range", "unknown service /etcdserverpb.KV"),
        ] {
            let answer = client.call(path, &range("k")).await;
            answer.assert_refused(Code::Unimplemented, text);
            assert_eq!(answer.http, StatusCode::OK);
            assert_eq!(answer.messages.len(), 0, "trailers only");
        }
    });
}

#[test]
fn what_is_not_grpc_is_refused() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let with = |name: &'static str, value: &'static str| {
            let mut request = client.request(RANGE);
            request.headers_mut().insert(name, value.parse().expect("a value"));
            request
        };
        let body = || frame(&range("k").encode_to_vec());
        let answer = client.send(with("content-type", "text/html"), body()).await;
        let text = "invalid gRPC request content-type \"text/html\"";
        answer.assert_refused(Code::InvalidArgument, text);
        assert_eq!(answer.http, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let answer = client.send(with("content-type", "application/grpcfoo"), body()).await;
        assert_eq!(answer.http, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let answer = client.send(with("content-type", "application/grpc+proto"), body()).await;
        let _: pb::RangeResponse = answer.ok();
        let mut request = client.request(RANGE);
        *request.method_mut() = Method::PUT;
        let answer = client.send(request, body()).await;
        assert_eq!((answer.http, answer.code), (StatusCode::METHOD_NOT_ALLOWED, 13));
        let answer = client.send(with("grpc-timeout", "1x"), body()).await;
        assert_eq!((answer.http, answer.code), (StatusCode::BAD_REQUEST, 13));
    });
}

#[test]
fn compression_is_refused() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let body = frame(&range("k").encode_to_vec());
        let mut request = client.request(RANGE);
        request.headers_mut().insert("grpc-encoding", "gzip".parse().expect("a value"));
        let text = "grpc: Decompressor is not installed for grpc-encoding \"gzip\"";
        client.send(request, body.clone()).await.assert_refused(Code::Unimplemented, text);
        let mut flagged = BytesMut::from(&body[..]);
        flagged[0] = 1;
        let text = "grpc: compressed flag set with identity or empty encoding";
        let answer = client.send(client.request(RANGE), flagged.clone().freeze()).await;
        answer.assert_refused(Code::Internal, text);
        flagged[0] = 9;
        let answer = client.send(client.request(RANGE), flagged.freeze()).await;
        answer.assert_refused(Code::Internal, "grpc: received unexpected payload format 9");
    });
}

#[test]
fn a_length_over_the_bound_is_refused_before_the_bytes_come() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let max = 1_572_864 + 524_288;
        let (response, mut stream) = client.open(client.request(PUT)).await;
        let mut prefix = BytesMut::from(&[0u8][..]);
        prefix.extend_from_slice(&(max as u32 + 1).to_be_bytes());
        stream.send_data(prefix.freeze(), false).expect("sent");
        let text = format!("grpc: received message larger than max ({} vs. {max})", max + 1);
        answer(response).await.assert_refused(Code::ResourceExhausted, &text);
    });
}

#[test]
fn a_message_at_the_bound_is_read() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let value = vec![1; 1_572_864];
        let (response, mut stream) = client.open(client.request(PUT)).await;
        let mut body = frame(&put("k", value).encode_to_vec());
        while !body.is_empty() {
            stream.reserve_capacity(body.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let room = room.expect("the stream is open").expect("capacity");
            let piece = body.split_to(room.min(body.len()));
            stream.send_data(piece, body.is_empty()).expect("sent");
        }
        let _: pb::PutResponse = answer(response).await.ok();
    });
}

#[test]
fn broken_messages_are_internal_errors() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let answer = client.send(client.request(RANGE), frame(b"\x0a\xff")).await;
        assert_eq!(answer.code, Code::Internal as u8);
        assert!(answer.text.starts_with("grpc: error unmarshalling request: "), "{}", answer.text);
        let cut = frame(b"abcdef").slice(..8);
        let answer = client.send(client.request(RANGE), cut).await;
        answer.assert_refused(Code::Internal, "unexpected EOF");
        let answer = client.send(client.request(RANGE), Bytes::new()).await;
        answer.assert_refused(Code::Internal, "unexpected EOF");
    });
}

#[test]
fn a_deadline_ends_a_call_and_its_handler() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let mut request = client.request(PUT);
        request.headers_mut().insert("grpc-timeout", "20m".parse().expect("a value"));
        let body = frame(&put("hang", "").encode_to_vec());
        let answer = client.send(request, body).await;
        answer.assert_refused(Code::DeadlineExceeded, "context deadline exceeded");
        eventually(|| server.member.hung() == 0).await;
    });
}

#[test]
fn a_reset_drops_the_handler() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let (_response, mut stream) = client.open(client.request(PUT)).await;
        stream.send_data(frame(&put("hang", "").encode_to_vec()), true).expect("sent");
        eventually(|| server.member.hung() == 1).await;
        stream.send_reset(h2::Reason::CANCEL);
        eventually(|| server.member.hung() == 0).await;
        // The same for a stream that has not answered yet.
        let (_response, mut stream) = client.open(client.request(WATCH)).await;
        stream.send_data(frame(b"hang"), false).expect("sent");
        eventually(|| server.member.hung() == 1).await;
        stream.send_reset(h2::Reason::CANCEL);
        eventually(|| server.member.hung() == 0).await;
    });
}

#[test]
fn a_bidi_stream_answers_as_it_is_asked() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let (response, mut stream) = client.open(client.request(WATCH)).await;
        stream.send_data(frame(b"one"), false).expect("sent");
        let mut body = response.await.expect("headers come with the first message").into_body();
        let mut held = BytesMut::new();
        assert_eq!(next_message(&mut body, &mut held).await.as_deref(), Some(&b"one"[..]));
        // Two in one frame, and half of a third.
        let mut many = BytesMut::new();
        for text in [&b"two"[..], b"three", b"four"] {
            many.extend_from_slice(&frame(text));
        }
        let third = many.split_off(many.len() - 3);
        stream.send_data(many.freeze(), false).expect("sent");
        assert_eq!(next_message(&mut body, &mut held).await.as_deref(), Some(&b"two"[..]));
        assert_eq!(next_message(&mut body, &mut held).await.as_deref(), Some(&b"three"[..]));
        stream.send_data(third.freeze(), true).expect("sent");
        assert_eq!(next_message(&mut body, &mut held).await.as_deref(), Some(&b"four"[..]));
        assert_eq!(next_message(&mut body, &mut held).await, None);
        let trailers = body.trailers().await.expect("readable").expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    });
}

#[test]
fn a_stream_that_nobody_reads_stops_its_handler() {
    let server = Running::plain();
    run(async {
        let client = Client::connect(&server.address()).await;
        let (response, mut stream) = client.open(client.request(WATCH)).await;
        stream.send_data(frame(b"flood"), false).expect("sent");
        let mut body = response.await.expect("a response").into_body();
        // The handler wants to send 4 MiB; without a window it waits.
        assert_eq!(server.member.0.hung.load(Ordering::SeqCst), 1);
        let mut held = BytesMut::new();
        for _ in 0..4096 {
            let message = next_message(&mut body, &mut held).await.expect("a message");
            assert_eq!(message.len(), 1024);
        }
        eventually(|| server.member.hung() == 0).await;
    });
}
