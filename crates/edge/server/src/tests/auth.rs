//! Who may do what: the matrix of every call and every kind of caller, streams that end
//! when their permission does, and random questions beside a plain model.

mod audited;
mod matrix;
mod model;
mod revoked;

use bytes::{Bytes, BytesMut};
use mainstay_driver::Options;
use mainstay_proto::authpb::permission::Type;
use mainstay_proto::authpb::{Permission, UserAddOptions};
use mainstay_proto::etcdserverpb as pb;
use mainstay_proto::prost::Message;

use super::client::{Answer, Client, frame, next_message};
use super::fake::local;
use super::real::Member;
use crate::bridge::Login;

const AUTH: &str = "/etcdserverpb.Auth";

/// A member with cheap passwords.
fn member(name: &str) -> Member {
    Member::start_logging_in(name, Options::default(), local(), Login::new(4))
}

/// A call with a token, or without.
async fn call(client: &Client, token: &str, path: &str, message: &impl Message) -> Answer {
    send(client, token, path, message.encode_to_vec()).await
}

async fn send(client: &Client, token: &str, path: &str, message: Vec<u8>) -> Answer {
    let mut request = client.request(path);
    if !token.is_empty() {
        request.headers_mut().insert("token", token.parse().expect("a header"));
    }
    client.send(request, frame(&message)).await
}

/// A call of many messages.
struct Stream {
    sending: h2::SendStream<Bytes>,
    body: Later,
    held: BytesMut,
}

impl Stream {
    async fn open(client: &Client, token: &str, path: &str) -> Stream {
        let mut request = client.request(path);
        if !token.is_empty() {
            request.headers_mut().insert("token", token.parse().expect("a header"));
        }
        let (response, sending) = client.open(request).await;
        // The headers come with the first message.
        let body = Later::Response(response);
        Stream { sending, body, held: BytesMut::new() }
    }

    fn send(&mut self, message: &[u8]) {
        self.sending.send_data(frame(message), false).expect("sent");
    }

    /// The next message; `None` at the end of the call.
    async fn next(&mut self) -> Option<Bytes> {
        next_message(self.body.body().await, &mut self.held).await
    }

    /// How the call ends: the text of its status.
    async fn end(&mut self) -> String {
        while self.next().await.is_some() {}
        self.body.status().await
    }
}

/// A response whose headers may not have come yet.
enum Later {
    Response(h2::client::ResponseFuture),
    Body(h2::RecvStream, Option<String>),
}

impl Later {
    async fn body(&mut self) -> &mut h2::RecvStream {
        if let Later::Response(response) = self {
            let response = response.await.expect("a response");
            let text = response.headers().get("grpc-message").map(text_of);
            *self = Later::Body(response.into_body(), text);
        }
        match self {
            Later::Body(body, _) => body,
            Later::Response(_) => unreachable!("it has just been waited for"),
        }
    }

    async fn status(&mut self) -> String {
        self.body().await;
        let Later::Body(body, text) = self else { unreachable!("it has been waited for") };
        if let Some(text) = text {
            return text.clone();
        }
        let trailers = body.trailers().await.expect("readable").expect("trailers");
        trailers.get("grpc-message").map(text_of).unwrap_or_default()
    }
}

fn text_of(value: &http::HeaderValue) -> String {
    value.to_str().expect("ASCII").to_owned()
}

/// A call of the Auth service that succeeds.
async fn change(client: &Client, token: &str, method: &str, message: &impl Message) {
    let answer = call(client, token, &format!("{AUTH}/{method}"), message).await;
    assert_eq!((answer.code, answer.text.as_str()), (0, ""), "{method}");
}

async fn add_user(client: &Client, token: &str, name: &str) {
    let user = pb::AuthUserAddRequest {
        name: name.into(),
        password: format!("{name}'s"),
        options: Some(UserAddOptions::default()),
        ..Default::default()
    };
    change(client, token, "UserAdd", &user).await;
}

async fn grant(client: &Client, token: &str, role: &str, perm: Permission) {
    let grant = pb::AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) };
    change(client, token, "RoleGrantPermission", &grant).await;
}

fn permission(kind: Type, key: &str, end: &str) -> Permission {
    let bytes = |text: &str| Bytes::from(text.to_owned());
    Permission { perm_type: kind.into(), key: bytes(key), range_end: bytes(end) }
}

async fn give(client: &Client, token: &str, user: &str, role: &str) {
    let grant = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
    change(client, token, "UserGrantRole", &grant).await;
}

async fn log_in(client: &Client, name: &str) -> String {
    let request = pb::AuthenticateRequest { name: name.into(), password: format!("{name}'s") };
    let answer = call(client, "", &format!("{AUTH}/Authenticate"), &request).await;
    answer.ok::<pb::AuthenticateResponse>().token
}

/// Root, and authentication on; root's token.
async fn enable(client: &Client) -> String {
    add_user(client, "", "root").await;
    give(client, "", "root", "root").await;
    change(client, "", "AuthEnable", &pb::AuthEnableRequest {}).await;
    log_in(client, "root").await
}
