//! A gRPC client of the v3 API, generated from our protos.
//!
//! [`Client::connect`] opens one channel to one endpoint, plain, over TLS or over
//! a unix socket, as etcd's URLs say (`http`, `https`, `unix`, `unixs`, or just
//! `host:port`).

mod connect;

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
    /// Our own calls.
    pub mod mainstaypb {
        include!("generated/mainstaypb.rs");
    }
    /// gRPC health.
    pub mod health {
        include!("generated/grpc.health.v1.rs");
    }
}

use std::path::PathBuf;
use std::time::Duration;

use stubs::etcdserverpb::{
    auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
    lease_client::LeaseClient, maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use tonic::transport::Channel;

pub use connect::ConnectError;

use stubs::mainstaypb::upgrade_client::UpgradeClient;

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a connection may take to come up.
    pub dial_timeout: Duration,
    /// Time without traffic after which the connection is probed.
    pub keepalive_time: Duration,
    /// How long a probe may go unanswered.
    pub keepalive_timeout: Duration,
    /// Largest message that is sent, in bytes.
    pub send_bytes_max: usize,
    /// Largest message that is accepted, in bytes.
    pub receive_bytes_max: usize,
    /// CA certificates in PEM that the server's must come from; the server is not
    /// asked for TLS without this or a certificate.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and key in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Take any server certificate.
    pub skip_verify: bool,
}

impl Default for Options {
    /// Go clientv3's defaults.
    fn default() -> Options {
        Options {
            dial_timeout: Duration::from_secs(2),
            keepalive_time: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(6),
            send_bytes_max: 2 << 20,
            receive_bytes_max: i32::MAX as usize,
            ca_file: None,
            identity: None,
            skip_verify: false,
        }
    }
}

/// A channel to one endpoint; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    endpoint: String,
    send_bytes_max: usize,
    receive_bytes_max: usize,
}

macro_rules! service {
    ($(#[$doc:meta])* $name:ident -> $client:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> $client<Channel> {
            $client::new(self.channel.clone())
                .max_encoding_message_size(self.send_bytes_max)
                .max_decoding_message_size(self.receive_bytes_max)
        }
    };
}

impl Client {
    /// Connects to `endpoint`.
    ///
    /// # Errors
    /// When the endpoint is no URL of etcd's, a certificate file cannot be used, or
    /// nobody answers in time.
    pub async fn connect(endpoint: &str, options: &Options) -> Result<Client, ConnectError> {
        Ok(Client {
            channel: connect::channel(endpoint, options).await?,
            endpoint: endpoint.to_owned(),
            send_bytes_max: options.send_bytes_max,
            receive_bytes_max: options.receive_bytes_max,
        })
    }

    /// The endpoint as it was given.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    service! {
        /// Keys and values.
        kv -> KvClient
    }
    service! {
        /// Watches.
        watch -> WatchClient
    }
    service! {
        /// Leases.
        lease -> LeaseClient
    }
    service! {
        /// Members.
        cluster -> ClusterClient
    }
    service! {
        /// Users, roles, tokens.
        auth -> AuthClient
    }
    service! {
        /// Status, hashes, snapshots, alarms.
        maintenance -> MaintenanceClient
    }
    service! {
        /// Cluster versions that hold, and their rise; ours only.
        upgrade -> UpgradeClient
    }
}
