//! A gRPC client of the v3 API, generated from our protos.

/// Generated stubs.
pub mod stubs {
    /// KV, Watch, Lease, Cluster, Maintenance, Auth.
    pub mod etcdserverpb {
        include!("generated/etcdserverpb.rs");
    }
    /// The lock service.
    pub mod v3lockpb {
        include!("generated/v3lockpb.rs");
    }
    /// The election service.
    pub mod v3electionpb {
        include!("generated/v3electionpb.rs");
    }
    /// gRPC health.
    pub mod health {
        include!("generated/grpc.health.v1.rs");
    }
}
