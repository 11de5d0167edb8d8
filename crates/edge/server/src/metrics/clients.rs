//! `etcd_server_client_requests_total`: calls by the version that the client names.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_driver::stats::Counter;
use mainstay_types::limits::CLIENT_API_VERSIONS_MAX;
use parking_lot::RwLock;

/// Calls of one version.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) unary: Counter,
    pub(crate) stream: Counter,
}

/// Calls by version. The text is the client's, so the table is bounded; what
/// comes past the bound is counted as `other`.
#[derive(Debug, Default)]
pub(crate) struct Clients(RwLock<BTreeMap<String, Arc<Calls>>>);

impl Clients {
    /// The counters of a version; keep them, looking them up takes a lock.
    pub(crate) fn of(&self, version: &str) -> Arc<Calls> {
        if let Some(calls) = self.0.read().get(version) {
            return Arc::clone(calls);
        }
        let mut table = self.0.write();
        let full = table.len() >= CLIENT_API_VERSIONS_MAX;
        let name = if full { "other" } else { version };
        Arc::clone(table.entry(name.to_owned()).or_default())
    }

    /// All versions seen.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Calls>)> {
        self.0.read().iter().map(|(name, calls)| (name.clone(), Arc::clone(calls))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_grow_the_table() {
        let clients = Clients::default();
        for n in 0..10 * CLIENT_API_VERSIONS_MAX {
            clients.of(&n.to_string()).unary.inc();
        }
        assert!(clients.all().len() <= CLIENT_API_VERSIONS_MAX + 1);
        let total: u64 = clients.all().iter().map(|(_, calls)| calls.unary.get()).sum();
        assert_eq!(total, 10 * CLIENT_API_VERSIONS_MAX as u64);
    }
}
