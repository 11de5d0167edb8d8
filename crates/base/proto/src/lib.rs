//! etcd's protobuf messages, without gRPC.
//!
//! The `.proto` files beside this crate are our own description of etcd's wire
//! format; `cargo xtask codegen` turns them into `generated/`, which is checked
//! in. Byte fields are [`bytes::Bytes`]: decoding from a `Bytes` does not copy.
//!
//! proto2 messages (`raftpb`, `walpb`, `snappb`, `Metadata`, `Request`) keep
//! field presence. Go members before 3.7 always write every scalar of them, so
//! whoever encodes one for the disk or a peer sets every scalar explicitly.

pub mod shape;

pub use prost::{self, Message};

/// The v3 client API, and what raft entries hold.
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}
/// Key-value pairs and events.
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}
/// Users, roles and permissions.
pub mod authpb {
    include!("generated/authpb.rs");
}
/// Membership requests in the log.
pub mod membershippb {
    include!("generated/membershippb.rs");
}
/// The lease bucket.
pub mod leasepb {
    include!("generated/leasepb.rs");
}
/// Raft messages and entries (proto2).
pub mod raftpb {
    include!("generated/raftpb.rs");
}
/// Records of the write-ahead log (proto2).
pub mod walpb {
    include!("generated/walpb.rs");
}
/// The envelope of a `.snap` file (proto2).
pub mod snappb {
    include!("generated/snappb.rs");
}
/// The lock service.
pub mod v3lockpb {
    include!("generated/v3lockpb.rs");
}
/// The election service.
pub mod v3electionpb {
    include!("generated/v3electionpb.rs");
}
/// Our own calls, which etcd does not have.
pub mod mainstaypb {
    include!("generated/mainstaypb.rs");
}
/// `grpc.health.v1`.
pub mod health {
    include!("generated/grpc.health.v1.rs");
}

mod rpcs {
    include!("generated/rpcs.rs");
}

/// The path of every call of every service in the `.proto` files.
pub use rpcs::RPCS;
