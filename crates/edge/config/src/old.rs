//! Names that etcd had before 3.7: renamed ones still work, with a warning; removed ones are
//! refused on the command line by naming what to use instead.

use crate::gates::Gate;

/// Where an old name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// The flag of this name, same value.
    Flag(&'static str),
    /// This gate; the old flag is a boolean.
    Gate(Gate),
}

/// A name of 3.5 or 3.6 and the name of today.
#[derive(Debug, Clone, Copy)]
pub struct Renamed {
    /// Name without dashes.
    pub old: &'static str,
    /// Today's.
    pub new: New,
}

/// A name that is gone.
#[derive(Debug, Clone, Copy)]
pub struct Removed {
    /// Name without dashes.
    pub name: &'static str,
    /// What to do instead.
    pub advice: &'static str,
}

/// The row of an old name.
pub fn renamed(name: &str) -> Option<&'static Renamed> {
    RENAMED.iter().find(|row| row.old == name)
}

/// The row of a gone name.
pub fn removed(name: &str) -> Option<&'static Removed> {
    REMOVED.iter().find(|row| row.name == name)
}

impl Renamed {
    /// What to write instead, in the words of 3.6's warning.
    pub fn advice(&self) -> String {
        match self.new {
            New::Flag(name) => format!("--{name}"),
            New::Gate(gate) => format!("--feature-gates={}=true", gate.name()),
        }
    }
}

const fn flag(old: &'static str, new: &'static str) -> Renamed {
    Renamed { old, new: New::Flag(new) }
}

const fn gate(old: &'static str, new: Gate) -> Renamed {
    Renamed { old, new: New::Gate(new) }
}

const fn gone(name: &'static str, advice: &'static str) -> Removed {
    Removed { name, advice }
}

/// Every renamed flag.
pub const RENAMED: &[Renamed] = &[
    flag(
        "experimental-bootstrap-defrag-threshold-megabytes",
        "bootstrap-defrag-threshold-megabytes",
    ),
    gate("experimental-compact-hash-check-enabled", Gate::CompactHashCheck),
    flag("experimental-compact-hash-check-time", "compact-hash-check-time"),
    flag("experimental-compaction-batch-limit", "compaction-batch-limit"),
    flag("experimental-compaction-sleep-interval", "compaction-sleep-interval"),
    flag("experimental-corrupt-check-time", "corrupt-check-time"),
    gate("experimental-initial-corrupt-check", Gate::InitialCorruptCheck),
    flag("experimental-distributed-tracing-address", "distributed-tracing-address"),
    flag("experimental-distributed-tracing-service-name", "distributed-tracing-service-name"),
    flag("experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id"),
    flag("experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate"),
    flag("experimental-enable-distributed-tracing", "enable-distributed-tracing"),
    flag("experimental-downgrade-check-time", "downgrade-check-time"),
    gate("experimental-enable-lease-checkpoint", Gate::LeaseCheckpoint),
    gate("experimental-enable-lease-checkpoint-persist", Gate::LeaseCheckpointPersist),
    flag("experimental-memory-mlock", "memory-mlock"),
    flag("experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification"),
    flag("experimental-snapshot-catchup-entries", "snapshot-catchup-entries"),
    // A second spelling that only files ever had.
    flag("experimental-snapshot-catch-up-entries", "snapshot-catchup-entries"),
    gate("experimental-stop-grpc-service-on-defrag", Gate::StopGRPCServiceOnDefrag),
    gate("experimental-txn-mode-write-with-shared-buffer", Gate::TxnModeWriteWithSharedBuffer),
    flag("experimental-warning-apply-duration", "warning-apply-duration"),
    flag("experimental-warning-unary-request-duration", "warning-unary-request-duration"),
    flag("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    flag("experimental-backend-bbolt-freelist-type", "backend-bbolt-freelist-type"),
];

/// Every removed flag.
pub const REMOVED: &[Removed] = &[
    gone("enable-v2", "the v2 API is gone; leave it out"),
    gone("experimental-enable-v2v3", "the v2 API is gone; leave it out"),
    gone("proxy", "the v2 proxy is gone; leave it out"),
    gone("proxy-failure-wait", "the v2 proxy is gone; leave it out"),
    gone("proxy-refresh-interval", "the v2 proxy is gone; leave it out"),
    gone("proxy-dial-timeout", "the v2 proxy is gone; leave it out"),
    gone("proxy-write-timeout", "the v2 proxy is gone; leave it out"),
    gone("proxy-read-timeout", "the v2 proxy is gone; leave it out"),
    gone("debug", "use --log-level=debug"),
    gone("log-output", "use --log-outputs"),
    gone("log-package-levels", "use --log-level"),
    gone("next-cluster-version-compatible", "use --initial-cluster-version"),
    gone("ca-file", "use --trusted-ca-file and --client-cert-auth"),
    gone("peer-ca-file", "use --peer-trusted-ca-file and --peer-client-cert-auth"),
];
