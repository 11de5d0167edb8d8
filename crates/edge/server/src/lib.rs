//! The member's client face: gRPC, HTTP endpoints, metrics and TLS.
//!
//! A few single-threaded shards serve connections that never leave them. A call
//! is routed by the one table in [`method`], its bytes go to a service, its
//! errors come from the one table in [`errors`]. The services know the member
//! behind them only as [`member::Member`], the transport only as bytes
//! ([`stream`] for calls of many messages).

pub mod call;
pub mod errors;
mod grpc;
pub mod member;
pub mod method;
mod metrics;
pub mod status;
pub mod stream;
mod watch;

#[path = "../../driver/src/stats.rs"]
mod driver_stats;

pub use call::{Call, Peer};
pub use status::{Code, Status};
