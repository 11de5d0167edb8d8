//! etcd's peer protocol, both sides: raft's messages and snapshots over HTTP, so
//! that our members and Go's sit in one cluster.
//!
//! Each member dials two streams to every other and gets that one's messages as the
//! bodies of the answers. So what we send leaves through our own listener, on the
//! shards of the server ([`PeerHttp`]), and what arrives comes on connections that we
//! opened, on a thread of our own ([`PeerTransport`]). What no stream takes goes as a
//! POST, and so do snapshots.
//!
//! The crate knows its member as a [`Local`] and is known to the driver as its
//! [`Transport`](mainstay_driver::Transport).

mod calls;
mod client;
pub mod codec;
mod face;
mod fetch;
mod handle;
mod headers;
mod incoming;
mod lane;
mod local;
mod outgoing;
mod peer;
mod pipeline;
mod prober;
mod shared;
mod snapshot;
mod status;
mod thread;
mod tls;
mod transport;
mod unfinished;
mod url;

pub use face::PeerHttp;
pub use local::{DbOffering, IncomingSnapshot, Local, Refused};
pub use transport::{Options, PeerTransport, StartError};
