//! Prometheus metrics: who counts, and the one table that prints.

mod clients;
mod encode;
pub(crate) mod grpc;
pub(crate) mod process;
mod requests;
mod table;

use std::sync::Arc;

use mainstay_audit::Trail;
use mainstay_driver::stats::Counter;

pub(crate) use clients::{Calls, Clients};
pub(crate) use requests::{Kind, Requests};

use crate::http::HealthCells;
use crate::member::Member;
use crate::network::NetworkStats;
use crate::services::health::Health;
use crate::tls::Expiry;

/// The gate with which health says not serving during a defragmentation.
const STOPS_ON_DEFRAG: &str = "StopGRPCServiceOnDefrag";

/// A feature gate as `/metrics` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name on the command line.
    pub name: &'static str,
    /// `ALPHA` or `BETA`; empty once it is there for good.
    pub stage: &'static str,
    /// Whether it is on.
    pub on: bool,
}

/// Everything that the server itself counts.
pub(crate) struct Registry {
    /// One per shard.
    pub(crate) shards: Vec<Arc<grpc::ShardCells>>,
    pub(crate) clients: Clients,
    pub(crate) requests: Requests,
    pub(crate) health: HealthCells,
    /// What `grpc.health.v1` says.
    pub(crate) serving: Health,
    /// `etcd_server_feature_enabled`.
    features: Vec<Feature>,
    /// `etcd_network_*` about other members.
    network: Arc<NetworkStats>,
    /// `mainstay_tls_*`.
    expiry: Arc<Expiry>,
    /// The audit log, where there is one.
    trail: Option<Trail>,
    /// `etcd_network_server_stream_failures_total{Type="receive"}`, by the value of `API`.
    pub(crate) unreadable: [(&'static str, Counter); 2],
    /// `promhttp_metric_handler_requests_total{code="200"}`.
    scrapes: Counter,
}

impl Registry {
    /// A registry for `shards` shards; `extensive` is `--metrics=extensive`.
    pub(crate) fn new(
        shards: usize,
        extensive: bool,
        features: Vec<Feature>,
        network: Arc<NetworkStats>,
        expiry: Arc<Expiry>,
        trail: Option<Trail>,
    ) -> Registry {
        let cells = |_| Arc::new(grpc::ShardCells::new(extensive));
        let stops = |f: &Feature| f.on && f.name == STOPS_ON_DEFRAG;
        let serving = Health::new(features.iter().any(stops));
        Registry {
            shards: (0..shards).map(cells).collect(),
            clients: Clients::default(),
            requests: Requests::default(),
            health: HealthCells::default(),
            serving,
            features,
            network,
            expiry,
            trail,
            unreadable: ["watch", "lease-keepalive"].map(|api| (api, Counter::default())),
            scrapes: Counter::default(),
        }
    }

    /// Everything, as `/metrics` shows it: text format 0.0.4, families by name.
    pub(crate) async fn text<M: Member>(&self, member: &M) -> String {
        self.scrapes.inc();
        // A member that is stopping still shows the rest.
        let alarms = member.alarms().await.unwrap_or_default();
        encode::text(table::families(self, member, &alarms))
    }
}
