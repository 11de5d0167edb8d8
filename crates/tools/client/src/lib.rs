//! A gRPC client of the v3 API, generated from our protos.
//!
//! [`Client::connect`] opens one channel to one endpoint, plain, over TLS or over
//! a unix socket, as etcd's URLs say (`http`, `https`, `unix`, `unixs`, or just
//! `host:port`).

mod connect;
mod login;

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
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub use connect::ConnectError;
pub use login::{Login, Shown};

use stubs::mainstaypb::upgrade_client::UpgradeClient;

/// What a cluster without authentication says to who logs in.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

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
    /// What is shown with every call.
    pub login: Option<Login>,
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
            login: None,
        }
    }
}

/// Calls of one channel, each with what the client shows.
pub type Conduit = InterceptedService<Channel, Shown>;

/// A channel to one endpoint; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    shown: Shown,
    endpoint: String,
    send_bytes_max: usize,
    receive_bytes_max: usize,
}

macro_rules! service {
    ($(#[$doc:meta])* $name:ident -> $client:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> $client<Conduit> {
            $client::with_interceptor(self.channel.clone(), self.shown.clone())
                .max_encoding_message_size(self.send_bytes_max)
                .max_decoding_message_size(self.receive_bytes_max)
        }
    };
}

impl Client {
    /// Connects to `endpoint`.
    ///
    /// # Errors
    /// When the endpoint is no URL of etcd's, a certificate file cannot be used,
    /// nobody answers in time, or the server refuses the password.
    pub async fn connect(endpoint: &str, options: &Options) -> Result<Client, ConnectError> {
        let client = Client {
            channel: connect::channel(endpoint, options).await?,
            shown: Shown::default(),
            endpoint: endpoint.to_owned(),
            send_bytes_max: options.send_bytes_max,
            receive_bytes_max: options.receive_bytes_max,
        };
        if let Some(login) = &options.login {
            client.log_in(login).await?;
        }
        Ok(client)
    }

    /// Shows from now on the token of `login`, which for a password is asked for. A cluster
    /// without authentication gives none, and asks for none.
    ///
    /// # Errors
    /// The server refuses the password, or there is no answer.
    pub async fn log_in(&self, login: &Login) -> Result<(), tonic::Status> {
        match login {
            Login::Token(token) => self.shown.set(token),
            // As Go's client: nothing is asked with half of it.
            Login::Password { user, password } if user.is_empty() || password.is_empty() => Ok(()),
            Login::Password { user, password } => {
                self.shown.clear();
                let (name, password) = (user.clone(), password.clone());
                let request = mainstay_proto::etcdserverpb::AuthenticateRequest { name, password };
                match self.auth().authenticate(request).await {
                    Ok(answer) => self.shown.set(&answer.into_inner().token),
                    Err(status) if status.message() == NOT_ENABLED => Ok(()),
                    Err(status) => Err(status),
                }
            }
        }
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
