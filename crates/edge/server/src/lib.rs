//! The member's client face: gRPC, HTTP endpoints, metrics and TLS.
//!
//! A few single-threaded shards serve connections that never leave them. A call
//! is routed by the one table in [`method`], its bytes go to a service, its
//! errors come from the one table in [`errors`]. The services know the member
//! behind them only as [`member::Member`], the transport only as bytes
//! ([`stream`] for calls of many messages).

mod answers;
mod audit;
mod bridge;
pub mod call;
pub mod cluster;
pub mod errors;
mod forward;
#[doc(hidden)]
pub mod fuzzed;
mod gate;
mod gateway;
mod grpc;
mod http;
pub mod member;
pub mod method;
mod metrics;
mod net;
pub mod network;
mod peer_urls;
mod raft_face;
mod room;
mod server;
mod services;
pub mod status;
pub mod stream;
mod tls;
mod watch;

pub use bridge::{Bridge, Login};
pub use call::{Call, Peer};
pub use gate::Permitted;
pub use http::Access;
pub use metrics::Feature;
pub use net::shard::Keepalive;
pub use raft_face::{RaftAnswer, RaftBody, RaftFace};
pub use server::{BindError, Guest, Server, ServerConfig, Serving, Sockets};
pub use status::{Code, Status};
pub use tls::{
    Allowed, ClientTls, Ends, Expiry, LetIn, TlsError, TlsFiles, TlsVersion, What, until_revoked,
};

#[cfg(test)]
mod tests;
